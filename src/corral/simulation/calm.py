"""How much members talk about elections: each says a few words, and then waits."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from corral.simulation.invariants import Invariant
from corral.simulation.wire import Hearer

if TYPE_CHECKING:
    from corral.simulation.invariants import Broke
    from corral.simulation.loop import Timeline
    from corral.simulation.network import End

WORDS_MAX: Final = 300
"""In a second, from one member to another. The liveliest elections have a tenth of that."""


class Calm(Hearer):
    """No two members go on answering each other."""

    def __init__(self, timeline: Timeline, broke: Broke) -> None:
        self._timeline = timeline
        self._broke = broke
        self._second = 0
        self._words: Counter[tuple[str, str]] = Counter()
        """In this second, by who says them, and the address to which."""

    def __repr__(self) -> str:
        return f"<Calm: {self._words.total()} words in second {self._second}>"

    def says_in_election(self, end: End) -> None:
        """See the base class."""
        second = int(self._timeline.now)
        if second != self._second:
            self._second = second
            self._words.clear()
        between = (end.host.name, end.peer[0])
        self._words[between] += 1
        if self._words[between] == WORDS_MAX:
            self._broke(
                Invariant.CALM, f"{between[0]} says {WORDS_MAX} words of an election to {between[1]} in a second"
            )
