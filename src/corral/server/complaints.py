"""Warnings that clients can cause as often as they like, kept from flooding the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from corral.server.clock import Clock

log = logging.getLogger(__name__)

QUIET_MS: Final = 10_000
"""After a warning, those of the same kind are only counted for so long."""


class Complaints:
    """Logs the first warning of a kind at once, and then one in :data:`QUIET_MS` with the number left out."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._quiet_until_ms: dict[str, int] = {}
        self._left_out: dict[str, int] = {}

    def warn(self, kind: str, message: str, *arguments: object) -> None:
        """A warning; ``kind`` is one of a few words that the code has for what clients do wrong."""
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._quiet_until_ms.get(kind, now_ms):
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._quiet_until_ms[kind] = now_ms + QUIET_MS
        left_out = self._left_out.pop(kind, 0)
        if left_out:
            message += " (%d more such warnings since the last one)"
            arguments = (*arguments, left_out)
        log.warning(message, *arguments)
