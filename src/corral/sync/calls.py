"""Blocking calls on their way, and the client that takes requests from the threads that make them."""

from __future__ import annotations

import asyncio
import contextlib
from _thread import allocate_lock, get_ident
from typing import TYPE_CHECKING, Any

from corral.client.client import Client
from corral.client.errors import ClientClosedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from corral.client.calls import Call
    from corral.client.keeper import Settings

CLOSED = "the client is closed"


class Answer:
    """What a thread waits for. It stands for a future: only the loop's thread sets it, then lets the gate go."""

    __slots__ = ("error", "gate", "is_over", "result")

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_over = False
        self.gate = allocate_lock()
        self.gate.acquire()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'over' if self.is_over else 'under way'}>"

    def done(self) -> bool:
        return self.is_over

    def set_result(self, result: object) -> None:
        self.result = result
        self.is_over = True
        self.gate.release()

    def set_exception(self, error: BaseException) -> None:
        self.error = error
        self.is_over = True
        self.gate.release()

    def cancel(self) -> bool:
        """From the loop's thread: end it, as far as the caller is concerned. False if it is over."""
        if self.is_over:
            return False
        self.set_exception(asyncio.CancelledError())
        return True

    def refuse(self) -> None:
        """The loop is over, and nothing else will end it; the caller may say so as well as the loop's thread."""
        if not self.is_over:
            # The second of two finds the gate open.
            with contextlib.suppress(RuntimeError):
                self.set_exception(ClientClosedError(CLOSED))


class LoopCall(Answer):
    """A function that is called in the loop's thread."""

    __slots__ = ("arguments", "function", "future", "options")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        super().__init__()
        self.function = function
        self.arguments = arguments
        self.options = options
        self.future: asyncio.Future[Any] | None = None

    def run(self) -> None:
        """Do what needs no waiting."""
        try:
            result = self.function(*self.arguments, **self.options)
        except BaseException as error:
            self.set_exception(error)
        else:
            self.set_result(result)

    def begin(self) -> None:
        """Start what is waited for."""
        try:
            self.future = future = asyncio.ensure_future(self.function(*self.arguments, **self.options))
        except BaseException as error:
            self.set_exception(error)
        else:
            future.add_done_callback(self._done)

    def cancel(self) -> bool:
        return self.future is not None and self.future.cancel()

    def _done(self, future: asyncio.Future[Any]) -> None:
        if self.is_over:
            return
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(future.result())


class ThreadedClient(Client):
    """An asyncio client whose requests other threads may make too: they get an :class:`Answer` for a future.

    A request goes from the thread that makes it to the socket, without a detour over the loop, if nothing else waits
    to be sent: of the three threads and processes that would have to wake up for a call, that leaves two.
    """

    def __init__(self, settings: Settings, random: Random) -> None:
        super().__init__(settings, random)
        self._loop: asyncio.AbstractEventLoop
        self._thread_id = 0

    @classmethod
    def like(cls, client: Client) -> ThreadedClient:
        """One with the settings of ``client``."""
        return cls(client.settings, client._random)

    def bind(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        """It will run on ``loop``, which that thread runs."""
        self._loop = loop
        self._thread_id = thread_id

    def future(self) -> Any:
        return super().future() if get_ident() == self._thread_id else Answer()

    def send(self, call: Call) -> None:
        future: object = call.future
        if not isinstance(future, Answer):
            super().send(call)
            return
        connection = self._keeper.connection
        if connection is None or not connection.send_at_once(call):
            try:
                self._loop.call_soon_threadsafe(super().send, call)
            except RuntimeError:
                raise ClientClosedError(CLOSED) from None
