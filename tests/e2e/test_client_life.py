"""The life of a client's connections and sessions, against peers of which every byte is decided here."""

from __future__ import annotations

import asyncio
import socket
import threading
from random import Random
from typing import Any

import pytest
from tests.client_peer import (
    PASSWORD,
    REFUSAL,
    SESSION,
    NoPause,
    Peer,
    Visit,
    client,
    client_of,
    connected,
    event,
    reply,
    stat_body,
    welcome,
    znode_body,
)

from corral.client import (
    ClientClosedError,
    ConnectionLoss,
    EventKind,
    SessionExpired,
    State,
    WatchEvent,
    connect,
)
from corral.client.errors import AuthFailedError, NotSent
from corral.jute.ops import OpCode, Xid
from corral.jute.records import AuthPacket, SetWatches2


async def accept_and_serve(visit: Visit) -> None:
    await visit.accept()
    await visit.over()


# The first connection


def test_zookeeper_4921_and_4923_a_first_connection_is_given_up_in_time() -> None:
    async def hang_up(visit: Visit) -> None:
        await visit.handshake()

    async def main() -> None:
        async with Peer(hang_up) as peer:
            zk = client(peer, connect_timeout=0.1, random=Random(1))
            with pytest.raises(ConnectionLoss, match=rf"within 0.1 s: {peer.address}: the server closed"):
                await zk.start()
            assert zk.state is State.CLOSED
            with pytest.raises(ClientClosedError):
                await zk.get("/")
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_new_session_that_is_refused_is_asked_for_again() -> None:
    async def main() -> None:
        async with Peer() as peer:
            zk = client(peer)
            start = asyncio.create_task(zk.start())
            await (await peer.visit()).accept(REFUSAL)
            visit = await peer.visit()
            request = await visit.accept()
            assert request.session_id == 0
            await start
            assert zk.session is not None
            assert zk.session.id == SESSION
            await asyncio.gather(zk.close(), visit.over())

    asyncio.run(main())


def test_closed_while_it_starts_the_start_says_so() -> None:
    async def main() -> None:
        async with Peer() as peer:
            zk = client(peer)
            start = asyncio.create_task(zk.start())
            await peer.visit()
            await zk.close()
            with pytest.raises(ClientClosedError, match="before it was connected"):
                await start
            with pytest.raises(ClientClosedError, match="started once"):
                await zk.start()

    asyncio.run(main())


def test_cancelled_while_it_starts_nothing_is_left() -> None:
    async def main() -> None:
        threads = threading.active_count()
        async with Peer() as peer:
            zk = client(peer, heartbeat=True)
            start = asyncio.create_task(zk.start())
            visit = await peer.visit()
            start.cancel()
            with pytest.raises(asyncio.CancelledError):
                await start
            assert zk.state is State.CLOSED
            assert threading.active_count() == threads
            await visit.handshake()
            with pytest.raises(EOFError):
                await visit.read()

    asyncio.run(main())


def test_numbers_that_make_no_sense_are_named() -> None:
    for name, value in {
        "session_timeout": 0,
        "connect_timeout": -1,
        "backoff_first": 0,
        "backoff_max": float("nan"),
        "max_request_bytes": 0,
        "max_reply_bytes": -5,
    }.items():
        with pytest.raises(ValueError, match=name):
            connect("host", **{name: value})  # type: ignore[arg-type]
    for timeout in (1e-9, 1e9, float("inf")):
        with pytest.raises(ValueError, match="session_timeout"):
            connect("host", session_timeout=timeout)


# Where the servers are


def test_a_name_is_looked_up_again_at_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with Peer(accept_and_serve) as first, Peer(accept_and_serve) as second:
            # One name and port, which move from one address to another, as after a fail-over.
            there = [first]
            asked: list[str] = []

            def getaddrinfo(host: str, *rest: Any, **named: Any) -> list[Any]:
                asked.append(host)
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each.host, 0)) for each in there]

            monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
            await first.move("127.0.0.2", 0)
            await second.move("127.0.0.3", first.port)
            async with client_of(f"zk.test:{first.port}") as zk:
                assert first.connections == 1
                there[:] = [second]
                lost = asyncio.create_task(zk.suspended())
                await asyncio.sleep(0)
                zk.reconnect()
                await lost
                await zk.connected()
                assert (first.connections, second.connections) == (1, 1)
                assert asked == ["zk.test"] * 2
                assert zk.server == f"zk.test:{first.port}"

    asyncio.run(main())


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang_up(visit: Visit) -> None:
        await visit.handshake()

    async def main() -> None:
        async with Peer(hang_up) as broken, Peer(accept_and_serve) as sound:
            await broken.move("127.0.0.2", 0)
            await sound.move("127.0.0.3", broken.port)
            places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each.host, 0)) for each in (broken, sound)]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
            for seed in range(6):
                async with client_of(f"zk.test:{broken.port}", random=NoPause(seed)):
                    pass
            assert sound.connections == 6
            assert 0 < broken.connections < 6, "in an order of its own for each client"

    asyncio.run(main())


