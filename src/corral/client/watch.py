"""Watches that stay, as an async iterator or with a callback."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from corral.client.states import State
from corral.client.watches import EventKind, Lasting, WatchEvent

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from corral.client.client import Client

QUEUED_MAX: Final = 65_536
"""Events that wait for a slow reader. Beyond that they are thrown away, and the reader is told so by one MISSED."""


class Watch:
    """Every event of a znode, or of a whole subtree, from the start to the close.

        async with zk.watch("/services", recursive=True) as events:
            async for event in events:
                ...

    ``async for event in zk.watch(path)`` starts it by itself; it then ends with the client. A connection that breaks
    loses events: a :attr:`~corral.client.EventKind.MISSED` is put in their place. Who needs every state rather than
    every event uses :meth:`Client.follow` or :meth:`Client.cache`, which read again what has changed.
    """

    def __init__(
        self, client: Client, path: str, table: Lasting, callback: Callable[[WatchEvent], object] | None
    ) -> None:
        self._client = client
        self.path = path
        self._table = table
        self._callback = callback
        self._events: deque[WatchEvent] = deque()
        self._arrived = asyncio.Event()
        self._key = client.key(path).decode()
        self._start_lock = asyncio.Lock()
        self._is_set = False
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "set" if self._is_set else "not set yet"
        return f"<Watch {self._table.name.lower()} {self.path}, {state}, {len(self._events)} events wait>"

    async def start(self) -> Self:
        """Set it; when this returns, no later change is missed while the connection lives.

        Raises ConnectionLoss or SessionExpired when there is no connection in time; cancelled or failed, it is not set,
        and can be started again.
        """
        async with self._start_lock:
            if self._is_closed:
                raise RuntimeError("the watch is closed; make another one")
            if self._is_set:
                return self
            try:
                await self._client.add_watch(self.path, self._take, recursive=self._table is Lasting.RECURSIVE)
            except BaseException:
                self._client.forget_watch(self._key, self.path, self._table, self._take)
                raise
            if self._is_closed:
                raise RuntimeError("the watch was closed while it was set")
            self._is_set = True
            self._client.on_state(self._follow_state)
        return self

    async def close(self) -> None:
        """End it, also on the server if nobody else watches the same."""
        if self._is_closed:
            return
        self._end()
        await self._client.drop_watch(self._key, self.path, self._table, self._take)

    def _end(self) -> None:
        self._is_closed = True
        self._arrived.set()
        self._client.off_state(self._follow_state)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        if self._callback is not None:
            raise RuntimeError("the events of this watch go to its callback")
        return self

    async def __anext__(self) -> WatchEvent:
        if not self._is_set and not self._is_closed:
            await self.start()
        while not self._events:
            if self._is_closed or self._client.state is State.CLOSED:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._events.popleft()

    def _take(self, event: WatchEvent) -> object:
        if event.kind is EventKind.PERSISTENT_WATCH_REMOVED:
            self._end()
        if self._callback is not None:
            return self._callback(event)
        if len(self._events) >= QUEUED_MAX:
            self._events.clear()
            event = WatchEvent(EventKind.MISSED, self.path)
        self._events.append(event)
        self._arrived.set()
        return None

    def _follow_state(self, state: State) -> None:
        if state is State.CLOSED:
            self._arrived.set()
