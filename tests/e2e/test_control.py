"""The ``corral`` command as a user runs it, with the real server."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from tests.interop.peers import free_port

from corral.cli.pidfile import PidFile

CORRAL = (sys.executable, "-m", "corral")


def corral(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CORRAL, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def configuration(tmp_path: Path) -> Iterator[Path]:
    """A zoo.cfg for 127.0.0.1; a server that still runs on it at the end is ended."""
    path = tmp_path / "zoo.cfg"
    path.write_text(f"dataDir={tmp_path}/data\nclientPortAddress=127.0.0.1\nclientPort={free_port()}\ntickTime=500\n")
    yield path
    pid_file = PidFile(tmp_path / "data" / "zookeeper_server.pid")
    number = pid_file.number()
    if number is not None and pid_file.is_held():
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def place(configuration: Path) -> str:
    matched = re.search(r"clientPort=(\d+)", configuration.read_text())
    assert matched is not None
    return f"127.0.0.1:{matched[1]}"


@contextlib.contextmanager
def client(hosts: str) -> Iterator[KazooClient]:
    kazoo = KazooClient(hosts, timeout=5)
    kazoo.start(timeout=10)
    try:
        yield kazoo
    finally:
        kazoo.stop()
        kazoo.close()


def test_start_restart_stop_keep_the_data(configuration: Path) -> None:
    name = str(configuration)
    assert corral("status", name).returncode == 1
    started = corral("start", name)
    assert (started.returncode, started.stdout) == (0, "Starting corral ... STARTED\n"), started.stderr
    again = corral("start", name)
    assert again.returncode == 1
    assert "already running as process" in again.stdout
    with client(place(configuration)) as kazoo:
        kazoo.create("/kept", b"value")
    restarted = corral("restart", name)
    assert restarted.returncode == 0
    assert restarted.stdout == "Stopping corral ... STOPPED\nStarting corral ... STARTED\n"
    with client(place(configuration)) as kazoo:
        assert kazoo.get("/kept")[0] == b"value"
    status = corral("status", name)
    assert (status.returncode, status.stdout.splitlines()[-1]) == (0, "Mode: standalone")
    assert corral("stop", name).stdout == "Stopping corral ... STOPPED\n"
    assert corral("status", name).returncode == 1


def test_server_whose_configuration_has_become_wrong_is_stopped(configuration: Path) -> None:
    assert corral("start", str(configuration)).returncode == 0
    pid_file = PidFile(configuration.parent / "data" / "zookeeper_server.pid")
    configuration.write_text(configuration.read_text() + "tickTime=soon\n")
    restarted = corral("restart", str(configuration))
    assert restarted.returncode == 1
    assert "tickTime=soon is refused" in restarted.stderr
    # It was not stopped for a start that cannot be.
    assert pid_file.is_held()
    stopped = corral("stop", str(configuration))
    assert (stopped.returncode, stopped.stdout) == (0, "Stopping corral ... STOPPED\n")
    assert "tickTime=soon is refused" in stopped.stderr
    assert not pid_file.is_held()


def test_second_server_on_the_directory_says_why_it_fails(configuration: Path) -> None:
    assert corral("start", str(configuration)).returncode == 0
    second = corral("server", str(configuration), "--port", str(free_port()))
    assert second.returncode == 1
    assert "in use by another server" in second.stderr
    assert corral("stop", str(configuration)).returncode == 0


def test_port_in_use(configuration: Path) -> None:
    host, _, port = place(configuration).rpartition(":")
    with socket.create_server((host, int(port))):
        foreground = corral("server", str(configuration))
        background = corral("start", str(configuration))
    for result in (foreground, background):
        assert result.returncode == 1
        assert f"port {port} of {host} is in use by another process" in result.stderr
        assert "Traceback" not in result.stderr


def test_start_that_fails_shows_why(configuration: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "version-2").write_text("not a directory")
    result = corral("start", str(configuration))
    assert (result.returncode, result.stdout) == (1, "Starting corral ... FAILED TO START\n")
    assert "version-2" in result.stderr
    assert not (tmp_path / "data" / "zookeeper_server.pid").exists()


def test_log_goes_where_the_environment_says(configuration: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    assert corral("start", str(configuration), ZOO_LOG_DIR=str(logs)).returncode == 0
    assert corral("stop", str(configuration)).returncode == 0
    text = (logs / "corral-server.log").read_text()
    assert f"is ready for ZooKeeper clients on {place(configuration)}. Try: zkCli.sh -server" in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_foreground_server_ends_cleanly(configuration: Path, number: signal.Signals) -> None:
    command = [*CORRAL, "server", str(configuration), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            matched = re.search(r"clients on (127\.0\.0\.1:\d+)\. ", process.stdout.readline())
            assert matched is not None
            with client(matched[1]) as kazoo:
                assert kazoo.get_children("/") == ["zookeeper"]
            process.send_signal(number)
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_foreground_server_names_wrong_settings(configuration: Path) -> None:
    with configuration.open("a") as file:
        file.write("snapCount=many\n")
    result = corral("server", str(configuration))
    assert result.returncode == 1
    message = f"{configuration}, line 5: snapCount=many is refused; accepted is a whole number"
    assert result.stderr == f"Error: {message}\n"
