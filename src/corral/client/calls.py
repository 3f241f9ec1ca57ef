"""A request on its way: from the call of a program to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corral.jute.errors import error_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    Decoder = Callable[[bytes, int, int], Any]


class Call:
    """One request and the future of its result.

    A *repeatable* one changes nothing: when the connection breaks before the answer, it is asked again on the next.
    """

    __slots__ = ("answered", "body", "code", "decode", "future", "path", "repeatable", "tries", "waits_until", "xid")

    def __init__(
        self,
        code: int,
        body: bytes,
        decode: Decoder,
        future: asyncio.Future[Any],
        path: str,
        *,
        repeatable: bool,
        answered: Callable[[int], None] | None = None,
    ) -> None:
        self.code = code
        self.body = body
        self.decode = decode
        self.future = future
        self.path = path
        """What errors are about."""
        self.repeatable = repeatable
        self.answered = answered
        """Called with the reply's error code (0: none) the moment it has come, before anything that came later."""
        self.tries = 0
        self.xid = 0
        self.waits_until = 0.0
        """When it is given up if there is no connection by then (the loop's clock)."""

    def __repr__(self) -> str:
        return f"<Call {self.code} {self.path} xid={self.xid}>"

    def complete(self, frame: bytes, start: int, end: int) -> None:
        """End with the result that stands in ``frame``."""
        result = self.decode(frame, start, end)
        if self.answered is not None:
            self.answered(0)
        if not self.future.done():
            self.future.set_result(result)

    def refuse(self, code: int) -> None:
        """End with the server's error."""
        if self.answered is not None:
            self.answered(code)
        if not self.future.done():
            self.future.set_exception(error_of(code, self.path))

    def fail(self, error: Exception) -> None:
        """End without an answer."""
        if not self.future.done():
            self.future.set_exception(error)
