"""Queues of small messages: first in, first out, or by priority. Each item goes to one taker, at most once.

The znodes, below the queue's path (``entries`` as kazoo's Queue has them, so that it can put and take there as well)::

    entries/entry-PPP-NNNNNNNNNN    an item: its data, with the priority and the number in its name
    receipts/receipt-...            what makes putting and taking exact; ephemeral
    waiting/...-waiting-NNNNNNNNNN  takers in line; ephemeral
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from corral.client import ClientClosedError, KeeperError, Znode
from corral.client.errors import BadVersionError, NoNodeError, RequestTooLargeError, TransactionError
from corral.recipes.endurance import endure
from corral.recipes.entries import PREFIX, Entries
from corral.recipes.receipts import Receipts
from corral.recipes.waiting_line import WaitingLine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from corral.client import Client, Transaction

_T = TypeVar("_T")

DEFAULT_PRIORITY: Final = 100
PRIORITY_MAX: Final = 999
_READ_AHEAD: Final = 64
"""Items read at once, at most ..."""
_READ_AHEAD_BYTES: Final = 256 * 1024
"""... and how much that may be, if the next ones are about as large as the last one."""
_OPERATION_BYTES: Final = 128
"""What an item costs in a request beside its path and its data, rounded up."""


class BaseQueue(ABC, Generic[_T]):
    """What all queues have in common: putting, and waiting for an item. ``_T`` is what taking returns."""

    def __init__(self, zk: Client, path: str, *, claims: str | None = None, random: Random | None = None) -> None:
        zk.key(path)
        self._zk = zk
        self.path = path.rstrip("/")
        self._entries = Entries(
            zk,
            f"{self.path}/entries",
            random if random is not None else Random(),
            claims=f"{self.path}/{claims}" if claims is not None else None,
        )
        self._receipts = Receipts(zk, f"{self.path}/receipts")
        self._line = WaitingLine(zk, f"{self.path}/waiting")
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    async def close(self) -> None:
        """Clean up behind this object; the queue and its items stay. Without it, the end of the session does so."""
        await self._entries.close()
        await self._receipts.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def size(self) -> int:
        """How many items there are, as the client's server knows; with those that are being processed."""
        stat = await endure(self._zk, lambda: self._zk.exists(self._entries.path))
        return stat.num_children if stat is not None else 0

    # Putting

    async def _put(self, items: Iterable[bytes], prefix: str) -> None:
        """Put all in one transaction, in their order."""
        path = f"{self._entries.path}/{prefix}"
        data = list(items)
        self._check_size(path, data)

        def fill(transaction: Transaction) -> None:
            for each in data:
                transaction.create(path, each, sequential=True)

        while data:
            try:
                await self._receipts.commit(fill)
            except TransactionError as error:
                if not isinstance(error.__cause__, NoNodeError):
                    raise error.__cause__ or error from None
                await endure(self._zk, lambda: self._zk.ensure(self._entries.path))
            else:
                return

    def _check_size(self, path: str, items: Sequence[bytes]) -> None:
        for each in items:
            if not isinstance(each, (bytes, bytearray, memoryview)):
                raise TypeError(f"{self.path}: an item is bytes, not {type(each).__name__}")
        limit = self._zk.settings.max_request_bytes
        fixed = len(self._zk.key(f"{self._entries.path}/{PREFIX}")) + _OPERATION_BYTES
        needed = fixed + sum(fixed + len(each) for each in items)
        if needed > limit:
            what = f"an item of {len(items[0])} bytes" if len(items) == 1 else f"{len(items)} items at once"
            raise RequestTooLargeError(
                f"{self.path}: {what} would make a request of {needed} bytes; servers accept {limit} unless "
                "jute.maxbuffer and max_request_bytes say more"
            )

    # Taking

    async def _wait_for(self, attempt: Callable[[], Awaitable[_T | None]]) -> _T:
        """Call ``attempt`` until it finds something, each time that there may be something new."""
        found = await attempt()
        if found is not None:
            return found
        try:
            # Of the tasks of this process, one waits in line; the others wait for that one.
            async with self._turn, self._line.waiting():
                while True:
                    changed = self._entries.changed.next
                    found = await attempt()
                    if found is not None:
                        return found
                    await self._entries.renew_if_worn()
                    await self._sleep_until(changed)
        except BaseException:
            if found is not None:
                await self._undo(found)
            raise

    @abstractmethod
    async def _undo(self, found: _T) -> None:
        """Give back what was found: nobody wants it any more."""

    async def _sleep_until(self, changed: asyncio.Event) -> None:
        await changed.wait()

    @asynccontextmanager
    async def _picked(self, count: int, before: str | None = None) -> AsyncIterator[list[str]]:
        """The next names; those that the block leaves in the list go back into the window if it fails."""
        names = self._entries.pick(count, before)
        try:
            yield names
        except BaseException:
            self._entries.give_back(names)
            raise


