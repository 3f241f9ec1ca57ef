"""The blocking twins of :mod:`corral.recipes`.

Written by tools/blocking.py: change the original, not this.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, TypeVar

from corral.client import OPEN
from corral.recipes import CURATOR, OwnershipLostError
from corral.recipes.barrier import Barrier as AsyncBarrier
from corral.recipes.barrier import DoubleBarrier as AsyncDoubleBarrier
from corral.recipes.counter import AtomicBytes as AsyncAtomicBytes
from corral.recipes.counter import AtomicFloat as AsyncAtomicFloat
from corral.recipes.counter import AtomicValue as AsyncAtomicValue
from corral.recipes.counter import Change, Layout, Reading
from corral.recipes.counter import Counter as AsyncCounter
from corral.recipes.delay_queue import DelayQueue as AsyncDelayQueue
from corral.recipes.election import Election as AsyncElection
from corral.recipes.election import LeaderLatch as AsyncLeaderLatch
from corral.recipes.lock import Lock as AsyncLock
from corral.recipes.locking_queue import ClaimedItem as AsyncClaimedItem
from corral.recipes.locking_queue import LockingQueue as AsyncLockingQueue
from corral.recipes.ownership import Held as AsyncHeld
from corral.recipes.queue import DEFAULT_PRIORITY
from corral.recipes.queue import PriorityQueue as AsyncPriorityQueue
from corral.recipes.queue import Queue as AsyncQueue
from corral.recipes.queue_of_claims import KAZOO, Dialect
from corral.recipes.read_write_lock import ReadLock as AsyncReadLock
from corral.recipes.read_write_lock import ReadWriteLock as AsyncReadWriteLock
from corral.recipes.read_write_lock import WriteLock as AsyncWriteLock
from corral.recipes.semaphore import Semaphore as AsyncSemaphore
from corral.sync.client import Client, Session
from corral.sync.twin import Twin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from random import Random
    from types import TracebackType
    from typing import Self

    from corral.client import Acl, Created

_T = TypeVar("_T")

__all__ = [
    "CURATOR",
    "KAZOO",
    "AtomicBytes",
    "AtomicFloat",
    "AtomicValue",
    "Barrier",
    "Change",
    "ClaimedItem",
    "Counter",
    "DelayQueue",
    "Dialect",
    "DoubleBarrier",
    "Election",
    "Held",
    "Layout",
    "LeaderLatch",
    "Lock",
    "LockingQueue",
    "OwnershipLostError",
    "PriorityQueue",
    "Queue",
    "ReadLock",
    "ReadWriteLock",
    "Reading",
    "Semaphore",
    "WriteLock",
]


class Barrier(Twin[AsyncBarrier], of=AsyncBarrier):
    """Holds up whoever waits until somebody removes it."""

    def __init__(self, zk: Client, path: str) -> None:
        """Prepare it; nothing is sent."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncBarrier, zk._original, path))

    @property
    def path(self) -> str:
        return self._original.path

    def create(self) -> None:
        """Set it up, if it is not there yet. It stays when its maker ends."""
        self._portal.call(self._original.create)

    def remove(self) -> bool:
        """Take it away: all who wait go on. Returns whether it was there, or may have been as answers were lost."""
        return self._portal.call(self._original.remove)

    def wait(self) -> None:
        """Return when it is not there. It waits over lost connections and sessions, and leaves nothing behind."""
        self._portal.call(self._original.wait)


