"""Running a server in the foreground: signals, the event loop, the exit status."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from typing import TYPE_CHECKING, Final, Protocol

from corral.server.standalone import Server
from corral.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from corral.server.config import ServerConfig

log = logging.getLogger(__name__)

_YOUNG_OBJECTS: Final = 50_000
"""Allocations between two looks for garbage cycles among young objects."""
_NEVER: Final = 1_000_000


def run(config: ServerConfig, ready: Callable[[str, int], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status: 0 after a clean stop, 1 if the disk failed.

    ``ready`` is called with the address and port once clients can connect. Raises OSError if the address cannot be
    had.
    """
    return run_on_fast_loop(serve(lambda: Server(config), config, ready))


def run_on_fast_loop(main: Coroutine[None, None, int]) -> int:
    """Run on uvloop's event loop where there is one, on asyncio's own otherwise."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


class Program(Protocol):
    """What is run: a standalone server, or a member of an ensemble."""

    stopped: asyncio.Event
    failed: StorageError | None

    @property
    def port(self) -> int:
        """Where clients are taken."""

    async def start(self) -> None:
        """Return once clients can connect. Raises StorageError, OSError."""

    async def stop(self) -> None:
        """End cleanly."""


async def serve(make: Callable[[], Program], config: ServerConfig, ready: Callable[[str, int], None] | None) -> int:
    """Run a program until it is asked to stop, or ends by itself; returns the exit status."""
    server = make()
    # A million znodes are a million objects that no cycle holds: walking over them would only stall the service.
    gc.disable()
    try:
        await server.start()
    except StorageError as error:
        log.critical("the server cannot start: %s", error)
        return 1
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 50, _NEVER)
    gc.enable()
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    if ready is not None:
        ready(config.client_port_address or "", server.port)
    waits = [asyncio.ensure_future(asked_to_stop.wait()), asyncio.ensure_future(server.stopped.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    await server.stop()
    if server.failed is not None or not asked_to_stop.is_set():
        return 1
    log.info("stopped")
    return 0
