"""Listening no more, so that nobody is forgotten who is just being accepted."""

from __future__ import annotations

import asyncio


async def close_listener(listener: asyncio.Server) -> None:
    """Listen no more. Who was being accepted is a connection two turns of the loop later, for its protocol to close.

    A plain ``close()`` can come between the acceptance of a connection and the making of its transport, which then
    fails: asyncio (gh-109564) keeps quiet and leaves the socket open until garbage is collected. Whoever has connected
    would wait for an answer in vain.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.SelectorEventLoop):
        for listening in listener.sockets:
            loop.remove_reader(listening)
        await asyncio.sleep(0)
    listener.close()
