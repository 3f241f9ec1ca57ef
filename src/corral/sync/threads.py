"""The threads in which the program's own functions run: one for all callbacks, one for each body."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import weakref
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from corral.sync.twin import twin_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType
    from typing import Self

    from corral.sync.portal import Portal

_T = TypeVar("_T")

log = logging.getLogger("corral.sync")


class Carried(Exception):  # noqa: N818
    """A SystemExit or KeyboardInterrupt of the program's function: as itself it would end the loop on its way."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(repr(error))
        self.error = error


class CallbackThread:
    """Runs one callback after the other. It begins with the first one."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Callable[..., object], list[Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, function: Callable[..., object], arguments: list[Any]) -> None:
        """From the loop's thread: let ``function`` be called after those that came before."""
        self._queue.put((function, arguments))
        if self._thread is None:
            self._thread = threading.Thread(target=_run, args=(self._queue,), name="corral-callbacks", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Let it end when it has done what is queued."""
        self._queue.put(None)

    def join(self) -> None:
        """Wait for its end, unless a callback asks for it."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()


def _run(queue: SimpleQueue[tuple[Callable[..., object], list[Any]] | None]) -> None:
    while (entry := queue.get()) is not None:
        function, arguments = entry
        try:
            function(*arguments)
        except Exception:
            log.exception("a callback failed: %r", function)
        # What it refers to must not live on until the next one comes.
        del entry, function, arguments


class Callback:
    """A program's function as the client calls it; equal to any other of the same function."""

    __slots__ = ("_function", "_portal", "_thread")

    def __init__(self, function: Callable[..., object], portal: Portal, thread: CallbackThread) -> None:
        if not callable(function):
            raise TypeError(f"a callback is a function, not {function!r}")
        self._function = function
        self._portal = weakref.ref(portal)
        self._thread = thread

    def __repr__(self) -> str:
        return f"<Callback {self._function!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Callback) and (other._function, other._thread) == (self._function, self._thread)

    def __hash__(self) -> int:
        return hash(self._function)

    def __call__(self, *arguments: Any) -> None:
        portal = self._portal()
        if portal is not None:
            self._thread.add(self._function, [twin_of(portal, each) for each in arguments])


_here = threading.local()


def current_scope() -> Scope | None:
    """The innermost scope that this thread is in."""
    return getattr(_here, "scope", None)


class Scope:
    """A piece of a thread's work that a task stands for. When the task is cancelled, the blocking call that the thread
    is in, or else its next one, raises CancelledError, once."""

    def __init__(self) -> None:
        self._outer: Scope | None = None
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._cancel_call: Callable[[Callable[[], None]], None] | None = None

    def open(self) -> None:
        """From here on, this thread is in it."""
        self._outer = current_scope()
        _here.scope = self

    def close(self) -> None:
        """Here it ends."""
        _here.scope = self._outer

    def cancel(self) -> None:
        """From any other thread."""
        self._deliver()

    def _deliver(self, missed: Callable[[Callable[[], None]], None] | None = None) -> None:
        """Cancel the call that the thread is in, unless it is the one that was ``missed`` because it was over."""
        with self._lock:
            cancel_call = self._cancel_call
            if cancel_call is None or cancel_call is missed:
                self._is_cancelled = True
            else:
                cancel_call(partial(self._deliver, cancel_call))

    def check(self) -> None:
        """Raise CancelledError if it was cancelled, and no call has raised it yet."""
        self._go_on(None)
        if self._outer is not None:
            self._outer.check()

    def enter(self, cancel_call: Callable[[Callable[[], None]], None]) -> None:
        """The thread will wait for a call. Raises CancelledError if this was cancelled before.

        ``cancel_call`` cancels it, and calls its argument if it was over by then.
        """
        self._go_on(cancel_call)
        if self._outer is not None:
            self._outer.enter(cancel_call)

    def _go_on(self, cancel_call: Callable[[Callable[[], None]], None] | None) -> None:
        with self._lock:
            if self._is_cancelled:
                self._is_cancelled = False
                raise asyncio.CancelledError
            self._cancel_call = cancel_call

    def leave(self) -> None:
        """The call is over."""
        with self._lock:
            self._cancel_call = None
        if self._outer is not None:
            self._outer.leave()


class CancelScope(Scope):
    """A block whose blocking calls another thread can end::

        scope = corral.sync.CancelScope()
        threading.Thread(target=work, args=(scope,)).start()
        ...
        scope.cancel()

        def work(scope):
            with scope:
                election.run(lead)

    The blocking call that the block is in, or else its next one, then raises asyncio.CancelledError, once; leaving the
    block by it ends it quietly. For one block and one thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_asked = False

    @property
    def is_cancelled(self) -> bool:
        """Whether :meth:`cancel` has been called."""
        return self._is_asked

    def cancel(self) -> None:
        """End the block. From any thread, also before the block begins; a second time it does nothing."""
        with self._lock:
            if self._is_asked:
                return
            self._is_asked = True
        super().cancel()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.close()
        return self._is_asked and isinstance(error, asyncio.CancelledError)


def body(
    function: Callable[..., _T], portal: Portal, is_ending: Callable[[], bool]
) -> Callable[..., Coroutine[Any, Any, _T]]:
    """A coroutine function that runs ``function`` in a thread of its own.

    Cancelled, it ends when ``function`` does, or when the client is closed.
    """
    reference = weakref.ref(portal)

    async def run(*arguments: Any) -> _T:
        portal = reference()
        assert portal is not None, "whoever waits for a body has a portal"
        own = [twin_of(portal, each) for each in arguments]
        del portal
        scope = Scope()
        loop = asyncio.get_running_loop()
        over: asyncio.Future[_T] = loop.create_future()

        def settle(result: _T | None, error: BaseException | None) -> None:
            if over.done():
                return
            if isinstance(error, asyncio.CancelledError):
                over.cancel()
            elif error is not None:
                over.set_exception(error)
            else:
                over.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            scope.open()
            result: _T | None = None
            failure: BaseException | None = None
            try:
                result = function(*own)
            except StopIteration as error:
                failure = RuntimeError(f"{function!r} raised StopIteration")
                failure.__cause__ = error
            except (SystemExit, KeyboardInterrupt) as error:
                failure = Carried(error)
            except BaseException as error:
                failure = error
            # A loop that has been closed has no use for it.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result, failure)

        threading.Thread(target=work, name="corral-body", daemon=True).start()
        while not over.done():
            try:
                await asyncio.wait([over])
            except asyncio.CancelledError:
                if is_ending():
                    raise
                scope.cancel()
        return await over

    return run
