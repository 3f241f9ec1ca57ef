"""One connection, without a socket: frames, the order of replies, what a reply proves, what is no reply."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import Any

import pytest
from tests.client_peer import event, frame, names_body, reply, stat_body, welcome, znode_body
from tests.client_wire import Told, Wire, ask, open_connection

from corral.client.connection import Connection
from corral.client.errors import NoNodeError, ReplyTooLargeError
from corral.client.results import NULL, decode_listing, decode_names, decode_znode
from corral.jute.ops import OpCode, Xid

PING = (int(Xid.PING), int(OpCode.PING))


def established(*, max_reply_bytes: int = 1 << 20) -> tuple[Connection, Wire, Told]:
    connection, wire, told = open_connection(max_reply_bytes=max_reply_bytes)
    connection.data_received(welcome())
    return connection, wire, told


def test_replies_complete_the_requests_in_their_order() -> None:
    async def main() -> None:
        connection, wire, _ = established()
        calls = [ask(connection, decode_znode) for _ in range(3)]
        await asyncio.sleep(0)
        assert [xid for xid, _ in wire.take()] == [1, 2, 3]
        connection.data_received(reply(1, znode_body(b"a")) + reply(2, error=-101) + reply(3, znode_body(None), zxid=7))
        assert calls[0].future.result().data == b"a"
        with pytest.raises(NoNodeError, match="/asked"):
            calls[1].future.result()
        assert calls[2].future.result().data is NULL
        assert connection.zxid == 7
        assert not connection.has_ended

    asyncio.run(main())


def test_replies_cut_at_every_byte_decode_the_same() -> None:
    stream = (
        welcome()
        + reply(1, znode_body(b"some data"))
        + event(3, "/watched", zxid=5)
        + reply(Xid.PING, zxid=6)
        + reply(2, names_body("one", "two") + stat_body())
        + reply(3, bytes(400))
        + reply(4, error=-101, zxid=8)
    )

    async def run(pieces: list[bytes]) -> tuple[Any, ...]:
        connection, _, told = open_connection(max_reply_bytes=300)
        calls = [ask(connection, decode_znode), ask(connection, decode_listing), ask(connection), ask(connection)]
        for piece in pieces:
            connection.data_received(piece)
        assert not told.ends
        results = [call.future.exception() or call.future.result() for call in calls]
        assert isinstance(results[2], ReplyTooLargeError)
        assert isinstance(results[3], NoNodeError)
        return results[:2], told.events, connection.zxid, connection.welcome.result()

    async def main() -> None:
        whole = await run([stream])
        assert whole[2] == 8
        for cut in range(1, len(stream)):
            assert await run([stream[:cut], stream[cut:]]) == whole
        assert await run([stream[i : i + 1] for i in range(len(stream))]) == whole

    asyncio.run(main())


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack(">i", -1),
        struct.pack(">i", 15) + bytes(15),
        reply(0),
        reply(2),
        reply(-3),
        frame(struct.pack(">iqi", -1, 1, 0)),
        frame(event(1, "/x")[4:-1]),
        reply(1, struct.pack(">i", -5) + stat_body()),
        reply(1, struct.pack(">i", 100) + stat_body()),
        reply(1, znode_body()[:-1]) + reply(2),
    ],
    ids=[
        "negative length",
        "shorter than a header",
        "xid zero",
        "xid of no request",
        "unknown special xid",
        "event without a body",
        "half an event",
        "negative length inside",
        "length beyond the frame",
        "short by one, the next frame follows",
    ],
)
def test_what_no_server_sends_ends_the_connection(garbage: bytes) -> None:
    async def main() -> None:
        connection, wire, told = established()
        call = ask(connection, decode_znode)
        connection.data_received(garbage)
        assert wire.is_aborted
        assert len(told.ends) == 1
        assert "does not speak the protocol" in told.ends[0]
        assert list(connection.in_flight) == [call], "its owner decides what becomes of it"
        assert not call.future.done()

    asyncio.run(main())


def test_names_with_a_negative_length_are_no_endless_loop() -> None:
    # Two milliards of names of -4 bytes: each would be read at the place of the one before.
    body = struct.pack(">ii", 0x7FFFFFFF, -4)

    async def main() -> None:
        connection, _, told = established()
        ask(connection, decode_names)
        connection.data_received(reply(1, body))
        assert told.ends

    asyncio.run(main())


def test_events_of_unknown_kinds_are_told_but_do_no_harm() -> None:
    async def main() -> None:
        connection, _, told = established()
        for kind in (-1, -2, 0, 5, 99):
            connection.data_received(event(kind, "/x"))
        assert [each.type for _, each in told.events] == [-1, -2, 0, 5, 99]
        assert not told.ends

    asyncio.run(main())


def test_aiozk_50_numbers_begin_anew_after_the_last() -> None:
    async def main() -> None:
        connection, wire, _ = established()
        connection._xid = 0x7FFFFFFF - 2
        calls = [ask(connection) for _ in range(4)]
        await asyncio.sleep(0)
        xids = [xid for xid, _ in wire.take()]
        assert xids == [0x7FFFFFFE, 0x7FFFFFFF, 1, 2]
        sent_at = connection.acknowledged_at
        connection.data_received(b"".join(reply(xid) for xid in xids[:3]))
        assert connection.acknowledged_at == sent_at, "the newest of what was sent together is not answered yet"
        connection.data_received(reply(2))
        assert all(call.future.done() for call in calls)
        assert connection.acknowledged_at > sent_at

    asyncio.run(main())


def test_a_late_reply_to_an_old_ping_proves_only_that_the_old_one_arrived() -> None:
    async def main() -> None:
        connection, wire, _ = established()
        connection.establish(10.0)
        now = asyncio.get_running_loop().time()
        first, second = now + 1, now + 4
        connection._ping(first)
        connection._ping(second)
        assert wire.take() == [PING, PING]
        connection.data_received(reply(Xid.PING))
        assert connection.acknowledged_at == first
        connection.data_received(reply(Xid.PING))
        assert connection.acknowledged_at == second
        connection.data_received(reply(Xid.PING))
        assert connection.acknowledged_at == second
        connection.abort("over")

    asyncio.run(main())


class SocketWire(Wire):
    """With a socket of its own, as the heartbeat sees it."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.sock = sock

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.sock.sendall(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.sock if name == "socket" else default


def test_half_a_ping_of_the_heartbeat_is_completed_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            connection, _, _ = established()
            connection._transport = SocketWire(ours)
            connection.establish(10.0)
            write = os.write
            monkeypatch.setattr(os, "write", lambda number, data: write(number, data[:5]))
            connection.beat()
            connection.beat()
            monkeypatch.undo()
            ask(connection)
            await asyncio.sleep(0)
            assert theirs.recv(1000) == frame(struct.pack(">ii", *PING)) + frame(struct.pack(">ii", 1, OpCode.GET_DATA))
            connection.beat()
            assert theirs.recv(1000) == frame(struct.pack(">ii", *PING))
            connection.abort("over")
            connection.beat()
            theirs.setblocking(False)
            with pytest.raises(BlockingIOError):
                theirs.recv(1000)

    asyncio.run(main())


def test_a_connection_given_up_while_it_is_made_is_closed() -> None:
    async def main() -> None:
        connection, _, told = open_connection()
        connection.abort("given up")
        late = Wire()
        connection.connection_made(late)
        assert late.is_aborted
        assert not late.sent
        assert told.ends == ["given up"]

    asyncio.run(main())


def test_a_too_large_answer_fails_its_call_and_nothing_else() -> None:
    async def main() -> None:
        connection, _, _ = established(max_reply_bytes=100)
        large, small = ask(connection), ask(connection)
        connection.data_received(reply(1, bytes(1000)) + reply(2))
        with pytest.raises(ReplyTooLargeError, match="1016 bytes, more than max_reply_bytes=100"):
            large.future.result()
        assert small.future.result() is None
        assert not connection.has_ended

    asyncio.run(main())
