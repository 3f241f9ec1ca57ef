"""Who waits for which event, and what a server must be told after a reconnection.

A *key* is a full path on the server; the events handed out have paths as the program sees them, below its chroot.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from corral.jute.ops import OpCode, WatcherType
from corral.jute.records import SetWatches, SetWatches2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PIECE_BYTES: Final = 128 * 1024
"""Paths in one setWatches, at most: what Apache's client sends, and far below what servers refuse."""


class EventKind(IntEnum):
    """What happened."""

    CREATED = 1
    DELETED = 2
    DATA_CHANGED = 3
    CHILDREN_CHANGED = 4
    MISSED = -1
    """The connection was away and is back: what happened in between has not been told. Only for lasting watches."""
    LOST = -2
    """The session has ended, or the client is closed, and with it this watch. Only for one-shot watches."""
    DATA_WATCH_REMOVED = 5
    """By :meth:`Client.remove_watches`, as the two that follow: this watch has ended."""
    CHILD_WATCH_REMOVED = 6
    PERSISTENT_WATCH_REMOVED = 7


class WatchEvent(NamedTuple):
    """Something happened to a znode."""

    kind: EventKind
    path: str
    zxid: int = -1
    """Of the transaction; -1 if the server does not tell (before 3.9, and for what happened while disconnected)."""


class OneShot(IntEnum):
    """The tables of watches that fire once."""

    DATA = 0
    EXISTS = 1
    CHILDREN = 2


class Lasting(IntEnum):
    """The tables of watches that stay: the codes are those of addWatch."""

    PERSISTENT = 0
    RECURSIVE = 1


_ONE_SHOT_FIRED: Final = {
    EventKind.CREATED: (OneShot.DATA, OneShot.EXISTS),
    EventKind.DATA_CHANGED: (OneShot.DATA, OneShot.EXISTS),
    EventKind.DELETED: (OneShot.DATA, OneShot.EXISTS, OneShot.CHILDREN),
    EventKind.CHILDREN_CHANGED: (OneShot.CHILDREN,),
}

_ONE_SHOT_REMOVED: Final = {
    OneShot.DATA: (WatcherType.DATA, EventKind.DATA_WATCH_REMOVED),
    OneShot.EXISTS: (WatcherType.DATA, EventKind.DATA_WATCH_REMOVED),
    OneShot.CHILDREN: (WatcherType.CHILDREN, EventKind.CHILD_WATCH_REMOVED),
}
_LASTING_REMOVED: Final = {
    Lasting.PERSISTENT: WatcherType.PERSISTENT,
    Lasting.RECURSIVE: WatcherType.PERSISTENT_RECURSIVE,
}
KINDS_TOLD: Final = {int(kind): kind for kind in _ONE_SHOT_FIRED}
"""The kinds that servers tell of, by their codes; the others are the client's own."""


