"""Sessions that only one server knows: no transaction begins or ends them, and no other server takes them over.

Source: LocalSessionTracker, QuorumZooKeeperServer.checkUpgradeSession. They cost the ensemble nothing, but can own
nothing either: before one creates an ephemeral znode it has to become a session of the ensemble.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from corral.jute.ops import MULTI
from corral.tree.prepare import creates_ephemeral

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.jute.errors import ErrorCode
    from corral.server.connection import Connection
    from corral.server.sessions import Session
    from corral.server.standalone import Server


class LocalSessions:
    """Takes the requests of a server's local sessions.

    ``upgrade`` makes a session one of the ensemble, so that it can own something, or tells why that is not done.
    """

    def __init__(self, server: Server, upgrade: Callable[[Session], ErrorCode | None]) -> None:
        self._server = server
        self._upgrade = upgrade

    def submit(self, session: Session, connection: Connection, xid: int, op: int, body: bytes) -> ErrorCode | None:
        """Take a write, as :meth:`corral.server.writes.Writes.submit` does."""
        if creates_ephemeral(op, body):
            refusal = self._upgrade(session)
            # A multi is refused by results for each of its operations, and perhaps for another reason.
            if refusal is not None and op != MULTI:
                return refusal
        return self._server.pipeline.submit(connection, session.id, xid, op, body, connection.identities)

    def close(self, session: Session, connection: Connection, xid: int) -> None:
        """End a session, as its client asks, once all that it has asked before is done."""
        end = partial(self._server.session_ended, connection, session.id, xid)
        if not self._server.pipeline.after_writes_of(session.id, end):
            end()
