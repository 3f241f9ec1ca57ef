"""When a leader's batch of writes is left to grow though nothing is under way, and when it goes.

A batch costs the same packets, wake-ups and syncs, at every member, for one write as for many. Clients that wait for
their answers ask again soon after they have them; so a batch is held back until it has most of its share of them. If
they do not, the next batches are held for fewer of them: with clients that take their time nobody waits for anybody.
"""

from __future__ import annotations

from typing import Final

from corral.server.pipeline import SHARES

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

    def answered(self, population: int, took_ms: int) -> None:
        """A batch was answered after ``took_ms``; ``population``: its writes, and those that wait or are under way."""
        self.hold_s = min(HOLD_MAX_S, max(HOLD_MIN_S, took_ms / 2000))
        is_worth_it = WORTH_MIN <= population <= WORTH_MAX
        self.target = max(1, int(population * self._hope / SHARES)) if is_worth_it else 0

    def fulfilled(self) -> None:
        """The target, if there was one, was reached."""
        if self.target:
            self._hope = min(_CAREFUL, self._hope + _STEP)
            self.target = 0

    def disappointed(self) -> None:
        """It was not, within ``hold_s``."""
        self._hope /= 2
        self.target = 0
