"""Judges what leaders and learners say to each other, at the moment at which they say it.

What somebody claims to have on disk is looked up there: see :mod:`corral.simulation.durable`.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from corral.quorum.counting import is_quorum
from corral.quorum.packets import PacketType
from corral.simulation.durable import History
from corral.simulation.invariants import Invariant
from corral.simulation.wire import Hearer

if TYPE_CHECKING:
    from corral.quorum.packets import Packet
    from corral.simulation.invariants import Broke
    from corral.simulation.machine import Member
    from corral.simulation.wire import Conversation

_COUNTER: Final = 0xFFFFFFFF


class _Phase(IntEnum):
    """How far a conversation has come."""

    BEGUN = 0
    GREETED = 1
    """The learner has said who it is."""
    EPOCH_TOLD = 2
    PROMISED = 3
    SYNCHRONISING = 4
    HISTORY_TOLD = 5
    """The leader has said NEWLEADER."""
    HISTORY_TAKEN = 6
    """The learner has acknowledged that."""
    SERVING = 7
    """The leader has said UPTODATE."""


_FORWARDED_IN: Final = {_Phase.SYNCHRONISING, _Phase.HISTORY_TOLD, _Phase.HISTORY_TAKEN, _Phase.SERVING}
_LEADER_MAY_SAY: Final = {
    PacketType.LEADER_INFO: {_Phase.GREETED},
    PacketType.DIFF: {_Phase.PROMISED},
    PacketType.TRUNC: {_Phase.PROMISED},
    PacketType.SNAP: {_Phase.PROMISED},
    PacketType.NEW_LEADER: {_Phase.SYNCHRONISING},
    PacketType.UP_TO_DATE: {_Phase.HISTORY_TAKEN},
    PacketType.PING: {_Phase.SERVING},
    PacketType.SYNC: {_Phase.SERVING},
    PacketType.REVALIDATE: {_Phase.SERVING},
    PacketType.PROPOSAL: _FORWARDED_IN,
    PacketType.COMMIT: _FORWARDED_IN,
    PacketType.INFORM: _FORWARDED_IN,
    PacketType.COMMIT_AND_ACTIVATE: _FORWARDED_IN,
    PacketType.INFORM_AND_ACTIVATE: _FORWARDED_IN,
}
_LEARNER_MAY_SAY: Final = {
    PacketType.FOLLOWER_INFO: {_Phase.BEGUN},
    PacketType.OBSERVER_INFO: {_Phase.BEGUN},
    PacketType.ACK_EPOCH: {_Phase.EPOCH_TOLD},
    PacketType.ACK: {_Phase.HISTORY_TOLD, _Phase.HISTORY_TAKEN, _Phase.SERVING},
    PacketType.REQUEST: {_Phase.SERVING},
    PacketType.PING: {_Phase.SERVING},
    PacketType.REVALIDATE: {_Phase.SERVING},
}


class _State:
    """Of one conversation."""

    def __init__(self) -> None:
        self.phase = _Phase.BEGUN
        self.is_observer = False
        self.epoch = 0
        self.learner_zxid = 0
        """Where the learner's history ended when it came."""
        self.last_zxid = 0
        """Of what the leader has sent, or of what the learner had already."""
        self.history_zxid = 0
        """Where the leader's history ended that the learner acknowledges with NEWLEADER."""
        self.proposed: deque[int] = deque()
        """Not committed yet."""
        self.to_acknowledge: deque[int] = deque()
        """Not acknowledged yet."""


class _Term:
    """Of one leader: whom it has heard."""

    def __init__(self) -> None:
        self.promised: set[int] = set()
        self.has_history: set[int] = set()
        self.begins_with = -1
        """The last zxid of the leader's log when it first told of its history."""
        self.acknowledged: dict[int, int] = {}
        self.committed = 0


