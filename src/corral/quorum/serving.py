"""A member of an ensemble as its clients see it: the server of one that leads, and of one that learns."""

from __future__ import annotations

import logging
import struct
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from corral.jute.errors import ErrorCode, KeeperError
from corral.jute.extensions import QUORUM
from corral.jute.ops import CLOSE_SESSION, CREATE_SESSION, DELETE_CONTAINER, ERROR, SYNC
from corral.jute.primitives import JuteError
from corral.quorum.gathering import Gathering
from corral.quorum.monitoring import configuration_text, leader_figures, proposals_text
from corral.quorum.packets import PacketType, encode_sessions, pack, pack_request
from corral.server.local_sessions import LocalSessions
from corral.server.pipeline import WritePipeline, reply_to_sync
from corral.server.sessions import SessionTracker, first_session_id
from corral.server.standalone import Server
from corral.tree.digest import DIGEST_VERSION

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from corral.quorum.broadcast import Broadcast
    from corral.quorum.confirmation import Confirmation
    from corral.quorum.ensemble import Ensemble
    from corral.quorum.monitoring import LearnersInStep
    from corral.quorum.packets import Packet
    from corral.server.client_port import ClientPort
    from corral.server.config import ServerConfig
    from corral.server.connection import Connection
    from corral.server.database import Database
    from corral.server.sessions import Session
    from corral.server.writes import Writes
    from corral.tree.acl import Identity

log = logging.getLogger(__name__)

_TXN_HEADER: Final = struct.Struct(">qiqqi")
_REPLY_HEADER: Final = struct.Struct(">iiqi")
_DIGEST: Final = struct.Struct(">iQ")
_READ_TXN_HEADER: Final = _TXN_HEADER.unpack_from
_READ_DIGEST: Final = _DIGEST.unpack_from
_SESSION: Final = struct.Struct(">qi")
LAST_COUNTER: Final = 0xFFFFFFFF
"""The counter in the last zxid of an epoch."""
STRANGE_MAX: Final = 10_000
"""Far more transactions than a tree lacks that was sent while it changed: a member that still differs after them came
with the data of another ensemble, whose zxids happened to fit."""
CREATE_SESSION_TIMEOUT: Final = struct.Struct(">i")


def answer(connection: Connection, xid: int, zxid: int, error: int, body: bytes) -> None:
    """The reply to what is at the head of the connection's waiting requests; reads behind it are served."""
    out = connection.out
    out.append(_REPLY_HEADER.pack(16 + len(body), xid, zxid, error))
    if body:
        out.append(body)
    connection.waiting.popleft()
    connection.writes_answered += 1
    if connection.waiting and connection.waiting[0] is not None:
        connection.serve_waiting()


class Post(NamedTuple):
    """What the servers of a member, which follow each other, have in common."""

    me: int
    ensemble: Callable[[], Ensemble]
    client_port: ClientPort


# Leading


class LeaderPipeline(WritePipeline):
    """Takes the writes of this server's clients and of all learners'."""

    batches_max = 8

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.zxid_max = self.zxid | LAST_COUNTER
        self.exhausted: Callable[[], None] = lambda: None
        """Called when the epoch has no zxid left: only a new one goes on (ZOOKEEPER-1277, 2789)."""
        self.confirmation: Confirmation
        """Whether it still leads."""
        self.later: Callable[[float, Callable[[], None]], asyncio.TimerHandle]
        self._gathering = Gathering()
        self._held: asyncio.TimerHandle | None = None
        self._began_ms: deque[int] = deque()
        """Of the batches that are under way."""

    def stop(self) -> None:
        """Nothing more is prepared, applied or answered."""
        super().stop()
        if self._held is not None:
            self._held.cancel()

    def _is_held_back(self, gathered: int) -> bool:
        if not self._under_way and gathered < self._gathering.target:
            if self._held is None:
                self._held = self.later(self._gathering.hold_s, self._hold_no_longer)
            return True
        self._gathering.fulfilled()
        if self._held is not None:
            self._held.cancel()
            self._held = None
        self._began_ms.append(self.clock.monotonic_ms())
        return False

    def _hold_no_longer(self) -> None:
        self._held = None
        self._gathering.disappointed()
        self._kick_soon()

    def _synced(self) -> None:
        super()._synced()
        self._gathering.answered(self._population, self.clock.monotonic_ms() - self._began_ms.popleft())

    @property
    def is_settled(self) -> bool:
        """Never: another may have become the leader."""
        return False

    def _finish_syncs(self) -> None:
        self.confirmation.ask(self._synced)

    def _run_out(self) -> None:
        # Whoever asks sees a lost connection, and asks the next leader.
        self.exhausted()


