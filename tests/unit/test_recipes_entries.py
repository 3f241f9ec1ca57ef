"""A queue's window on its items, driven by hand: listings and events in every order."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from corral.client import EventKind, WatchEvent
from corral.recipes import entries as module
from corral.recipes.entries import Entries

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

ITEMS, CLAIMS = "/queue/entries", "/queue/taken"


class FakeWatch:
    def __init__(self, client: FakeClient, path: str) -> None:
        self.client, self.path = client, path

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        del self.client.callbacks[self.path]


class FakeClient:
    """Lists what it is told to list, and says when."""

    def __init__(self, **children: list[str]) -> None:
        self.children = {f"/queue/{parent}": names for parent, names in children.items()}
        self.callbacks: dict[str, Callable[[WatchEvent], object]] = {}
        self.listings = 0
        self.while_listing: Callable[[], None] = lambda: None

    def watch(self, path: str, *, recursive: bool, callback: Callable[[WatchEvent], object]) -> FakeWatch:
        assert recursive
        self.callbacks[path] = callback
        return FakeWatch(self, path)

    async def get_children(self, path: str) -> list[str]:
        self.listings += 1
        names = list(self.children[path])
        # The answer has been given, and is still on its way to whoever has asked.
        self.while_listing()
        return names

    def tell(self, kind: EventKind, parent: str, name: str = "") -> None:
        self.callbacks[parent](WatchEvent(kind, f"{parent}/{name}" if name else parent))


def item(number: int, priority: int = 100) -> str:
    return f"entry-{priority:03d}-{number:010d}"


def make(client: Any, *, claims: str | None = None) -> Entries:
    return Entries(client, ITEMS, Random(0), claims=claims)


def first(entries: Entries) -> str | None:
    return entries.first


def drain(entries: Entries) -> list[str]:
    found = []
    while name := entries.pick(1):
        found += name
    return found


def test_names_come_in_order_and_others_names_not_at_all() -> None:
    client = FakeClient(entries=[item(3), item(1), "something", item(2, 50), item(0, 200)])
    entries = make(client)
    asyncio.run(entries.refresh())
    assert drain(entries) == [item(2, 50), item(1), item(3), item(0, 200)]


def test_what_comes_and_goes_is_heard_and_not_listed() -> None:
    client = FakeClient(entries=[item(1), item(2)])
    entries = make(client)
    asyncio.run(entries.refresh())
    changed = entries.changed.next
    client.tell(EventKind.DELETED, ITEMS, item(1))
    assert not changed.is_set()
    client.tell(EventKind.CREATED, ITEMS, item(3))
    assert changed.is_set()
    client.tell(EventKind.CREATED, ITEMS, item(4, 0))
    client.tell(EventKind.CREATED, ITEMS, item(4, 0))
    client.tell(EventKind.DELETED, ITEMS, item(9))
    client.tell(EventKind.CREATED, ITEMS, "something")
    client.tell(EventKind.DATA_CHANGED, ITEMS, item(3))
    asyncio.run(entries.refresh())
    assert client.listings == 1
    assert drain(entries) == [item(4, 0), item(2), item(3)]


def test_what_happens_while_it_is_listed_is_not_lost() -> None:
    client = FakeClient(entries=[item(1), item(2)])
    entries = make(client)

    def happen() -> None:
        client.tell(EventKind.DELETED, ITEMS, item(1))
        client.tell(EventKind.CREATED, ITEMS, item(3))

    client.while_listing = happen
    asyncio.run(entries.refresh())
    assert drain(entries) == [item(2), item(3)]


def test_what_is_missed_is_listed_anew() -> None:
    client = FakeClient(entries=[item(1)])
    entries = make(client)
    asyncio.run(entries.refresh())
    changed = entries.changed.next
    client.children[ITEMS] = [item(2)]
    client.tell(EventKind.MISSED, ITEMS)
    assert changed.is_set()
    # The connection is lost again while it is being listed.
    client.while_listing = lambda: client.tell(EventKind.MISSED, ITEMS) if client.listings == 2 else None
    asyncio.run(entries.refresh())
    assert client.listings == 3
    assert drain(entries) == [item(2)]


def test_a_failed_listing_is_repeated() -> None:
    client = FakeClient(entries=[item(1)])
    entries = make(client)

    def fail() -> None:
        raise ZeroDivisionError

    client.while_listing = fail
    with pytest.raises(ZeroDivisionError):
        asyncio.run(entries.refresh())
    client.while_listing = lambda: None
    asyncio.run(entries.refresh())
    assert drain(entries) == [item(1)]


def test_claimed_items_are_left_out_until_the_claim_goes() -> None:
    client = FakeClient(entries=[item(1), item(2)], taken=[item(1)])
    entries = make(client, claims=CLAIMS)
    asyncio.run(entries.refresh())
    assert first(entries) == item(2)
    client.tell(EventKind.CREATED, CLAIMS, item(2))
    assert first(entries) is None
    client.tell(EventKind.DELETED, CLAIMS, item(1))
    assert first(entries) == item(1)
    # Acknowledged: the claim goes, and the item with it.
    client.tell(EventKind.DELETED, CLAIMS, item(2))
    client.tell(EventKind.DELETED, ITEMS, item(2))
    assert drain(entries) == [item(1)]


def test_closing_ends_the_watches_and_using_it_again_begins_new_ones() -> None:
    client = FakeClient(entries=[item(1)], taken=[])

    async def main() -> None:
        entries = make(client, claims=CLAIMS)
        await entries.close()
        await entries.refresh()
        assert set(client.callbacks) == {ITEMS, CLAIMS}
        await entries.close()
        assert not client.callbacks
        client.children[ITEMS] = [item(2)]
        await entries.refresh()
        assert drain(entries) == [item(2)]

    asyncio.run(main())


def test_only_a_part_of_a_long_queue_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW_MIN", 5)
    client = FakeClient(entries=[item(number) for number in range(100)])

    async def main() -> None:
        entries = make(client)
        await entries.refresh()
        client.tell(EventKind.CREATED, ITEMS, item(100))
        client.tell(EventKind.CREATED, ITEMS, item(0, 1))
        assert drain(entries) == [item(0, 1), *[item(number) for number in range(10)]]
        client.children[ITEMS] = [item(number) for number in range(10, 13)]
        await entries.refresh()
        assert drain(entries) == [item(number) for number in range(10, 13)]
        await entries.refresh()
        assert client.listings == 2

    asyncio.run(main())


def test_names_before_a_bound_only() -> None:
    entries = make(FakeClient(entries=[item(number, 10 * number) for number in range(5)]))
    asyncio.run(entries.refresh())
    assert entries.pick(10, "entry-021") == [item(number, 10 * number) for number in range(3)]
    assert entries.pick(10, "entry-021") == []
    assert entries.pick(10) == [item(number, 10 * number) for number in (3, 4)]


def test_takers_that_collide_spread_among_equals_and_return_to_the_order() -> None:
    entries = make(FakeClient(entries=[item(number, 1) for number in range(50)] + [item(99, 2)]))
    asyncio.run(entries.refresh())
    assert entries.upcoming(2) == [item(0, 1), item(1, 1)]
    for _ in range(5):
        entries.collided()
    assert entries.upcoming(2) == []
    picked = [entries.pick(1)[0] for _ in range(20)]
    assert picked != sorted(picked)
    assert item(99, 2) not in picked
    entries.give_back(picked)
    entries.give_back(picked)
    for _ in range(50):
        entries.succeeded()
    assert drain(entries) == [*[item(number, 1) for number in range(50)], item(99, 2)]
