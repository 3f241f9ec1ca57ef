"""Where the members of an ensemble of processes are: on loopback, or each in a network namespace of its own.

Namespaces hang on one bridge. What crosses a cut is lost without a word, as on a real network: the sender believes
that the other one has another hardware address. Cut off from everybody, a member's cable is out.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from tests.interop.peers import LOOPBACK, free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

HERE: Final = 254
"""The number of the tests' own end of the bridge, where clients are."""
NOBODY: Final = "02:00:00:00:ff:ff"
COMMAND_LIMIT_S: Final = 20
NETWORKS: Final = "198.18"
"""Of the block that is set aside for tests of networks (RFC 2544)."""
PREFIX: Final = "crl"
"""Names here are this, the number of the test's process in hexadecimal, and a letter: at most 15 characters."""


class Place(NamedTuple):
    """Where one member is."""

    host: str
    client_port: int
    quorum_port: int
    election_port: int
    within: Sequence[str]
    """The command that runs another one there."""


class Loopback:
    """All on one address; nothing can be cut."""

    def __init__(self, size: int) -> None:
        ports: set[int] = set()
        while len(ports) < 3 * size:
            ports.add(free_port())
        self.places = {sid: Place(LOOPBACK, ports.pop(), ports.pop(), ports.pop(), ()) for sid in range(1, size + 1)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return


def ip(*arguments: str) -> str:
    """Runs ``ip``; returns what it prints. Raises `OSError` with what it complains of."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def hardware_address(network: int, number: int) -> str:
    return f"02:00:00:{network:02x}:00:{number:02x}"


class Namespaces:
    """A bridge with one namespace for each member, from `__enter__` to `__exit__`. Raises `OSError` if it cannot be."""

    def __init__(self, size: int) -> None:
        self._name = f"{PREFIX}{os.getpid():x}"
        self._network = random.SystemRandom().randrange(256)
        self._sids = range(1, size + 1)
        self.places = {
            sid: Place(self._host(sid), 2181, 2888, 3888, ("ip", "netns", "exec", self._namespace(sid)))
            for sid in self._sids
        }

    def _host(self, number: int) -> str:
        return f"{NETWORKS}.{self._network}.{number}"

    def _namespace(self, sid: int) -> str:
        return f"{self._name}n{sid}"

    def _cable(self, sid: int) -> str:
        return f"{self._name}v{sid}"

    @property
    def _bridge(self) -> str:
        return f"{self._name}b"

    def __enter__(self) -> Self:
        remove_leftovers()
        try:
            self._build()
        except BaseException:
            remove(self._name)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        remove(self._name)

    def _build(self) -> None:
        ip("link", "add", self._bridge, "address", hardware_address(self._network, HERE), "type", "bridge")
        ip("address", "add", f"{self._host(HERE)}/24", "dev", self._bridge)
        ip("link", "set", self._bridge, "up")
        for sid in self._sids:
            inside = self._namespace(sid)
            ip("netns", "add", inside)
            ip("link", "add", self._cable(sid), "type", "veth", "peer", "name", "eth0", "netns", inside)
            ip("link", "set", self._cable(sid), "master", self._bridge, "up")
            ip("-netns", inside, "link", "set", "lo", "up")
            ip("-netns", inside, "link", "set", "eth0", "address", hardware_address(self._network, sid), "up")
            ip("-netns", inside, "address", "add", f"{self._host(sid)}/24", "dev", "eth0")
        self.heal()

    def heal(self) -> None:
        """Everybody reaches everybody."""
        for sid in self._sids:
            ip("link", "set", self._cable(sid), "up")
            for other in self._sids:
                self._point(sid, other, hardware_address(self._network, other))
                self._point(other, HERE, hardware_address(self._network, HERE))
            self._point(HERE, sid, hardware_address(self._network, sid))

    def cut(self, senders: Iterable[int], receivers: Iterable[int]) -> None:
        """Nothing that these senders send reaches those receivers; the other direction goes on. `HERE` are clients."""
        receivers = list(receivers)
        for sender in senders:
            for receiver in receivers:
                self._point(sender, receiver, NOBODY)

    def part(self, some: Iterable[int], others: Iterable[int]) -> None:
        """Nothing passes between the two sides, in either direction."""
        some, others = list(some), list(others)
        self.cut(some, others)
        self.cut(others, some)

    def unplug(self, sid: int) -> None:
        """Takes the member off the network, for clients too."""
        ip("link", "set", self._cable(sid), "down")

    def _point(self, sender: int, receiver: int, address: str) -> None:
        if sender == receiver:
            return
        at = ["dev", self._bridge] if sender == HERE else ["dev", "eth0"]
        inside = [] if sender == HERE else ["-netns", self._namespace(sender)]
        ip(*inside, "neigh", "replace", self._host(receiver), "lladdr", address, *at, "nud", "permanent")


def _names() -> list[str]:
    """Of cables, bridges and namespaces that tests have made."""
    links = re.findall(rf"^\d+: ({PREFIX}[0-9a-f]+(?:b|v\d+))\b", ip("-oneline", "link", "show"), re.MULTILINE)
    return links + re.findall(rf"^({PREFIX}[0-9a-f]+n\d+)\b", ip("netns", "list"), re.MULTILINE)


def remove(name: str) -> None:
    """Removes what bears this name."""
    for each in _names():
        if re.fullmatch(rf"{name}n\d+", each):
            ip("netns", "delete", each)
        elif re.fullmatch(rf"{name}(b|v\d+)", each):
            ip("link", "delete", each)


def remove_leftovers() -> None:
    """Removes what processes have left that were killed."""
    for name in {re.sub(r"(b|[nv]\d+)$", "", each) for each in _names()}:
        if not Path("/proc", str(int(name.removeprefix(PREFIX), 16))).exists():
            remove(name)