class MemberServer(Server):
    """What all servers of a member have in common."""

    def __init__(self, config: ServerConfig, database: Database, post: Post) -> None:
        super().__init__(config, database=database, client_port=post.client_port)
        self.stats.share(database.stats)
        self.server_id = post.me
        self.post = post
        if config.quorum.local_sessions_enabled:
            self.local_sessions = LocalSessions(self, self._upgrade)

    def _upgrade(self, session: Session) -> ErrorCode | None:
        """Make a local session one of the ensemble: its transaction goes before what it asks next."""
        if not self.config.quorum.local_sessions_upgrading_enabled:
            return ErrorCode.EPHEMERAL_ON_LOCAL_SESSION
        log.info("local session %#x becomes one of the ensemble", session.id & (2**64 - 1))
        session.local = None
        self.pipeline.open_session(session.id, session.timeout_ms)
        body = CREATE_SESSION_TIMEOUT.pack(session.timeout_ms)
        return self.pipeline.submit(None, session.id, 0, CREATE_SESSION, body, ())

    def membership_text(self) -> str:
        """What ``conf`` tells of the ensemble."""
        return configuration_text(self.post.me, self.config.quorum, self.post.ensemble())

    def membership_figures(self) -> Iterator[tuple[str, object]]:
        """What ``mntr`` tells of the ensemble, by name."""
        roles = {"leader": "leading", "follower": "following", "observer": "observing"}
        yield "peer_state", f"{roles[self.mode]} - broadcast"
        yield "quorum_size", len(self.post.ensemble().voters)


class LeaderServer(MemberServer):
    """The server of the member that leads: its pipeline's transactions are committed by a quorum."""

    mode = "leader"

    def __init__(
        self,
        config: ServerConfig,
        database: Database,
        post: Post,
        broadcast: Broadcast,
        in_step: Callable[[], LearnersInStep],
    ) -> None:
        super().__init__(config, database, post)
        self._broadcast = broadcast
        self._in_step = in_step
        self.takes_clients = config.quorum.leader_serves
        self.leading: LeaderPipeline

    def _make_writes(self) -> Writes:
        self.tree.keeps_digest = False
        self.leading = self.make_pipeline(self._broadcast, LeaderPipeline)
        self.leading.confirmation = self._broadcast.confirmation
        self.leading.later = self._loop.call_later
        return self.leading

    def may_be_local(self, session_id: int) -> bool:
        """Whether a session that is in no tree is a local one of this server, or may be one of another."""
        if self.local_sessions is None:
            return False
        session = self.tracker.sessions.get(session_id)
        if session is not None:
            return session.local is not None
        return (session_id >> 56) & 0xFF != self.server_id

    def leadership_text(self) -> str:
        """What ``srvr`` tells of a leader."""
        return proposals_text(self._broadcast)

    def membership_figures(self) -> Iterator[tuple[str, object]]:
        """What ``mntr`` tells of the ensemble, by name."""
        yield from super().membership_figures()
        uptime_ms = self.clock.monotonic_ms() - self.stats.started_ms
        yield from leader_figures(self._in_step(), self._broadcast, self._broadcast.pending_syncs, uptime_ms)

    def forwarded(
        self,
        session_id: int,
        xid: int,
        operation: int,
        body: bytes,
        identities: Sequence[Identity],
        owner: object,
    ) -> None:
        """A client of a learner, its ``owner``, wants to write. Raises JuteError."""
        session = self.tracker.sessions.get(session_id)
        if operation == CREATE_SESSION:
            if len(body) < CREATE_SESSION_TIMEOUT.size:
                raise JuteError("a session that is to be created without a timeout")
            timeout_ms: int = CREATE_SESSION_TIMEOUT.unpack_from(body)[0]
            session = self.tracker.add(session_id, timeout_ms, self.clock.monotonic_ms())
            session.owner = owner
            self.leading.open_session(session_id, timeout_ms)
        elif operation == DELETE_CONTAINER:
            # A server's own operation, which asks for no rights. Apache's learners pass it on for clients.
            self.leading.refuse(session_id, xid, ErrorCode.MARSHALLING_ERROR)
            return
        elif (
            session is not None
            and session.owner is not owner
            # Who says that it is over is believed, as by Apache's leader, wherever the client is by now.
            and operation != CLOSE_SESSION
            and self._has_moved(session, owner)
        ):
            # Its client has gone on at another member: what was still on its way here must not be done after that.
            # A member that has the client all the same (its word came here late) must not wait for ever.
            self.leading.refuse(session_id, xid, ErrorCode.SESSION_MOVED)
            log.info("session %#x has moved: a request that came late is refused", session_id & (2**64 - 1))
            return
        self.leading.submit(None, session_id, xid, operation, body, identities)

    def _has_moved(self, session: Session, owner: object) -> bool:
        """Whether another member, this one included, has the client now; the first that speaks for it is believed."""
        if session.owner is None and session.connection is None:
            session.owner = owner
        return session.owner is not owner

    def renew(self, connection: Connection, session_id: int, timeout_ms: int) -> None:
        """A client has come here with its session."""
        session = self.tracker.sessions.get(session_id)
        if session is not None:
            session.owner = None
        super().renew(connection, session_id, timeout_ms)

    def touched(self, sessions: Sequence[tuple[int, int]]) -> None:
        """A learner has heard of these sessions."""
        now_ms = self.clock.monotonic_ms()
        for session_id, _ in sessions:
            session = self.tracker.sessions.get(session_id)
            if session is not None:
                self.tracker.touch(session, now_ms)

    def revalidate(self, session_id: int, timeout_ms: int, owner: object) -> bool:
        """A client has come to a learner with its session: does it live?"""
        session = self.tracker.sessions.get(session_id)
        if session is None or session.local is not None or session_id in self.leading.closing:
            return False
        if session.connection is not None:
            session.connection.abort()
        session.owner = owner
        session.timeout_ms = timeout_ms
        self.tracker.touch(session, self.clock.monotonic_ms())
        return True


