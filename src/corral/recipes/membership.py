"""Who is there: members that register, and a live list of them.

A member is an ephemeral znode ``GROUP/NAME``; its data is whatever others are to know of it, mostly an address.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from corral.client import OPEN, ChangeKind
from corral.client.errors import BadVersionError, ClientClosedError, NodeExistsError, NoNodeError
from corral.jute.owner import OwnerKind
from corral.recipes.endurance import Reconciler, endure
from corral.recipes.listeners import Listeners

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from corral.client import Acl, Change, Client, Session, Stat, Znode

log = logging.getLogger("corral.recipes")


class Registration:
    """Keeps a member registered, from the start to the close.

        async with Registration(zk, "/services/web", "web-1", b"10.0.0.5:8080") as member:
            ...
            await member.update(b"10.0.0.5:8081")

    After the loss of its session, or if somebody deletes it, it is put back at once, with the newest data. A znode of
    the same name that belongs to another session is left alone until it is gone: after a crash that is what the
    process's own last session leaves behind, until it expires. What the name held before is then replaced.
    """

    def __init__(self, zk: Client, group: str, name: str, data: bytes = b"", *, acl: Sequence[Acl] = OPEN) -> None:
        """Prepare it; nothing is sent yet. The group is created if it is missing, with the same ``acl``."""
        if not name or "/" in name:
            raise ValueError(f"a member's name is not empty and has no slash, unlike {name!r}")
        self.path = f"{group.rstrip('/')}/{name}"
        zk.key(self.path)
        self._zk = zk
        self.name = name
        self._data = data
        self._acl = acl
        self._revision = 0
        self._written = -1
        self._session: Session | None = None
        self._zxid = -1
        self._holder = 0
        self._reconciler = Reconciler(zk, self._register, f"member {self.path}")

    def __repr__(self) -> str:
        return f"<Registration {self.path}, {'registered' if self.is_registered else 'not registered'}>"

    # Life

    async def start(self) -> Self:
        """Register; ``async with`` does so by itself. Waits while another session holds the name.

        Raises what the service refuses it with, as NoAuthError. Cancelled, it leaves nothing behind.
        """
        try:
            await self._reconciler.start(lambda: self.is_registered)
        except BaseException:
            await self._leave()
            raise
        return self

    async def close(self) -> None:
        """Leave. Without a connection this waits for one, at most until the session has ended."""
        await self._reconciler.close()
        await self._leave()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def is_registered(self) -> bool:
        """Whether it is registered in a session that is not known to have ended."""
        return self._session is not None and not self._session.has_ended

    @property
    def zxid(self) -> int:
        """Of the transaction that registered it; -1 before. It grows with each time that it is put back."""
        return self._zxid

    @property
    def data(self) -> bytes:
        """As it is to be registered."""
        return self._data

    async def registered(self) -> None:
        """Wait until it is registered: again, after the loss of a session."""
        await self._reconciler.until(lambda: self.is_registered)

    async def update(self, data: bytes) -> None:
        """Change the data; returns when it is written. Cancelled, it will nevertheless be written."""
        self._data = data
        self._revision += 1
        revision = self._revision
        self._reconciler.wake()
        await self._reconciler.until(lambda: self.is_registered and self._written >= revision)

    # What is done

    async def _register(self) -> None:
        stat = await self._zk.exists(self.path, watch=self._reconciler.wake)
        session = self._zk.session
        if session is None:
            # It has ended meanwhile; the next connection wakes this.
            return
        if stat is None:
            await self._create(session)
        elif stat.ephemeral_owner != session.id:
            self._session = None
            if self._holder != stat.ephemeral_owner:
                self._holder = stat.ephemeral_owner
                log.info("member %s: the name belongs to another session; waiting", self.path)
        else:
            await self._enter(session, stat)

    async def _create(self, session: Session) -> None:
        revision = self._revision
        try:
            created = await self._zk.create(self.path, self._data, acl=self._acl, ephemeral=True, parents=True)
        except NodeExistsError:
            # Somebody was faster, or it was this one and the answer got lost: the watch, which has fired, tells.
            return
        if created.stat.ephemeral_owner == session.id:
            self._session, self._zxid, self._written = session, created.zxid, revision
            log.info("member %s: registered", self.path)

    async def _enter(self, session: Session, stat: Stat) -> None:
        revision = self._revision
        if self._session is not session or self._zxid != stat.czxid or self._written != revision:
            await self._zk.set(self.path, self._data)
            self._session, self._zxid, self._written = session, stat.czxid, revision

    async def _leave(self) -> None:
        self._session = None
        try:
            await endure(self._zk, self._delete)
        except ClientClosedError:
            # The session has been closed, and the znode with it.
            return

    async def _delete(self) -> None:
        while True:
            # The server of a new connection may not have heard yet of what was done on the last one.
            _, stat = await asyncio.gather(self._zk.sync(self.path), self._zk.exists(self.path))
            session = self._zk.session
            if stat is None or session is None or stat.ephemeral_owner != session.id:
                return
            try:
                await self._zk.delete(self.path, version=stat.version)
            except NoNodeError:
                return
            except BadVersionError:
                # Somebody sets its data: it is still this one's.
                continue


class Member(NamedTuple):
    """Somebody who is there."""

    name: str
    data: bytes
    zxid: int
    """Of its registration: the oldest member has the smallest."""
    session_id: int
    stat: Stat


class MemberEventKind(Enum):
    """What happened to a member."""

    JOINED = "joined"
    UPDATED = "updated"
    """Its data has changed."""
    LEFT = "left"
    """By itself, or because its session has ended."""
    RESYNCHRONISED = "resynchronised"
    """The connection was away: what follows are the differences, and what came and went meanwhile is not told."""


class MemberEvent(NamedTuple):
    """Something happened to a member; ``member`` is None for RESYNCHRONISED only."""

    kind: MemberEventKind
    member: Member | None
    """As it is now; as it was, when it has left."""


class Members:
    """The live list of a group's members, readable at memory speed.

        async with Members(zk, "/services/web") as members:
            for member in members:
                print(member.name, member.data)
            async for event in members.changes():
                ...

    It keeps what it knew while the connection is away, and catches up afterwards; ``is_current`` tells. Only ephemeral
    znodes count as members. Order: by name.
    """

    def __init__(self, zk: Client, group: str) -> None:
        self._zk = zk
        self.group = group
        self._prefix = group.rstrip("/") + "/"
        self._cache = zk.cache(group)
        self._listeners: Listeners[MemberEvent] = Listeners(self)

    def __repr__(self) -> str:
        return f"<Members {self.group}: {len(self)}>"

    # Life

    async def start(self) -> Self:
        """Read the list and follow it; ``async with`` does so by itself. The group need not exist yet.

        Raises NoAuthError if the list may not be read.
        """
        await endure(self._zk, self._start_cache)
        return self

    async def _start_cache(self) -> None:
        cache = self._zk.cache(self.group)
        await cache.start()
        cache.on_change(self._take)
        self._cache = cache

    async def close(self) -> None:
        """Follow it no more; the list stays readable."""
        await self._cache.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def is_current(self) -> bool:
        """Whether it is connected and has taken in everything it was told of."""
        return self._cache.is_current

    async def refresh(self) -> None:
        """Wait until the list has all that had happened when this was called."""
        await endure(self._zk, self._cache.sync)

    # Reading

    def get(self, name: str) -> Member | None:
        """The member of that name, None if it is not there."""
        znode = self._cache.get(self._prefix + name) if "/" not in name else None
        return self._member(self._prefix + name, znode)

    def __iter__(self) -> Iterator[Member]:
        for name in self._cache.children(self.group):
            if (member := self.get(name)) is not None:
                yield member

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    # Changes

    def on_change(self, callback: Callable[[MemberEvent], object]) -> None:
        """Call ``callback`` with each event from now on, when the list has it."""
        self._listeners.add(callback)

    def off_change(self, callback: Callable[[MemberEvent], object]) -> None:
        """Do so no more."""
        self._listeners.remove(callback)

    def _take(self, change: Change) -> None:
        for event in self._events(change):
            self._listeners.tell(event)

    def changes(self) -> AsyncIterator[MemberEvent]:
        """Each event from now on. Ends when this or the client is closed."""
        return self._pass_on(self._cache.changes())

    async def _pass_on(self, changes: AsyncIterator[Change]) -> AsyncIterator[MemberEvent]:
        async for change in changes:
            for event in self._events(change):
                yield event

    def _events(self, change: Change) -> Iterator[MemberEvent]:
        if change.kind is ChangeKind.RESYNCHRONISED:
            yield MemberEvent(MemberEventKind.RESYNCHRONISED, None)
            return
        member = self._member(change.path, change.znode)
        previous = self._member(change.path, change.previous)
        if previous is not None and (member is None or member.zxid != previous.zxid):
            yield MemberEvent(MemberEventKind.LEFT, previous)
            previous = None
        if member is not None:
            yield MemberEvent(MemberEventKind.UPDATED if previous is not None else MemberEventKind.JOINED, member)

    def _member(self, path: str, znode: Znode | None) -> Member | None:
        name = path.removeprefix(self._prefix)
        if znode is None or name == path or "/" in name or znode.stat.kind is not OwnerKind.EPHEMERAL:
            return None
        return Member(name, znode.data, znode.stat.czxid, znode.stat.ephemeral_owner, znode.stat)

    async def wait_for(self, condition: Callable[[Members], bool]) -> None:
        """Wait until ``condition`` holds for the list: ``await members.wait_for(lambda members: len(members) >= 3)``.

        Raises ClientClosedError when this or the client is closed before.
        """
        changes = self._cache.changes()
        while not condition(self):
            try:
                await anext(changes)
            except StopAsyncIteration:
                raise ClientClosedError(f"{self!r} is closed") from None
