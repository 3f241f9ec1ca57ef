"""The first frame: sessions opened, renewed and refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.in_process import ALL_WORDS, Client, create, frame, request, serving

from corral.jute.ops import OpCode
from corral.jute.records import ConnectRequest, PathWatchRequest
from corral.server.config import ConnectionThrottle, Limits
from corral.server.sessions import NO_PASSWORD, session_password

REFUSED = bytes.fromhex("00000025 00000000 00000000 0000000000000000 00000010" + "00" * 16 + "00")


@pytest.mark.parametrize(
    ("asked_ms", "given_ms"), [(0, 6000), (-5, 6000), (5999, 6000), (7000, 7000), (60_000, 60_000), (2**31 - 1, 60_000)]
)
def test_timeouts_are_negotiated(tmp_path: Path, asked_ms: int, given_ms: int) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            response = await client.connect(asked_ms)
            assert response is not None
            assert response.timeout_ms == given_ms
            assert response.password == session_password(response.session_id)
            assert server.tree.sessions == {response.session_id: given_ms}
            assert response.session_id >> 56 == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("read_only", [b"", b"\0", b"\1"])
def test_the_read_only_byte_is_mirrored(tmp_path: Path, read_only: bytes) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.feed([frame(ConnectRequest(0, 0, 30_000, 0, bytes(16)).to_bytes() + read_only)])
            (payload,) = client.take_frames()
            # The server is never read-only, whatever the client would put up with.
            assert len(payload) == 36 + len(read_only)
            assert payload[36:] == b"\0" * len(read_only)

    asyncio.run(scenario())


@pytest.mark.parametrize("wrong", ["unknown id", "wrong password", "no password", "short password", "null password"])
def test_a_session_that_cannot_be_had_is_refused_and_none_opened(tmp_path: Path, wrong: str) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            owner = Client(server)
            await owner.connect()
            session_id = owner.connection.session_id
            password: bytes | None = session_password(session_id)
            match wrong:
                case "unknown id":
                    session_id, password = 0x777, session_password(0x777)
                case "wrong password":
                    password = bytes(range(16))
                case "no password":
                    password = NO_PASSWORD
                case "short password":
                    password = b"\1"
                case _:
                    password = None
            client = Client(server)
            await client.feed([frame(ConnectRequest(0, 0, 30_000, session_id, password).to_bytes() + b"\0")])
            assert bytes(client.transport.written) == REFUSED
            assert client.closed
            assert len(server.tree.sessions) == 1

    asyncio.run(scenario())


def test_whoever_has_seen_more_must_ask_another_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            ahead, level = Client(server), Client(server)
            assert await ahead.connect(last_zxid=server.tree.last_zxid + 1) is None
            assert await level.connect(last_zxid=server.tree.last_zxid) is not None

    asyncio.run(scenario())


def test_a_session_moves_to_its_newest_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            old, new = Client(server), Client(server)
            await old.connect()
            await old.ask(OpCode.EXISTS, PathWatchRequest(b"/a", True))
            session_id = old.connection.session_id
            response = await new.connect(10_000, session_id, session_password(session_id))
            assert response is not None
            assert (response.session_id, response.timeout_ms) == (session_id, 10_000)
            assert old.transport.aborted
            assert server.tracker.sessions[session_id].connection is new.connection
            # Watches belong to the connection and are gone with it.
            assert server.watches.count == 0
            await new.ask(OpCode.CREATE, create(b"/a"))
            assert server.tracker.sessions[session_id].connection is new.connection

    asyncio.run(scenario())


def test_a_shorter_timeout_holds_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client, again = Client(server), Client(server)
            await client.connect(60_000)
            session_id = client.connection.session_id
            await again.connect(6000, session_id, session_password(session_id))
            assert server.tracker.sessions[session_id].bucket_ms <= server.clock.monotonic_ms() + 6000 + 3000

    asyncio.run(scenario())


def test_requests_behind_the_handshake_wait_for_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            hello = frame(ConnectRequest(0, 0, 30_000, 0, bytes(16)).to_bytes() + b"\0")
            await client.feed([hello + request(1, OpCode.CREATE, create(b"/a")) + request(-2, OpCode.PING)])
            frames = client.take_frames()
            assert len(frames[0]) == 37
            assert sorted(int.from_bytes(each[:4], "big", signed=True) for each in frames[1:]) == [-2, 1]
            assert b"/a" in server.tree.nodes

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00" + bytes(100),
        frame(b""),
        frame(bytes(12)),
        frame(bytes(27)),
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"quit",
        frame(ConnectRequest(0, 0, 0, 0, bytes(16)).to_bytes()[:24] + b"\x7f\xff\xff\xff" + bytes(17)),
    ],
)
def test_what_is_no_request_for_a_session_ends_the_connection(tmp_path: Path, first: bytes) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.feed([first])
            assert client.closed
            assert not client.transport.written
            assert server.tree.sessions == {}

    asyncio.run(scenario())


def test_half_a_first_frame_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, four_letter_words=ALL_WORDS) as server:
            hello = frame(ConnectRequest(0, 0, 30_000, 0, bytes(16)).to_bytes())
            for whole in (hello, b"ruok", b"stmk" + bytes(8)):
                client = Client(server)
                for byte in whole[:-1]:
                    client.connection.data_received(bytes([byte]))
                    assert not client.transport.written
                    assert not client.closed
                await client.feed([whole[-1:]])
                assert client.transport.written

    asyncio.run(scenario())


def test_a_client_that_leaves_before_its_session_is_open_harms_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client, other = Client(server), Client(server)
            client.connection.data_received(frame(ConnectRequest(0, 0, 30_000, 0, bytes(16)).to_bytes()))
            client.hang_up()
            assert await other.connect() is not None
            assert len(server.tree.sessions) == 2
            assert not client.transport.written

    asyncio.run(scenario())


def test_connections_of_one_address_are_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, limits=Limits(max_client_connections=2)) as server:
            first, second, third = (Client(server) for _ in range(3))
            elsewhere = Client(server, "10.0.0.9")
            assert [each.transport.aborted for each in (first, second, third, elsewhere)] == [False, False, True, False]
            await asyncio.sleep(0)
            first.hang_up()
            await asyncio.sleep(0)
            assert not Client(server).transport.aborted

    asyncio.run(scenario())


def test_connections_can_be_let_in_slowly(tmp_path: Path) -> None:
    async def scenario() -> None:
        throttle = ConnectionThrottle(tokens=2, fill_time_ms=1000, fill_count=1)
        async with serving(tmp_path, connection_throttle=throttle) as server:
            answers = [await Client(server).connect() for _ in range(3)]
            assert [answer is not None for answer in answers] == [True, True, False]

    asyncio.run(scenario())
