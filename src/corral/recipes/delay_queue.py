"""A queue whose items may be taken only from some time on.

The znodes are those of :mod:`corral.recipes.queue`, with the time in place of the priority: milliseconds since the
epoch, 13 digits.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from corral.recipes.entries import PREFIX
from corral.recipes.queue import TakingQueue

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from corral.client import Client

_DUE_DIGITS: Final = 13
_DUE_MAX_MS: Final = 10**_DUE_DIGITS - 1
"""In the year 2286."""
_SLEEP_MAX_S: Final = 60.0
"""A clock may be set while one waits for it."""


class DelayQueue(TakingQueue):
    """Items become due after a delay; those that are due are taken in the order of their times.

    Times are by the clocks of those who put and take: keep the machines' clocks together. An item comes late when all
    takers are busy, and never early by the taker's clock.
    """

    def __init__(
        self, zk: Client, path: str, *, clock: Callable[[], float] = time.time, random: Random | None = None
    ) -> None:
        """Prepare it; nothing is sent. ``clock`` gives seconds since the epoch."""
        super().__init__(zk, path, random=random)
        self._clock = clock

    async def put(self, item: bytes, delay: float = 0.0) -> None:
        """As :meth:`Queue.put <corral.recipes.Queue.put>`, to be taken in ``delay`` seconds at the earliest.

        Raises ValueError for a negative delay.
        """
        if not 0 <= delay < math.inf:
            raise ValueError(f"a delay of {delay!r} s is no time to wait")
        await self.put_at(item, self._clock() + delay)

    async def put_at(self, item: bytes, due: float) -> None:
        """The same, to be taken at ``due``, in seconds since the epoch, at the earliest."""
        if not 0 <= due * 1000 <= _DUE_MAX_MS:
            raise ValueError(f"{due!r} is not between 0 and {_DUE_MAX_MS / 1000} seconds since the epoch")
        await self._put([item], f"{PREFIX}{math.ceil(due * 1000):0{_DUE_DIGITS}d}-")

    def _bound(self) -> str:
        return f"{PREFIX}{math.floor(self._clock() * 1000) + 1:0{_DUE_DIGITS}d}"

    async def _sleep_until(self, changed: asyncio.Event) -> None:
        first = self._entries.first
        if first is None:
            await changed.wait()
            return
        due_ms = int(first[len(PREFIX) : len(PREFIX) + _DUE_DIGITS])
        left = due_ms / 1000 - self._clock()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(max(left, 0.0), _SLEEP_MAX_S)):
                await changed.wait()
