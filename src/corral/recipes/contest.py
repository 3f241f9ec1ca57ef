"""Coming to own something: attempts that end with ownership, or without a trace.

An attempt is a task of its own. Whoever waits for it may be cancelled at any moment, also while the request that
creates its znode is on its way: the attempt goes on, sees that nobody wants it any more, and removes what it has made.
It ends with the client at the latest, and then the session's end removes the rest.
"""

from __future__ import annotations

import asyncio
import os
import socket
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary

from corral.client import NotSent, SessionExpired
from corral.client.errors import NoNodeError
from corral.recipes.ownership import Held
from corral.recipes.queue_of_claims import blocker_of, strays_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from corral.client import Acl, Client, State, WatchEvent


class Alarm:
    """Sets events when a one-shot watch of one client fires: a single callback for all, so that attempts that have
    been given up leave nothing that waits for the watch."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def __call__(self, event: WatchEvent) -> None:
        for waiting in self._waiting.get(event.path, ()):
            waiting.set()

    @contextmanager
    def sets(self, event: asyncio.Event, path: str) -> Iterator[Self]:
        """In this block, a watch on ``path`` whose callback is the alarm sets ``event``."""
        self._waiting.setdefault(path, set()).add(event)
        try:
            yield self
        finally:
            self._waiting[path].discard(event)
            if not self._waiting[path]:
                del self._waiting[path]


_alarms: WeakKeyDictionary[Client, Alarm] = WeakKeyDictionary()


class Contest(ABC):
    """One attempt. With ``patient`` false it ends without ownership rather than wait for another owner."""

    def __init__(self, client: Client, *, patient: bool) -> None:
        self.client = client
        self._patient = patient
        self.is_given_up = False
        self._removal: asyncio.Task[None] | None = None
        self._stirred = asyncio.Event()
        self._alarm = _alarms.setdefault(client, Alarm())
        client.on_state(self._stir)
        self._task = asyncio.create_task(self._run(), name=repr(self))
        self._task.add_done_callback(self._over)

    @abstractmethod
    async def _run(self) -> Held | None:
        """Obtain it; None if it is given up, or not to be had at once."""

    async def result(self) -> Held | None:
        """What is owned; None if the contest is not patient and somebody else is first. Cancelled, it is given up."""
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            self.give_up()
            raise

    def give_up(self) -> None:
        """End it without ownership, in the background."""
        self.is_given_up = True
        self._stirred.set()
        if self._task.done() and not self._task.cancelled() and self._task.exception() is None:
            held = self._task.result()
            if held is not None:
                self._removal = held.start_release()

    async def over(self) -> None:
        """Return when it has ended, and when nothing is left of it if it was given up."""
        await asyncio.wait({self._task})
        if self._removal is not None:
            await asyncio.wait({self._removal})

    def _is_wanted(self) -> bool:
        return not self.is_given_up

    def _stir(self, state: State) -> None:
        self._stirred.set()

    def _over(self, task: asyncio.Task[Held | None]) -> None:
        self.client.off_state(self._stir)
        if not task.cancelled():
            # Nobody may be left to hear of it.
            task.exception()


class QueueContest(Contest):
    """Stands in a queue of claims (see :mod:`~corral.recipes.queue_of_claims`) until nothing before it is in the way.

    A claim that ends with its session while it waits is made anew, at the end of the queue.
    """

    def __init__(
        self, client: Client, directory: str, name: str, data: bytes, acl: Sequence[Acl], *, shared: bool, patient: bool
    ) -> None:
        self._directory = directory
        self._prefix = f"{directory.rstrip('/')}/"
        self._name = name
        self._data = data
        self._acl = acl
        self._is_shared = shared
        super().__init__(client, patient=patient)

    def __repr__(self) -> str:
        return f"claim on {self._prefix}{self._name}"

    async def _run(self) -> Held | None:
        while self._is_wanted():
            claim = await self._enter()
            if claim is None:
                continue
            try:
                if await self._comes_first(claim) and self._is_wanted():
                    return claim
            except SessionExpired:
                continue
            except Exception:
                claim.start_release()
                raise
            is_refused = claim.is_held
            await claim.release()
            if is_refused:
                break
        return None

    async def _enter(self) -> Held | None:
        try:
            znode = await self.client.create(
                self._prefix + self._name,
                self._data,
                acl=self._acl,
                ephemeral=True,
                sequential=True,
                protected=True,
                parents=True,
            )
        except (SessionExpired, NotSent):
            # The next session may have more luck, and a connection.
            return None
        session = self.client.session
        # The session may have ended since then: its claim is worth nothing to the next one.
        if session is None or session.id != znode.stat.ephemeral_owner:
            return None
        return Held(self.client, session, znode)

    async def _comes_first(self, claim: Held) -> bool:
        """Wait until nothing is in the way of ``claim``; false when it has ended, is given up or must not wait."""
        own_name = claim.path.removeprefix(self._prefix)
        while self._is_wanted():
            self._stirred.clear()
            try:
                _, names = await self.client.persist(
                    lambda: asyncio.gather(claim.look(), self.client.get_children(self._directory))
                )
            except NoNodeError:
                # Somebody has deleted the claim, or all of the directory.
                return False
            if not claim.is_held:
                return False
            for stray in strays_of(own_name, names):
                await self._remove_stray(self._prefix + stray, claim)
            blocker = blocker_of(own_name, names, shared=self._is_shared)
            if blocker is None:
                return True
            if not self._patient:
                return False
            await self._wait_for(self._prefix + blocker)
        return False

    async def _wait_for(self, path: str) -> None:
        """Return when the claim has changed or is gone, or when there is something else to look after."""
        with self._alarm.sets(self._stirred, path) as alarm:
            try:
                await self.client.persist(lambda: self.client.get(path, watch=alarm))
            except NoNodeError:
                return
            await self._stirred.wait()

    async def _remove_stray(self, path: str, claim: Held) -> None:
        """Delete it, unless it belongs to another session: that one's claim counts until it ends."""
        with suppress(NoNodeError):
            znode = await self.client.persist(lambda: self.client.get(path))
            if znode.stat.ephemeral_owner == claim.session.id:
                await self.client.persist(lambda: self.client.delete(path))


