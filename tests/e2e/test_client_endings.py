"""Every call ends and nothing is left: with servers that hang, die and come back, when sessions and clients end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.client_peer import PATIENCE_S, Peer, Visit, client_of, connected, reply, welcome, znode_body
from tests.interop.gate import Gate

from corral.client import (
    Client,
    ClientClosedError,
    ConnectionLoss,
    EventKind,
    KeeperError,
    ReplyTooLargeError,
    SessionExpired,
    State,
    connect,
)
from corral.jute.ops import OpCode
from corral.testing import Address, Server


@pytest.fixture
def shared(zookeeper_shared: Address) -> Server:
    """The run's one server, empty."""
    return zookeeper_shared.server


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "corral-heartbeat"]


@asynccontextmanager
async def client(address: str, **options: Any) -> AsyncIterator[Client]:
    """A client; when it is closed, nothing of it is left in the loop."""
    options.setdefault("backoff_first", 0.001)
    options.setdefault("backoff_max", 0.02)
    before = asyncio.all_tasks()
    async with asyncio.timeout(PATIENCE_S):
        async with connect(address, **options) as zk:
            yield zk
        assert asyncio.all_tasks() == before


def everything(zk: Client) -> list[asyncio.Future[Any]]:
    """A call of each kind."""

    def ignore(event: object) -> None:
        pass

    async def walk() -> list[str]:
        return [path async for path, _ in zk.walk()]

    transaction = zk.transaction()
    transaction.create("/t")
    calls: list[Awaitable[Any]] = [
        zk.get("/a"),
        zk.get("/a", watch=ignore),
        zk.exists("/a", watch=ignore),
        zk.get_children("/a", watch=ignore),
        zk.get_listing("/a"),
        zk.get_many(["/a"]),
        zk.get_acl("/a"),
        zk.get_ephemerals(),
        zk.count_descendants("/"),
        zk.sync(),
        zk.create("/b"),
        zk.create("/c/d", parents=True),
        zk.create("/p-", sequential=True, protected=True, ephemeral=True),
        zk.set("/a", b""),
        zk.delete("/a"),
        zk.ensure("/e/f"),
        zk.delete_tree("/e"),
        walk(),
        transaction.commit(),
        zk.watch("/w").start(),
        zk.add_watch("/x", ignore),
        zk.remove_watches("/x"),
        zk.has_watches("/x"),
        zk.add_auth("digest", "a:b"),
        zk.who_am_i(),
        zk.get_config(),
    ]
    return [asyncio.ensure_future(call) for call in calls]