# Back-off


def test_go_zookeeper_159_pauses_grow_while_no_server_answers() -> None:
    async def main() -> None:
        refused = 0

        async def refuse_at_first(visit: Visit) -> None:
            nonlocal refused
            refused += 1
            if refused > 7:
                await accept_and_serve(visit)

        async with Peer(refuse_at_first) as peer:
            pauses = NoPause()
            async with client(peer, random=pauses, backoff_first=0.1, backoff_max=1.0):
                assert pauses.bounds == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]

    asyncio.run(main())


def test_pauses_grow_too_when_servers_take_the_client_and_fail_at_once() -> None:
    async def main() -> None:
        taken = 0

        async def fail_at_first(visit: Visit) -> None:
            nonlocal taken
            taken += 1
            await visit.accept()
            if taken > 4:
                await visit.over()

        async with Peer(fail_at_first) as peer:
            pauses = NoPause()
            async with client(peer, random=pauses, backoff_first=0.1, backoff_max=10.0) as zk:
                while taken < 5 or not zk.state.is_connected:
                    await asyncio.wait([asyncio.ensure_future(zk.delete("/a"))])
                assert pauses.bounds == [0.1, 0.2, 0.4, 0.8]

    asyncio.run(main())


# A session over several connections


def test_a_session_goes_on_at_another_server() -> None:
    async def main() -> None:
        async with Peer() as one, Peer() as two:
            zk = client(one, two)
            states: list[State] = []
            zk.on_state(states.append)
            start = asyncio.create_task(zk.start())
            first, other = (one, two) if zk._keeper._hosts.addresses[0].port == one.port else (two, one)
            visit = await first.visit()
            request = await visit.accept()
            assert (request.session_id, request.password, request.last_zxid_seen) == (0, bytes(16), 0)
            assert request.timeout_ms == 10_000
            await start
            session = zk.session
            read = zk.get("/a")
            write = zk.set("/a", b"")
            await visit.answer(OpCode.GET_DATA, znode_body(), zxid=77)
            await read
            again = zk.get("/b")
            await visit.expect(OpCode.SET_DATA)
            visit.reset()
            visit = await other.visit()
            request = await visit.accept()
            assert (request.session_id, request.password, request.last_zxid_seen) == (SESSION, PASSWORD, 77)
            with pytest.raises(ConnectionLoss, match="/a: the connection to"):
                await write
            await visit.answer(OpCode.GET_DATA, znode_body(b"b"), zxid=78)
            assert (await again).data == b"b"
            assert zk.session is session
            assert zk.last_zxid == 78
            assert states == [State.CONNECTED, State.SUSPENDED, State.CONNECTED]
            await asyncio.gather(zk.close(), visit.over())
            assert session is not None
            assert session.has_ended

    asyncio.run(main())


def test_each_server_grants_its_own_timeout() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer, welcome(timeout_ms=8000)) as (zk, visit):
            session = zk.session
            assert session is not None
            assert session.timeout == 8
            visit.reset()
            visit = await peer.visit()
            request = await visit.accept(welcome(timeout_ms=4000))
            assert request.timeout_ms == 10_000, "what is wanted, not what the last server made of it"
            await zk.connected()
            assert zk.session is session
            assert session.timeout == 4
            peer.look_after(visit)

    asyncio.run(main())


def test_another_session_in_the_place_of_ours_is_the_end_of_ours() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            session = zk.session
            assert session is not None
            lost = asyncio.create_task(zk.lost())
            await asyncio.sleep(0)
            visit.reset()
            visit = await peer.visit()
            await visit.accept(welcome(SESSION + 1))
            await lost
            assert session.has_ended
            await zk.connected()
            assert zk.session is not None
            assert zk.session.id == SESSION + 1
            peer.look_after(visit)

    asyncio.run(main())


