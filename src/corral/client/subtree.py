"""The newest state of every znode of a subtree, read again whenever events may have been missed.

A recursive watch says which znodes have changed; each is then read. After a broken connection the subtree is walked:
of a znode that is known only the stat is asked, the data if its mzxid has changed, the children if its pzxid has.

What is read may be newer than the event that led to it. So a state is handed out only when no older change of another
znode is still to be read: all changes come in the order of their zxids (from servers whose events tell them: 3.9).
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from corral.client.errors import ClientClosedError, ConnectionLoss, NoAuthError, NoNodeError, SessionExpired
from corral.client.states import State
from corral.client.watches import EventKind, WatchEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from corral.client.client import Client
    from corral.client.results import Znode
    from corral.client.watch import Watch

_T = TypeVar("_T")

_WINDOW: Final = 1000
"""Requests in flight while many znodes are read."""

log = logging.getLogger("corral.client")


class ChangeKind(Enum):
    """What became of a znode."""

    PUT = "put"
    """It is there now, and was not known before."""
    UPDATE = "update"
    """Its data has been set."""
    REMOVE = "remove"
    RESYNCHRONISED = "resynchronised"
    """The connection was away: what follows are newest states, and states in between may have been left out."""


class Change(NamedTuple):
    """One step of a subtree."""

    kind: ChangeKind
    path: str
    znode: Znode | None
    """The new state; None for what is removed."""
    zxid: int
    """Of the transaction; of a removal that was found later, not before which it happened. -1 if nobody knows."""
    previous: Znode | None = None
    """The state before, where it is kept: by a cache."""


class _Pending(NamedTuple):
    first_zxid: int
    """Of the oldest event that has not been looked at."""
    last: WatchEvent


class SubtreeReader:
    """Hands every change to ``deliver``, from the start to the close; calls ``ended`` when no more will come."""

    def __init__(self, client: Client, path: str, deliver: Callable[[Change], None], ended: Callable[[], None]) -> None:
        self._client = client
        self.path = path
        self._deliver = deliver
        self._ended = ended
        self._watch: Watch = client.watch(path, recursive=True, callback=self._take)
        self._known: dict[str, int] = {}
        """The mzxid of each znode that has been handed out."""
        self._listed: dict[str, int] = {}
        """The pzxids for which the children are known; without one they are listed at the next walk."""
        self._children: dict[str, dict[str, None]] = {}
        self._pending: dict[str, _Pending] = {}
        self._ready: dict[str, Change] = {}
        self._must_walk = True
        self._has_walked = False
        self._woken = asyncio.Event()
        self._settled = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._is_closed = False
        self.failure: Exception | None = None
        """Why it ended by itself."""

    # Life

    async def start(self) -> None:
        """Set the watch and read the subtree once; it need not exist. Raises what reading it raises."""
        if self._is_closed or self._runner is not None:
            raise RuntimeError("it is started once; make another one")
        self._is_closed = True
        await self._watch.start()
        self._is_closed = False
        self._client.on_state(self._follow_state)
        self._runner = asyncio.get_running_loop().create_task(self._run(), name=f"corral-subtree {self.path}")
        try:
            await self.settled()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End it, and its watch."""
        if self._is_closed:
            return
        self._is_closed = True
        self._client.off_state(self._follow_state)
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])
        self._settled.set()
        self._ended()
        await self._watch.close()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self._is_closed or self.failure is not None

    @property
    def is_settled(self) -> bool:
        """Whether everything that is known to have changed has been handed out, and the connection is up."""
        return self._settled.is_set() and self._client.state.is_connected and not self.is_over

    async def settled(self) -> None:
        """Wait until everything that is known to have changed has been handed out."""
        await self._settled.wait()
        if self.failure is not None:
            raise self.failure
        if self._is_closed:
            raise ClientClosedError(f"{self.path} is not followed any more")

    def children(self, path: str) -> Iterable[str]:
        """The names of the children that are known."""
        return self._children.get(path, ())

    def _follow_state(self, state: State) -> None:
        if state is State.CLOSED:
            self._end(ClientClosedError("the client is closed"))

    def _end(self, failure: Exception) -> None:
        if not self.is_over:
            self.failure = failure
            self._woken.set()
            self._settled.set()
            self._ended()

    # What happens

    def _take(self, event: WatchEvent) -> None:
        if event.kind is EventKind.MISSED:
            self._must_walk = True
        else:
            pending = self._pending.get(event.path)
            self._pending[event.path] = _Pending(event.zxid if pending is None else pending.first_zxid, event)
        self._settled.clear()
        self._woken.set()

    async def _run(self) -> None:
        while True:
            try:
                while self._must_walk or self._pending or self._ready:
                    if self._must_walk:
                        self._must_walk = False
                        await self._walk()
                    else:
                        await self._read_pending()
                    self._hand_out()
            except (ConnectionLoss, SessionExpired):
                # Whatever was under way is found again by the walk.
                self._must_walk = True
                await self._client.connected()
                continue
            except Exception as error:
                log.exception("%s cannot be followed any more", self.path)
                self._end(error)
                return
            self._woken.clear()
            self._settled.set()
            await self._woken.wait()
            if self.failure is not None:
                return

    async def _read_pending(self) -> None:
        pending, self._pending = self._pending, {}
        paths = []
        try:
            for path, (_, last) in pending.items():
                if last.kind is EventKind.DELETED:
                    self._ready[path] = Change(ChangeKind.REMOVE, path, None, last.zxid)
                else:
                    paths.append(path)
            async for path, znode in _in_windows(paths, self._client.get):
                if znode is None:
                    # Its deletion has been told by now, and is pending.
                    self._ready[path] = Change(ChangeKind.REMOVE, path, None, pending[path].last.zxid)
                else:
                    self._ready[path] = Change(ChangeKind.PUT, path, znode, znode.stat.mzxid)
        except BaseException:
            self._must_walk = True
            raise

    # The walk

    async def _walk(self) -> None:
        """Find all that differs from what is known."""
        # What these say is older than what is found now, and would be taken for newer.
        self._pending.clear()
        if self._ready:
            # Children that are not handed out yet are not among those that are known.
            self._listed.clear()
        differences: dict[str, Change] = {}
        seen: set[str] = set()
        pzxids: dict[str, int] = {}
        level = [self.path]
        while level:
            below: list[str] = []
            changed: list[str] = []
            unlisted: list[str] = []
            async for path, stat in _in_windows(level, self._client.exists):
                if stat is None:
                    continue
                seen.add(path)
                pzxids[path] = stat.pzxid
                if self._known.get(path) != stat.mzxid:
                    changed.append(path)
                if self._listed.get(path) == stat.pzxid:
                    below.extend(_join(path, name) for name in self.children(path))
                elif stat.num_children:
                    unlisted.append(path)
            async for path, znode in _in_windows(changed, self._client.get):
                if znode is None:
                    seen.discard(path)
                else:
                    differences[path] = Change(ChangeKind.PUT, path, znode, znode.stat.mzxid)
            async for path, listing in _in_windows(unlisted, self._client.get_listing):
                if listing is not None:
                    pzxids[path] = listing.stat.pzxid
                    below.extend(_join(path, name) for name in listing.names)
            level = below
        for path in self._known.keys() - seen:
            differences[path] = Change(ChangeKind.REMOVE, path, None, _removed_at(path, pzxids))
        if differences and self._has_walked:
            self._deliver(Change(ChangeKind.RESYNCHRONISED, self.path, None, self._client.last_zxid))
        self._has_walked = True
        self._listed = pzxids
        self._ready = differences

    # Handing out

    def _hand_out(self) -> None:
        """Deliver what is older than every change that is still to be read."""
        limit = min((each.first_zxid for each in self._pending.values()), default=-1)
        due = [change for change in self._ready.values() if limit < 0 or change.zxid < limit]
        due.sort(key=_order)
        for change in due:
            del self._ready[change.path]
            if change.znode is None:
                self._remove(change)
            else:
                self._put(change, change.znode)

    def _put(self, change: Change, znode: Znode) -> None:
        path, mzxid = change.path, znode.stat.mzxid
        known = self._known.get(path)
        if known == mzxid:
            return
        self._known[path] = mzxid
        if known is not None:
            self._deliver(change._replace(kind=ChangeKind.UPDATE))
            return
        if not znode.stat.num_children:
            self._listed.setdefault(path, znode.stat.pzxid)
        if path != self.path:
            parent, _, name = path.rpartition("/")
            self._children.setdefault(parent or "/", {})[name] = None
        self._deliver(change)

    def _remove(self, change: Change) -> None:
        path = change.path
        if self._known.pop(path, None) is None:
            return
        self._listed.pop(path, None)
        if path != self.path:
            parent, _, name = path.rpartition("/")
            siblings = self._children.get(parent or "/", {})
            siblings.pop(name, None)
            if not siblings:
                self._children.pop(parent or "/", None)
        self._deliver(change)


