"""A znode whose former values are kept.

The value is the data of ``path``, plain, and its version is the znode's. Each version is also kept as
``path/history/NUMBER``: one line of JSON about its publication, and the value.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from corral.client.errors import BadVersionError, NodeExistsError, NoNodeError, TransactionError
from corral.recipes.endurance import endure
from corral.recipes.headed import join, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.client import Acl, Client, Stat, Znode


class Entry(NamedTuple):
    """One version."""

    version: int
    data: bytes
    author: str
    note: str
    stat: Stat
    """Of the entry."""


class History:
    """Publishes, and looks back."""

    def __init__(self, zk: Client, path: str, kept: int, acl: Sequence[Acl]) -> None:
        self._zk = zk
        self.path = path
        self.top = path + "/history"
        self._kept = kept
        self._acl = acl

    async def publish(
        self, data: bytes, *, version: int | None, author: str, note: str, must_be_new: bool = False
    ) -> int:
        """Set the value, if ``version`` is current or None; returns the new version.

        Lost connections and sessions are ridden out: what was done is found by a mark in the history. Raises
        BadVersionError, NoNodeError when there is no value to follow, NodeExistsError when there is one already.
        """
        header = {"id": uuid4().hex, "author": author, "note": note}
        tried: int | None = None

        async def attempt() -> int:
            nonlocal tried
            if tried is not None and await self._was_published(tried, header["id"]):
                return tried
            znode = await self._current()
            if must_be_new and znode is not None:
                raise NodeExistsError(f"{self.path}: version {znode.stat.version} has been published")
            if version is not None and znode is None:
                raise NoNodeError(f"{self.path}: nothing has been published")
            if version is not None and znode is not None and znode.stat.version != version:
                raise BadVersionError(f"{self.path}: version {znode.stat.version} is current, not {version}")
            tried = 0 if znode is None else znode.stat.version + 1
            if znode is None:
                await self._create(data, header)
            else:
                await self._replace(znode, data, header)
            return tried

        while True:
            try:
                return await endure(self._zk, attempt)
            except TransactionError as error:
                # Somebody was faster, or it was this one before an answer was lost.
                if not isinstance(error.__cause__, (BadVersionError, NodeExistsError, NoNodeError)):
                    raise

    async def _was_published(self, version: int, identity: str) -> bool:
        await self._zk.sync(self.path)
        try:
            entry = await self._zk.get(self._entry(version))
        except NoNodeError:
            return False
        header, _ = split(entry.data)
        return header is not None and header.get("id") == identity

    async def _current(self) -> Znode | None:
        try:
            return await self._zk.get(self.path)
        except NoNodeError:
            return None

    async def _create(self, data: bytes, header: dict[str, str]) -> None:
        parent = self.path[: self.path.rindex("/")]
        if parent:
            await self._zk.ensure(parent, acl=self._acl)
        async with self._zk.transaction() as transaction:
            transaction.create(self.path, data, acl=self._acl)
            transaction.create(self.top, acl=self._acl)
            transaction.create(self._entry(0), join(header, data), acl=self._acl)

    async def _replace(self, znode: Znode, data: bytes, header: dict[str, str]) -> None:
        current = znode.stat.version
        versions = await self._versions()
        if not versions:
            await self._zk.ensure(self.top, acl=self._acl)
        async with self._zk.transaction() as transaction:
            # Every publisher sets the value: what was read above still holds if nobody has.
            transaction.set(self.path, data, version=current)
            if current not in versions:
                # Set by other means than this class.
                transaction.create(self._entry(current), join({}, znode.data), acl=self._acl)
                versions.append(current)
            transaction.create(self._entry(current + 1), join(header, data), acl=self._acl)
            for old in versions[: max(0, len(versions) + 1 - self._kept)]:
                transaction.delete(self._entry(old))

    async def entries(self) -> list[Entry]:
        """The versions that are kept, the oldest first. Raises ConnectionLoss, SessionExpired."""
        versions = await self._versions()
        found = await asyncio.gather(*[self._zk.get(self._entry(each)) for each in versions], return_exceptions=True)
        entries = []
        for version, znode in zip(versions, found, strict=True):
            if isinstance(znode, NoNodeError):
                # A publisher has just dropped it.
                continue
            if isinstance(znode, BaseException):
                raise znode
            header, data = split(znode.data)
            about = header or {}
            entries.append(Entry(version, data, about.get("author", ""), about.get("note", ""), znode.stat))
        return entries

    async def _versions(self) -> list[int]:
        try:
            names = await self._zk.get_children(self.top)
        except NoNodeError:
            return []
        return sorted(int(name) for name in names if name.isdigit())

    def _entry(self, version: int) -> str:
        return f"{self.top}/{version:010d}"
