"""Who is told when a znode changes (sources: WatchManager, WatcherMode, PathParentIterator).

A watcher is a connection. There are two tables from path to watchers: *data* watches (set by exists and getData) and
*child* watches (set by getChildren). Persistent watches stand in both; persistent recursive ones in the data table
only, which is why they are never told NodeChildrenChanged.
"""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING, Protocol

from corral.jute.ops import EventType, WatcherType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corral.jute.records import Acl
    from corral.tree.datatree import Change


class Watcher(Protocol):
    """What can be told of an event."""

    def deliver(self, event: EventType, path: bytes, zxid: int, acl: tuple[Acl, ...] | None) -> None:
        """``acl`` must grant READ for the event to be seen; None tells everybody."""


class WatchMode(IntFlag):
    """How one watcher watches one path in one table; the modes are independent of each other."""

    STANDARD = 1
    PERSISTENT = 2
    PERSISTENT_RECURSIVE = 4


class _Table:
    """Path to watchers with their modes."""

    __slots__ = ("paths", "recursive")

    def __init__(self) -> None:
        self.paths: dict[bytes, dict[Watcher, int]] = {}
        self.recursive = 0

    def add(self, path: bytes, watcher: Watcher, mode: int) -> None:
        watchers = self.paths.get(path)
        if watchers is None:
            watchers = self.paths[path] = {}
        before = watchers.get(watcher, 0)
        if mode & WatchMode.PERSISTENT_RECURSIVE and not before & WatchMode.PERSISTENT_RECURSIVE:
            self.recursive += 1
        watchers[watcher] = before | mode

    def remove(self, path: bytes, watcher: Watcher, mode: int) -> bool:
        watchers = self.paths.get(path)
        before = 0 if watchers is None else watchers.get(watcher, 0)
        if watchers is None or not before & mode:
            return False
        if before & mode & WatchMode.PERSISTENT_RECURSIVE:
            self.recursive -= 1
        after = before & ~mode
        if after:
            watchers[watcher] = after
        else:
            del watchers[watcher]
            if not watchers:
                del self.paths[path]
        return True

    def has(self, path: bytes, watcher: Watcher, mode: int) -> bool:
        watchers = self.paths.get(path)
        return watchers is not None and bool(watchers.get(watcher, 0) & mode)

    def take(self, path: bytes) -> dict[Watcher, None]:
        """Who is to be told of a change at ``path``; one-shot watches are used up."""
        told: dict[Watcher, None] = {}
        watchers = self.paths.get(path)
        if watchers is not None:
            for watcher in list(watchers):
                told[watcher] = None
                if watchers[watcher] == WatchMode.STANDARD:
                    del watchers[watcher]
                else:
                    watchers[watcher] &= ~WatchMode.STANDARD
            if not watchers:
                del self.paths[path]
        if self.recursive:
            for ancestor in _ancestors(path):
                for watcher, mode in self.paths.get(ancestor, {}).items():
                    if mode & WatchMode.PERSISTENT_RECURSIVE:
                        told[watcher] = None
        return told


def _ancestors(path: bytes) -> Iterator[bytes]:
    while path and path != b"/":
        path = path[: path.rfind(b"/")] or b"/"
        yield path


_DATA_MODES = {
    WatcherType.CHILDREN: 0,
    WatcherType.DATA: WatchMode.STANDARD,
    WatcherType.ANY: WatchMode.STANDARD | WatchMode.PERSISTENT | WatchMode.PERSISTENT_RECURSIVE,
    WatcherType.PERSISTENT: WatchMode.PERSISTENT,
    WatcherType.PERSISTENT_RECURSIVE: WatchMode.PERSISTENT_RECURSIVE,
}
_CHILD_MODES = {
    WatcherType.CHILDREN: WatchMode.STANDARD,
    WatcherType.DATA: 0,
    WatcherType.ANY: WatchMode.STANDARD | WatchMode.PERSISTENT,
    WatcherType.PERSISTENT: WatchMode.PERSISTENT,
    WatcherType.PERSISTENT_RECURSIVE: 0,
}


