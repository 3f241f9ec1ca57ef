"""What stands before requests only where a setting asks for it.

Authentication that is enforced, the request throttle, and the limit on large requests. Without any of these settings
there is no gate, and requests pay nothing for it. Sources: AuthenticationHelper, RequestThrottler,
ZooKeeperServer.checkRequestSizeWhenMessageReceived.

The throttle: while ``request_throttle_max_requests`` writes are in process, a connection whose next request would be
one more is stalled. It is not read from, and when there is room again stalled connections go on in the order in which
they came. Reads that wait for nothing are answered at once and never stall. Apache's server polls instead, every
``request_throttle_stall_time``; here a stalled connection goes on as soon as it can.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from corral.jute.errors import ErrorCode
from corral.jute.ops import OpCode

if TYPE_CHECKING:
    from corral.server.config import ServerConfig
    from corral.server.connection import Connection
    from corral.server.standalone import Server

_NEVER_OVERDUE = frozenset({OpCode.PING, OpCode.CLOSE_SESSION})


class RequestGate:
    """Lets requests through, stalls or refuses them."""

    def __init__(self, server: Server) -> None:
        self._server = server
        config = server.config
        self._schemes = config.auth.enforce_auth_schemes if config.auth.enforce_auth_enabled else None
        self._throttle = config.request_throttle
        self._overdue_ms = config.limits.throttled_op_wait_time_ms
        self._large = config.limits.large_request_threshold
        self._large_max_bytes = config.limits.large_request_max_bytes
        self._stalled: dict[Connection, None] = {}
        self._large_in_process: deque[tuple[int, int]] = deque()
        """zxid of the write that each waits for, and its size."""
        self._large_bytes = 0

    @staticmethod
    def is_needed(config: ServerConfig) -> bool:
        """Whether any setting asks for a gate."""
        return (
            config.auth.enforce_auth_enabled
            or config.request_throttle.max_requests > 0
            or config.limits.large_request_threshold > 0
        )

    def serve(self, connection: Connection, xid: int, op: int, body: bytes) -> bool:
        """Serve one request, or refuse it; False if its connection is stalled and it has to be offered again."""
        if op not in (OpCode.AUTH, OpCode.SASL):
            if self._schemes is not None and not connection.authenticated & self._schemes:
                connection.reply_at_once(xid, 0, ErrorCode.SESSION_CLOSED_REQUIRE_SASL_AUTH)
                connection.close_after_flush = True
                return True
            if self._throttle.max_requests > 0:
                if self._must_stall(connection, op):
                    return False
                if self._is_stale_or_overdue(connection, xid, op):
                    return True
        size = len(body) + 8
        if not self.admits_size(connection, size):
            return True
        connection.serve_request(xid, op, body)
        if 0 < self._large < size and connection.waiting:
            self._large_in_process.append((self._server.pipeline.zxid, size))
            self._large_bytes += size
        return True

    def admits_size(self, connection: Connection, size: int) -> bool:
        """Whether a request of so many bytes is not too much besides the large ones in process.

        If it is, the connection is closed.
        """
        if not 0 < self._large < size or self._large_bytes + size <= self._large_max_bytes:
            return True
        server = self._server
        server.stats.count("large_requests_rejected")
        server.complaints.warn(
            "large requests",
            "%r sends a request of %d bytes while large ones of %d bytes are in process: connection closed",
            *(connection, size, self._large_bytes),
        )
        connection.close()
        return False

    def _must_stall(self, connection: Connection, op: int) -> bool:
        server = self._server
        if server.pipeline.outstanding < self._throttle.max_requests:
            return False
        if op == OpCode.PING or not (connection.waiting or connection.is_write(op)):
            return False
        server.stats.count("request_throttle_wait_count")
        if connection.stalled_ms is None:
            connection.stalled_ms = server.clock.monotonic_ms()
        self._stalled[connection] = None
        return True

    def _is_stale_or_overdue(self, connection: Connection, xid: int, op: int) -> bool:
        server = self._server
        waited_ms = 0
        if connection.stalled_ms is not None:
            waited_ms = server.clock.monotonic_ms() - connection.stalled_ms
        server.stats.note("request_throttle_queue_time_ms", waited_ms)
        if op not in _NEVER_OVERDUE and 0 < self._overdue_ms < waited_ms:
            server.stats.count("throttled_ops")
            connection.refuse(xid, ErrorCode.THROTTLED_OP)
            return True
        session = connection.session
        is_stale = (
            self._throttle.stale_latency_check
            and op != OpCode.CLOSE_SESSION
            and session is not None
            and waited_ms > session.timeout_ms
        )
        if is_stale and self._throttle.drop_stale:
            # Later requests of the connection must not be served without this one.
            server.stats.count("stale_requests_dropped")
            connection.abort()
            return True
        if is_stale:
            server.stats.count("stale_requests")
        return False

    def served(self, connection: Connection) -> None:
        """The connection has had its turn."""
        if connection.stalled_ms is not None and connection not in self._stalled:
            connection.stalled_ms = None

    def is_stalled(self, connection: Connection) -> bool:
        """Whether the connection waits for its turn."""
        return connection in self._stalled

    def batch_applied(self) -> None:
        """Writes are done: there may be room for others."""
        applied = self._server.tree.last_zxid
        while self._large_in_process and self._large_in_process[0][0] <= applied:
            self._large_bytes -= self._large_in_process.popleft()[1]
        while self._stalled and self._server.pipeline.outstanding < self._throttle.max_requests:
            connection = next(iter(self._stalled))
            del self._stalled[connection]
            connection.go_on()

    def forget(self, connection: Connection) -> None:
        """The connection is gone, with what it had to wait for."""
        if connection in self._stalled:
            del self._stalled[connection]
            if self._throttle.drop_stale and self._throttle.stale_connection_check:
                self._server.stats.count("stale_requests_dropped")
