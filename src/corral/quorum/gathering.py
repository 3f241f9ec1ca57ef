"""When a leader's batch of writes is left to grow, and when it goes.

A batch costs the same packets, wake-ups and syncs, at every member, for one write as for many. Clients that wait for
their answers ask again soon after they have them; so a batch that is small beside the last one is held back until
most of those who were answered have asked again. If they do not, the next batches are held for fewer of them: with
clients that take their time nobody waits for anybody.
"""

from __future__ import annotations

from typing import Final

HOLD_MIN_S: Final = 0.001
"""Event loops tell no shorter times."""
HOLD_MAX_S: Final = 0.01
WORTH_MAX: Final = 64
WORTH_MIN: Final = 4
"""Fewer are not worth waiting for; and with more, batches are large enough as they come."""
_CAREFUL: Final = 0.8
_STEP: Final = 0.02


class Gathering:
    """How many writes the next batch should have before it goes."""

    def __init__(self) -> None:
        self.target = 0
        self.hold_s = HOLD_MIN_S
        """For how long it is held back at most: not for long beside the time that a batch takes."""
        self._hope = _CAREFUL
        """Which part of those who were answered is expected to ask again at once."""

    def __repr__(self) -> str:
        return f"Gathering(target={self.target})"

    def answered(self, count: int, waiting: int, took_ms: int) -> None:
        """A batch of ``count`` was answered after ``took_ms``, while ``waiting`` others had been gathered."""
        self.hold_s = min(HOLD_MAX_S, max(HOLD_MIN_S, took_ms / 2000))
        expected = count + waiting
        self.target = max(1, int(expected * self._hope)) if WORTH_MIN <= expected <= WORTH_MAX else 0

    def fulfilled(self) -> None:
        """The target, if there was one, was reached."""
        if self.target:
            self._hope = min(_CAREFUL, self._hope + _STEP)
            self.target = 0

    def disappointed(self) -> None:
        """It was not, within ``hold_s``."""
        self._hope /= 2
        self.target = 0
