"""Reads behind a barrier, and syncs that a quorum must confirm, with servers that do it and servers that cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.client_peer import PATIENCE_S, Peer, connected, names_body, reply, welcome, znode_body

import corral
import corral.sync
from corral.client import NoNodeError, NotReadOnlyError, State, UnimplementedError, Znode
from corral.jute.errors import ErrorCode
from corral.jute.extensions import QUORUM
from corral.jute.ops import OpCode
from corral.jute.records import ConnectRequest
from corral.testing import Address

ROOT = b"\0\0\0\1/"
PROVEN = ROOT + QUORUM


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await scenario()

    asyncio.run(main())


def test_reads_that_leave_together_share_a_barrier() -> None:
    async def scenario() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            reads: list[Any] = [
                zk.get("/a", linearizable=True),
                zk.exists("/b", linearizable=True),
                zk.get_children("/c", linearizable=True),
                zk.get("/plain"),
            ]
            assert (await visit.expect(OpCode.SYNC)).body == PROVEN
            later = zk.get("/later", linearizable=True)
            asked = [await visit.read() for _ in range(6)]
            # What is asked for when the first barrier has left needs another.
            assert [each.op for each in asked[4:]] == [OpCode.SYNC, OpCode.GET_DATA]
            assert [each.path for each in asked] == ["/a", "/b", "/c", "/plain", "/", "/later"]
            first = asked[0].xid
            visit.send(reply(first - 1, PROVEN) + reply(first, znode_body(b"1")))
            visit.send(reply(first + 1, error=ErrorCode.NO_NODE) + reply(first + 2, names_body("x")))
            visit.send(reply(first + 3, znode_body(b"2")))
            visit.send(reply(first + 4, PROVEN) + reply(first + 5, error=ErrorCode.NO_NODE))
            a, b, names, plain = await asyncio.gather(*reads)
            assert (a.data, b, names, plain.data) == (b"1", None, ["x"], b"2")
            with pytest.raises(NoNodeError, match="/later"):
                await later

    play(scenario)


@pytest.mark.parametrize("answer", [ROOT, b"\0\0\0\7/quorum", PROVEN + b"x"])
def test_server_that_does_not_say_so_has_not_done_it(answer: bytes) -> None:
    """It has understood the sync as Apache's servers do: what it reads then may be old."""
    events: list[object] = []

    async def scenario() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            reads: list[Any] = [
                zk.get("/a", linearizable=True, watch=events.append),
                zk.exists("/b", linearizable=True),
                zk.sync("/c", quorum=True),
                zk.sync("/d"),
            ]
            await visit.answer(OpCode.SYNC, answer)
            await visit.answer(OpCode.GET_DATA, znode_body())
            await visit.answer(OpCode.EXISTS, error=ErrorCode.NO_NODE)
            assert (await visit.answer(OpCode.SYNC, b"\0\0\0\2/c")).body == b"\0\0\0\2/c" + QUORUM
            assert (await visit.answer(OpCode.SYNC, b"\0\0\0\2/d")).body == b"\0\0\0\2/d"
            outcomes = await asyncio.gather(*reads, return_exceptions=True)
            assert [type(each) for each in outcomes] == [UnimplementedError] * 3 + [type(None)]
            assert str(outcomes[0]).startswith("/a: ")
            assert not list(zk._keeper.watches.restore(0))
            assert zk.state is State.CONNECTED

    play(scenario)


def test_server_that_refuses_the_barrier_refuses_the_read() -> None:
    async def scenario() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            reading = zk.get("/a", linearizable=True)
            await visit.answer(OpCode.SYNC, error=ErrorCode.NOT_READ_ONLY)
            await visit.answer(OpCode.GET_DATA, znode_body())
            with pytest.raises(NotReadOnlyError, match="/a"):
                await reading

    play(scenario)


def test_connection_that_breaks_before_the_barrier_is_passed() -> None:
    async def scenario() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            reading = zk.get("/a", linearizable=True)
            await visit.expect(OpCode.SYNC)
            await visit.expect(OpCode.GET_DATA)
            visit.reset()
            again = await peer.visit()
            await again.accept()
            await again.answer(OpCode.SYNC, PROVEN)
            await again.answer(OpCode.GET_DATA, znode_body(b"new"))
            assert (await reading).data == b"new"
            peer.look_after(again)

    play(scenario)


def test_connection_that_breaks_behind_the_barrier_leads_to_no_server_that_is_behind() -> None:
    async def scenario() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            reading = zk.get("/a", linearizable=True)
            await visit.answer(OpCode.SYNC, PROVEN, zxid=77)
            await visit.expect(OpCode.GET_DATA)
            visit.reset()
            again = await peer.visit()
            request: ConnectRequest = await again.accept(welcome())
            # A server that has not come so far does not let the client in.
            assert request.last_zxid_seen == 77
            await again.answer(OpCode.GET_DATA, znode_body(b"new"))
            assert (await reading).data == b"new"
            peer.look_after(again)

    play(scenario)


def test_one_server_alone_is_its_own_quorum(zookeeper_shared: Address) -> None:
    async def scenario() -> None:
        async with corral.connect(str(zookeeper_shared)) as zk:
            events: list[object] = []
            made: list[Any] = [zk.create("/a", b"1"), zk.get("/a", linearizable=True, watch=events.append)]
            assert (await asyncio.gather(*made))[1].data == b"1"
            await zk.sync("/quorum", quorum=True)
            stat = await zk.exists("/a", linearizable=True)
            assert stat is not None
            assert stat.version == 0
            assert await zk.exists("/b", linearizable=True) is None
            assert sorted(await zk.get_children("/", linearizable=True)) == ["a", "zookeeper"]
            assert (await zk.get_listing("/a", linearizable=True)).names == []
            first, second = await zk.get_many(["/a", "/b"], linearizable=True)
            assert isinstance(first, Znode)
            assert isinstance(second, NoNodeError)
            with pytest.raises(NoNodeError):
                await zk.get("/b", linearizable=True)
            await zk.set("/a", b"2")
            await zk.sync()
            assert len(events) == 1

    play(scenario)


def test_blocking_reads(zookeeper_shared: Address) -> None:
    with corral.sync.connect(str(zookeeper_shared)) as zk:
        zk.create("/a", b"1")
        for _ in range(50):
            assert zk.get("/a", linearizable=True).data == b"1"
        assert zk.exists("/b", linearizable=True) is None
        zk.sync(quorum=True)
        with pytest.raises(NoNodeError):
            zk.get_children("/b", linearizable=True)


def test_read_that_overtakes_its_barrier_is_asked_again() -> None:
    """As one of a thread may, whose barrier had to go by the loop."""

    async def scenario() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            send, held = zk.send, list[Any]()

            def overtake(call: Any) -> None:
                if call.code == OpCode.SYNC:
                    held.append(call)
                else:
                    send(call)

            zk.send = overtake  # type: ignore[method-assign]
            reading = zk.get("/a", linearizable=True)
            await visit.answer(OpCode.GET_DATA, znode_body(b"old"))
            await visit.answer(OpCode.SYNC, PROVEN)
            await visit.answer(OpCode.GET_DATA, znode_body(b"new"))
            assert (await reading).data == b"new"
            assert len(held) == 1

    play(scenario)
