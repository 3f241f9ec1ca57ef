"""A line in which takers of a queue wait, so that an item wakes one or two of them and not all.

Each waiter has an ephemeral sequential znode. Only the first :data:`AWAKE` of the line watch the queue; each of the
others watches the znode so many places before its own. A place is no right: it only says who looks.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from corral.recipes.endurance import create_own, endure, withdraw
from corral.recipes.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from corral.client import Client, Created

AWAKE: Final = 2
"""How many look at the queue: two, so that one which hangs while its session lives on does not stop the others."""


class WaitingLine:
    """The line of one queue, below a znode of its own."""

    def __init__(self, zk: Client, path: str) -> None:
        self._zk = zk
        self._path = path
        self._moved = Wakeup()

    def __repr__(self) -> str:
        return f"<WaitingLine {self._path}>"

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Get in line; the block begins when the turn has come, and leaving it leaves the line.

        A session that ends in the line means a new place at its end.
        """
        place = await self._join()
        try:
            while (ahead := await self._find_ahead(place)) != "":
                if ahead is None:
                    place = await self._join()
                    continue
                moved = self._moved.next
                if await self._watch(f"{self._path}/{ahead}"):
                    await moved.wait()
            yield
        finally:
            # Goes on if this is cancelled: what stays in line would stop others.
            await asyncio.shield(asyncio.ensure_future(withdraw(self._zk, place)))

    async def _join(self) -> Created:
        return await endure(self._zk, lambda: create_own(self._zk, f"{self._path}/waiting-", b""))

    async def _find_ahead(self, place: str) -> str | None:
        """The name of the place to wait for; empty if the turn has come, None if the own place is gone."""
        names = await endure(self._zk, lambda: self._zk.get_children(self._path))
        line = sorted(names, key=lambda name: (name[-10:], name))
        own = place.rpartition("/")[2]
        if own not in names:
            return None
        index = line.index(own)
        return line[index - AWAKE] if index >= AWAKE else ""

    async def _watch(self, path: str) -> bool:
        stat = await endure(self._zk, lambda: self._zk.exists(path, watch=self._moved.fire))
        return stat is not None
