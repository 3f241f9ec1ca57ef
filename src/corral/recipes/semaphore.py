"""A semaphore: a fixed number of owners at a time.

Who wants a permit first queues for a lock. Its holder alone looks at the permits in use, waits until there are fewer
than allowed, and takes one in a transaction that also checks the lock. A permit is an ephemeral znode, so that none is
ever lost: it comes back with the end of its owner's session at the latest.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, ClassVar

from corral.client import OPEN, ConnectionLoss, Created, SessionExpired
from corral.client.errors import BadVersionError, NodeExistsError, NoNodeError, TransactionError
from corral.recipes.contest import Contender, Contest, QueueContest
from corral.recipes.ownership import Held
from corral.recipes.queue_of_claims import KAZOO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.client import Acl, Client
    from corral.recipes.queue_of_claims import Dialect


class PermitContest(Contest):
    """Waits for the lock, and then for a permit."""

    def __init__(self, semaphore: Semaphore, data: bytes, acl: Sequence[Acl], *, patient: bool) -> None:
        self._semaphore = semaphore
        self._data = data
        self._acl = acl
        self._queue: QueueContest | None = None
        super().__init__(semaphore.client, patient=patient)

    def __repr__(self) -> str:
        return f"permit of {self._semaphore.leases_path}"

    def give_up(self) -> None:
        super().give_up()
        if self._queue is not None:
            self._queue.give_up()

    async def _run(self) -> Held | None:
        while self._is_wanted():
            try:
                await self._semaphore.agree()
            except (SessionExpired, NoNodeError):
                # There is a new session, or the semaphore has just been deleted.
                continue
            if not self._is_wanted():
                break
            self._queue = QueueContest(
                self.client,
                self._semaphore.queue_path,
                self._semaphore.dialect.lock,
                self._data,
                self._acl,
                shared=False,
                patient=self._patient,
            )
            lock = await self._queue.result()
            if lock is None:
                break
            try:
                permit = await self._take(lock)
                is_refused = permit is None and lock.is_held
            except (SessionExpired, NoNodeError):
                # The session took the lock with it, or somebody has deleted the semaphore: from the beginning.
                continue
            finally:
                await lock.release()
            if permit is not None and not self._is_wanted():
                await permit.release()
            elif permit is not None or is_refused:
                return permit
        return None

    async def _take(self, lock: Held) -> Held | None:
        """A permit, once there is one; None when ``lock`` is lost, or this is given up or must not wait."""
        lock.on_lost(self._stirred.set)
        leases = self._semaphore.leases_path
        while lock.is_held and self._is_wanted():
            self._stirred.clear()
            with self._alarm.sets(self._stirred, leases) as alarm:
                in_use = await self.client.persist(lambda: self.client.get_children(leases, watch=alarm))
                if len(in_use) < self._semaphore.permits:
                    return await self._create(f"{leases}/lease-{uuid.uuid4().hex}", lock)
                if not self._patient:
                    break
                await self._stirred.wait()
        return None

    async def _create(self, path: str, lock: Held) -> Held | None:
        # Once the lock's session has ended, the permit would belong to the next one, and nobody would know of it.
        while lock.is_held:
            try:
                async with self.client.transaction() as transaction:
                    transaction.check(lock.path)
                    transaction.create(path, self._data, acl=self._acl, ephemeral=True)
            except ConnectionLoss:
                stat = await self.client.persist(lambda: self.client.exists(path))
            except TransactionError as error:
                if isinstance(error.__cause__, NoNodeError):
                    raise error.__cause__ from None
                raise
            else:
                created = transaction.results[1]
                assert isinstance(created, Created)
                stat = created.stat
            if stat is not None:
                permit = Held(self.client, lock.session, Created(path, stat))
                permit.look()
                return permit
        return None


class Semaphore(Contender):
    """At most ``permits`` owners of ``path`` at a time::

        semaphore = Semaphore(zk, "/limits/imports", 3)
        async with semaphore as held:
            ...

    One object can hold several permits, each got by an ``acquire()`` or ``hold()`` of its own. Permits are handed out
    in the order of arrival; ``try_acquire()`` also gives None while somebody else is just being served.

    Args:
        client: where the semaphore is.
        path: its znode; it is created if need be, with the number of permits as data, and stays.
        permits: how many there are. All must say the same.
        identifier: who this is, for others to see; the default is ``host:pid``.
        acl: of all znodes that are created.
        dialect: KAZOO to share the permits with kazoo's semaphores, CURATOR for InterProcessSemaphoreV2.

    ``acquire()`` and ``try_acquire()`` also raise ValueError if the semaphore has another number of permits.
    """

    _HOLDS_ONE: ClassVar[bool] = False

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
        super().__init__(client, path, identifier, acl)
        if permits < 1:
            raise ValueError(f"permits={permits!r}: there must be at least one")
        self.permits = permits
        self.dialect = dialect
        self.queue_path = path + dialect.semaphore_queue
        self.leases_path = path + dialect.semaphore_leases

    def _contest(self, *, patient: bool) -> Contest:
        return PermitContest(self, self.identifier.encode(), self._acl, patient=patient)

    async def agree(self) -> None:
        """Make sure that the znodes exist, and that all mean the same number of permits."""
        number = b"%d" % self.permits
        try:
            await self.client.persist(lambda: self.client.create(self.path, number, acl=self._acl, parents=True))
        except NodeExistsError:
            znode = await self.client.persist(lambda: self.client.get(self.path))
            # Empty: made by somebody who has not said the number yet, or does not say it at all.
            if not znode.data:
                await self._say(number, znode.stat.version)
            elif znode.data.isdigit() and int(znode.data) != self.permits:
                raise ValueError(
                    f"{self.path} has {int(znode.data)} permits, not {self.permits}: all must say the same"
                ) from None
        if self.leases_path != self.path:
            await self.client.ensure(self.leases_path, acl=self._acl)

    async def _say(self, number: bytes, version: int) -> None:
        try:
            await self.client.persist(lambda: self.client.set(self.path, number, version=version))
        except BadVersionError:
            await self.agree()

    async def holders(self) -> list[str]:
        """The identifiers of those who hold permits, in no order."""
        try:
            names = await self.client.get_children(self.leases_path)
        except NoNodeError:
            return []
        return await self._identifiers(self.leases_path, names)
