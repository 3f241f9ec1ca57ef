"""Listening, and listening no more: so that no port is kept, and nobody forgotten who is just being accepted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


async def listen(
    loop: asyncio.AbstractEventLoop,
    made: Callable[[], asyncio.BaseProtocol],
    host: str | None,
    port: int,
    listeners: list[asyncio.Server],
) -> None:
    """Listen at an address, and add that to ``listeners``. Raises OSError.

    A plain ``create_server`` that is cancelled may listen already, and nobody could end it.
    """
    listener = await loop.create_server(made, host, port, start_serving=False)
    listeners.append(listener)
    try:
        await listener.start_serving()
    except OSError:
        listeners.remove(listener)
        listener.close()
        raise


async def close_listeners(listeners: Sequence[asyncio.Server]) -> None:
    """Listen no more, at once, also if this is cancelled.

    Who was being accepted is a connection two turns of the loop later, for its protocol to close. A plain ``close()``
    can come between the acceptance of a connection and the making of its transport, which then fails: asyncio
    (gh-109564) keeps quiet and leaves the socket open until garbage is collected. Whoever has connected would wait for
    an answer in vain.
    """
    loop = asyncio.get_running_loop()
    try:
        if isinstance(loop, asyncio.SelectorEventLoop):
            for listener in listeners:
                for listening in listener.sockets:
                    loop.remove_reader(listening)
            await asyncio.sleep(0)
    finally:
        for listener in listeners:
            listener.close()
