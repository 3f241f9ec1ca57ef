"""A listener that is closed at the worst moment."""

from __future__ import annotations

import asyncio
import socket

from corral.server.listeners import close_listener


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
            await close_listener(listener)
            async with asyncio.timeout(10):
                assert await loop.sock_recv(client, 1) == b""

    asyncio.run(main())
