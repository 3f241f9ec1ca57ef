"""The servers under test: Apache's and Corral's, each a child process behind one interface.

Both take a ``zoo.cfg`` with Apache's keys, listen on a loopback port of their own that survives restarts, and append
what they print to one file. `tools/peers.sh` installs everything that is not ours.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PEERS: Final = REPOSITORY / ".peers"
APACHE_JARS: Final = PEERS / "apache"
APACHE_38_JARS: Final = PEERS / "apache-3.8"
CURATOR_JARS: Final = PEERS / "curator"
KAFKA_JARS: Final = PEERS / "kafka"
GO_MODULES: Final = PEERS / "go" / "mod"
C_SHELL: Final = Path("/usr/lib/zookeeper/bin/cli_mt")
C_HEADER: Final = Path("/usr/include/zookeeper/zookeeper.h")
SSHD: Final = "/usr/sbin/sshd"
"""An ssh server wants to be called by its whole path."""

HERE: Final = Path(__file__).resolve().parent

QUIET_JVM: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto", "-Xmx256m")
"""One small heap, one compiler, nothing left behind: start-up in about a second on a busy machine."""

LOOPBACK: Final = "127.0.0.1"
PORTS: Final = (10_000, 32_000)
"""Below those that systems give to clients."""
_WORKERS: Final = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""Tests that run in several processes at once each have a part of the ports: one that is free may be taken soon."""
_chance: Final = random.SystemRandom()

START_LIMIT_S: Final = 30.0
STOP_LIMIT_S: Final = 15.0
POLL_INTERVAL_S: Final = 0.02


def missing_peers() -> list[str]:
    """What `tools/peers.sh` would install: empty when everything is there."""
    missing = [
        f"{command} (command)"
        for command in ("java", "javac", "go", "cc", "ip", "ssh", SSHD)
        if shutil.which(command) is None
    ]
    jars = (directory / "installed.xml" for directory in (APACHE_JARS, APACHE_38_JARS, CURATOR_JARS, KAFKA_JARS))
    return missing + [str(path) for path in (*jars, GO_MODULES, C_SHELL, C_HEADER) if not path.exists()]


def class_path(jars: Path, *extra: Path) -> str:
    """The value of ``java -cp`` for all jars of one directory, with more directories in front."""
    return os.pathsep.join([*(str(path) for path in extra), f"{jars}{os.sep}*"])


