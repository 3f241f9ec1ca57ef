"""What a server needs of whoever takes its clients' writes: its own pipeline, or the way to a leader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.jute.errors import ErrorCode
    from corral.server.connection import Connection
    from corral.tree.acl import Identity


class Writes(Protocol):
    """Takes writes, and answers each on its connection when it has been applied."""

    closing: set[int]
    """Sessions whose end is on its way."""
    outstanding: int
    """Writes that are not answered yet."""
    dirty: dict[Connection, None]
    """Connections with something to send that has been queued outside of their own wake-up."""

    @property
    def zxid(self) -> int:
        """Of the newest transaction that is known here, applied or not."""

    @property
    def is_settled(self) -> bool:
        """Whether a sync need not wait: all that was asked here before it is applied, and nobody else decides."""

    @property
    def busy(self) -> bool:
        """Whether anything is not applied yet."""

    def after_writes_of(self, session_id: int, call: Callable[[], None]) -> bool:
        """Call when all that a session has submitted here is applied; False, and no call, if that is so already."""

    def open_session(self, session_id: int, timeout_ms: int) -> None:
        """A session is about to be created: its writes are valid from now on."""

    def submit(
        self,
        connection: Connection | None,
        session_id: int,
        xid: int,
        op: int,
        body: bytes,
        identities: Sequence[Identity],
    ) -> ErrorCode | None:
        """Take a write. An error code is returned if it is refused at once: no transaction then."""

    def flush(self) -> None:
        """Send what is queued for the dirty connections."""

    def stop(self) -> None:
        """Nothing more is taken, applied or answered."""
