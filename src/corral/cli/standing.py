"""What a server says about itself: whether it serves, as what, and how far it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corral.cli.words import ask

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PROBE_S", "Standing", "ask_standing", "standing_in"]

PROBE_S: Final = 2.0
"""How long a server may be silent."""
READ_ONLY: Final = "read-only"
"""The mode of a member without a leader that serves what it has to those who ask for no more."""


class Standing(NamedTuple):
    """How a server was when it was asked. What it did not tell is None."""

    address: str
    """Where clients on its machine reach it, as ``host:port``."""
    is_running: bool = False
    """Whether anything answers there."""
    mode: str | None = None
    """standalone, leader, follower, observer or read-only; None if it serves nobody."""
    zxid: str | None = None
    """Of the last transaction that it has applied, in hexadecimal."""
    clients: int | None = None
    """How many are connected with it, without the one who asks."""

    @property
    def serves(self) -> bool:
        """Whether it does all that a server does."""
        return self.mode not in (None, READ_ONLY)

    def to_json(self) -> dict[str, Any]:
        """As ``corral status --json`` prints it."""
        return {
            "address": self.address,
            "running": self.is_running,
            "mode": self.mode,
            "zxid": self.zxid,
            "clients": self.clients,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Standing:
        """The other way round. Raises KeyError."""
        return cls(told["address"], told["running"], told["mode"], told["zxid"], told["clients"])


def ask_standing(host: str, port: int, timeout_s: float = PROBE_S) -> Standing:
    """Ask a server on this machine."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        answer = ask(host, port, "srvr", timeout_s)
    except OSError:
        return Standing(address)
    return standing_in(answer, address)


def standing_in(answer: str, address: str) -> Standing:
    """What an answer to ``srvr`` tells."""
    told = dict(line.split(": ", 1) for line in answer.splitlines() if ": " in line)
    connections = told.get("Connections", "")
    clients = int(connections) - 1 if connections.isdecimal() else None
    return Standing(address, bool(answer), told.get("Mode"), told.get("Zxid"), clients)
