"""The two servers that are compared: how each is found and started."""

import os
import re
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from bench.errors import BenchError

REPOSITORY = Path(__file__).resolve().parent.parent


class Side(ABC):
    """One of the servers compared."""

    name: str
    """Names the server in the tables."""

    @abstractmethod
    def command(self, config: Path, heap_mib: int) -> list[str]:
        """The command line that runs the server in the foreground on a zoo.cfg; only a JVM heeds the heap."""

    @abstractmethod
    def describe(self) -> str:
        """The server's name and version in one line."""

    @abstractmethod
    def prepare(self, directory: Path) -> None:
        """Puts what the server needs besides its zoo.cfg into the directory it will run in."""


class Corral(Side):
    """The server of this repository, run by the interpreter that runs the benchmark."""

    name = "Corral"

    def command(self, config: Path, heap_mib: int) -> list[str]:
        return [sys.executable, "-m", "corral", "server", str(config)]

    def prepare(self, directory: Path) -> None:
        """Nothing: a zoo.cfg is all that it needs."""

    def describe(self) -> str:
        implementation = sys.implementation.name
        return f"Corral of this repository on {implementation} {sys.version.split()[0]}"


class Apache(Side):
    """Apache ZooKeeper's server from its jars."""

    name = "Apache"

    def __init__(self, library: Path) -> None:
        """`library` is the directory with the server's jar and all it needs."""
        jars = sorted(library.glob("zookeeper-[0-9]*.jar"))
        if len(jars) != 1:
            raise BenchError(
                f"{library} holds {len(jars)} jars of Apache's server, one is wanted: "
                "run tools/peers.sh or name another directory with --apache-lib"
            )
        self._library = library
        self._version = re.sub(r"^zookeeper-|\.jar$", "", jars[0].name)
        self._java = _java()

    def command(self, config: Path, heap_mib: int) -> list[str]:
        class_path = f"{config.parent}:{self._library}/*"
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        return [self._java, f"-Xmx{heap_mib}m", "-cp", class_path, main, str(config)]

    def describe(self) -> str:
        return f"Apache ZooKeeper {self._version}"

    def prepare(self, directory: Path) -> None:
        """Keeps the server from logging every request, which is what logback does where nothing is configured."""
        (directory / "logback.xml").write_text(
            "<configuration>"
            '<appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">'
            "<encoder><pattern>%d %p %c: %m%n</pattern></encoder>"
            '</appender><root level="WARN"><appender-ref ref="OUT"/></root>'
            "</configuration>\n"
        )


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if not java:
        raise BenchError("no java on the PATH and no JAVA_HOME: Apache's server needs one")
    return java


def sides_named(names: str, library: Path) -> tuple[Side, Side]:
    """The two sides of a comma-separated pair such as `corral,apache`.

    A pair of equals measures how much two runs of the same server differ on this machine.
    """
    makers: dict[str, Callable[[], Side]] = {"corral": Corral, "apache": lambda: Apache(library)}
    wanted = names.split(",")
    if len(wanted) != 2 or not set(wanted) <= makers.keys():
        raise BenchError(f"--sides wants two of {', '.join(makers)} with a comma between them, not {names!r}")
    first, second = (makers[name]() for name in wanted)
    if wanted[0] == wanted[1]:
        first.name, second.name = f"{first.name} A", f"{second.name} B"
    return first, second
