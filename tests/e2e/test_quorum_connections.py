"""Connections between members that are over when something is sent; uvloop refuses that with a RuntimeError."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from corral.quorum.election_links import ElectionLinks
from corral.quorum.elector import Elector
from corral.quorum.ensemble import parse_ensemble
from corral.quorum.packet_stream import PacketStream
from corral.quorum.packets import COMMIT, NEW_LEADER, PROPOSAL, REQUEST, PacketType, pack
from corral.server.config import QuorumConfig
from corral.server.config.membership import PeerAddress
from corral.server.daemon import run_on_fast_loop

HOST = "127.0.0.1"


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> int:
        async with asyncio.timeout(10):
            await scenario()
        return 0

    run_on_fast_loop(main())


def test_election_message_over_a_closed_link_dials_again() -> None:
    async def scenario() -> None:
        ports = []
        for _ in range(2):
            with socket.socket() as holder:
                holder.bind((HOST, 0))
                ports.append(holder.getsockname()[1])
        places = {sid: [PeerAddress(HOST, 0, port)] for sid, port in zip((1, 2), ports, strict=True)}
        arrived: asyncio.Queue[bytes] = asyncio.Queue()
        links = {
            sid: ElectionLinks(sid, places[sid], lambda to: places[to], lambda _, message: arrived.put_nowait(message))
            for sid in places
        }
        try:
            for sid, each in links.items():
                await each.listen(HOST, places[sid][0].election_port)
            links[2].send(1, b"first")
            assert await arrived.get() == b"first"
            writer = links[2]._links[1]
            writer.transport.abort()
            while links[2]._links.get(1) is writer:
                # As the machine does it when a message comes in the same turn: the link is not taken away yet.
                links[2].send(1, b"second")
                await asyncio.sleep(0)
            assert await arrived.get() == b"second"
        finally:
            for each in links.values():
                await each.close()

    play(scenario)


def hello(sid: int, announced: str) -> bytes:
    return struct.pack(">qqi", -65536, sid, len(announced.encode())) + announced.encode()


@asynccontextmanager
async def listening(me: int) -> AsyncIterator[ElectionLinks]:
    """The links of a server that knows nobody else, and answers whatever it is told."""

    def answer(sender: int, message: bytes) -> None:
        links.send(sender, message)

    links = ElectionLinks(me, [PeerAddress(HOST, 0, 1)], lambda _: [], answer)
    await links.listen(HOST, 0)
    try:
        yield links
    finally:
        await links.close()


async def call(links: ElectionLinks) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*links._listeners[0].sockets[0].getsockname())


@pytest.mark.parametrize("announced", ["a..b:1", "x" * 64 + ":1", "host:0", "host:99999"])
def test_an_announced_address_that_cannot_be_is_not_dialled(announced: str) -> None:
    async def scenario() -> None:
        unasked: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unasked.append(context))
        async with listening(5) as links:
            reader, writer = await call(links)
            writer.write(hello(2, announced))
            assert await reader.read() == b""
            writer.close()
            while links._tasks:
                await asyncio.sleep(0.001)
        gc.collect()
        assert not unasked

    play(scenario)


def test_nothing_is_kept_for_strangers_that_have_gone() -> None:
    async def scenario() -> None:
        async with listening(1) as links:
            for sid in (7, 8, 9):
                reader, writer = await call(links)
                writer.write(hello(sid, "host:1") + struct.pack(">i", 4) + b"vote")
                assert await reader.readexactly(8) == struct.pack(">i", 4) + b"vote"
                writer.close()
                while links._links:
                    await asyncio.sleep(0)
            links.send(7, b"late")
            assert not links._newest
            assert not links._outsiders

    play(scenario)


@pytest.mark.parametrize("speaks", [False, True], ids=["silent", "outsiders"])
def test_there_are_never_more_strangers_than_so_many(speaks: bool) -> None:
    async def scenario() -> None:
        async with listening(1) as links:
            calls = []
            for sid in range(2, 107):
                calls.append(await call(links))
                if speaks:
                    calls[-1][1].write(hello(sid, "host:1"))
            for reader, _ in calls[:5]:
                with suppress(ConnectionError):
                    assert await reader.read() == b""
            assert len(links._links) + len(links._strangers) <= 100
            for _, writer in calls:
                writer.close()

    play(scenario)


def test_host_that_is_not_found_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    tried = 0

    async def scenario() -> None:
        links = ElectionLinks(2, [], lambda to: [PeerAddress("nowhere", 1, 2)], lambda _, message: None)
        for _ in range(3):
            links.send(1, b"message")
            while links._dialling:
                await asyncio.sleep(0)
        await links.close()

    async def refuse(host: str, port: int) -> None:
        nonlocal tried
        tried += 1
        raise socket.gaierror(socket.EAI_NONAME, f"no {host}")

    monkeypatch.setattr(asyncio, "open_connection", refuse)
    asyncio.run(scenario())
    assert tried == 3
    assert [record.getMessage() for record in caplog.records] == [
        "the host of server 1, nowhere, is not found: no nowhere"
    ]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "not known"), "not known; quorumListenOnAllIPs=true listens"),
        (OSError(errno.EADDRNOTAVAIL, "while"), "Cannot assign requested address; quorumListenOnAllIPs=true listens"),
        (OSError(errno.EADDRINUSE, "while"), "Address already in use$"),
    ],
)
def test_why_nothing_can_listen(error: OSError, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(self: ElectionLinks, host: str | None, port: int) -> None:
        raise error

    async def scenario() -> None:
        elector = Elector(1, parse_ensemble("server.1=a:1:2"), QuorumConfig(bind_attempts=1))
        with pytest.raises(OSError, match=f"cannot listen for elections on port 2 of a: {reason}"):
            await elector.start()

    monkeypatch.setattr(ElectionLinks, "listen", refuse)
    asyncio.run(scenario())


def test_packets_on_a_closed_connection_are_lost() -> None:
    async def scenario() -> None:
        async with await asyncio.start_server(lambda _, writer: writer.close(), HOST, 0) as server:
            loop = asyncio.get_running_loop()
            _, stream = await loop.create_connection(PacketStream, *server.sockets[0].getsockname())
            stream.abort()
            with pytest.raises(EOFError):
                await stream.read()
            stream.write(b"x")
            stream.gather(b"x")
            with pytest.raises(EOFError):
                await stream.serve(lambda _: None)


def test_what_a_handler_of_packets_raises_ends_the_connection_and_so_does_silence() -> None:
    async def scenario() -> None:
        ends: list[PacketStream] = []
        loop = asyncio.get_running_loop()
        async with await loop.create_server(lambda: PacketStream(ends.append), HOST, 0) as server:

            def refuse(packets: object) -> None:
                raise ValueError("not this")

            for patience_s, error in ((None, ValueError), (0.01, TimeoutError)):
                _, stream = await loop.create_connection(PacketStream, *server.sockets[0].getsockname())
                while not ends:
                    await asyncio.sleep(0)
                other = ends.pop()
                if error is ValueError:
                    other.write(pack(PacketType.PING, 1))
                with pytest.raises(error):
                    await stream.serve(refuse, patience_s)
                with pytest.raises((EOFError, ConnectionError)):
                    await other.read()

    play(scenario)

    play(scenario)


def test_many_packets_are_read_up_to_one_of_a_kind_and_the_rest_stays() -> None:
    async def scenario() -> None:
        ends: list[PacketStream] = []
        loop = asyncio.get_running_loop()
        async with await loop.create_server(lambda: PacketStream(ends.append), HOST, 0) as server:
            _, stream = await loop.create_connection(PacketStream, *server.sockets[0].getsockname())
            while not ends:
                await asyncio.sleep(0)
            sent = [(PROPOSAL, 1, b"one", None), (COMMIT, 1, None, None), (NEW_LEADER, 9, b"", None)]
            behind = [(PROPOSAL, 2, b"two", None), (REQUEST, -1, b"", [("ip", "::1")])]
            data = b"".join(pack(*each) for each in [*sent, *behind])
            for piece in (data[:30], data[30:]):
                ends[0].write(piece)
                await asyncio.sleep(0)
            seen = await stream.read_many(NEW_LEADER)
            while len(seen) < len(sent):
                seen += await stream.read_many(NEW_LEADER)
            assert seen == sent
            assert [tuple(await stream.read()) for _ in behind] == behind
            ends[0].abort()
            with pytest.raises((EOFError, ConnectionError)):
                await stream.read_many(NEW_LEADER)

    play(scenario)
