"""Barriers: processes wait for a sign, or for each other.

The znodes are those of kazoo's and Curator's barriers, so that all can meet at one. A barrier is its znode: it holds
up whoever waits until it is deleted. Of a double barrier::

    PATH/...        a member: ephemeral
    PATH/ready      it is open; made when enough members have come, deleted by the last one that leaves

A ``ready`` that is older than a member belongs to an earlier round. What a round leaves behind whose last member died
is cleared away by the next round, which the peers' barriers do not do: they let everybody through.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from corral.client import ConnectionLoss, Created, SessionExpired, Znode
from corral.client.errors import BadVersionError, NodeExistsError, NoNodeError, TransactionError
from corral.recipes.endurance import create_own, endure, withdraw
from corral.recipes.wakeup import Wakeup

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from corral.client import Client

_READY: Final = "ready"


class Barrier:
    """Holds up whoever waits until somebody removes it."""

    def __init__(self, zk: Client, path: str) -> None:
        """Prepare it; nothing is sent."""
        zk.key(path)
        self._zk = zk
        self.path = path
        self._changed = Wakeup()

    def __repr__(self) -> str:
        return f"<Barrier {self.path}>"

    async def create(self) -> None:
        """Set it up, if it is not there yet. It stays when its maker ends."""
        await endure(self._zk, lambda: self._zk.ensure(self.path))

    async def remove(self) -> bool:
        """Take it away: all who wait go on. Returns whether it was there, or may have been as answers were lost."""
        in_doubt = False
        while True:
            try:
                await self._zk.delete(self.path)
            except NoNodeError:
                return in_doubt
            except ConnectionLoss:
                in_doubt = True
                await self._zk.connected()
            except SessionExpired:
                await self._zk.connected()
            else:
                return True

    async def wait(self) -> None:
        """Return when it is not there. It waits over lost connections and sessions, and leaves nothing behind."""
        while True:
            changed = self._changed.next
            if await endure(self._zk, lambda: self._zk.exists(self.path, watch=self._changed.fire)) is None:
                return
            await changed.wait()


class DoubleBarrier:
    """Members begin together when enough have come, and end together when all are done::

        async with corral.recipes.DoubleBarrier(zk, "/barrier", 3):
            ...  # the others are here as well

    At one moment at least ``count`` members were in it: then it opens for all who had come before. Who comes later
    waits for the next round, which begins when all have left. One object takes part once at a time, and again as
    often as it likes.
    """

    def __init__(self, zk: Client, path: str, count: int, *, name: str = "") -> None:
        """Prepare it; nothing is sent. ``name`` stands in the member's znode, for people to read."""
        zk.key(path)
        if count < 1:
            raise ValueError(f"{path}: a barrier for {count} members holds up nobody")
        self._zk = zk
        self.path = path.rstrip("/")
        self.count = count
        self._name = name.encode()
        self._ready = f"{self.path}/{_READY}"
        self._changed = Wakeup()
        self._member: Created | None = None
        self._round = -1
        """The zxid at which the round began that this member is in."""

    def __repr__(self) -> str:
        return f"<DoubleBarrier {self.path} for {self.count}, {'in' if self._member is not None else 'out'}>"

    async def __aenter__(self) -> Self:
        await self.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    # Entering

    async def enter(self) -> None:
        """Come, and return when enough have come.

        Cancelled, or upon any error, it leaves again; if it has opened just then, the others have gone on.

        Raises SessionExpired if the session ends meanwhile. Lost connections are ridden out.
        """
        if self._member is not None:
            raise RuntimeError(f"{self.path}: already in; leave first")
        member = await create_own(self._zk, f"{self.path}/member-", self._name)
        try:
            self._round = await self._wait_until_open(member)
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(withdraw(self._zk, member)))
            raise
        self._member = member

    async def _wait_until_open(self, member: Created) -> int:
        zk = self._zk
        session = zk.session
        while True:
            changed = self._changed.next
            ready = await endure(zk, lambda: zk.exists(self._ready, watch=self._changed.fire))
            if session is None or session.id != member.stat.ephemeral_owner or session.has_ended:
                raise SessionExpired(f"{member}: the session has ended")
            if ready is None:
                names = await self._names()
                if len(names) >= self.count:
                    await self._open(names[: self.count])
                else:
                    await changed.wait()
            elif ready.czxid > member.zxid:
                return ready.czxid
            elif await self._members_before(ready.czxid, watch=True):
                await changed.wait()
            else:
                await self._remove_ready(ready.czxid, None)

    async def _open(self, names: list[str]) -> None:
        """Open it if all of them are there at that very moment."""
        try:
            async with self._zk.transaction() as transaction:
                for name in names:
                    transaction.check(f"{self.path}/{name}")
                transaction.create(self._ready)
        except TransactionError as error:
            if not isinstance(error.__cause__, (NoNodeError, NodeExistsError)):
                raise error.__cause__ or error from None
        except (ConnectionLoss, SessionExpired):
            await self._zk.connected()

    # Leaving

    async def leave(self) -> None:
        """Go, and return when all of the round have gone: left, or lost their sessions.

        It goes on over lost connections and sessions. Cancelled, it has gone, and does not wait for the others.
        """
        member, self._member = self._member, None
        if member is None:
            raise RuntimeError(f"{self.path}: not in; enter first")
        own = member.rpartition("/")[2]
        try:
            others = set(await self._members_before(self._round)) - {own}
            if not others or own < min(others):
                # The first stays until all others have gone: they need to watch only this one.
                await self._wait_until_gone(others, lowest_first=False)
                await self._remove_ready(self._round, member)
            else:
                await endure(self._zk, lambda: withdraw(self._zk, member))
                await self._wait_until_gone(others, lowest_first=True)
        finally:
            await asyncio.shield(asyncio.ensure_future(withdraw(self._zk, member)))

    async def _wait_until_gone(self, others: set[str], *, lowest_first: bool) -> None:
        while remaining := others.intersection(await self._names()):
            path = f"{self.path}/{min(remaining) if lowest_first else max(remaining)}"
            changed = self._changed.next
            if await self._watch(path):
                await changed.wait()

    async def _watch(self, path: str) -> bool:
        stat = await endure(self._zk, lambda: self._zk.exists(path, watch=self._changed.fire))
        return stat is not None

    # The znodes

    async def _names(self, *, watch: bool = False) -> list[str]:
        """The members' names, sorted."""
        fire = self._changed.fire if watch else None
        try:
            names = await endure(self._zk, lambda: self._zk.get_children(self.path, watch=fire))
        except NoNodeError:
            return []
        return sorted(name for name in names if name != _READY)

    async def _members_before(self, zxid: int, *, watch: bool = False) -> list[str]:
        """Those who had come when the round began at ``zxid``."""
        names = await self._names(watch=watch)
        znodes = await endure(self._zk, lambda: self._zk.get_many([f"{self.path}/{name}" for name in names]))
        return [
            name
            for name, znode in zip(names, znodes, strict=True)
            if isinstance(znode, Znode) and znode.stat.czxid < zxid
        ]

    async def _remove_ready(self, zxid: int, member: Created | None) -> None:
        """End the round that began at ``zxid``, and delete the ``member`` with it; never the next round.

        All who delete ``ready`` set the barrier's own znode with it. So a version that was read before is still the
        same only if ``ready`` is.
        """
        zk = self._zk
        while True:
            try:
                data, stat = await zk.get(self.path)
                ready = await zk.exists(self._ready)
                if ready is None or ready.czxid != zxid:
                    return
                async with zk.transaction() as transaction:
                    transaction.set(self.path, data, version=stat.version)
                    transaction.delete(self._ready)
                    if member is not None:
                        transaction.delete(member)
                return
            except (ConnectionLoss, SessionExpired):
                await zk.connected()
            except NoNodeError:
                return
            except TransactionError as error:
                if error.index == 2:
                    # The session of the member has ended.
                    member = None
                elif not isinstance(error.__cause__, (BadVersionError, NoNodeError)):
                    raise error.__cause__ or error from None
