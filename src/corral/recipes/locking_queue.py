"""A queue that delivers at least once: an item is claimed while it is processed, and deleted when that is done.

The znodes are those of kazoo's LockingQueue, so that both can put and take in one queue::

    entries/entry-PPP-NNNNNNNNNN    an item
    taken/entry-PPP-NNNNNNNNNN      the claim on it: ephemeral, with the name of whoever processes it

beside ``receipts`` and ``waiting``, as in :mod:`corral.recipes.queue`.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from corral.client import ClientClosedError, ConnectionLoss, Created, KeeperError, SessionExpired
from corral.client.errors import NodeExistsError, NoNodeError, NotReadOnlyError, TransactionError
from corral.recipes.endurance import endure, withdraw, writable
from corral.recipes.ownership import Held, OwnershipLostError
from corral.recipes.queue import DEFAULT_PRIORITY, BaseQueue, priority_prefix
from corral.recipes.receipts import ignore_outcome

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random
    from types import TracebackType

    from corral.client import Client, Session


class ClaimedItem(Held):
    """An item while it is processed; leaving the block without an exception acknowledges it, otherwise returns it.

    As a :class:`~corral.recipes.Held` it has a fencing number and tells of its loss: when the session ends, somebody
    else gets the item.
    """

    def __init__(self, zk: Client, session: Session, claim: Created, entry: str, data: bytes) -> None:
        super().__init__(zk, session, claim)
        self.data = data
        self._entry = entry
        self._is_done = False

    async def ack(self) -> None:
        """Delete the item: it has been processed. Returns when it is gone.

        While there is no connection this waits for one, at most until the session ends. Cancelled, it goes on in the
        background.

        Raises OwnershipLostError when the session has ended: the item will be delivered again, unless the
        acknowledgement was just under way.
        """
        self.check()
        self._is_done = True
        await self.release()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            await self.release()
        elif self.is_held or self.is_lost:
            await self.ack()

    async def _remove(self) -> None:
        if not self._is_done:
            await super()._remove()
            return
        while not self.session.has_ended:
            try:
                # Under this session or not at all, and then the claim is still there.
                async with self.client.transaction() as transaction:
                    transaction.delete(self.path)
                    transaction.delete(self._entry)
            except NotReadOnlyError:
                await writable(self.client)
            except ConnectionLoss:
                if await endure(self.client, lambda: self.client.exists(self._entry)) is None:
                    return
            except SessionExpired:
                break
            except TransactionError as error:
                if not isinstance(error.__cause__, NoNodeError):
                    raise
                # Done by a request whose answer was lost; or somebody has deleted the claim or the item.
                if await endure(self.client, lambda: self.client.exists(self._entry)) is None:
                    await super()._remove()
                    return
                break
            else:
                return
        raise OwnershipLostError(f"{self.path} was lost before the item was acknowledged")


class LockingQueue(BaseQueue[ClaimedItem]):
    """Each item is delivered until somebody has processed it::

        queue = corral.recipes.LockingQueue(zk, "/jobs")
        async with await queue.take() as item:
            process(item.data)

    At least once: an item comes again when its taker dies, loses its session, or fails; so also when the session ends
    after the work and before the acknowledgement. Of two takers at most one has a session that lives; the other one's
    ``token`` is smaller.

    Items are taken in the order of priority, then of putting; one that comes again does so at its place. Takers that
    get in each other's way take from among the first few of the same priority.
    """

    def __init__(self, zk: Client, path: str, *, name: str | None = None, random: Random | None = None) -> None:
        """Prepare it; nothing is sent. ``name`` stands in the claims, for people to read."""
        super().__init__(zk, path, claims="taken", random=random)
        self._taken = f"{self.path}/taken"
        self._name = f"{name} " if name is not None else ""

    async def put(self, item: bytes, priority: int = DEFAULT_PRIORITY) -> None:
        """As :meth:`Queue.put <corral.recipes.Queue.put>`; ``priority`` is from 0, the most urgent, to 999."""
        await self._put([item], priority_prefix(priority))

    async def put_many(self, items: Iterable[bytes], priority: int = DEFAULT_PRIORITY) -> None:
        """Put all or none, with the same priority. Raises as :meth:`put`; all must fit in one request."""
        await self._put(items, priority_prefix(priority))

    async def take(self) -> ClaimedItem:
        """Claim the next item that nobody processes; waits for one.

        It goes on over lost connections and sessions. Cancelled, it leaves no claim behind (which waits for the
        connection, if it is lost, at most until the session ends).
        """
        return await self._wait_for(self.take_now)

    async def take_now(self) -> ClaimedItem | None:
        """The same, or None if there is no item to be had, as far as the client's server knows."""
        while True:
            await self._entries.refresh()
            async with self._picked(1) as names:
                if not names:
                    return None
                item = await self._take(names[0])
                if item is not None:
                    self._entries.succeeded()
                    return item
                self._entries.collided()

    async def _undo(self, found: ClaimedItem) -> None:
        await found.release()

    async def _take(self, name: str) -> ClaimedItem | None:
        """The item, unless somebody else processes it or has done so."""
        zk = self._zk
        entry = f"{self._entries.path}/{name}"
        # Sent with the claim, not after it: one round trip for both.
        reading = asyncio.ensure_future(zk.get(entry))
        reading.add_done_callback(ignore_outcome)
        claimed = await self._claim(entry, f"{self._taken}/{name}")
        if claimed is None:
            return None
        session, claim = claimed
        try:
            try:
                znode = await reading
            except (ConnectionLoss, SessionExpired):
                znode = await endure(zk, lambda: zk.get(entry))
        except BaseException as error:
            await withdraw(zk, claim)
            if isinstance(error, NoNodeError):
                return None
            raise
        return ClaimedItem(zk, session, claim, entry, znode.data)

    async def _claim(self, entry: str, claim: str) -> tuple[Session, Created] | None:
        creation = asyncio.ensure_future(self._create_claim(entry, claim))
        try:
            return await asyncio.shield(creation)
        except asyncio.CancelledError:
            with suppress(KeeperError, ClientClosedError):
                if await creation is not None:
                    await withdraw(self._zk, claim)
            raise

    async def _create_claim(self, entry: str, claim: str) -> tuple[Session, Created] | None:
        zk = self._zk
        # What nobody else writes tells, over a lost connection, whose claim it is.
        mark = f"{self._name}{secrets.token_hex(16)}".encode()
        is_in_doubt = False
        while True:
            session = zk.session
            if session is None:
                await zk.connected()
                continue
            transaction = zk.transaction()
            transaction.check(entry)
            transaction.create(claim, mark, ephemeral=True)
            try:
                created = (await transaction.commit())[1]
            except NotReadOnlyError:
                await writable(zk)
            except SessionExpired:
                await zk.connected()
            except ConnectionLoss:
                is_in_doubt = True
                found = await self._find_own(claim, mark, session)
                if found is not None:
                    return session, found
            except TransactionError as error:
                if isinstance(error.__cause__, NodeExistsError):
                    found = await self._find_own(claim, mark, session) if is_in_doubt else None
                    return (session, found) if found is not None else None
                if not isinstance(error.__cause__, NoNodeError):
                    raise error.__cause__ or error from None
                if error.index == 0:
                    return None
                await endure(zk, lambda: zk.ensure(self._taken))
            else:
                assert isinstance(created, Created)
                return session, created

    async def _find_own(self, claim: str, mark: bytes, session: Session) -> Created | None:
        """The claim, if it has that mark and is of a session that lives."""
        try:
            data, stat = await endure(self._zk, lambda: self._zk.get(claim))
        except NoNodeError:
            return None
        is_own = data == mark and stat.ephemeral_owner == session.id and not session.has_ended
        return Created(claim, stat) if is_own else None