class DoubleBarrier(Twin[AsyncDoubleBarrier], of=AsyncDoubleBarrier):
    """Members begin together when enough have come, and end together when all are done::

        with corral.sync.recipes.DoubleBarrier(zk, "/barrier", 3):
            ...  # the others are here as well

    At one moment at least ``count`` members were in it: then it opens for all who had come before. Who comes later
    waits for the next round, which begins when all have left. One object takes part once at a time, and again as
    often as it likes.
    """

    def __init__(self, zk: Client, path: str, count: int, *, name: str = "") -> None:
        """Prepare it; nothing is sent. ``name`` stands in the member's znode, for people to read."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncDoubleBarrier, zk._original, path, count, name=name))

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def count(self) -> int:
        return self._original.count

    def __enter__(self) -> Self:
        self._portal.call(self._original.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def enter(self) -> None:
        """Come, and return when enough have come.

        Cancelled, or upon any error, it leaves again; if it has opened just then, the others have gone on.

        Raises SessionExpired if the session ends meanwhile. Lost connections are ridden out.
        """
        self._portal.call(self._original.enter)

    def leave(self) -> None:
        """Go, and return when all of the round have gone: left, or lost their sessions.

        It goes on over lost connections and sessions. Cancelled, it has gone, and does not wait for the others.
        """
        self._portal.call(self._original.leave)


class Held(Twin[AsyncHeld], of=AsyncHeld):
    """Something that is owned; returned by ``acquire()`` and by ``with``.

    It is also a context manager of its own: leaving the block releases it, and raises OwnershipLostError if it was
    lost meanwhile and the block did not fail by itself.
    """

    def __init__(self, client: Client, session: Session, znode: Created) -> None:
        portal = client._portal
        self._stand_for(portal, portal.run(AsyncHeld, client._original, session._original, znode))

    @property
    def client(self) -> Client:
        return Client._of(self._portal, self._original.client)

    @property
    def session(self) -> Session:
        return Session._of(self._portal, self._original.session)

    @property
    def path(self) -> str:
        """The claim. A transaction with ``check(held.path)`` is done only as long as it is owned."""
        return self._original.path

    @property
    def token(self) -> int:
        """The fencing number: larger than that of every owner before. Who is given it refuses smaller ones."""
        return self._original.token

    @property
    def is_held(self) -> bool:
        """Whether it is still owned, as far as is known: neither lost nor released."""
        return self._original.is_held

    @property
    def is_certain(self) -> bool:
        """Whether it is owned and there is a connection. Without one it may be lost at any moment."""
        return self._original.is_certain

    @property
    def is_lost(self) -> bool:
        """Whether it ended otherwise than by its release."""
        return self._original.is_lost

    def lost(self) -> None:
        """Return when it is lost; also when it is released, and then ``is_lost`` is false."""
        self._portal.call(self._original.lost)

    def on_lost(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` when it is lost; at once if it is already."""
        self._portal.run(self._original.on_lost, self._portal.callback(callback))

    def off_lost(self, callback: Callable[[], object]) -> None:
        """Do so no more."""
        self._portal.run(self._original.off_lost, self._portal.callback(callback))

    def check(self) -> None:
        """Raise OwnershipLostError unless it is held, as far as is known. Asks nobody."""
        self._portal.run(self._original.check)

    def release(self) -> None:
        """Give it up. Returns when the claim is gone; again, or after it was lost, does nothing.

        While there is no connection this waits for one, at most until the session ends. Cancelled, it goes on in the
        background.
        """
        self._portal.leave(self._original.release)

    def __enter__(self) -> Self:
        self._portal.call(self._original.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def cancelling(self) -> AbstractContextManager[None]:
        """A block that is cancelled the moment this is lost: it then raises OwnershipLostError."""
        return self._portal.context(self._original.cancelling, lambda each: each)


class LeaderLatch(Twin[AsyncLeaderLatch], of=AsyncLeaderLatch):
    """Takes part in an election from start to close, and says whether it leads::

        with LeaderLatch(zk, "/services/billing/leader") as latch:
            latch.wait()
            while latch.is_leader:
                ...

    After a loss of the leadership it stands for election again. The arguments are those of
    :class:`~corral.sync.recipes.Lock`, with whose claims it competes; in CURATOR's dialect, those of its
    LeaderLatch.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        portal = client._portal
        self._stand_for(
            portal, portal.run(AsyncLeaderLatch, client._original, path, identifier, acl=acl, dialect=dialect)
        )

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def identifier(self) -> str:
        """Who it is, for others to see."""
        return self._original.identifier

    @property
    def is_leader(self) -> bool:
        """Whether it leads, as far as is known: false from the moment the leadership is lost."""
        return self._original.is_leader

    @property
    def is_certain(self) -> bool:
        """Whether it leads and there is a connection. Without one the leadership may be lost at any moment."""
        return self._original.is_certain

    @property
    def held(self) -> Held | None:
        """The leadership, with its fencing number; None while it does not lead."""
        return Held._of(self._portal, found) if (found := self._original.held) is not None else None

    def wait(self, *, timeout: float | None = None) -> Held:
        """Return the leadership when it leads. Raises TimeoutError, or whatever ended the participation."""
        return Held._of(self._portal, self._portal.call(self._original.wait, timeout=timeout))

    def on_change(self, callback: Callable[[bool], object]) -> None:
        """Call ``callback(True)`` when it becomes the leader, and ``callback(False)`` when it is so no more."""
        self._portal.run(self._original.on_change, self._portal.callback(callback))

    def off_change(self, callback: Callable[[bool], object]) -> None:
        """Do so no more."""
        self._portal.run(self._original.off_change, self._portal.callback(callback))

    def contenders(self) -> list[str]:
        """The identifiers of all who take part, the leader first."""
        return self._portal.call(self._original.contenders)

    def start(self) -> Self:
        """Stand for election, in the background; ``with`` does so by itself."""
        self._portal.call(self._original.start)
        return self

    def close(self) -> None:
        """Give up the leadership, or the place in the queue; returns when the claim is gone, or will be in a moment."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.call(self._original.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)


class ReadWriteLock(Twin[AsyncReadWriteLock], of=AsyncReadWriteLock):
    """A read-write lock on ``path``::

        lock = ReadWriteLock(zk, "/locks/report")
        with lock.read:
            ...
        with lock.write as held:
            ...
            lock.write.downgrade(held)      # go on as a reader

    ``read`` and ``write`` are used as :class:`~corral.sync.recipes.Lock` is, whose arguments this takes too. Who
    holds the one and waits for the other waits for itself: a reader cannot become a writer.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        portal = client._portal
        self._stand_for(
            portal, portal.run(AsyncReadWriteLock, client._original, path, identifier, acl=acl, dialect=dialect)
        )

    @property
    def read(self) -> ReadLock:
        return ReadLock._of(self._portal, self._original.read)

    @property
    def write(self) -> WriteLock:
        return WriteLock._of(self._portal, self._original.write)


class ClaimedItem(Held, of=AsyncClaimedItem):
    """An item while it is processed; leaving the block without an exception acknowledges it, otherwise returns it.

    As a :class:`~corral.sync.recipes.Held` it has a fencing number and tells of its loss: when the session ends,
    somebody else gets the item.
    """

    _original: AsyncClaimedItem

    def __init__(self, zk: Client, session: Session, claim: Created, entry: str, data: bytes) -> None:
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncClaimedItem, zk._original, session._original, claim, entry, data))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    @property
    def data(self) -> bytes:
        return self._original.data

    def ack(self) -> None:
        """Delete the item: it has been processed. Returns when it is gone.

        While there is no connection this waits for one, at most until the session ends. Cancelled, it goes on in the
        background.

        Raises OwnershipLostError when the session has ended: the item will be delivered again, unless the
        acknowledgement was just under way.
        """
        self._portal.call(self._original.ack)


class AtomicValue(Twin[AsyncAtomicValue[_T]], Generic[_T], of=AsyncAtomicValue):
    """A value that is changed by compare-and-set on the version of its znode.

    All changes are made exactly once over lost connections. If the session ends at the moment of a change they
    raise ConnectionLoss: it may have been made or not. So it is when one is cancelled.
    """

    def __init__(self, zk: Client, path: str, start: _T) -> None:
        """Prepare it; nothing is sent. The first change creates the znode; until then the value is ``start``."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncAtomicValue, zk._original, path, start))

    @property
    def path(self) -> str:
        return self._original.path

    def close(self) -> None:
        """Clean up behind this object; the value stays. Without it, the end of the session does so."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.call(self._original.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def get(self) -> Reading[_T]:
        """The value, as the client's server knows it. Raises ValueError if the data is no such value."""
        return self._portal.call(self._original.get)

    def set(self, value: _T) -> Change[_T]:
        """Replace it by ``value``, whatever it is; the result tells what it was."""
        return self._portal.call(self._original.set, value)

    def compare_and_set(self, expected: _T, value: _T) -> Change[_T] | None:
        """Replace it by ``value`` if it is ``expected``; None if it is not."""
        return self._portal.call(self._original.compare_and_set, expected, value)

    def update(self, function: Callable[[_T], _T]) -> Change[_T]:
        """Replace it by ``function`` of it.

        The function is called again with the newer value when somebody else is faster, so it should do nothing else.
        What it raises ends the update, with nothing changed.
        """
        return self._portal.call(self._original.update, function)


class Semaphore(Twin[AsyncSemaphore], of=AsyncSemaphore):
    """At most ``permits`` owners of ``path`` at a time::

        semaphore = Semaphore(zk, "/limits/imports", 3)
        with semaphore as held:
            ...

    One object can hold several permits, each got by an ``acquire()`` or ``hold()`` of its own. Permits are handed
    out in the order of arrival; ``try_acquire()`` also gives None while somebody else is just being served.

    Args:
        client: where the semaphore is.
        path: its znode; it is created if need be, with the number of permits as data, and stays.
        permits: how many there are. All must say the same.
        identifier: who this is, for others to see; the default is ``host:pid``.
        acl: of all znodes that are created.
        dialect: KAZOO to share the permits with kazoo's semaphores, CURATOR for InterProcessSemaphoreV2.

    ``acquire()`` and ``try_acquire()`` also raise ValueError if the semaphore has another number of permits.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        permits: int,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        portal = client._portal
        self._stand_for(
            portal, portal.run(AsyncSemaphore, client._original, path, permits, identifier, acl=acl, dialect=dialect)
        )

    @property
    def client(self) -> Client:
        return Client._of(self._portal, self._original.client)

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def identifier(self) -> str:
        """Who it is, for those who look into the queue."""
        return self._original.identifier

    @property
    def is_held(self) -> bool:
        """Whether what was last acquired through this object is still held."""
        return self._original.is_held

    def acquire(self, *, timeout: float | None = None) -> Held:
        """Wait until it is owned.

        It waits over lost connections and lost sessions too: without a ``timeout`` (in seconds) for ever. Cancelled or
        timed out, it leaves nothing behind: its claim is removed in the background, as soon as there is a connection.

        Raises:
            TimeoutError: it was not obtained in time.
            RuntimeError: this object already holds it, or waits for it.
            ClientClosedError: the client has been closed, or was never started.
            KeeperError: the service refuses the claim (NoAuthError, ...).
        """
        return Held._of(self._portal, self._portal.call(self._original.acquire, timeout=timeout))

    def try_acquire(self) -> Held | None:
        """Own it if nobody else is in the way; None otherwise. Raises as :meth:`acquire` does.

        While there is no connection it waits for one.
        """
        return (
            Held._of(self._portal, found)
            if (found := self._portal.call(self._original.try_acquire)) is not None
            else None
        )

    def hold(self, *, timeout: float | None = None, cancel_when_lost: bool = False) -> AbstractContextManager[Held]:
        """Acquire it for a ``with`` block.

        With ``cancel_when_lost`` the block is cancelled the moment it is lost. Otherwise it runs to its end, and looks
        itself (``held.is_held``, ``held.lost()``). Either way the block then raises OwnershipLostError.
        """
        return self._portal.context(
            lambda: self._original.hold(timeout=timeout, cancel_when_lost=cancel_when_lost),
            lambda each: Held._of(self._portal, each),
        )

    def __enter__(self) -> Held:
        return Held._of(self._portal, self._portal.call(self._original.__aenter__))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._portal.leave(self._original.__aexit__, kind, error, trace)

    @property
    def permits(self) -> int:
        return self._original.permits

    @property
    def dialect(self) -> Dialect:
        return self._original.dialect

    @property
    def queue_path(self) -> str:
        return self._original.queue_path

    @property
    def leases_path(self) -> str:
        return self._original.leases_path

    def agree(self) -> None:
        """Make sure that the znodes exist, and that all mean the same number of permits."""
        self._portal.call(self._original.agree)

    def holders(self) -> list[str]:
        """The identifiers of those who hold permits, in no order."""
        return self._portal.call(self._original.holders)


class AtomicBytes(AtomicValue[bytes], of=AsyncAtomicBytes):
    """Any data."""

    _original: AsyncAtomicBytes

    def __init__(self, zk: Client, path: str) -> None:
        """Prepare it; nothing is sent. It is empty until it is set."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncAtomicBytes, zk._original, path))


class AtomicFloat(AtomicValue[float], of=AsyncAtomicFloat):
    """A floating-point number, as kazoo's Counter of floats writes it."""

    _original: AsyncAtomicFloat

    def __init__(self, zk: Client, path: str, start: float = 0.0) -> None:
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncAtomicFloat, zk._original, path, start))

    def add(self, amount: float) -> Change[float]:
        """Add ``amount``, which may be negative."""
        return self._portal.call(self._original.add, amount)


