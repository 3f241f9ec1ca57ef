"""The first frame of a connection: a four letter word, or the request for a session.

Source: ZooKeeperServer.processConnectRequest, NIOServerCnxn.readConnectRequest. A session that cannot be had is
refused by an answer with timeout 0; where Apache closes without an answer (a client that has seen later transactions
than this server, throttling), so do we.
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING, Final

from corral.jute.ops import OpCode
from corral.jute.primitives import JuteError, Reader, write_boolean
from corral.jute.records import ConnectRequest, ConnectResponse
from corral.server.sessions import NO_PASSWORD, session_password
from corral.server.words import WORDS

if TYPE_CHECKING:
    from corral.server.connection import Connection
    from corral.server.sessions import Session
    from corral.server.standalone import Server

log = logging.getLogger(__name__)

FIRST_FRAME_MAX_BYTES: Final = 4096
"""Far more than any client's request for a session. Who has no session yet gets no more memory than that."""

_LENGTH = struct.Struct(">i")
_TIMEOUT = struct.Struct(">i")


class Handshakes:
    """Serves first frames."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def needed(self, data: bytes) -> int:
        """How many bytes the first frame must have before it can be served."""
        if len(data) < 4:
            return 4
        if data[:4] in WORDS:
            return WORDS[data[:4]].size
        return 4 + max(0, int(_LENGTH.unpack_from(data)[0]))

    def serve(self, connection: Connection, data: bytes) -> int:
        """Serve the first frame if it is whole; returns how many bytes of ``data`` it took."""
        needed = self.needed(data)
        if len(data) < 4:
            return 0
        if data[:4] in WORDS:
            if len(data) < needed:
                return 0
            self.server.words.serve(connection, data[:4], data[4:needed])
            return len(data)
        length: int = _LENGTH.unpack_from(data)[0]
        if length < 0 or length > min(FIRST_FRAME_MAX_BYTES, self.server.config.limits.jute_max_buffer):
            connection.refuse_frame(length)
            return len(data)
        if len(data) < needed:
            return 0
        reader = Reader(data, 4, needed, self.server.config.limits.jute_max_buffer)
        try:
            request = ConnectRequest.decode(reader)
            connection.mirror_read_only = reader.remaining > 0
            takes_read_only = connection.mirror_read_only and reader.read_boolean()
        except JuteError as error:
            self.server.complaints.warn(
                "bad frame", "%r sent no connect request: %s; connection closed", connection, error
            )
            connection.close()
            return len(data)
        if self.server.is_read_only and not takes_read_only:
            log.debug("%r does not want a read-only server: closed", connection)
            connection.close()
            return len(data)
        self._connect(connection, request)
        return needed

    def _connect(self, connection: Connection, request: ConnectRequest) -> None:
        server = self.server
        server.stats.count("connection_request_count")
        server.stats.note("connection_token_deficit", server.throttle.deficit)
        if request.last_zxid_seen > server.tree.last_zxid:
            server.complaints.warn(
                "client ahead",
                "%r has seen zxid %#x, this server only %#x: connection closed, it must try another server",
                *(connection, request.last_zxid_seen, server.tree.last_zxid),
            )
            connection.close()
            return
        if not server.throttle.admits(renewing=request.session_id != 0, local=server.local_sessions is not None):
            server.stats.count("connection_rejected")
            server.complaints.warn("throttled", "%r comes faster than connections are let in: closed", connection)
            connection.close()
            return
        config = server.config
        timeout_ms = min(max(request.timeout_ms, config.min_session_timeout_ms), config.max_session_timeout_ms)
        if request.session_id == 0:
            self._open(connection, timeout_ms)
        else:
            self._renew(connection, request, timeout_ms)

    def _open(self, connection: Connection, timeout_ms: int) -> None:
        """A new session: a local one exists at once, any other once its transaction is on disk."""
        server = self.server
        if server.is_read_only and server.local_sessions is None:
            log.debug("%r wants a session, and this server can give none: closed", connection)
            connection.close()
            return
        session_id = server.tracker.new_id()
        session = server.tracker.add(session_id, timeout_ms, server.clock.monotonic_ms())
        session.connection = connection
        connection.session = session
        if server.local_sessions is not None:
            session.local = server.local_sessions
            self.answer(connection, timeout_ms, session_id, session_password(session_id))
            return
        connection.begin_handshake()
        server.pipeline.open_session(session_id, timeout_ms)
        server.pipeline.submit(
            connection, session_id, 0, OpCode.CREATE_SESSION, _TIMEOUT.pack(timeout_ms), connection.identities
        )

    def _renew(self, connection: Connection, request: ConnectRequest, timeout_ms: int) -> None:
        """A client comes back with its session."""
        server = self.server
        server.stats.count("connection_revalidate_count")
        session_id = request.session_id
        session = server.tracker.sessions.get(session_id)
        # Apache's order: whoever names a session takes its connection away, and is refused only then.
        if session is not None and session.connection is not None and session.connection is not connection:
            session.connection.abort()
        if request.password != session_password(session_id):
            server.complaints.warn(
                "wrong password", "%r has no right to session %#x: refused", connection, session_id & (2**64 - 1)
            )
            self.renewed(connection, None, timeout_ms)
        else:
            server.renew(connection, session_id, timeout_ms)

    def renewed(self, connection: Connection, session: Session | None, timeout_ms: int) -> None:
        """Whether the session lives is known: answer its client."""
        server = self.server
        if session is None or session.id in server.pipeline.closing:
            self.answer(connection, 0, 0, NO_PASSWORD)
            connection.close()
            return
        session.timeout_ms = timeout_ms
        session.connection = connection
        connection.session = session
        server.tracker.touch(session, server.clock.monotonic_ms())
        self.answer(connection, timeout_ms, session.id, session_password(session.id))

    def opened(self, connection: Connection, session_id: int) -> None:
        """The new session's transaction is durable: the client may know of it."""
        session = self.server.tracker.sessions.get(session_id)
        if session is None or connection.closed:
            return
        self.answer(connection, session.timeout_ms, session_id, session_password(session_id))
        connection.end_handshake()

    def answer(self, connection: Connection, timeout_ms: int, session_id: int, password: bytes) -> None:
        payload = bytearray()
        ConnectResponse(0, timeout_ms, session_id, password).encode(payload)
        if connection.mirror_read_only:
            write_boolean(payload, self.server.is_read_only)
        connection.out.append(_LENGTH.pack(len(payload)) + payload)
        connection.sent += 1
        self.server.stats.packets_sent += 1
