"""The files of an ensemble on one machine: ``DIR/1/zoo.cfg`` and ``DIR/1/data/myid`` for server 1, and so on."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Final, NamedTuple

from corral.server.config.rewriting import escaped

__all__ = [
    "CONFIGURATION",
    "PORTS_PER_MEMBER",
    "Ports",
    "free_ports",
    "member_configurations",
    "ports_from",
    "write_files",
]

CONFIGURATION: Final = "zoo.cfg"
PORTS_PER_MEMBER: Final = 3


class Ports(NamedTuple):
    """Where one member listens."""

    client: int
    quorum: int
    election: int


def free_ports(host: str, count: int) -> list[Ports]:
    """Ports that nobody listens on now, for so many members. Raises OSError: there is no such address."""
    with contextlib.ExitStack() as held:
        numbers: list[int] = []
        for _ in range(count * PORTS_PER_MEMBER):
            family, _, _, _, place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
            holder = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
            holder.bind(place)
            numbers.append(holder.getsockname()[1])
    return [Ports(*numbers[n : n + PORTS_PER_MEMBER]) for n in range(0, len(numbers), PORTS_PER_MEMBER)]


def ports_from(base: int, count: int) -> list[Ports]:
    """Ports in order from ``base``: for clients of all members, then for their quorum, then for elections."""
    return [Ports(base + n, base + count + n, base + 2 * count + n) for n in range(count)]


def write_files(directory: Path, host: str, ports: list[Ports], observers: int) -> None:
    """Write a configuration and a number for each member; the last ``observers`` of them do not vote.

    Raises OSError, FileExistsError among them if something is there already.
    """
    directory = directory.absolute()
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty")
    first_observer = len(ports) - observers + 1
    place = f"[{host}]" if ":" in host else host
    lines = [
        f"server.{sid}={place}:{each.quorum}:{each.election}:{'observer' if sid >= first_observer else 'participant'}"
        for sid, each in enumerate(ports, 1)
    ]
    if len(ports) == 1:
        lines.append("standaloneEnabled=false")
    for sid, each in enumerate(ports, 1):
        home = directory / str(sid)
        (home / "data").mkdir(parents=True)
        (home / "data" / "myid").write_text(f"{sid}\n", "ascii")
        settings = [
            f"dataDir={escaped(str(home / 'data'))}",
            f"clientPort={each.client}",
            f"clientPortAddress={host}",
            "tickTime=2000",
            "initLimit=10",
            "syncLimit=5",
            *lines,
        ]
        (home / CONFIGURATION).write_text("\n".join(settings) + "\n", "ascii")


def member_configurations(directory: Path) -> list[Path]:
    """The configurations in ``directory``, in the order of the members' numbers."""
    found = [path for path in directory.glob(f"*/{CONFIGURATION}") if path.parent.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.parent.name))
