"""The next items of a queue: a local, sorted window on what may be 100,000 znodes.

Listing so many takes the service and the client tens of milliseconds. So they are listed once; from then on a
recursive watch tells which item has come or gone: an event for each, and no request. What is missed while there is no
connection is made up by listing again.
"""

from __future__ import annotations

import asyncio
import bisect
from collections import deque
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from corral.client import EventKind, KeeperError
from corral.client.errors import NoNodeError
from corral.recipes.endurance import endure
from corral.recipes.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from corral.client import Client, WatchEvent

PREFIX: Final = "entry-"
NUMBER_DIGITS: Final = 10
WINDOW_MIN: Final = 10_000
WINDOW_SHARE: Final = 10
"""A window holds the first WINDOW_MIN items or this part of all, whatever is more: memory is bounded, and a queue that
is worked off is listed some ten times and not more."""
_SPREAD_MAX: Final = 1024
_WORN_FROM: Final = 2**30
"""Half of the numbers that a parent has for its sequential children: at the end of them, the last one sticks."""


class Entries:
    """The names of the items that can be taken: those under ``path`` that have no namesake under ``claims``.

    Names of one queue sort as text.
    """

    def __init__(self, zk: Client, path: str, random: Random, *, claims: str | None) -> None:
        self._zk = zk
        self.path = path
        self._claims = claims
        self._random = random
        self._names: deque[str] = deque()
        self._end: str | None = None
        """The window ends before this name; None if it holds all there is."""
        self._is_current = False
        """Whether nothing has been missed since it was listed."""
        self._heard: list[Callable[[], None]] | None = None
        """What happens while it is being listed: to be done again on the result."""
        self._refreshing = asyncio.Lock()
        self._watches: AsyncExitStack | None = None
        self._is_worn = False
        """Whether numbers as large as _WORN_FROM have been seen."""
        self._spread = 1.0
        """Takers that get in each other's way take from among so many of the first."""
        self.changed = Wakeup()

    def __repr__(self) -> str:
        return f"<Entries {self.path}, {len(self._names)} in the window>"

    async def close(self) -> None:
        """Hear no more of what happens."""
        watches, self._watches = self._watches, None
        self._is_current = False
        if watches is not None:
            await watches.aclose()

    @property
    def first(self) -> str | None:
        """The name that is next, as far as is known."""
        return self._names[0] if self._names else None

    def upcoming(self, count: int) -> list[str]:
        """Names that follow, for reading ahead. None while other takers are about: it would be for them."""
        if self._spread > 1.0:
            return []
        return [self._names[index] for index in range(min(count, len(self._names)))]

    # Listing

    async def refresh(self) -> None:
        """List what there is, if need be."""
        async with self._refreshing:
            while not self._is_current or (not self._names and self._end is not None):
                await endure(self._zk, self._watch)
                self._is_current = True
                self._heard = []
                try:
                    await self._list()
                    for change in self._heard:
                        change()
                except BaseException:
                    self._is_current = False
                    raise
                finally:
                    self._heard = None

    async def _watch(self) -> None:
        if self._watches is not None:
            return
        async with AsyncExitStack() as watches:
            for path, hear in ((self.path, self._hear_of_item), (self._claims, self._hear_of_claim)):
                if path is not None:
                    await watches.enter_async_context(self._zk.watch(path, recursive=True, callback=hear))
            self._watches = watches.pop_all()

    async def _list(self) -> None:
        claimed = await self._names_under(self._claims) if self._claims is not None else ()
        names = sorted(set(await self._names_under(self.path)).difference(claimed))
        count = max(WINDOW_MIN, len(names) // WINDOW_SHARE)
        self._end = names[count] if count < len(names) else None
        self._names = deque(names[:count])

    async def _names_under(self, path: str) -> list[str]:
        while True:
            try:
                names = await endure(self._zk, lambda: self._zk.get_children(path))
            except NoNodeError:
                await endure(self._zk, lambda: self._zk.ensure(path))
                continue
            return [name for name in names if name.startswith(PREFIX)]

    async def renew_if_worn(self) -> None:
        """Let the numbers begin anew if half of them are used up and there is no item at this moment."""
        if not self._is_worn:
            return
        try:
            acl = (await self._zk.get_acl(self.path)).acl
            async with self._zk.transaction() as transaction:
                transaction.delete(self.path)
                transaction.create(self.path, acl=acl)
        except KeeperError:
            # Mostly because there are items; the next time, then.
            return
        self._is_worn = False

    # Taking names

    def pick(self, count: int, before: str | None = None) -> list[str]:
        """Take the next ``count`` names out of the window, only such as sort ``before`` that text."""
        names = self._names
        eligible = len(names) if before is None else bisect.bisect_left(names, before)
        if not eligible:
            return []
        # Only what has the same priority may overtake.
        alike = bisect.bisect_left(names, names[0][:-NUMBER_DIGITS] + ":")
        start = self._random.randrange(max(1, min(eligible, alike, int(self._spread))))
        picked = [names[index] for index in range(start, min(eligible, start + count))]
        for _ in picked:
            del names[start]
        self._is_worn = self._is_worn or int(picked[-1][-NUMBER_DIGITS:]) >= _WORN_FROM
        return picked

    def give_back(self, names: Iterable[str]) -> None:
        """Put names back at their place: they were not taken after all."""
        for name in names:
            self._add(name)

    def collided(self) -> None:
        """Somebody else was first: look further afield."""
        self._spread = min(self._spread * 2, _SPREAD_MAX)

    def succeeded(self) -> None:
        """Nobody was: return to the strict order by and by."""
        self._spread = max(self._spread * 0.9, 1.0)

    def _add(self, name: str) -> None:
        if self._end is None or name < self._end:
            index = bisect.bisect_left(self._names, name)
            if index == len(self._names) or self._names[index] != name:
                self._names.insert(index, name)
        self.changed.fire()

    def _drop(self, name: str) -> None:
        index = bisect.bisect_left(self._names, name)
        if index < len(self._names) and self._names[index] == name:
            del self._names[index]

    # Hearing of changes

    def _hear_of_item(self, event: WatchEvent) -> None:
        self._hear(event, EventKind.CREATED, EventKind.DELETED)

    def _hear_of_claim(self, event: WatchEvent) -> None:
        # An item whose claim goes can be taken; if it was deleted before its claim, the attempt to take it fails.
        self._hear(event, EventKind.DELETED, EventKind.CREATED)

    def _hear(self, event: WatchEvent, adds: EventKind, drops: EventKind) -> None:
        name = event.path.rpartition("/")[2]
        if event.kind is EventKind.MISSED:
            self._is_current = False
            self.changed.fire()
        elif name.startswith(PREFIX) and event.kind in (adds, drops):
            self._apply(self._add if event.kind is adds else self._drop, name)

    def _apply(self, change: Callable[[str], None], name: str) -> None:
        change(name)
        if self._heard is not None:
            self._heard.append(lambda: change(name))
