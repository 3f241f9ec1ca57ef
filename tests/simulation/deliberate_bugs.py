"""Bugs put into the servers on purpose, one at a time: a simulation that does not find them proves nothing.

Most have been real ones, of Apache's server; the numbers are those of its tracker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from corral.client import Client
from corral.jute.errors import BadVersionError
from corral.jute.ops import OpCode
from corral.jute.records import CloseSessionTxn
from corral.quorum import broadcast, confirmation
from corral.quorum.counting import Acknowledgements
from corral.quorum.election import Election
from corral.quorum.history import History, HistoryOnDisk, PromiseOnDisk, apply
from corral.quorum.leader import Leader
from corral.quorum.learner import Learning
from corral.quorum.learner_link import Learner
from corral.quorum.packets import ACK, PacketType, pack, pack_bare
from corral.quorum.serving import LeaderServer, LearnerSessions, answer
from corral.quorum.snapshot_stream import SnapshotStream
from corral.quorum.sync_plan import plan_sync
from corral.quorum.vote import Notification, Role, Vote
from corral.server.connection import Connection
from corral.server.database import Database
from corral.server.handshake import Handshakes
from corral.server.log_sync import LogSync
from corral.server.reads import READS
from corral.server.sessions import SessionTracker
from corral.simulation import faults, workload
from corral.simulation.faults import LONGEST_S, Nemesis
from corral.simulation.invariants import Invariant
from corral.simulation.machine import SimulatedClock
from corral.simulation.network import Host, Network
from corral.simulation.run import Scenario
from corral.storage.txnlog import TxnLogWriter, directory
from corral.storage.txnlog.ending import Ending, EndKind, examine_ending
from corral.tree.datatree import DataTree
from corral.tree.pending import PendingStates
from corral.tree.prepare import Preparer

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Bug:
    """How to make it, the faults that bring it out, and within how many seeds it is found."""

    make: Callable[[Patch], None]
    kinds: tuple[str, ...]
    within: int
    finds: Invariant
    """What must be said to be violated, before anything else."""
    servers: int = 3
    clients: int = 3
    seconds: float = 20.0
    pause_s: float = 0.1
    observers: int = 0
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def scenario(self) -> Scenario:
        """In which it is looked for."""
        return Scenario(
            self.servers,
            self.observers,
            self.clients,
            self.seconds,
            kinds=self.kinds,
            pause_s=self.pause_s,
            settings=dict(self.settings),
        )

    @property
    def name(self) -> str:
        return self.make.__name__.replace("_", " ")


NO_DIGESTS = (("digest.enabled", "false"),)
"""For what digests tell before anything else does."""
POWER = ("lose power", "lose power in a call", "lose power everywhere")


def acknowledged_before_fsync(patch: Patch) -> None:
    """A batch counts as durable when it is handed over."""
    write = LogSync.write

    def hasty(self: LogSync, batch: Any, done: Callable[[], None]) -> None:
        write(self, batch, lambda: None)
        self._loop.call_soon(done)

    patch.setattr(LogSync, "write", hasty)


def log_never_synced(patch: Patch) -> None:
    """Batches are written and left to the page cache."""
    patch.setattr(TxnLogWriter, "_sync", lambda self, file: None)


def page_cache_believed(patch: Patch) -> None:
    """Recovery does not sync what it reads back, nor write the snapshot that would hold it all."""
    write = Database._write_first_snapshot

    def write_if_needed(self: Database, *, is_needed: bool) -> None:
        if is_needed:
            write(self, is_needed=True)

    patch.setattr(Database, "_write_first_snapshot", write_if_needed)
    patch.setattr(directory, "sync_log", lambda path, filesystem: None)


def follower_acknowledges_what_it_has_not_logged(patch: Patch) -> None:
    """The ACK leaves with the proposal's arrival."""
    take = Learning._take_proposals

    def hasty(self: Learning, proposals: Sequence[tuple[int, bytes]]) -> None:
        take(self, proposals)
        self._stream.write(pack_bare(ACK, [zxid for zxid, _ in proposals]))

    patch.setattr(Learning, "_take_proposals", hasty)


