"""The way from threads that block to the asyncio client: an event loop in a thread of its own.

A call travels as one object: the loop's thread begins it, and lets the caller's raw lock go when it is over.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import warnings
import weakref
from _thread import get_ident
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, cast, overload

from corral.client.errors import ClientClosedError
from corral.sync.calls import CLOSED, Answer, LoopCall, ThreadedClient
from corral.sync.threads import Callback, CallbackThread, Carried, Scope, body, current_scope
from corral.sync.twin import twin_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from types import TracebackType

    from corral.client import Client

_T = TypeVar("_T")
_S = TypeVar("_S")
_P = ParamSpec("_P")

_FORKED: Final = "this client belongs to the process that was forked; make another one after the fork"
_EXIT_PATIENCE_S: Final = 1.0
"""How long the end of the program waits for a client that nobody has closed."""
_SIGNAL_PERIOD_S: Final = 0.5
_AFTERWARDS_PATIENCE_S: Final = 1.0
"""How long something may take that is ended after its client: there is nothing left to wait for."""


class _Life:
    """What the threads of one client know of each other's end."""

    __slots__ = ("calls", "over", "refusal")

    def __init__(self) -> None:
        self.calls: set[Answer] = set()
        """Under way. Those that are left when the loop ends are refused."""
        self.over = threading.Event()
        """The loop runs no more, or never will."""
        self.refusal: str | None = None
        """Why no further call is taken."""

    def is_ending(self) -> bool:
        return self.refusal is not None


