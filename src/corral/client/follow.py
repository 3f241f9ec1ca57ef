"""A watcher that loses nothing: the newest state of every znode of a subtree, in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from corral.client.errors import ClientClosedError
from corral.client.subtree import Change, ChangeKind, SubtreeReader

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from corral.client.client import Client


class Follower:
    """Every change of a subtree, over lost connections and sessions too; an async iterator of :class:`Change`.

        async with zk.follow("/services") as changes:
            async for change in changes:
                print(change.kind, change.path, change.znode)

    First comes a PUT for each znode that is there, then what changes. A reader that is slower than the changes gets
    the newest state of each znode, once. After a connection was lost, a RESYNCHRONISED comes before what has changed
    meanwhile: states in between may have been left out, but no znode's newest state is.

    It ends when it or the client is closed. Raises what makes it impossible to go on.
    """

    def __init__(self, client: Client, path: str) -> None:
        self._reader = SubtreeReader(client, path, self._take, self._wake)
        self._changes: dict[str | None, Change] = {}
        self._arrival: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Follower {self.path}, {len(self._changes)} changes wait>"

    @property
    def path(self) -> str:
        """The top of the subtree."""
        return self._reader.path

    async def start(self) -> Self:
        """Begin; ``async with`` does so by itself."""
        await self._reader.start()
        return self

    async def close(self) -> None:
        """End it."""
        await self._reader.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        while not self._changes:
            if self._reader.failure is not None and not isinstance(self._reader.failure, ClientClosedError):
                raise self._reader.failure
            if self._reader.is_over:
                raise StopAsyncIteration
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        return self._changes.pop(next(iter(self._changes)))

    def _take(self, change: Change) -> None:
        # RESYNCHRONISED is about no znode, so it has a place of its own.
        key = change.path if change.kind is not ChangeKind.RESYNCHRONISED else None
        waiting = self._changes.pop(key, None)
        if waiting is not None and waiting.kind is ChangeKind.PUT and change.kind is ChangeKind.UPDATE:
            # Nobody has been told yet that it is there.
            change = change._replace(kind=ChangeKind.PUT)
        self._changes[key] = change
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