def test_go_zookeeper_zk_108_after_expiry_all_begins_anew() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            states: list[State] = []
            zk.on_state(states.append)
            events: list[WatchEvent] = []
            session = zk.session
            reading = zk.get("/once", watch=events.append)
            await visit.answer(OpCode.GET_DATA, znode_body(), zxid=50)
            await reading
            watching = zk.watch("/always").start()
            task = asyncio.create_task(watching)
            await visit.answer(OpCode.ADD_WATCH, bytes(4), zxid=50)
            watch = await task
            visit.reset()
            visit = await peer.visit()
            request, _ = await visit.handshake()
            assert request.last_zxid_seen == 50
            waiting = [zk.get("/a"), zk.set("/a", b"")]
            visit.send(REFUSAL)
            for call in waiting:
                with pytest.raises(SessionExpired, match="session 0x1001 has ended"):
                    await call
            visit = await peer.visit()
            request = await visit.accept(welcome(SESSION + 1))
            assert (request.session_id, request.password, request.last_zxid_seen) == (0, bytes(16), 0)
            restored = await visit.expect(OpCode.SET_WATCHES2)
            lists = SetWatches2.from_bytes(restored.body)
            assert lists.relative_zxid == 0
            assert (lists.data_watches, lists.persistent_watches) == ([], [b"/always"])
            visit.send(reply(Xid.SET_WATCHES))
            calling = zk.get("/new")
            answered = await visit.answer(OpCode.GET_DATA, znode_body())
            assert answered.xid == 1
            await calling
            assert states == [State.SUSPENDED, State.LOST, State.CONNECTED]
            assert session is not None
            assert session.has_ended
            assert zk.session is not None
            assert zk.session.id == SESSION + 1
            assert events == [WatchEvent(EventKind.LOST, "/once")]
            assert await anext(watch) == WatchEvent(EventKind.MISSED, "/always")
            peer.look_after(visit)

    asyncio.run(main())


def test_kazoo_42_aiozk_28_servers_that_are_behind_us_for_ever_end_the_session() -> None:
    # Such a server closes the connection without an answer, for it must not show an older state than was seen.
    async def main() -> None:
        handshakes: list[int] = []

        async def serve(visit: Visit) -> None:
            request, _ = await visit.handshake()
            handshakes.append(request.last_zxid_seen)
            if request.last_zxid_seen > 5:
                return
            visit.send(welcome(timeout_ms=200))
            if len(handshakes) == 1:
                await visit.answer(OpCode.GET_DATA, znode_body(), zxid=1000)
                # Now it loses its data.
                return
            await visit.over()

        async with Peer(serve) as peer, client_of(peer.address, backoff_max=0.01, random=Random(3)) as zk:
            lost = asyncio.create_task(zk.lost())
            await zk.get("/")
            await lost
            await zk.connected()
            assert handshakes[0] == 0
            assert set(handshakes[1:-1]) == {1000}
            assert handshakes[-1] == 0

    asyncio.run(main())


def test_zookeeper_4508_a_session_ends_by_our_own_clock_when_all_servers_are_gone() -> None:
    async def main() -> None:
        peer = Peer()
        async with peer, connected(peer, welcome(timeout_ms=150), backoff_max=0.02, random=Random(1)) as (zk, visit):
            lost = asyncio.create_task(zk.lost())
            reading = zk.get("/")
            await visit.expect(OpCode.GET_DATA)
            await peer.stop()
            await lost
            with pytest.raises(SessionExpired):
                await reading
            assert zk.state is State.LOST
            assert zk.session is None

    asyncio.run(main())


def test_calls_without_a_connection_end_in_time_and_say_that_they_were_not_sent() -> None:
    async def main() -> None:
        async with Peer() as peer:
            options = {"session_timeout": 0.15, "backoff_max": 0.02, "random": Random(1)}
            async with connected(peer, welcome(timeout_ms=150), **options) as (zk, _):
                lost = asyncio.create_task(zk.lost())
                await asyncio.sleep(0)
                await peer.stop()
                await lost
                with pytest.raises(NotSent, match=r"no connection for 0\.15 s: 127\.0\.0\.1"):
                    await zk.create("/a")
                with pytest.raises(NotSent, match="authentication by digest"):
                    await zk.add_auth("digest", "a:b")

    asyncio.run(main())


def test_a_server_that_says_nothing_any_more_is_left() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer, welcome(timeout_ms=300)) as (zk, _):
            # It is there, reads nothing and answers nothing.
            reading, writing = zk.get("/a"), zk.set("/a", b"")
            second = await peer.visit()
            await second.accept(welcome(timeout_ms=300))
            with pytest.raises(ConnectionLoss, match="nothing heard for"):
                await writing
            await second.answer(OpCode.GET_DATA, znode_body())
            assert (await reading).data == b"data"
            peer.look_after(second)

    asyncio.run(main())


# States