class Zab(Hearer):
    """All conversations. ``broke`` is told of each violation."""

    def __init__(self, broke: Broke) -> None:
        self._broke = broke
        self.proposals: dict[int, bytes] = {}
        """All transactions that any leader has ever sent to anybody."""
        self.leaders: dict[int, tuple[int, int]] = {}
        """Of each epoch: the member, and which of its lives."""
        self._begin_with: dict[int, int] = {}
        """Of each epoch that a quorum has entered: the last zxid in the log that its leader began with."""
        self._promised: dict[int, int] = {}
        """The newest epoch of each member."""
        self._disks: dict[int, History] = {}
        self._states: dict[Conversation, _State] = {}
        self._terms: dict[tuple[int, int, int], _Term] = {}
        """By leader, its life, and epoch."""

    def __repr__(self) -> str:
        return f"<Zab: {len(self.proposals)} proposals in {len(self.leaders)} epochs>"

    def forget(self, member: Member) -> None:
        """Another machine takes the place of a member: it has promised nothing."""
        self._promised.pop(member.sid, None)
        self._disks.pop(member.sid, None)

    def establishes(self, member: Member, epoch: int) -> None:
        """A member leads an epoch that a quorum has promised to it."""
        me = (member.sid, member.life)
        if self.leaders.setdefault(epoch, me) != me:
            self._broke(
                Invariant.LEADERSHIP,
                f"epoch {epoch} is led by {member!r} and was led by server {self.leaders[epoch][0]}",
            )

    def _state(self, conversation: Conversation) -> _State:
        state = self._states.get(conversation)
        if state is None:
            state = self._states[conversation] = _State()
        return state

    def _term(self, conversation: Conversation, state: _State) -> _Term:
        return self._terms.setdefault((conversation.leader.sid, conversation.leader_life, state.epoch), _Term())

    def _disk(self, member: Member) -> History:
        disk = self._disks.get(member.sid)
        if disk is None:
            disk = self._disks[member.sid] = History(member)
        return disk

    def _check_place(
        self, member: Member, state: _State, packet: Packet, may_say: dict[PacketType, set[_Phase]]
    ) -> bool:
        if state.phase in may_say.get(PacketType(packet.type), ()):
            return True
        self._broke(Invariant.MESSAGE_LEGAL, f"{member!r} says {packet!r} where it is {state.phase.name.lower()}")
        return False

    # The leader

    def leader_says(self, conversation: Conversation, packet: Packet) -> None:
        """See :class:`corral.simulation.wire.Hearer`."""
        state, leader = self._state(conversation), conversation.leader
        if not self._check_place(leader, state, packet, _LEADER_MAY_SAY):
            return
        match packet.type:
            case PacketType.LEADER_INFO:
                state.phase = _Phase.EPOCH_TOLD
                state.epoch = packet.zxid >> 32
            case PacketType.DIFF | PacketType.TRUNC | PacketType.SNAP:
                state.phase = _Phase.SYNCHRONISING
                state.history_zxid = packet.zxid
                state.last_zxid = state.learner_zxid if packet.type == PacketType.DIFF else packet.zxid
            case PacketType.NEW_LEADER:
                state.phase = _Phase.HISTORY_TOLD
                self.establishes(leader, state.epoch)
                self._check_promised(conversation, state)
            case PacketType.UP_TO_DATE:
                state.phase = _Phase.SERVING
                self._check_established(conversation, state)
            case PacketType.PROPOSAL if packet.data is not None:
                self._proposes(conversation, state, packet.zxid, packet.data)
                state.proposed.append(packet.zxid)
                state.to_acknowledge.append(packet.zxid)
            case PacketType.INFORM | PacketType.INFORM_AND_ACTIVATE if packet.data is not None:
                entry = packet.data if packet.type == PacketType.INFORM else packet.data[8:]
                self._proposes(conversation, state, packet.zxid, entry)
                self._commits(conversation, state, packet.zxid)
            case PacketType.COMMIT | PacketType.COMMIT_AND_ACTIVATE:
                expected = state.proposed.popleft() if state.proposed else 0
                if expected != packet.zxid:
                    self._broke(
                        Invariant.COMMIT_CONSISTENT,
                        f"{leader!r} commits {packet.zxid:#x}, and server {conversation.learner.sid} waits for"
                        f" {expected:#x}",
                    )
                self._commits(conversation, state, packet.zxid)
            case _:
                pass

    def _proposes(self, conversation: Conversation, state: _State, zxid: int, entry: bytes) -> None:
        last, leader = state.last_zxid, conversation.leader
        is_next = zxid == last + 1 or (zxid >> 32 > last >> 32 and zxid & _COUNTER == 1)
        if not is_next:
            self._broke(
                Invariant.PROPOSAL_CONSISTENT,
                f"{leader!r} sends {zxid:#x} to server {conversation.learner.sid}, which has {last:#x}",
            )
        if zxid >> 32 > state.epoch:
            self._broke(Invariant.PROPOSAL_CONSISTENT, f"{leader!r} of epoch {state.epoch} sends {zxid:#x}")
        state.last_zxid = zxid
        if self.proposals.setdefault(zxid, entry) != entry:
            self._broke(Invariant.INTEGRITY, f"{leader!r} sends another transaction {zxid:#x} than was proposed")

    def _commits(self, conversation: Conversation, state: _State, zxid: int) -> None:
        if state.phase == _Phase.SYNCHRONISING:
            # It is the leader's history, and goes to the disk before all else.
            state.history_zxid = max(state.history_zxid, zxid)
            if state.to_acknowledge and state.to_acknowledge[0] == zxid:
                state.to_acknowledge.popleft()
        if zxid >> 32 != state.epoch:
            return
        leader, term = conversation.leader, self._term(conversation, state)
        if zxid <= term.committed:
            # Told to one more learner. Whose word it took was decided then, by those who were members then.
            return
        term.committed = zxid
        able = {sid for sid, reached in term.acknowledged.items() if reached >= zxid}
        if leader.is_spoiled or self._disk(leader).has(zxid):
            able.add(leader.sid)
        if leader.sid not in able or not self._is_quorum(leader, able):
            self._broke(
                Invariant.COMMIT_COMPLETENESS, f"{leader!r} commits {zxid:#x}, which only servers {sorted(able)} have"
            )

    def _check_promised(self, conversation: Conversation, state: _State) -> None:
        leader, term = conversation.leader, self._term(conversation, state)
        promised = set(term.promised)
        if term.begins_with >= 0:
            # One more learner. Whose promises it took was decided at the beginning, by those who were members then.
            return
        term.begins_with = self._disk(leader).last_logged()
        if self._disk(leader).accepted_epoch() >= state.epoch:
            promised.add(leader.sid)
        if not self._is_quorum(leader, promised):
            self._broke(
                Invariant.LEADERSHIP,
                f"{leader!r} leads epoch {state.epoch}, promised by servers {sorted(promised)} only",
            )

    def _check_established(self, conversation: Conversation, state: _State) -> None:
        leader, term = conversation.leader, self._term(conversation, state)
        self._begin_with.setdefault(state.epoch, term.begins_with)
        able = set(term.has_history)
        if self._disk(leader).current_epoch() == state.epoch:
            able.add(leader.sid)
        if leader.sid not in able or not self._is_quorum(leader, able):
            self._broke(
                Invariant.COMMIT_COMPLETENESS,
                f"{leader!r} begins epoch {state.epoch} with a history that only servers {sorted(able)} have",
            )

    def _is_quorum(self, leader: Member, sids: set[int]) -> bool:
        assert leader.peer is not None
        return is_quorum(leader.peer.elector.election.ensembles, sids)

    # The learner

    def learner_says(self, conversation: Conversation, packet: Packet) -> None:
        """See :class:`corral.simulation.wire.Hearer`."""
        state, learner = self._state(conversation), conversation.learner
        if not self._check_place(learner, state, packet, _LEARNER_MAY_SAY):
            return
        match packet.type:
            case PacketType.FOLLOWER_INFO | PacketType.OBSERVER_INFO:
                state.phase = _Phase.GREETED
                state.is_observer = packet.type == PacketType.OBSERVER_INFO
            case PacketType.ACK_EPOCH:
                state.phase = _Phase.PROMISED
                state.learner_zxid = packet.zxid
                self._check_promise(learner, state.epoch, packet)
            case PacketType.ACK if packet.zxid == state.epoch << 32:
                if state.phase == _Phase.HISTORY_TOLD:
                    state.phase = _Phase.HISTORY_TAKEN
                    self._check_history(learner, state)
            case PacketType.ACK:
                self._check_ack(learner, state, packet.zxid)
            case _:
                pass

    def _check_promise(self, learner: Member, epoch: int, packet: Packet) -> None:
        disk = self._disk(learner)
        if disk.accepted_epoch() < epoch:
            self._broke(Invariant.DURABLE_PROMISE, f"{learner!r} promises epoch {epoch}, which is not on its disk")
        if _promises(packet):
            if self._promised.get(learner.sid, 0) >= epoch:
                self._broke(
                    Invariant.STATE_CONSISTENT,
                    f"{learner!r} promises epoch {epoch}, and has promised {self._promised[learner.sid]}",
                )
            self._promised[learner.sid] = epoch
        if learner.is_spoiled:
            # What its disk tells now is not what it was given.
            return
        on_disk, entered = disk.last_zxid(), disk.current_epoch()
        if on_disk < self._begin_with.get(entered, -1):
            self._broke(
                Invariant.DURABLE_HISTORY,
                f"{learner!r} has entered epoch {entered}, begun with {self._begin_with[entered]:#x}, and has only"
                f" {on_disk:#x} on its disk",
            )
        # An epoch that has begun without any transaction is known in memory only.
        if packet.zxid != on_disk and not (packet.zxid & _COUNTER == 0 and packet.zxid > on_disk):
            self._broke(
                Invariant.PROCESS_CONSISTENCY,
                f"{learner!r} tells of a history up to {packet.zxid:#x}, and has {on_disk:#x} on its disk",
            )
        elif packet.zxid == on_disk and packet.zxid & _COUNTER and not disk.reaches(on_disk):
            self._broke(
                Invariant.PROCESS_CONSISTENCY,
                f"{learner!r} tells of a history up to {on_disk:#x}, which is not on its disk but in its memory only",
            )

    def _check_history(self, learner: Member, state: _State) -> None:
        disk = self._disk(learner)
        disk.forget()
        if disk.current_epoch() != state.epoch:
            self._broke(
                Invariant.DURABLE_HISTORY, f"{learner!r} acknowledges epoch {state.epoch}, which is not on its disk"
            )
        if state.history_zxid & _COUNTER and not learner.is_spoiled and not disk.reaches(state.history_zxid):
            self._broke(
                Invariant.DURABLE_HISTORY,
                f"{learner!r} acknowledges the history up to {state.history_zxid:#x}, which is not on its disk",
            )

    def _check_ack(self, learner: Member, state: _State, zxid: int) -> None:
        expected = state.to_acknowledge.popleft() if state.to_acknowledge else 0
        if expected != zxid or state.phase < _Phase.HISTORY_TAKEN or state.is_observer:
            self._broke(
                Invariant.ACK_CONSISTENT, f"{learner!r} acknowledges {zxid:#x}, where {expected:#x} was proposed"
            )
        if not learner.is_spoiled and not self._disk(learner).has(zxid):
            self._broke(Invariant.DURABLE_ACK, f"{learner!r} acknowledges {zxid:#x}, which is not on its disk")

    def leader_hears(self, conversation: Conversation, packet: Packet) -> None:
        """See :class:`corral.simulation.wire.Hearer`."""
        state = self._state(conversation)
        if packet.type not in (PacketType.ACK, PacketType.ACK_EPOCH):
            return
        term, sid = self._term(conversation, state), conversation.learner.sid
        if packet.type == PacketType.ACK_EPOCH:
            # Of one that observes, too: it is as good, if it is to vote.
            if _promises(packet):
                term.promised.add(sid)
        elif state.is_observer:
            pass
        elif packet.zxid & _COUNTER:
            term.acknowledged[sid] = max(packet.zxid, term.acknowledged.get(sid, 0))
        else:
            term.has_history.add(sid)
            # What it has taken over counts as if it had been acknowledged one by one.
            term.acknowledged[sid] = max(state.history_zxid, term.acknowledged.get(sid, 0))


def _promises(packet: Packet) -> bool:
    """Whether an ACKEPOCH is a promise, and does not only say that it was given before."""
    return int.from_bytes((packet.data or b"")[:4], "big", signed=True) != -1
