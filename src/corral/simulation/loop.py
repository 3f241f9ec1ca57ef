"""Virtual time: one timeline for all, and on it an event loop for each process that is simulated.

Nothing waits for anything real. While something is ready it runs, in the order in which it became ready; then time
jumps to the next timer. A process that is killed takes its loop with it, one that is paused finds its work piled up.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from corral.simulation.network import Host

STEPS_PER_INSTANT_MAX: Final = 200_000
"""More steps than this without any time passing are a loop that never ends."""
MOMENT_S: Final = 1e-6
_UNWINDING_MAX: Final = 50
"""How often one coroutine may wait again while it is taken down."""


class LivelockError(Exception):
    """The simulated programs keep each other busy, and time stands still."""


class Timeline:
    """The order in which everything happens. ``now`` is in seconds since the simulation began."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self.running: Loop | None = None
        """Whose turn it is, or was last."""
        self._numbers = itertools.count()
        self._ready: deque[tuple[Loop | None, Any]] = deque()
        self._timers: list[tuple[float, int, Loop | None, Any]] = []

    def number(self) -> int:
        """Another number with each call: what is told apart by it comes in an order that can be repeated."""
        return next(self._numbers)

    def soon(self, loop: Loop | None, work: Any) -> None:
        """Run a handle of a loop, or a plain call of nobody's, once what is ready now has run."""
        self._ready.append((loop, work))

    def at(self, when: float, call: Callable[[], object]) -> None:
        """Call at a time; nobody's loop runs meanwhile."""
        heapq.heappush(self._timers, (max(when, self.now), self.number(), None, call))

    def after(self, delay: float, call: Callable[[], object]) -> None:
        """Call in so many seconds."""
        self.at(self.now + delay, call)

    def set_timer(self, loop: Loop, when: float, handle: asyncio.TimerHandle) -> None:
        """Run a handle of a loop at a time. It is never at once: a program that looks at the clock takes a moment."""
        heapq.heappush(self._timers, (max(when, self.now + MOMENT_S), self.number(), loop, handle))

    def run(self, until: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """Let happen what happens up to a time, or until it is over. Raises LivelockError."""
        try:
            self._run(until, is_over)
        finally:
            self.running = None
            asyncio._set_running_loop(None)

    def _run(self, until: float, is_over: Callable[[], bool]) -> None:
        ready, timers = self._ready, self._timers
        steps_here = 0
        while not is_over():
            while ready:
                loop, work = ready.popleft()
                steps_here += 1
                if loop is None:
                    work()
                else:
                    loop.run_handle(work)
                if steps_here > STEPS_PER_INSTANT_MAX:
                    raise LivelockError(f"{steps_here} steps at {self.now:.6f} s: {work!r}")
            if not timers or timers[0][0] > until:
                break
            if timers[0][0] > self.now:
                self.now = timers[0][0]
                self.steps += steps_here
                steps_here = 0
            while timers and timers[0][0] <= self.now:
                _, _, loop, work = heapq.heappop(timers)
                if loop is None or not work._cancelled:
                    ready.append((loop, work))
        else:
            return
        self.now = max(self.now, until)


class Task(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where in memory it lies."""

    def __init__(self, number: int, work: Coroutine[Any, Any, Any], **options: Any) -> None:
        self._number = number
        super().__init__(work, **options)

    def __hash__(self) -> int:
        return self._number


class Future(asyncio.Future[Any]):
    """A future of which the same is true."""

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class Loop(asyncio.BaseEventLoop):
    """The event loop of one simulated process. ``failed`` is told what nobody caught, ``stepped`` of each step."""

    def __init__(
        self,
        timeline: Timeline,
        host: Host,
        failed: Callable[[str, BaseException | None], None],
        stepped: Callable[[], None] | None = None,
        rate: float = 1.0,
    ) -> None:
        """``rate`` is how many seconds its clock counts in one of the timeline's."""
        self.timeline = timeline
        self.host = host
        self.is_dead = False
        super().__init__()
        self._failed = failed
        self._stepped = stepped
        self._rate = rate
        self._is_paused = False
        self._backlog: deque[asyncio.Handle] = deque()
        self._tasks: dict[Task, None] = {}

    def __repr__(self) -> str:
        return f"<Loop of {self.host.name}{' (dead)' if self.is_dead else ''}>"

    def time(self) -> float:
        """The timeline's time, as its clock counts it."""
        return self.timeline.now * self._rate

    def is_running(self) -> bool:
        """Whether its process lives."""
        return not self.is_dead

    def get_debug(self) -> bool:
        """Never."""
        return False

    # Calls

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """See the base class. A dead process is asked in vain."""
        handle = asyncio.Handle(callback, args, self, context)
        if not self.is_dead:
            self.timeline.soon(self, handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See the base class."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See the base class."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.is_dead:
            self.timeline.set_timer(self, when / self._rate, handle)
        return handle

    def run_handle(self, handle: asyncio.Handle) -> None:
        """The timeline has come to this call."""
        if self._is_paused:
            self._backlog.append(handle)
        elif not self.is_dead and not handle._cancelled:
            timeline = self.timeline
            if timeline.running is not self:
                timeline.running = self
                asyncio._set_running_loop(self)
            handle._run()
            if self._stepped is not None and not self.is_dead:
                self._stepped()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An error that nobody caught."""
        if not self.is_dead:
            self._failed(str(context.get("message", "")), context.get("exception"))

    # Tasks

    def create_future(self) -> asyncio.Future[Any]:
        """See the base class."""
        return Future(self.timeline.number(), self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: object = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """See the base class."""
        task = Task(self.timeline.number(), coro, loop=self, name=None if name is None else str(name), context=context)
        if self.is_dead:
            self._take_down(task)
        else:
            self._tasks[task] = None
            task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)  # type: ignore[call-overload]

    @property
    def running_tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that are not over."""
        return [task for task in self._tasks if not task.done()]

    # Life

    def pause(self) -> None:
        """The process gets no time any more."""
        self._is_paused = True

    def resume(self) -> None:
        """It goes on, with what has piled up."""
        self._is_paused = False
        backlog, self._backlog = self._backlog, deque()
        for handle in backlog:
            self.timeline.soon(self, handle)

    def kill(self) -> None:
        """Nothing of it runs any more. What its coroutines would do at their end finds a dead machine."""
        if self.is_dead:
            return
        self.is_dead = True
        self._backlog.clear()
        before = self.timeline.running
        asyncio._set_running_loop(self)
        try:
            while self._tasks:
                task, _ = self._tasks.popitem()
                self._take_down(task)
        finally:
            asyncio._set_running_loop(before)
        self.close()

    def _take_down(self, task: asyncio.Task[Any]) -> None:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine = task.get_coro()
        assert coroutine is not None
        for _ in range(_UNWINDING_MAX):
            try:
                coroutine.close()
            except (RuntimeError, ValueError):
                # It waits once more, or it is the one that is running.
                continue
            except BaseException:
                return
            return

    def close(self) -> None:
        """See the base class."""
        with contextlib.suppress(RuntimeError):
            super().close()

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> Any:
        """There are no threads here: raises RuntimeError."""
        raise RuntimeError(f"{self!r} has no threads, but {func!r} asks for one")

    # The network

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """See the base class; TLS is not simulated."""
        assert options.get("ssl") is None
        return await self.host.connect(protocol_factory, host, port)

    async def create_server(
        self, protocol_factory: Any, host: Any = None, port: Any = None, *, sock: Any = None, **options: Any
    ) -> Any:
        """See the base class."""
        listener = sock if sock is not None else self.host.bind(port)
        listener.serve(protocol_factory)
        return listener

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """Names stand for themselves."""
        return [(2, 1, 6, "", (host, port))]