async def _in_windows(
    paths: Sequence[str], read: Callable[[str], Awaitable[_T | None]]
) -> AsyncIterator[tuple[str, _T | None]]:
    """Read each of ``paths``, many at a time; None for one that is not there, or not to be read by this client."""
    for first in range(0, len(paths), _WINDOW):
        window = paths[first : first + _WINDOW]
        answers = await asyncio.gather(*[read(path) for path in window], return_exceptions=True)
        for path, answer in zip(window, answers, strict=True):
            if isinstance(answer, NoAuthError):
                log.warning("%s may not be read by this client, and is left out", path)
            if isinstance(answer, (NoNodeError, NoAuthError)):
                yield path, None
            elif isinstance(answer, BaseException):
                raise answer
            else:
                yield path, answer


def _join(path: str, name: str) -> str:
    return f"/{name}" if path == "/" else f"{path}/{name}"


def _removed_at(path: str, pzxids: dict[str, int]) -> int:
    """The newest transaction that may have removed ``path``: what its nearest ancestor says of its children."""
    while path != "/":
        path = path[: path.rindex("/")] or "/"
        if path in pzxids:
            return pzxids[path]
    return -1


def _order(change: Change) -> tuple[int, bool, int]:
    """By transaction; within one, what is removed comes first, and children are removed before and made after."""
    depth = change.path.count("/")
    return (change.zxid, change.znode is not None, depth if change.znode is not None else -depth)
