"""A server in this process with a disk, a clock or limits of the test's making."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from corral.server.config import ServerConfig
from corral.server.config.model import ALL_WORDS
from corral.server.daemon import run_on_fast_loop
from corral.server.standalone import Server
from corral.storage.filesystem import REAL, FileSystem

T = TypeVar("T")


class Running:
    """A server on a thread of its own. ``stop`` or the end of :func:`running` ends it."""

    def __init__(self, config: ServerConfig, filesystem: FileSystem) -> None:
        self._started: Future[None] = Future()
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self.server: Server
        self._thread = threading.Thread(target=lambda: run_on_fast_loop(self._serve(config, filesystem)))
        self._thread.start()
        try:
            self._started.result(30)
        except BaseException:
            self._thread.join()
            raise

    async def _serve(self, config: ServerConfig, filesystem: FileSystem) -> int:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.server = Server(config, filesystem=filesystem)
        try:
            await self.server.start()
        except BaseException as error:
            self._started.set_exception(error)
            return 1
        self._started.set_result(None)
        waits = [asyncio.ensure_future(self._stop.wait()), asyncio.ensure_future(self.server.stopped.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await self.server.stop()
        return 0

    @property
    def port(self) -> int:
        return self.server.port

    def call(self, function: Callable[[Server], T]) -> T:
        """Run something on the server's event loop."""

        async def work() -> T:
            return function(self.server)

        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(30)

    def wait(self, limit_s: float = 30) -> None:
        """Wait until the server has ended by itself."""
        self._thread.join(limit_s)
        assert not self._thread.is_alive(), f"the server still runs after {limit_s} s"

    def stop(self, limit_s: float = 60) -> None:
        """Ask it to stop, and wait."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self.wait(limit_s)


@contextmanager
def running(data_dir: Path, filesystem: FileSystem = REAL, **settings: Any) -> Iterator[Running]:
    """A running server on any port; stopped at the end if it still runs."""
    everything: dict[str, Any] = (
        {"data_dir": data_dir, "client_port": 0, "client_port_address": "127.0.0.1"}
        | {"tick_time_ms": 200, "four_letter_words": frozenset({ALL_WORDS})}
        | settings
    )
    server = Running(ServerConfig(**everything), filesystem)
    try:
        yield server
    finally:
        server.stop()
