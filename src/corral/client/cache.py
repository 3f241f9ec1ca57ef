"""A subtree kept in memory, as new as the connection allows."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING
from weakref import WeakSet

from corral.client.errors import ClientClosedError
from corral.client.subtree import Change, ChangeKind, SubtreeReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType
    from typing import Self

    from corral.client.client import Client
    from corral.client.results import Znode


class Cache:
    """The znodes of a subtree by their paths, read at memory speed.

        async with zk.cache("/services") as cache:
            for name in cache.children("/services"):
                print(cache["/services/" + name].data)

    Entered, it holds the whole subtree. From then on it follows the service: each change in order, within the time
    that an event and a read take. While the connection is away it keeps what it has, and :attr:`is_current` is false;
    afterwards it reads again what has changed. :meth:`sync` waits for all that has been written before.
    """

    def __init__(self, client: Client, path: str) -> None:
        self._client = client
        self._znodes: dict[str, Znode] = {}
        self._reader = SubtreeReader(client, path, self._take, self._end_iterators)
        self._callbacks: list[Callable[[Change], object]] = []
        self._iterators: WeakSet[_Changes] = WeakSet()

    def __repr__(self) -> str:
        state = "current" if self.is_current else "not current"
        return f"<Cache {self.path}, {len(self)} znodes, {state}>"

    # Life

    @property
    def path(self) -> str:
        """The top of the subtree."""
        return self._reader.path

    async def start(self) -> Self:
        """Begin; ``async with`` does so by itself. Raises what reading the subtree raises; it need not exist."""
        await self._reader.start()
        return self

    async def close(self) -> None:
        """End it; what it holds can still be read."""
        await self._reader.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def is_current(self) -> bool:
        """Whether it is connected and has taken in everything it was told of."""
        return self._reader.is_settled

    async def sync(self) -> None:
        """Wait until it holds all that had been written, by anybody, when this was called."""
        await self._client.sync(self.path)
        await self._reader.settled()

    # Reading

    def get(self, path: str) -> Znode | None:
        """The znode, None if there is none."""
        return self._znodes.get(path)

    def __getitem__(self, path: str) -> Znode:
        return self._znodes[path]

    def __contains__(self, path: object) -> bool:
        return path in self._znodes

    def __len__(self) -> int:
        return len(self._znodes)

    def __iter__(self) -> Iterator[str]:
        """The paths, in no order."""
        return iter(self._znodes)

    def children(self, path: str) -> list[str]:
        """The names of a znode's children, sorted; empty for one that is not there."""
        return sorted(self._reader.children(path))

    def snapshot(self) -> dict[str, Znode]:
        """All znodes by path, as they are now."""
        return dict(self._znodes)

    # Changes

    def on_change(self, callback: Callable[[Change], object]) -> None:
        """Call ``callback`` with each change from now on, when the cache has it."""
        self._callbacks.append(callback)

    def off_change(self, callback: Callable[[Change], object]) -> None:
        """Do so no more."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def changes(self) -> AsyncIterator[Change]:
        """Each change from now on. Ends when the cache or the client is closed."""
        changes = _Changes()
        self._iterators.add(changes)
        if self._reader.is_over:
            changes.end(self._failure())
        return changes

    def _take(self, change: Change) -> None:
        if change.kind is not ChangeKind.RESYNCHRONISED:
            previous = self._znodes.get(change.path)
            if change.znode is None:
                del self._znodes[change.path]
            else:
                self._znodes[change.path] = change.znode
            change = change._replace(previous=previous)
        for callback in tuple(self._callbacks):
            try:
                callback(change)
            except Exception as error:
                message = {"message": f"callback of {self!r}", "exception": error}
                asyncio.get_running_loop().call_exception_handler(message)
        for changes in tuple(self._iterators):
            changes.put(change)

    def _end_iterators(self) -> None:
        for changes in tuple(self._iterators):
            changes.end(self._failure())

    def _failure(self) -> Exception | None:
        failure = self._reader.failure
        return failure if not isinstance(failure, ClientClosedError) else None


class _Changes:
    """One reader's queue."""

    def __init__(self) -> None:
        self._queue: deque[Change] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._is_over = False
        self._failure: Exception | None = None

    def put(self, change: Change) -> None:
        self._queue.append(change)
        self._wake()

    def end(self, failure: Exception | None) -> None:
        self._is_over, self._failure = True, failure
        self._wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        while not self._queue:
            if self._is_over:
                if self._failure is not None:
                    raise self._failure
                raise StopAsyncIteration
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        return self._queue.popleft()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
