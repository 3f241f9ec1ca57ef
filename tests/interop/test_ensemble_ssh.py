"""``corral ensemble`` over ssh: all hosts of a file are this machine, behind an ssh server of the test's own."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pytest
from click.testing import CliRunner, Result
from tests.interop.peers import LOOPBACK, REPOSITORY, SSHD, START_LIMIT_S, STOP_LIMIT_S, free_port

import corral
from corral.cli.main import corral as command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

BARE_PATH: Final = "/usr/bin:/bin"
"""What commands find over ssh where no file of a shell says otherwise."""
REMOTE_COMMAND: Final = f"env PYTHONPATH={REPOSITORY / 'src'} {sys.executable} -m corral"
CLIENTS: Final = """\
Host here
  HostName 127.0.0.1
Host terminal
  HostName 127.0.0.1
  RequestTTY force
Host unknown
  HostName 127.0.0.1
  UserKnownHostsFile /dev/null
Host forbidden
  HostName 127.0.0.1
  IdentityFile {directory}/other_key
Host closed
  HostName 127.0.0.1
  Port 1
Host * !forbidden
  IdentityFile {directory}/key
Host *
  Port {port}
  HostKeyAlias here
  UserKnownHostsFile {directory}/known_hosts
  GlobalKnownHostsFile /dev/null
  IdentitiesOnly yes
  IdentityAgent none
