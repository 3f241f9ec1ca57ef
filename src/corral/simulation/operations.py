"""What operators do to an ensemble that serves: restart members one by one, replace those whose disks are gone.

When may a voter come back empty, with its number? It has forgotten what it acknowledged, and what it promised. So
enough others, without it and without anybody else who has lost a disk, must follow one leader and have all that was
ever proposed durably, and that leader must have forgotten the connection to the one that was lost, over which an old
acknowledgement could still come. Enough are so many that the rest is no quorum: then everything acknowledged is on
their disks, and any quorum that the empty one helps to form has somebody of them in it. To ask for a quorum of them
would be too much while an observer is to become a voter: that may wait for the very one that was lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corral.quorum.counting import is_quorum
from corral.quorum.ensemble import Ensemble
from corral.quorum.leader import Leader
from corral.simulation.durable import History, end_of_history

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from corral.simulation.loop import Timeline
    from corral.simulation.machine import Member
    from corral.simulation.trace import Trace

_COUNTER: Final = 0xFFFFFFFF
_LOOK_EVERY_S: Final = 0.1
_PATIENCE_S: Final = 4.0
"""So long one waits for a member that was restarted; then the next one has its turn."""


class Operator:
    """Somebody with a terminal. What is under way when everything heals is not gone on with."""

    def __init__(
        self,
        timeline: Timeline,
        ensemble: Ensemble,
        members: Sequence[Member],
        chance: random.Random,
        trace: Trace,
        replaced: Callable[[Member], None],
        *,
        members_change: bool,
    ) -> None:
        """``replaced`` is told who has got an empty disk. ``members_change``: one disk at a time is enough then."""
        self._members_change = members_change
        self._known: Sequence[Ensemble] = (ensemble,)
        self._timeline = timeline
        self._replaced = replaced
        self._lost: set[int] = set()
        """Whose disks are not, or may not be, what they were."""
        self._members = members
        self._chance = chance
        self._trace = trace
        self._rolling: list[Member] = []
        """Who is still to be restarted, the next one last."""
        self._is_over = False

    def rest(self) -> None:
        """Restart nobody any more. Who waits for an empty disk gets it all the same."""
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

    # Disks

    def may_lose(self, member: Member) -> bool:
        """Whether the ensemble outlives the loss of this disk, too."""
        whole = {each.sid for each in self._members} - self._lost - {member.sid}
        if member.is_out_of_service or member.sid in self._lost or (self._lost and self._members_change):
            return False
        return is_quorum(self._ensembles(), whole)

    def has_lost(self, member: Member) -> None:
        """Its disk is not what it was, known or not."""
        self._lost.add(member.sid)

    def replace(self, member: Member) -> None:
        """Give the member an empty disk, and start it as soon as nothing can be lost by that."""
        self.has_lost(member)
        member.lose_disk()
        self._replaced(member)
        self._return_when_safe(member)

    def _return_when_safe(self, member: Member) -> None:
        leader = next((each for each in self._members if each is not member and self._has_all(each, member)), None)
        if leader is not None:
            assert leader.peer is not None
            self._trace.tell("operator", f"starts {member.host.name}, which is empty")
            self._trace.counts["came back empty"] += 1
            self._lost.discard(member.sid)
            lines = leader.peer.elector.election.committed.members
            member.ensemble = Ensemble({member.sid: member.ensemble.members[member.sid], **lines})
            member.is_out_of_service = member.is_empty = False
            member.start()
        else:
            self._timeline.after(_LOOK_EVERY_S, lambda: self._return_when_safe(member))

    def _ensembles(self) -> Sequence[Ensemble]:
        """As whoever serves last has told them."""
        elections = [each.peer.elector.election for each in self._members if each.peer is not None]
        if elections:
            self._known = max((each.ensembles for each in elections), key=lambda ensembles: ensembles[0].version)
        return self._known

    def _has_all(self, leader: Member, without: Member) -> bool:
        """Whether so many that it leads have all that it has ever proposed, on whole disks: the rest is no quorum."""
        term = leader.peer.term if leader.peer is not None else None
        if not isinstance(term, Leader) or term.server is None or without.sid in term.learners:
            return False
        assert leader.peer is not None
        # Of a leader that has proposed nothing yet only the history counts that it began with.
        proposed = term.server.leading.zxid
        end = proposed if proposed & _COUNTER else end_of_history(leader)
        able = {
            each.sid
            for each in self._members
            if each.sid not in self._lost and _serves_in(each, term.epoch) and History(each).reaches(end)
        }
        ensembles = leader.peer.elector.election.ensembles
        return not any(each.is_quorum(each.voters - able) for each in ensembles)


def _serves_in(member: Member, epoch: int) -> bool:
    term = member.peer.term if member.peer is not None else None
    return term is not None and term.server is not None and term.epoch == epoch
