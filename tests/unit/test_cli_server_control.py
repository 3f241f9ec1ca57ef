"""``start``, ``stop``, ``restart`` and ``status`` on small stand-ins for a server."""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.interop.peers import free_port

from corral.cli.control import Background
from corral.cli.pidfile import PidFile
from corral.cli.words import ask
from corral.server.config import ServerConfig

ANSWERING = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = server.accept()
    if connection.recv(4) == b"srvr":
        connection.sendall(b"Zookeeper version: x\\nMode: standalone\\nNode count: 5\\n")
    connection.close()
"""
SILENT = "import time; time.sleep(60)"
FAILING = "import sys; print('line\\n' * 30 + 'the disk is made of cheese', file=sys.stderr); sys.exit(3)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + ANSWERING

Make = Callable[..., Background]


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The processes that the test starts; those that are left at its end are ended."""
    numbers = []
    spawn = os.posix_spawn

    def noting(*arguments: Any, **options: Any) -> int:
        numbers.append(spawn(*arguments, **options))
        return numbers[-1]

    monkeypatch.setattr(os, "posix_spawn", noting)
    yield numbers
    for number in numbers:
        # One that was waited for already is none of ours any more.
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(number, os.WNOHANG) == (0, 0):
                os.kill(number, signal.SIGKILL)
                os.waitpid(number, 0)


@pytest.fixture
def make(tmp_path: Path, spawned: list[int]) -> Make:
    """Makes the control of a stand-in."""

    def control(code: str = ANSWERING, *, patience_s: float = 20.0) -> Background:
        port = free_port()
        config = ServerConfig(data_dir=tmp_path / "data", client_port=port, client_port_address="127.0.0.1")
        command = (sys.executable, "-S", "-c", code, str(port))
        pid_file = PidFile(tmp_path / "data" / "zookeeper_server.pid")
        return Background(config, command, pid_file, tmp_path / "logs" / "server.log", patience_s)

    return control


