"""A listener that is closed at the worst moment."""

from __future__ import annotations

import asyncio
import socket

import pytest

from corral.server.listeners import close_listeners, listen


class Closing(asyncio.Protocol):
    """Closes whatever connection it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def test_who_is_just_being_accepted_is_not_forgotten() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(Closing, "127.0.0.1", 0)
        with socket.socket() as client:
            client.setblocking(False)
            client.connect_ex(listener.sockets[0].getsockname())
            # One turn of the loop in which its coming is noticed, one in which it is accepted; no transport yet.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await close_listeners([listener])
            async with asyncio.timeout(10):
                assert await loop.sock_recv(client, 1) == b""

    asyncio.run(main())


def test_who_is_cancelled_while_it_closes_has_closed() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listeners = [await loop.create_server(Closing, "127.0.0.1", 0) for _ in range(2)]
        closing = loop.create_task(close_listeners(listeners))
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled()
        assert [each.sockets for each in listeners] == [(), ()]

    asyncio.run(main())


def test_who_is_cancelled_while_it_begins_to_listen_can_be_closed() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listeners: list[asyncio.Server] = []
        beginning = loop.create_task(listen(loop, Closing, "127.0.0.1", 0, listeners))
        while not listeners:
            await asyncio.sleep(0)
        beginning.cancel()
        await asyncio.wait([beginning])
        assert beginning.cancelled()
        assert len(listeners) == 1
        await close_listeners(listeners)

    asyncio.run(main())


def test_a_port_that_is_taken_is_told_and_leaves_nothing() -> None:
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            host, port = taken.getsockname()
            listeners: list[asyncio.Server] = []
            with pytest.raises(OSError, match="in use"):
                await listen(asyncio.get_running_loop(), Closing, host, port, listeners)
            assert listeners == []

    asyncio.run(main())
