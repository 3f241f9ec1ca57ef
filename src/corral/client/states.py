"""What a client can be to its servers, and the session that it has with them."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_MASK_64: Final = (1 << 64) - 1


class State(Enum):
    """The way is CONNECTING, CONNECTED; then SUSPENDED and back, or SUSPENDED, LOST and CONNECTED anew; CLOSED."""

    CONNECTING = "connecting"
    """There has been no session yet."""
    CONNECTED = "connected"
    CONNECTED_READ_ONLY = "connected read-only"
    """To a server that has lost its ensemble: reads only, of a state that may be old."""
    SUSPENDED = "suspended"
    """No connection; the session may live on. What it owns may be lost at any moment."""
    LOST = "lost"
    """The session has ended: ephemeral znodes and one-shot watches are gone. A new session follows by itself."""
    CLOSED = "closed"

    @property
    def is_connected(self) -> bool:
        """Whether requests are answered."""
        return self in (State.CONNECTED, State.CONNECTED_READ_ONLY)


class Session:
    """One session, from its first connection to its end. A client that loses its session gets another one."""

    __slots__ = ("_ended", "id", "password", "read_only", "timeout")

    def __init__(self, session_id: int, password: bytes, timeout: float, *, read_only: bool) -> None:
        self.id = session_id
        """Signed, as on the wire and in ``Stat.ephemeral_owner``."""
        self.password = password
        self.timeout = timeout
        """As negotiated, in seconds."""
        self.read_only = read_only
        """Whether it has never been known to a server that takes writes."""
        self._ended = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Session {self} timeout={self.timeout:g}s {'ended' if self.has_ended else 'alive'}>"

    def __str__(self) -> str:
        return hex(self.id & _MASK_64)

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have expired, or has been closed."""
        return self._ended.is_set()

    async def ended(self) -> None:
        """Wait until it has expired or has been closed."""
        await self._ended.wait()

    def end(self) -> None:
        """Say that it has ended."""
        self._ended.set()


class StateFeed:
    """The current state, and every change of it to everybody who waits: none is missed, however short."""

    def __init__(self) -> None:
        self.state = State.CONNECTING
        self._waiting: dict[State, set[asyncio.Future[State]]] = {}
        self._queues: set[asyncio.Queue[State]] = set()
        self._untold: deque[State] = deque()
        self.listeners: list[Callable[[State], object]] = []
        """Called with each state as it is entered."""

    def change(self, state: State) -> None:
        """Enter ``state``; one that is left for itself is none."""
        if state is self.state:
            return
        self.state = state
        self._untold.append(state)
        if len(self._untold) > 1:
            # A listener has caused this change: everybody hears of the one before first.
            return
        while self._untold:
            try:
                self._tell(self._untold[0])
            finally:
                self._untold.popleft()

    def _tell(self, state: State) -> None:
        for listener in tuple(self.listeners):
            try:
                listener(state)
            except Exception as error:
                message = {"message": f"listener to state {state.name}", "exception": error}
                asyncio.get_running_loop().call_exception_handler(message)
        for queue in self._queues:
            queue.put_nowait(state)
        woken = self._waiting.pop(state, set())
        if state is State.CLOSED:
            # Nobody else will come.
            woken = woken.union(*self._waiting.values())
            self._waiting.clear()
        for future in woken:
            if not future.done():
                future.set_result(state)

    async def reached(self, *states: State) -> State:
        """The first of ``states`` that is entered, at once if it is the current one; CLOSED if that comes before."""
        if self.state in states or self.state is State.CLOSED:
            return self.state
        future: asyncio.Future[State] = asyncio.get_running_loop().create_future()
        for state in states:
            self._waiting.setdefault(state, set()).add(future)
        try:
            return await future
        finally:
            for state in states:
                self._waiting.get(state, set()).discard(future)

    async def changes(self) -> AsyncIterator[State]:
        """The current state, and then each one that is entered; ends with CLOSED."""
        queue: asyncio.Queue[State] = asyncio.Queue()
        self._queues.add(queue)
        try:
            state = self.state
            yield state
            while state is not State.CLOSED:
                state = await queue.get()
                yield state
        finally:
            self._queues.discard(queue)
