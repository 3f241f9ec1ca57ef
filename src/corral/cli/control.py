"""``corral start``, ``stop``, ``restart`` and ``status``: the verbs of zkServer.sh, for a server in the background."""

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from corral.cli.configuration import Request, configuration_options, listening_place, read_configuration
from corral.cli.initialize import data_directories
from corral.cli.pidfile import PidFile
from corral.cli.standing import PROBE_S, Standing, ask_standing
from corral.server.config import ServerConfig

__all__ = ["Background", "restart", "start", "status", "stop"]

POLL_S: Final = 0.05
PATIENCE_S: Final = 60.0
"""How long to wait for a server to answer, or to end. Loading a large database can take as long."""
LOG_LINES_SHOWN: Final = 20
ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a command from outside."""


@dataclass(frozen=True, slots=True)
class Background:
    """A server in the background, running or not."""

    config: ServerConfig
    command: tuple[str, ...]
    """What runs it in the foreground."""
    pid_file: PidFile
    log_file: Path
    """Where its output goes."""
    patience_s: float = PATIENCE_S

    @classmethod
    def of(
        cls, request: Request, environment: Mapping[str, str] = os.environ, *, is_to_run: bool = True
    ) -> "Background":
        """The server that the request is about; not ``is_to_run``: only to ask or stop it."""
        config = read_configuration(request, environment, is_to_run=is_to_run).config
        log_directory = Path(environment.get("ZOO_LOG_DIR") or config.data_dir)
        command = (sys.executable, "-m", "corral", "server", *request.as_arguments())
        return cls(config, command, pid_file_in(config.data_dir, environment), log_directory / "corral-server.log")

    def start(self) -> int:
        """Start it and wait until it answers. Returns the exit status of the command."""
        click.echo("Starting corral ... ", nl=False)
        if self.config.client_port == 0:
            return failed("a server in the background needs a client port other than 0")
        try:
            self._make_directories()
            return self._start_if_free()
        except OSError as error:
            return failed(str(error))

    def stop(self) -> int:
        """Ask it to end and wait until it has. Returns the exit status of the command."""
        return end_server(self.pid_file, self.patience_s)

    def status(self, *, as_json: bool = False) -> int:
        """Ask it for its mode. Returns the exit status of the command."""
        host, port = listening_place(self.config)
        standing = self._standing()
        if as_json:
            click.echo(json.dumps(standing.to_json()))
            return 0 if standing.mode is not None else 1
        click.echo(f"Client port found: {port}. Client address: {host}.")
        if not standing.is_running:
            click.echo(f"No answer from {host}:{port}. The server is probably not running.")
            return 1
        if standing.mode is None:
            click.echo("The server runs, but serves nobody: it has no leader.")
            return 1
        click.echo(f"Mode: {standing.mode}")
        return 0

    def _make_directories(self) -> None:
        if self.config.storage.datadir_autocreate:
            self.config.data_dir.mkdir(parents=True, exist_ok=True)
        for directory in (self.pid_file.path.parent, self.log_file.parent):
            if directory != self.config.data_dir:
                directory.mkdir(parents=True, exist_ok=True)

    def _start_if_free(self) -> int:
        log_size = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.pid_file.lock() as descriptor:
            if descriptor is None:
                click.echo(f"already running as process {self.pid_file.number()}.")
                return 1
            foreign = self.pid_file.apache_server()
            if foreign is not None:
                click.echo(f"already running as process {foreign}, a server of Apache's.")
                return 1
            if self._somebody_listens():
                self.pid_file.path.unlink(missing_ok=True)
                host, port = listening_place(self.config)
                return failed(f"port {port} of {host} is in use by another process")
            with held_signals() as before:
                process = self._spawn(descriptor, before)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(process).encode(), 0)
        return self._await_answer(process, log_size)

    def _spawn(self, lock: int, signal_mask: set[int]) -> int:
        """Run the command in a session of its own, so that it outlives the terminal; it inherits the lock."""
        os.set_inheritable(lock, True)
        return os.posix_spawn(
            self.command[0],
            self.command,
            os.environ,
            file_actions=(
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log_file), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ),
            setsid=True,
            setsigmask=signal_mask,
        )

    def _await_answer(self, process: int, log_size: int) -> int:
        """Wait until the new process answers or ends; ``log_size`` is what the log had before it."""
        deadline = time.monotonic() + self.patience_s
        while True:
            ended, wait_status = os.waitpid(process, os.WNOHANG)
            if ended:
                self.pid_file.remove()
                code = os.waitstatus_to_exitcode(wait_status)
                return failed(
                    f"process {process} ended with status {code}; the end of {self.log_file}:\n"
                    + last_lines(self.log_file, log_size)
                )
            if self._has_started():
                click.echo("STARTED")
                return 0
            if time.monotonic() > deadline:
                return failed(
                    f"process {process} runs but has not answered after {self.patience_s:g} s; see {self.log_file}",
                    "NOT ANSWERING YET",
                )
            time.sleep(POLL_S)

    def _somebody_listens(self) -> bool:
        try:
            with socket.create_connection(listening_place(self.config), PROBE_S):
                return True
        except OSError:
            return False

    def _has_started(self) -> bool:
        """Whether it serves; a member of an ensemble may need others for that, and has only to answer."""
        standing = self._standing()
        return standing.mode is not None or (standing.is_running and self.config.is_member)

    def _standing(self) -> Standing:
        """What it says to ``srvr``."""
        return ask_standing(*listening_place(self.config))


@contextlib.contextmanager
def held_signals() -> Iterator[set[int]]:
    """Let no Ctrl-C come between a new process and the note of its number; hands out what was held before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def pid_file_in(data_directory: Path, environment: Mapping[str, str]) -> PidFile:
    """The one of the server of a data directory."""
    return PidFile(Path(environment.get("ZOOPIDFILE") or data_directory / "zookeeper_server.pid"))