def epoch_written_before_history(patch: Patch) -> None:
    """ZOOKEEPER-4643: currentEpoch is on disk before the history that belongs to it."""
    take = Learning._take_history

    async def hasty(self: Learning, base: HistoryOnDisk) -> Any:
        self.history.enter(self.epoch, base)
        return await take(self, base)

    patch.setattr(Learning, "_take_history", hasty)


def new_leader_acknowledged_before_history(patch: Patch) -> None:
    """ZOOKEEPER-3911: NEWLEADER is acknowledged while the history is on its way to the disk."""

    async def hasty(self: History, transactions: Sequence[tuple[int, bytes]]) -> HistoryOnDisk:
        new = [each for each in transactions if each[0] > self.tree.last_zxid]
        for zxid, entry in new:
            self.database.append(zxid, entry)
            apply(self.tree, zxid, entry)
            self.note([(zxid, entry)])
        if new:
            asyncio.get_running_loop().call_later(0.5, _sync_if_open, self.database)
        return HistoryOnDisk(self.tree.last_zxid)

    def _sync_if_open(database: Database) -> None:
        if database.txn_log._segments:
            database.sync(lambda: None)

    patch.setattr(History, "append", hasty)


def committed_without_quorum(patch: Patch) -> None:
    """The leader's own log is enough."""
    patch.setattr(broadcast, "is_quorum", lambda ensembles, sids: True)


def promise_not_kept(patch: Patch) -> None:
    """acceptedEpoch is forgotten: two leaders get the same epoch."""
    patch.setattr(History, "promise", lambda self, epoch: PromiseOnDisk(epoch))


def snapshot_kept_after_truncation(patch: Patch) -> None:
    """ZOOKEEPER-4837: a snapshot brings back what was cut off."""
    patch.setattr(History, "_remove_snapshots_after", lambda self, zxid: None)


def hole_in_recent_history(patch: Patch) -> None:
    """ZOOKEEPER-4925: what was in the log and not committed is missing in memory."""

    async def settle(self: History) -> None:
        before = len(self.recent)
        await original(self)
        while len(self.recent) > before:
            self.recent.pop()

    original = History.settle
    patch.setattr(History, "settle", settle)
    patch.setattr(History, "note", lambda self, transactions: self.recent.extend(transactions))


def log_not_settled_before_election(patch: Patch) -> None:
    """ZOOKEEPER-2845: a member says less of its history than it has in its log."""

    async def settle(self: History) -> None:
        await self.database.settle()

    patch.setattr(History, "settle", settle)


def sessions_never_expire(patch: Patch) -> None:
    """Nobody ends the session of a client that is gone."""
    patch.setattr(SessionTracker, "take_expired", lambda self, now_ms: [])


def clocks_that_disagree(patch: Patch) -> None:
    """No bug: a leader that is cut off believes for long that it leads, and the others soon that it does not."""
    patch.setattr(workload, "READERS", 0.8)
    _scale(patch, Leader, "sync_limit", 3.6)
    _scale(patch, Learning, "sync_limit", 0.4)
    # Long enough for the leader not to see the end of sessions that have gone on elsewhere.
    _scale(patch, workload.Worker, "session_timeout_s", 2.0)


def _scale(patch: Patch, made: type, name: str, factor: float) -> None:
    """Let a limit be larger or smaller for whoever is made."""
    begin: Callable[..., None] = made.__init__  # type: ignore[misc]

    def scaled(self: object, *args: Any, **named: Any) -> None:
        named[name] = int(factor * named[name])
        begin(self, *args, **named)

    patch.setattr(made, "__init__", scaled)


