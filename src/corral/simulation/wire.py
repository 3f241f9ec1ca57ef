"""What goes over the wire between leaders and learners, put together to packets.

Each conversation is heard twice: when a program says something, for that is when it must be true, and when the other
one's program gets it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from corral.quorum.packets import Packet, PacketReader, PacketType
from corral.quorum.snapshot_stream import SnapshotStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from corral.simulation.machine import Member
    from corral.simulation.network import End

QUORUM_PORT: Final = 2888
ELECTION_PORT: Final = 3888
CLIENT_PORT: Final = 2181


class _Direction:
    """One direction of a conversation."""

    def __init__(self) -> None:
        self._reader = PacketReader()
        self._tree: SnapshotStream | None = None
        self._said_bytes = 0
        self._heard_bytes = 0
        self._under_way: deque[tuple[int, Packet]] = deque()

    def said(self, data: bytes) -> Iterator[Packet]:
        """The packets that are whole with these bytes."""
        reader = self._reader
        self._said_bytes += len(data)
        reader.feed(data)
        while True:
            if self._tree is not None:
                if not self._tree.feed(reader.take_rest()):
                    return
                reader.put_back(self._tree.rest)
                self._tree = None
            packet = reader.packet()
            if packet is None:
                return
            if packet.type == PacketType.SNAP:
                self._tree = SnapshotStream()
            self._under_way.append((self._said_bytes - reader.unread_bytes, packet))
            yield packet

    def heard(self, size: int) -> Iterator[Packet]:
        """The packets that are whole with so many bytes more."""
        self._heard_bytes += size
        while self._under_way and self._under_way[0][0] <= self._heard_bytes:
            yield self._under_way.popleft()[1]


class Conversation:
    """A learner's connection to its leader, or to who it takes for that."""

    def __init__(self, leader: Member, learner: Member) -> None:
        self.leader = leader
        self.learner = learner
        self.leader_life = leader.life
        self.to_learner = _Direction()
        self.to_leader = _Direction()

    def __repr__(self) -> str:
        return f"<Conversation of leader {self.leader.sid} with {self.learner.sid}>"


class Hearer:
    """Who judges what is said; one that does not care for something leaves it as it is here."""

    def leader_says(self, conversation: Conversation, packet: Packet) -> None:
        """To the learner."""

    def learner_says(self, conversation: Conversation, packet: Packet) -> None:
        """To the leader."""

    def leader_hears(self, conversation: Conversation, packet: Packet) -> None:
        """The leader's program gets it."""

    def says_in_election(self, end: End) -> None:
        """A member says something to another about who is to lead."""

    def server_hears(self, member: Member, end: End) -> None:
        """A member's program gets something of a client."""


class Wire:
    """Sorts what is said by conversations."""

    def __init__(self, member_at: Callable[[str], Member | None], hearers: Sequence[Hearer]) -> None:
        """``member_at`` finds a member by the name of its host."""
        self._member_at = member_at
        self._hearers = hearers
        self._conversations: dict[End, Conversation | None] = {}
        """By either end."""

    def sent(self, end: End, data: bytes) -> None:
        """See :class:`corral.simulation.network.Listening`."""
        if end.port == ELECTION_PORT:
            for hearer in self._hearers:
                hearer.says_in_election(end)
        if end.port != QUORUM_PORT or (conversation := self._conversation(end)) is None:
            return
        if end.host is conversation.leader.host:
            for packet in conversation.to_learner.said(data):
                for hearer in self._hearers:
                    hearer.leader_says(conversation, packet)
        else:
            for packet in conversation.to_leader.said(data):
                for hearer in self._hearers:
                    hearer.learner_says(conversation, packet)

    def received(self, end: End, data: bytes) -> None:
        """See :class:`corral.simulation.network.Listening`."""
        if end.port == CLIENT_PORT and (member := self._member_at(end.host.name)) is not None:
            for hearer in self._hearers:
                hearer.server_hears(member, end)
        elif end.port == QUORUM_PORT and (conversation := self._conversation(end)) is not None:
            if end.host is conversation.leader.host:
                for packet in conversation.to_leader.heard(len(data)):
                    for hearer in self._hearers:
                        hearer.leader_hears(conversation, packet)
            else:
                for _ in conversation.to_learner.heard(len(data)):
                    continue

    def _conversation(self, end: End) -> Conversation | None:
        if end in self._conversations:
            return self._conversations[end]
        accepting, asking = (end.other, end) if end.peer[1] == QUORUM_PORT else (end, end.other)
        leader, learner = self._member_at(accepting.host.name), self._member_at(asking.host.name)
        conversation = None
        if leader is not None and learner is not None:
            conversation = Conversation(leader, learner)
        self._conversations[end] = self._conversations[end.other] = conversation
        return conversation
