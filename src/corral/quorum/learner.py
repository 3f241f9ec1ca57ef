"""One that learns from a leader: brings its history into step, and then logs, acknowledges and applies what comes.

Sources: Learner, Follower, Observer. What must be durable before which word is said is enforced by the types of
:mod:`corral.quorum.history`.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from corral.jute.ops import RECONFIG
from corral.jute.primitives import JuteError
from corral.quorum.ensemble import parse_ensemble
from corral.quorum.history import apply
from corral.quorum.packet_stream import PacketStream
from corral.quorum.packets import (
    ACK,
    COMMIT,
    COMMIT_AND_ACTIVATE,
    INFORM,
    INFORM_AND_ACTIVATE,
    NEW_LEADER,
    PROPOSAL,
    PROTOCOL_VERSION,
    LearnerInfo,
    Packet,
    PacketType,
    pack,
    pack_bare,
    packet_max_bytes,
)
from corral.quorum.reconfiguration import is_reconfiguration, read_reconfiguration
from corral.quorum.serving import LearnerServer, Post
from corral.quorum.snapshot_stream import SnapshotStream
from corral.storage.snapshot import SnapshotError
from corral.storage.txnlog import entry_age_ms, is_whole
from corral.storage.txnlog.format import SMALLEST_ENTRY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.quorum.elector import Elector
    from corral.quorum.ensemble import Ensemble
    from corral.quorum.history import EpochOnDisk, History, HistoryOnDisk
    from corral.quorum.packets import RawPacket
    from corral.server.config import ServerConfig
    from corral.server.config.membership import PeerAddress

_ZXID_AND_KIND: Final = struct.Struct(">12xq8xi").unpack_from
_LEADER_BYTES: Final = 8
"""In front of an INFORM_AND_ACTIVATE's transaction: who is to lead."""
_UNSYNCED_MAX_BYTES: Final = 256 << 20
"""So much may wait for this server's log: whoever is further behind comes into step anew when its disk answers."""
_CONNECT_PAUSE_FIRST_S: Final = 0.002
"""The elected one begins to listen within a few milliseconds of its followers' first attempts."""
_CONNECT_PAUSE_MAX_S: Final = 0.05
_CONNECT_FOR_S: Final = 1.0
"""How long the elected one is given to listen; then there is another election."""

log = logging.getLogger(__name__)


class LeaderLostError(ConnectionError):
    """The leader is not there, or not to be followed."""