def test_no_state_is_missed_however_short() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            seen: list[State] = []
            ready = asyncio.Event()

            async def look() -> None:
                async for state in zk.states():
                    ready.set()
                    seen.append(state)

            looking = asyncio.create_task(look())
            suspended = asyncio.create_task(zk.suspended())
            lost = asyncio.create_task(zk.lost())
            closed = asyncio.create_task(zk.closed())
            await ready.wait()
            visit.reset()
            await (await peer.visit()).accept(REFUSAL)
            visit = await peer.visit()
            await visit.accept()
            await zk.connected()
            await asyncio.gather(suspended, lost)
            await asyncio.gather(zk.close(), visit.over())
            await asyncio.gather(closed, looking)
            C, S, L = State.CONNECTED, State.SUSPENDED, State.LOST  # noqa: N806 - a drawing
            assert seen == [C, S, L, C, State.CLOSED]
            for waiter in (zk.connected, zk.suspended, zk.lost):
                with pytest.raises(ClientClosedError):
                    await waiter()
            await zk.closed()

    asyncio.run(main())


def test_a_listener_may_leave_the_server_at_once() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            seen: list[State] = []

            def leave_once(state: State) -> None:
                if state is State.CONNECTED and state not in seen:
                    zk.reconnect()

            zk.on_state(leave_once)
            zk.on_state(seen.append)
            visit.reset()
            await (await peer.visit()).accept()
            visit = await peer.visit()
            await visit.accept()
            while seen[-2:] != [State.SUSPENDED, State.CONNECTED] or len(seen) < 4:
                await asyncio.sleep(0.001)
            assert seen == [State.SUSPENDED, State.CONNECTED, State.SUSPENDED, State.CONNECTED]
            zk.off_state(leave_once)
            peer.look_after(visit)

    asyncio.run(main())


def test_a_watch_that_leaves_the_server_when_told_of_the_new_connection_sees_no_wrong_state() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            seen: list[State] = []
            left: list[WatchEvent] = []

            def leave(event: WatchEvent) -> None:
                if not left:
                    left.append(event)
                    zk.reconnect()

            adding = zk.add_watch("/a", leave)
            await visit.answer(OpCode.ADD_WATCH, bytes(4))
            await adding
            zk.on_state(seen.append)
            visit.reset()
            await (await peer.visit()).accept()
            visit = await peer.visit()
            await visit.accept()
            await zk.connected()
            assert seen == [State.SUSPENDED, State.CONNECTED]
            peer.look_after(visit)

    asyncio.run(main())


# Authentication


def test_credentials_come_first_on_every_connection_then_watches_then_calls() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            proving = asyncio.create_task(zk.add_auth("digest", "user:secret"))
            request = await visit.expect(OpCode.AUTH)
            assert request.xid == Xid.AUTH
            assert AuthPacket.from_bytes(request.body) == AuthPacket(0, "digest", b"user:secret")
            visit.send(reply(Xid.AUTH, zxid=0))
            await proving
            reading = zk.exists("/a", watch=lambda _: None)
            await visit.answer(OpCode.EXISTS, stat_body())
            await reading
            visit.reset()
            visit = await peer.visit()
            calling = zk.get("/b")
            await visit.accept()
            assert [(await visit.read()).op for _ in range(3)] == [OpCode.AUTH, OpCode.SET_WATCHES, OpCode.GET_DATA]
            visit.send(reply(Xid.AUTH, zxid=0) + reply(Xid.SET_WATCHES) + reply(1, znode_body()))
            await calling
            peer.look_after(visit)

    asyncio.run(main())


def test_a_refused_credential_is_not_offered_again() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            proving = asyncio.create_task(zk.add_auth("digest", b"wrong"))
            await visit.expect(OpCode.AUTH)
            visit.send(reply(Xid.AUTH, zxid=0, error=-115))
            visit.close()
            with pytest.raises(AuthFailedError, match="authentication by digest"):
                await proving
            visit = await peer.visit()
            await visit.accept()
            reading = zk.get("/")
            await visit.answer(OpCode.GET_DATA, znode_body())
            await reading
            peer.look_after(visit)

    asyncio.run(main())


def test_a_credential_whose_answer_is_lost_is_offered_again() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            proving = asyncio.create_task(zk.add_auth("digest", "a:b"))
            await visit.expect(OpCode.AUTH)
            visit.reset()
            with pytest.raises(ConnectionLoss):
                await proving
            visit = await peer.visit()
            await visit.accept()
            await visit.expect(OpCode.AUTH)
            visit.send(reply(Xid.AUTH, zxid=0))
            peer.look_after(visit)

    asyncio.run(main())