class WatchRegistry:
    """All watches of one client."""

    def __init__(self, chroot: str) -> None:
        self._chroot = chroot
        self._one_shot: dict[OneShot, dict[str, list[Callable[[WatchEvent], object]]]] = {each: {} for each in OneShot}
        self._lasting: dict[Lasting, dict[str, list[Callable[[WatchEvent], object]]]] = {each: {} for each in Lasting}

    def __repr__(self) -> str:
        counts = {
            each.name.lower(): len(table)
            for tables in (self._one_shot, self._lasting)
            for each, table in tables.items()
        }
        return f"<WatchRegistry {counts}>"

    def add_one_shot(self, table: OneShot, key: str, callback: Callable[[WatchEvent], object]) -> None:
        """``callback`` gets the next event, once."""
        callbacks = self._one_shot[table].setdefault(key, [])
        if callback not in callbacks:
            callbacks.append(callback)

    def add_lasting(self, table: Lasting, key: str, callback: Callable[[WatchEvent], object]) -> None:
        """``callback`` gets every event from now on."""
        self._lasting[table].setdefault(key, []).append(callback)

    def has_lasting(self, table: Lasting, key: str, callback: Callable[[WatchEvent], object]) -> bool:
        """Whether ``callback`` gets events."""
        return callback in self._lasting[table].get(key, ())

    def remove_lasting(self, table: Lasting, key: str, callback: Callable[[WatchEvent], object]) -> bool:
        """Forget it; returns whether it was the last one, so that the server need not watch any more."""
        callbacks = self._lasting[table].get(key)
        if callbacks is None or callback not in callbacks:
            return False
        callbacks.remove(callback)
        if callbacks:
            return False
        del self._lasting[table][key]
        return True

    def lasting(self, kind: WatcherType, key: str) -> list[tuple[Lasting, Callable[[WatchEvent], object]]]:
        """Who gets lasting events of that kind now."""
        return [
            (table, callback)
            for table, of in _LASTING_REMOVED.items()
            if kind in (of, WatcherType.ANY)
            for callback in self._lasting[table].get(key, ())
        ]

    def forget(
        self, kind: WatcherType, key: str, lasting: Iterable[tuple[Lasting, Callable[[WatchEvent], object]]]
    ) -> Iterator[tuple[Callable[[WatchEvent], object], WatchEvent]]:
        """The server has removed all of that kind: forget them too, and tell them.

        ``lasting`` are those that there were when it was asked to: what has been added since then comes later there.
        """
        path = self._shown(key)
        for table, (of, told) in _ONE_SHOT_REMOVED.items():
            if kind in (of, WatcherType.ANY):
                for callback in self._one_shot[table].pop(key, ()):
                    yield callback, WatchEvent(told, path)
        for table_of_it, callback in lasting:
            if self.has_lasting(table_of_it, key, callback):
                self.remove_lasting(table_of_it, key, callback)
                yield callback, WatchEvent(EventKind.PERSISTENT_WATCH_REMOVED, path)

    # What happened

    def fire(self, kind: EventKind, key: str, zxid: int) -> Iterator[tuple[Callable[[WatchEvent], object], WatchEvent]]:
        """Who gets the event that a server has sent, and what they get."""
        event = WatchEvent(kind, self._shown(key), zxid)
        told: list[Callable[[WatchEvent], object]] = []
        for table in _ONE_SHOT_FIRED[kind]:
            told += [each for each in self._one_shot[table].pop(key, ()) if each not in told]
        for callback in told:
            yield callback, event
        for callback in tuple(self._lasting[Lasting.PERSISTENT].get(key, ())):
            yield callback, event
        recursive = self._lasting[Lasting.RECURSIVE]
        if recursive and kind is not EventKind.CHILDREN_CHANGED:
            for ancestor in _self_and_ancestors(key):
                for callback in tuple(recursive.get(ancestor, ())):
                    yield callback, event

    def resumed(self) -> Iterator[tuple[Callable[[WatchEvent], object], WatchEvent]]:
        """Who is told that events may have been missed."""
        for table in self._lasting.values():
            for key, callbacks in tuple(table.items()):
                for callback in tuple(callbacks):
                    yield callback, WatchEvent(EventKind.MISSED, self._shown(key))

    def session_lost(self) -> Iterator[tuple[Callable[[WatchEvent], object], WatchEvent]]:
        """Forget the one-shot watches, and tell those who wait for them."""
        lost = [item for table in self._one_shot.values() for item in table.items()]
        for table in self._one_shot.values():
            table.clear()
        for key, callbacks in lost:
            for callback in callbacks:
                yield callback, WatchEvent(EventKind.LOST, self._shown(key))

    # What a server must be told

    def restore(self, zxid: int) -> Iterator[tuple[int, bytes]]:
        """The setWatches requests (op code and body) that set all watches anew, each of a moderate size.

        ``zxid`` is the newest that the client has seen: the server fires what has happened since then.
        """
        tables = [
            self._one_shot[OneShot.DATA],
            self._one_shot[OneShot.EXISTS],
            self._one_shot[OneShot.CHILDREN],
            self._lasting[Lasting.PERSISTENT],
            self._lasting[Lasting.RECURSIVE],
        ]
        piece: list[list[bytes | None]] = [[] for _ in tables]
        piece_bytes = 0
        for index, table in enumerate(tables):
            for key in table:
                path = key.encode()
                if piece_bytes and piece_bytes + len(path) > PIECE_BYTES:
                    yield _set_watches(zxid, piece)
                    piece = [[] for _ in tables]
                    piece_bytes = 0
                piece[index].append(path)
                piece_bytes += len(path) + 4
        if piece_bytes:
            yield _set_watches(zxid, piece)

    def _shown(self, key: str) -> str:
        # The configuration of the ensemble has one path for everybody.
        if not self._chroot or not (key + "/").startswith(self._chroot + "/"):
            return key
        return key[len(self._chroot) :] or "/"


def _set_watches(zxid: int, lists: list[list[bytes | None]]) -> tuple[int, bytes]:
    data, exists, children, persistent, recursive = lists
    if persistent or recursive:
        request = SetWatches2(zxid, data, exists, children, persistent, recursive)
        return OpCode.SET_WATCHES2, request.to_bytes()
    # Servers before 3.6 know only this one.
    return OpCode.SET_WATCHES, SetWatches(zxid, data, exists, children).to_bytes()


def _self_and_ancestors(key: str) -> Iterator[str]:
    yield key
    while key != "/":
        key = key[: key.rindex("/")] or "/"
        yield key
