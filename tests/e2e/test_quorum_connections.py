"""Connections between members that are over when something is sent; uvloop refuses that with a RuntimeError."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from corral.quorum.election_links import ElectionLinks
from corral.quorum.packet_stream import PacketStream
from corral.quorum.packets import PacketType, pack
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
