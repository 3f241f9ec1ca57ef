"""A bell: one znode that everybody who listens hears, the newest message only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from corral.client import OPEN
from corral.client.errors import ClientClosedError, NodeExistsError, NoNodeError
from corral.recipes.endurance import endure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from corral.client import Acl, Client, Stat, Znode


class Notice(NamedTuple):
    """What a listener hears."""

    data: bytes
    zxid: int
    """Of the notification."""
    missed: int
    """How many notifications came between this one and the last that was heard; -1 if nobody knows: the znode was
    deleted meanwhile."""


async def notify(zk: Client, path: str, data: bytes = b"", *, acl: Sequence[Acl] = OPEN) -> None:
    """Let all listeners of ``path`` hear ``data``, which replaces what was there; ``acl`` is for the first.

    Rides out lost connections and sessions; then it may be heard twice. Cancelled, it may be heard or not.
    """

    async def attempt() -> None:
        while True:
            try:
                await zk.set(path, data)
            except NoNodeError:
                try:
                    await zk.create(path, data, acl=acl, parents=True)
                except NodeExistsError:
                    continue
            return

    await endure(zk, attempt)


class Listener:
    """Hears notifications, over lost connections and sessions::

        async with Listener(zk, "/bells/reload") as listener:
            async for notice in listener:
                ...

    It begins with the first notification after its start. A listener that is slow, or away for a while, hears the
    newest one, and how many it missed. Who must have them all uses a :class:`~corral.recipes.pubsub.Topic`.
    """

    def __init__(self, zk: Client, path: str) -> None:
        self._zk = zk
        self.path = path
        self._stirred = asyncio.Event()
        self._watch = zk.watch(path, callback=self._stir)
        self._last: Stat | None = None
        """Of what was heard last, or was there at the start."""
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Listener {self.path}>"

    async def start(self) -> Self:
        """Begin to listen; ``async with`` does so by itself. Raises NoAuthError."""
        await endure(self._zk, self._watch.start)
        self._zk.on_state(self._stir)
        try:
            znode = await self._read()
        except BaseException:
            await self.close()
            raise
        self._last = znode.stat if znode is not None else None
        return self

    async def close(self) -> None:
        """Listen no more; whoever waits for the next notice gets none."""
        self._is_closed = True
        self._zk.off_state(self._stir)
        self._stirred.set()
        await self._watch.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notice:
        while not self._is_closed:
            self._stirred.clear()
            try:
                znode = await self._read()
            except ClientClosedError:
                break
            if znode is not None and (self._last is None or znode.stat.mzxid != self._last.mzxid):
                notice = Notice(znode.data, znode.stat.mzxid, self._missed(znode.stat))
                self._last = znode.stat
                return notice
            await self._stirred.wait()
        raise StopAsyncIteration

    async def _read(self) -> Znode | None:
        try:
            return await endure(self._zk, lambda: self._zk.get(self.path))
        except NoNodeError:
            return None

    def _missed(self, stat: Stat) -> int:
        if self._last is None:
            return stat.version
        return stat.version - self._last.version - 1 if stat.czxid == self._last.czxid else -1

    def _stir(self, _news: object) -> None:
        self._stirred.set()