def clients_that_move(patch: Patch) -> None:
    """No bug: connections of clients break all the time, and those of members never."""

    def break_one(self: Nemesis) -> bool:
        ends = [end for end in self._network.ends if not end.is_lost and end.host.name in self._client_names]
        if ends:
            self._chance.choice(ends).break_off()
        return bool(ends)

    patch.setattr(faults, "MEAN_PAUSES_S", (0.15,))
    patch.setattr(Nemesis, "_break_connections", break_one)


def cuts_that_last(patch: Patch) -> None:
    """No bug: networks heal late."""
    cut = Nemesis._cut

    def cut_longer(self: Nemesis, links: set[tuple[str, str]], what: str, longest_s: float = LONGEST_S) -> None:
        cut(self, links, what, 3 * longest_s)

    patch.setattr(Nemesis, "_cut", cut_longer)


def members_that_are_far_apart(patch: Patch) -> None:
    """No bug: clients have come to another member before their last request has come to the leader."""
    delay = Network.delay

    def longer(self: Network, source: Host, target: Host) -> float:
        is_far = all(host.name.startswith("server-") for host in (source, target))
        return delay(self, source, target) + (self.chance.expovariate(20) if is_far else 0)

    patch.setattr(Network, "delay", longer)


def request_of_a_session_that_has_moved_is_done(patch: Patch) -> None:
    """What was still on its way over another member comes after what the client has asked since."""
    clients_that_move(patch)
    members_that_are_far_apart(patch)
    patch.setattr(LeaderServer, "_has_moved", lambda self, session, owner: False)


def client_that_has_seen_more_is_served(patch: Patch) -> None:
    """lastZxidSeen is not looked at: a client goes back in time when it comes to a leader that was replaced."""
    clocks_that_disagree(patch)
    clients_that_move(patch)
    cuts_that_last(patch)
    connect = Handshakes._connect

    def careless(self: Handshakes, connection: Any, request: Any) -> None:
        request.last_zxid_seen = 0
        connect(self, connection, request)

    patch.setattr(Handshakes, "_connect", careless)


def sync_answered_from_memory(patch: Patch) -> None:
    """ZOOKEEPER-1675, 3600: a leader does not ask whether it still leads."""
    clocks_that_disagree(patch)
    patch.setattr(confirmation, "is_quorum", lambda ensembles, sids: True)


def ephemerals_left_behind(patch: Patch) -> None:
    """The end of a session deletes nothing on members that learn of it."""
    close = DataTree._close_session

    def careless(self: DataTree, session_id: int, zxid: int, record: bytes, start: int) -> None:
        kept = self.ephemerals.pop(session_id, None)
        close(self, session_id, zxid, b"\0\0\0\0", 0)
        if kept:
            self.ephemerals[session_id] = kept

    patch.setattr(DataTree, "_close_session", careless)


def served_before_the_leader_says_so(patch: Patch) -> None:
    """A follower takes clients while the leader still waits for a quorum to have its history."""

    async def hasty(self: Learning) -> None:
        self.history.show(self._elector.election.committed)
        await self._start_serving()
        while (packet := await self._stream.read()).type != PacketType.UP_TO_DATE:
            self._take([packet])

    patch.setattr(Learning, "_become_served", hasty)


def who_is_brought_into_step_misses_what_is_proposed(patch: Patch) -> None:
    """The published proof's first find: proposals go only to those that are in step already."""
    send = Learner.send

    def careless(self: Learner, data: bytes) -> None:
        if self._held is None:
            send(self, data)

    patch.setattr(Learner, "send", careless)


def first_that_a_learner_lacks_is_left_out(patch: Patch) -> None:
    """ZOOKEEPER-4785: a DIFF with a hole where it begins."""

    def careless(*arguments: Any, **options: Any) -> Any:
        plan = plan_sync(*arguments, **options)
        return plan._replace(transactions=plan.transactions[1:])

    patch.setattr("corral.quorum.leader.plan_sync", careless)


def batch_acknowledged_by_its_last_transaction(patch: Patch) -> None:
    """One ACK for many proposals."""
    patch.setattr("corral.quorum.learner.pack_bare", lambda kind, zxids: pack(kind, list(zxids)[-1]))


