"""One run of one server as a child process, on a directory of its own."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.errors import BenchError
from bench.probe import wait_for_answer
from bench.sides import Side

_START_LIMIT_S = 300.0
_STOP_LIMIT_S = 60.0
# Below the range that Linux takes the local ports of connections from: probing a port that nobody listens on yet
# could otherwise connect to itself and take the port away from the server.
_PORTS = range(12_000, 32_000)
_SETTINGS = {
    "tickTime": "2000",
    "clientPortAddress": "127.0.0.1",
    "maxClientCnxns": "0",
    "admin.enableServer": "false",
}

# An installed package has its modules compiled; a checkout compiles them at its first start, unless that is forbidden.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Server:
    """A server that runs from its start until the context closes."""

    def __init__(
        self,
        side: Side,
        directory: Path,
        heap_mib: int,
        settings: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        """`directory` holds everything of this run, the data directory included, which may be there already."""
        self.data_directory = directory / "data"
        self.port = port or free_ports(1)[0]
        self.ready_after_s = 0.0
        """Seconds from the start of the process to its first answered request."""
        self.answered_zxid = 0
        """How far the server's history went in that answer."""
        self._begun_s = 0.0
        self._directory = directory
        self._side = side
        self._heap_mib = heap_mib
        self._settings = {
            **_SETTINGS,
            **(settings or {}),
            "dataDir": str(self.data_directory),
            "clientPort": str(self.port),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Starts the server and returns when it has answered a request."""
        self.begin()
        self.wait_until_answering()

    def begin(self) -> None:
        """Starts the process; a member of an ensemble answers nobody before there is a quorum."""
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "zoo.cfg"
        config.write_text("".join(f"{key}={value}\n" for key, value in self._settings.items()))
        self._side.prepare(self._directory)
        command = self._side.command(config, self._heap_mib)
        with self._log.open("ab") as log:
            self._begun_s = time.monotonic()
            self._process = subprocess.Popen(
                command,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_ENVIRONMENT,
            )

    def wait_until_answering(self) -> None:
        """Returns when the server has answered a request; ends it when it does not."""
        try:
            self.answered_zxid = wait_for_answer(self.port, _START_LIMIT_S, self.check)
        except BaseException:
            self.stop()
            raise
        self.ready_after_s = time.monotonic() - self._begun_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None or isinstance(error, BenchError):
                self.check()  # that the server has ended says more than that its clients failed
        finally:
            self.stop()

    def check(self) -> None:
        """BenchError, with the end of its log, when the server has ended."""
        assert self._process is not None
        status = self._process.poll()
        if status is not None:
            lines = self._log.read_text(errors="replace").splitlines()[-8:]
            raise BenchError("\n  ".join([f"{self._side.name}'s server ended with status {status}:", *lines]))

    def stop(self) -> None:
        """Ends the server: asked first, killed when it does not heed that."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """Ends the server without a warning (SIGKILL)."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        process.wait()

    @property
    def _log(self) -> Path:
        return self._directory / "server.log"


def free_ports(count: int) -> list[int]:
    """So many different ports that nobody listens on at this moment."""
    free: list[int] = []
    for port in random.sample(_PORTS, 100 + count):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
        free.append(port)
        if len(free) == count:
            return free
    raise BenchError(f"fewer than {count} free ports found between {_PORTS.start} and {_PORTS.stop}")
