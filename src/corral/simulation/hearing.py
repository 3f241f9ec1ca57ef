"""When leaders have heard of the sessions: no session expires before its timeout is over.

A leader hears of a client that is connected to it when its program gets something from it, and of others when a learner
answers a ping: that answer must tell of all whom the learner has heard since its last one.
"""

from __future__ import annotations

import struct
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final

from corral.jute.ops import CLOSE_SESSION, CREATE_SESSION
from corral.quorum.leader import Leader
from corral.quorum.packets import PacketType
from corral.server.connection import Connection
from corral.simulation.invariants import Invariant
from corral.simulation.wire import Hearer

if TYPE_CHECKING:
    from corral.quorum.packets import Packet
    from corral.simulation.invariants import Broke
    from corral.simulation.loop import Timeline
    from corral.simulation.machine import Member
    from corral.simulation.model import Model
    from corral.simulation.network import End
    from corral.simulation.wire import Conversation

_TXN_HEADER: Final = struct.Struct(">qiqqi")
_ROUNDING_S: Final = 0.002
"""Servers count whole milliseconds."""


class _Heard:
    """Of one session: when it was heard of last, and the longest time in which it was not."""

    __slots__ = ("last_s", "longest_s")

    def __init__(self, now_s: float) -> None:
        self.last_s = now_s
        self.longest_s = 0.0

    def hear(self, now_s: float) -> None:
        """It is heard of, or was at that time."""
        self.longest_s = self.silent_s(now_s)
        self.last_s = max(self.last_s, now_s)

    def silent_s(self, now_s: float) -> float:
        """The longest time, this moment included."""
        return max(self.longest_s, now_s - self.last_s)


class _Term:
    """Of one leader."""

    def __init__(self, epoch: int, began_s: float) -> None:
        self.epoch = epoch
        self.began_s = began_s
        self.last_zxid = epoch << 32
        self.sessions: dict[int, _Heard] = {}

    def hear(self, session: int, now_s: float) -> _Heard:
        """Every session that a new leader finds has its timeout from the beginning of the term on."""
        heard = self.sessions.get(session)
        if heard is None:
            heard = self.sessions[session] = _Heard(self.began_s)
        heard.hear(now_s)
        return heard


class Hearing(Hearer):
    """All sessions, as each leader has heard of them."""

    def __init__(self, timeline: Timeline, model: Model, broke: Broke) -> None:
        self._timeline = timeline
        self._model = model
        self._broke = broke
        self._terms: dict[tuple[int, int], _Term] = {}
        """By member and which of its lives."""
        self._untold: defaultdict[int, dict[int, float]] = defaultdict(dict)
        """By learner: of whom it has heard since it last answered a ping."""
        self._under_way: defaultdict[Conversation, deque[dict[int, float]]] = defaultdict(deque)
        """The answers that the leader has not got yet."""

    def __repr__(self) -> str:
        return f"<Hearing of {len(self._terms)} leaders>"

    def server_hears(self, member: Member, end: End) -> None:
        """See the base class."""
        protocol = end.get_protocol()
        if not isinstance(protocol, Connection) or protocol.session is None or member.peer is None:
            return
        session, now_s = protocol.session.id, self._timeline.now
        if isinstance(member.peer.term, Leader):
            term = self._terms.get((member.sid, member.life))
            if term is not None:
                term.hear(session, now_s)
        else:
            self._untold[member.sid][session] = now_s

    def learner_says(self, conversation: Conversation, packet: Packet) -> None:
        """See the base class."""
        if packet.type == PacketType.PING:
            self._under_way[conversation].append(self._untold.pop(conversation.learner.sid, {}))

    def leader_hears(self, conversation: Conversation, packet: Packet) -> None:
        """See the base class."""
        if packet.type == PacketType.PING:
            told = self._under_way[conversation].popleft()
            term = self._terms.get((conversation.leader.sid, conversation.leader_life))
            if term is not None:
                for session, heard_s in told.items():
                    term.hear(session, max(heard_s, term.began_s))

    def leader_says(self, conversation: Conversation, packet: Packet) -> None:
        """See the base class."""
        leader, me = conversation.leader, (conversation.leader.sid, conversation.leader_life)
        match packet.type:
            case PacketType.NEW_LEADER:
                epoch = packet.zxid >> 32
                if me not in self._terms or self._terms[me].epoch != epoch:
                    self._terms[me] = _Term(epoch, self._timeline.now)
            case PacketType.UP_TO_DATE:
                self._untold.pop(conversation.learner.sid, None)
            case PacketType.PROPOSAL if packet.data is not None:
                term = self._terms.get(me)
                if term is not None and packet.zxid > term.last_zxid:
                    term.last_zxid = packet.zxid
                    self._propose(leader, term, packet.data)
            case _:
                pass

    def _propose(self, leader: Member, term: _Term, entry: bytes) -> None:
        session, xid, _, time_ms, kind = _TXN_HEADER.unpack_from(entry)
        now_s = self._timeline.now
        if kind == CREATE_SESSION:
            # It may have waited for the batch before, and counts from when it was asked for.
            waited_s = (leader.clock.wall_ms() - time_ms) / 1000 / leader.clock.rate
            term.sessions[session] = _Heard(min(now_s, max(term.began_s, now_s - waited_s)))
        elif kind == CLOSE_SESSION and xid == 0 and session in self._model.sessions:
            silent_s = term.sessions.get(session, _Heard(term.began_s)).silent_s(now_s) * leader.clock.rate
            if silent_s + _ROUNDING_S < self._model.sessions[session] / 1000:
                self._broke(
                    Invariant.SESSION,
                    f"{leader!r} lets session {session:#x} expire, which was silent for only {silent_s:.3f} s",
                )
