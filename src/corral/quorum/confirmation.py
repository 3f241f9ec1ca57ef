"""Whether a leader still leads: rounds of PINGs that a quorum answers.

A leader that has been replaced may not know it, and what it has committed is then not all there is. A round tells: a
voter answers a PING only while it follows this leader, and it promises another epoch only after it has left. A new
leader needs such promises of a quorum, so one of them came from a voter that has answered, and later than the answer.
Before the PINGs left nobody else can have committed anything. No clock takes part in this.

One round is under way at a time; what is asked meanwhile shares the next, for its PINGs must leave after the question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corral.quorum.counting import is_quorum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.quorum.ensemble import Ensemble


class Confirmation:
    """Counts the rounds of the term of ``me``. ``ping`` sends a PING to all voters; ``soon`` calls in the next turn.

    Whoever sends a PING notes :attr:`round` with it: learners answer PINGs in order, and the answer speaks for that
    round and all before.
    """

    def __init__(
        self,
        me: int,
        ensembles: Callable[[], Sequence[Ensemble]],
        ping: Callable[[], None],
        soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._me = me
        self._ensembles = ensembles
        self._ping = ping
        self._soon = soon
        self.round = 0
        """The newest that has begun."""
        self.confirmed = 0
        """The newest that a quorum has answered."""
        self._answered: dict[int, int] = {}
        self._under_way: dict[Callable[[], None], None] = {}
        self._waiting: dict[Callable[[], None], None] = {}
        self._is_due = False
        self._is_stopped = False

    def ask(self, done: Callable[[], None]) -> int:
        """Call ``done``, once, when a quorum has answered a PING that leaves from now on; returns the round's number.

        Without a quorum it is never called.
        """
        self._waiting[done] = None
        if not self._under_way:
            self._begin_soon()
        return self.round + 1

    def answered(self, sid: int, number: int) -> None:
        """``sid`` has answered a PING that was sent when ``number`` was the newest round."""
        if number > self._answered.get(sid, 0):
            self._answered[sid] = number
            self._count()

    def stop(self) -> None:
        """Nothing more is confirmed."""
        self._is_stopped = True

    def _begin_soon(self) -> None:
        # All that comes in one turn of the loop shares a round.
        if not self._is_due:
            self._is_due = True
            self._soon(self._begin)

    def _begin(self) -> None:
        self._is_due = False
        if self._is_stopped:
            return
        self.round += 1
        self._under_way, self._waiting = self._waiting, {}
        self._ping()
        self._count()

    def _count(self) -> None:
        if self._is_stopped or not self._under_way:
            return
        answered = {self._me} | {sid for sid, number in self._answered.items() if number >= self.round}
        if not is_quorum(self._ensembles(), answered):
            return
        self.confirmed = self.round
        done, self._under_way = self._under_way, {}
        for each in done:
            each()
        if self._waiting:
            self._begin_soon()
