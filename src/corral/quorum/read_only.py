"""What a member serves while it finds no leader: clients that only read, from what it had when it was cut off.

Sources: ReadOnlyZooKeeperServer, ReadOnlyRequestProcessor. What is read may be old, and may contain what was never
committed. Sessions are local ones, for there is nobody who could give others.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from corral.jute.errors import ErrorCode
from corral.quorum.serving import MemberServer
from corral.server.local_sessions import LocalSessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from corral.quorum.serving import Post
    from corral.server.config import ServerConfig
    from corral.server.connection import Connection
    from corral.server.database import Database
    from corral.server.sessions import Session
    from corral.server.writes import Writes
    from corral.tree.acl import Identity
    from corral.tree.datatree import DataTree

log = logging.getLogger(__name__)

GRACE_MIN_MS: Final = 2000
"""An election takes less than this, unless nobody can be elected."""


def _refuse(session: Session) -> ErrorCode:
    return ErrorCode.NOT_READ_ONLY


class RefusedWrites:
    """Takes no writes."""

    is_settled = False
    busy = False

    def __init__(self, tree: DataTree) -> None:
        self._tree = tree
        self.closing: set[int] = set()
        self.outstanding = 0
        self.dirty: dict[Connection, None] = {}

    @property
    def zxid(self) -> int:
        """Of the last transaction that is known here."""
        return self._tree.last_zxid

    def after_writes_of(self, session_id: int, call: Callable[[], None]) -> bool:
        """Never: there are none."""
        return False

    def open_session(self, session_id: int, timeout_ms: int) -> None:
        """There are only local ones, which do nothing."""

    def submit(
        self,
        connection: Connection | None,
        session_id: int,
        xid: int,
        op: int,
        body: bytes,
        identities: Sequence[Identity],
    ) -> ErrorCode | None:
        """Refuse it."""
        return ErrorCode.NOT_READ_ONLY

    def flush(self) -> None:
        """Send what is queued for the dirty connections."""
        dirty, self.dirty = self.dirty, {}
        for connection in dirty:
            connection.flush()

    def stop(self) -> None:
        """Nothing is under way."""


class ReadOnlyServer(MemberServer):
    """The server of a member that is cut off."""

    mode = "read-only"
    owns_sessions = False
    is_read_only = True

    def __init__(self, config: ServerConfig, database: Database, post: Post) -> None:
        super().__init__(config, database, post)
        if self.local_sessions is not None:
            self.local_sessions = LocalSessions(self, _refuse)

    def _make_writes(self) -> Writes:
        return RefusedWrites(self.tree)

    def membership_text(self) -> str:
        """What ``conf`` tells of the ensemble: all but the members."""
        return super().membership_text().partition("membership: ")[0]

    def membership_figures(self) -> Iterator[tuple[str, object]]:
        """Nothing: there is no ensemble."""
        return iter(())

    def renew(self, connection: Connection, session_id: int, timeout_ms: int) -> None:
        """A client has come here with its session: one of the ensemble may live on elsewhere, and is not judged."""
        if self.local_sessions is None or session_id in self.tree.sessions:
            log.debug("%r wants to go on with a session of the ensemble: closed", connection)
            connection.close()
        else:
            super().renew(connection, session_id, timeout_ms)
