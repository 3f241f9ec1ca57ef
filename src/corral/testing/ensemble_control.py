"""What a test may do to a running member of an ensemble, and ask it; see :mod:`corral.testing.control`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from corral.jute.paths import RESERVED
from corral.testing import control
from corral.testing.errors import ServerError

if TYPE_CHECKING:
    from corral.quorum.peer import Peer
    from corral.testing.control import SessionInfo


@dataclass(frozen=True, slots=True)
class Standing:
    """What a member is at the moment."""

    mode: str | None
    """leader, follower or observer; None while it has no leader."""
    epoch: int
    """Of the leader that it has, or is."""
    zxid: int
    """Of the last transaction that it has applied."""


async def standing(peer: Peer) -> Standing:
    """What the member is."""
    server, term = peer.server, peer.term
    mode = server.mode if server is not None and server.serving else None
    return Standing(mode, term.epoch if term is not None else 0, peer.history.last_zxid)


async def sessions(peer: Peer) -> list[SessionInfo]:
    """The live sessions; ``connected`` are those whose client is connected with this member."""
    if peer.server is None:
        raise ServerError(f"{peer!r} serves nobody")
    return await control.sessions(peer.server)


async def expire_session(peer: Peer, session_id: int) -> None:
    """End a session as if it had not been heard of in time. The member has to lead, or to have it for itself."""
    if peer.server is None:
        raise ServerError(f"{peer!r} serves nobody")
    await control.expire_session(peer.server, session_id)


async def tree(peer: Peer) -> dict[str, bytes | None]:
    """Paths and data of all znodes but ``/`` and those that every server has, sorted."""
    nodes = peer.history.tree.nodes
    return {path.decode(): nodes[path].data for path in sorted(nodes) if path not in RESERVED}
