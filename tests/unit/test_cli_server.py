"""``corral server``: from arguments to a configuration, start-up line, errors."""

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from corral import __version__
from corral.cli.configuration import Request, read_configuration
from corral.cli.main import COMMANDS, corral
from corral.cli.server import OneLineFormatter
from corral.server import daemon
from corral.server.config import ServerConfig


class Daemon:
    """Stands for the server: keeps the configuration that it is run with, and ends at once."""

    def __init__(self) -> None:
        self.config: ServerConfig | None = None
        self.status = 0
        self.error: OSError | None = None

    def run(self, config: ServerConfig, ready: Callable[[str, int], None]) -> int:
        self.config = config
        if self.error is not None:
            raise self.error
        ready(config.client_port_address or "", config.client_port or 45678)
        return self.status


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    stand_in = Daemon()
    monkeypatch.setattr(daemon, "run", stand_in.run)
    for variable in ("JVMFLAGS", "SERVER_JVMFLAGS", "ZOOCFGDIR", "ZOO_DATADIR_AUTOCREATE_DISABLE"):
        monkeypatch.delenv(variable, raising=False)
    return stand_in


def run(*arguments: str) -> Result:
    """Run the command, leaving the handlers of the log as they were."""
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        return CliRunner().invoke(corral, ["server", *arguments])
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)


def test_without_arguments(started: Daemon) -> None:
    result = run()
    assert result.exit_code == 0
    assert started.config == ServerConfig(
        data_dir=Path("corral-data"), client_port=2181, client_port_address="127.0.0.1"
    )
    assert result.stdout.startswith(f"Corral {__version__} is ready for ZooKeeper clients on 127.0.0.1:2181. Try: ")
    assert result.stdout.count("\n") == 1


def test_file_and_options(started: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "zoo.cfg"
    path.write_text("dataDir=/nowhere\nclientPort=1\ntickTime=500\n")
    assert run(str(path), "--port", "3181", "--data-dir", "here", "--host", "::1").exit_code == 0
    assert started.config == ServerConfig(
        data_dir=Path("here"), client_port=3181, client_port_address="::1", tick_time_ms=500
    )


def test_positions_of_apache(started: Daemon) -> None:
    assert run("3181", "here", "500", "7").exit_code == 0
    assert started.config is not None
    assert (started.config.client_port, started.config.data_dir) == (3181, Path("here"))
    assert (started.config.tick_time_ms, started.config.limits.max_client_connections) == (500, 7)


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (("none.cfg",), 1, "Error: cannot read none.cfg: No such file or directory"),
        (("x", "here"), 1, "Error: argument x: clientPort=x is refused; accepted is a whole number from 0 to 65535"),
        (("1", "2", "3", "4", "5"), 2, "Error: too many arguments: 1 2 3 4 5"),
        (("--port", "65536"), 2, "Error: Invalid value for '--port'"),
    ],
)
def test_wrong_arguments(
    started: Daemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    status: int,
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert (result.exit_code, started.config) == (status, None)
    assert reason in result.stderr


def test_port_in_use_names_address_and_port(started: Daemon) -> None:
    started.error = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    result = run("--port", "3181")
    assert result.exit_code == 1
    assert "Error: port 3181 of 127.0.0.1 is in use by another process" in result.stderr


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EADDRNOTAVAIL, "the address is not one of this machine"), (errno.EACCES, "no permission to listen")],
)
def test_other_reasons_not_to_listen(started: Daemon, number: int, reason: str) -> None:
    started.error = OSError(number, os.strerror(number))
    result = run("--port", "81")
    assert result.exit_code == 1
    assert reason in result.stderr
    assert "port 81 of 127.0.0.1" in result.stderr


def test_unexpected_errors_are_not_hidden(started: Daemon) -> None:
    started.error = OSError(errno.EIO, "input/output error")
    assert run().exception is started.error


def test_exit_status_is_that_of_the_server(started: Daemon) -> None:
    started.status = 3
    assert run().exit_code == 3


def test_notices_and_events_go_to_stderr_one_line_each(
    started: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    path = tmp_path / "zoo.cfg"
    path.write_text("dataDir=/nowhere\nclientPort=1\nsnapcount=5\n")
    result = run(str(path))
    (line,) = result.stderr.splitlines()
    expected = (
        f"WARNING corral.server.config: {path}, line 3: unknown key snapcount is ignored; did you mean snapCount?"
    )
    assert line.endswith(expected)


@pytest.mark.parametrize(("host", "place"), [("0.0.0.0", "127.0.0.1:3181"), ("::", "[::1]:3181")])
def test_start_up_line_names_an_address_that_clients_can_use(started: Daemon, host: str, place: str) -> None:
    assert f"clients on {place}. " in run("--host", host, "--port", "3181").stdout


def test_traceback_stays_on_its_line() -> None:
    error = ValueError("first\r\nsecond")
    record = logging.LogRecord("name", logging.ERROR, "file", 1, "message", (), (ValueError, error, None))
    text = OneLineFormatter().format(record)
    assert text.endswith(" ERROR name: message\\nValueError: first\\r\\nsecond")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_subcommand_explains_itself(name: str) -> None:
    result = CliRunner().invoke(corral, [name, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: corral {name} ")


class TestConfigurationFile:
    def test_bare_name_is_looked_for_in_zoocfgdir(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        environment = {"ZOOCFGDIR": "conf"}
        assert Request(("my.cfg",), None, None, None).file(environment) == Path("conf/my.cfg")
        assert Request(("./x/my.cfg",), None, None, None).file(environment) == Path("x/my.cfg")
        Path("my.cfg").touch()
        assert Request(("my.cfg",), None, None, None).file(environment) == Path("my.cfg")

    def test_zoo_cfg_there_is_the_default(self, tmp_path: Path) -> None:
        nothing = Request((), None, None, None)
        assert nothing.file({"ZOOCFGDIR": str(tmp_path)}) is None
        (tmp_path / "zoo.cfg").touch()
        assert nothing.file({"ZOOCFGDIR": str(tmp_path)}) == tmp_path / "zoo.cfg"
        assert Request(("1", "data"), None, None, None).file({"ZOOCFGDIR": str(tmp_path)}) is None

    def test_autocreate_can_be_forbidden(self) -> None:
        config = read_configuration(Request((), None, None, None), {"ZOO_DATADIR_AUTOCREATE_DISABLE": "1"}).config
        assert not config.storage.datadir_autocreate

    def test_request_survives_a_round_trip_through_arguments(self) -> None:
        assert Request(("-x.cfg",), 0, "d", "::1").as_arguments() == [
            *("--port", "0", "--data-dir", "d", "--host", "::1"),
            *("--", "-x.cfg"),
        ]
