"""Sessions as the server that owns them sees them: numbers, passwords, and when they expire.

Sources: SessionTrackerImpl, ExpiryQueue, ZooKeeperServer.generatePasswd. That a session exists at all is part of the
replicated state (:attr:`corral.tree.datatree.DataTree.sessions`); here is only what this server must do about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from corral.server.connection import Connection
    from corral.server.local_sessions import LocalSessions

PASSWORD_SIZE: Final = 16
NO_PASSWORD: Final = bytes(PASSWORD_SIZE)
_SECRET: Final = 0xB3415C00
_MASK_48: Final = (1 << 48) - 1
_MASK_64: Final = (1 << 64) - 1


def session_password(session_id: int) -> bytes:
    """The password of a session: Java's ``Random(id ^ secret).nextBytes(16)``, the same on every server."""
    seed = ((session_id ^ _SECRET) ^ 0x5DEECE66D) & _MASK_48
    out = bytearray()
    for _ in range(PASSWORD_SIZE // 4):
        seed = (seed * 0x5DEECE66D + 0xB) & _MASK_48
        out += ((seed >> 16) & 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(out)


def first_session_id(server_id: int, monotonic_ms: int) -> int:
    """Where a starting server begins to count: server id in the top byte, then 40 bits of time, then zeros."""
    number = ((monotonic_ms << 24) & _MASK_64) >> 8 | (server_id & 0xFF) << 56
    if number == 1 << 63:
        number += 1
    return number - (1 << 64) if number >= 1 << 63 else number


class Session:
    """A live session. ``connection`` is the one that holds it, if it is connected."""

    __slots__ = ("bucket_ms", "connection", "id", "local", "owner", "timeout_ms")

    def __init__(self, session_id: int, timeout_ms: int) -> None:
        self.id = session_id
        self.timeout_ms = timeout_ms
        self.bucket_ms = 0
        self.connection: Connection | None = None
        self.owner: object = None
        """Of an ensemble's session, by way of which member its client is connected; None: this one, or nobody yet."""
        self.local: LocalSessions | None = None
        """Among whose sessions it is, if only this server knows it."""

    def __repr__(self) -> str:
        return f"Session({self.id & _MASK_64:#x}, timeout_ms={self.timeout_ms})"


class SessionTracker:
    """All live sessions in buckets by when they expire.

    A session expires ``timeout_ms`` after it was last heard of, rounded up to the next multiple of ``tick_ms``, so
    that touching one mostly costs a comparison.
    """

    def __init__(self, tick_ms: int, first_id: int) -> None:
        self.tick_ms = tick_ms
        self._next_id = first_id
        self.sessions: dict[int, Session] = {}
        self._buckets: dict[int, dict[int, Session]] = {}

    def __len__(self) -> int:
        return len(self.sessions)

    def new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def add(self, session_id: int, timeout_ms: int, now_ms: int) -> Session:
        """Start to track a session, which has its full timeout from now."""
        session = self.sessions[session_id] = Session(session_id, timeout_ms)
        self.touch(session, now_ms)
        return session

    def touch(self, session: Session, now_ms: int) -> None:
        """The session was heard of."""
        tick = self.tick_ms
        bucket = ((now_ms + session.timeout_ms) // tick + 1) * tick
        if bucket == session.bucket_ms:
            return
        self._leave_bucket(session)
        session.bucket_ms = bucket
        self._buckets.setdefault(bucket, {})[session.id] = session

    def remove(self, session_id: int) -> Session | None:
        """The session ended; returns it if it was tracked."""
        session = self.sessions.pop(session_id, None)
        if session is not None:
            self._leave_bucket(session)
        return session

    def _leave_bucket(self, session: Session) -> None:
        bucket = self._buckets.get(session.bucket_ms)
        if bucket is not None:
            bucket.pop(session.id, None)
            if not bucket:
                del self._buckets[session.bucket_ms]

    def take_expired(self, now_ms: int) -> list[Session]:
        """The sessions whose time is over; they are not reported again, but stay known until removed."""
        expired: list[Session] = []
        for deadline in sorted(deadline for deadline in self._buckets if deadline <= now_ms):
            expired.extend(self._buckets.pop(deadline).values())
        return expired

    def next_check_ms(self, now_ms: int) -> int:
        """Milliseconds until the next bucket can be due."""
        return self.tick_ms - now_ms % self.tick_ms

    @property
    def local_count(self) -> int:
        """How many are known only to this server."""
        return sum(session.local is not None for session in self.sessions.values())

    def buckets(self, *, local: bool) -> list[tuple[int, list[int]]]:
        """Deadline and session ids of each bucket, of the local sessions or of all others, for the ``dump`` word."""
        chosen = (
            (deadline, [each.id for each in bucket.values() if (each.local is not None) is local])
            for deadline, bucket in sorted(self._buckets.items())
        )
        return [(deadline, ids) for deadline, ids in chosen if ids]