def test_start_status_stop(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    background = make()
    assert background.start() == 0
    assert capsys.readouterr().out == "Starting corral ... STARTED\n"
    number = background.pid_file.number()
    assert number is not None
    assert os.getsid(number) == number
    assert background.status() == 0
    assert capsys.readouterr().out.endswith("\nMode: standalone\n")
    assert background.stop() == 0
    assert capsys.readouterr().out == "Stopping corral ... STOPPED\n"
    assert os.waitpid(number, 0)[0] == number
    assert not background.pid_file.path.exists()
    assert background.status() == 1
    assert "The server is probably not running." in capsys.readouterr().out


def test_start_of_a_running_one(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    background = make()
    assert background.start() == 0
    number = background.pid_file.number()
    capsys.readouterr()
    assert background.start() == 1
    assert capsys.readouterr().out == f"Starting corral ... already running as process {number}.\n"
    assert background.pid_file.number() == number


def test_start_that_fails_shows_the_last_words(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    background = make(FAILING)
    background.log_file.parent.mkdir(parents=True)
    background.log_file.write_text("of an earlier start\n")
    assert background.start() == 1
    out, err = capsys.readouterr()
    assert out == "Starting corral ... FAILED TO START\n"
    assert "ended with status 3" in err
    assert err.endswith("line\nthe disk is made of cheese\n")
    assert err.count("line\n") == 19
    assert "earlier" not in err
    assert not background.pid_file.path.exists()


def test_start_that_takes_too_long(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    background = make(SILENT, patience_s=0.2)
    assert background.start() == 1
    out, err = capsys.readouterr()
    assert out == "Starting corral ... NOT ANSWERING YET\n"
    assert "has not answered after 0.2 s" in err
    assert background.pid_file.is_held()


def test_interrupted_start_leaves_a_server_that_can_be_stopped(
    make: Make, spawned: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn = os.posix_spawn

    def interrupted(*arguments: Any, **options: Any) -> int:
        number = spawn(*arguments, **options)
        signal.raise_signal(signal.SIGINT)
        return number

    monkeypatch.setattr(os, "posix_spawn", interrupted)
    background = make(SILENT)
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            background.start()
    finally:
        signal.signal(signal.SIGINT, former)
    assert [background.pid_file.number()] == spawned
    assert background.stop() == 0
    assert os.waitpid(spawned[0], 0) == (spawned[0], signal.SIGTERM)


def test_start_on_a_port_in_use(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    background = make()
    port = background.config.client_port
    with socket.create_server(("127.0.0.1", port)):
        assert background.start() == 1
    out, err = capsys.readouterr()
    assert out.endswith("FAILED TO START\n")
    assert err == f"port {port} of 127.0.0.1 is in use by another process\n"
    assert not background.log_file.exists()
    assert not background.pid_file.path.exists()


def test_start_where_no_directory_can_be_made(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    background = make()
    background.config.data_dir.write_text("a file")
    assert background.start() == 1
    assert str(background.config.data_dir) in capsys.readouterr().err
    assert background.stop() == 0


def test_stop_where_there_is_nothing(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    background = make()
    assert background.stop() == 0
    assert "no server to stop" in capsys.readouterr().out
    assert not background.config.data_dir.exists()


def test_stop_that_may_not_read_the_file(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    background = make()
    background.pid_file.path.mkdir(parents=True)
    assert background.stop() == 1
    out, err = capsys.readouterr()
    assert out.endswith("NOT STOPPED\n")
    assert str(background.pid_file.path) in err


def test_stale_file_does_not_hinder_start(make: Make) -> None:
    background = make()
    background.config.data_dir.mkdir()
    # A process that runs and is not a server: the number was used again.
    background.pid_file.path.write_text(str(os.getpid()))
    assert background.start() == 0
    assert background.pid_file.number() != os.getpid()


def test_stop_leaves_the_process_of_a_stale_file_alone(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    background = make()
    background.config.data_dir.mkdir()
    background.pid_file.path.write_text(str(os.getpid()))
    assert background.stop() == 0
    assert "no server to stop" in capsys.readouterr().out
    assert not background.pid_file.path.exists()


def test_server_of_apache_is_left_alone(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    background = make()
    background.config.data_dir.mkdir()
    name = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    process = os.posix_spawn(sys.executable, (sys.executable, "-c", SILENT, name), os.environ)
    background.pid_file.path.write_text(str(process))
    deadline = time.monotonic() + 10
    while background.pid_file.apache_server() is None and time.monotonic() < deadline:
        time.sleep(0.01)  # a new process has no command line for a moment
    assert background.start() == 1
    assert f"already running as process {process}, a server of Apache's." in capsys.readouterr().out
    assert background.stop() == 1
    assert "stop it with zkServer.sh stop" in capsys.readouterr().err
    assert os.waitpid(process, os.WNOHANG) == (0, 0)
    assert background.pid_file.number() == process


def test_stop_waits_and_gives_up(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    background = make(STUBBORN)
    assert background.start() == 0
    impatient = Background(
        background.config, background.command, background.pid_file, background.log_file, patience_s=0.2
    )
    started = time.monotonic()
    assert impatient.stop() == 1
    assert time.monotonic() - started >= 0.2
    assert "NOT STOPPED YET" in capsys.readouterr().out
    assert background.pid_file.is_held()


def test_a_server_that_was_killed_is_not_running(make: Make) -> None:
    background = make()
    assert background.start() == 0
    number = background.pid_file.number()
    assert number is not None
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    assert not background.pid_file.is_held()
    assert background.start() == 0


def test_word_asked_of_nobody(make: Make) -> None:
    with pytest.raises(ConnectionRefusedError):
        ask("127.0.0.1", free_port(), "srvr")


def test_places_of_files_follow_the_environment(tmp_path: Path) -> None:
    from corral.cli.configuration import Request

    request = Request((), 3181, str(tmp_path), None)
    plain = Background.of(request, {})
    assert plain.pid_file.path == tmp_path / "zookeeper_server.pid"
    assert plain.log_file == tmp_path / "corral-server.log"
    assert plain.command == (sys.executable, "-m", "corral", "server", *request.as_arguments())
    moved = Background.of(request, {"ZOOPIDFILE": "/run/x.pid", "ZOO_LOG_DIR": "/var/log/x"})
    assert moved.pid_file.path == Path("/run/x.pid")
    assert moved.log_file == Path("/var/log/x/corral-server.log")


def test_port_zero_cannot_be_asked(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ServerConfig(data_dir=tmp_path, client_port=0)
    background = Background(config, (), PidFile(tmp_path / "pid"), tmp_path / "log")
    assert background.start() == 1
    assert "needs a client port other than 0" in capsys.readouterr().err