# Read-only servers


def test_a_read_only_server_is_left_for_one_that_takes_writes() -> None:
    async def main() -> None:
        writable = False
        sessions: list[int] = []

        async def serve(visit: Visit) -> None:
            if await visit.is_word():
                visit.send(b"rw" if writable else b"ro")
                return
            request, takes_read_only = await visit.handshake()
            assert takes_read_only
            sessions.append(request.session_id)
            visit.send(welcome(SESSION + len(sessions), read_only=not writable))
            await visit.over()

        async with Peer(serve) as one, Peer(serve) as two:
            hosts = f"{one.address},{two.address}"
            async with client_of(hosts, read_only=True) as zk:
                assert zk.state is State.CONNECTED_READ_ONLY
                first = zk.session
                assert first is not None
                states = zk.states()
                assert await anext(states) is State.CONNECTED_READ_ONLY
                old = zk.server
                writable = True
                assert await anext(states) is State.SUSPENDED
                assert await anext(states) is State.CONNECTED
                assert zk.server != old
                # What a read-only server calls a session means nothing elsewhere, and nothing is lost with it.
                assert sessions == [0, 0]
                assert first.has_ended
                assert zk.session is not None
                assert not zk.session.read_only

    asyncio.run(main())


def test_closed_while_it_looks_for_a_server_that_takes_writes_nothing_is_left() -> None:
    async def main() -> None:
        asked = asyncio.Event()

        async def serve(visit: Visit) -> None:
            if await visit.is_word():
                asked.set()
                await visit.over()
            await visit.accept(welcome(read_only=True))
            await visit.over()

        async with Peer(serve) as one, Peer(serve) as two:
            async with client_of(f"{one.address},{two.address}", read_only=True):
                await asked.wait()
            assert not [task for task in asyncio.all_tasks() if "corral" in task.get_name()]

    asyncio.run(main())


# The end


def test_what_is_under_way_ends_before_the_session_does() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            calls = [zk.set("/a", b""), zk.get("/a")]
            closing = asyncio.create_task(zk.close())
            await visit.answer(OpCode.SET_DATA, stat_body())
            await visit.answer(OpCode.GET_DATA, znode_body())
            with pytest.raises(ClientClosedError):
                await zk.get("/too/late")
            await visit.answer(OpCode.CLOSE_SESSION)
            visit.close()
            await closing
            await asyncio.gather(*calls)
            for call in (zk.get("/a"), zk.add_auth("digest", "a:b"), zk.watch("/a").start()):
                with pytest.raises(ClientClosedError, match="the client is closed"):
                    await call

    asyncio.run(main())


def test_a_server_that_does_not_answer_the_close_is_not_waited_for_long() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer, welcome(timeout_ms=200)) as (zk, _):
            calls = [zk.set("/a", b""), zk.get("/a")]
            first, second = asyncio.create_task(zk.close()), asyncio.create_task(zk.close())
            await asyncio.gather(first, second)
            for call in calls:
                with pytest.raises(ConnectionLoss):
                    await call
            assert zk.state is State.CLOSED

    asyncio.run(main())


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_a_callback_may_close_the_client(is_coroutine: bool) -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            outcomes: list[str] = []

            async def close() -> None:
                await zk.close()
                outcomes.append("closed")

            def begin(event: WatchEvent) -> object:
                if is_coroutine:
                    return close()
                tasks.append(asyncio.create_task(close()))
                return None

            tasks: list[asyncio.Task[None]] = []
            reading = zk.get("/a", watch=begin)
            await visit.answer(OpCode.GET_DATA, znode_body())
            await reading
            visit.send(event(3, "/a"))
            await visit.answer(OpCode.CLOSE_SESSION)
            visit.close()
            await zk.closed()
            while not outcomes:
                await asyncio.sleep(0)
            assert outcomes == ["closed"]

    asyncio.run(main())


def test_watches_hear_of_the_close() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            events: list[WatchEvent] = []
            reading = zk.get("/a", watch=events.append)
            await visit.answer(OpCode.GET_DATA, znode_body())
            await reading
            starting = asyncio.create_task(zk.watch("/b").start())
            await visit.answer(OpCode.ADD_WATCH, bytes(4))
            watch = await starting
            waiting = [asyncio.create_task(anext(watch, None)) for _ in range(2)]
            await asyncio.gather(zk.close(), visit.over())
            assert await asyncio.gather(*waiting) == [None, None]
            assert events == [WatchEvent(EventKind.LOST, "/a")]

    asyncio.run(main())
