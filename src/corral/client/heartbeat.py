"""Pings from a thread of their own, for a program that keeps its event loop busy for longer than its session lasts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.client.connection import Connection

PERIODS = 4
"""Looks within a session timeout. After two of them without a send the thread pings: within 3/4 of the timeout."""

_UNCONNECTED_S = 0.1
"""Between looks while there is no connection: a program may get busy as soon as it has one."""


class Heartbeat:
    """Watches over one client's connection from its start to its stop."""

    def __init__(self, current: Callable[[], Connection | None]) -> None:
        self._current = current
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, if it does not run yet."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="corral-heartbeat", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        seen: tuple[Connection | None, int] = (None, 0)
        quiet = 0
        while True:
            connection = self._current()
            timeout = connection.timeout if connection is not None else 0.0
            if self._stopped.wait(timeout / PERIODS or _UNCONNECTED_S):
                return
            if connection is None or connection is not self._current():
                continue
            quiet = quiet + 1 if seen == (connection, connection.sends) else 0
            seen = (connection, connection.sends)
            if quiet >= 2:
                connection.beat()
