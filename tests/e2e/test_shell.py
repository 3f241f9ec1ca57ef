"""``corral shell`` as a process: its options, exit statuses and streams, and a user at a terminal."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Final, Self

import pytest

import corral

if TYPE_CHECKING:
    from pathlib import Path

    from corral.testing import Address

PATIENCE_S: Final = 20.0
ESCAPES: Final = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")


def corral_shell(*arguments: str, script: str | bytes = "") -> subprocess.CompletedProcess[bytes]:
    """Runs the shell to its end."""
    return subprocess.run(
        [sys.executable, "-m", "corral", "shell", *arguments],
        input=script if isinstance(script, bytes) else script.encode(),
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_lines_from_standard_input(zookeeper_shared: Address) -> None:
    script = b"create /a x\n\nget /a\nset -s /a \xff\xfe\nget -x /a\nget /none\n--json\nget /a\nquit\nget /a\n"
    done = corral_shell("-server", str(zookeeper_shared), script=script)
    out = done.stdout.decode().splitlines()
    assert out[0] == "x"
    assert "|00000000| ff fe                                           |..              |" in out
    assert out[-1] == "\ufffd\ufffd"
    err = done.stderr.decode().splitlines()
    assert err[0] == "Created /a"
    assert err[1] == "Node does not exist: /none"
    assert err[-1] == "Command not found: Command not found --json"
    # As zkCli: the status of the last command.
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        (["get", "/a b"], 0, "c d\n", ""),
        (["--json", "get", "/a b"], 0, '{"path": "/a b", "data": "c d"}\n', ""),
        (["get", "/none"], 1, "", "Node does not exist: /none\n"),
        (["--json", "get", "/none"], 1, "", '{"error": "Node does not exist: /none"}\n'),
        (["get", "-q"], 1, "", "Unrecognized option: -q\n"),
        (["--dry-run", "deleteall", "/a b"], 0, "/a b\n", ""),
    ],
)
@pytest.mark.slow
def test_one_command(zookeeper_shared: Address, words: list[str], status: int, out: str, err: str) -> None:
    server = ["--server", str(zookeeper_shared)]
    assert corral_shell(*server, "create", "/a b", "c d").stderr == b"Created /a b\n"
    done = corral_shell(*server, "-r", "-timeout", "9000", "-waitforconnection", *words)
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (status, out, err)


def test_an_unknown_command_has_the_status_of_unix_shells(zookeeper_shared: Address) -> None:
    assert corral_shell("-server", str(zookeeper_shared), "nonsense").returncode == 127


def test_a_server_that_is_not_there() -> None:
    done = corral_shell("-server", "127.0.0.1:1", "-timeout", "100", "--json", "ls", "/")
    assert done.returncode == 1
    assert json.loads(done.stderr)["error"].startswith("no server took the client within 0.1 s: 127.0.0.1:1: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-client-configuration", "x", "ls", "/"], "-client-configuration is not supported"),
        (["--timeout", "0", "ls", "/"], "0 is not in the range"),
        (["--timeout", "x", "ls", "/"], "'x' is not a valid integer"),
        (["--nonsense", "ls", "/"], "No such option"),
    ],
)
def test_bad_options(arguments: list[str], complaint: str) -> None:
    done = corral_shell(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr.decode()


async def create_many(address: str) -> None:
    async with corral.connect(address) as zk:
        await asyncio.gather(*[zk.create(f"/{number:0200}") for number in range(500)])


@pytest.mark.slow
def test_a_reader_that_has_had_enough(zookeeper_shared: Address) -> None:
    """``corral shell ls -R / | head -1`` ends without a complaint."""
    asyncio.run(create_many(str(zookeeper_shared)))
    with subprocess.Popen(
        [sys.executable, "-m", "corral", "shell", "-server", str(zookeeper_shared), "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        assert shell.stderr is not None
        shell.stdin.write(b"ls -R /\n" * 10)
        shell.stdin.close()
        shell.stdout.readline()
        shell.stdout.close()
        assert shell.stderr.read() == b""
        assert shell.wait(PATIENCE_S) == 1


@pytest.mark.slow
def test_an_interrupt_ends_a_wait_for_input(zookeeper_shared: Address) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "corral", "shell", "-server", str(zookeeper_shared)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write(b"ls /\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == b"[zookeeper]\n"
        shell.send_signal(signal.SIGINT)
        assert shell.wait(PATIENCE_S) == 1


def test_a_server_needs_nothing_of_the_shell() -> None:
    code = (
        "import sys, corral.cli.main, corral.cli.server;"
        "print([name for name in ('prompt_toolkit', 'rich', 'corral.client') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_one_command_needs_nothing_of_a_terminal(zookeeper_shared: Address) -> None:
    code = (
        "import sys, corral.cli.main as m\n"
        "try: m.main()\n"
        "except SystemExit: print([x for x in ('prompt_toolkit', 'rich', 'corral.server') if x in sys.modules])"
    )
    command = [sys.executable, "-c", code, "shell", "-server", str(zookeeper_shared), "ls", "/"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[zookeeper]\n[]\n"


class Terminal:
    """A user at a terminal in which the shell runs."""

    def __init__(self, address: Address, state: Path, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self._seen = b""

        def own_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        environment = {
            **os.environ,
            "TERM": "xterm",
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "XDG_STATE_HOME": str(state),
            "COLUMNS": "200",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "corral", "shell", "-server", str(address), *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=own_terminal,  # noqa: PLW1509 - what it calls is safe
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def interrupt_until(self, text: str) -> None:
        """Type Ctrl-C until ``text`` comes: between a line and its command, it is a key like any other."""
        for _ in range(int(PATIENCE_S / 0.2)):
            self.type("\x03")
            try:
                self.see(text, 0.2)
            except LookupError:
                continue
            return
        raise AssertionError(f"{text!r} did not come, but {self._plain()!r}")

    def see(self, text: str, patience_s: float = PATIENCE_S) -> str:
        """Wait until ``text`` has come; returns what has come up to it, and forgets that; else LookupError."""
        deadline = time.monotonic() + patience_s
        wanted = text.encode()
        while wanted not in self._plain():
            left = deadline - time.monotonic()
            if left <= 0:
                raise LookupError(f"{text!r} did not come, but {self._plain()!r}")
            if select.select([self._master], [], [], left)[0]:
                try:
                    self._seen += os.read(self._master, 65536)
                except OSError:
                    raise AssertionError(f"the shell ended before {text!r}: {self._plain()!r}") from None
        before, _, self._seen = self._plain().partition(wanted)
        return before.decode()

    def _plain(self) -> bytes:
        return ESCAPES.sub(b"", self._seen).replace(b"\r", b"")


@pytest.mark.slow
def test_a_user_at_a_terminal(zookeeper_shared: Address, tmp_path: Path) -> None:
    server = zookeeper_shared.server
    with Terminal(zookeeper_shared, tmp_path) as terminal:
        welcome = terminal.see(f"[zk: {zookeeper_shared}(CONNECTED) 0]")
        assert welcome.splitlines() == [
            f"Connecting to {zookeeper_shared}",
            "",
            "WATCHER::",
            "",
            "WatchedEvent state:SyncConnected type:None path:null zxid: -1",
            "Welcome to ZooKeeper!",
        ]
        terminal.type("create /alpha data\r")
        terminal.see("Created /alpha\n")
        terminal.see("(CONNECTED) 1]")
        terminal.type("get -w /al\t")
        terminal.see("pha")
        terminal.type("\r")
        terminal.see("data\n")
        terminal.see("(CONNECTED) 2]")
        # Whatever comes while a line is edited is printed above it.
        server.drop_connections()
        terminal.see("WatchedEvent state:Disconnected type:None path:null zxid: -1\n")
        terminal.see("WatchedEvent state:SyncConnected type:None path:null zxid: -1\n")
        terminal.type("set /alpha new\r")
        terminal.see("WatchedEvent state:SyncConnected type:NodeDataChanged path:/alpha zxid: ")
        terminal.see("(CONNECTED) 3]")
        # Ctrl-C ends a command that waits for its answer, and a line that is not finished.
        server.pause()
        terminal.type("ls /\r")
        terminal.see("ls /\n")
        terminal.interrupt_until("Cancelled; what was sent may have been done.\n")
        terminal.see(" 4]")
        server.resume()
        terminal.type("never run\x03")
        terminal.see(" 4]")
        terminal.type("addauth digest ann:secret\r")
        terminal.see(" 5]")
        # The line before last, from the history.
        terminal.type("\x10\x10\x10\x10\r")
        terminal.see(" 6]")
        terminal.type("history\r")
        terminal.see("5 - get -w /alpha\n")
        terminal.see(" 7]")
        terminal.type("get /none\r")
        terminal.see("Node does not exist: /none\n")
        terminal.see(" 8]")
        terminal.type("\x04")
        assert terminal.process.wait(PATIENCE_S) == 1
    kept = (tmp_path / "corral" / "shell_history").read_text(encoding="utf-8")
    assert "+get -w /alpha\n" in kept
    assert "secret" not in kept


@pytest.mark.slow
def test_a_terminal_without_a_server(zookeeper_shared: Address, tmp_path: Path) -> None:
    """The prompt comes all the same; the shell can be told of another server, or is there when the server comes."""
    server = zookeeper_shared.server
    server.stop()
    with Terminal(zookeeper_shared, tmp_path, "-timeout", "2000") as terminal:
        terminal.see("(CONNECTING) 0]")
        terminal.type("ls /\r")
        terminal.see("KeeperErrorCode = ConnectionLoss for / (")
        terminal.see("(CONNECTING) 1]")
        server.start()
        terminal.see("(CONNECTED) 1]")
        terminal.type("ls /\r")
        terminal.see("[zookeeper]\n")
        terminal.type("quit\r")
        assert terminal.process.wait(PATIENCE_S) == 0
