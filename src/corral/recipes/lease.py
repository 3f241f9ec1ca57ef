"""A lease: exclusive for a time, also while its holder has no session or does not run at all.

It is a persistent znode that says who holds it until when, by the clock of the service's leader: nobody's own clock
counts. It is changed only under a lock. kazoo's leases are of the same form and respect these, by the clock of their
own machine.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corral.client import OPEN, Created, NoNodeError, SessionExpired, Stat, TransactionError
from corral.recipes.lock import Lock
from corral.recipes.ownership import OwnershipLostError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.client import Acl, Client
    from corral.recipes.ownership import Held

_FORMAT: Final = "%Y-%m-%dT%H:%M:%S"
_VERSION: Final = 1


class _Entry(NamedTuple):
    holder: str
    end_ms: float
    """Since the epoch, by the leader's clock; infinite for an entry that only another version understands."""

    @classmethod
    def decode(cls, data: bytes) -> _Entry:
        entry: dict[str, Any] = json.loads(data)
        if entry["version"] != _VERSION:
            return cls("", math.inf)
        if "end_ms" in entry:
            return cls(entry["holder"], entry["end_ms"])
        return cls(entry["holder"], datetime.strptime(entry["end"], _FORMAT).replace(tzinfo=UTC).timestamp() * 1000)

    def encode(self) -> bytes:
        # kazoo knows whole seconds only: to its clients the lease lasts a little longer.
        end = datetime.fromtimestamp(self.end_ms / 1000, UTC) + timedelta(milliseconds=999)
        entry = {"version": _VERSION, "holder": self.holder, "end": end.strftime(_FORMAT), "end_ms": self.end_ms}
        return json.dumps(entry).encode()


class Lease:
    """The right to ``path`` for ``duration`` seconds, kept by whoever is called ``identifier``::

        lease = Lease(zk, "/leases/nightly", duration=4200)
        if await lease.take():
            ...                              # until lease.remaining is 0; take() again renews it

    Args:
        client: where the lease is.
        path: its directory; it is created if need be, and stays.
        duration: seconds.
        identifier: who this is, the same over restarts; the default is the name of the host.
        acl: of all znodes that are created.
    """

    def __init__(
        self, client: Client, path: str, duration: float, identifier: str | None = None, *, acl: Sequence[Acl] = OPEN
    ) -> None:
        if not 0 < duration < math.inf:
            raise ValueError(f"duration={duration!r} is no number of seconds")
        self.client = client
        self.path = path
        self.duration = duration
        self.identifier = identifier if identifier is not None else socket.gethostname()
        self.token: int | None = None
        """The fencing number of the last success, larger than those of all holders before."""
        self._lock = Lock(client, path, self.identifier, acl=acl)
        self._acl = acl
        self._entry_path = f"{path.rstrip('/')}/lease_holder"
        self._ends_at = -math.inf

    def __repr__(self) -> str:
        return f"<Lease {self.path} {self.identifier} {self.remaining:.1f} s>"

    @property
    def remaining(self) -> float:
        """For how many more seconds it is held; 0 if it is not."""
        return max(0.0, self._ends_at - asyncio.get_running_loop().time())

    async def take(self) -> bool:
        """Hold it for the whole duration from now on, if nobody else does; waits for nobody.

        While there is no connection it waits for one. Cancelled, it may have been taken all the same.
        Raises ValueError if what is there is no lease.
        """
        while True:
            try:
                async with self._lock.hold() as held:
                    return await self.client.persist(lambda: self._take(held))
            except (OwnershipLostError, SessionExpired):
                # Another one may have had the lock in between: look anew.
                continue

    async def release(self) -> None:
        """Give it up before its time; does nothing if it is not held. Raises as :meth:`take` does."""
        self._ends_at = -math.inf
        while True:
            try:
                async with self._lock.hold() as held:
                    return await self.client.persist(lambda: self._release(held))
            except (OwnershipLostError, SessionExpired):
                continue

    async def holder(self) -> str | None:
        """Who holds it or held it last; None if nobody does, after a release."""
        entry, _ = await self._read()
        return entry.holder if entry is not None else None

    async def _read(self) -> tuple[_Entry | None, Stat | None]:
        try:
            znode = await self.client.get(self._entry_path)
        except NoNodeError:
            return None, None
        try:
            return _Entry.decode(znode.data), znode.stat
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._entry_path} is no lease: {znode.data[:80]!r}") from error

    async def _take(self, held: Held) -> bool:
        asked_at = asyncio.get_running_loop().time()
        now_ms = await self._leaders_time(held)
        entry, stat = await self._read()
        if entry is not None and entry.holder != self.identifier and entry.end_ms > now_ms:
            return False
        data = _Entry(self.identifier, now_ms + self.duration * 1000).encode()
        try:
            async with self.client.transaction() as transaction:
                transaction.check(held.path)
                if stat is None:
                    transaction.create(self._entry_path, data, acl=self._acl)
                else:
                    transaction.set(self._entry_path, data, version=stat.version)
        except TransactionError as error:
            raise _lost_or(error, held) from error
        done = transaction.results[1]
        assert isinstance(done, Created | Stat)
        self.token = done.zxid if isinstance(done, Created) else done.mzxid
        self._ends_at = asked_at + self.duration
        return True

    async def _release(self, held: Held) -> None:
        entry, _ = await self._read()
        if entry is None or entry.holder != self.identifier:
            return
        try:
            async with self.client.transaction() as transaction:
                transaction.check(held.path)
                transaction.delete(self._entry_path)
        except TransactionError as error:
            raise _lost_or(error, held) from error

    async def _leaders_time(self, held: Held) -> int:
        """In ms since the epoch: that of a write, for which the claim on the lock serves."""
        try:
            return (await self.client.set(held.path, self.identifier.encode())).mtime
        except NoNodeError as error:
            raise OwnershipLostError(f"{held.path} is gone") from error


def _lost_or(error: TransactionError, held: Held) -> Exception:
    """What a failed transaction means: the lock was lost, if its claim is what was missing."""
    return OwnershipLostError(f"{held.path} is gone") if error.index == 0 else error
