"""Who is told of what: the table of triggers and effects, by kind of watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from corral.jute.ops import EventType, WatcherType
from corral.tree.acl import OPEN_ACL, READ_ONLY_ACL
from corral.tree.watches import WatchTables

if TYPE_CHECKING:
    from corral.jute.records import Acl
    from corral.tree.datatree import Change

CREATED, DELETED = EventType.NODE_CREATED, EventType.NODE_DELETED
CHANGED, CHILDREN = EventType.NODE_DATA_CHANGED, EventType.NODE_CHILDREN_CHANGED


class Ear:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[EventType, bytes]] = []
        self.details: list[tuple[int, tuple[Acl, ...] | None]] = []

    def deliver(self, event: EventType, path: bytes, zxid: int, acl: tuple[Acl, ...] | None) -> None:
        self.told.append((event, path))
        self.details.append((zxid, acl))


def change(event: EventType, path: bytes) -> Change:
    return event, path, OPEN_ACL, path.rpartition(b"/")[0] or b"/", READ_ONLY_ACL


def events(watches: WatchTables, ear: Ear, *changes: Change) -> list[tuple[EventType, bytes]]:
    """What the ear is told of these changes."""
    ear.told.clear()
    watches.trigger(list(changes), 9)
    return list(ear.told)


def listening(kind: str, path: bytes) -> tuple[WatchTables, Ear]:
    watches, ear = WatchTables(), Ear()
    if kind == "data":
        watches.watch_data(path, ear)
    elif kind == "children":
        watches.watch_children(path, ear)
    else:
        watches.watch_persistently(path, ear, recursive=kind == "recursive")
    return watches, ear


@pytest.mark.parametrize(
    ("kind", "event", "told", "again"),
    [
        ("data", CREATED, [CREATED], []),
        ("data", DELETED, [DELETED], []),
        ("data", CHANGED, [CHANGED], []),
        ("children", CREATED, [], []),
        ("children", DELETED, [DELETED], []),
        ("children", CHANGED, [], []),
        ("persistent", CREATED, [CREATED], [CREATED]),
        ("persistent", DELETED, [DELETED], [DELETED]),
        ("persistent", CHANGED, [CHANGED], [CHANGED]),
        ("recursive", CREATED, [CREATED], [CREATED]),
        ("recursive", DELETED, [DELETED], [DELETED]),
        ("recursive", CHANGED, [CHANGED], [CHANGED]),
    ],
)
def test_a_change_of_the_watched_znode(
    kind: str, event: EventType, told: list[EventType], again: list[EventType]
) -> None:
    watches, ear = listening(kind, b"/p/c")
    assert events(watches, ear, change(event, b"/p/c")) == [(each, b"/p/c") for each in told]
    assert events(watches, ear, change(event, b"/p/c")) == [(each, b"/p/c") for each in again]


@pytest.mark.parametrize("event", [CREATED, DELETED, CHANGED])
@pytest.mark.parametrize(
    ("kind", "told"), [("data", False), ("children", True), ("persistent", True), ("recursive", False)]
)
def test_a_change_of_a_child(kind: str, told: bool, event: EventType) -> None:
    watches, ear = listening(kind, b"/p")
    expected: list[tuple[EventType, bytes]] = [(CHILDREN, b"/p")] if told and event != CHANGED else []
    if kind == "recursive":
        expected = [(event, b"/p/c")]
    assert events(watches, ear, change(event, b"/p/c")) == expected
    after = [] if kind == "children" and event != CHANGED else expected
    assert events(watches, ear, change(event, b"/p/c")) == after


@pytest.mark.parametrize(
    ("watched", "changed", "told"),
    [
        (b"/", b"/a", True),
        (b"/", b"/a/b/c", True),
        (b"/", b"/zookeeper/x", True),
        (b"/a", b"/a/b/c/d", True),
        (b"/a/b", b"/a", False),
        (b"/a", b"/ab", False),
        (b"/a", b"/b/a", False),
    ],
)
def test_a_recursive_watch_covers_all_below(watched: bytes, changed: bytes, told: bool) -> None:
    watches, ear = listening("recursive", watched)
    assert events(watches, ear, change(CHANGED, changed)) == [(CHANGED, changed)] * told


def test_children_of_the_root() -> None:
    watches, ear = listening("children", b"/")
    assert events(watches, ear, change(CREATED, b"/a")) == [(CHILDREN, b"/")]


def test_one_event_for_one_change_however_it_is_watched() -> None:
    watches, ear = WatchTables(), Ear()
    for path in (b"/", b"/p", b"/p/c"):
        watches.watch_data(path, ear)
        watches.watch_children(path, ear)
        for recursive in (True, False):
            watches.watch_persistently(path, ear, recursive=recursive)
    assert events(watches, ear, change(DELETED, b"/p/c")) == [(DELETED, b"/p/c"), (CHILDREN, b"/p")]
    assert events(watches, ear, change(CHANGED, b"/p/c")) == [(CHANGED, b"/p/c")]


def test_the_acl_and_the_transaction_are_told() -> None:
    watches, ear = WatchTables(), Ear()
    watches.watch_persistently(b"/p", ear, recursive=False)
    watches.watch_data(b"/p/c", ear)
    watches.trigger([change(CREATED, b"/p/c")], 77)
    assert ear.details == [(77, OPEN_ACL), (77, READ_ONLY_ACL)]


def test_changes_of_one_transaction_are_told_in_order() -> None:
    watches, ear = listening("recursive", b"/")
    told = events(watches, ear, change(CREATED, b"/a"), change(CHANGED, b"/a"), change(DELETED, b"/a"))
    assert told == [(CREATED, b"/a"), (CHANGED, b"/a"), (DELETED, b"/a")]


def test_modes_are_independent() -> None:
    watches, ear = WatchTables(), Ear()
    watches.watch_data(b"/a", ear)
    watches.watch_data(b"/a", ear)
    watches.watch_persistently(b"/a", ear, recursive=True)
    assert events(watches, ear, change(CHANGED, b"/a")) == [(CHANGED, b"/a")]
    assert not watches.has(b"/a", ear, WatcherType.DATA)
    assert watches.has(b"/a", ear, WatcherType.PERSISTENT_RECURSIVE)
    assert not watches.has(b"/a", ear, WatcherType.PERSISTENT)
    assert events(watches, ear, change(CHANGED, b"/a/b")) == [(CHANGED, b"/a/b")]


@pytest.mark.parametrize(
    ("kind", "types"),
    [
        ("data", {WatcherType.DATA, WatcherType.ANY}),
        ("children", {WatcherType.CHILDREN, WatcherType.ANY}),
        ("persistent", {WatcherType.PERSISTENT, WatcherType.ANY}),
        ("recursive", {WatcherType.PERSISTENT_RECURSIVE, WatcherType.ANY}),
    ],
)
def test_removing(kind: str, types: set[WatcherType]) -> None:
    for each in WatcherType:
        watches, ear = listening(kind, b"/a")
        other = Ear()
        watches.watch_data(b"/a", other)
        assert watches.has(b"/a", ear, each) == (each in types)
        assert not watches.remove(b"/b", ear, each)
        assert watches.remove(b"/a", ear, each) == (each in types)
        assert not watches.remove(b"/a", ear, each)
        assert bool(events(watches, ear, change(DELETED, b"/a"))) == (each not in types)
        assert other.told == [(DELETED, b"/a")]


def test_nothing_is_left_of_those_who_are_gone() -> None:
    watches, ear, other = WatchTables(), Ear(), Ear()
    for path in (b"/a", b"/a/b", b"/c"):
        watches.watch_data(path, ear)
        watches.watch_children(path, ear)
        watches.watch_persistently(path, ear, recursive=True)
    watches.watch_data(b"/a", other)
    watches.forget(ear)
    watches.forget(ear)
    assert watches.count == 1
    assert list(watches.data_watches()) == [(b"/a", [other])]
    assert events(watches, ear, change(DELETED, b"/a/b")) == []
    watches.forget(other)
    assert watches.count == 0
    assert not watches.watchers


def test_one_shot_watches_leave_nothing_behind() -> None:
    watches, ear = WatchTables(), Ear()
    for number in range(100):
        watches.watch_data(b"/%d" % number, ear)
        watches.watch_children(b"/%d" % number, ear)
    assert watches.count == 200
    for number in range(100):
        watches.trigger([change(DELETED, b"/%d" % number)], number)
    assert watches.count == 0
    assert not watches.watchers


def test_how_many_were_told_is_reported() -> None:
    reported: list[tuple[EventType, int]] = []
    watches = WatchTables(lambda event, count: reported.append((event, count)))
    for ear in (Ear(), Ear()):
        watches.watch_data(b"/a", ear)
    watches.watch_children(b"/", Ear())
    watches.trigger([change(CREATED, b"/a"), change(CHANGED, b"/a")], 1)
    assert reported == [(CREATED, 2), (CHILDREN, 1)]
