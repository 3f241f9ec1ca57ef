"""The leader of an epoch: finds its number, brings the learners to its history, and stays while it has a quorum.

Sources: Leader, LearnerHandler. Each learner is served by a task of its own until it is in step; from then on packets
are handled in the order in which they come, many to a wake-up.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from corral.jute.errors import NewConfigNoQuorumError
from corral.jute.extensions import QUORUM, asks_for_quorum
from corral.jute.ops import SYNC
from corral.jute.primitives import JuteError
from corral.quorum.broadcast import Broadcast
from corral.quorum.confirmation import Confirmation
from corral.quorum.counting import Acknowledgements, EpochChoice, is_quorum
from corral.quorum.history import EPOCH_MAX
from corral.quorum.learner_link import Learner
from corral.quorum.listening import listening_places
from corral.quorum.monitoring import LearnersInStep
from corral.quorum.packet_stream import PacketStream
from corral.quorum.packets import (
    ACK,
    PROPOSAL,
    PROTOCOL_VERSION,
    REQUEST,
    Packet,
    PacketType,
    decode_learner_info,
    decode_request,
    decode_session,
    decode_sessions,
    pack,
    pack_committed,
    pack_transactions,
    packet_max_bytes,
)
from corral.quorum.reconfiguration import next_ensemble
from corral.quorum.serving import LAST_COUNTER, LeaderServer, Post
from corral.quorum.snapshot_stream import encode_stream
from corral.quorum.sync_plan import Way, plan_sync
from corral.quorum.sync_throttle import Syncs
from corral.server.listeners import close_listeners, listen
from corral.storage.errors import StorageError
from corral.storage.snapshot import SnapshotEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from corral.jute.records import ReconfigRequest
    from corral.quorum.elector import Elector
    from corral.quorum.ensemble import Ensemble
    from corral.quorum.history import EpochOnDisk, History
    from corral.quorum.packets import RawPacket
    from corral.server.client_port import ClientPort
    from corral.server.config import ServerConfig
    from corral.server.config.membership import PeerAddress

_INTRODUCTION_MAX_BYTES: Final = 4096
"""Of data in a learner's first packet, which has 20: nobody should fill memory before saying who it is."""
_STRANGERS_MAX: Final = 100
"""Connections on which nobody has said yet who it is: beyond that the oldest goes. A learner says it at once."""

log = logging.getLogger(__name__)


