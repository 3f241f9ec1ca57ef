"""The blocking recipes against a real server: what blocking adds to them."""

from __future__ import annotations

import asyncio
import queue
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import corral.sync
from corral.client import State
from corral.sync import recipes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corral.testing import Server

PATIENCE_S = 20.0


@pytest.fixture
def zk(zookeeper_shared: str) -> Iterator[corral.sync.Client]:
    with corral.sync.connect(str(zookeeper_shared), backoff_first=0.001) as client:
        yield client


@pytest.fixture
def server(zookeeper_shared: Any) -> Server:
    server: Server = zookeeper_shared.server
    return server


def expire(server: Server, client: corral.sync.Client) -> None:
    session = client.session
    assert session is not None
    server.expire_session(session.id)


def start(function: Callable[[], object]) -> queue.SimpleQueue[object]:
    """Call ``function`` in a thread; its outcome, or its exception, comes by the queue."""
    outcome: queue.SimpleQueue[object] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(function())
        except BaseException as error:
            outcome.put(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome


def test_threads_take_turns_with_a_lock(zk: corral.sync.Client) -> None:
    inside: list[int] = []
    tokens: list[int] = []

    def work() -> None:
        with recipes.Lock(zk, "/lock") as held:
            inside.append(1)
            assert len(inside) == 1
            assert zk.exists(held.path) is not None
            tokens.append(held.token)
            inside.pop()

    outcomes = [start(work) for _ in range(6)]
    assert [each.get(timeout=PATIENCE_S) for each in outcomes] == [None] * 6
    assert tokens == sorted(set(tokens))
    assert zk.get_children("/lock") == []


def test_a_lock_is_lost_with_the_session(zk: corral.sync.Client, server: Server) -> None:
    lost = threading.Event()
    lock = recipes.Lock(zk, "/lock")
    with pytest.raises(recipes.OwnershipLostError), lock as held:  # noqa: PT012
        held.on_lost(lost.set)
        expire(server, zk)
        held.lost()
        assert lost.wait(PATIENCE_S)
        assert held.is_lost
    with lock as held:
        assert held.is_held


def test_a_block_is_cancelled_when_its_lock_is_lost(zk: corral.sync.Client, server: Server) -> None:
    def work() -> None:
        with recipes.Lock(zk, "/lock").hold(cancel_when_lost=True):
            expire(server, zk)
            zk.closed()

    with pytest.raises(recipes.OwnershipLostError):
        work()
    assert zk.exists("/") is not None


def test_a_block_that_fails_fails_with_its_own_error(zk: corral.sync.Client) -> None:
    def work(cancel_when_lost: bool) -> None:
        with recipes.Lock(zk, "/lock").hold(cancel_when_lost=cancel_when_lost):
            raise LookupError("by order of the test")

    for cancel_when_lost in (False, True):
        with pytest.raises(LookupError, match="by order of the test"):
            work(cancel_when_lost)
    assert zk.get_children("/lock") == []


def test_what_is_held_is_released_though_the_client_was_closed(zookeeper_shared: str) -> None:
    with corral.sync.connect(str(zookeeper_shared)) as zk:
        lock = recipes.Lock(zk, "/lock")
        with pytest.raises(recipes.OwnershipLostError), lock:
            zk.close()
        held = lock.is_held
    assert not held
    assert zk.state is State.CLOSED


def test_a_leader_is_cancelled_and_called_anew(zk: corral.sync.Client, server: Server) -> None:
    terms: list[int] = []

    def lead(held: recipes.Held) -> str:
        terms.append(held.token)
        if len(terms) == 1:
            expire(server, zk)
            held.client.closed()
        return "the second term"

    assert recipes.Election(zk, "/leader").run(lead) == "the second term"
    assert terms[0] < terms[1]


def test_what_a_leader_raises_is_raised(zk: corral.sync.Client) -> None:
    def lead(held: recipes.Held) -> None:
        raise LookupError("by order of the test")

    with pytest.raises(LookupError, match="by order of the test"):
        recipes.Election(zk, "/leader").run(lead)
    assert recipes.Election(zk, "/leader").contenders() == []


def test_another_thread_ends_an_election(zk: corral.sync.Client) -> None:
    leading = threading.Event()
    scope = corral.sync.CancelScope()

    def lead(held: recipes.Held) -> None:
        leading.set()
        held.lost()

    def work() -> str:
        with scope:
            recipes.Election(zk, "/leader").run(lead)
        return "ended quietly"

    outcome = start(work)
    assert leading.wait(PATIENCE_S)
    scope.cancel()
    scope.cancel()
    assert outcome.get(timeout=PATIENCE_S) == "ended quietly"
    with recipes.LeaderLatch(zk, "/leader") as latch:
        assert latch.wait(timeout=PATIENCE_S).is_held


def test_a_scope_is_cancelled_at_any_moment(zk: corral.sync.Client) -> None:
    def work(scope: corral.sync.CancelScope, entered: threading.Event) -> str:
        entered.set()
        with scope:
            recipes.Election(zk, "/leader").run(lambda held: held.lost())
        return "ended quietly"

    for turn in range(40):
        scope, entered = corral.sync.CancelScope(), threading.Event()
        outcome = start(partial(work, scope, entered))
        assert entered.wait(PATIENCE_S)
        for _ in range(turn % 8):
            # A request takes about as long as one of the election's.
            zk.exists("/")
        scope.cancel()
        assert outcome.get(timeout=PATIENCE_S) == "ended quietly"


def test_a_scope_that_was_cancelled_before_ends_the_first_call(zk: corral.sync.Client) -> None:
    scope = corral.sync.CancelScope()
    scope.cancel()
    with scope:
        zk.create("/never")
    assert scope.is_cancelled
    assert zk.exists("/never") is None


def test_scopes_within_scopes(zk: corral.sync.Client) -> None:
    outer, inner = corral.sync.CancelScope(), corral.sync.CancelScope()
    with outer:
        with inner:
            inner.cancel()
            zk.lost()
        assert zk.exists("/") is not None
        with corral.sync.CancelScope():
            outer.cancel()
            zk.lost()
        raise AssertionError("the outer scope has been cancelled")
    with pytest.raises(asyncio.CancelledError), corral.sync.CancelScope():
        raise asyncio.CancelledError


def test_a_latch_tells_the_callback_thread(zk: corral.sync.Client, server: Server) -> None:
    told: queue.SimpleQueue[tuple[bool, list[str]]] = queue.SimpleQueue()
    with recipes.LeaderLatch(zk, "/leader", "me") as latch:
        latch.on_change(lambda leads: told.put((leads, latch.contenders() if leads else [])))
        latch.wait(timeout=PATIENCE_S)
        expire(server, zk)
        seen = [told.get(timeout=PATIENCE_S)]
        while seen[-1] != (True, ["me"]) or (False, []) not in seen:
            seen.append(told.get(timeout=PATIENCE_S))


@dataclass(frozen=True)
class Limits:
    per_second: int


def test_configuration_is_validated_in_place(zk: corral.sync.Client) -> None:
    def validate(limits: Limits) -> None:
        if limits.per_second < 1:
            raise ValueError("too few")
        with pytest.raises(RuntimeError, match="would wait for itself"):
            zk.get("/")

    codec = recipes.DataclassCodec(Limits)
    with recipes.Configuration(zk, "/limits", codec, validate=validate, default=Limits(1)) as limits:
        changes = limits.changes()
        limits.publish(Limits(2))
        assert next(changes).value == Limits(2)
        with pytest.raises(recipes.InvalidConfigurationError):
            limits.publish(Limits(0))
        assert limits.value.per_second == 2
        assert [each.value for each in limits.history()] == [Limits(2)]


def test_members_come_and_go(zk: corral.sync.Client) -> None:
    with recipes.Members(zk, "/group") as members:
        with recipes.Registration(zk, "/group", "one", b"1"), recipes.Registration(zk, "/group", "two"):
            members.wait_for(lambda each: len(each) == 2 and "one" in each)
            assert [each.name for each in members] == ["one", "two"]
            one = members.get("one")
            assert one is not None
            assert one.data == b"1"
        members.wait_for(lambda each: len(each) == 0)


def test_a_queue_between_threads(zk: corral.sync.Client) -> None:
    with recipes.Queue(zk, "/queue") as jobs:
        taken = [start(jobs.take) for _ in range(3)]
        jobs.put_many([b"1", b"2", b"3"])
        assert sorted(each.get(timeout=PATIENCE_S) for each in taken) == [b"1", b"2", b"3"]  # type: ignore[type-var]


def test_a_read_write_lock_has_twins_for_both_sides(zk: corral.sync.Client) -> None:
    lock = recipes.ReadWriteLock(zk, "/rw")
    with lock.read, recipes.ReadWriteLock(zk, "/rw").read:
        assert lock.read == lock.read
        assert recipes.ReadWriteLock(zk, "/rw").write.try_acquire() is None
    with lock.write as held:
        lock.write.downgrade(held)


def test_a_standby_runs_a_blocking_function(zk: corral.sync.Client) -> None:
    def work(execution: recipes.Execution) -> None:
        assert execution.last_commit is None
        execution.commit(b"half way")
        assert execution.last_commit == b"half way"

    recipes.HotStandby(zk, "/task", work).run()
    assert recipes.instances(zk, "/task") == []
