"""The blocking client against a real server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import queue
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from tests.interrupts import interrupts

import corral.sync
from corral.client import ClientClosedError, ConnectionLoss, EventKind, NoNodeError, State, TransactionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.testing import Server

PATIENCE_S = 20.0


@pytest.fixture
def zk(zookeeper_shared: str) -> Iterator[corral.sync.Client]:
    with corral.sync.connect(str(zookeeper_shared), backoff_first=0.001) as client:
        yield client


def own_threads() -> list[threading.Thread]:
    names = ("corral-portal", "corral-callbacks", "corral-body", "corral-heartbeat")
    return [each for each in threading.enumerate() if each.name in names]


def in_thread(function: Any) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_operations(zk: corral.sync.Client) -> None:
    assert zk.create("/a", b"1") == "/a"
    assert zk.get("/a").data == b"1"
    assert zk.set("/a", b"2", version=0).version == 1
    assert zk.exists("/b") is None
    zk.ensure("/b/c/d")
    assert sorted(zk.get_children("/")) == ["a", "b", "zookeeper"]
    assert [path for path, _ in zk.walk("/b")] == ["/b", "/b/c", "/b/c/d"]
    assert zk.delete_tree("/b") == 3
    with pytest.raises(NoNodeError, match="/b: no node"):
        zk.get("/b")
    with pytest.raises(TypeError, match="a path is a str"):
        zk.get(b"/b")  # type: ignore[arg-type]


def test_asyncios_own_loop_does_as_well(zookeeper_shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with corral.sync.connect(str(zookeeper_shared)) as zk:
        assert isinstance(zk._portal._loop, asyncio.SelectorEventLoop)
        zk.create("/a", bytes(500_000))
        assert zk.get("/a").data == bytes(500_000)
        assert [path for path, _ in zk.walk("/a")] == ["/a"]


def test_a_transaction(zk: corral.sync.Client) -> None:
    with zk.transaction() as t:
        t.create("/t")
        t.set("/t", b"1")
    path, stat = t.results
    assert (path, zk.get("/t").stat) == ("/t", stat)
    with pytest.raises(TransactionError), zk.transaction() as t:  # noqa: PT012
        t.create("/u")
        t.check("/t", version=7)
    assert zk.exists("/u") is None


def test_the_session_is_the_twin_of_the_session(zk: corral.sync.Client) -> None:
    session = zk.session
    assert session is not None
    assert session == zk.session
    assert len({session, zk.session}) == 1
    assert not session.has_ended
    waiting = in_thread(session.ended)
    zk.close()
    waiting.join(PATIENCE_S)
    assert session.has_ended


def test_many_threads_share_a_client(zk: corral.sync.Client) -> None:
    def work(number: int) -> None:
        for turn in range(30):
            path = zk.create(f"/{number}-{turn}", b"%d" % number)
            assert zk.get(path).data == b"%d" % number

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(zk.get_children("/")) == 8 * 30 + 1


def test_a_watch_is_an_iterator(zk: corral.sync.Client) -> None:
    with zk.watch("/w", recursive=True) as events:
        zk.create("/w")
        zk.create("/w/1")
        zk.delete("/w/1")
        seen = [next(events) for _ in range(3)]
    assert [(each.kind, each.path) for each in seen] == [
        (EventKind.CREATED, "/w"),
        (EventKind.CREATED, "/w/1"),
        (EventKind.DELETED, "/w/1"),
    ]
    assert list(events) == []


def test_what_came_before_the_close_is_handed_out(zk: corral.sync.Client) -> None:
    states = zk.states()
    assert next(states) is State.CONNECTED
    with zk.watch("/w") as events:
        zk.create("/w")
        assert zk.exists("/w") is not None
        zk.close()
        assert [each.kind for each in events] == [EventKind.CREATED]
    assert list(states) == [State.CLOSED]


def test_a_watch_ends_with_the_client_in_every_thread(zk: corral.sync.Client) -> None:
    started = threading.Barrier(3)
    seen: list[Any] = []
    watch = zk.watch("/w")

    def read() -> None:
        started.wait()
        seen.extend(watch)

    readers = [in_thread(read) for _ in range(2)]
    watch.start()
    started.wait()
    zk.create("/w")
    assert zk.exists("/w") is not None
    zk.close()
    for each in readers:
        each.join(PATIENCE_S)
        assert not each.is_alive()
    assert [each.kind for each in seen] == [EventKind.CREATED]


def test_an_iteration_that_is_left_is_closed(zk: corral.sync.Client) -> None:
    for path, _ in zk.walk("/"):
        assert path == "/"
        break
    gc.collect()
    assert zk.exists("/") is not None


def test_a_cache_is_read_from_any_thread(zk: corral.sync.Client) -> None:
    zk.ensure("/c/a")
    with zk.cache("/c") as cache:
        assert cache.children("/c") == ["a"]
        changes = cache.changes()
        zk.create("/c/b", b"b")
        assert next(changes).path == "/c/b"
        assert sorted(cache) == ["/c", "/c/a", "/c/b"]
        assert "/c/b" in cache
        assert cache["/c/b"].data == b"b"


# Callbacks


def test_callbacks_run_in_order_in_one_thread_and_may_block(zk: corral.sync.Client) -> None:
    seen: queue.SimpleQueue[tuple[bytes, int]] = queue.SimpleQueue()
    zk.create("/w", b"0")

    def changed(event: object) -> None:
        seen.put((zk.get("/w").data, threading.get_ident()))
        if len(zk.get("/w").data) < 3:
            zk.set("/w", zk.get("/w").data + b"+", version=None)

    with zk.watch("/w", callback=changed):
        zk.set("/w", b"+")
        outcomes = [seen.get(timeout=PATIENCE_S) for _ in range(3)]
    assert [data for data, _ in outcomes] == [b"+", b"++", b"+++"]
    assert {thread for _, thread in outcomes} == {next(iter(outcomes))[1]}
    assert outcomes[0][1] != threading.get_ident()


def test_a_callback_that_fails_is_told_and_the_next_one_runs(
    zk: corral.sync.Client, caplog: pytest.LogCaptureFixture
) -> None:
    seen: queue.SimpleQueue[object] = queue.SimpleQueue()

    def fail(event: object) -> None:
        raise ValueError("by order of the test")

    zk.create("/w")
    zk.get("/w", watch=fail)
    zk.get_children("/w", watch=seen.put)
    zk.delete("/w")
    assert seen.get(timeout=PATIENCE_S)
    assert "by order of the test" in caplog.text


def test_a_callback_is_taken_back_by_the_function(zk: corral.sync.Client) -> None:
    states: queue.SimpleQueue[State] = queue.SimpleQueue()
    first: queue.SimpleQueue[State] = queue.SimpleQueue()
    zk.on_state(first.put)
    zk.on_state(states.put)
    zk.off_state(first.put)
    zk.close()
    assert states.get(timeout=PATIENCE_S) is State.CLOSED
    assert first.empty()


def test_a_callback_may_close_the_client(zk: corral.sync.Client) -> None:
    states: queue.SimpleQueue[State] = queue.SimpleQueue()
    zk.on_state(states.put)
    zk.create("/w")
    zk.get("/w", watch=lambda event: zk.close())
    with contextlib.suppress(ClientClosedError):
        zk.delete("/w")
    assert states.get(timeout=PATIENCE_S) is State.CLOSED
    assert zk.state is State.CLOSED


def test_the_loops_thread_is_no_place_for_blocking_calls(zk: corral.sync.Client) -> None:
    with pytest.raises(RuntimeError, match="would wait for itself"):
        zk._portal.run(zk.get, "/")
    assert zk.exists("/") is not None


# Functions that stand for coroutines


def test_persist_calls_a_blocking_function_again(zk: corral.sync.Client, zookeeper_shared: Any) -> None:
    calls: list[int] = []

    def operation() -> bytes:
        calls.append(threading.get_ident())
        if len(calls) == 1:
            raise ConnectionLoss("by order of the test")
        return zk.get("/").data

    assert zk.persist(operation) == b""
    assert len(calls) == 2
    assert threading.get_ident() not in calls


def test_an_interrupted_body_ends_at_its_next_blocking_call(zk: corral.sync.Client) -> None:
    ended: queue.SimpleQueue[str] = queue.SimpleQueue()
    entered = threading.Event()

    def operation() -> None:
        entered.set()
        try:
            zk.lost()
        finally:
            ended.put("the call was cancelled")

    def wait_and_interrupt() -> None:
        entered.wait(PATIENCE_S)
        interrupt()

    with interrupts() as interrupt, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        in_thread(wait_and_interrupt)
        zk.persist(operation)
    assert ended.get(timeout=PATIENCE_S) == "the call was cancelled"
    assert zk.exists("/") is not None


# Life


def test_an_interrupted_call_is_cancelled(zk: corral.sync.Client) -> None:
    calls = zk._portal._life.calls
    never = threading.Event()

    def wait_and_interrupt() -> None:
        while not calls:
            never.wait(0.001)
        interrupt()

    with interrupts() as interrupt, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        in_thread(wait_and_interrupt)
        zk.lost()
    assert calls == set()
    assert zk.exists("/") is not None


def test_close_ends_every_call_and_every_thread(zookeeper_shared: str) -> None:
    zk = corral.sync.connect(str(zookeeper_shared)).start()
    zk.on_state(print)
    ends: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    entered = threading.Event()

    def wait() -> None:
        try:
            entered.set()
            zk.lost()
        except BaseException as error:
            ends.put(error)

    thread = in_thread(wait)
    entered.wait(PATIENCE_S)
    zk.close()
    assert isinstance(ends.get(timeout=PATIENCE_S), ClientClosedError)
    thread.join(PATIENCE_S)
    assert own_threads() == []
    zk.close()
    with pytest.raises(ClientClosedError):
        zk.get("/")
    assert zk.state is State.CLOSED


def test_a_client_that_cannot_start_leaves_no_thread() -> None:
    with pytest.raises(ConnectionLoss, match="no server took the client"):
        corral.sync.connect("127.0.0.1:1", connect_timeout=0.05).start()
    assert own_threads() == []


def test_a_client_that_was_not_started_says_so() -> None:
    zk = corral.sync.connect("127.0.0.1:1")
    assert own_threads() == []
    with pytest.raises(ClientClosedError, match="not started"):
        zk.get("/")
    zk.close()


def test_a_forgotten_client_complains_and_ends(zookeeper_server: Server) -> None:
    zk = corral.sync.connect(str(zookeeper_server.address)).start()
    (thread,) = [each for each in own_threads() if each.name == "corral-portal"]
    with pytest.warns(ResourceWarning, match="was not closed"):  # noqa: PT031
        del zk
        gc.collect()
    thread.join(PATIENCE_S)
    assert zookeeper_server.sessions() == []


def test_what_is_built_on_a_client_keeps_it(zookeeper_shared: str) -> None:
    cache = corral.sync.connect(str(zookeeper_shared)).start().cache("/").start()
    gc.collect()
    assert cache["/"].data == b""
    with pytest.warns(ResourceWarning, match="was not closed"):  # noqa: PT031
        del cache
        gc.collect()
    for each in own_threads():
        each.join(PATIENCE_S)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_is_told(zk: corral.sync.Client) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            zk.get("/")
        except RuntimeError as error:
            os.write(writing, str(error).encode())
        zk.close()
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as answer:
        assert b"make another one after the fork" in answer.read()
    assert zk.exists("/") is not None


def test_a_program_ends_though_its_client_is_open(zookeeper_server: Server) -> None:
    program = """
        import sys
        import corral.sync
        zk = corral.sync.connect(sys.argv[1]).start()
        zk.on_state(print)
        zk.create("/a", ephemeral=True)
    """
    command = [sys.executable, "-W", "always", "-c", textwrap.dedent(program), str(zookeeper_server.address)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert "ResourceWarning" in done.stderr
    assert "was not closed" in done.stderr
    assert zookeeper_server.sessions() == []