class WatchTables:
    """Both tables, and which paths each watcher is in, so that a closed connection is forgotten quickly."""

    def __init__(self, told: Callable[[EventType, int], None] | None = None) -> None:
        """``told`` learns how many watchers were told of each event, unless nobody was."""
        self._on_told = told
        self._data = _Table()
        self._child = _Table()
        self.watchers: dict[Watcher, set[bytes]] = {}
        """Who watches anything, and which paths."""

    def _remember(self, watcher: Watcher, path: bytes) -> None:
        paths = self.watchers.get(watcher)
        if paths is None:
            paths = self.watchers[watcher] = set()
        paths.add(path)

    def watch_data(self, path: bytes, watcher: Watcher) -> None:
        """One-shot: told once of creation, deletion or change of data."""
        self._data.add(path, watcher, WatchMode.STANDARD)
        self._remember(watcher, path)

    def watch_children(self, path: bytes, watcher: Watcher) -> None:
        """One-shot: told once of deletion or a change among the children."""
        self._child.add(path, watcher, WatchMode.STANDARD)
        self._remember(watcher, path)

    def watch_persistently(self, path: bytes, watcher: Watcher, *, recursive: bool) -> None:
        """Told of every change until removed; recursively: of every descendant's as well."""
        if recursive:
            self._data.add(path, watcher, WatchMode.PERSISTENT_RECURSIVE)
        else:
            self._data.add(path, watcher, WatchMode.PERSISTENT)
            self._child.add(path, watcher, WatchMode.PERSISTENT)
        self._remember(watcher, path)

    def has(self, path: bytes, watcher: Watcher, kind: WatcherType) -> bool:
        return self._data.has(path, watcher, _DATA_MODES[kind]) or self._child.has(path, watcher, _CHILD_MODES[kind])

    def remove(self, path: bytes, watcher: Watcher, kind: WatcherType) -> bool:
        """Stop watching; whether there was such a watch."""
        from_data = self._data.remove(path, watcher, _DATA_MODES[kind])
        from_child = self._child.remove(path, watcher, _CHILD_MODES[kind])
        self._forget_if_gone(watcher, path)
        return from_data or from_child

    def forget(self, watcher: Watcher) -> None:
        """Drop all watches of a watcher that is no more."""
        everything = WatchMode.STANDARD | WatchMode.PERSISTENT | WatchMode.PERSISTENT_RECURSIVE
        for path in self.watchers.pop(watcher, ()):
            self._data.remove(path, watcher, everything)
            self._child.remove(path, watcher, everything)

    def _forget_if_gone(self, watcher: Watcher, path: bytes) -> None:
        if watcher in self._data.paths.get(path, ()) or watcher in self._child.paths.get(path, ()):
            return
        paths = self.watchers.get(watcher)
        if paths is not None:
            paths.discard(path)
            if not paths:
                del self.watchers[watcher]

    def trigger(self, changes: list[Change], zxid: int) -> None:
        """Tell the watchers of what one transaction changed, in the order in which it changed it."""
        for event, path, acl, parent, parent_acl in changes:
            told = self._data.take(path)
            for watcher in told:
                watcher.deliver(event, path, zxid, acl)
            self._settle(told, path, event)
            if event == EventType.NODE_DATA_CHANGED:
                continue
            if event == EventType.NODE_DELETED:
                also = self._child.take(path)
                for watcher in also:
                    if watcher not in told:
                        watcher.deliver(event, path, zxid, acl)
                self._settle(also, path, event)
            told = self._child.take(parent)
            for watcher in told:
                watcher.deliver(EventType.NODE_CHILDREN_CHANGED, parent, zxid, parent_acl)
            self._settle(told, parent, EventType.NODE_CHILDREN_CHANGED)

    def _settle(self, told: dict[Watcher, None], path: bytes, event: EventType) -> None:
        if told and self._on_told is not None:
            self._on_told(event, len(told))
        for watcher in told:
            self._forget_if_gone(watcher, path)

    @property
    def count(self) -> int:
        """Watches in both tables (a persistent one counts in each)."""
        return sum(len(watchers) for table in (self._data, self._child) for watchers in table.paths.values())

    def data_watches(self) -> Iterator[tuple[bytes, list[Watcher]]]:
        """Path and watchers of the data table, for the admin words."""
        for path, watchers in self._data.paths.items():
            yield path, list(watchers)