def epoch_promised_twice(patch: Patch) -> None:
    """A member takes for its promise the epoch that it has entered."""
    patch.setattr(History, "accepted_epoch", property(lambda self: self.current_epoch))


def promises_not_waited_for(patch: Patch) -> None:
    """Who is elected leads, whoever has promised to follow."""
    made = 0

    def make(ensembles: Any) -> Acknowledgements:
        nonlocal made
        made += 1
        acknowledgements = Acknowledgements(ensembles)
        if made % 2:
            acknowledgements.enough.set_result(None)
        return acknowledgements

    patch.setattr("corral.quorum.leader.Acknowledgements", make)


def transaction_stamped_with_the_followers_time(patch: Patch) -> None:
    """What is logged and applied is not what was proposed."""
    take = Learning._take_proposals

    def stamped(self: Learning, proposals: Sequence[tuple[int, bytes]]) -> None:
        now = self.history.database.machine.clock.wall_ms().to_bytes(8, "big", signed=True)
        take(self, [(zxid, entry[:20] + now + entry[28:]) for zxid, entry in proposals])

    patch.setattr(Learning, "_take_proposals", stamped)


def histories_not_compared(patch: Patch) -> None:
    """ZOOKEEPER-1154, 1156: the largest id wins the election, and its leader cuts off what others have more."""
    patch.setattr(Vote, "beats", lambda self, other, ensemble: self.leader > other.leader)
    patch.setattr(Leader, "_state", property(lambda self: (1 << 31, 1 << 62), lambda self, value: None), raising=False)


def digest_not_in_the_tree_that_is_sent(patch: Patch) -> None:
    """Who gets the whole tree begins to count its digest from nothing."""
    tree_of = SnapshotStream.tree

    def without(self: SnapshotStream, *arguments: Any, **options: Any) -> DataTree:
        tree = tree_of(self, *arguments, **options)
        tree.digest = 0
        return tree

    patch.setattr(SnapshotStream, "tree", without)


def prepared_from_what_is_applied(patch: Patch) -> None:
    """What is on its way to the disk is not looked at."""

    def hand_over(self: PendingStates) -> None:
        self.gathered.clear()
        self.settled.clear()
        self.under_way.appendleft({})

    patch.setattr(PendingStates, "hand_over", hand_over)


def counter_of_children_not_in_the_tree_that_is_sent(patch: Patch) -> None:
    """A sequence number is given out again after a SNAP: the counter begins with the number of children."""
    tree_of = SnapshotStream.tree

    def without(self: SnapshotStream, *arguments: Any, **options: Any) -> DataTree:
        tree = tree_of(self, *arguments, **options)
        queue = tree.nodes.get(b"/queue")
        if queue is not None and queue.children is not None:
            queue.children.cversion = len(queue.children.paths)
            queue.children.stale = True
        return tree

    patch.setattr(SnapshotStream, "tree", without)


def end_of_a_session_lists_nothing(patch: Patch) -> None:
    """ZOOKEEPER-1367: a session ends, and its ephemeral znodes stay for ever."""
    close = Preparer._close_session

    def careless(self: Preparer, session_id: int, zxid: int) -> bytes:
        close(self, session_id, zxid)
        return CloseSessionTxn([]).to_bytes()

    patch.setattr(Preparer, "_close_session", careless)


def learner_does_not_tell_whom_it_has_heard(patch: Patch) -> None:
    """The leader lets sessions expire whose clients are well, and connected elsewhere."""
    patch.setattr(LearnerSessions, "take_touched", lambda self: b"")


def sessions_expire_by_the_wall_clock(patch: Patch) -> None:
    """Somebody sets the clock, and sessions are over."""
    patch.setattr(SimulatedClock, "monotonic_ms", lambda self: self.wall_ms())


def writes_asked_again(patch: Patch) -> None:
    """A client repeats what it has no answer to when the connection is back."""
    submit = Client.submit

    def again(self: Client, *arguments: Any, repeatable: bool, **options: Any) -> Any:
        return submit(self, *arguments, repeatable=True, **options)

    patch.setattr(Client, "submit", again)