class Contender(ABC):
    """Who wants to own something; what the locks and semaphores of this package have in common."""

    _HOLDS_ONE: ClassVar[bool] = True
    """Whether it is a mistake to want it again while holding it: nobody else could ever make it free."""

    def __init__(self, client: Client, path: str, identifier: str | None, acl: Sequence[Acl]) -> None:
        client.key(path)
        self.client = client
        self.path = path
        self.identifier = identifier if identifier is not None else f"{socket.gethostname()}:{os.getpid()}"
        """Who it is, for those who look into the queue."""
        self._acl = acl
        self._competing = 0
        self._last: Contest | None = None
        self._held: Held | None = None
        self._block: AbstractAsyncContextManager[Held] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} {self.identifier}>"

    @property
    def is_held(self) -> bool:
        """Whether what was last acquired through this object is still held."""
        return self._held is not None and self._held.is_held

    async def acquire(self, *, timeout: float | None = None) -> Held:
        """Wait until it is owned.

        It waits over lost connections and lost sessions too: without a ``timeout`` (in seconds) for ever. Cancelled or
        timed out, it leaves nothing behind: its claim is removed in the background, as soon as there is a connection.

        Raises:
            TimeoutError: it was not obtained in time.
            RuntimeError: this object already holds it, or waits for it.
            ClientClosedError: the client has been closed, or was never started.
            KeeperError: the service refuses the claim (NoAuthError, ...).
        """
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout={timeout!r} is not positive; try_acquire() waits for nobody")
        try:
            async with asyncio.timeout(timeout):
                held = await self._compete(patient=True)
        except TimeoutError:
            raise TimeoutError(f"{self.path}: not obtained within {timeout} s") from None
        assert held is not None
        return held

    async def try_acquire(self) -> Held | None:
        """Own it if nobody else is in the way; None otherwise. Raises as :meth:`acquire` does.

        While there is no connection it waits for one.
        """
        return await self._compete(patient=False)

    @asynccontextmanager
    async def hold(self, *, timeout: float | None = None, cancel_when_lost: bool = False) -> AsyncIterator[Held]:
        """Acquire it for an ``async with`` block.

        With ``cancel_when_lost`` the block is cancelled the moment it is lost. Otherwise it runs to its end, and looks
        itself (``held.is_held``, ``held.lost()``). Either way the block then raises OwnershipLostError.
        """
        async with await self.acquire(timeout=timeout) as held:
            if cancel_when_lost:
                async with held.cancelling():
                    yield held
            else:
                yield held

    async def __aenter__(self) -> Held:
        if self._block is not None:
            raise RuntimeError(f"{self!r} is in an 'async with' block already: use hold(), or an object for each")
        block = self.hold()
        held = await block.__aenter__()
        self._block = block
        return held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        block, self._block = self._block, None
        assert block is not None
        return await block.__aexit__(kind, error, trace)

    @abstractmethod
    def _contest(self, *, patient: bool) -> Contest:
        """Begin an attempt."""

    async def _compete(self, *, patient: bool) -> Held | None:
        if self._HOLDS_ONE and (self._competing or self.is_held):
            does = "holds" if self.is_held else "waits for"
            raise RuntimeError(
                f"{self!r} already {does} it and is not re-entrant: let every contender have its own object"
            )
        self._competing += 1
        try:
            if self._last is not None and self._last.is_given_up:
                # Or the claim of an attempt that timed out could be in the way of the next one.
                await self._last.over()
            self._last = self._contest(patient=patient)
            held = await self._last.result()
        finally:
            self._competing -= 1
        if held is not None:
            self._held = held
        return held

    async def _identifiers(self, directory: str, names: Sequence[str]) -> list[str]:
        """What the claims with these names say of their owners; those that have gone meanwhile are left out."""
        prefix = f"{directory.rstrip('/')}/"
        found = await asyncio.gather(*[self.client.get(prefix + name) for name in names], return_exceptions=True)
        identifiers = []
        for each in found:
            if isinstance(each, BaseException):
                if not isinstance(each, NoNodeError):
                    raise each
            else:
                identifiers.append(each.data.decode(errors="replace"))
        return identifiers