class Counter(AtomicValue[int], of=AsyncCounter):
    """A whole number::

    counter = corral.sync.recipes.Counter(zk, "/visits")
    change = counter.add()
    print(change.before, change.after)
    """

    _original: AsyncCounter

    def __init__(self, zk: Client, path: str, start: int = 0, *, layout: Layout = Layout.DECIMAL) -> None:
        """Prepare it; nothing is sent. All that use the counter give the same ``layout``."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncCounter, zk._original, path, start, layout=layout))

    def add(self, amount: int = 1) -> Change[int]:
        """Add ``amount``, which may be negative. Raises ValueError if the result does not fit the layout."""
        return self._portal.call(self._original.add, amount)


class Election(Twin[AsyncElection], of=AsyncElection):
    """An election at ``path``, for a function that must run in one place only::

        def lead(held):
            ...                              # held.token is the fencing number

        Election(zk, "/services/billing/leader").run(lead)

    The arguments are those of :class:`~corral.sync.recipes.Lock`, as which it can also be used.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        portal = client._portal
        self._stand_for(portal, portal.run(AsyncElection, client._original, path, identifier, acl=acl, dialect=dialect))

    @property
    def client(self) -> Client:
        return Client._of(self._portal, self._original.client)

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def identifier(self) -> str:
        """Who it is, for those who look into the queue."""
        return self._original.identifier

    @property
    def is_held(self) -> bool:
        """Whether what was last acquired through this object is still held."""
        return self._original.is_held

    def acquire(self, *, timeout: float | None = None) -> Held:
        """Wait until it is owned.

        It waits over lost connections and lost sessions too: without a ``timeout`` (in seconds) for ever. Cancelled or
        timed out, it leaves nothing behind: its claim is removed in the background, as soon as there is a connection.

        Raises:
            TimeoutError: it was not obtained in time.
            RuntimeError: this object already holds it, or waits for it.
            ClientClosedError: the client has been closed, or was never started.
            KeeperError: the service refuses the claim (NoAuthError, ...).
        """
        return Held._of(self._portal, self._portal.call(self._original.acquire, timeout=timeout))

    def try_acquire(self) -> Held | None:
        """Own it if nobody else is in the way; None otherwise. Raises as :meth:`acquire` does.

        While there is no connection it waits for one.
        """
        return (
            Held._of(self._portal, found)
            if (found := self._portal.call(self._original.try_acquire)) is not None
            else None
        )

    def hold(self, *, timeout: float | None = None, cancel_when_lost: bool = False) -> AbstractContextManager[Held]:
        """Acquire it for a ``with`` block.

        With ``cancel_when_lost`` the block is cancelled the moment it is lost. Otherwise it runs to its end, and looks
        itself (``held.is_held``, ``held.lost()``). Either way the block then raises OwnershipLostError.
        """
        return self._portal.context(
            lambda: self._original.hold(timeout=timeout, cancel_when_lost=cancel_when_lost),
            lambda each: Held._of(self._portal, each),
        )

    def __enter__(self) -> Held:
        return Held._of(self._portal, self._portal.call(self._original.__aenter__))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._portal.leave(self._original.__aexit__, kind, error, trace)

    def contenders(self) -> list[str]:
        """The identifiers of all who hold it or wait for it, in the order of their claims."""
        return self._portal.call(self._original.contenders)

    def run(self, lead: Callable[[Held], _T]) -> _T:
        """Take part until ``lead(held)`` has been run to its end as the leader; returns what it returns.

        It is cancelled the moment the leadership is lost, and called anew after the next victory: it should then come
        to an end quickly, for another leader may be there. A lost connection is not yet a lost leadership:
        ``held.is_certain`` tells. What ``lead`` raises ends the participation. Cancelled, this cancels ``lead``.

        Raises RuntimeError if this object already takes part, and ClientClosedError when the client is closed.
        """
        return self._portal.call(self._original.run, self._portal.body(lead))

    def leader(self) -> str | None:
        """The identifier of the one that leads, or will as soon as it learns of it; None if nobody takes part."""
        return self._portal.call(self._original.leader)