class TakingQueue(BaseQueue[list[tuple[str, Znode]]]):
    """A queue whose items are deleted when they are taken."""

    def __init__(self, zk: Client, path: str, *, random: Random | None = None) -> None:
        """Prepare it; nothing is sent. ``random`` is for takers that get in each other's way."""
        super().__init__(zk, path, random=random)
        self._read_before: dict[str, Znode] = {}
        self._last_bytes = _READ_AHEAD_BYTES
        self._is_reading_ahead = False

    async def take(self) -> bytes:
        """The next item; waits for one.

        An item that is taken is deleted in the same transaction that makes sure who has taken it, so that a lost
        connection neither loses nor doubles it. Cancelled, this puts an item back, at its place, if it has been taken
        by then (which waits for the connection, if it is lost).

        Raises:
            ConnectionLoss: the session has ended at the moment of taking, and nobody knows whether an item was taken.
                If it was, it is lost: this queue delivers at most once.
        """
        return _data(await self._wait_for(lambda: self._try(1)))[0]

    async def take_now(self) -> bytes | None:
        """The next item, or None if there is none, as far as the client's server knows. Raises as :meth:`take`."""
        found = await self._try(1)
        return _data(found)[0] if found is not None else None

    async def take_many(self, at_most: int) -> list[bytes]:
        """Up to so many items, in one transaction; waits for the first. Raises as :meth:`take`."""
        if at_most < 1:
            raise ValueError(f"at_most={at_most!r} is not positive")
        return _data(await self._wait_for(lambda: self._try(at_most)))

    async def _try(self, at_most: int) -> list[tuple[str, Znode]] | None:
        while True:
            await self._entries.refresh()
            async with self._picked(at_most, self._bound()) as names:
                if not names:
                    return None
                taken = await self._remove(await self._read(names))
                if taken:
                    return taken

    def _bound(self) -> str | None:
        """Only names that sort before it may be taken now; None for all."""
        return None

    async def _read(self, names: list[str]) -> list[tuple[str, Znode]]:
        """The items of those names that are still there; reads some more that come next."""
        missing = [name for name in names if name not in self._read_before]
        if missing and len(names) == 1 and not self._is_reading_ahead:
            count = min(_READ_AHEAD, _READ_AHEAD_BYTES // (self._last_bytes + 1))
            self._is_reading_ahead = True
            try:
                # Instead of all that was read before: some of it others may have taken.
                self._read_before = await endure(self._zk, lambda: self._get(missing + self._entries.upcoming(count)))
            finally:
                self._is_reading_ahead = False
        elif missing:
            # Meanwhile another task may have put another dictionary in its place.
            read = await endure(self._zk, lambda: self._get(missing))
            self._read_before.update(read)
        found = [(name, self._read_before.pop(name)) for name in names if name in self._read_before]
        if found:
            self._last_bytes = len(found[-1][1].data)
        else:
            self._entries.collided()
        return found

    async def _get(self, names: list[str]) -> dict[str, Znode]:
        results = await asyncio.gather(
            *[self._zk.get(f"{self._entries.path}/{name}") for name in names], return_exceptions=True
        )
        found = {}
        for name, result in zip(names, results, strict=True):
            if isinstance(result, Znode):
                found[name] = result
            elif not isinstance(result, NoNodeError):
                raise result
        return found

    async def _remove(self, items: list[tuple[str, Znode]]) -> list[tuple[str, Znode]]:
        """Take those that nobody else takes."""

        def fill(transaction: Transaction) -> None:
            for name, znode in items:
                transaction.delete(f"{self._entries.path}/{name}", version=znode.stat.version)

        while items:
            removal = asyncio.ensure_future(self._receipts.commit(fill))
            try:
                await asyncio.shield(removal)
            except asyncio.CancelledError:
                with suppress(KeeperError, ClientClosedError):
                    await removal
                    await self._undo(items)
                raise
            except TransactionError as error:
                name, _ = items.pop(error.index)
                if isinstance(error.__cause__, NoNodeError):
                    self._entries.collided()
                elif isinstance(error.__cause__, BadVersionError):
                    # Somebody has changed it: read it again.
                    self._entries.give_back([name])
                else:
                    raise error.__cause__ or error from None
            else:
                self._entries.succeeded()
                break
        return items

    async def _undo(self, found: list[tuple[str, Znode]]) -> None:
        def fill(transaction: Transaction) -> None:
            for name, znode in found:
                transaction.create(f"{self._entries.path}/{name}", znode.data)

        with suppress(KeeperError, ClientClosedError):
            await self._receipts.commit(fill)


class Queue(TakingQueue):
    """First in, first out::

        queue = corral.recipes.Queue(zk, "/jobs")
        await queue.put(b"resize 17.png")
        item = await queue.take()

    One taker gets the items in the order in which they were put. Several takers that get in each other's way take
    from among the first few: as many as it needs for each to find one of its own.

    A taker hears of every item that comes or goes from its first :meth:`take` on: an event for each, and no request.
    Close the queue to hear no more.
    """

    async def put(self, item: bytes) -> None:
        """Put one item, exactly once, whatever happens to connections.

        Cancelled, it may have been put or not.

        Raises:
            RequestTooLargeError: the item does not fit in a request; nothing was sent.
            ConnectionLoss: the session has ended just then: it may have been put or not.
            NoAuthError, QuotaExceededError: as the service answers; nothing was put.
        """
        await self._put([item], priority_prefix(DEFAULT_PRIORITY))

    async def put_many(self, items: Iterable[bytes]) -> None:
        """Put all or none, one behind the other. Raises as :meth:`put`; all must fit in one request."""
        await self._put(items, priority_prefix(DEFAULT_PRIORITY))


class PriorityQueue(TakingQueue):
    """The item with the smallest number goes first; among equals, the one that was put first.

    Otherwise it is as :class:`Queue`. An item that is put overtakes at once, as soon as takers have heard of it.
    """

    async def put(self, item: bytes, priority: int = DEFAULT_PRIORITY) -> None:
        """As :meth:`Queue.put`; ``priority`` is from 0, the most urgent, to 999. Raises ValueError for another one."""
        await self._put([item], priority_prefix(priority))

    async def put_many(self, items: Iterable[bytes], priority: int = DEFAULT_PRIORITY) -> None:
        """Put all or none, with the same priority. Raises as :meth:`put`; all must fit in one request."""
        await self._put(items, priority_prefix(priority))


def _data(items: list[tuple[str, Znode]]) -> list[bytes]:
    return [znode.data for _, znode in items]


def priority_prefix(priority: int) -> str:
    """How the name of an item begins. Raises TypeError and ValueError."""
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise TypeError(f"a priority is an int, not {priority!r}")
    if not 0 <= priority <= PRIORITY_MAX:
        raise ValueError(f"priority {priority} is not between 0 and {PRIORITY_MAX}")
    return f"{PREFIX}{priority:03d}-"
