"""The names of what must always be true. A violation begins with the name of what it violates.

Those of the protocol are named as in ZooKeeper's published specifications: ``Zab.tla`` and ``ZkV3_7_0.tla`` of the
project itself, and the finer ones of Ouyang et al. (EuroSys 2025, doi 10.1145/3689031.3696069). Two of them need no
check of their own: Agreement and TotalOrder follow from PrefixConsistency, since whatever a member applies is compared
with one single order.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class Invariant(StrEnum):
    """What must be true."""

    # What members say to each other, and when they may

    MESSAGE_LEGAL = "MessageLegal"
    """Nobody says what has no place at that point of a leader's and a learner's conversation."""
    PROPOSAL_CONSISTENT = "ProposalConsistent"
    """What a leader sends to a learner begins where the learner's history ends, and has no hole."""
    COMMIT_CONSISTENT = "CommitConsistent"
    """A leader commits the oldest of what it has proposed to a learner."""
    ACK_CONSISTENT = "AckConsistent"
    """A follower acknowledges what was proposed to it, in that order, and the leader's history before that."""
    STATE_CONSISTENT = "StateConsistent"
    """No member promises an epoch twice, or one that is older than what it has promised already."""
    DURABLE_PROMISE = "DurablePromise"
    """The promise of an epoch is on disk before it is given."""
    DURABLE_HISTORY = "DurableHistory"
    """The leader's history is on disk, and so is the epoch, before that history is acknowledged."""
    DURABLE_ACK = "DurableAck"
    """A transaction is on disk before it is acknowledged."""
    PROCESS_CONSISTENCY = "ProcessConsistency"
    """The history of which a member tells is the one on its disk, and will outlive the power."""
    COMMIT_COMPLETENESS = "CommitCompleteness"
    """What is committed is on the disks of a quorum, the leader's among them; so is what a leader begins with."""
    LEADERSHIP = "Leadership"
    """Who leads an epoch has the promise of a quorum, and no epoch ever has two leaders."""

    CALM = "Calm"
    """An election is a matter of a few words: members do not go on answering each other."""

    # What members apply

    INTEGRITY = "Integrity"
    """Nobody applies what no leader has proposed."""
    PREFIX_CONSISTENCY = "PrefixConsistency"
    """All that members have applied are beginnings of one and the same history."""
    LOCAL_PRIMARY_ORDER = "LocalPrimaryOrder"
    """The transactions of an epoch are applied as they were proposed: in order, and from the first one on."""
    GLOBAL_PRIMARY_ORDER = "GlobalPrimaryOrder"
    """No transaction of an older epoch comes after one of a newer epoch."""
    PRIMARY_INTEGRITY = "PrimaryIntegrity"
    """A leader has everything that older epochs have committed before it proposes anything."""
    DAMAGE = "Damage"
    """What a disk has spoiled is noticed, and told with file and offset; or it was not needed."""
    DIGEST = "Digest"
    """Trees that have come equally far have the same digest."""

    # What the one history is

    SEQUENTIAL = "Sequential"
    """Each transaction does to the tree what it may do in the state that the ones before have left."""
    SEQUENCE = "Sequence"
    """The numbers of sequential znodes are counted without a gap, and none is given twice."""
    EPHEMERAL = "Ephemeral"
    """A session's end deletes all its ephemeral znodes, and nothing else.

    After it a session does nothing, but it may end once more.
    """
    SESSION = "Session"
    """No session ends of which its leader has heard within the timeout, unless its client wanted it."""

    # What clients are told

    ACKNOWLEDGED = "Acknowledged"
    """What was acknowledged is in the history once; what was refused is not; what is not known, at most once."""
    REAL_TIME = "RealTime"
    """A write that was begun after another one was acknowledged comes after it."""
    CLIENT_ORDER = "ClientOrder"
    """The writes of a session are done in the order in which its client asked for them, over all its connections."""
    READ = "Read"
    """Who reads sees what was there at one moment: none that has not come yet, and none before what it knew of."""
    REFUSAL = "Refusal"
    """What is refused is refused for what was so at a moment of which the client can have been told."""
    WATCH = "Watch"
    """A watch tells of each change after it was set, in order, once, and before any reply that shows it."""

    # All the time, and at the end

    PROGRAM = "Program"
    """No program fails by itself, ends without a fault of its disk, or does not speak the protocol."""
    REPLICAS = "Replicas"
    """In the end all members hold the same, and it is what the history leads to."""
    LIVENESS = "Liveness"
    """After everything has healed all members serve, and every client can write and read."""


class Broke(Protocol):
    """Who is told that something is wrong."""

    def __call__(self, invariant: Invariant, what: str) -> None:
        """``what`` tells who did it, and what was seen."""
