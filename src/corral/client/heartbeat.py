"""Pings from a thread of their own, for a program that keeps its event loop busy for longer than its session lasts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.client.connection import Connection

PERIODS = 4
"""Looks within a session timeout. After two of them without a send the thread pings: within 3/4 of the timeout."""


class Heartbeat:
    """Watches over one client's connection from its start to its stop."""

    def __init__(self, current: Callable[[], Connection | None]) -> None:
        self._current = current
        self._changed = threading.Event()
        self._is_stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, if it does not run yet."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="corral-heartbeat", daemon=True)
            self._thread.start()

    def look(self) -> None:
        """There is another connection: watch over that one from now on."""
        self._changed.set()

    def stop(self) -> None:
        """End the thread."""
        self._is_stopped = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._changed.clear()
            if self._is_stopped:
                return
            connection = self._current()
            if connection is None:
                self._changed.wait()
            else:
                self._watch_over(connection)

    def _watch_over(self, connection: Connection) -> None:
        sends = connection.sends
        quiet = 0
        while not self._changed.wait(connection.timeout / PERIODS):
            quiet = quiet + 1 if sends == connection.sends else 0
            sends = connection.sends
            if quiet >= 2:
                connection.beat()
