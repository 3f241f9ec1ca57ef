"""Reads subtrees: many requests under way, in bounded memory.

Two pipelines follow each other. The first lists znodes, which tells their sizes; the second reads data and ACLs of
those listed, as many as fit into :data:`HELD_BYTES_MAX`. Of znodes that are not asked for yet, only paths are kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from corral.client import KeeperError, SessionExpired
from corral.client.errors import NoNodeError
from corral.jute.owner import OwnerKind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence

    from corral.client import AccessList, Acl, Client, Listing, Stat, Znode

__all__ = [
    "HELD_BYTES_MAX",
    "WINDOW",
    "Entry",
    "Node",
    "discard",
    "outliving",
    "read_subtree",
    "reserved_below",
    "stat_of",
]

_T = TypeVar("_T")

WINDOW: Final = 500
"""Requests of one sort that are under way at once."""
HELD_BYTES_MAX: Final = 8 * 1024 * 1024
"""Data asked for and not handed out yet. One znode may have more."""


class Node(NamedTuple):
    """A znode as it was found."""

    path: str
    stat: Stat
    data: bytes | None = None
    """None if it was not asked for."""
    acl: Sequence[Acl] | None = None
    """None if it was not asked for."""


class Entry(NamedTuple):
    """What makes a znode what it is, wherever it stands: what is copied, exported, compared."""

    path: str
    data: bytes
    acl: Sequence[Acl]
    kind: OwnerKind = OwnerKind.PERSISTENT
    """Of a znode that was read, only whether it is ephemeral: servers do not tell clients of the other kinds."""
    ttl: float | None = None
    """In seconds, of those of kind TTL."""


class _Listed(NamedTuple):
    path: str
    listing: Listing
    data: asyncio.Future[Znode] | None
    acl: asyncio.Future[AccessList] | None
    size: int


def reserved_below(client: Client, path: str) -> frozenset[str]:
    """What is no user's data: the service's own ``/zookeeper``, unless ``path`` is in it."""
    return frozenset(["/zookeeper"]) if path == "/" and not client.settings.chroot else frozenset()


async def read_subtree(
    client: Client,
    path: str,
    *,
    data: bool = False,
    acl: bool = False,
    depth: int | None = None,
    without: frozenset[str] = frozenset(),
    until_zxid: int | None = None,
    on_unreadable: Callable[[str, KeeperError], None] | None = None,
) -> AsyncGenerator[Node, None]:
    """Each znode of a subtree, breadth first, children sorted.

    Znodes that come and go meanwhile may be in or not; those that vanish are left out. To be closed (``aclosing``) by
    who does not read it to the end.

    Args:
        client: where it is.
        path: its root.
        data: whether to read the data.
        acl: whether to read the ACLs.
        depth: levels below the root; None for all.
        without: paths to leave out with all below them.
        until_zxid: leave out what was created by a later transaction, with all below it.
        on_unreadable: called for a znode below the root that may not be read; without it, that is an error.

    Raises:
        NoNodeError: there is no ``path``.
        NoAuthError: something may not be read.
        ConnectionLoss: the connection was lost for longer than a session lasts.
    """
    waiting: deque[str] = deque([path])
    listed: deque[tuple[str, asyncio.Future[Listing]]] = deque()
    reading: deque[_Listed] = deque()
    held = 0
    levels = path.rstrip("/").count("/")
    try:
        while True:
            while waiting and len(listed) < WINDOW:
                next_path = waiting.popleft()
                listed.append((next_path, asyncio.ensure_future(client.get_listing(next_path))))
            has_room = len(reading) < WINDOW and held < HELD_BYTES_MAX
            if listed and (not reading or (has_room and listed[0][1].done())):
                at, answer = listed.popleft()
                try:
                    listing = await outliving(answer, partial(client.get_listing, at))
                except KeeperError as error:
                    _leave_out(path, at, error, on_unreadable)
                    continue
                if until_zxid is not None and listing.stat.czxid > until_zxid:
                    continue
                if depth is None or at.rstrip("/").count("/") - levels < depth:
                    listing.names.sort()
                    prefix = at if at.endswith("/") else f"{at}/"
                    waiting.extend(child for name in listing.names if (child := prefix + name) not in without)
                size = listing.stat.data_length if data else 0
                held += size
                reading.append(
                    _Listed(
                        at,
                        listing,
                        asyncio.ensure_future(client.get(at)) if data else None,
                        asyncio.ensure_future(client.get_acl(at)) if acl else None,
                        size,
                    )
                )
            elif reading:
                found = reading[0]
                try:
                    node = await _complete(client, found)
                except KeeperError as error:
                    _leave_out(path, found.path, error, on_unreadable)
                    node = None
                reading.popleft()
                discard(future for future in (found.data, found.acl) if future is not None)
                held -= found.size
                if node is not None:
                    yield node
            else:
                return
    finally:
        discard(answer for _, answer in listed)
        discard(future for found in reading for future in (found.data, found.acl) if future is not None)


async def _complete(client: Client, found: _Listed) -> Node:
    path, data, stat, acl = found.path, None, found.listing.stat, None
    if found.data is not None:
        data, stat = await outliving(found.data, partial(client.get, path))
    if found.acl is not None:
        acl = (await outliving(found.acl, partial(client.get_acl, path))).acl
    return Node(path, stat, data, acl)


async def outliving(asked: Awaitable[_T], ask_again: Callable[[], Awaitable[_T]]) -> _T:
    """The answer, on the next session if this one ends: nothing of a subtree's work belongs to a session."""
    try:
        return await asked
    except SessionExpired:
        return await ask_again()


async def stat_of(client: Client, path: str) -> Stat | None:
    """The stat of a znode, None if there is none."""
    return await outliving(client.exists(path), partial(client.exists, path))


def _leave_out(
    root: str, path: str, error: KeeperError, on_unreadable: Callable[[str, KeeperError], None] | None
) -> None:
    """Let a znode be missing, or raise ``error``."""
    if path == root:
        raise error
    if isinstance(error, NoNodeError):
        return
    if on_unreadable is None:
        raise error
    on_unreadable(path, error)


def discard(futures: Iterable[asyncio.Future[Any]]) -> None:
    """Let go of requests whose answers nobody wants any more."""
    for future in futures:
        if not future.cancel() and not future.cancelled():
            # Otherwise the event loop would complain of an exception that nobody looked at.
            future.exception()
