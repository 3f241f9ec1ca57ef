"""What operators do to an ensemble that serves: stop members and start them again, one by one or all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corral.quorum.leader import Leader

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from corral.simulation.loop import Timeline
    from corral.simulation.machine import Member
    from corral.simulation.trace import Trace

_LOOK_EVERY_S: Final = 0.1
_PATIENCE_S: Final = 4.0
"""So long one waits for a member that was restarted; then the next one has its turn."""


class Operator:
    """Somebody with a terminal. What is under way when everything heals is not gone on with."""

    def __init__(self, timeline: Timeline, members: Sequence[Member], chance: random.Random, trace: Trace) -> None:
        self._timeline = timeline
        self._members = members
        self._chance = chance
        self._trace = trace
        self._rolling: list[Member] = []
        """Who is still to be restarted, the next one last."""
        self._is_over = False

    def rest(self) -> None:
        """Do nothing more."""
        self._is_over = True
        self._rolling.clear()

    def restart_all(self) -> bool:
        """One member after the other, the leader last; False if that is under way."""
        if self._rolling:
            return False
        order = list(self._members)
        self._chance.shuffle(order)
        order.sort(key=lambda member: member.peer is None or not isinstance(member.peer.term, Leader))
        self._rolling = order
        self._trace.tell("operator", f"restarts {', '.join(member.host.name for member in reversed(order))}")
        self._restart_next()
        return True

    def _restart_next(self) -> None:
        if self._rolling:
            member = self._rolling[-1]
            member.stop()
            self._timeline.after(_LOOK_EVERY_S, lambda: self._wait_for(member, self._timeline.now + _PATIENCE_S))

    def _wait_for(self, member: Member, until: float) -> None:
        if self._is_over:
            return
        if not member.is_up:
            member.start()
        serves = member.peer is not None and member.peer.server is not None and not member.is_stopping
        if serves or self._timeline.now > until:
            self._rolling.pop()
            if not self._rolling:
                self._trace.tell("operator", "has restarted all")
                self._trace.counts["rolling restart finished"] += 1
            self._restart_next()
        else:
            self._timeline.after(_LOOK_EVERY_S, lambda: self._wait_for(member, until))