def pid_file_of(request: Request, environment: Mapping[str, str] = os.environ) -> PidFile:
    """The one of a server that is to be stopped, even if its configuration has become wrong since it was started.

    Raises:
        click.ClickException: the configuration does not even say where the data is.
    """
    try:
        return Background.of(request, environment, is_to_run=False).pid_file
    except click.ClickException as error:
        path = request.file(environment)
        if path is None:
            raise
        data_directory, _ = data_directories(path)
        click.echo(f"{error.message}; its server is stopped by {data_directory}", err=True)
        return pid_file_in(data_directory, environment)


def end_server(pid_file: PidFile, patience_s: float = PATIENCE_S) -> int:
    """Ask the server that holds a pid file to end, and wait until it has. Returns the exit status of the command."""
    click.echo("Stopping corral ... ", nl=False)
    try:
        return end_process(pid_file, patience_s)
    except OSError as error:
        return failed(str(error), "NOT STOPPED")


def end_process(pid_file: PidFile, patience_s: float) -> int:
    if not pid_file.is_held():
        foreign = pid_file.apache_server()
        if foreign is not None:
            return failed(f"process {foreign} is a server of Apache's: stop it with zkServer.sh stop", "NOT STOPPED")
        pid_file.remove()
        click.echo(f"no server to stop (none holds {pid_file.path})")
        return 0
    number = pid_file.number()
    if number is None:
        return failed(f"{pid_file.path} is held but has no number in it", "NOT STOPPED")
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while pid_file.is_held():
        if time.monotonic() > deadline:
            return failed(f"process {number} has not ended after {patience_s:g} s", "NOT STOPPED YET")
        time.sleep(POLL_S)
    pid_file.remove()
    click.echo("STOPPED")
    return 0


def failed(reason: str, headline: str = "FAILED TO START") -> int:
    """Print why a verb did not succeed. Returns its exit status."""
    click.echo(headline)
    click.echo(reason, err=True)
    return 1


def last_lines(log_file: Path, start: int) -> str:
    """The last lines that were written to the log since it had the size ``start``."""
    try:
        with log_file.open("rb") as log:
            log.seek(start)
            lines = log.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return "(there is no such file)"
    return "\n".join(lines[-LOG_LINES_SHOWN:])


@click.command()
@configuration_options
def start(request: Request) -> None:
    """Start a server in the background.

    It takes what `corral server` takes; its output goes to corral-server.log in the data directory or in $ZOO_LOG_DIR.
    """
    sys.exit(Background.of(request).start())


@click.command()
@configuration_options
def stop(request: Request) -> None:
    """Stop the server in the background.

    The arguments are those that it was started with: they tell where its data directory and pid file are.
    """
    sys.exit(end_server(pid_file_of(request)))


@click.command()
@configuration_options
def restart(request: Request) -> None:
    """Stop the server if it runs, and start it."""
    background = Background.of(request)
    sys.exit(background.stop() or background.start())


@click.command()
@configuration_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def status(request: Request, as_json: bool) -> None:
    """Say whether the server answers, and in which mode."""
    sys.exit(Background.of(request, is_to_run=False).status(as_json=as_json))
