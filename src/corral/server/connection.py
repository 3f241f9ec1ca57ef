"""One client's connection: frames in, replies and watch events out.

The loop over a received chunk is the hottest code there is. A read of an unprotected znode that nobody wants to watch
is answered inside it, without building any object but the reply's pieces; everything else goes through tables. All
that a wake-up brings is answered by one write. Work per wake-up is bounded (:data:`REPLY_BUDGET_BYTES`), so that one
greedy client does not hold up the others, and a client that does not read its replies is not read from either.

Order: replies leave in the order of the requests. A write is answered when its batch is durable; what the same
connection asks meanwhile waits behind it in ``waiting``.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from corral.jute.errors import ErrorCode, KeeperError
from corral.jute.ops import (
    AUTH,
    CLOSE_SESSION,
    DELETE_CONTAINER,
    GET_DATA,
    PING,
    SASL,
    SYNC,
    SYNC_CONNECTED,
    EventType,
    OpCode,
    Permission,
    Xid,
)
from corral.jute.primitives import JuteError
from corral.server.metrics import Summary
from corral.server.reads import READS

if TYPE_CHECKING:
    from corral.jute.records import Acl
    from corral.server.sessions import Session
    from corral.server.standalone import Server
    from corral.tree.acl import Identity

log = logging.getLogger(__name__)

REPLY_BUDGET_BYTES: Final = 1 << 20
"""Replies one connection may queue in one wake-up before the others have their turn."""
UNREAD_REPLIES_MAX_BYTES: Final = 64 << 20
"""A client that leaves so much unread while watch events go on coming is cut off."""
WRITE_HIGH_WATER_BYTES: Final = 1 << 20
"""With more than this unsent the connection is not read from."""
LARGE_CHUNK_BYTES: Final = 64 << 10
"""A client that has sent so much at once waits for the others before it is read from again."""
WAITING_READS_MAX_BYTES: Final = 16 << 20
"""With more than this in requests that wait behind a write the connection is not read from."""
MANY_PIECES: Final = 128
"""A reply is two pieces. So many may be copied to leave in one, however large they are."""
_CHUNKS_MAX: Final = 256
"""A frame that arrives in more pieces than this is put together in between: a piece costs more than its bytes."""

_MAPPED: Final = "::ffff:"
"""What stands before an IPv4 address at a socket of both families; ACLs and figures know the address without it."""
_LINGER_NONE: Final = struct.pack("ii", 1, 0)
"""Closing sends a reset and forgets what is unsent."""

_HEAD = struct.Struct(">iiii")
_LENGTH = struct.Struct(">i")
_REQUEST_HEADER = struct.Struct(">ii")
_REPLY_HEADER = struct.Struct(">iiqi")
_PING_XID: Final = int(Xid.PING)
_EVENT_XID: Final = b"\xff\xff\xff\xff"
_EVENT_HEAD = struct.Struct(">iiqiiii")

WRITES: Final = frozenset(
    {
        OpCode.CREATE,
        OpCode.CREATE2,
        OpCode.CREATE_TTL,
        OpCode.CREATE_CONTAINER,
        OpCode.DELETE,
        OpCode.SET_DATA,
        OpCode.SET_ACL,
        OpCode.MULTI,
        OpCode.RECONFIG,
        OpCode.CLOSE_SESSION,
    }
)
ORDERED: Final = WRITES | {OpCode.SYNC}
"""What is answered in the order of the transactions; everything else at once, unless it waits behind such a one."""
_LAST_SHORT_OP: Final = int(OpCode.SASL)
"""What comes after it is rare, and some of it takes long for a short reply: one such request is a turn."""
_BULKY_READS: Final = frozenset({OpCode.GET_DATA, OpCode.GET_CHILDREN, OpCode.GET_CHILDREN2})
_LISTED_NAME_BYTES: Final = 24
"""What a child's name takes in a listing, roughly."""
_REFUSED: Final = 1 << 32
"""The same for a request that is not served; in place of its body stands the error code."""