class Lock(Twin[AsyncLock], of=AsyncLock):
    """An exclusive lock on ``path``::

        lock = Lock(zk, "/locks/orders")
        with lock as held:
            ...                              # held.token is the fencing number, held.lost() tells of the loss

    One object is one contender, and not re-entrant: acquiring it again while it is held raises RuntimeError. After
    it was lost, it can be acquired again.

    Args:
        client: where the lock is.
        path: the directory of the claims; it is created if need be, and stays.
        identifier: who this is, for others to see; the default is ``host:pid``.
        acl: of the claims, and of the directory if it is created.
        dialect: whose names the claims get. kazoo's locks and elections see those of KAZOO, Curator's
            InterProcessMutex those of CURATOR; this lock sees both, whatever its own.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        portal = client._portal
        self._stand_for(portal, portal.run(AsyncLock, client._original, path, identifier, acl=acl, dialect=dialect))

    @property
    def client(self) -> Client:
        return Client._of(self._portal, self._original.client)

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def identifier(self) -> str:
        """Who it is, for those who look into the queue."""
        return self._original.identifier

    @property
    def is_held(self) -> bool:
        """Whether what was last acquired through this object is still held."""
        return self._original.is_held

    def acquire(self, *, timeout: float | None = None) -> Held:
        """Wait until it is owned.

        It waits over lost connections and lost sessions too: without a ``timeout`` (in seconds) for ever. Cancelled or
        timed out, it leaves nothing behind: its claim is removed in the background, as soon as there is a connection.

        Raises:
            TimeoutError: it was not obtained in time.
            RuntimeError: this object already holds it, or waits for it.
            ClientClosedError: the client has been closed, or was never started.
            KeeperError: the service refuses the claim (NoAuthError, ...).
        """
        return Held._of(self._portal, self._portal.call(self._original.acquire, timeout=timeout))

    def try_acquire(self) -> Held | None:
        """Own it if nobody else is in the way; None otherwise. Raises as :meth:`acquire` does.

        While there is no connection it waits for one.
        """
        return (
            Held._of(self._portal, found)
            if (found := self._portal.call(self._original.try_acquire)) is not None
            else None
        )

    def hold(self, *, timeout: float | None = None, cancel_when_lost: bool = False) -> AbstractContextManager[Held]:
        """Acquire it for a ``with`` block.

        With ``cancel_when_lost`` the block is cancelled the moment it is lost. Otherwise it runs to its end, and looks
        itself (``held.is_held``, ``held.lost()``). Either way the block then raises OwnershipLostError.
        """
        return self._portal.context(
            lambda: self._original.hold(timeout=timeout, cancel_when_lost=cancel_when_lost),
            lambda each: Held._of(self._portal, each),
        )

    def __enter__(self) -> Held:
        return Held._of(self._portal, self._portal.call(self._original.__aenter__))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._portal.leave(self._original.__aexit__, kind, error, trace)

    def contenders(self) -> list[str]:
        """The identifiers of all who hold it or wait for it, in the order of their claims."""
        return self._portal.call(self._original.contenders)


class LockingQueue(Twin[AsyncLockingQueue], of=AsyncLockingQueue):
    """Each item is delivered until somebody has processed it::

        queue = corral.sync.recipes.LockingQueue(zk, "/jobs")
        with queue.take() as item:
            process(item.data)

    At least once: an item comes again when its taker dies, loses its session, or fails; so also when the session
    ends after the work and before the acknowledgement. Of two takers at most one has a session that lives; the
    other one's ``token`` is smaller.

    Items are taken in the order of priority, then of putting; one that comes again does so at its place. Takers
    that get in each other's way take from among the first few of the same priority.
    """

    def __init__(self, zk: Client, path: str, *, name: str | None = None, random: Random | None = None) -> None:
        """Prepare it; nothing is sent. ``name`` stands in the claims, for people to read."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncLockingQueue, zk._original, path, name=name, random=random))

    @property
    def path(self) -> str:
        return self._original.path

    def close(self) -> None:
        """Clean up behind this object; the queue and its items stay. Without it, the end of the session does so."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.call(self._original.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def size(self) -> int:
        """How many items there are, as the client's server knows; with those that are being processed."""
        return self._portal.call(self._original.size)

    def put(self, item: bytes, priority: int = DEFAULT_PRIORITY) -> None:
        """As :meth:`Queue.put <corral.sync.recipes.Queue.put>`; ``priority`` is from 0, the most urgent, to 999."""
        self._portal.call(self._original.put, item, priority)

    def put_many(self, items: Iterable[bytes], priority: int = DEFAULT_PRIORITY) -> None:
        """Put all or none, with the same priority. Raises as :meth:`put`; all must fit in one request."""
        self._portal.call(self._original.put_many, items, priority)

    def take(self) -> ClaimedItem:
        """Claim the next item that nobody processes; waits for one.

        It goes on over lost connections and sessions. Cancelled, it leaves no claim behind (which waits for the
        connection, if it is lost, at most until the session ends).
        """
        return ClaimedItem._of(self._portal, self._portal.call(self._original.take))

    def take_now(self) -> ClaimedItem | None:
        """The same, or None if there is no item to be had, as far as the client's server knows."""
        return (
            ClaimedItem._of(self._portal, found)
            if (found := self._portal.call(self._original.take_now)) is not None
            else None
        )


