"""What one client asks is done in the order in which it asked, however much of it arrives together."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.in_process import Client, create, serving

from corral.jute.ops import OpCode
from corral.jute.records import PathRequest, PathWatchRequest, SetDataRequest

READ_A = PathWatchRequest(b"/a", False)


@pytest.mark.parametrize("slow_read", [OpCode.GET_EPHEMERALS, OpCode.GET_ALL_CHILDREN_NUMBER])
def test_a_read_does_not_see_what_the_same_client_writes_later(tmp_path: Path, slow_read: OpCode) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.connect()
            await client.ask(OpCode.CREATE, create(b"/a"))
            replies = await client.ask_all(
                [
                    (1, OpCode.SET_DATA, SetDataRequest(b"/a", b"one", -1)),
                    (2, slow_read, PathRequest(b"/a")),
                    (3, OpCode.GET_DATA, READ_A),
                    (4, OpCode.SET_DATA, SetDataRequest(b"/a", b"two", -1)),
                    (5, OpCode.GET_DATA, READ_A),
                ]
            )
            assert [reply.xid for reply in replies] == [1, 2, 3, 4, 5]
            assert [reply.body[4:7] for reply in replies if reply.xid in (3, 5)] == [b"one", b"two"]

    asyncio.run(scenario())


def test_a_read_after_long_replies_does_not_see_a_later_write(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.connect()
            await client.ask(OpCode.CREATE, create(b"/a"))
            await client.ask(OpCode.CREATE, create(b"/long", bytes(600_000)))
            replies = await client.ask_all(
                [
                    (1, OpCode.SET_DATA, SetDataRequest(b"/a", b"one", -1)),
                    (2, OpCode.GET_DATA, PathWatchRequest(b"/long", False)),
                    (3, OpCode.GET_DATA, PathWatchRequest(b"/long", False)),
                    (4, OpCode.GET_DATA, READ_A),
                    (5, OpCode.SET_DATA, SetDataRequest(b"/a", b"two", -1)),
                ]
            )
            assert [reply.xid for reply in replies] == [1, 2, 3, 4, 5]
            assert replies[3].body[4:7] == b"one"

    asyncio.run(scenario())


def test_closing_the_session_does_not_refuse_what_was_asked_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.connect()
            replies = await client.ask_all(
                [
                    (1, OpCode.CREATE, create(b"/a", b"one")),
                    (2, OpCode.EXISTS, READ_A),
                    (3, OpCode.CLOSE_SESSION, b""),
                ]
            )
            assert [(reply.xid, reply.error) for reply in replies] == [(1, 0), (2, 0), (3, 0)]
            assert client.closed

    asyncio.run(scenario())


@pytest.mark.parametrize("op", [*sorted({*OpCode} - {OpCode.AUTH, OpCode.CLOSE_SESSION}), 99])
@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0\0\0", b"\xff\xff\xff\xff\0", b"\x7f\xff\xff\xff\0\0"])
def test_a_malformed_request_behind_a_write_is_answered(tmp_path: Path, op: int, body: bytes) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.connect()
            replies = await client.ask_all([(1, OpCode.CREATE, create(b"/a")), (2, op, body)])
            expected = [1] if op == OpCode.PING else [1, 2]
            assert sorted(reply.xid for reply in replies if reply.xid > 0) == expected
            assert (await client.ask(OpCode.CREATE, create(b"/b"))).error == 0

    asyncio.run(scenario())


def test_many_requests_at_once_are_answered_in_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.connect()
            await client.ask(OpCode.CREATE, create(b"/a"))
            asked: list[tuple[int, int, SetDataRequest | PathWatchRequest]] = []
            for number in range(300):
                asked.append((2 * number + 1, OpCode.SET_DATA, SetDataRequest(b"/a", b"%06d" % number, -1)))
                asked.append((2 * number + 2, OpCode.GET_DATA, READ_A))
            replies = await client.ask_all(asked)
            assert [reply.xid for reply in replies] == list(range(1, 601))
            assert [reply.body[4:10] for reply in replies[1::2]] == [b"%06d" % number for number in range(300)]

    asyncio.run(scenario())


def test_another_client_sees_a_write_no_later_than_its_event(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            writer, reader = Client(server), Client(server)
            await writer.connect()
            await reader.connect()
            await writer.ask(OpCode.CREATE, create(b"/a", b"old"))
            await reader.ask(OpCode.GET_DATA, PathWatchRequest(b"/a", True))
            await writer.ask(OpCode.SET_DATA, SetDataRequest(b"/a", b"new", -1))
            assert (await reader.ask(OpCode.GET_DATA, READ_A)).body[4:7] == b"new"
            # The event came first; ask() has left it out, so it must have been there.
            assert not reader.take_replies()

    asyncio.run(scenario())
