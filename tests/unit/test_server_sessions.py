"""Session numbers, passwords, expiry in buckets; and sessions of a running server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.in_process import (
    Client,
    ManualClock,
    WatchedServer,
    create,
    frame,
    parse_reply,
    request,
    serving,
    split_frames,
)

from corral.jute.errors import ErrorCode
from corral.jute.ops import OpCode
from corral.jute.records import ConnectRequest, PathWatchRequest
from corral.server.pipeline import WritePipeline
from corral.server.sessions import NO_PASSWORD, SessionTracker, first_session_id, session_password

TICK_MS = 20


@pytest.mark.parametrize(
    ("session_id", "password"),
    [
        (0x1, "054cc74a37327db215e702e20c73f005"),
        (0x100001F126E0000, "50a24d029d2d3789ae4536daae47c061"),
        (0x3000022105A0000, "74962824f178f9f372d00d282275e211"),
    ],
)
def test_passwords(session_id: int, password: str) -> None:
    assert session_password(session_id).hex() == password


def test_passwords_differ() -> None:
    assert len({session_password(0x100000000000000 + number) for number in range(1000)}) == 1000
    assert bytes(16) == NO_PASSWORD


@pytest.mark.parametrize(
    ("server_id", "monotonic_ms", "first"),
    [
        (1, 0, 0x0100000000000000),
        (1, 0x1F126E, 0x100001F126E0000),
        (3, 0x22105A, 0x3000022105A0000),
        (1, 0xFF123456789A, 0x0123456789A0000 | 0x0100000000000000),
        (254, 0, -(2**57)),
        (128, 0, -(2**63) + 1),
    ],
)
def test_where_a_server_begins_to_count(server_id: int, monotonic_ms: int, first: int) -> None:
    assert first_session_id(server_id, monotonic_ms) == first


def test_ids_count_up() -> None:
    tracker = SessionTracker(1000, 7)
    assert [tracker.new_id() for _ in range(3)] == [7, 8, 9]


@pytest.mark.parametrize(
    ("now_ms", "timeout_ms", "deadline_ms"),
    [(0, 4000, 6000), (1, 4000, 6000), (1999, 4000, 6000), (2000, 4000, 8000), (500, 5600, 8000)],
)
def test_deadlines_are_rounded_up(now_ms: int, timeout_ms: int, deadline_ms: int) -> None:
    tracker = SessionTracker(2000, 1)
    session = tracker.add(5, timeout_ms, now_ms)
    assert session.bucket_ms == deadline_ms
    assert tracker.buckets(local=False) == [(deadline_ms, [5])]
    assert tracker.take_expired(deadline_ms - 1) == []
    assert tracker.take_expired(deadline_ms) == [session]
    assert tracker.take_expired(deadline_ms + 100_000) == []
    assert 5 in tracker.sessions


def test_touching_moves_on_and_removing_forgets() -> None:
    tracker = SessionTracker(1000, 1)
    sessions = [tracker.add(number, 3000, 0) for number in range(3)]
    tracker.touch(sessions[1], 500)
    assert tracker.buckets(local=False) == [(4000, [0, 1, 2])]
    tracker.touch(sessions[1], 2000)
    assert tracker.buckets(local=False) == [(4000, [0, 2]), (6000, [1])]
    assert tracker.remove(0) is sessions[0]
    assert tracker.remove(0) is None
    assert len(tracker) == 2
    assert tracker.take_expired(5000) == [sessions[2]]
    assert tracker.take_expired(6000) == [sessions[1]]
    assert tracker.buckets(local=False) == []


def test_a_shorter_timeout_counts_from_the_next_touch() -> None:
    tracker = SessionTracker(1000, 1)
    session = tracker.add(1, 60_000, 0)
    session.timeout_ms = 2000
    tracker.touch(session, 0)
    assert tracker.buckets(local=False) == [(3000, [1])]


def test_a_session_that_was_due_and_is_heard_of_lives_on() -> None:
    tracker = SessionTracker(1000, 1)
    session = tracker.add(1, 2000, 0)
    assert tracker.take_expired(10_000) == [session]
    tracker.touch(session, 10_000)
    assert tracker.buckets(local=False) == [(13_000, [1])]


@pytest.mark.parametrize(("now_ms", "wait_ms"), [(0, 1000), (1, 999), (999, 1), (1000, 1000)])
def test_when_to_look_again(now_ms: int, wait_ms: int) -> None:
    assert SessionTracker(1000, 1).next_check_ms(now_ms) == wait_ms


# On a server


async def until_gone(server: WatchedServer, clock: ManualClock, session_id: int) -> None:
    """Let time pass, tick by tick, until the session is gone."""
    async with asyncio.timeout(20):
        while session_id in server.tree.sessions:
            clock.now_ms += 1
            await asyncio.sleep(0.001)


def test_an_expired_session_takes_its_ephemerals_and_its_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with serving(tmp_path, clock, tick_time_ms=TICK_MS) as server:
            idle, busy = Client(server), Client(server)
            await idle.connect(TICK_MS * 3)
            await busy.connect(TICK_MS * 20)
            await idle.ask(OpCode.CREATE, create(b"/mine", flags=1))
            await busy.ask(OpCode.EXISTS, PathWatchRequest(b"/mine", True))
            session_id = idle.connection.session_id
            began_ms = clock.now_ms
            await until_gone(server, clock, session_id)
            # Never before its time, and at most a tick later (and what the loop took to look).
            assert TICK_MS * 3 <= clock.now_ms - began_ms <= TICK_MS * 6
            assert idle.closed
            assert b"/mine" not in server.tree.nodes
            assert [reply.xid for reply in busy.take_replies()] == [-1]
            assert session_id not in server.tracker.sessions
            again = Client(server)
            response = await again.connect(1000, session_id, session_password(session_id))
            assert response is not None
            assert (response.timeout_ms, response.session_id, response.password) == (0, 0, NO_PASSWORD)
            assert again.closed

    asyncio.run(scenario())


def test_pings_keep_a_session_alive(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with serving(tmp_path, clock, tick_time_ms=TICK_MS) as server:
            client = Client(server)
            await client.connect(TICK_MS * 3)
            for _ in range(10):
                clock.now_ms += TICK_MS
                await asyncio.sleep(0.001)
                assert (await client.ask(OpCode.PING, xid=-2)).error == 0
            assert not client.closed

    asyncio.run(scenario())


def test_a_session_outlives_its_connection_and_the_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.connect()
            await client.ask(OpCode.CREATE, create(b"/mine", flags=1))
            session_id = client.connection.session_id
            client.hang_up()
            await asyncio.sleep(0)
            assert server.tracker.sessions[session_id].connection is None
            back = Client(server)
            response = await back.connect(30_000, session_id, session_password(session_id))
            assert response is not None
            assert response.session_id == session_id
        async with serving(tmp_path) as server:
            assert b"/mine" in server.tree.nodes
            back = Client(server)
            response = await back.connect(30_000, session_id, session_password(session_id))
            assert response is not None
            assert (response.session_id, response.timeout_ms) == (session_id, 30_000)
            assert (await back.ask(OpCode.CLOSE_SESSION)).error == 0
            assert back.closed
            assert b"/mine" not in server.tree.nodes
            assert not server.tracker.sessions

    asyncio.run(scenario())


def test_zookeeper_1208_who_closes_a_session_creates_nothing_in_it_any_more(tmp_path: Path) -> None:
    """All of it arrives together: the end is not in the tree when the rest is prepared."""

    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            frames = [
                frame(ConnectRequest(0, 0, 30_000, 0, bytes(16)).to_bytes() + b"\0"),
                request(1, OpCode.CREATE, create(b"/before", flags=1)),
                request(2, OpCode.CLOSE_SESSION),
                request(3, OpCode.CREATE, create(b"/after", flags=1)),
                request(4, OpCode.CREATE, create(b"/for-ever")),
            ]
            await client.feed([b"".join(frames)])
            answered = [parse_reply(each) for each in split_frames(bytes(client.transport.written))[1:]]
            assert [(each.xid, each.error) for each in answered[:2]] == [(1, 0), (2, 0)]
            assert {each.error for each in answered[2:]} <= {ErrorCode.SESSION_EXPIRED}
            assert client.closed
            assert not {b"/before", b"/after", b"/for-ever"} & server.tree.nodes.keys()
            assert server.tree.ephemerals == {}

    asyncio.run(scenario())


def test_zookeeper_1208_who_expires_creates_nothing_while_that_is_on_its_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.connect()
            assert server.expire(client.connection.session_id)
            replies = await client.ask_all([(1, OpCode.CREATE, create(b"/late", flags=1))])
            assert {each.error for each in replies} <= {ErrorCode.SESSION_EXPIRED}
            assert client.closed
            assert b"/late" not in server.tree.nodes
            assert not server.tree.ephemerals
            assert not server.tree.sessions

    asyncio.run(scenario())


def test_zookeeper_1496_a_session_that_is_created_after_its_time_is_over_ends_all_the_same(tmp_path: Path) -> None:
    """Its creation waits for the disk for longer than it may live, and its end comes behind that."""

    async def scenario() -> None:
        clock = ManualClock()
        async with serving(tmp_path, clock, tick_time_ms=TICK_MS) as server:
            client, again = Client(server), Client(server)
            pipeline = server.pipeline
            assert isinstance(pipeline, WritePipeline)
            sync = pipeline._sync
            held: list[Callable[[], None]] = []
            pipeline._sync = lambda done: sync(lambda: held.append(done))
            client.connection.data_received(frame(ConnectRequest(0, 0, TICK_MS * 3, 0, bytes(16)).to_bytes() + b"\0"))
            async with asyncio.timeout(20):
                while not held:
                    await asyncio.sleep(0)
                (session_id,) = server.tracker.sessions
                # As long as it is there it is waited for.
                client.hang_up()
                await asyncio.sleep(0)
                clock.now_ms += TICK_MS * 5
                while session_id not in pipeline.closing:
                    await asyncio.sleep(0.001)
            # It is not given another life by word of its client, nor by its return.
            clock.now_ms += TICK_MS * 5
            server.tracker.touch(server.tracker.sessions[session_id], clock.now_ms)
            back = asyncio.ensure_future(again.connect(TICK_MS * 3, session_id, session_password(session_id)))
            clock.now_ms += TICK_MS * 5
            await asyncio.sleep(TICK_MS / 1000 * 3)
            pipeline._sync = sync
            for done in held:
                done()
            response = await back
            assert response is not None
            assert response.session_id == 0
            await again.settle()
            assert server.tree.sessions == {}
            assert server.tracker.sessions == {}
            assert server.stats.counters["stale_sessions_expired"] == 1

    asyncio.run(scenario())


def test_expiring_by_hand(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.connect()
            session_id = client.connection.session_id
            assert server.expire(session_id)
            assert not server.expire(session_id)
            await client.settle()
            assert client.closed
            assert not server.expire(session_id)
            assert not server.expire(12345)

    asyncio.run(scenario())