def condition_on_the_next_version(patch: Patch) -> None:
    """A write is refused because the znode does not have the version yet that it would make."""

    def next_version(current: int, expected: int) -> int:
        if expected not in (-1, current + 1):
            raise BadVersionError
        return current + 1

    patch.setattr("corral.tree.prepare._next_version", next_version)


def watches_not_set_anew(patch: Patch) -> None:
    """setWatches is answered and forgotten: a session that moves loses its watches."""
    for operation in (OpCode.SET_WATCHES, OpCode.SET_WATCHES2):
        patch.setitem(READS, operation, lambda server, connection, body: b"")


def watches_fire_twice(patch: Patch) -> None:
    """Everybody is told of everything once more."""
    deliver = Connection.deliver

    def twice(self: Connection, *event: Any) -> None:
        deliver(self, *event)
        deliver(self, *event)

    patch.setattr(Connection, "deliver", twice)


def events_come_after_replies(patch: Patch) -> None:
    """An event waits for the next turn of the loop, and replies overtake it."""
    deliver = Connection.deliver

    def later(self: Connection, *event: Any) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(deliver, self, *event)
        loop.call_soon(self.server.pipeline.flush)

    patch.setattr(Connection, "deliver", later)


def watches_told_of_what_was_before(patch: Patch) -> None:
    """What a member applies before it serves is kept for those who watch later: found by these simulations."""
    apply_whole = DataTree.apply

    def noting(self: DataTree, *transaction: Any) -> bytes:
        self.notes_changes = True
        return apply_whole(self, *transaction)

    patch.setattr(DataTree, "apply", noting)


def damage_taken_for_the_end(patch: Patch) -> None:
    """Whatever cannot be read in a log is what a crash has left."""

    def careless(*arguments: Any) -> Ending:
        return replace(examine_ending(*arguments), kind=EndKind.CLEAN)

    patch.setattr("corral.storage.txnlog.reader.examine_ending", careless)


def votes_answered_whatever_they_are(patch: Patch) -> None:
    """As Apache's servers do it if one holds the other to be no voter, and that one is in a later round."""
    receive = Election.receive

    def chatty(self: Election, sender: int, notification: Notification, now: float) -> list[Any]:
        both_look = self.role is notification.role is Role.LOOKING
        if both_look:
            self._answer(sender, self.vote)
        return receive(self, sender, notification, now)

    patch.setattr(Election, "receive", chatty)


def replies_overtake_each_other(patch: Patch) -> None:
    """ZOOKEEPER-1863: who asks for several things at once gets the last answer first."""

    def hasty(connection: Connection, *reply: Any) -> None:
        before = len(connection.out)
        answer(connection, *reply)
        connection.out[:] = connection.out[before:] + connection.out[:before]

    patch.setattr("corral.quorum.serving.answer", hasty)