"""
"""What ssh knows of the hosts. `terminal` is one whose commands end with their terminal."""


class SshServer:
    """An ssh server for the user of the test only, on the loopback addresses."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> str:
        """The ssh command that knows the server and its hosts."""
        return f"ssh -F '{self.directory}/ssh_config'"

    def write_files(self) -> None:
        for name in ("host_key", "key", "other_key"):
            generator = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / name)]
            subprocess.run(generator, check=True, timeout=60)
        host_key = (self.directory / "host_key.pub").read_text("ascii")
        (self.directory / "known_hosts").write_text(f"here {host_key}", "ascii")
        shutil.copy(self.directory / "key.pub", self.directory / "authorized_keys")
        (self.directory / "ssh_config").write_text(CLIENTS.format(directory=self.directory, port=self.port))
        shell = self.directory / "shell"
        shell.write_text(f'#!/bin/sh\nexec env -i HOME="$HOME" PATH={BARE_PATH} /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n')
        shell.chmod(0o755)
        settings = [
            *(f"ListenAddress {address}" for address in loopback_addresses()),
            f"Port {self.port}",
            f"HostKey {self.directory}/host_key",
            f"AuthorizedKeysFile {self.directory}/authorized_keys",
            f"ForceCommand {shell}",
            "AuthenticationMethods publickey",
            "PidFile none",
            "StrictModes no",
            "UsePAM no",
        ]
        (self.directory / "sshd_config").write_text("\n".join(settings) + "\n")

    def __enter__(self) -> Self:
        self.write_files()
        if os.geteuid() == 0:
            # Where it gives up what root may do; the service of the system makes it when that starts.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with (self.directory / "sshd.log").open("wb") as log:
            self._process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(self.directory / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._await_greeting()
        except BaseException:
            self._end()
            raise
        return self

    def _await_greeting(self) -> None:
        assert self._process is not None
        give_up_at = time.monotonic() + START_LIMIT_S
        while self._process.poll() is None and time.monotonic() < give_up_at:
            try:
                with socket.create_connection((LOOPBACK, self.port), 5) as connection:
                    if connection.recv(4) == b"SSH-":
                        return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"sshd does not answer: {(self.directory / 'sshd.log').read_text()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(STOP_LIMIT_S)


def loopback_addresses() -> list[str]:
    """Those that this machine has: not every container knows IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return [LOOPBACK]
    return [LOOPBACK, "::1"]


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with SshServer(tmp_path_factory.mktemp("ssh")) as server:
        yield server


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, ["ensemble", *map(str, arguments)])


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Of three configurations; servers that still run at the end are stopped."""
    directory = tmp_path / "it's three"
    assert run("init", directory, "--servers", "3").exit_code == 0
    yield directory
    assert run("stop", directory).exit_code == 0


class Hosts:
    """A file of hosts, and the commands for it."""

    def __init__(self, path: Path, text: str, ssh: SshServer) -> None:
        path.write_text(text)
        self._path = path
        self._ssh = ssh

    def run(self, verb: str, *options: str, remote_command: str = REMOTE_COMMAND) -> Result:
        return run(verb, self._path, "--ssh-command", self._ssh.client, "--remote-command", remote_command, *options)

    def modes(self) -> dict[str, str | None]:
        """What the servers are, by their names."""
        return {told["server"]: told["mode"] for told in json.loads(self.run("status", "--json").stdout)}


def started(directory: Path) -> list[int]:
    """The processes of the servers that run."""
    return [int(path.read_text()) for path in directory.glob("*/data/zookeeper_server.pid")]


def connect_string(directory: Path) -> str:
    lines = [line for path in directory.glob("*/zoo.cfg") for line in path.read_text().splitlines()]
    return ",".join(f"{LOOPBACK}:{line.partition('=')[2]}" for line in lines if line.startswith("clientPort="))


def test_servers_are_started_restarted_and_stopped(ssh: SshServer, directory: Path, tmp_path: Path) -> None:
    third = f"{getpass.getuser()}@[{loopback_addresses()[-1]}]:{ssh.port}"
    text = f"""
        # Three servers.

        terminal           {directory}/1/zoo.cfg
        localhost:{ssh.port}  {directory}/2/zoo.cfg   # as if it were another one
        {third}  {directory}/3/zoo.cfg
    """
    hosts = Hosts(tmp_path / "hosts", text, ssh)
    names = ["terminal", f"localhost:{ssh.port}", third]

    async def write_through_a_restart() -> None:
        async with corral.connect(connect_string(directory), session_timeout=30, backoff_max=0.2) as zk:
            await zk.create("/kept", b"before", ephemeral=True)
            result = await asyncio.to_thread(hosts.run, "restart")
            assert result.exit_code == 0, result.output
            restarted.extend(line.rpartition(": ")[0] for line in result.output.splitlines() if "Stopping" in line)
            await zk.persist(lambda: zk.set("/kept", b"after"))

    result = hosts.run("start")
    assert result.exit_code == 0, result.output
    first = started(directory)
    assert len(first) == 3
    modes = hosts.modes()
    assert sorted(map(str, modes.values())) == ["follower", "follower", "leader"]
    assert list(modes) == names

    restarted: list[str] = []
    asyncio.run(write_through_a_restart())
    assert sorted(restarted) == sorted(names)
    assert modes[restarted[-1]] == "leader"
    assert not set(started(directory)) & set(first)

    result = hosts.run("stop")
    assert result.exit_code == 0, result.output
    assert started(directory) == []
    assert hosts.modes() == dict.fromkeys(names)


def test_two_serve_while_the_third_cannot_be_reached(ssh: SshServer, directory: Path, tmp_path: Path) -> None:
    text = "".join(f"{host} {directory}/{sid}/zoo.cfg\n" for sid, host in enumerate(("here", "here", "closed"), 1))
    hosts = Hosts(tmp_path / "hosts", text, ssh)
    names = [f"here {directory}/1/zoo.cfg", f"here {directory}/2/zoo.cfg", "closed"]
    result = hosts.run("start")
    assert result.exit_code == 1
    assert result.stderr == "start failed for 1 of 3: closed\n"
    assert "closed: ssh: connect to host 127.0.0.1 port 1: Connection refused" in result.stdout
    processes = started(directory)
    assert len(processes) == 2

    async def write() -> None:
        async with corral.connect(connect_string(directory)) as zk:
            await zk.create("/here", b"")

    asyncio.run(write())
    result = hosts.run("restart")
    assert result.exit_code == 1
    assert result.stderr.startswith("closed is not back: ")
    assert started(directory) == processes
    result = hosts.run("stop")
    assert (result.exit_code, result.stderr) == (1, "stop failed for 1 of 3: closed\n")
    assert [line.partition(" ... ")[2] for line in result.stdout.splitlines()[:2]] == ["STOPPED", "STOPPED"]
    assert sorted(name for name in names if f"{name}: Stopping" in result.stdout) == names[:2]


def test_who_cannot_be_reached_is_told_why(ssh: SshServer, directory: Path, tmp_path: Path) -> None:
    ways = {
        "localhost": [],
        "unknown": [
            "Host key verification failed.",
            "connect to it by hand once, and make sure that it is the right one",
        ],
        "forbidden": [f"{getpass.getuser()}@{LOOPBACK}: Permission denied (publickey)."],
        "closed": [f"ssh: connect to host {LOOPBACK} port 1: Connection refused"],
    }
    hosts = Hosts(tmp_path / "hosts", "".join(f"{host} {directory}/1/zoo.cfg\n" for host in ways), ssh)
    result = hosts.run("status")
    assert result.exit_code == 1
    told = result.stdout.splitlines()
    assert [line.split()[:2] for line in told[1:5]] == [
        ["localhost", "not"],
        ["unknown", "unknown"],
        ["forbidden", "unknown"],
        ["closed", "unknown"],
    ]
    assert told[5:] == [f"{host}: {line}" for host, lines in ways.items() for line in lines]

    hosts = Hosts(tmp_path / "one", f"localhost {directory}/none.cfg", ssh)
    assert f"localhost: Error: cannot read {directory}/none.cfg: No such file or directory" in hosts.run("start").stdout
    told = hosts.run("start", remote_command="corral-elsewhere").stdout.splitlines()
    assert "corral-elsewhere: not found" in told[0]
    assert told[1:] == ["localhost: say with --remote-command where corral is on this host"]
