"""Publish and subscribe for small messages: each subscriber gets each message, in order, or is told what it missed.

Below the topic's path:

* ``messages/MARK-NUMBER``: the messages; the service numbers them without gaps,
* ``subscribers/NAME``: how far a subscriber with a name is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from corral.client import OPEN, EventKind
from corral.client.errors import ClientClosedError, NodeExistsError, NoNodeError
from corral.client.states import State
from corral.recipes.endurance import create_once, endure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from corral.client import Acl, Client, WatchEvent, Znode

KEPT: Final = 1000
"""Messages that a topic keeps at least, unless it is told otherwise."""
_PRUNINGS: Final = 10
"""While the messages that are kept are replaced once, old ones are deleted so often: each time all must be listed."""
_WINDOW: Final = 64
"""Messages that are read at the same time."""

log = logging.getLogger("corral.recipes")


class Message(NamedTuple):
    """A message of a topic."""

    number: int
    """From 0, without gaps, as long as the topic is not deleted."""
    data: bytes
    zxid: int
    published: datetime
    """By the service's clock."""


class Missed(NamedTuple):
    """Messages were deleted before this subscriber got them."""

    messages: int | None
    """How many; None if nobody knows: the whole topic was deleted meanwhile."""


class Topic:
    """Messages for whoever subscribes::

        topic = Topic(zk, "/topics/prices")
        await topic.publish(b"...")

        async with topic.subscribe() as messages:
            async for message in messages:
                match message:
                    case Missed(messages): ...
                    case Message(number, data): ...

    For small messages, some hundred a second: each is a transaction of the service, and kept in its memory. Between
    ``kept`` and 1.1 times as many are kept.
    """

    def __init__(self, zk: Client, path: str, *, kept: int = KEPT, acl: Sequence[Acl] = OPEN) -> None:
        """Prepare it; nothing is sent yet. ``acl`` is that of all that is created."""
        zk.key(path)
        if kept < 1:
            raise ValueError(f"kept={kept}: at least the newest message is kept")
        self._zk = zk
        self.path = path.rstrip("/")
        self._kept = kept
        self._acl = acl

    def __repr__(self) -> str:
        return f"<Topic {self.path}>"

    async def publish(self, data: bytes) -> int:
        """Publish a message; returns its number.

        Lost connections and sessions are ridden out, and it is published once. Cancelled, it may be published or not.
        Raises RequestTooLargeError, NoAuthError, QuotaExceededError.
        """
        path = await create_once(self._zk, _messages(self.path), data, self._acl)
        number = _number(path)
        if number % max(1, self._kept // _PRUNINGS) == 0:
            await endure(self._zk, lambda: self._prune(number - self._kept))
        return number

    async def _prune(self, last: int) -> None:
        """Delete all messages up to the number ``last``."""
        names = await self._zk.get_children(_messages(self.path))
        old = [self._zk.delete(f"{_messages(self.path)}/{name}") for name in names if _number(name) <= last]
        for outcome in await asyncio.gather(*old, return_exceptions=True):
            # Another publisher does the same.
            if isinstance(outcome, BaseException) and not isinstance(outcome, NoNodeError):
                raise outcome

    def subscribe(self, name: str | None = None, *, from_oldest: bool = False) -> Subscription:
        """All messages from the start of the subscription on; see :class:`Subscription`.

        Args:
            name: under which the service keeps how far the subscriber is: after a pause it goes on where it was.
            from_oldest: begin with the oldest message that is kept, if nothing is known of ``name``.
        """
        return Subscription(self._zk, self.path, name, from_oldest=from_oldest, acl=self._acl)

    async def forget(self, name: str) -> None:
        """Forget how far a subscriber is."""
        try:
            await endure(self._zk, lambda: self._zk.delete(_subscriber(self.path, name)))
        except NoNodeError:
            return


class Subscription:
    """The messages of a topic, as an async iterator of :class:`Message` and :class:`Missed`; made by a :class:`Topic`.

    It goes on over lost connections and sessions, without loss as long as the messages are kept. Waiting for the next
    message may be cancelled and begun anew. A subscription with a name gets again, after a restart, what it has not
    acknowledged. It ends when it or the client is closed.
    """

    def __init__(self, zk: Client, topic: str, name: str | None, *, from_oldest: bool, acl: Sequence[Acl]) -> None:
        if name is not None and (not name or "/" in name):
            raise ValueError(f"a subscriber's name is not empty and has no slash, unlike {name!r}")
        self._zk = zk
        self._topic = topic
        self._path = _messages(topic)
        self.name = name
        self._from_oldest = from_oldest
        self._acl = acl
        self._watch = zk.watch(self._path, recursive=True, callback=self._hear)
        self._stirred = asyncio.Event()
        self._is_started = False
        self._is_closed = False
        self._must_list = True
        self._czxid: int | None = None
        """Of the topic whose numbers these are; None if there is no topic."""
        self._position: int | None = -1
        """The number of the last message that was handed out or passed over; None if that of the next is unknown."""
        self._acknowledged = -1
        self._coming: deque[str] = deque()
        """The paths of messages that have not been read."""
        self._ready: deque[Message] = deque()
        self._was_replaced = False

    def __repr__(self) -> str:
        return f"<Subscription to {self._topic} {self.name or ''} at {self._position}>"

    # Life

    async def start(self) -> Self:
        """Begin: no message from now on is passed over. ``async with`` does so by itself."""
        if self._is_started:
            raise RuntimeError("a subscription is started once; make another one")
        self._is_started = True
        await endure(self._zk, self._watch.start)
        self._zk.on_state(self._stir)
        try:
            await self._list()
            if not await self._resume():
                self._begin()
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """End it; how far a subscriber with a name is, stays known."""
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

    def _begin(self) -> None:
        """Where a new subscriber begins."""
        if self._coming:
            self._position = _number(self._coming[0]) - 1 if self._from_oldest else _number(self._coming[-1])
        elif self._czxid is not None:
            self._position = None

    async def _resume(self) -> bool:
        """Go on where a subscriber of this name was; false if there was none."""
        if self.name is None:
            return False
        path = _subscriber(self._topic, self.name)
        try:
            data = (await endure(self._zk, lambda: self._zk.get(path))).data
        except NoNodeError:
            return False
        czxid, _, number = data.partition(b" ")
        if not (czxid.isdigit() and number.isdigit()):
            log.error("%s does not tell how far the subscriber is", path)
            return False
        if int(czxid) == self._czxid:
            self._position = self._acknowledged = int(number)
        else:
            self._was_replaced = True
        return True

    # Reading

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message | Missed:
        if not self._is_started:
            await self.start()
        while not self._is_closed and self._zk.state is not State.CLOSED:
            if self._was_replaced:
                self._was_replaced = False
                return Missed(None)
            if self._ready:
                return self._next()
            self._stirred.clear()
            try:
                if self._must_list:
                    await self._list()
                elif self._coming:
                    await self._read()
                else:
                    await self._stirred.wait()
            except ClientClosedError:
                break
        raise StopAsyncIteration

    def _next(self) -> Message | Missed:
        message = self._ready[0]
        if self._position is not None and message.number > self._position + 1:
            missed = message.number - self._position - 1
            self._position = message.number - 1
            return Missed(missed)
        self._position = message.number
        return self._ready.popleft()

    async def _list(self) -> None:
        self._must_list = False
        try:
            listing = await endure(self._zk, lambda: self._zk.get_listing(self._path))
        except NoNodeError:
            # Nobody has published yet, or somebody has deleted the topic: its creation will be heard of.
            self._coming.clear()
            return
        except BaseException:
            self._must_list = True
            raise
        if self._czxid not in (None, listing.stat.czxid):
            self._was_replaced = True
            self._position = self._acknowledged = -1
            self._ready.clear()
        self._czxid = listing.stat.czxid
        # Beside what has been heard of meanwhile: it may be newer than the list.
        paths = {f"{self._path}/{name}" for name in listing.names}.union(self._coming)
        self._coming = deque(sorted(paths, key=_number))

    async def _read(self) -> None:
        behind = -1 if self._position is None else self._position
        while self._coming and _number(self._coming[0]) <= behind:
            self._coming.popleft()
        window = [self._coming[index] for index in range(min(_WINDOW, len(self._coming)))]
        found = await endure(self._zk, lambda: self._fetch(window))
        # Only now: a cancellation until here has changed nothing.
        for path, znode in zip(window, found, strict=True):
            self._coming.popleft()
            if znode is not None:
                number = _number(path)
                self._ready.append(Message(number, znode.data, znode.stat.czxid, znode.stat.created))

    async def _fetch(self, paths: Sequence[str]) -> list[Znode | None]:
        found: list[Znode | None] = []
        for each in await asyncio.gather(*[self._zk.get(path) for path in paths], return_exceptions=True):
            if isinstance(each, NoNodeError):
                found.append(None)
            elif isinstance(each, BaseException):
                raise each
            else:
                found.append(each)
        return found

    def _hear(self, event: WatchEvent) -> None:
        if event.kind is EventKind.MISSED or event.path == self._path:
            self._must_list = True
        elif event.kind is EventKind.CREATED:
            self._coming.append(event.path)
        self._stirred.set()

    def _stir(self, _state: object) -> None:
        self._stirred.set()

    # How far

    async def acknowledge(self, message: Message) -> None:
        """Note that this message and all before it are done with; for a subscription with a name.

        Rides out lost connections and sessions. Cancelled, it may be noted or not. Raises RuntimeError without a name.
        """
        if self.name is None:
            raise RuntimeError(f"{self!r} has no name under which to keep how far it is")
        if message.number <= self._acknowledged or self._czxid is None or message.zxid < self._czxid:
            # The last: of a topic that has been deleted since.
            return
        path = _subscriber(self._topic, self.name)
        data = b"%d %d" % (self._czxid, message.number)
        try:
            await endure(self._zk, lambda: self._zk.set(path, data))
        except NoNodeError:
            await endure(self._zk, lambda: self._create(path, data))
        self._acknowledged = message.number

    async def _create(self, path: str, data: bytes) -> None:
        try:
            await self._zk.create(path, data, acl=self._acl, parents=True)
        except NodeExistsError:
            # The answer to an earlier attempt got lost.
            await self._zk.set(path, data)


def _messages(topic: str) -> str:
    return f"{topic}/messages"


def _subscriber(topic: str, name: str) -> str:
    return f"{topic}/subscribers/{name}"


def _number(path: str) -> int:
    digits = path[-10:]
    return int(digits) if digits.isdigit() else -1