class Learning:
    """One term of following, or of observing. :meth:`learn` returns when it is over."""

    def __init__(
        self,
        me: int,
        history: History,
        config: ServerConfig,
        leader: int,
        addresses: Sequence[PeerAddress],
        *,
        is_observer: bool,
        config_version: int,
        init_limit: int,
        sync_limit: int,
        serving: Callable[[int], None],
        post: Post,
        elector: Elector,
    ) -> None:
        self.me = me
        self.history = history
        self.config = config
        self.leader = leader
        self._addresses = addresses
        self._is_observer = is_observer
        self._config_version = config_version
        self._tick_s = config.tick_time_ms / 1000
        self._init_limit = init_limit
        self._sync_limit = sync_limit
        self._serving = serving
        self._post = post
        self._elector = elector
        self._new_members: Ensemble | None = None
        """What the leader told with NEWLEADER, until it says that it is so."""
        limit = config.quorum.connect_limit
        self._connect_for_s = limit * self._tick_s if limit else _CONNECT_FOR_S
        self.server: LearnerServer | None = None
        self.epoch = 0
        self._stream: PacketStream
        self._logged: deque[tuple[int, bytes]] = deque()
        """Proposals that are in the log, or on their way there, and not committed."""
        self._last_proposed = 0
        self._unsynced: list[tuple[int, bytes]] = []
        self._unsynced_bytes = 0
        self._is_syncing = False
        self._is_over = False

    async def learn(self) -> None:
        """Follow until the leader is lost. Raises StorageError if the disk fails."""
        try:
            try:
                async with asyncio.timeout(self._init_limit * self._tick_s):
                    await self._connect()
                    clock, stats = self.history.database.machine.clock, self.history.database.stats
                    began_ms = clock.monotonic_ms()
                    entered = await self._come_into_step()
                    kind = "observer_sync_time" if self._is_observer else "follower_sync_time"
                    stats.note(kind, clock.monotonic_ms() - began_ms)
                # Perhaps the leader waits for its vote, which it did not know to have.
                self._check_part()
                self._acknowledge_leader(entered)
                async with asyncio.timeout(self._init_limit * self._tick_s):
                    await self._become_served()
                await self._stream.serve(self._take, self._sync_limit * self._tick_s)
            except (OSError, EOFError, JuteError) as error:
                log.warning("server %d is not led by %d any more: %s", self.me, self.leader, error or "no answer")
        finally:
            # What is not on its way to the log yet must not get there in the next term (ZOOKEEPER-4712).
            self._is_over = True
            if hasattr(self, "_stream"):
                self._stream.abort()
            if self.server is not None:
                await self.server.leave()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        pause, give_up_at = _CONNECT_PAUSE_FIRST_S, loop.time() + self._connect_for_s
        # Where nothing answers, not even to refuse, the system would go on trying for minutes.
        attempt_s = self._connect_for_s / max(1, len(self._addresses))
        while True:
            for address in self._addresses:
                try:
                    async with asyncio.timeout(attempt_s):
                        _, self._stream = await loop.create_connection(PacketStream, address.host, address.quorum_port)
                except OSError as error:
                    log.debug("leader %d at %s:%d: %s", self.leader, address.host, address.quorum_port, error)
                    continue
                return
            if loop.time() > give_up_at:
                raise LeaderLostError("nobody listens there")
            await asyncio.sleep(pause)
            pause = min(_CONNECT_PAUSE_MAX_S, pause * 2)

    # Coming into step

    async def _come_into_step(self) -> EpochOnDisk:
        history, stream = self.history, self._stream
        stream.limit(packet_max_bytes(self.config))
        kind = PacketType.OBSERVER_INFO if self._is_observer else PacketType.FOLLOWER_INFO
        info = LearnerInfo(self.me, PROTOCOL_VERSION, self._config_version)
        accepted = history.accepted_epoch
        stream.write(pack(kind, accepted << 32, info.encode()))
        packet = await stream.read()
        if packet.type != PacketType.LEADER_INFO:
            raise JuteError(f"the leader begins with {packet!r}")
        self.epoch = epoch = packet.zxid >> 32
        if epoch < accepted:
            raise LeaderLostError(f"its epoch is {epoch}, and {accepted} has been promised")
        told = history.current_epoch if epoch > accepted else -1
        if epoch > accepted:
            history.promise(epoch)
        stream.write(pack(PacketType.ACK_EPOCH, history.last_zxid, told.to_bytes(4, "big", signed=True)))
        base = await self._take_base(await stream.read())
        return await self._take_history(base)

    async def _take_base(self, packet: Packet) -> HistoryOnDisk:
        """Where the leader's history and ours part, or its whole tree."""
        match packet.type:
            case PacketType.DIFF:
                return await self.history.append(())
            case PacketType.TRUNC:
                if not self.history.can_be_cut(packet.zxid):
                    raise JuteError(f"the log is to be cut back to zxid {packet.zxid:#x}, where it never was")
                log.warning("the log is cut back to zxid %#x, as the leader says", packet.zxid)
                return await self.history.cut(packet.zxid)
            case PacketType.SNAP:
                collected = SnapshotStream()
                while not collected.feed(await self._stream.read_bytes()):
                    pass
                self._stream.put_back(collected.rest)
                digests = self.config.storage.digest_enabled
                try:
                    tree = collected.tree(packet.zxid, self.history.owner_rules, digests=digests)
                except SnapshotError as error:
                    raise JuteError(f"the leader sends no whole tree: {error}") from None
                return await self.history.replace(tree, packet.zxid)
            case _:
                raise JuteError(f"the leader sends {packet!r} instead of its history")

    async def _take_history(self, base: HistoryOnDisk) -> EpochOnDisk:
        """What follows the base, up to NEWLEADER; then all of it, and the epoch, on disk."""
        committed: list[tuple[int, bytes]] = []
        proposed: deque[tuple[int, bytes]] = deque()
        self._last_proposed = base.zxid
        kind = 0
        while kind != NEW_LEADER:
            for kind, zxid, data, _ in await self._stream.read_many(NEW_LEADER):
                if kind == PROPOSAL and data is not None:
                    self._check([(zxid, data)])
                    proposed.append((zxid, data))
                elif kind in (INFORM, INFORM_AND_ACTIVATE) and data is not None:
                    entry = data if kind == INFORM else data[_LEADER_BYTES:]
                    self._check([(zxid, entry)])
                    committed.append((zxid, entry))
                elif kind in (COMMIT, COMMIT_AND_ACTIVATE):
                    if not proposed or proposed[0][0] != zxid:
                        raise JuteError(f"a commit of {zxid:#x}, which is not the oldest proposal")
                    committed.append(proposed.popleft())
                elif kind == NEW_LEADER:
                    self._new_members = _parse_members(data)
                    if self._new_members is not None:
                        self._elector.follow(self._new_members)
                else:
                    raise JuteError(f"{Packet(kind, zxid, data)!r} while the history is brought into step")
        on_disk = await self.history.append(committed)
        for _, entry in committed:
            if is_reconfiguration(entry):
                self._elector.activate(read_reconfiguration(entry))
        entered = self.history.enter(self.epoch, on_disk)
        self._log(proposed)
        return entered

    def _acknowledge_leader(self, entered: EpochOnDisk) -> None:
        self._stream.write(pack(ACK, entered.epoch << 32))
        self._sync_proposals()

    # Following

    async def _become_served(self) -> None:
        """Hear what the leader says until it says that we may serve."""
        while (packet := await self._stream.read()).type != PacketType.UP_TO_DATE:
            self._take([packet])
        if self._new_members is not None:
            self._elector.activate(self._new_members)
            self._check_part()
            if self.leader not in self._elector.election.committed.voters:
                raise LeaderLostError(f"server {self.leader} has no vote among the new members")
        self.history.show(self._elector.election.committed)
        await self._start_serving()

    def _take(self, packets: Sequence[RawPacket]) -> None:
        """What the leader says. Raises JuteError, LeaderLostError."""
        proposals: list[tuple[int, bytes]] = []
        commits: list[int] = []
        for kind, zxid, data, _ in packets:
            if kind == COMMIT:
                commits.append(zxid)
            elif kind == PROPOSAL and data is not None:
                proposals.append((zxid, data))
            elif kind == INFORM and data is not None:
                proposals.append((zxid, data))
                commits.append(zxid)
            else:
                self._take_proposals(proposals)
                self._apply(self._commit(commits))
                proposals, commits = [], []
                self._hear(Packet(kind, zxid, data))
        self._take_proposals(proposals)
        committed = self._commit(commits)
        # The disk has something to do while what is committed is applied.
        self._sync_proposals()
        self._apply(committed)
        if self.server is not None:
            self.server.pipeline.flush()

    def _apply(self, committed: Sequence[tuple[int, bytes]]) -> None:
        if not committed:
            return
        if self.server is not None:
            self.server.forwarding.apply(committed)
        else:
            for zxid, entry in committed:
                apply(self.history.tree, zxid, entry)
        self.history.note(committed)
        stats = self.history.database.stats
        stats.count("learner_commit_received_count", len(committed))
        took_ms = entry_age_ms(committed[-1][1], self.history.database.machine.clock.wall_ms())
        stats.note("commit_propagation_latency", took_ms, len(committed))
        stats.note("propagation_latency", took_ms, len(committed))

    def _hear(self, packet: Packet) -> None:
        match packet.type:
            case PacketType.COMMIT_AND_ACTIVATE:
                self._activate(packet.zxid, packet.data)
            case PacketType.INFORM_AND_ACTIVATE if packet.data is not None:
                self._take_proposals([(packet.zxid, packet.data[_LEADER_BYTES:])])
                self._activate(packet.zxid, packet.data)
            case PacketType.PING:
                touched = self.server.learner_sessions.take_touched() if self.server is not None else b""
                self._stream.write(pack(PacketType.PING, packet.zxid, touched))
            case PacketType.SYNC if self.server is not None:
                self.server.forwarding.synced(packet.data)
            case PacketType.REVALIDATE if self.server is not None:
                self.server.revalidated(packet)
            case _:
                raise JuteError(f"{packet!r} is not what a leader sends now")

    async def _start_serving(self) -> None:
        server = LearnerServer(
            self.config,
            self.history.database,
            self._post,
            self._stream.gather,
            self.leader,
            is_observer=self._is_observer,
        )
        await server.start()
        self.server = server
        # It is what tells the leader that it is served now; the leader counts it no more.
        self._stream.write(pack(ACK, self.epoch << 32))
        self._serving(self.epoch)
        log.info("server %d follows %d in epoch %d", self.me, self.leader, self.epoch)

    def _check(self, proposals: Sequence[tuple[int, bytes]]) -> None:
        """Whether transactions may follow what is in the log. Raises JuteError: nothing of them may get there then."""
        last, rules = self._last_proposed, self.history.owner_rules
        for zxid, entry in proposals:
            if zxid != last + 1 and not last >> 32 < zxid >> 32 <= self.epoch:
                raise JuteError(f"zxid {zxid:#x} follows {last:#x}: there is a hole")
            inside, kind = _ZXID_AND_KIND(entry) if len(entry) >= SMALLEST_ENTRY else (-1, 0)
            if inside != zxid or not is_whole(kind, entry, rules):
                raise JuteError(f"zxid {zxid:#x} comes with {len(entry)} bytes that are no transaction of that number")
            if kind == RECONFIG:
                _parse_reconfiguration(entry)
            last = zxid
        self._last_proposed = last

    def _take_proposals(self, proposals: Sequence[tuple[int, bytes]]) -> None:
        if proposals:
            self._check(proposals)
            self._log(proposals)

    def _log(self, proposals: Sequence[tuple[int, bytes]]) -> None:
        """Take what was checked for the log. Raises LeaderLostError if too much waits for it."""
        if not proposals:
            return
        if self._is_syncing:
            self._unsynced_bytes += sum([len(entry) for _, entry in proposals])
            if self._unsynced_bytes > _UNSYNCED_MAX_BYTES:
                raise LeaderLostError(f"{self._unsynced_bytes} bytes wait for this server's disk")
        self._logged.extend(proposals)
        self._unsynced.extend(proposals)
        database = self.history.database
        database.extend(proposals)
        if not self._is_observer:
            database.stats.count("learner_proposal_received_count", len(proposals))
            age = entry_age_ms(proposals[-1][1], database.machine.clock.wall_ms())
            database.stats.note("proposal_latency", age, len(proposals))
        for _, entry in proposals:
            if is_reconfiguration(entry):
                self._elector.propose(read_reconfiguration(entry))

    def _activate(self, zxid: int, data: bytes | None) -> None:
        """A change of the members is committed."""
        self._apply(self._commit([zxid]))
        if self.server is not None:
            self.server.pipeline.flush()
        self._obey(data)

    def _obey(self, data: bytes | None) -> None:
        """Other members, and perhaps another leader, or another part for this one: then it begins anew."""
        leader = int.from_bytes((data or b"")[:_LEADER_BYTES], "big", signed=True)
        election = self._elector.election
        if election.last_seen is not None:
            self._elector.activate(election.last_seen)
        if leader != self.leader:
            raise LeaderLostError(f"server {leader} is to lead the new members")
        self._check_part()

    def _check_part(self) -> None:
        if self._elector.election.observes != self._is_observer:
            raise LeaderLostError("this server has another part now")

    def _sync_proposals(self) -> None:
        """Let the log have what has gathered, unless it is still busy; each sync is acknowledged by its last zxid."""
        if self._is_syncing or self._is_over or not self._unsynced:
            return
        batch, self._unsynced, self._unsynced_bytes = self._unsynced, [], 0
        self._is_syncing = True
        database = self.history.database
        database.about_to_log(len(batch))
        clock = database.machine.clock
        began_ms = clock.monotonic_ms()

        def synced() -> None:
            self._is_syncing = False
            waited_ms = entry_age_ms(batch[0][1], clock.wall_ms())
            database.stats.batch_logged(
                len(batch), waited_ms, database.txn_log.last_sync_ms, clock.monotonic_ms() - began_ms
            )
            database.stats.note("proposal_ack_creation_latency", waited_ms, len(batch))
            if self._is_over:
                return
            if not self._is_observer:
                self._stream.write(pack_bare(ACK, [zxid for zxid, _ in batch]))
            self._sync_proposals()

        database.sync(synced)

    def _commit(self, zxids: Sequence[int]) -> list[tuple[int, bytes]]:
        """The oldest proposals, which are committed now. Raises JuteError if they are not those of the zxids."""
        logged = self._logged
        committed: list[tuple[int, bytes]] = []
        for zxid in zxids:
            if not logged:
                raise JuteError(f"a commit of {zxid:#x}, which was never proposed here")
            proposed = logged.popleft()
            if proposed[0] != zxid:
                raise JuteError(f"a commit of {zxid:#x}, the oldest proposal here is {proposed[0]:#x}")
            committed.append(proposed)
        return committed


def _parse_reconfiguration(entry: bytes) -> Ensemble:
    """The members that a transaction brings. Raises JuteError."""
    try:
        return read_reconfiguration(entry)
    except ValueError as error:
        raise JuteError(f"a change to members that cannot be: {error}") from None


def _parse_members(data: bytes | None) -> Ensemble | None:
    """The configuration that comes with NEWLEADER; a leader before 3.5 tells none. Raises JuteError."""
    if not data:
        return None
    try:
        return parse_ensemble(data.decode("utf-8"))
    except ValueError as error:
        raise JuteError(f"the leader's configuration: {error}") from None
