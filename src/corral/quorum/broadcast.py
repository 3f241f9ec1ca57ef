"""How a leader's transactions are committed: proposed to all, in the log of a quorum, then announced.

A batch is one write to each follower, one sync in each log, and one announcement. Several may be under way: a batch is
proposed whether or not those before it are committed, and the log takes, whenever it is free, what was proposed.
Sources: Leader, ProposalRequestProcessor; the grouping is ours.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from corral.quorum.counting import is_quorum
from corral.quorum.packets import COMMIT, INFORM, PROPOSAL, PacketType, pack, pack_bare, pack_transactions
from corral.quorum.reconfiguration import is_reconfiguration, read_reconfiguration
from corral.server.stats import ReplySizes
from corral.storage.txnlog import entry_age_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.quorum.confirmation import Confirmation
    from corral.quorum.ensemble import Ensemble
    from corral.quorum.history import History


class Listener(Protocol):
    """A learner to whom everything is forwarded."""

    sid: int
    is_observer: bool

    def send(self, data: bytes) -> None:
        """Send packets; never waits."""


class _Sync(NamedTuple):
    """A sync that a learner has asked for: it is answered when both are reached, and in the order of asking."""

    listener: Listener
    packet: bytes
    after: int
    """The transaction behind which it stands."""
    round: int
    """What confirms that this leader led when it was asked; 0: the commit of that transaction, proposed later."""


class _Batch(NamedTuple):
    """What is proposed, and committed, together."""

    transactions: list[tuple[int, bytes]]
    done: Callable[[], None]

    @property
    def last_zxid(self) -> int:
        return self.transactions[-1][0]


class Broadcast:
    """The commitment of a leader's pipeline. ``me`` is one of the quorum like any other."""

    def __init__(
        self,
        me: int,
        history: History,
        ensembles: Callable[[], Sequence[Ensemble]],
        propose: Callable[[Ensemble], None],
        activate: Callable[[Ensemble, int], None],
        confirmation: Confirmation,
    ) -> None:
        """``propose`` is told of a configuration whose quorum is needed from now on, and ``activate`` of one that is
        committed, and of who is to lead with it."""
        self.me = me
        self._history = history
        self._ensembles = ensembles
        self.listeners: dict[int, Listener] = {}
        self._gathered: list[tuple[int, bytes]] = []
        self._under_way: deque[_Batch] = deque()
        self._is_logging = False
        self._logged_zxid = 0
        """Of the last transaction that was handed to the log."""
        self._acknowledged: dict[int, int] = {}
        """How far the log of each is known to reach."""
        self._is_stopped = False
        self.reconfigured: dict[int, Ensemble] = {}
        """The configurations that are on their way, by the zxids of their transactions."""
        self._propose = propose
        self._activate = activate
        self.last_proposed = history.last_zxid
        self.proposal_sizes = ReplySizes()
        self.confirmation = confirmation
        self._committed = history.last_zxid
        self._syncs: deque[_Sync] = deque()

    def append(self, zxid: int, entry: bytes) -> None:
        """Take a transaction for the next batch."""
        self._gathered.append((zxid, entry))
        if is_reconfiguration(entry):
            ensemble = self.reconfigured[zxid] = read_reconfiguration(entry)
            self._propose(ensemble)

    def sync(self, done: Callable[[], None]) -> None:
        """Propose what has gathered, and call ``done`` when it is committed."""
        batch = self._gathered
        self._gathered = []
        self._under_way.append(_Batch(batch, done))
        self.last_proposed = batch[-1][0]
        self._history.database.stats.count("proposal_count", len(batch))
        lengths = [len(entry) for _, entry in batch]
        for length in (min(lengths), max(lengths), lengths[-1]):
            self.proposal_sizes.add(length)
        self._history.database.extend(batch)
        proposals = pack_transactions(PROPOSAL, batch)
        for listener in list(self.listeners.values()):
            if not listener.is_observer:
                listener.send(proposals)
        if not self._is_logging:
            self._log()

    @property
    def under_way(self) -> list[tuple[int, bytes]]:
        """Proposed to all, and not committed."""
        return [each for batch in self._under_way for each in batch.transactions]

    def _log(self) -> None:
        """Let the log have what was proposed meanwhile."""
        self._is_logging = True
        self._logged_zxid = self.last_proposed
        self._history.database.sync(self._logged)

    def _logged(self) -> None:
        durable_zxid = self._logged_zxid
        self._is_logging = False
        if self._is_stopped:
            return
        if durable_zxid < self.last_proposed:
            self._log()
        for batch in self._under_way:
            if batch.last_zxid <= durable_zxid:
                self._note("proposal_ack_creation_latency", batch.transactions)
        self.acknowledge(self.me, durable_zxid)

    def _note(self, name: str, batch: Sequence[tuple[int, bytes]]) -> None:
        """How long it took so far: of the oldest, for all of them."""
        database = self._history.database
        database.stats.note(name, entry_age_ms(batch[0][1], database.machine.clock.wall_ms()), len(batch))

    def sync_with(self, listener: Listener, data: bytes | None) -> None:
        """Send a learner a SYNC with ``data``: behind all that was submitted before, and before all that comes later.

        And only when it is certain that no other leader had committed anything until now.
        """
        packet = pack(PacketType.SYNC, 0, data)
        if self._gathered:
            # Who acknowledges what is proposed from now on has not left this leader until now.
            self._syncs.append(_Sync(listener, packet, self._gathered[-1][0], 0))
        else:
            number = self.confirmation.ask(self._release_syncs)
            self._syncs.append(_Sync(listener, packet, self.last_proposed, number))

    def _release_syncs(self) -> None:
        """Send the SYNCs that waited for nothing but the round."""
        packets: dict[Listener, list[bytes]] = {}
        for each in self._take_syncs(self._committed, 0):
            packets.setdefault(each.listener, []).append(each.packet)
        for listener, several in packets.items():
            if self.listeners.get(listener.sid) is listener:
                listener.send(b"".join(several))

    def _take_syncs(self, committed: int, first: int) -> list[_Sync]:
        """Those that are due when ``committed`` is, together with all that was proposed from ``first`` on."""
        due: list[_Sync] = []
        syncs = self._syncs
        confirmed = self.confirmation.confirmed
        while syncs and syncs[0].after <= committed and (syncs[0].round <= confirmed or syncs[0].after < first):
            due.append(syncs.popleft())
        return due

    @property
    def pending_syncs(self) -> int:
        """How many learners wait for a sync."""
        return len(self._syncs)

    @property
    def awaits_own_disk_at(self) -> int:
        """The end of the oldest batch if it is in the logs of a quorum, but not in this one's; 0 otherwise."""
        last_zxid = self._under_way[0].last_zxid if self._under_way else 0
        durable = self._durable(last_zxid)
        return last_zxid if self.me not in durable and is_quorum(self._ensembles(), durable) else 0

    def _durable(self, zxid: int) -> list[int]:
        return [sid for sid, reached in self._acknowledged.items() if reached >= zxid]

    def acknowledge(self, sid: int, zxid: int) -> None:
        """The log of ``sid`` is known to be durable up to ``zxid``."""
        if zxid > self._acknowledged.get(sid, -1):
            self._acknowledged[sid] = zxid
        under_way = self._under_way
        while under_way and zxid >= under_way[0].last_zxid and not self._is_stopped:
            durable = self._durable(under_way[0].last_zxid)
            # What is committed can be read from the leader's own log.
            if self.me not in durable or not is_quorum(self._ensembles(), durable):
                break
            self._commit(*under_way.popleft())

    def _commit(self, batch: list[tuple[int, bytes]], done: Callable[[], None]) -> None:
        self._history.database.stats.count("commit_count", len(batch))
        self._note("quorum_ack_latency", batch)
        changes: list[tuple[int, Ensemble]] = []
        if self.reconfigured:
            changes = [(zxid, self.reconfigured.pop(zxid)) for zxid, _ in batch if zxid in self.reconfigured]
        leaders = {zxid: self._leader_of(ensemble, batch[-1][0]) for zxid, ensemble in changes}
        self._committed = batch[-1][0]
        due = self._take_syncs(self._committed, batch[0][0])
        if changes or due:
            self._announce_each(batch, leaders, due)
        else:
            commits = pack_bare(COMMIT, [zxid for zxid, _ in batch])
            informs = b""
            for listener in list(self.listeners.values()):
                if listener.is_observer:
                    informs = informs or pack_transactions(INFORM, batch)
                    listener.send(informs)
                else:
                    listener.send(commits)
        self._history.note(batch)
        done()
        for zxid, ensemble in changes:
            self._activate(ensemble, leaders[zxid])

    def _announce_each(self, batch: list[tuple[int, bytes]], leaders: dict[int, int], due: Sequence[_Sync]) -> None:
        """Tell the learners of a batch in which members change, or after which some wait for a sync."""
        commits = [_commit_packet(zxid, leaders.get(zxid)) for zxid, _ in batch]
        informs = [_inform_packet(*each, leaders.get(each[0])) for each in batch]
        for listener in list(self.listeners.values()):
            syncs = [each for each in due if each.listener is listener]
            listener.send(_with_syncs(batch, informs if listener.is_observer else commits, syncs))

    def _leader_of(self, ensemble: Ensemble, zxid: int) -> int:
        """Who is to lead with other members: this one if it may, else one of those that have everything."""
        if self.me in ensemble.voters:
            return self.me
        able = [sid for sid, reached in self._acknowledged.items() if sid in ensemble.voters and reached >= zxid]
        return max(able, default=self.me)

    def forget(self, sid: int) -> None:
        """What ``sid`` has acknowledged counts no more: coming into step again may cut it off its log.

        That is no loss to it: what was proposed and not committed is sent to it once more, and acknowledged again.
        """
        self._acknowledged.pop(sid, None)

    def stop(self) -> None:
        """Nothing more is committed."""
        self._is_stopped = True
        self.confirmation.stop()


def _commit_packet(zxid: int, leader: int | None) -> bytes:
    if leader is None:
        return pack(COMMIT, zxid)
    return pack(PacketType.COMMIT_AND_ACTIVATE, zxid, leader.to_bytes(8, "big", signed=True))


def _inform_packet(zxid: int, entry: bytes, leader: int | None) -> bytes:
    if leader is None:
        return pack(INFORM, zxid, entry)
    return pack(PacketType.INFORM_AND_ACTIVATE, zxid, leader.to_bytes(8, "big", signed=True) + entry)


def _with_syncs(batch: Sequence[tuple[int, bytes]], packets: Sequence[bytes], syncs: Sequence[_Sync]) -> bytes:
    """The packets of a batch, and each SYNC where it belongs: behind a transaction, or before all."""
    behind: dict[int, list[bytes]] = {}
    first = batch[0][0]
    for each in syncs:
        behind.setdefault(each.after if each.after >= first else 0, []).append(each.packet)
    parts = behind.get(0, [])
    for (zxid, _), packet in zip(batch, packets, strict=True):
        parts += (packet, *behind.get(zxid, ()))
    return b"".join(parts)