class Connection(asyncio.Protocol):
    """See the module's text. ``server`` is asked for everything that is not this connection's own."""

    __slots__ = (
        "_answered_at_once",
        "_chunks",
        "_chunks_size",
        "_continue_is_due",
        "_needed",
        "_read_paused",
        "_stopping",
        "_waiting_bytes",
        "_write_paused",
        "authenticated",
        "close_after_flush",
        "closed",
        "established_ms",
        "handshake_pending",
        "identities",
        "last_cxid",
        "last_latency_ms",
        "last_op",
        "last_response_ms",
        "last_zxid",
        "latency",
        "mirror_read_only",
        "nodes",
        "out",
        "peer",
        "reads_behind_answered",
        "received",
        "sent",
        "server",
        "session",
        "stalled_ms",
        "transport",
        "tree",
        "waiting",
        "write_latency_ms",
        "writes_answered",
    )

    def __init__(self, server: Server) -> None:
        self.server = server
        self.tree = server.tree
        self.nodes = server.tree.nodes
        self.transport: asyncio.Transport | None = None
        self.peer: tuple[str, int] = ("", 0)
        self.session: Session | None = None
        self.identities: list[Identity] = []
        self.authenticated: set[str] = set()
        self.out: list[bytes] = []
        self.waiting: deque[tuple[int, int, bytes, int] | None] = deque()
        self.closed = False
        self.close_after_flush = False
        self.stalled_ms: int | None = None
        """Since when, on the monotonic clock, the requests held back have been stalled by the throttle."""
        self.handshake_pending = False
        self.mirror_read_only = False
        self.established_ms = server.clock.wall_ms()
        self.received = 0
        self.sent = 0
        self.last_op = 0
        self.last_cxid = 0
        self.last_zxid = 0
        self.last_response_ms = 0
        self.last_latency_ms = 0
        self.latency = Summary()
        self._chunks: list[bytes] = []
        self._chunks_size = 0
        self._needed = 4
        self._read_paused = False
        self._write_paused = False
        self.writes_answered = 0
        self.reads_behind_answered = 0
        self.write_latency_ms = 0
        self._answered_at_once = 0
        self._continue_is_due = False
        self._stopping = False
        self._waiting_bytes = 0

    def __repr__(self) -> str:
        session = f" session {self.session.id & (2**64 - 1):#x}" if self.session else ""
        return f"<Connection {self.peer[0]}:{self.peer[1]}{session}>"

    @property
    def session_id(self) -> int:
        return 0 if self.session is None else self.session.id

    @property
    def reading_paused(self) -> bool:
        """Whether the client is not read from for now."""
        return self._read_paused

    @property
    def is_held_back(self) -> bool:
        """Whether what the client sends lies unread for the server's reasons, not because the client does not read."""
        return self._read_paused and not self._write_paused

    def reset_stats(self) -> None:
        """As the ``crst`` word asks."""
        self.received = self.sent = self._answered_at_once = 0
        self.last_cxid = self.last_zxid = -1
        self.last_op = 0
        self.last_response_ms = self.last_latency_ms = 0
        self.latency.reset()

    # The transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by inheritance.
        self.transport = transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.peer = (peer[0].removeprefix(_MAPPED) if "." in peer[0] else peer[0], peer[1]) if peer else ("", 0)
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        self.server.connection_made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.waiting.clear()
        self.out.clear()
        self._chunks.clear()
        self.server.connection_lost(self)
        self.transport = None

    def pause_writing(self) -> None:
        self._write_paused = True
        self._pause_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        self._continue_soon()

    def data_received(self, data: bytes) -> None:
        if self._chunks or self._read_paused:
            self._chunks.append(data)
            self._chunks_size += len(data)
            if self._chunks_size < self._needed or self._read_paused:
                if len(self._chunks) > _CHUNKS_MAX:
                    self._chunks = [b"".join(self._chunks)]
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
        self._serve(data)

    def close(self) -> None:
        """Close once everything queued has been sent."""
        if self.closed or self.transport is None:
            return
        self.closed = True
        if self.out:
            self.transport.write(b"".join(self.out))
            self.out.clear()
        self.transport.close()
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.server.connection_closing(self)

    def abort(self) -> None:
        """Close at once, whatever is queued."""
        self.closed = True
        if self.transport is not None:
            self.transport.abort()

    def reset(self) -> None:
        """Refuse a connection that was just made: the client sees it reset."""
        self.closed = True
        if self.transport is not None:
            try:
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            except OSError:
                log.debug("%r: no linger option", self)
            self.transport.abort()

    def stop_reading(self) -> None:
        """Serve nothing more of what this client sends."""
        self._stopping = True
        self._pause_reading()

    # Flow

    def _pause_reading(self) -> None:
        if not self._read_paused and self.transport is not None and not self.transport.is_closing():
            self._read_paused = True
            self.transport.pause_reading()

    def _keep(self, data: bytes) -> None:
        """Hold back what cannot be served yet."""
        self._chunks.insert(0, data)
        self._chunks_size = sum(map(len, self._chunks))

    def _continue_soon(self) -> None:
        if not self._continue_is_due and not self.closed:
            self._continue_is_due = True
            self.server.soon(self.go_on)

    def go_on(self) -> None:
        """Take up again what was held back, if nothing stands against it any more."""
        self._continue_is_due = False
        if self._cannot_go_on() or self.transport is None:
            return
        if self.waiting and self.waiting[0] is not None:
            self.serve_waiting()
            self.flush()
            if self._cannot_go_on():
                return
        if self._must_wait():
            return
        if self._read_paused:
            self._read_paused = False
            self.transport.resume_reading()
        if self._chunks:
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._serve(data)

    def _cannot_go_on(self) -> bool:
        if self.closed or self._write_paused or self.handshake_pending or self._stopping:
            return True
        gate = self.server.gate
        return gate is not None and gate.is_stalled(self)

    def _must_wait(self) -> bool:
        """Whether no more is taken from this client before some of what it asked for is done."""
        waiting = self.waiting
        limit = self.server.outstanding_limit
        return bool(waiting) and (
            self.server.pipeline.outstanding > limit
            or len(waiting) > limit
            or self._waiting_bytes > WAITING_READS_MAX_BYTES
        )

    def flush(self) -> None:
        """Send what is queued, in one write."""
        out = self.out
        transport = self.transport
        if self.closed or transport is None:
            return
        if self.writes_answered:
            if self.reads_behind_answered:
                # They came after the write: its time is the most that they waited.
                self.server.stats.read_latency.add(self.write_latency_ms, self.reads_behind_answered)
            self.answered(self.write_latency_ms, self.writes_answered + self.reads_behind_answered)
            self.writes_answered = self.reads_behind_answered = 0
        if out:
            # Replies are bounded by the requests that are taken from a client. Events come in any case.
            adds_events = self._write_paused and any(piece[4:8] == _EVENT_XID for piece in out)
            if len(out) > MANY_PIECES and (size := sum(map(len, out))) > REPLY_BUDGET_BYTES:
                # Perhaps the same content many times over: joined, each reply would have a copy of its own.
                self.server.stats.sent(size, out)
                transport.writelines(out)
            else:
                data = b"".join(out) if len(out) > 1 else out[0]
                self.server.stats.sent(len(data), out)
                transport.write(data)
            out.clear()
            if adds_events and transport.get_write_buffer_size() > UNREAD_REPLIES_MAX_BYTES:
                self.server.complaints.warn(
                    "replies not read",
                    "%r does not read what it is sent: cut off with %d bytes unsent",
                    *(self, transport.get_write_buffer_size()),
                )
                self.server.stats.count("connection_drop_count")
                self.abort()
                return
        if self.close_after_flush:
            self.close()
        elif self._read_paused and not self._continue_is_due:
            self._continue_soon()

    # Requests

    def _serve(self, data: bytes) -> None:
        """Serve every whole frame in ``data``; keep the rest."""
        session = self.session
        position = 0
        if session is None:
            position = self.server.handshakes.serve(self, data)
            session = self.session
            if session is None or self.handshake_pending or self.closed:
                if not self.closed and position < len(data):
                    self._keep(data[position:])
                    self._needed = 4 if self.handshake_pending else self.server.handshakes.needed(data)
                return
        server = self.server
        server.now_ms = now_ms = server.clock.monotonic_ms()
        server.tracker.touch(session, now_ms)
        end = len(data)
        out = self.out
        waiting = self.waiting
        waiting_before = len(waiting)
        find = self.nodes.get
        read_head = _HEAD.unpack_from
        pack_reply = _REPLY_HEADER.pack
        zxid = self.tree.last_zxid
        gate = server.gate
        pipeline = server.pipeline
        limit = server.outstanding_limit
        longest = server.config.limits.jute_max_buffer
        budget = REPLY_BUDGET_BYTES
        served = 0
        length = xid = op = 0
        numbered = self.last_cxid
        self._needed = 4
        while end - position >= 16:
            length, xid, op, path_length = read_head(data, position)
            following = position + 4 + length
            if following > end:
                break
            if op == GET_DATA and 0 <= path_length == length - 13 and not waiting and gate is None:
                node = find(data[position + 16 : following - 1])
                if node is not None and node.acl == -1 and data[following - 1] == 0:
                    children = node.children
                    body = node.body if children is None or not children.stale else node.refreshed()
                    size = len(body) + 16
                    out.append(pack_reply(size, xid, zxid, 0))
                    out.append(body)
                    position = following
                    served += 1
                    budget -= size
                    if budget < 0:
                        break
                    continue
            if length < 8 or length > longest:
                break
            body = data[following - length + 8 : following]
            if gate is None:
                self.serve_request(xid, op, body)
            elif not gate.serve(self, xid, op, body):
                break
            position = following
            served += 1
            if self.closed or self.close_after_flush:
                break
            zxid = self.tree.last_zxid
            if xid >= 0 and op != SASL:
                numbered = xid
            budget -= 64 + length + (len(out[-1]) if out else 0)
            if budget < 0 or op > _LAST_SHORT_OP:
                break
            if waiting and (
                pipeline.outstanding > limit or len(waiting) > limit or self._waiting_bytes > WAITING_READS_MAX_BYTES
            ):
                break
        if served:
            self._note(xid if xid >= 0 and op != SASL else numbered, op, zxid, served, waiting_before)
        if position < end and not self.closed and not self.close_after_flush:
            position = self._serve_short(data, position, end)
            if position < end and not self.closed:
                self._hold(data, position, end)
        elif end > LARGE_CHUNK_BYTES and not self.closed:
            # There is more to come: the event loop would go on reading from this client alone.
            self._pause_reading()
            self._continue_soon()
        if gate is not None:
            gate.served(self)
        server.stats.bytes_received += position
        if out or self._read_paused or self.close_after_flush:
            self.flush()
        if pipeline.dirty:
            pipeline.flush()

    def _serve_short(self, data: bytes, position: int, end: int) -> int:
        """Serve a last frame that is too short for the loop's look at four integers: ping, closeSession, whoAmI."""
        if not 12 <= end - position < 16:
            return position
        length: int
        length, xid, op = struct.unpack_from(">iii", data, position)
        if not 8 <= length < 12 or position + 4 + length > end:
            return position
        gate = self.server.gate
        waiting_before = len(self.waiting)
        body = data[position + 12 : position + 4 + length]
        if gate is None:
            self.serve_request(xid, op, body)
        elif not gate.serve(self, xid, op, body):
            return position
        self._note(xid, op, self.tree.last_zxid, 1, waiting_before)
        return position + 4 + length

    def _hold(self, data: bytes, position: int, end: int) -> None:
        """Keep what is left of ``data``: part of a frame, or frames that must wait for their turn."""
        server = self.server
        if end - position >= 4:
            length: int = _LENGTH.unpack_from(data, position)[0]
            if length < 8 or length > server.config.limits.jute_max_buffer:
                self.refuse_frame(length)
                return
            if server.gate is not None and not server.gate.admits_size(self, length):
                return
            self._needed = 4 + length
        else:
            self._needed = 4
        self._keep(data[position:])
        if end - position >= self._needed:
            self._pause_reading()
            if not self._cannot_go_on() and not self._must_wait():
                self._continue_soon()

    def refuse_frame(self, length: int) -> None:
        """Close the connection of a client that sends what is no frame; what was asked before is answered."""
        self.server.complaints.warn("bad frame", "%r sent a frame of %d bytes: connection closed", self, length)
        self.server.stats.count("connection_drop_count")
        self.close()

    def begin_handshake(self) -> None:
        """A session is being opened: nothing is served before it exists."""
        self.handshake_pending = True
        self._pause_reading()

    def end_handshake(self) -> None:
        self.handshake_pending = False
        self.flush()
        self._continue_soon()

    def _note(self, xid: int, op: int, zxid: int, served: int, waiting_before: int) -> None:
        """Count the requests of a wake-up. Those that do not wait now have been answered."""
        server = self.server
        stats = server.stats
        stats.packets_received += served
        self.received += served
        if xid >= 0:
            self.last_cxid = xid
        self.last_op = op
        self.last_zxid = zxid
        at_once = served - len(self.waiting) + waiting_before
        if at_once > 0:
            stats.answered_at_once += at_once
            self._answered_at_once += at_once
            self.last_response_ms = server.now_ms

    def settle(self) -> None:
        """Count what was answered at once, which is added up aside because it happens all the time."""
        count, self._answered_at_once = self._answered_at_once, 0
        if count:
            self.sent += count
            self.latency.add(0, count)

    def answered(self, latency_ms: int, count: int) -> None:
        """Count replies to writes, and to what waited behind them, which took ``latency_ms``."""
        server = self.server
        server.stats.answered(latency_ms, count)
        self.sent += count
        self.last_latency_ms = latency_ms
        self.last_response_ms = server.now_ms
        self.latency.add(latency_ms, count)

    def serve_waiting(self) -> None:
        """The write at the head of ``waiting`` has its reply: serve what waited behind it, up to the next write.

        All of it and at once: the next write of the same client may be applied right after, and a read must not see
        it. How much can have gathered here is bounded where it is put in.
        """
        waiting = self.waiting
        out = self.out
        find = self.nodes.get
        served = 0
        while waiting:
            head = waiting[0]
            if head is None:
                break
            waiting.popleft()
            served += 1
            xid, op, body, weight = head
            self._waiting_bytes -= weight
            if (
                op == GET_DATA
                and len(body) > 5
                and body[-1] == 0
                and (node := find(body[4:-1])) is not None
                and node.acl == -1
            ):
                # As in the loop over received frames, the most frequent read first.
                if _LENGTH.unpack_from(body)[0] == len(body) - 5:
                    data = node.refreshed()
                    out.append(_REPLY_HEADER.pack(16 + len(data), xid, self.tree.last_zxid, 0))
                    out.append(data)
                else:
                    self._read(xid, op, body)
            elif op == _REFUSED:
                self.reply_error(xid, _LENGTH.unpack(body)[0])
            else:
                self._read(xid, op, body)
        self.reads_behind_answered += served

    @staticmethod
    def is_write(op: int) -> bool:
        """Whether an operation goes through the pipeline."""
        return op in WRITES

    def refuse(self, xid: int, code: int) -> None:
        """Answer a request with an error and nothing else, in its turn."""
        if self.waiting:
            self._defer(xid, _REFUSED, _LENGTH.pack(code))
        else:
            self.reply_error(xid, code)

    def serve_request(self, xid: int, op: int, body: bytes) -> None:
        """Serve one request that the loop did not."""
        if op in ORDERED and not (op == SYNC and self.server.pipeline.is_settled):
            session = self.session
            assert session is not None
            if session.local is None:
                error = self.server.pipeline.submit(self, session.id, xid, op, body, self.identities)
            elif op == CLOSE_SESSION:
                session.local.close(session, self, xid)
                return
            else:
                error = session.local.submit(session, self, xid, op, body)
            if error is None:
                self.waiting.append(None)
            else:
                self.refuse(xid, error)
        elif op == PING:
            self.out.append(_REPLY_HEADER.pack(16, _PING_XID, self.tree.last_zxid, 0))
        elif op == AUTH:
            self.server.authentication.serve(self, xid, body)
        elif op == SASL:
            self.reply_at_once(xid, 0, 0, b"\xff\xff\xff\xff")
        elif self.session_id in self.server.pipeline.closing:
            self.refuse(xid, ErrorCode.SESSION_EXPIRED)
        elif self.waiting:
            self._defer(xid, op, body)
        else:
            self._read(xid, op, body)

    def _defer(self, xid: int, op: int, body: bytes) -> None:
        weight = len(body)
        if op in _BULKY_READS:
            node = self.nodes.get(body[4:-1])
            if node is not None:
                weight += len(node.body) + _LISTED_NAME_BYTES * node.child_count
        self.waiting.append((xid, op, body, weight))
        self._waiting_bytes += weight

    def _read(self, xid: int, op: int, body: bytes) -> None:
        serve = READS.get(op)
        if serve is None:
            if op == DELETE_CONTAINER:
                self.reply_error(xid, ErrorCode.MARSHALLING_ERROR)
            else:
                # Apache closes the connection here; an error alone tells the client more.
                self.out.append(_REPLY_HEADER.pack(16, xid, -1, ErrorCode.UNIMPLEMENTED))
            return
        try:
            reply = serve(self.server, self, body)
        except KeeperError as error:
            self.reply_error(xid, error.code)
        except JuteError:
            self.reply_error(xid, ErrorCode.MARSHALLING_ERROR)
        else:
            self.out.append(_REPLY_HEADER.pack(16 + len(reply), xid, self.tree.last_zxid, 0))
            if reply:
                self.out.append(reply)

    def reply_error(self, xid: int, code: int) -> None:
        self.out.append(_REPLY_HEADER.pack(16, xid, self.tree.last_zxid, code))

    def reply_at_once(self, xid: int, zxid: int, code: int, body: bytes = b"") -> None:
        """A reply that does not wait behind writes: auth and sasl."""
        self.out.append(_REPLY_HEADER.pack(16 + len(body), xid, zxid, code) + body)

    # Watch events

    def deliver(self, event: EventType, path: bytes, zxid: int, acl: tuple[Acl, ...] | None) -> None:
        """Queue a notification, if the client may read what it is about."""
        if self.closed:
            return
        if acl is not None and not self.server.access.permits(acl, Permission.READ, self.identities):
            return
        self.out.append(
            _EVENT_HEAD.pack(28 + len(path), Xid.NOTIFICATION, zxid, 0, event, SYNC_CONNECTED, len(path)) + path
        )
        self.sent += 1
        self.server.stats.event_sent(28 + len(path))
        self.server.pipeline.dirty[self] = None
