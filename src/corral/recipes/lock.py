"""A lock: one owner at a time, served in the order of arrival."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corral.client import OPEN
from corral.client.errors import NoNodeError
from corral.recipes.contest import Contender, QueueContest
from corral.recipes.queue_of_claims import KAZOO, in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.client import Acl, Client
    from corral.recipes.contest import Contest
    from corral.recipes.queue_of_claims import Dialect


class QueueContender(Contender):
    """Who stands in a queue of claims at ``path``."""

    def __init__(
        self, client: Client, path: str, identifier: str | None, acl: Sequence[Acl], *, name: str, shared: bool
    ) -> None:
        super().__init__(client, path, identifier, acl)
        self._name = name
        self._is_shared = shared

    def _contest(self, *, patient: bool) -> Contest:
        return QueueContest(
            self.client,
            self.path,
            self._name,
            self.identifier.encode(),
            self._acl,
            shared=self._is_shared,
            patient=patient,
        )

    async def contenders(self) -> list[str]:
        """The identifiers of all who hold it or wait for it, in the order of their claims."""
        try:
            names = await self.client.get_children(self.path)
        except NoNodeError:
            return []
        return await self._identifiers(self.path, in_order(names))


class Lock(QueueContender):
    """An exclusive lock on ``path``::

        lock = Lock(zk, "/locks/orders")
        async with lock as held:
            ...                              # held.token is the fencing number, held.lost() tells of the loss

    One object is one contender, and not re-entrant: acquiring it again while it is held raises RuntimeError. After it
    was lost, it can be acquired again.

    Args:
        client: where the lock is.
        path: the directory of the claims; it is created if need be, and stays.
        identifier: who this is, for others to see; the default is ``host:pid``.
        acl: of the claims, and of the directory if it is created.
        dialect: whose names the claims get. kazoo's locks and elections see those of KAZOO, Curator's InterProcessMutex
            those of CURATOR; this lock sees both, whatever its own.
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
        super().__init__(client, path, identifier, acl, name=dialect.lock, shared=False)
