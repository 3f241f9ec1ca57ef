"""Reads that see all that was written before they were asked for.

Such a read is an ordinary one behind a barrier: a sync that a quorum confirms (:mod:`corral.jute.extensions`). A server
answers what it is asked on one connection in order, and no server lets in a client that has seen more than itself: so
a read that is answered after its barrier sees what the sync has brought, on another connection of the session too. A
server that cannot do it answers the sync without the word that says so; then the read fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from corral.client.calls import Call
from corral.client.errors import UnimplementedError
from corral.client.results import decode_nothing
from corral.jute.errors import error_of
from corral.jute.extensions import QUORUM, asks_for_quorum
from corral.jute.ops import SYNC

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_ROOT: Final = b"\0\0\0\1/"


class QuorumSync(Call):
    """A sync that ends well only if a quorum has confirmed that the leader leads."""

    __slots__ = ()

    def __init__(self, path: str, future: asyncio.Future[Any], key: bytes = _ROOT) -> None:
        """``key`` is the encoded path that is named to the server."""
        super().__init__(SYNC, key + QUORUM, decode_nothing, future, path, repeatable=True)

    def complete(self, frame: bytes, start: int, end: int) -> None:
        if asks_for_quorum(frame[start:end]):
            super().complete(frame, start, end)
        else:
            self.fail(_unsupported(self.path))


def _unsupported(path: str) -> UnimplementedError:
    return UnimplementedError(f"{path}: the server, or its leader, does not ask a quorum whether what it has is newest")


class Barrier(QuorumSync):
    """What reads wait behind. Nobody awaits it; the reads ask it."""

    __slots__ = ("is_passed", "refusal")

    def __init__(self, future: asyncio.Future[Any]) -> None:
        super().__init__("a linearizable read", future)
        self.is_passed = False
        self.refusal: Callable[[str], Exception] | None = None
        """Why it cannot be passed, for a read of a path."""

    def complete(self, frame: bytes, start: int, end: int) -> None:
        self.is_passed = True
        super().complete(frame, start, end)

    def refuse(self, code: int) -> None:
        self.refusal = lambda path: error_of(code, path)
        self._end()

    def fail(self, error: Exception) -> None:
        # A broken connection is for the reads themselves to end with, or to go on after.
        if isinstance(error, UnimplementedError):
            self.refusal = _unsupported
        self._end()

    def _end(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class LinearizableRead(Call):
    """A read that counts if it is answered after its barrier; otherwise it is asked ``again``."""

    __slots__ = ("_again", "_read", "barrier")

    def __init__(self, read: Call, barrier: Barrier, again: Callable[[LinearizableRead], None]) -> None:
        super().__init__(read.code, read.body, read.decode, read.future, read.path, repeatable=True)
        self._read = read
        self._again = again
        self.barrier = barrier

    def complete(self, frame: bytes, start: int, end: int) -> None:
        if self._counts():
            self._read.complete(frame, start, end)

    def refuse(self, code: int) -> None:
        if self._counts():
            self._read.refuse(code)

    def _counts(self) -> bool:
        barrier = self.barrier
        if barrier.refusal is not None:
            self.fail(barrier.refusal(self.path))
        elif barrier.is_passed:
            return True
        elif not self.future.done():
            self._again(self)
        return False
