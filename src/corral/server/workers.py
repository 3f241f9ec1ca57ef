"""Threads for what blocks: syncing the log, writing snapshots. Each does its jobs in order, one at a time."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Worker(Protocol):
    """Runs jobs, and calls ``done()`` on the event loop after each. Jobs must not raise."""

    def submit(self, job: Callable[[], object], done: Callable[[], None]) -> None:
        """Run ``job`` beside the loop, then ``done`` on it."""

    def stop(self, timeout_s: float | None = None) -> bool:
        """Finish the jobs submitted so far and end; False if that took longer than ``timeout_s``."""


class ThreadWorker:
    """A :class:`Worker` that is a thread."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[tuple[Callable[[], object], Callable[[], None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], object], done: Callable[[], None]) -> None:
        """See :class:`Worker`."""
        self._jobs.put((job, done))

    def stop(self, timeout_s: float | None = None) -> bool:
        """See :class:`Worker`."""
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, done = item
            job()
            try:
                self._loop.call_soon_threadsafe(done)
            except RuntimeError:
                # The loop is closed: nobody is left to be told.
                return