class ReadLock(Twin[AsyncReadLock], of=AsyncReadLock):
    """The reading side of a :class:`ReadWriteLock`: waits for the writers before it."""

    def __init__(
        self,
        client: Client,
        path: str,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        portal = client._portal
        self._stand_for(portal, portal.run(AsyncReadLock, client._original, path, identifier, acl=acl, dialect=dialect))

    @property
    def client(self) -> Client:
        return Client._of(self._portal, self._original.client)

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def identifier(self) -> str:
        """Who it is, for those who look into the queue."""
        return self._original.identifier

    @property
    def is_held(self) -> bool:
        """Whether what was last acquired through this object is still held."""
        return self._original.is_held

    def acquire(self, *, timeout: float | None = None) -> Held:
        """Wait until it is owned.

        It waits over lost connections and lost sessions too: without a ``timeout`` (in seconds) for ever. Cancelled or
        timed out, it leaves nothing behind: its claim is removed in the background, as soon as there is a connection.

        Raises:
            TimeoutError: it was not obtained in time.
            RuntimeError: this object already holds it, or waits for it.
            ClientClosedError: the client has been closed, or was never started.
            KeeperError: the service refuses the claim (NoAuthError, ...).
        """
        return Held._of(self._portal, self._portal.call(self._original.acquire, timeout=timeout))

    def try_acquire(self) -> Held | None:
        """Own it if nobody else is in the way; None otherwise. Raises as :meth:`acquire` does.

        While there is no connection it waits for one.
        """
        return (
            Held._of(self._portal, found)
            if (found := self._portal.call(self._original.try_acquire)) is not None
            else None
        )

    def hold(self, *, timeout: float | None = None, cancel_when_lost: bool = False) -> AbstractContextManager[Held]:
        """Acquire it for a ``with`` block.

        With ``cancel_when_lost`` the block is cancelled the moment it is lost. Otherwise it runs to its end, and looks
        itself (``held.is_held``, ``held.lost()``). Either way the block then raises OwnershipLostError.
        """
        return self._portal.context(
            lambda: self._original.hold(timeout=timeout, cancel_when_lost=cancel_when_lost),
            lambda each: Held._of(self._portal, each),
        )

    def __enter__(self) -> Held:
        return Held._of(self._portal, self._portal.call(self._original.__aenter__))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._portal.leave(self._original.__aexit__, kind, error, trace)

    def contenders(self) -> list[str]:
        """The identifiers of all who hold it or wait for it, in the order of their claims."""
        return self._portal.call(self._original.contenders)


class WriteLock(Twin[AsyncWriteLock], of=AsyncWriteLock):
    """The writing side of a :class:`ReadWriteLock`: waits for all before it."""

    def __init__(
        self,
        client: Client,
        path: str,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        portal = client._portal
        self._stand_for(
            portal, portal.run(AsyncWriteLock, client._original, path, identifier, acl=acl, dialect=dialect)
        )

    @property
    def client(self) -> Client:
        return Client._of(self._portal, self._original.client)

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def identifier(self) -> str:
        """Who it is, for those who look into the queue."""
        return self._original.identifier

    @property
    def is_held(self) -> bool:
        """Whether what was last acquired through this object is still held."""
        return self._original.is_held

    def acquire(self, *, timeout: float | None = None) -> Held:
        """Wait until it is owned.

        It waits over lost connections and lost sessions too: without a ``timeout`` (in seconds) for ever. Cancelled or
        timed out, it leaves nothing behind: its claim is removed in the background, as soon as there is a connection.

        Raises:
            TimeoutError: it was not obtained in time.
            RuntimeError: this object already holds it, or waits for it.
            ClientClosedError: the client has been closed, or was never started.
            KeeperError: the service refuses the claim (NoAuthError, ...).
        """
        return Held._of(self._portal, self._portal.call(self._original.acquire, timeout=timeout))

    def try_acquire(self) -> Held | None:
        """Own it if nobody else is in the way; None otherwise. Raises as :meth:`acquire` does.

        While there is no connection it waits for one.
        """
        return (
            Held._of(self._portal, found)
            if (found := self._portal.call(self._original.try_acquire)) is not None
            else None
        )

    def hold(self, *, timeout: float | None = None, cancel_when_lost: bool = False) -> AbstractContextManager[Held]:
        """Acquire it for a ``with`` block.

        With ``cancel_when_lost`` the block is cancelled the moment it is lost. Otherwise it runs to its end, and looks
        itself (``held.is_held``, ``held.lost()``). Either way the block then raises OwnershipLostError.
        """
        return self._portal.context(
            lambda: self._original.hold(timeout=timeout, cancel_when_lost=cancel_when_lost),
            lambda each: Held._of(self._portal, each),
        )

    def __enter__(self) -> Held:
        return Held._of(self._portal, self._portal.call(self._original.__aenter__))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._portal.leave(self._original.__aexit__, kind, error, trace)

    def contenders(self) -> list[str]:
        """The identifiers of all who hold it or wait for it, in the order of their claims."""
        return self._portal.call(self._original.contenders)

    def downgrade(self, held: Held) -> None:
        """Turn what is held for writing into a lock for reading, with no moment in between at which it is not held.

        It keeps its place in the queue, so no writer that waits comes in between, and its token. This object can then
        be acquired for writing again, by which it waits for that reader too.

        Raises:
            OwnershipLostError: it is not held any more.
            ValueError: it is not held through this object.
        """
        self._portal.call(self._original.downgrade, held._original)


class DelayQueue(Twin[AsyncDelayQueue], of=AsyncDelayQueue):
    """Items become due after a delay; those that are due are taken in the order of their times.

    Times are by the clocks of those who put and take: keep the machines' clocks together. An item comes late when
    all takers are busy, and never early by the taker's clock.
    """

    def __init__(
        self, zk: Client, path: str, *, clock: Callable[[], float] = time.time, random: Random | None = None
    ) -> None:
        """Prepare it; nothing is sent. ``clock`` gives seconds since the epoch."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncDelayQueue, zk._original, path, clock=clock, random=random))

    @property
    def path(self) -> str:
        return self._original.path

    def close(self) -> None:
        """Clean up behind this object; the queue and its items stay. Without it, the end of the session does so."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.call(self._original.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def size(self) -> int:
        """How many items there are, as the client's server knows; with those that are being processed."""
        return self._portal.call(self._original.size)

    def take(self) -> bytes:
        """The next item; waits for one.

        An item that is taken is deleted in the same transaction that makes sure who has taken it, so that a lost
        connection neither loses nor doubles it. Cancelled, this puts an item back, at its place, if it has been taken
        by then (which waits for the connection, if it is lost).

        Raises:
            ConnectionLoss: the session has ended at the moment of taking, and nobody knows whether an item was taken.
                If it was, it is lost: this queue delivers at most once.
        """
        return self._portal.call(self._original.take)

    def take_now(self) -> bytes | None:
        """The next item, or None if there is none, as far as the client's server knows. Raises as :meth:`take`."""
        return self._portal.call(self._original.take_now)

    def take_many(self, at_most: int) -> list[bytes]:
        """Up to so many items, in one transaction; waits for the first. Raises as :meth:`take`."""
        return self._portal.call(self._original.take_many, at_most)

    def put(self, item: bytes, delay: float = 0.0) -> None:
        """As :meth:`Queue.put <corral.sync.recipes.Queue.put>`, to be taken in ``delay`` seconds at the earliest.

        Raises ValueError for a negative delay.
        """
        self._portal.call(self._original.put, item, delay)

    def put_at(self, item: bytes, due: float) -> None:
        """The same, to be taken at ``due``, in seconds since the epoch, at the earliest."""
        self._portal.call(self._original.put_at, item, due)


class PriorityQueue(Twin[AsyncPriorityQueue], of=AsyncPriorityQueue):
    """The item with the smallest number goes first; among equals, the one that was put first.

    Otherwise it is as :class:`Queue`. An item that is put overtakes at once, as soon as takers have heard of it.
    """

    def __init__(self, zk: Client, path: str, *, random: Random | None = None) -> None:
        """Prepare it; nothing is sent. ``random`` is for takers that get in each other's way."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncPriorityQueue, zk._original, path, random=random))

    @property
    def path(self) -> str:
        return self._original.path

    def close(self) -> None:
        """Clean up behind this object; the queue and its items stay. Without it, the end of the session does so."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.call(self._original.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def size(self) -> int:
        """How many items there are, as the client's server knows; with those that are being processed."""
        return self._portal.call(self._original.size)

    def take(self) -> bytes:
        """The next item; waits for one.

        An item that is taken is deleted in the same transaction that makes sure who has taken it, so that a lost
        connection neither loses nor doubles it. Cancelled, this puts an item back, at its place, if it has been taken
        by then (which waits for the connection, if it is lost).

        Raises:
            ConnectionLoss: the session has ended at the moment of taking, and nobody knows whether an item was taken.
                If it was, it is lost: this queue delivers at most once.
        """
        return self._portal.call(self._original.take)

    def take_now(self) -> bytes | None:
        """The next item, or None if there is none, as far as the client's server knows. Raises as :meth:`take`."""
        return self._portal.call(self._original.take_now)

    def take_many(self, at_most: int) -> list[bytes]:
        """Up to so many items, in one transaction; waits for the first. Raises as :meth:`take`."""
        return self._portal.call(self._original.take_many, at_most)

    def put(self, item: bytes, priority: int = DEFAULT_PRIORITY) -> None:
        """As :meth:`Queue.put`; ``priority`` is from 0, the most urgent, to 999. Raises ValueError for another one."""
        self._portal.call(self._original.put, item, priority)

    def put_many(self, items: Iterable[bytes], priority: int = DEFAULT_PRIORITY) -> None:
        """Put all or none, with the same priority. Raises as :meth:`put`; all must fit in one request."""
        self._portal.call(self._original.put_many, items, priority)


class Queue(Twin[AsyncQueue], of=AsyncQueue):
    """First in, first out::

        queue = corral.sync.recipes.Queue(zk, "/jobs")
        queue.put(b"resize 17.png")
        item = queue.take()

    One taker gets the items in the order in which they were put. Several takers that get in each other's way take
    from among the first few: as many as it needs for each to find one of its own.

    A taker hears of every item that comes or goes from its first :meth:`take` on: an event for each, and no
    request. Close the queue to hear no more.
    """

    def __init__(self, zk: Client, path: str, *, random: Random | None = None) -> None:
        """Prepare it; nothing is sent. ``random`` is for takers that get in each other's way."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncQueue, zk._original, path, random=random))

    @property
    def path(self) -> str:
        return self._original.path

    def close(self) -> None:
        """Clean up behind this object; the queue and its items stay. Without it, the end of the session does so."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.call(self._original.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def size(self) -> int:
        """How many items there are, as the client's server knows; with those that are being processed."""
        return self._portal.call(self._original.size)

    def take(self) -> bytes:
        """The next item; waits for one.

        An item that is taken is deleted in the same transaction that makes sure who has taken it, so that a lost
        connection neither loses nor doubles it. Cancelled, this puts an item back, at its place, if it has been taken
        by then (which waits for the connection, if it is lost).

        Raises:
            ConnectionLoss: the session has ended at the moment of taking, and nobody knows whether an item was taken.
                If it was, it is lost: this queue delivers at most once.
        """
        return self._portal.call(self._original.take)

    def take_now(self) -> bytes | None:
        """The next item, or None if there is none, as far as the client's server knows. Raises as :meth:`take`."""
        return self._portal.call(self._original.take_now)

    def take_many(self, at_most: int) -> list[bytes]:
        """Up to so many items, in one transaction; waits for the first. Raises as :meth:`take`."""
        return self._portal.call(self._original.take_many, at_most)

    def put(self, item: bytes) -> None:
        """Put one item, exactly once, whatever happens to connections.

        Cancelled, it may have been put or not.

        Raises:
            RequestTooLargeError: the item does not fit in a request; nothing was sent.
            ConnectionLoss: the session has ended just then: it may have been put or not.
            NoAuthError, QuotaExceededError: as the service answers; nothing was put.
        """
        self._portal.call(self._original.put, item)

    def put_many(self, items: Iterable[bytes]) -> None:
        """Put all or none, one behind the other. Raises as :meth:`put`; all must fit in one request."""
        self._portal.call(self._original.put_many, items)
