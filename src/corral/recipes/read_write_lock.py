"""A read-write lock: many readers, or one writer, served in the order of arrival."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corral.client import OPEN
from corral.recipes.lock import QueueContender
from corral.recipes.queue_of_claims import KAZOO, as_shared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.client import Acl, Client
    from corral.recipes.ownership import Held
    from corral.recipes.queue_of_claims import Dialect


class ReadLock(QueueContender):
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
        super().__init__(client, path, identifier, acl, name=dialect.read, shared=True)


class WriteLock(QueueContender):
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
        super().__init__(client, path, identifier, acl, name=dialect.write, shared=False)
        self._dialect = dialect

    async def downgrade(self, held: Held) -> None:
        """Turn what is held for writing into a lock for reading, with no moment in between at which it is not held.

        It keeps its place in the queue, so no writer that waits comes in between, and its token. This object can then
        be acquired for writing again, by which it waits for that reader too.

        Raises:
            OwnershipLostError: it is not held any more.
            ValueError: it is not held through this object.
        """
        if held is not self._held:
            raise ValueError(f"{held!r} was not acquired through {self!r}")
        directory, _, name = held.path.rpartition("/")
        await held.move(f"{directory}/{as_shared(name, self._dialect)}", self.identifier.encode(), self._acl)
        self._held = None


class ReadWriteLock:
    """A read-write lock on ``path``::

        lock = ReadWriteLock(zk, "/locks/report")
        async with lock.read:
            ...
        async with lock.write as held:
            ...
            await lock.write.downgrade(held)      # go on as a reader

    ``read`` and ``write`` are used as :class:`~corral.recipes.Lock` is, whose arguments this takes too. Who holds the
    one and waits for the other waits for itself: a reader cannot become a writer.
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
        self.read = ReadLock(client, path, identifier, acl=acl, dialect=dialect)
        self.write = WriteLock(client, path, identifier, acl=acl, dialect=dialect)

    def __repr__(self) -> str:
        return f"<ReadWriteLock {self.read.path} {self.read.identifier}>"
