"""The blocking client and its recipes against both servers."""

from __future__ import annotations

import queue
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.interop.kazoo_clients import WAIT_LIMIT_S

import corral.sync
from corral.sync import recipes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.peers import Server


@pytest.fixture
def zk(server: Server, root: str) -> Iterator[corral.sync.Client]:
    with corral.sync.connect(f"{server.address}{root}", backoff_first=0.001, backoff_max=0.01) as client:
        yield client


def test_threads_share_a_client_that_changes_its_connection(zk: corral.sync.Client) -> None:
    def work(number: int) -> None:
        for turn in range(40):
            path = zk.create(f"/{number}-", b"%d" % turn, sequential=True, protected=True)
            assert zk.get(path).data == b"%d" % turn
            if turn % 10 == number:
                zk.reconnect()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(zk.get_children("/")) == 8 * 40


def test_watches_and_callbacks(zk: corral.sync.Client) -> None:
    seen: queue.SimpleQueue[object] = queue.SimpleQueue()
    zk.create("/w")
    zk.get("/w", watch=lambda event: seen.put((event.path, zk.exists("/w"))))
    with zk.watch("/", recursive=True) as events:
        zk.delete("/w")
        assert next(events).path == "/w"
    assert seen.get(timeout=WAIT_LIMIT_S) == ("/w", None)


def test_a_transaction_and_a_cache(zk: corral.sync.Client) -> None:
    with zk.cache("/") as cache:
        with zk.transaction() as transaction:
            transaction.create("/t")
            transaction.create("/t/1", b"one")
        cache.sync()
        assert cache["/t/1"].data == b"one"
        assert sorted(cache) == ["/", "/t", "/t/1"]


def test_locks_and_elections(zk: corral.sync.Client) -> None:
    tokens: list[int] = []

    def work(number: int) -> int:
        with recipes.Lock(zk, "/lock", str(number)) as held:
            tokens.append(held.token)
        return recipes.Election(zk, "/leader", str(number)).run(lambda leadership: leadership.token)

    with ThreadPoolExecutor(4) as pool:
        terms = list(pool.map(work, range(4)))
    assert tokens == sorted(set(tokens))
    assert len(set(terms)) == 4
