"""A name service: hierarchical names below a namespace, each with some data.

A name ``a/b/c`` is the znode ``NAMESPACE/a/b/c``. Names above it that nobody has registered are there as folders,
which have no data at all (NULL), and vanish with the last name below them. ``NAMESPACE/.receipts`` makes changes
exact; see :mod:`corral.recipes.receipts`.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Final, NamedTuple

from corral.client import NULL, BadArgumentsError, ConnectionLoss, SessionExpired, Stat, Znode
from corral.client.errors import (
    BadVersionError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    TransactionError,
)
from corral.jute.owner import OwnerKind
from corral.recipes.endurance import endure
from corral.recipes.receipts import Receipts

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from corral.client import Acl, Client, Transaction

_RECEIPTS: Final = ".receipts"


class _Node(NamedTuple):
    """A znode that is being moved; the path is below the one that is moved."""

    path: str
    data: bytes
    stat: Stat
    acl: list[Acl]


class Names:
    """The names of one namespace::

        names = corral.recipes.Names(zk, "/names")
        await names.register("billing/db", b"db7.example:5432")
        print((await names.look_up("billing/db")).data)

    Changes are made exactly once over lost connections. If the session ends at the moment of a change they raise
    ConnectionLoss: it may have been made or not. So it is when one is cancelled.
    """

    def __init__(self, zk: Client, namespace: str) -> None:
        """Prepare it; nothing is sent."""
        zk.key(namespace)
        self._zk = zk
        self.namespace = namespace.rstrip("/")
        self._receipts = Receipts(zk, f"{self.namespace}/{_RECEIPTS}")

    def __repr__(self) -> str:
        return f"<Names {self.namespace or '/'}>"

    async def close(self) -> None:
        """Clean up behind this object; the names stay. Without it, the end of the session does so."""
        await self._receipts.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def path(self, name: str) -> str:
        """The znode of a name. Raises BadArgumentsError for what is none: parts begin with no dot, none is empty."""
        if not isinstance(name, str):
            raise TypeError(f"a name is a str, not {name!r}")
        if any(not part or part.startswith(".") for part in name.split("/")):
            raise BadArgumentsError(f"{name!r} is no name: its parts, between slashes, are not empty and begin no dot")
        path = f"{self.namespace}/{name}"
        self._zk.key(path)
        return path

    # Registering

    async def register(self, name: str, data: bytes = b"", *, ephemeral: bool = False) -> int:
        """Take a name that is free; returns the zxid, which is larger for each later owner of the name.

        An ``ephemeral`` name is free again when the session ends, and has no names below it.

        Raises NodeExistsError: somebody has it; or it is to be ephemeral, and there are names below it.
        """
        path = self.path(name)
        if data is NULL:
            raise BadArgumentsError(f"{name}: a registered name has data, if only an empty one")
        folder: Stat | None = None
        while True:
            try:
                return await self._receipts.commit(self._registering(path, data, folder, ephemeral=ephemeral))
            except TransactionError as error:
                match error.__cause__:
                    case NoNodeError():
                        folder = None
                        await self._make_folders(path)
                    case NotEmptyError():
                        raise NodeExistsError(f"{name}: there are names below it, so it cannot be ephemeral") from None
                    case NodeExistsError() | BadVersionError():
                        znode = await self._find(path)
                        if znode is not None and znode.data is not NULL:
                            raise NodeExistsError(f"{name} is taken") from None
                        folder = znode.stat if znode is not None else None
                    case cause:
                        raise cause or error from None

    @staticmethod
    def _registering(path: str, data: bytes, folder: Stat | None, *, ephemeral: bool) -> Callable[[Transaction], None]:
        """Where there is a ``folder``, it becomes the name, or makes room for it."""

        def fill(transaction: Transaction) -> None:
            if folder is not None and not ephemeral:
                transaction.set(path, data, version=folder.version)
                return
            if folder is not None:
                transaction.delete(path, version=folder.version)
            transaction.create(path, data, ephemeral=ephemeral)

        return fill

    async def unregister(self, name: str) -> None:
        """Give a name up, whoever has it; names below it stay. Raises NoNodeError if nobody has it."""
        path = self.path(name)
        while True:
            znode = await endure(self._zk, lambda: self._zk.get(path))
            if znode.data is NULL:
                raise NoNodeError(f"{name}: no such name")
            has_below = znode.stat.num_children > 0

            def fill(transaction: Transaction, stat: Stat = znode.stat, has_below: bool = has_below) -> None:
                if has_below:
                    transaction.set(path, NULL, version=stat.version)
                else:
                    transaction.delete(path, version=stat.version)

            try:
                await self._receipts.commit(fill)
            except TransactionError as error:
                # Somebody has changed it meanwhile: look again.
                if not isinstance(error.__cause__, (BadVersionError, NoNodeError, NotEmptyError)):
                    raise error.__cause__ or error from None
            else:
                await self._prune(path)
                return

    # Asking

    async def look_up(self, name: str) -> Znode:
        """The data of a name, and the stat of its znode. Raises NoNodeError if nobody has it."""
        path = self.path(name)
        znode = await endure(self._zk, lambda: self._zk.get(path))
        if znode.data is NULL:
            raise NoNodeError(f"{name}: no such name")
        return znode

    async def list_names(self, below: str = "", *, recursive: bool = False) -> list[str]:
        """The whole names directly below one, or below the namespace: sorted, with folders; empty if there are none.

        With ``recursive``, all registered names at any depth, without folders.
        """
        top = self.path(below) if below else self.namespace or "/"
        if recursive:
            return await endure(self._zk, lambda: self._list_all(top))
        try:
            children = await endure(self._zk, lambda: self._zk.get_children(top))
        except NoNodeError:
            return []
        prefix = f"{below}/" if below else ""
        return [prefix + name for name in sorted(children) if not name.startswith(".")]

    async def _list_all(self, top: str) -> list[str]:
        empty: list[str] = []
        found: list[str] = []
        try:
            async for path, listing in self._zk.walk(top):
                if path == top or path.startswith(f"{self.namespace}/."):
                    continue
                (found if listing.stat.data_length else empty).append(path)
        except NoNodeError:
            return []
        # Only their data tells folders from names whose data is empty.
        for path, znode in zip(empty, await self._zk.get_many(empty), strict=True):
            if isinstance(znode, Znode) and znode.data is not NULL:
                found.append(path)
        return sorted(path[len(self.namespace) + 1 :] for path in found)

    # Moving

    async def move(self, name: str, new_name: str) -> int:
        """Rename a name or a folder, with all below it, in one transaction; returns its zxid.

        Whoever looks sees either the old names or the new ones. The znodes are new ones, with the data, the ACLs and
        the kinds of the old.

        Raises:
            NoNodeError: there is no such name or folder.
            NodeExistsError: the new name is taken, or a folder.
            RequestTooLargeError: there is too much below it for one transaction; nothing has been done.
            BadArgumentsError: the new name is the old one or below it, or a name below belongs to the session of
                another client, from whom it cannot be taken.
        """
        path, new_path = self.path(name), self.path(new_name)
        if f"{new_path}/".startswith(f"{path}/"):
            raise BadArgumentsError(f"{name} cannot be moved to {new_name}, which is the same or below it")
        while True:
            nodes = await endure(self._zk, lambda: self._read_branch(path))
            self._refuse_foreign(nodes, path)
            try:
                zxid = await self._receipts.commit(self._moving(nodes, path, new_path))
            except TransactionError as error:
                if error.index == 0 and isinstance(error.__cause__, NodeExistsError):
                    znode = await self._find(new_path)
                    if znode is not None and (znode.data is not NULL or znode.stat.num_children):
                        raise NodeExistsError(f"{new_name} is taken") from None
                    await self._prune(f"{new_path}/")
                elif error.index == 0 and isinstance(error.__cause__, NoNodeError):
                    await self._make_folders(new_path)
                elif not isinstance(error.__cause__, (BadVersionError, NoNodeError, NotEmptyError)):
                    raise error.__cause__ or error from None
            else:
                await self._prune(path)
                return zxid

    def _moving(self, nodes: list[_Node], path: str, new_path: str) -> Callable[[Transaction], None]:
        def fill(transaction: Transaction) -> None:
            for node in nodes:
                is_ephemeral = node.stat.kind is OwnerKind.EPHEMERAL
                transaction.create(new_path + node.path, node.data, acl=node.acl, ephemeral=is_ephemeral)
            for node in reversed(nodes):
                transaction.delete(path + node.path, version=node.stat.version)

        return fill

    async def _read_branch(self, path: str) -> list[_Node]:
        """The znodes from ``path`` down, parents first. Raises NoNodeError if there is nothing."""
        while True:
            found = [at async for at, _ in self._zk.walk(path)]
            try:
                znodes = await asyncio.gather(*[self._zk.get(at) for at in found])
                lists = await asyncio.gather(*[self._zk.get_acl(at) for at in found])
            except NoNodeError:
                # Something has vanished meanwhile; if it was all, the walk says so.
                continue
            return [
                _Node(at[len(path) :], znode.data, znode.stat, access.acl)
                for at, znode, access in zip(found, znodes, lists, strict=True)
            ]

    def _refuse_foreign(self, nodes: list[_Node], path: str) -> None:
        session = self._zk.session
        for node in nodes:
            if node.stat.kind is OwnerKind.EPHEMERAL and (session is None or node.stat.ephemeral_owner != session.id):
                name = f"{path}{node.path}"[len(self.namespace) + 1 :]
                raise BadArgumentsError(f"{name} belongs to the session of another client: it cannot be moved")

    # Folders

    async def _find(self, path: str) -> Znode | None:
        try:
            return await endure(self._zk, lambda: self._zk.get(path))
        except NoNodeError:
            return None

    async def _make_folders(self, path: str) -> None:
        """Create what is missing above ``path``."""
        await endure(self._zk, lambda: self._zk.ensure(self.namespace or "/"))
        folder = self.namespace
        for part in path[len(self.namespace) + 1 :].split("/")[:-1]:
            folder = f"{folder}/{part}"
            await endure(self._zk, functools.partial(self._make_folder, folder))

    async def _make_folder(self, path: str) -> None:
        try:
            await self._zk.create(path, NULL)
        except (NodeExistsError, NoNodeError):
            # The latter if somebody has just cleared the folder above away: the caller comes again.
            return

    async def _prune(self, path: str) -> None:
        """Delete the folders above ``path`` that are empty. What is not deleted does no harm."""
        while (path := path[: path.rindex("/")]) != self.namespace:
            try:
                znode = await self._zk.get(path)
                if znode.data is not NULL or znode.stat.num_children:
                    return
                await self._zk.delete(path, version=znode.stat.version)
            except (NoNodeError, NotEmptyError, BadVersionError, ConnectionLoss, SessionExpired):
                return