# Learning


class _Awaited:
    """A request that the leader has been asked. ``reply`` is (zxid, error, body) once it is known."""

    __slots__ = ("connection", "operation", "reply", "since_ms", "xid")

    def __init__(self, connection: Connection, xid: int, operation: int, since_ms: int) -> None:
        self.connection = connection
        self.xid = xid
        self.operation = operation
        self.since_ms = since_ms
        self.reply: tuple[int, int, bytes] | None = None


class ForwardedWrites:
    """Hands writes to the leader, applies what is committed, and answers those who wait for it."""

    def __init__(self, server: LearnerServer, send: Callable[[bytes], None]) -> None:
        self._server = server
        self._send = send
        self._tree = server.tree
        self.closing: set[int] = set()
        self.outstanding = 0
        self.dirty: dict[Connection, None] = {}
        self._awaited: dict[int, deque[_Awaited]] = {}
        """By session, in the order in which they were asked."""
        self._afterwards: dict[int, list[Callable[[], None]]] = {}
        """By session, what is to be done when it waits for nothing any more."""
        self._syncs: deque[tuple[int, _Awaited, bytes]] = deque()
        """Of all sessions: session, request and its body, in the order in which they were asked."""
        self._now_ms = 0
        """On the wall clock, when what is applied now came."""
        self._took: dict[int, int] = {}
        """How many updates took how many ms, of those that were answered and are not in the figures yet."""
        self._is_stopped = False
        self._agrees = False
        """Whether the tree's digest has been the leader's."""
        self._strange = 0
        """For how many transactions it has not been."""

    @property
    def zxid(self) -> int:
        """Of the last transaction applied."""
        return self._tree.last_zxid

    @property
    def is_settled(self) -> bool:
        """Never: what others have asked elsewhere is not known here."""
        return False

    @property
    def busy(self) -> bool:
        """Whether anybody waits for an answer of the leader."""
        return self.outstanding > 0

    def after_writes_of(self, session_id: int, call: Callable[[], None]) -> bool:
        """Call when all that a session has submitted here is answered; False, and no call, if that is so already."""
        if session_id not in self._awaited:
            return False
        self._afterwards.setdefault(session_id, []).append(call)
        return True

    def open_session(self, session_id: int, timeout_ms: int) -> None:
        """The leader keeps the sessions."""

    def stop(self) -> None:
        """Nothing more is applied or answered."""
        self._is_stopped = True

    def submit(
        self,
        connection: Connection | None,
        session_id: int,
        xid: int,
        op: int,
        body: bytes,
        identities: Sequence[Identity],
    ) -> ErrorCode | None:
        """Send it to the leader."""
        request = pack_request(session_id, xid, op, body, None if op == CREATE_SESSION else identities)
        if connection is None:
            self._send(request)
            return None
        waits = _Awaited(connection, xid, op, self._server.clock.wall_ms())
        if op == SYNC:
            if reply_to_sync(body) is None:
                return ErrorCode.MARSHALLING_ERROR
            self._syncs.append((session_id, waits, body))
        queue = self._awaited.get(session_id)
        if queue is None:
            queue = self._awaited[session_id] = deque()
        queue.append(waits)
        self.outstanding += 1
        self._send(request)
        return None

    def apply(self, transactions: Sequence[tuple[int, bytes]]) -> None:
        """Transactions are committed: apply them, tell watchers, and answer those of our clients who wait for them."""
        if self._is_stopped:
            return
        self._now_ms = self._server.clock.wall_ms()
        tree, watches = self._tree, self._server.watches
        changes, awaited = tree.changes, self._awaited
        digests = self._server.config.storage.digest_enabled
        for zxid, entry in transactions:
            session_id, xid, _, time_ms, kind = _READ_TXN_HEADER(entry)
            # Reads that are served behind a write may set watches: it has to be asked anew each time.
            tree.notes_changes = bool(watches.watchers)
            error, reply = 0, b""
            if kind == ERROR:
                error = int.from_bytes(entry[_TXN_HEADER.size : _TXN_HEADER.size + 4], "big", signed=True)
                tree.last_zxid = zxid
            else:
                try:
                    reply = tree.apply(kind, zxid, time_ms, session_id, entry, _TXN_HEADER.size)
                except KeeperError:
                    # The tree came while it changed, and may already show it.
                    log.debug("zxid %#x was there already", zxid)
                if digests:
                    version, digest = _READ_DIGEST(entry, len(entry) - _DIGEST.size)
                    if version == DIGEST_VERSION and (digest != tree.digest or not self._agrees):
                        self._compare_digest(zxid, digest)
                if changes:
                    watches.trigger(changes, zxid)
                    changes.clear()
            waits = self._find(session_id, xid) if session_id in awaited else None
            if kind == CREATE_SESSION and waits is not None and waits.operation != CREATE_SESSION:
                # Of a local session that becomes one of the ensemble: nobody waits for that.
                waits = None
            if waits is not None:
                waits.reply = (zxid, error, reply)
            if kind == CREATE_SESSION:
                self._server.session_opened(waits.connection if waits else None, session_id)
            elif kind == CLOSE_SESSION:
                self._server.session_ended(waits.connection if waits else None, session_id, xid)
            if waits is not None:
                self._answer(session_id)

    def _compare_digest(self, zxid: int, digest: int) -> None:
        """The leader has said what its tree's digest is after the transaction: is it ours, too?"""
        if digest == self._tree.digest:
            self._agrees, self._strange = True, 0
        elif self._agrees:
            # A tree that was sent while it changed agrees only when it has seen all those changes; from then on always.
            self._agrees = False
            self._server.stats.count("digest_mismatches_count")
            log.error("the tree's digest after zxid %#x is %d, the leader's %d", zxid, self._tree.digest, digest)
        else:
            self._strange += 1
            if self._strange == STRANGE_MAX:
                self._server.stats.count("digest_mismatches_count")
                log.error(
                    "%d transactions, and the tree's digest is not the leader's: it may be another's", STRANGE_MAX
                )

    def synced(self, data: bytes | None) -> None:
        """The leader says that everything before our oldest sync has come; and by QUORUM that it still led then."""
        if self._syncs:
            self._now_ms = self._server.clock.wall_ms()
            session_id, waits, body = self._syncs.popleft()
            waits.reply = (self.zxid, 0, reply_to_sync(body, by_quorum=data == QUORUM) or b"")
            self._answer(session_id)

    def _find(self, session_id: int, xid: int) -> _Awaited | None:
        """The request that a transaction answers; None if it was asked by way of another member."""
        for waits in self._awaited[session_id]:
            if waits.reply is None and waits.operation != SYNC:
                return waits if waits.xid == xid else None
        return None

    def _answer(self, session_id: int) -> None:
        """Answer what a session has asked, in that order, as far as the replies are known."""
        queue, now_ms, took = self._awaited[session_id], self._now_ms, self._took
        while queue and (reply := queue[0].reply) is not None:
            waits = queue.popleft()
            self.outstanding -= 1
            connection = waits.connection
            took_ms = now_ms - waits.since_ms
            if waits.operation != SYNC:
                took[took_ms] = took.get(took_ms, 0) + 1
            if connection.closed or waits.operation in (CREATE_SESSION, CLOSE_SESSION):
                continue
            if reply[1] == ErrorCode.SESSION_MOVED:
                connection.abort()
                continue
            connection.write_latency_ms = took_ms
            answer(connection, waits.xid, *reply)
            self.dirty[connection] = None
        if not queue:
            del self._awaited[session_id]
            for call in self._afterwards.pop(session_id, ()):
                call()

    def flush(self) -> None:
        """Send what is queued for the dirty connections, and let those go on that had to wait for others' writes."""
        dirty, self.dirty = self.dirty, {}
        for connection in dirty:
            connection.flush()
        for took_ms, count in self._took.items():
            self._server.stats.note("updatelatency", took_ms, count)
        self._took.clear()
        gate = self._server.gate
        if gate is not None:
            gate.batch_applied()


