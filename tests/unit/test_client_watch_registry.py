"""Who is told of which event, and what a server must be told after a reconnection."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from corral.client.watches import PIECE_BYTES, EventKind, Lasting, OneShot, WatchEvent, WatchRegistry
from corral.jute.ops import OpCode, WatcherType
from corral.jute.primitives import DEFAULT_MAX_BUFFER
from corral.jute.records import SetWatches, SetWatches2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CREATED, DELETED, CHANGED, CHILDREN = (
    EventKind.CREATED,
    EventKind.DELETED,
    EventKind.DATA_CHANGED,
    EventKind.CHILDREN_CHANGED,
)


def named(name: str) -> Callable[[WatchEvent], object]:
    def callback(event: WatchEvent) -> object:
        return name

    return callback


def told(what: Iterable[tuple[Callable[[WatchEvent], object], WatchEvent]]) -> list[tuple[object, EventKind, str]]:
    return [(callback(event), event.kind, event.path) for callback, event in what]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (CREATED, ["data", "exists"]),
        (CHANGED, ["data", "exists"]),
        (DELETED, ["data", "exists", "children"]),
        (CHILDREN, ["children"]),
    ],
)
def test_one_shot_watches_fire_once(kind: EventKind, names: list[str]) -> None:
    registry = WatchRegistry("")
    registry.add_one_shot(OneShot.DATA, "/a", named("data"))
    registry.add_one_shot(OneShot.EXISTS, "/a", named("exists"))
    registry.add_one_shot(OneShot.CHILDREN, "/a", named("children"))
    registry.add_one_shot(OneShot.DATA, "/a/b", named("another"))
    assert told(registry.fire(kind, "/a", 5)) == [(name, kind, "/a") for name in names]
    assert told(registry.fire(kind, "/a", 6)) == []


def test_one_event_is_told_once_to_one_callback() -> None:
    registry = WatchRegistry("")
    one = named("one")
    for table in OneShot:
        registry.add_one_shot(table, "/a", one)
        registry.add_one_shot(table, "/a", one)
    assert told(registry.fire(DELETED, "/a", 5)) == [("one", DELETED, "/a")]


def test_lasting_watches_stay() -> None:
    registry = WatchRegistry("")
    registry.add_lasting(Lasting.PERSISTENT, "/a", named("one"))
    registry.add_lasting(Lasting.RECURSIVE, "/a", named("all"))
    registry.add_lasting(Lasting.RECURSIVE, "/", named("root"))
    for _ in range(2):
        assert told(registry.fire(CREATED, "/a", 5)) == [
            ("one", CREATED, "/a"),
            ("all", CREATED, "/a"),
            ("root", CREATED, "/a"),
        ]
        assert told(registry.fire(CHILDREN, "/a", 5)) == [("one", CHILDREN, "/a")]
        assert told(registry.fire(CHANGED, "/a/b/c", 6)) == [("all", CHANGED, "/a/b/c"), ("root", CHANGED, "/a/b/c")]
        assert told(registry.fire(CHANGED, "/ab", 6)) == [("root", CHANGED, "/ab")]
        assert told(registry.fire(DELETED, "/", 7)) == [("root", DELETED, "/")]


def test_paths_are_shown_below_the_chroot() -> None:
    registry = WatchRegistry("/app")
    registry.add_lasting(Lasting.RECURSIVE, "/app", named("all"))
    registry.add_one_shot(OneShot.DATA, "/zookeeper/config", named("config"))
    assert told(registry.fire(CREATED, "/app", 1)) == [("all", CREATED, "/")]
    assert told(registry.fire(CREATED, "/app/x", 1)) == [("all", CREATED, "/x")]
    assert told(registry.fire(CHANGED, "/zookeeper/config", 1)) == [("config", CHANGED, "/zookeeper/config")]
    assert told(registry.resumed()) == [("all", EventKind.MISSED, "/")]


def test_a_lost_session_takes_one_shot_watches_along() -> None:
    registry = WatchRegistry("")
    registry.add_one_shot(OneShot.DATA, "/a", named("a"))
    registry.add_one_shot(OneShot.CHILDREN, "/b", named("b"))
    registry.add_lasting(Lasting.PERSISTENT, "/c", named("c"))
    assert told(registry.session_lost()) == [("a", EventKind.LOST, "/a"), ("b", EventKind.LOST, "/b")]
    assert told(registry.session_lost()) == []
    assert told(registry.fire(CHANGED, "/c", 1)) == [("c", CHANGED, "/c")]


def test_the_last_of_several_is_told_apart() -> None:
    registry = WatchRegistry("")
    one, two = named("one"), named("two")
    registry.add_lasting(Lasting.PERSISTENT, "/a", one)
    registry.add_lasting(Lasting.PERSISTENT, "/a", two)
    registry.add_lasting(Lasting.RECURSIVE, "/a", one)
    assert not registry.remove_lasting(Lasting.PERSISTENT, "/a", one)
    assert not registry.remove_lasting(Lasting.PERSISTENT, "/a", one)
    assert registry.remove_lasting(Lasting.PERSISTENT, "/a", two)
    assert registry.has_lasting(Lasting.RECURSIVE, "/a", one)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (WatcherType.DATA, {"data", "exists"}),
        (WatcherType.CHILDREN, {"children"}),
        (WatcherType.PERSISTENT, {"persistent"}),
        (WatcherType.PERSISTENT_RECURSIVE, {"recursive"}),
        (WatcherType.ANY, {"data", "exists", "children", "persistent", "recursive"}),
    ],
)
def test_what_is_removed_is_told_so(kind: WatcherType, names: set[str]) -> None:
    registry = WatchRegistry("")
    for table in OneShot:
        registry.add_one_shot(table, "/a", named(table.name.lower()))
    for lasting in Lasting:
        registry.add_lasting(lasting, "/a", named(lasting.name.lower()))
    expected = {
        "data": EventKind.DATA_WATCH_REMOVED,
        "exists": EventKind.DATA_WATCH_REMOVED,
        "children": EventKind.CHILD_WATCH_REMOVED,
        "persistent": EventKind.PERSISTENT_WATCH_REMOVED,
        "recursive": EventKind.PERSISTENT_WATCH_REMOVED,
    }
    before = registry.lasting(kind, "/a")
    later = named("later")
    registry.add_lasting(Lasting.PERSISTENT, "/a", later)
    assert set(told(registry.forget(kind, "/a", before))) == {(name, expected[name], "/a") for name in names}
    assert registry.has_lasting(Lasting.PERSISTENT, "/a", later), "it was asked for after the removal"


def test_nothing_to_set_anew_is_no_request() -> None:
    assert list(WatchRegistry("").restore(5)) == []


def test_servers_that_know_no_lasting_watches_are_asked_for_none() -> None:
    registry = WatchRegistry("")
    registry.add_one_shot(OneShot.DATA, "/a", named("a"))
    registry.add_one_shot(OneShot.EXISTS, "/b", named("b"))
    registry.add_one_shot(OneShot.CHILDREN, "/c", named("c"))
    ((code, body),) = registry.restore(5)
    assert code == OpCode.SET_WATCHES
    assert SetWatches.from_bytes(body) == SetWatches(5, [b"/a"], [b"/b"], [b"/c"])
    registry.add_lasting(Lasting.RECURSIVE, "/d", named("d"))
    ((code, body),) = registry.restore(6)
    assert code == OpCode.SET_WATCHES2
    assert SetWatches2.from_bytes(body) == SetWatches2(6, [b"/a"], [b"/b"], [b"/c"], [], [b"/d"])


def test_zookeeper_706_many_long_paths_go_in_pieces_that_fit() -> None:
    registry = WatchRegistry("")
    source = random.Random(706)
    expected: list[set[bytes]] = [set() for _ in range(5)]
    tables = [*OneShot, *Lasting]
    for number in range(20_000):
        key = f"/{number:06d}" + "x" * source.randrange(500)
        which = source.randrange(5)
        table = tables[which]
        if isinstance(table, OneShot):
            registry.add_one_shot(table, key, named(key))
        else:
            registry.add_lasting(table, key, named(key))
        expected[which].add(key.encode())
    huge = "/" + "h" * (DEFAULT_MAX_BUFFER // 2)
    registry.add_one_shot(OneShot.DATA, huge, named(huge))
    expected[0].add(huge.encode())
    found: list[list[bytes | None]] = [[] for _ in range(5)]
    sizes = []
    for code, body in registry.restore(9):
        sizes.append(len(body))
        request: SetWatches | SetWatches2
        if code == OpCode.SET_WATCHES2:
            request = SetWatches2.from_bytes(body)
            found[3] += request.persistent_watches or []
            found[4] += request.persistent_recursive_watches or []
        else:
            request = SetWatches.from_bytes(body)
        assert request.relative_zxid == 9
        found[0] += request.data_watches or []
        found[1] += request.exist_watches or []
        found[2] += request.child_watches or []
    assert [len(each) for each in found] == [len(each) for each in expected], "none twice"
    assert [set(each) for each in found] == expected, "none left out"
    assert len(sizes) > 20
    sizes.remove(max(sizes))
    assert max(sizes) < PIECE_BYTES + 1000
