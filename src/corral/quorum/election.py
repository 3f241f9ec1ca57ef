"""Fast leader election, as a machine that only computes.

Messages and the time go in; messages to send, and in the end the leader, come out. A server that is not looking for a
leader still answers those that are. Source of the rules: FastLeaderElection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from corral.quorum.vote import NOBODY, Notification, Role, Vote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corral.quorum.ensemble import Ensemble

FINALIZE_S: Final = 0.05
"""How long a quorum's agreement is left to be overtaken by a better vote, unless all voters that run have spoken.

Apache waits four times as long. What comes too late costs an election more, never a transaction: a leader whose
history is behind that of a quorum is not followed."""
RESEND_FIRST_S: Final = 0.2
RESEND_MAX_S: Final = 60.0


class Send(NamedTuple):
    """Send ``notification`` to the server ``to``."""

    to: int
    notification: Notification


class Elected(NamedTuple):
    """The election is over."""

    role: Role
    vote: Vote


class Deserted(NamedTuple):
    """The one elected leads nobody yet, and too few are left of those who voted for it: it had better look again."""


Output = Send | Elected | Deserted


class Election:
    """One server's part in all elections of its life.

    Between :meth:`look` and :class:`Elected` it must be called by :attr:`deadline` (:meth:`tick`), at the latest.
    Times are seconds of any clock that does not go back.
    """

    def __init__(
        self,
        me: int,
        committed: Ensemble,
        *,
        finalize_s: float = FINALIZE_S,
        resend_first_s: float = RESEND_FIRST_S,
        resend_max_s: float = RESEND_MAX_S,
    ) -> None:
        self.me = me
        self.committed = committed
        self.last_seen: Ensemble | None = None
        """A newer configuration that is proposed and not committed: its quorum is needed as well."""
        self.told: Ensemble | None = None
        """One that another voter was proposed, and this server was not: who is to vote may be elected, but no more
        than a quorum of those that are known here is needed for that."""
        self.role = Role.LOOKING
        self.round = 0
        self.vote = Vote(NOBODY, NOBODY, 0, NOBODY)
        """While looking the proposal, else the vote that the election ended with."""
        self.deadline: float | None = None
        self._finalize_s = finalize_s
        self._resend_first_s = resend_first_s
        self._resend_max_s = resend_max_s
        self._initial = self.vote
        self._votes: dict[int, Notification] = {}
        """The newest of each voter that looks, or leads and follows, in this round."""
        self._outside: dict[int, Notification] = {}
        """The newest of each voter that leads or follows, whatever its round."""
        self._finalize_at: float | None = None
        self._resend_at = 0.0
        self._resend_s = resend_first_s
        self._out: list[Output] = []
        self._curious: set[int] = set()
        """Those who do not vote and have asked during this election: they are to hear of its end."""
        self._has_served = False
        """Since the last election."""
        self._replaces = False
        """Whether this election is to replace a leader that was lost, at the first attempt."""
        self._absent: set[int] = set()
        """Voters that do not run, as their machines have said in this election, and that have said nothing since."""
        self._replies: dict[int, tuple[Vote, float]] = {}
        """What others who look were answered last, and when."""
        self._followed_by: set[int] = set()
        """Of a leader that has not begun to serve: whose votes made it one. Nobody otherwise."""

    def __repr__(self) -> str:
        return f"<Election of {self.me}: {self.role.name} round {self.round} {self.vote}>"

    @property
    def ensembles(self) -> Sequence[Ensemble]:
        """Whose quorums must agree."""
        if self.last_seen is not None and self.last_seen.version > self.committed.version:
            return (self.committed, self.last_seen)
        return (self.committed,)

    @property
    def voters(self) -> frozenset[int]:
        """Who votes in any of them, or is to vote by what was told."""
        told = (self.told,) if self.told is not None else ()
        return frozenset().union(*(ensemble.voters for ensemble in (*self.ensembles, *told)))

    @property
    def observes(self) -> bool:
        """Whether this server is an observer.

        One that is no member, or not yet, follows and votes: whoever knows no better does not count its vote.
        """
        return self.me in self.committed.observers and self.me not in self.voters

    def look(self, zxid: int, epoch: int, now: float) -> list[Output]:
        """Begin an election. ``zxid`` is the last one in this server's log, ``epoch`` its current one."""
        self.role = Role.LOOKING
        self._replaces, self._has_served = self._has_served, False
        self.round += 1
        is_voter = not self.observes
        self._initial = Vote(
            *((self.me, zxid, self.round, epoch) if is_voter else (NOBODY, NOBODY, self.round, NOBODY))
        )
        self.vote = self._initial
        self._votes.clear()
        self._outside.clear()
        self._absent.clear()
        self._followed_by.clear()
        self._replies.clear()
        self._finalize_at = None
        self._resend_s = self._resend_first_s
        self._tell_all(now)
        if is_voter:
            self._votes[self.me] = Notification(Role.LOOKING, self.vote)
            self._conclude(now)
        return self._take()

    def receive(self, sender: int, notification: Notification, now: float) -> list[Output]:
        """A message of another server has come."""
        self._absent.discard(sender)
        if sender not in self.voters:
            # Only a question is answered: two without a vote, who have settled, would never come to an end.
            if notification.role is Role.LOOKING:
                self._answer_stranger(sender, now)
        elif self.role is not Role.LOOKING:
            if notification.role is Role.LOOKING:
                self._answer(sender, self.vote)
                self._leave_to(sender, notification.vote)
        else:
            if notification.role is Role.LOOKING and notification.vote.round < self.round:
                self._reply(sender, self.vote, now)
            if notification.vote.leader in self.voters:
                self._hear(sender, notification, now)
        return self._take()

    def _answer_stranger(self, sender: int, now: float) -> None:
        """One that has no vote looks for a leader."""
        vote = self.vote._replace(round=self.round)
        if self.role is Role.LOOKING:
            self._curious.add(sender)
            self._reply(sender, vote, now)
        else:
            self._answer(sender, vote)

    def refused(self, sid: int, now: float) -> list[Output]:
        """The machine of another server has said that nobody listens there: its vote need not be waited for.

        At a start it is waited for all the same: others may be about to start as well.
        """
        if self.role is Role.LOOKING and self._replaces:
            self._absent.add(sid)
            self._conclude(now)
        return self._take()

    def tick(self, now: float) -> list[Output]:
        """Time has passed: decide if the time to do so has come, or ask again."""
        if self.role is Role.LOOKING:
            if self._finalize_at is not None and now >= self._finalize_at:
                self._decide(self.vote)
            elif now >= self._resend_at:
                self._resend_s = min(self._resend_s * 2, self._resend_max_s)
                self._tell_all(now)
            else:
                self._plan()
        return self._take()

    def serving(self, epoch: int) -> None:
        """The new epoch has begun: whoever joins later is to hear the same of everybody."""
        self.vote = self.vote._replace(epoch=epoch)
        self._has_served = True
        self._followed_by.clear()

    # Hearing

    def _hear(self, sender: int, notification: Notification, now: float) -> None:
        match notification.role:
            case Role.LOOKING:
                self._hear_looking(sender, notification, now)
            case Role.FOLLOWING | Role.LEADING:
                self._hear_settled(sender, notification)
            case Role.OBSERVING:
                pass

    def _hear_looking(self, sender: int, notification: Notification, now: float) -> None:
        vote = notification.vote
        if self._initial.zxid == -1 or vote.zxid == -1 or vote.round < self.round:
            return
        if vote.round > self.round:
            self.round = vote.round
            self._votes.clear()
            self._initial = self._initial._replace(round=self.round)
            self._propose(vote if vote.beats(self._initial, self.committed) else self._initial, now)
        elif vote.beats(self.vote, self.committed):
            self._propose(vote, now)
        elif self._replaces and vote != self.vote and not self._has_looked(sender):
            # It may have been told before it looked, and would hear of it only when others are asked again. Not after
            # an attempt that failed: the better one may be out of reach, and its silence lets others be elected.
            self._answer(sender, self.vote)
        self._votes[sender] = notification
        self._conclude(now)

    def _has_looked(self, sid: int) -> bool:
        """Whether another server is known to look for a leader in this round."""
        return sid in self._votes and self._votes[sid].role is Role.LOOKING

    def _leave_to(self, sender: int, vote: Vote) -> None:
        """Who has voted for this server and now looks for another will not follow it."""
        if sender not in self._followed_by or vote.leader == self.me or vote.round < self.round:
            return
        self._followed_by.discard(sender)
        if not self._is_quorum(self._followed_by):
            self._followed_by.clear()
            self._out.append(Deserted())

    def _hear_settled(self, sender: int, notification: Notification) -> None:
        vote = notification.vote
        if vote.round == self.round:
            self._votes[sender] = notification
            if self._agree(self._votes, notification) and self._leads(self._votes, vote.leader, vote.round):
                self._decide(vote)
                return
        self._outside[sender] = notification
        if self._is_served(notification) and self._leads(self._outside, vote.leader, vote.round):
            self.round = vote.round
            self._decide(vote)

    def _propose(self, vote: Vote, now: float) -> None:
        self.vote = Vote(vote.leader, vote.zxid, self.round, vote.epoch)
        self._finalize_at = None
        if not self.observes:
            self._votes[self.me] = Notification(Role.LOOKING, self.vote)
        self._tell_all(now)

    def _conclude(self, now: float) -> None:
        """Whether those that look agree by now: at once if all that run have spoken, else after a moment."""
        agreeing = {sid for sid, each in self._votes.items() if each.vote == self.vote}
        if self.me not in self.voters or not self._is_quorum(agreeing):
            # Voters do not tell others when they change their minds: those believe only what is settled.
            self._finalize_at = None
        elif agreeing >= self.voters - self._absent:
            self._decide(self.vote)
            return
        elif self._finalize_at is None:
            self._finalize_at = now + self._finalize_s
        self._plan()

    # Counting

    def _is_quorum(self, sids: set[int]) -> bool:
        return all(ensemble.is_quorum(sids) for ensemble in self.ensembles)

    def _agree(self, heard: Mapping[int, Notification], with_: Notification) -> bool:
        return self._is_quorum({sid for sid, each in heard.items() if _same_leader(each, with_)})

    def _is_served(self, with_: Notification) -> bool:
        """Whether enough members follow a leader already, so that this one may join them.

        While the members change one configuration is enough: the change may be waiting for this very server. What a
        leader needs, it has been promised, and whom to believe its epoch tells.
        """
        agreeing = {sid for sid, each in self._outside.items() if _same_leader(each, with_)}
        if with_.vote.leader == self.me:
            return self._is_quorum(agreeing)
        return any(ensemble.is_quorum(agreeing) for ensemble in self.ensembles)

    def _leads(self, heard: Mapping[int, Notification], leader: int, round_number: int) -> bool:
        """Whether the one whom a quorum follows knows it: a leader that has gone may still be followed by some."""
        if leader == self.me:
            return round_number == self.round
        return leader in heard and heard[leader].role is Role.LEADING

    # Saying

    def _decide(self, vote: Vote) -> None:
        if vote.leader == self.me:
            self.role = Role.LEADING
            heard = (*self._votes.items(), *self._outside.items())
            self._followed_by = {self.me} | {sid for sid, each in heard if each.vote.leader == self.me}
        else:
            self.role = Role.OBSERVING if self.observes else Role.FOLLOWING
        self.vote = vote
        self.deadline = None
        self._out.append(Elected(self.role, vote))
        for sid in sorted(self._curious - self.voters):
            self._answer(sid, vote)
        self._curious.clear()

    def _tell_all(self, now: float) -> None:
        for sid in sorted(self.voters - {self.me}):
            self._answer(sid, self.vote)
        self._resend_at = now + self._resend_s
        self._plan()

    def _reply(self, to: int, vote: Vote, now: float) -> None:
        """Answer one who looks as well; not the same again at once.

        Of two that do not hold each other to be voters each would answer the other's answer for ever.
        """
        last, at = self._replies.get(to, (None, 0.0))
        if vote != last or now >= at + self._resend_first_s / 2:
            self._replies[to] = (vote, now)
            self._answer(to, vote)

    def _answer(self, to: int, vote: Vote) -> None:
        committed, *pending = self.ensembles
        more = pending[0].to_text() if pending else ""
        self._out.append(Send(to, Notification(self.role, vote, config=committed.to_text(), pending=more)))

    def _plan(self) -> None:
        self.deadline = self._resend_at if self._finalize_at is None else min(self._finalize_at, self._resend_at)

    def _take(self) -> list[Output]:
        out, self._out = self._out, []
        return out


def _same_leader(one: Notification, other: Notification) -> bool:
    """Whether two servers mean the same leader; once both have settled, its log at that time does not matter."""
    if Role.LOOKING in (one.role, other.role):
        return one.vote == other.vote
    if (one.version > 0) != (other.version > 0):
        return one.vote.leader == other.vote.leader
    return one.vote.leader == other.vote.leader and one.vote.epoch == other.vote.epoch