class LearnerSessions(SessionTracker):
    """The sessions that are connected here. The leader ends them; it is told which were heard of."""

    def __init__(self, tick_ms: int, first_id: int) -> None:
        super().__init__(tick_ms, first_id)
        self._touched: dict[int, int] = {}

    def touch(self, session: Session, now_ms: int) -> None:
        """The session was heard of."""
        if session.local is None:
            self._touched[session.id] = session.timeout_ms
        super().touch(session, now_ms)

    def take_touched(self) -> bytes:
        """All that were heard of since the last call, as the answer to a PING has them."""
        touched, self._touched = self._touched, {}
        return encode_sessions(list(touched.items()))


class LearnerServer(MemberServer):
    """The server of a member that learns: reads are its own, writes go to the leader."""

    owns_sessions = False

    def __init__(
        self,
        config: ServerConfig,
        database: Database,
        post: Post,
        send: Callable[[bytes], None],
        leader: int,
        *,
        is_observer: bool,
    ) -> None:
        super().__init__(config, database, post)
        self.mode = "observer" if is_observer else "follower"
        self._leader = leader
        self._send = send
        self._asked: dict[int, tuple[Connection, int]] = {}
        """Sessions of which the leader has been asked whether they live, and who wants to know."""
        self.forwarding: ForwardedWrites
        self.learner_sessions: LearnerSessions

    def _make_writes(self) -> Writes:
        self.tree.keeps_digest = True
        self.forwarding = ForwardedWrites(self, self._send)
        return self.forwarding

    def _make_tracker(self) -> SessionTracker:
        first_id = first_session_id(self.server_id, self.clock.monotonic_ms())
        self.learner_sessions = LearnerSessions(self.config.tick_time_ms, first_id)
        return self.learner_sessions

    def membership_figures(self) -> Iterator[tuple[str, object]]:
        """What ``mntr`` tells of the ensemble, by name."""
        yield from super().membership_figures()
        if self.mode == "observer":
            yield "observer_master_id", self._leader

    def renew(self, connection: Connection, session_id: int, timeout_ms: int) -> None:
        """Ask the leader whether the session lives, unless it is a local one."""
        session = self.tracker.sessions.get(session_id)
        if session is not None and session.local is not None:
            super().renew(connection, session_id, timeout_ms)
            return
        connection.begin_handshake()
        self._asked[session_id] = (connection, timeout_ms)
        self._send(pack(PacketType.REVALIDATE, -1, _SESSION.pack(session_id, timeout_ms)))

    def revalidated(self, packet: Packet) -> None:
        """The leader's answer."""
        data = packet.data or b""
        session_id = int.from_bytes(data[:8], "big", signed=True)
        connection, timeout_ms = self._asked.pop(session_id, (None, 0))
        if connection is None or connection.closed:
            return
        session = None
        if len(data) > 8 and data[8]:
            session = self.tracker.sessions.get(session_id)
            if session is None:
                session = self.tracker.add(session_id, timeout_ms, self.clock.monotonic_ms())
        self.handshakes.renewed(connection, session, timeout_ms)
        if not connection.closed:
            connection.end_handshake()
