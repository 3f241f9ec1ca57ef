"""How long to wait before the next attempt to connect."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


class Backoff:
    """Pauses that double, each of them spread: clients of a server that went away must not all come at once."""

    def __init__(self, first: float, longest: float, random: Random) -> None:
        self._first = first
        self._longest = longest
        self._random = random
        self._pause = 0.0

    def __repr__(self) -> str:
        return f"<Backoff, the last was at most {self._pause:g} s>"

    def next(self) -> float:
        """The pause to make now, in seconds: the first is anything up to ``first``, the others half of it or more."""
        if not self._pause:
            self._pause = min(self._first, self._longest)
            return self._random.uniform(0, self._pause)
        self._pause = min(self._longest, self._pause * 2)
        return self._random.uniform(self._pause / 2, self._pause)

    def reset(self) -> None:
        """All went well: begin anew."""
        self._pause = 0.0