BUGS = (
    Bug(acknowledged_before_fsync, (*POWER, "slow disk"), 5, Invariant.DURABLE_ACK, pause_s=0.03),
    Bug(log_never_synced, POWER, 5, Invariant.DURABLE_ACK),
    Bug(page_cache_believed, ("failing disk",), 5, Invariant.PROCESS_CONSISTENCY, pause_s=0.03),
    Bug(follower_acknowledges_what_it_has_not_logged, ("slow disk",), 5, Invariant.DURABLE_ACK),
    Bug(new_leader_acknowledged_before_history, (*POWER, "partition"), 10, Invariant.DURABLE_HISTORY),
    Bug(promise_not_kept, ("partition", "kill", "pause"), 5, Invariant.DURABLE_PROMISE),
    Bug(epoch_promised_twice, ("lose power in a call", "partition"), 30, Invariant.STATE_CONSISTENT),
    Bug(promises_not_waited_for, ("kill", "partition"), 20, Invariant.LEADERSHIP, servers=5),
    Bug(committed_without_quorum, ("partition", "kill"), 5, Invariant.COMMIT_COMPLETENESS),
    Bug(log_not_settled_before_election, ("partition", "kill"), 30, Invariant.PROCESS_CONSISTENCY),
    Bug(served_before_the_leader_says_so, ("kill", "slow link", "pause"), 40, Invariant.MESSAGE_LEGAL, servers=5),
    Bug(first_that_a_learner_lacks_is_left_out, ("kill",), 10, Invariant.PROPOSAL_CONSISTENT, pause_s=0.03),
    Bug(who_is_brought_into_step_misses_what_is_proposed, ("kill",), 20, Invariant.COMMIT_CONSISTENT, pause_s=0.03),
    Bug(batch_acknowledged_by_its_last_transaction, ("kill",), 5, Invariant.ACK_CONSISTENT),
    Bug(transaction_stamped_with_the_followers_time, ("clock",), 5, Invariant.INTEGRITY),
    Bug(votes_answered_whatever_they_are, ("partition", "kill several"), 20, Invariant.CALM, servers=5),
    Bug(hole_in_recent_history, ("partition", "kill"), 30, Invariant.PREFIX_CONSISTENCY),
    Bug(histories_not_compared, ("kill", "partition"), 20, Invariant.PRIMARY_INTEGRITY),
    Bug(epoch_written_before_history, ("lose power in a call", "partition"), 120, Invariant.DURABLE_HISTORY),
    Bug(digest_not_in_the_tree_that_is_sent, ("kill", "partition"), 20, Invariant.DIGEST),
    Bug(prepared_from_what_is_applied, ("kill",), 5, Invariant.SEQUENTIAL, pause_s=0.03),
    Bug(counter_of_children_not_in_the_tree_that_is_sent, ("kill",), 40, Invariant.SEQUENCE, settings=NO_DIGESTS),
    Bug(end_of_a_session_lists_nothing, ("kill client",), 5, Invariant.EPHEMERAL),
    Bug(learner_does_not_tell_whom_it_has_heard, ("kill",), 5, Invariant.SESSION),
    Bug(sessions_expire_by_the_wall_clock, ("clock",), 20, Invariant.SESSION),
    Bug(writes_asked_again, ("break connections",), 10, Invariant.ACKNOWLEDGED, pause_s=0.03),
    Bug(
        request_of_a_session_that_has_moved_is_done,
        ("break connections",),
        10,
        Invariant.CLIENT_ORDER,
        clients=4,
        seconds=15.0,
        pause_s=0.02,
    ),
    Bug(condition_on_the_next_version, ("kill",), 5, Invariant.REFUSAL),
    Bug(watches_not_set_anew, ("break connections",), 5, Invariant.WATCH),
    Bug(watches_fire_twice, ("kill",), 5, Invariant.WATCH),
    Bug(events_come_after_replies, ("kill",), 5, Invariant.WATCH),
    Bug(watches_told_of_what_was_before, ("kill",), 20, Invariant.WATCH),
    Bug(sync_answered_from_memory, ("partition", "isolate the leader"), 60, Invariant.READ, clients=6, pause_s=0.2),
    Bug(
        client_that_has_seen_more_is_served,
        ("isolate the leader", "break connections"),
        60,
        Invariant.READ,
        clients=4,
    ),
    Bug(sessions_never_expire, ("kill client",), 5, Invariant.LIVENESS),
    Bug(ephemerals_left_behind, ("kill",), 5, Invariant.DIGEST),
    Bug(ephemerals_left_behind, ("kill",), 5, Invariant.REPLICAS, settings=NO_DIGESTS),
    Bug(damage_taken_for_the_end, ("bad sector", "kill"), 20, Invariant.DAMAGE),
    Bug(snapshot_kept_after_truncation, ("partition", "kill", "cut one way"), 150, Invariant.PROGRAM),
    Bug(replies_overtake_each_other, ("kill",), 5, Invariant.PROGRAM),
)
