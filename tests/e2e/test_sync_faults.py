"""Many threads on one blocking client whose connections break: every call ends, and with the right answer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

import corral.sync
from corral.client import ConnectionLoss, NodeExistsError, SessionExpired
from corral.sync import recipes

if TYPE_CHECKING:
    from corral.testing import Server

THREADS = 8


def disturb(server: Server, over: threading.Event, done: threading.Semaphore) -> None:
    """Break the connections, each time when some calls have been made since."""
    while not over.is_set():
        for _ in range(THREADS * 3):
            done.acquire()
        server.drop_connections()


@pytest.mark.parametrize("turns", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_every_call_ends_with_its_own_answer(zookeeper_shared: Any, turns: int) -> None:
    server: Server = zookeeper_shared.server
    over, done = threading.Event(), threading.Semaphore(0)
    losses: list[str] = []

    def work(number: int, zk: corral.sync.Client) -> None:
        for turn in range(turns):
            path, data = f"/{number}-{turn}", b"%d-%d" % (number, turn)
            try:
                zk.create(path, data)
            except ConnectionLoss:
                losses.append(path)
                with suppress(NodeExistsError):
                    zk.persist(lambda path=path, data=data: zk.create(path, data))  # type: ignore[misc]
            assert zk.get(path).data == data
            assert zk.exists(f"{path}-never") is None
            done.release()

    with corral.sync.connect(str(zookeeper_shared), backoff_first=0.001, backoff_max=0.005, session_timeout=20) as zk:
        disturber = threading.Thread(target=disturb, args=(server, over, done), daemon=True)
        disturber.start()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda number: work(number, zk), range(THREADS)))
        over.set()
        done.release(THREADS * 3)
        disturber.join()
        assert len(zk.get_children("/")) == THREADS * turns + 1
        assert zk._portal._life.calls == set()


@pytest.mark.slow
def test_a_lock_excludes_over_lost_connections_and_sessions(zookeeper_shared: Any) -> None:
    server: Server = zookeeper_shared.server
    inside: list[int] = []
    turns = [0] * THREADS

    def work(number: int, zk: corral.sync.Client) -> None:
        lock = recipes.Lock(zk, "/lock", str(number))
        while turns[number] < 12:
            try:
                with lock.hold(cancel_when_lost=True):
                    inside.append(number)
                    try:
                        assert inside == [number]
                        assert zk.get("/lock").stat.num_children >= 1
                    finally:
                        inside.remove(number)
                turns[number] += 1
                if turns[number] % 4 == number % 4:
                    server.drop_connections()
                elif turns[number] % 6 == 5 and zk.session is not None:
                    server.expire_session(zk.session.id)
            except (ConnectionLoss, SessionExpired, recipes.OwnershipLostError, LookupError):
                continue

    with corral.sync.connect(str(zookeeper_shared), backoff_first=0.001, backoff_max=0.005, session_timeout=20) as zk:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda number: work(number, zk), range(THREADS)))
        assert inside == []
        assert turns == [12] * THREADS