async def ended(calls: list[asyncio.Future[Any]], *ways: type[BaseException]) -> None:
    """Wait for the calls; each ends with its result or in one of ``ways``."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for outcome in outcomes:
        assert not isinstance(outcome, BaseException) or isinstance(outcome, (*ways, KeeperError)), repr(outcome)


def test_calls_to_a_server_that_hangs_end_and_so_does_the_close() -> None:
    async def main() -> None:
        with Server(minSessionTimeout=100, tickTime=50) as server:
            async with client(server.address, session_timeout=0.2) as zk:
                await zk.create("/a")
                server.pause()
                lost = asyncio.create_task(zk.lost())
                calls = everything(zk)
                await ended(calls)
                await lost
                server.resume()
                await zk.connected()
                await zk.get("/zookeeper")
                server.pause()
                last = everything(zk)
            await ended(last, ClientClosedError)
            server.resume()

    asyncio.run(main())


def test_calls_to_a_server_that_dies_end_and_go_on_when_it_is_back() -> None:
    async def main() -> None:
        with Server() as server:
            async with client(server.address) as zk:
                session = zk.session
                await zk.create("/a", b"kept")
                calls = everything(zk)
                await asyncio.sleep(0)
                await asyncio.to_thread(server.kill)
                waiting = zk.get("/zookeeper")
                await asyncio.to_thread(server.start)
                await ended(calls)
                await waiting
                assert zk.session is session, "the session outlives a restart of the server"

    asyncio.run(main())


def test_kazoo_241_calls_end_when_the_session_is_expired(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address) as zk:
            await zk.create("/a")
            first = zk.session
            assert first is not None
            for _ in range(3):
                lost = asyncio.create_task(zk.lost())
                await asyncio.sleep(0)
                calls = everything(zk)
                await asyncio.sleep(0)
                assert zk.session is not None
                await asyncio.to_thread(shared.expire_session, zk.session.id)
                await ended(calls)
                await lost
                await zk.connected()
            await asyncio.wait_for(first.ended(), PATIENCE_S)
            assert zk.session is not first

    asyncio.run(main())


def test_calls_end_when_the_client_is_closed_with_or_without_a_connection(shared: Server) -> None:
    async def main() -> None:
        with Gate(shared.port) as gate:
            async with client(gate.address) as zk:
                calls = everything(zk)
                await asyncio.sleep(0)
            await ended(calls, ClientClosedError, RuntimeError)
            async with client(gate.address) as zk:
                suspended = asyncio.create_task(zk.suspended())
                await asyncio.sleep(0)
                gate.close()
                await suspended
                calls = everything(zk)
                await asyncio.sleep(0)
            await ended(calls, ClientClosedError)
            for call in everything(zk):
                with pytest.raises(ClientClosedError):
                    await call

    asyncio.run(main())


def test_kazoo_482_nothing_waits_on_a_client_that_was_never_started() -> None:
    async def main() -> None:
        zk = connect("127.0.0.1:1")
        for call in everything(zk):
            with pytest.raises(ClientClosedError, match="not started"):
                await call
        await zk.close()
        await zk.close()
        with pytest.raises(ClientClosedError):
            await zk.start()

    asyncio.run(main())


def test_go_zookeeper_15_nothing_is_left_of_connections_that_broke(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address, backoff_max=0.002) as zk:
            tasks, threads = len(asyncio.all_tasks()), threading.active_count()
            for _ in range(30):
                suspended = asyncio.create_task(zk.suspended())
                await asyncio.sleep(0)
                zk.reconnect()
                await suspended
                await zk.exists("/")
            assert len(asyncio.all_tasks()) == tasks
            assert threading.active_count() == threads
            assert zk.session is not None
            ours = [each for each in shared.connections() if each.session_id == zk.session.id]
            assert len(ours) == 1

    asyncio.run(main())


def test_a_program_that_ends_without_a_close_leaves_no_thread_and_no_session(shared: Server) -> None:
    made: list[Client] = []

    async def main() -> None:
        made.append(await connect(shared.address).start())
        assert len(shared.connections()) == 1

    asyncio.run(main())
    (zk,) = made
    assert zk.state is State.CLOSED
    while shared.connections():
        # The socket is closed; the server sees it a moment later.
        time.sleep(0.001)

    async def afterwards() -> None:
        with pytest.raises(ClientClosedError):
            await zk.get("/")

    asyncio.run(afterwards())


# Cancellation


SCENARIOS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "get": lambda zk: zk.get("/a"),
    "set": lambda zk: zk.set("/a", b""),
    "parents": lambda zk: zk.create("/x/y/z", parents=True),
    "ensure": lambda zk: zk.ensure("/x/y/z"),
    "protected": lambda zk: zk.create("/n-", sequential=True, ephemeral=True, protected=True),
    "watch": lambda zk: zk.watch("/a").start(),
    "auth": lambda zk: zk.add_auth("digest", "a:b"),
    "delete_tree": lambda zk: zk.delete_tree("/a"),
    "connected": lambda zk: zk.connected(),
    "lost": lambda zk: zk.lost(),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_calls_may_be_cancelled_at_every_stage(shared: Server, name: str) -> None:
    async def main() -> None:
        reports: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        async with client(shared.address) as zk:
            await zk.ensure("/a/b")
            for turns in range(16):
                call = asyncio.ensure_future(SCENARIOS[name](zk))
                if turns % 3 == 2:
                    zk.reconnect()
                for _ in range(turns):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait([call])
                if not call.cancelled():
                    call.exception()
            await zk.sync()
            while len(asyncio.all_tasks()) > 2:
                await asyncio.sleep(0.001)
            assert not any(zk._keeper.feed._waiting.values())
        gc.collect()
        assert reports == []

    asyncio.run(main())


def test_start_and_close_may_be_cancelled_at_every_stage(shared: Server) -> None:
    async def main() -> None:
        for turns in range(40):
            zk = connect(shared.address)
            starting = asyncio.create_task(zk.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait([starting])
            # A task that is cancelled before its first step does not even begin.
            if starting.cancelled() and turns:
                assert zk.state is State.CLOSED
            await zk.close()
            assert len(asyncio.all_tasks()) == 1
        for turns in range(15):
            zk = await connect(shared.address).start()
            closing = asyncio.create_task(zk.close())
            for _ in range(turns):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait([closing])
            await zk.close()
            assert zk.state is State.CLOSED
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


# Too big


def test_helix_962_an_answer_that_is_too_big_fails_once_and_the_connection_goes_on(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address, max_reply_bytes=20_000) as zk:
            states: list[State] = []
            zk.on_state(states.append)
            await zk.create("/big")
            await asyncio.gather(*[zk.create(f"/big/{number:0100d}") for number in range(300)])
            asked: list[Awaitable[Any]] = [zk.get_children("/big"), zk.get("/big"), zk.get_listing("/big")]
            for number, call in enumerate(asked):
                if number == 1:
                    await call
                else:
                    with pytest.raises(ReplyTooLargeError, match=r"/big: the answer has 31\d{3} bytes"):
                        await call
            assert states == []

    asyncio.run(main())


def test_helix_962_a_request_that_ends_every_connection_is_not_repeated_for_ever() -> None:
    async def main() -> None:
        asked = 0

        async def hang_up_on_reading(visit: Visit) -> None:
            nonlocal asked
            await visit.accept()
            request = await visit.read()
            if request.op == OpCode.GET_DATA:
                asked += 1
                return
            visit.send(reply(request.xid))
            await visit.over()

        async with Peer(hang_up_on_reading) as peer, client_of(peer.address) as zk:
            with pytest.raises(ConnectionLoss):
                await zk.get("/a")
            assert asked == 5
            await zk.delete("/b")

    asyncio.run(main())


# A busy program


@pytest.mark.slow
def test_kazoo_632_a_session_outlives_a_program_that_keeps_the_loop_busy() -> None:
    async def main() -> None:
        with Server(minSessionTimeout=100, tickTime=50) as server:
            async with client(server.address, session_timeout=1.2) as zk:
                await zk.create("/e", ephemeral=True)
                session, states = zk.session, list[State]()
                zk.on_state(states.append)
                # Three session timeouts without a look at the network.
                time.sleep(3.6)
                assert (await zk.get("/e")).stat.ephemeral_owner == server.sessions()[0].id
                assert zk.session is session
                assert states == []

    asyncio.run(main())


@pytest.mark.slow
def test_without_the_heartbeat_such_a_session_is_lost_and_that_is_told() -> None:
    async def main() -> None:
        with Server(minSessionTimeout=50, tickTime=25) as server:
            async with client(server.address, session_timeout=0.1, heartbeat=False) as zk:
                first = zk.session
                assert first is not None
                lost = asyncio.create_task(zk.lost())
                await asyncio.sleep(0)
                time.sleep(0.3)
                await lost
                assert first.has_ended
                await zk.connected()
                assert zk.session is not first

    asyncio.run(main())


def test_an_idle_client_pings() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer, welcome(timeout_ms=150)) as (zk, visit):
            reading = asyncio.create_task(visit.read())
            while visit.pings < 5:
                await asyncio.sleep(0.005)
            assert zk.state is State.CONNECTED
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading

    asyncio.run(main())


def test_pings_alone_keep_a_busy_connection_s_time() -> None:
    # Requests go out all the time, and each of them proves that the server has heard of the session.
    async def main() -> None:
        async with Peer() as peer, connected(peer, welcome(timeout_ms=300)) as (zk, visit):
            connection = zk._keeper.connection
            assert connection is not None
            proven = []
            for _ in range(5):
                reading = zk.get("/a")
                await visit.answer(OpCode.GET_DATA, znode_body())
                await reading
                proven.append(connection.acknowledged_at)
            assert proven == sorted(set(proven))

    asyncio.run(main())


def test_watches_of_a_lost_session_are_told_once_each(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address) as zk:
            events: list[EventKind] = []
            await zk.create("/a")
            await zk.get("/a", watch=lambda event: events.append(event.kind))
            await zk.exists("/b", watch=lambda event: events.append(event.kind))
            lost = asyncio.create_task(zk.lost())
            await asyncio.sleep(0)
            assert zk.session is not None
            shared.expire_session(zk.session.id)
            await lost
            assert events == [EventKind.LOST] * 2
            with contextlib.suppress(SessionExpired):
                await zk.set("/a", b"")
            await zk.sync()
        assert events == [EventKind.LOST] * 2

    asyncio.run(main())