class Leader:
    """One term of leadership. :meth:`lead` returns when it is over."""

    def __init__(
        self,
        me: int,
        history: History,
        config: ServerConfig,
        elector: Elector,
        *,
        init_limit: int,
        sync_limit: int,
        serving: Callable[[int], None],
        client_port: ClientPort,
        listens_at: Sequence[PeerAddress],
    ) -> None:
        self.me = me
        self.history = history
        self.config = config
        self._elector = elector
        self._tick_s = config.tick_time_ms / 1000
        self._init_limit = init_limit
        self._sync_limit = sync_limit
        self._serving = serving
        self._post = Post(me, lambda: elector.election.committed, client_port)
        self._listens_at = listens_at
        self.server: LeaderServer | None = None
        self.learners: dict[int, Learner] = {}
        self.epoch = 0
        self._tick = 0
        self.syncs = Syncs(config.quorum.snapshot_syncs_max, config.quorum.difference_syncs_max, history.database.stats)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._strangers: dict[PacketStream, None] = {}
        """Connections on which nobody has said yet who it is, the oldest first."""
        self._own_disk_awaited = (0, 0)
        """The batch that waits for nothing but this server's disk, and the tick since which it has."""
        self._listeners: list[asyncio.Server] = []

    @property
    def _init_s(self) -> float:
        return self._init_limit * self._tick_s

    # The term

    async def lead(self) -> None:
        """Lead while there is a quorum. Raises StorageError if the disk fails."""
        self._epoch_choice = EpochChoice(self._ensembles)
        self._promises = Acknowledgements(self._ensembles)
        self._followers = Acknowledgements(self._ensembles)
        self._started = asyncio.Event()
        self._broadcast: Broadcast | None = None
        self._state = (self.history.current_epoch, self.history.last_zxid)
        # Before any learner can come: without this one's own word a quorum of them might find an epoch that is too old.
        accepted = self.history.accepted_epoch
        if accepted == EPOCH_MAX:
            raise StorageError(f"no epoch comes after {accepted}, which was promised", self.history.epoch_file)
        self._epoch_choice.hear(self.me, accepted, votes=True)
        over = asyncio.get_running_loop().create_future()
        self._over: asyncio.Future[str] = over
        try:
            reason = await self._listen() or await self._serve_term()
            log.warning("server %d leads no more: %s", self.me, reason)
        finally:
            await self._end()

    async def _listen(self) -> str | None:
        """Take learners; returns why that cannot be, if so. Then somebody else may lead."""
        loop = asyncio.get_running_loop()
        for address in self._listens_at:
            try:
                made = partial(PacketStream, self._accept)
                await listen(loop, made, address.host, address.quorum_port, self._listeners)
            except OSError as error:
                # Not to be elected again at once.
                await asyncio.sleep(self._tick_s / 2)
                return f"nothing can listen at port {address.quorum_port} of {address.host}: {error.strerror or error}"
        return None

    async def _serve_term(self) -> str:
        beginning = asyncio.get_running_loop().create_task(self._begin())
        self._tasks.add(beginning)
        self._elector.deserted = self._deserted
        if self._elector.is_deserted:
            self._deserted()
        either: list[asyncio.Future[Any]] = [beginning, self._over]
        await asyncio.wait(either, timeout=self._init_s, return_when=asyncio.FIRST_COMPLETED)
        if beginning.done():
            await self._start_serving(beginning.result())
            return await self._watch_over()
        if self._over.done():
            return self._over.result()
        return f"no quorum followed within {self._init_s:g} s"

    def _deserted(self) -> None:
        self.history.database.stats.count("quit_leading_due_to_disloyal_voter")
        self._give_up("those who elected it look for another")

    async def _begin(self) -> EpochOnDisk:
        """Everything up to the moment when a quorum has the epoch's history."""
        self.epoch = await self._epoch_choice.chosen
        self.history.promise(self.epoch)
        self._name_configuration()
        self._promises.give(self.me)
        await self._promises.enough
        entered = await self._enter()
        self._followers.give(self.me)
        await self._followers.enough
        return entered

    def _ensembles(self) -> Sequence[Ensemble]:
        return self._elector.election.ensembles

    @property
    def _told_ensemble(self) -> Ensemble:
        """What a learner takes over once it is in step: what it gets as a proposal is not in force yet."""
        return self._ensembles()[-1] if self._broadcast is None else self._elector.election.committed

    def _name_configuration(self) -> None:
        """Members that may be changed get a version, which changes are then made from."""
        committed = self._elector.election.committed
        if self.config.tree.reconfig_enabled and committed.version == 0:
            self._elector.propose(replace(committed, version=self.epoch << 32))

    async def _enter(self) -> EpochOnDisk:
        # Its own history is the epoch's, and is in its log already.
        on_disk = await self.history.append(())
        return self.history.enter(self.epoch, on_disk)

    async def _start_serving(self, entered: EpochOnDisk) -> None:
        tree = self.history.tree
        tree.last_zxid = max(tree.last_zxid, entered.epoch << 32)
        election = self._elector.election
        if election.last_seen is not None:
            # A quorum has it with NEWLEADER.
            self._elector.activate(election.last_seen)
        self.history.show(election.committed)
        soon = asyncio.get_running_loop().call_soon
        confirmation = Confirmation(self.me, self._ensembles, self._ping_followers, soon)
        broadcast = Broadcast(
            self.me, self.history, self._ensembles, self._elector.propose, self._activate, confirmation
        )
        self._broadcast = broadcast
        server = LeaderServer(self.config, self.history.database, self._post, broadcast, self._learners_in_step)
        server.reconfigure = self._reconfigure
        await server.start()
        server.leading.exhausted = self._exhausted
        self.server = server
        for learner in self.learners.values():
            broadcast.listeners[learner.sid] = learner
        self._serving(self.epoch)
        self._started.set()
        log.info("server %d leads epoch %d", self.me, self.epoch)
        if self.me not in election.committed.voters:
            # It was elected by the old members, and has brought the new ones into force; these elect one of theirs.
            told = "it has no vote among the new members"
            asyncio.get_running_loop().call_later(self._tick_s, self._give_up, told)

    def _learners_in_step(self) -> LearnersInStep:
        in_step = [each for each in self.learners.values() if each.is_in_step]
        followers = [each.sid for each in in_step if not each.is_observer]
        voters = self._ensembles()[0].voters
        strangers = sum(sid not in voters for sid in followers)
        return LearnersInStep(len(self.learners), len(followers), strangers, len(in_step) - len(followers))

    def _reconfigure(self, request: ReconfigRequest, zxid: int) -> str:
        """The text of the configuration that a client asks for. Raises KeeperError."""
        election = self._elector.election
        # One voter would be a standalone server at its next start, and could not be changed back.
        voters_min = 2 if self.config.quorum.standalone_enabled else 1
        ensemble = next_ensemble(election.committed, election.last_seen, request, zxid, voters_min=voters_min)
        # One that observes gets no proposals, and could acknowledge none.
        in_step = {self.me} | {e.sid for e in self.learners.values() if e.is_in_step and not e.is_observer}
        if not ensemble.is_quorum(in_step):
            raise NewConfigNoQuorumError(f"only servers {sorted(in_step)} are in step")
        return ensemble.to_text()

    def _activate(self, ensemble: Ensemble, leader: int) -> None:
        """A change of the members is committed."""
        self._elector.activate(ensemble)
        if leader != self.me or self.me not in ensemble.voters:
            self._give_up(f"server {leader} is to lead the new members")
        elif listening_places(self.me, ensemble, self.config.quorum) != self._listens_at:
            self._give_up("it is to listen elsewhere")

    def _give_up(self, why: str) -> None:
        if not self._over.done():
            self._over.set_result(why)

    def _check_promise(self, sid: int, accepted_epoch: int) -> None:
        """End the term if a voter has promised a later epoch: it could never take part in this one.

        It did so for a leader that nobody else followed. The next term's epoch comes after that.
        """
        chosen = self._epoch_choice.chosen
        if chosen.done() and accepted_epoch > chosen.result():
            self.history.promise(max(accepted_epoch, self.history.accepted_epoch))
            self._give_up(f"server {sid} has promised epoch {accepted_epoch} to another")

    def _exhausted(self) -> None:
        self._give_up(f"epoch {self.epoch} has no zxid left")

    async def _watch_over(self) -> str:
        """Ping the learners; returns why the term is over."""
        while True:
            for _ in range(2):
                done, _ = await asyncio.wait([self._over], timeout=self._tick_s / 2)
                if done:
                    return self._over.result()
                self._ping(self.learners.values())
            self._tick += 1
            self._drop_silent()
            self._drop_stuck()
            if self._is_own_disk_stuck():
                return f"its disk has not answered for {self._sync_limit} ticks, and those of a quorum have"
            alive = {self.me} | {
                each.sid
                for each in self.learners.values()
                if each.is_in_step and self._tick - each.heard_at_tick <= self._sync_limit
            }
            if not is_quorum(self._ensembles(), alive):
                return f"only servers {sorted(alive)} are in step"

    def _drop_silent(self) -> None:
        """Who is not heard of is not in step any more: it is to come again when it can."""
        for each in list(self.learners.values()):
            silent_for = self._tick - each.heard_at_tick
            if each.is_in_step and silent_for > self._sync_limit:
                log.warning("%r is silent for %d ticks: dropped", each, silent_for)
                each.stream.abort()

    def _drop_stuck(self) -> None:
        """Nor is who answers, and whose disk does not: it would count as alive, and keep all that is yet to be logged.

        Source: LearnerHandler.SyncLimitCheck.
        """
        assert self._broadcast is not None
        for each in list(self.learners.values()):
            if not each.is_in_step or each.is_observer:
                continue
            zxid, since = each.awaited
            if each.acknowledged >= zxid:
                each.awaited = (self._broadcast.last_proposed, self._tick)
            elif self._tick - since > self._sync_limit:
                log.warning("%r has not acknowledged %#x for %d ticks: dropped", each, zxid, self._tick - since)
                each.stream.abort()

    def _is_own_disk_stuck(self) -> bool:
        """Whether the others had better go on with another leader, whose log they need not wait for."""
        assert self._broadcast is not None
        zxid, since = self._own_disk_awaited
        if self._broadcast.awaits_own_disk_at != zxid or not zxid:
            self._own_disk_awaited = (self._broadcast.awaits_own_disk_at, self._tick)
            return False
        return self._tick - since > self._sync_limit

    def _ping_followers(self) -> None:
        self._ping(each for each in self.learners.values() if not each.is_observer)

    def _ping(self, learners: Iterable[Learner]) -> None:
        assert self._broadcast is not None
        ping = pack(PacketType.PING, self._broadcast.last_proposed)
        for learner in learners:
            if learner.is_in_step:
                learner.pings.append(self._broadcast.confirmation.round)
                learner.send(ping)

    async def _end(self) -> None:
        self._over.cancel()
        if self._broadcast is not None:
            self._broadcast.stop()
        for learner in list(self.learners.values()):
            learner.stream.abort()
        for task in self._tasks:
            task.cancel()
        if self.server is not None:
            # Before anything is waited for: the member may be stopped meanwhile, which ends this.
            self.server.crash()
        await close_listeners(self._listeners)
        if self._tasks:
            await asyncio.wait(self._tasks)
        for listener in self._listeners:
            await listener.wait_closed()
        if self.server is not None:
            await self.server.stopped.wait()

    # Learners

    def _accept(self, stream: PacketStream) -> None:
        if self._over.done():
            stream.abort()
            return
        stream.limit(_INTRODUCTION_MAX_BYTES)
        self._strangers[stream] = None
        if len(self._strangers) > _STRANGERS_MAX:
            oldest = next(iter(self._strangers))
            log.warning("too many connections that do not say who they are: the oldest is closed")
            del self._strangers[oldest]
            oldest.abort()
        task = asyncio.get_running_loop().create_task(self._handle(stream))
        self._tasks.add(task)
        task.add_done_callback(partial(self._handled, stream))

    def _handled(self, stream: PacketStream, task: asyncio.Task[None]) -> None:
        # A task that is cancelled before it has begun closes nothing.
        stream.abort()
        self._strangers.pop(stream, None)
        self._tasks.discard(task)

    async def _handle(self, stream: PacketStream) -> None:
        learner: Learner | None = None
        try:
            async with asyncio.timeout(self._init_s):
                learner = await self._bring_into_step(stream)
            await self._serve(learner)
        except (OSError, EOFError, JuteError) as error:
            log.info("%s is gone: %s", learner or "a learner", error or type(error).__name__)
        except StorageError as error:
            if not self._over.done():
                self._over.set_exception(error)
        except Exception:
            log.exception("%s is dropped", learner or "a learner")
        finally:
            self._forget(stream)

    def _forget(self, stream: PacketStream) -> None:
        """Whoever came by this connection is not brought into step, or kept there, any more."""
        for learner in [each for each in self.learners.values() if each.stream is stream]:
            del self.learners[learner.sid]
            if self._broadcast is not None:
                self._broadcast.listeners.pop(learner.sid, None)

    async def _bring_into_step(self, stream: PacketStream) -> Learner:
        first = await stream.read()
        self._strangers.pop(stream, None)
        stream.limit(packet_max_bytes(self.config))
        if first.type not in (PacketType.FOLLOWER_INFO, PacketType.OBSERVER_INFO):
            raise JuteError(f"the first packet of a learner is {first!r}")
        info = decode_learner_info(first.data)
        learner = Learner(stream, info, is_observer=first.type == PacketType.OBSERVER_INFO)
        # One that observes, and does not know yet that it is to vote, can promise; and then comes again as a follower.
        votes = any(info.server_id in each.voters for each in self._ensembles())
        if info.protocol_version < PROTOCOL_VERSION:
            raise JuteError(f"server {info.server_id} speaks a protocol from before 3.4")
        if info.server_id == self.me:
            raise JuteError(f"{learner!r} says that it is this server")
        if not 0 <= first.zxid >> 32 < EPOCH_MAX:
            raise JuteError(f"{learner!r} has promised epoch {first.zxid >> 32}, and none comes after that")
        if info.config_version > self._elector.election.committed.version:
            raise JuteError(f"{learner!r} is ahead: it knows the members of version {info.config_version:x}")
        self._epoch_choice.hear(info.server_id, first.zxid >> 32, votes=votes)
        if votes:
            self._check_promise(info.server_id, first.zxid >> 32)
        epoch = await self._epoch_choice.chosen
        stream.write(pack(PacketType.LEADER_INFO, epoch << 32, PROTOCOL_VERSION.to_bytes(4, "big")))
        promised = await stream.read()
        if promised.type != PacketType.ACK_EPOCH or promised.data is None or len(promised.data) < 4:
            raise JuteError(f"{learner!r} answers {promised!r} to the epoch")
        current_epoch = int.from_bytes(promised.data[:4], "big", signed=True)
        # Once a quorum has promised, who has more has what was never committed, and is cut back.
        is_ahead = current_epoch != -1 and (current_epoch, promised.zxid) > self._state
        if is_ahead and not self._promises.enough.done():
            raise JuteError(f"{learner!r} is ahead: epoch {current_epoch}, zxid {promised.zxid:#x}")
        if votes and current_epoch != -1:
            self._promises.give(info.server_id)
        await asyncio.shield(self._promises.enough)
        sending, pieces = self._synchronise(learner, promised.zxid, await self._read_log(promised.zxid))
        with sending:
            # The first piece of a tree is taken before anything changes.
            for piece in pieces:
                stream.write(piece)
                await stream.drain()
            stream.write(pack(PacketType.NEW_LEADER, epoch << 32, self._told_ensemble.to_text().encode()))
            learner.release()
            acknowledged = await self._read_acknowledgement(stream, epoch << 32)
            learner.acknowledged = max(learner.acknowledged, epoch << 32)
        if votes and not learner.is_observer:
            self._followers.give(info.server_id)
        await self._started.wait()
        self._acknowledge(learner, acknowledged)
        learner.is_in_step = True
        learner.heard_at_tick = self._tick
        learner.send(pack(PacketType.UP_TO_DATE, -1))
        return learner

    async def _read_acknowledgement(self, stream: PacketStream, new_leader_zxid: int) -> int:
        """Wait for that of NEWLEADER; returns the last zxid of those before it. Raises JuteError.

        A follower before 3.9.1 may acknowledge proposals first (ZOOKEEPER-4685).
        """
        last = -1
        while True:
            packet = await stream.read()
            if packet.type == ACK and packet.zxid == new_leader_zxid:
                return last
            if packet.type != ACK or packet.zxid >> 32 != new_leader_zxid >> 32:
                raise JuteError(f"{packet!r} instead of the acknowledgement of NEWLEADER {new_leader_zxid:#x}")
            last = packet.zxid

    async def _read_log(self, peer_zxid: int) -> list[tuple[int, bytes]] | None:
        """What a learner lacks and memory has not."""
        history = self.history
        oldest = history.recent[0][0] if history.recent else history.last_zxid
        is_asked = peer_zxid < oldest and not self.config.quorum.forces_snapshots
        return await history.read_log(peer_zxid) if is_asked else None

    def _synchronise(
        self, learner: Learner, peer_zxid: int, logged: list[tuple[int, bytes]] | None
    ) -> tuple[AbstractContextManager[None], Iterator[bytes]]:
        """Decide what it lacks, and let everything that comes from now on be forwarded to it: in one step.

        Returns what is to be held until it is acknowledged, and the packets that bring it there, behind the first one.
        ``logged`` is what was read from the log for it. Raises JuteError if too much is being sent to others.
        """
        history, broadcast = self.history, self._broadcast
        forced = self.config.quorum.forces_snapshots
        plan = plan_sync(
            peer_zxid,
            history.last_zxid,
            list(history.recent),
            lambda _zxid: history.read_on(logged),
            forces_snapshots=forced,
        )
        sending = self.syncs.begin(is_snapshot=plan.way is Way.SNAP, is_observer=learner.is_observer)
        log.info(
            "%r, at zxid %#x, gets %s and %d transactions", learner, peer_zxid, plan.way.name, len(plan.transactions)
        )
        history.database.stats.count("snap_count" if plan.way is Way.SNAP else "diff_count")
        kind = {Way.DIFF: PacketType.DIFF, Way.TRUNC: PacketType.TRUNC, Way.SNAP: PacketType.SNAP}[plan.way]
        learner.stream.write(pack(kind, plan.zxid))
        older = self.learners.get(learner.sid)
        if older is not None:
            older.stream.abort()
        self.learners[learner.sid] = learner
        learner.acknowledged = history.last_zxid
        if broadcast is not None:
            broadcast.forget(learner.sid)
            if not learner.is_observer:
                learner.send(pack_transactions(PROPOSAL, broadcast.under_way))
            broadcast.listeners[learner.sid] = learner
        if plan.way is Way.SNAP:
            return sending, encode_stream(SnapshotEncoder(history.tree, digests=False, last_zxid_section=False))
        return sending, pack_committed(plan.transactions)

    async def _serve(self, learner: Learner) -> None:
        """Take what the learner sends, until it is gone. Raises EOFError, OSError, JuteError."""
        server, broadcast = self.server, self._broadcast
        assert server is not None
        assert broadcast is not None
        await learner.stream.serve(partial(self._take, server, broadcast, learner))

    def _take(self, server: LeaderServer, broadcast: Broadcast, learner: Learner, packets: Sequence[RawPacket]) -> None:
        learner.heard_at_tick = self._tick
        acknowledged = -1
        for kind, zxid, data, identities in packets:
            if kind == ACK:
                # Other than that of an epoch's beginning, which says nothing of the log.
                if zxid & LAST_COUNTER:
                    acknowledged = zxid
            elif kind == REQUEST:
                session_id, xid, operation, body = decode_request(data)
                if operation == SYNC:
                    broadcast.sync_with(learner, QUORUM if asks_for_quorum(body) else None)
                else:
                    server.forwarded(session_id, xid, operation, body, identities or (), learner)
            elif kind == PacketType.PING:
                if not learner.pings:
                    raise JuteError(f"{learner!r} answers a PING that it was not sent")
                broadcast.confirmation.answered(learner.sid, learner.pings.popleft())
                server.touched(decode_sessions(data))
            elif kind == PacketType.REVALIDATE:
                session_id, timeout_ms = decode_session(data)
                server.stats.count("revalidate_count")
                lives = server.revalidate(session_id, timeout_ms, learner)
                answer = session_id.to_bytes(8, "big", signed=True) + bytes([lives])
                # What its client asked elsewhere, and may not know the end of, comes first.
                told = partial(learner.send, pack(PacketType.REVALIDATE, -1, answer))
                if not server.leading.after_writes_of(session_id, told):
                    told()
            else:
                raise JuteError(f"{learner!r} sends {Packet(kind, zxid, data)!r}")
        self._acknowledge(learner, acknowledged)
        server.pipeline.flush()

    def _acknowledge(self, learner: Learner, zxid: int) -> None:
        """The log of a learner is durable up to ``zxid``; negative if that is not known. Raises JuteError."""
        assert self._broadcast is not None
        if zxid > self._broadcast.last_proposed:
            raise JuteError(f"{learner!r} acknowledges {zxid:#x}, which nobody has proposed")
        if zxid >= 0:
            learner.acknowledged = max(learner.acknowledged, zxid)
            self._broadcast.acknowledge(learner.sid, zxid)