def apaches_tool(name: str, *arguments: str, properties: Mapping[str, str] | None = None) -> str:
    """What one of Apache's command-line tools prints; `name` is its class below ``org.apache.zookeeper.server``."""
    flags = [f"-D{key}={value}" for key, value in (properties or {}).items()]
    command = ["java", *QUIET_JVM, *flags, "-cp", class_path(APACHE_JARS, HERE / "java")]
    tool = [*command, f"org.apache.zookeeper.server.{name}", *arguments]
    done = subprocess.run(tool, check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, f"{name} ended with {done.returncode}: {done.stderr.decode()[-2000:]}"
    return done.stdout.decode()


def free_port() -> int:
    """A loopback port that nobody uses at this moment, and that no client will be given by the system meanwhile.

    Ports of the system's own choice are what clients connect from: in the time that a server takes to start, another
    test's client might have it.
    """
    while True:
        port = _chance.randrange(PORTS[0] + _WORKER, PORTS[1], _WORKERS)
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def four_letter_word(port: int, word: str, timeout_s: float = 5.0, host: str = LOOPBACK) -> str:
    """The answer to an admin word. Raises `OSError` when nobody answers."""
    with closing(socket.create_connection((host, port), timeout=timeout_s)) as connection:
        connection.sendall(word.encode("ascii"))
        answer = bytearray()
        while chunk := connection.recv(65536):
            answer += chunk
    return answer.decode("utf-8")


class ServerStartError(Exception):
    """The child process ended or never answered; the message carries the end of its log."""


class Server(ABC):
    """A standalone server in a child process.

    `config` holds further lines of the zoo.cfg (every key of Apache's works on both kinds of server); `properties` are
    Java system properties by their full name, for settings that have no zoo.cfg spelling. `host` is the address that
    clients are taken on, and `within` a command that runs the server's own where that address is.
    """

    kind: ClassVar[str]
    clean_exit_statuses: ClassVar[frozenset[int]]

    def __init__(
        self,
        data_dir: Path,
        config: Mapping[str, str | int] | None = None,
        *,
        properties: Mapping[str, str | int] | None = None,
        port: int | None = None,
        host: str = LOOPBACK,
        within: Sequence[str] = (),
    ) -> None:
        self.data_dir = data_dir
        self.config: dict[str, str | int] = dict(config or {})
        self.properties: dict[str, str | int] = dict(properties or {})
        self.port = port or free_port()
        self.host = host
        self.within = tuple(within)
        self.config_path = data_dir.with_name(f"{data_dir.name}-{self.kind}-{self.port}.cfg")
        self.log_path = self.config_path.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<{self.kind} server {self.address}, {state}, data in {self.data_dir}>"

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The command line that runs the server in the foreground."""

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """The child's environment."""

    @property
    def address(self) -> str:
        """``host:port`` for any client."""
        return f"{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running child."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything that this server has printed, in all its lives."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def write_config(self) -> None:
        lines: dict[str, str | int] = {
            "dataDir": str(self.data_dir),
            "clientPort": self.port,
            "clientPortAddress": self.host,
            "tickTime": 500,
            "minSessionTimeout": 500,
            "maxSessionTimeout": 60000,
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "*",
            **self.config,
        }
        self.config_path.write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")

    def start(self) -> Self:
        """Starts the child and returns once it serves requests. Raises `ServerStartError`."""
        self.begin()
        try:
            self._wait_until_serving()
        except BaseException:
            self.kill()
            raise
        return self

    def begin(self) -> None:
        """Starts the child; a member of an ensemble serves nobody before there is a quorum."""
        assert not self.running, "already running"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.write_config()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.within, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
            )

    def _wait_until_serving(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if not self.running:
                break
            try:
                if self.four_letter_word("isro") == "rw":
                    return
            except OSError:
                pass
            time.sleep(POLL_INTERVAL_S)
        raise ServerStartError(f"{self!r} does not answer; the end of its log:\n{self.log[-4000:]}")

    def stop(self) -> None:
        """A clean stop (SIGTERM). Does nothing to a server that is not running."""
        if self._process is None:
            return
        if self.running:
            self._process.terminate()
        try:
            status = self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.kind} server still ran {STOP_LIMIT_S} s after SIGTERM") from None
        self._process = None
        assert status in self.clean_exit_statuses, f"{self.kind} server ended with {status}:\n{self.log[-4000:]}"

    def kill(self) -> None:
        """A crash (SIGKILL). Does nothing to a server that is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """A clean stop and a new start on the same port and directory."""
        self.stop()
        self.start()

    def four_letter_word(self, word: str, timeout_s: float = 5.0) -> str:
        return four_letter_word(self.port, word, timeout_s, self.host)

    def monitor(self) -> dict[str, str]:
        """The keys and values of ``mntr``."""
        pairs = (line.split("\t", 1) for line in self.four_letter_word("mntr").splitlines())
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        else:
            self.kill()


class ApacheServer(Server):
    """Apache ZooKeeper's standalone server, from the jars in ``.peers/apache``."""

    kind = "apache"
    clean_exit_statuses = frozenset({0, 143})
    jars: ClassVar[Path] = APACHE_JARS

    def command(self) -> Sequence[str]:
        return [
            "java",
            *QUIET_JVM,
            *(f"-D{name}={value}" for name, value in self.properties.items()),
            "-cp",
            class_path(self.jars, HERE / "java"),
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            str(self.config_path),
        ]

    def environment(self) -> dict[str, str]:
        return dict(os.environ)


class Apache38Server(ApacheServer):
    """The same of the line before, as a member of mixed ensembles."""

    kind = "apache-3.8"
    jars = APACHE_38_JARS


class CorralServer(Server):
    """``corral server`` of this repository, run by the interpreter that runs the tests."""

    kind = "corral"
    clean_exit_statuses = frozenset({0})

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "corral", "server", str(self.config_path)]

    def environment(self) -> dict[str, str]:
        flags = " ".join(f"-D{name}={value}" for name, value in self.properties.items())
        return {**os.environ, "SERVER_JVMFLAGS": flags}


SERVERS: Final[Mapping[str, type[Server]]] = {server.kind: server for server in (ApacheServer, CorralServer)}