class Portal:
    """Through which the blocking twins of one client, and of all that is built on it, reach their originals.

    The threads begin with the first call, and hold no reference to it: a portal that nobody has closed, and that
    nobody can close any more, complains with a ResourceWarning and closes its client.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._is_direct = isinstance(client, ThreadedClient)
        self._life = _Life()
        self._callbacks = CallbackThread()
        self._changing = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._thread_id = 0
        _portals.add(self)

    # Calls

    def call(self, function: Callable[_P, Awaitable[_T]], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call ``function`` in the loop's thread, and wait for what it promises.

        Raises what it raises; ClientClosedError when the client is closed; RuntimeError in the loop's own thread, which
        would wait for itself, and after a fork. A caller that is interrupted cancels it.
        """
        loop = self._enter()
        call = LoopCall(function, args, kwargs)
        self._hand_over(loop, call.begin)
        return cast("_T", self._wait_for(call))

    def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call ``function``, which waits for nothing, in the loop's thread; in this one if that has gone."""
        if get_ident() == self._thread_id:
            return function(*args, **kwargs)
        if self._life.refusal is CLOSED:
            self._life.over.wait()
            return self._run_here(function, *args, **kwargs)
        loop = self._enter()
        call = LoopCall(function, args, kwargs)
        self._hand_over(loop, call.run)
        return cast("_T", self._wait_for(call))

    def _run_here(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            if str(error) == "no running event loop":
                raise self._refused() from None
            raise

    def ask(self, function: Callable[_P, Awaitable[_T]], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """As :meth:`call`, for what sends one request: it is made in this thread, see :class:`ThreadedClient`."""
        if not self._is_direct:
            return self.call(function, *args, **kwargs)
        self._enter()
        promise: Any = function(*args, **kwargs)
        if type(promise) is Answer:
            return cast("_T", self._wait_for(promise))
        # It takes several requests.
        return cast("_T", self.call(lambda: promise))

    def _enter(self) -> asyncio.AbstractEventLoop:
        """The loop, if a call may be made now."""
        if get_ident() == self._thread_id:
            raise RuntimeError(
                "a blocking call in the thread of the client's event loop would wait for itself: what is called there "
                "(a check, a codec) must do without"
            )
        if self._life.refusal is not None:
            raise self._refused()
        scope = current_scope()
        if scope is not None:
            scope.check()
        return self._loop or self._open()

    def _hand_over(self, loop: asyncio.AbstractEventLoop, begin: Callable[[], None]) -> None:
        try:
            loop.call_soon_threadsafe(begin)
        except RuntimeError:
            raise self._refused() from None

    def _wait_for(self, answer: Answer) -> object:
        life, scope = self._life, current_scope()
        life.calls.add(answer)
        try:
            if scope is not None:
                scope.enter(partial(self._cancel, answer))
            if life.over.is_set():
                # It came too late for those that the loop's thread refuses, and nobody else would let it go.
                answer.refuse()
            if get_ident() != threading.main_thread().ident:
                answer.gate.acquire()
            else:
                # A signal that comes just before the lock begins to wait does not wake it: look again for that.
                while not answer.gate.acquire(timeout=_SIGNAL_PERIOD_S):
                    pass
        except BaseException:
            self._cancel(answer)
            raise
        finally:
            if scope is not None:
                scope.leave()
            life.calls.discard(answer)
        if answer.error is None:
            return answer.result
        try:
            if isinstance(answer.error, asyncio.CancelledError) and life.refusal is not None:
                raise self._refused() from None
            raise answer.error.error if isinstance(answer.error, Carried) else answer.error
        finally:
            # The traceback refers to this frame.
            del answer

    def _cancel(self, call: Answer, missed: Callable[[], None] | None = None) -> None:
        """Cancel it in the loop's thread; ``missed`` is called there if it is over by then."""

        def cancel() -> None:
            if not call.cancel() and missed is not None:
                missed()

        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(cancel)

    def _refused(self) -> RuntimeError:
        reason = self._life.refusal or CLOSED
        return ClientClosedError(reason) if reason is CLOSED else RuntimeError(reason)

    def enter(self, manager: AbstractAsyncContextManager[_T]) -> _T:
        """Enter it. If the caller is interrupted just when it has been entered, it is left again."""
        loop = self._enter()
        call = LoopCall(manager.__aenter__, (), {})
        try:
            self._hand_over(loop, call.begin)
            return cast("_T", self._wait_for(call))
        except BaseException:
            if call.error is None:
                self._post(partial(_undo, call, manager))
            raise

    def leave(self, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """As :meth:`call`, for what ends something: it is also done when the client is closed."""
        try:
            return self.call(function, *args, **kwargs)
        except ClientClosedError:
            if self._life.refusal is not CLOSED:
                raise
        return self._afterwards(lambda: function(*args, **kwargs))

    def next(self, function: Callable[[], Awaitable[_T]]) -> _T:
        """The next item. What came before the client was closed is still handed out; StopIteration ends it."""
        try:
            try:
                return self.call(function)
            except ClientClosedError:
                if self._life.refusal is not CLOSED:
                    raise
            return self._afterwards(function)
        except StopAsyncIteration:
            raise StopIteration from None

    def _afterwards(self, function: Callable[[], Awaitable[_T]]) -> _T:
        """Do in a loop of its own what needs the old one no more."""
        self._life.over.wait()
        outcome: list[_T] = []
        errors: list[BaseException] = []

        async def do() -> None:
            try:
                async with asyncio.timeout(_AFTERWARDS_PATIENCE_S):
                    outcome.append(await function())
            except TimeoutError:
                errors.append(ClientClosedError(CLOSED))
            except BaseException as error:
                errors.append(error)

        # The caller's thread may run a loop already.
        thread = threading.Thread(target=lambda: asyncio.run(do()), name="corral-portal", daemon=True)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return outcome[0]

    # Iterators and context managers

    def iterate(self, function: Callable[_P, AsyncIterator[_T]], *args: _P.args, **kwargs: _P.kwargs) -> Iterator[_T]:
        """The items of an asynchronous iterator."""
        return self._items(self.run(function, *args, **kwargs))

    def _items(self, source: AsyncIterator[_T]) -> Iterator[_T]:
        steps = _Steps(source)
        try:
            while True:
                try:
                    item = self.next(steps.next)
                except StopIteration:
                    return
                yield item
        finally:
            # Nobody waits for the end of it: this may be the garbage collector, in any thread.
            self._post(steps.close)

    def _post(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._loop is not None and self._life.refusal is None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_start, function)

    def context(
        self, manager: Callable[[], AbstractAsyncContextManager[_T]], convert: Callable[[_T], _S]
    ) -> AbstractContextManager[_S]:
        """An asynchronous context manager as a plain one; ``convert`` makes of what it gives what the block gets."""
        return _Context(self, manager, convert)

    @property
    def is_ending(self) -> bool:
        """Whether it takes no more calls."""
        return self._life.is_ending()

    # What the program gives to be called

    @overload
    def callback(self, function: None) -> None: ...
    @overload
    def callback(self, function: Callable[..., object]) -> Callable[..., object]: ...
    @overload
    def callback(self, function: Callable[..., object] | None) -> Callable[..., object] | None: ...
    def callback(self, function: Callable[..., object] | None) -> Callable[..., object] | None:
        """``function`` as the client may call it: it runs in the callback thread, in order."""
        return Callback(function, self, self._callbacks) if function is not None else None

    def in_place(self, function: Callable[..., _T]) -> Callable[..., _T]:
        """``function`` as the client may call it in the loop's thread: it takes twins, and must not block."""
        return lambda *arguments: function(*[twin_of(self, each) for each in arguments])

    def body(self, function: Callable[..., _T]) -> Callable[..., Coroutine[Any, Any, _T]]:
        """``function`` as a coroutine function: it runs in a thread of its own."""
        return body(function, self, self._life.is_ending)

    # Life

    def start(self, function: Callable[[], Awaitable[object]]) -> None:
        """The first call: if it fails, the client is closed."""
        try:
            self.call(function)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the client and end the threads. Closing again does nothing, nor does closing after a fork."""
        if self._life.refusal is _FORKED:
            return
        try:
            self.call(self._client.close)
        except ClientClosedError:
            if self._life.refusal is not CLOSED:
                raise
        finally:
            self._stop()

    def _open(self) -> asyncio.AbstractEventLoop:
        with self._changing:
            if self._life.refusal is not None:
                raise self._refused()
            if self._loop is None:
                loop = _new_event_loop()
                arguments = (loop, self._life)
                self._thread = threading.Thread(target=_serve, args=arguments, name="corral-portal", daemon=True)
                self._thread.start()
                assert self._thread.ident is not None
                self._thread_id = self._thread.ident
                if isinstance(self._client, ThreadedClient):
                    self._client.bind(loop, self._thread_id)
                self._loop = loop
            return self._loop

    def _stop(self) -> None:
        with self._changing:
            if self._life.refusal is None:
                self._life.refusal = CLOSED
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(self._loop.stop)
                else:
                    self._life.over.set()
                self._callbacks.finish()
        if self._life.refusal is CLOSED and self._thread is not None:
            self._thread.join()
            self._callbacks.join()

    def _abandon(self) -> None:
        """Nobody has closed it: say so, and close the client without waiting for it."""
        life = self._life
        if self._loop is None or life.refusal is not None:
            return
        life.refusal = CLOSED
        warnings.warn(f"{self._client!r} was not closed", ResourceWarning, stacklevel=2, source=self)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_start, _Closing(self._client, self._loop).run)
        self._callbacks.finish()

    def __del__(self) -> None:
        if hasattr(self, "_thread_id"):
            self._abandon()

    def abandon_at_exit(self) -> None:
        """The program ends."""
        self._abandon()
        if self._thread is not None and self._life.refusal is CLOSED:
            self._thread.join(_EXIT_PATIENCE_S)

    def leave_to_parent(self) -> None:
        """This is a child process: it has none of the threads, and must leave the connection alone."""
        self._life.refusal = _FORKED
        # A thread that the child has not might have held it.
        self._changing = threading.Lock()


class _Context(Generic[_T, _S]):
    """A block of a thread, inside an asynchronous context manager that a task of the loop is in.

    When that task is cancelled, so is the blocking call that the block is in, or else its next one.
    """

    def __init__(
        self, portal: Portal, make: Callable[[], AbstractAsyncContextManager[_T]], convert: Callable[[_T], _S]
    ) -> None:
        self._portal = portal
        self._make = make
        self._convert = convert
        self._scope = Scope()
        self._entered: asyncio.Future[_T]
        self._left: asyncio.Future[BaseException | None]
        self._task: asyncio.Task[None]

    def __enter__(self) -> _S:
        entered = self._portal.call(self._enter)
        self._scope.open()
        return self._convert(entered)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._scope.close()
        try:
            self._portal.call(self._leave, error)
        except ClientClosedError:
            if error is not None:
                return False
            raise
        except BaseException as raised:
            if raised is error:
                return False
            raise
        return error is not None

    async def _enter(self) -> _T:
        loop = asyncio.get_running_loop()
        self._entered, self._left = loop.create_future(), loop.create_future()
        self._task = loop.create_task(self._stay())
        try:
            waited: list[asyncio.Future[Any]] = [self._entered, self._task]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if not self._entered.done():
            await self._task
        return self._entered.result()

    async def _stay(self) -> None:
        async with self._make() as entered:
            self._entered.set_result(entered)
            while not self._left.done():
                try:
                    await asyncio.wait([self._left])
                except asyncio.CancelledError:
                    if self._portal.is_ending:
                        raise
                    self._scope.cancel()
            error = self._left.result()
            if error is not None:
                raise error

    async def _leave(self, error: BaseException | None) -> None:
        self._left.set_result(error)
        await self._task


class _Closing:
    """The end of a client that nobody has closed."""

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    async def run(self) -> None:
        try:
            await self._client.close()
        finally:
            self._loop.stop()


class _Steps:
    """An asynchronous iterator, one step at a time: an interrupted step ends before the iterator is closed."""

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self._source = source
        self._turn = asyncio.Lock()

    async def next(self) -> Any:
        async with self._turn:
            return await anext(self._source)

    async def close(self) -> None:
        async with self._turn:
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()


async def _undo(entering: LoopCall, manager: AbstractAsyncContextManager[Any]) -> None:
    """Leave what has been entered though nobody waited for it any more."""
    if entering.future is None:
        return
    await asyncio.wait([entering.future])
    if entering.error is None:
        await manager.__aexit__(None, None, None)


_tasks: set[asyncio.Future[None]] = set()


def _start(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    task = asyncio.ensure_future(function())
    # A loop refers to its tasks only weakly.
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where there is one: a call takes half the time."""
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop()
    return uvloop.new_event_loop()


def _serve(loop: asyncio.AbstractEventLoop, life: _Life) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(_end_tasks())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        life.over.set()
        with contextlib.suppress(KeyError):
            while True:
                life.calls.pop().refuse()
        asyncio.set_event_loop(None)
        loop.close()


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_portals: weakref.WeakSet[Portal] = weakref.WeakSet()


def _abandon_all() -> None:
    for portal in tuple(_portals):
        portal.abandon_at_exit()


def _leave_all_to_parent() -> None:
    for portal in tuple(_portals):
        portal.leave_to_parent()


atexit.register(_abandon_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all_to_parent)
