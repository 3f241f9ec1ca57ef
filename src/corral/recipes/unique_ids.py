"""Ids that are unique in the whole cluster, short, and readable: ``type2-job-0000000003``.

One at a time, the number is that of a sequential znode ``PATH/type2/job-0000000003``, which the service counts. In
blocks, it comes from a counter in the data of ``PATH/type2``: one conditional write reserves a whole block.

Both may be mixed. As long as the data is empty, the service's sequence counts, and each sequential znode is created in
a transaction that checks that the data has not been set. The first who reserves a block sets it; from then on nobody
can get a number from the sequence, and the counter begins behind it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from corral.client import Created
from corral.client.errors import BadVersionError, NodeExistsError, NoNodeError, TransactionError
from corral.recipes.endurance import endure
from corral.recipes.receipts import ignore_outcome

if TYPE_CHECKING:
    from corral.client import Client

_SEQUENCE_LAST: Final = 2**31 - 1
"""Here a server's own sequence sticks, and hands out the same number again and again: it is not used."""
_BEHIND_SEQUENCE: Final = b"behind the sequence"
"""The data from the moment when the sequence ends until the counter begins."""


class UniqueIds:
    """Hands out ids of one type::

        jobs = corral.recipes.UniqueIds(zk, "/ids", "type2", "job-", block=100)
        print(await jobs.next())  # type2-job-0000000003

    No id is handed out twice, whatever happens to processes, sessions and connections, as long as the type's znode is
    not deleted. There are gaps: what a process has reserved and not used when it ends, and numbers whose reservation
    was cancelled or whose answer was lost. Ids of one object ascend; among several with blocks, they are not in the
    order of time.

    Numbers have ten digits, and more from 10,000,000,000 on. From 2,147,483,647 on, where the service's sequence ends,
    the counter takes over by itself.
    """

    def __init__(self, zk: Client, path: str, kind: str, prefix: str = "", *, block: int = 1) -> None:
        """Prepare it; nothing is sent.

        Args:
            zk: the client.
            path: where the types are.
            kind: the type. It goes in front of each id, so that ids of different types differ.
            prefix: of the sequential znode; it stands between the type and the number.
            block: how many ids are reserved at once; it may differ among processes.
        """
        if not kind or "/" in kind:
            raise ValueError(f"a type of ids is the name of one znode, not {kind!r}")
        if "/" in prefix:
            raise ValueError(f"the prefix {prefix!r} is part of a znode's name and has no slash")
        if block < 1:
            raise ValueError(f"a block of {block} ids is none")
        self._zk = zk
        self.path = f"{path.rstrip('/')}/{kind}"
        zk.key(f"{self.path}/{prefix}0")
        self._kind = kind
        self._prefix = prefix
        self._block = block
        self._next = 0
        self._end = 0
        """The numbers from ``_next`` until before this are reserved."""
        self._reserving = asyncio.Lock()
        self._sequence_version: int | None = None
        """The version of the type's znode while the sequence counts; None if that is not known."""

    def __repr__(self) -> str:
        return f"<UniqueIds {self.path}/{self._prefix}, {self._end - self._next} reserved>"

    async def next(self) -> str:
        """A new id. It goes on over lost connections and sessions. Cancelled, it leaves a gap at most.

        Raises ValueError if the data of the type's znode is no counter of ids.
        """
        async with self._reserving:
            if self._next == self._end:
                self._next = await self._reserve(self._block)
                self._end = self._next + self._block
            number = self._next
            self._next += 1
        return self._name(number)

    async def take(self, count: int) -> list[str]:
        """So many new ids in a row, reserved at once."""
        if count < 1:
            raise ValueError(f"{count} ids are none")
        first = await self._reserve(count)
        return [self._name(number) for number in range(first, first + count)]

    def _name(self, number: int) -> str:
        return f"{self._kind}-{self._prefix}{number:010d}"

    async def _reserve(self, count: int) -> int:
        """The first of ``count`` numbers that nobody else has or gets."""
        while True:
            number = await endure(self._zk, lambda: self._try(count))
            if number is not None:
                return number

    async def _try(self, count: int) -> int | None:
        """One attempt; None if somebody else was faster, or there is one more step to take."""
        zk = self._zk
        if self._sequence_version is not None and count == 1:
            return await self._from_sequence(self._sequence_version)
        try:
            data, stat = await zk.get(self.path)
        except NoNodeError:
            await zk.ensure(self.path)
            return None
        if not data and count == 1:
            self._sequence_version = stat.version
            return None
        if not data:
            await self._set(_BEHIND_SEQUENCE, stat.version)
            return None
        if data == _BEHIND_SEQUENCE:
            first = await self._end_of_sequence()
        elif data.isdigit():
            first = int(data)
        else:
            raise ValueError(f"{self.path}: {data[:40]!r} is no counter of ids")
        # If the answer is lost, so is the block: somebody else may have reserved the one after it by now.
        return first if await self._set(b"%d" % (first + count), stat.version) else None

    async def _set(self, data: bytes, version: int) -> bool:
        try:
            await self._zk.set(self.path, data, version=version)
        except BadVersionError:
            return False
        return True

    async def _from_sequence(self, version: int) -> int | None:
        """The number of a new sequential znode; None if the sequence counts no more."""
        transaction = self._zk.transaction()
        transaction.check(self.path, version=version)
        transaction.create(f"{self.path}/{self._prefix}", ephemeral=True, sequential=True)
        try:
            created = (await transaction.commit())[1]
        except TransactionError as error:
            if not isinstance(error.__cause__, (BadVersionError, NoNodeError, NodeExistsError)):
                raise error.__cause__ or error from None
            self._sequence_version = None
            if isinstance(error.__cause__, NodeExistsError):
                await self._set(_BEHIND_SEQUENCE, version)
            return None
        assert isinstance(created, Created)
        number = self._discard(created)
        if number is None:
            self._sequence_version = None
            await self._set(_BEHIND_SEQUENCE, version)
        return number

    async def _end_of_sequence(self) -> int:
        """A number behind all that the sequence has handed out."""
        try:
            created = await self._zk.create(f"{self.path}/{self._prefix}", ephemeral=True, sequential=True)
        except NodeExistsError:
            return _SEQUENCE_LAST
        number = self._discard(created)
        return number + 1 if number is not None else _SEQUENCE_LAST

    def _discard(self, created: Created) -> int | None:
        """The number of a sequential znode that has done its service; None beyond the end of the sequence."""
        # Nobody waits for it: what is not deleted now ends with the session.
        asyncio.ensure_future(self._zk.delete(created)).add_done_callback(ignore_outcome)
        number = int(created[len(self.path) + 1 + len(self._prefix) :])
        return number if 0 <= number < _SEQUENCE_LAST else None
