"""A client that writes to several servers without a pause and comes back wherever its connection ends.

It has a connection with a session of its own to each server, one setData in flight on each, in raw frames. A connection
that ends is replaced within milliseconds, and one that is not answered gets another one beside it: so what is measured
is how long the servers do not serve, not how long a client takes to come back.
"""

import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

from bench.errors import BenchError
from bench.probe import CONNECT_REQUEST, REPLY_HEADER, framed

_AGAIN_S = 0.005
"""Pause before the next attempt where a server refused one, or has ended it."""
_PATIENCE_S = 0.25
"""A server that has not answered for so long is asked on another connection too."""
_LINES_MOST = 8
_SET_ROOT = struct.pack(">iii1si1si", 1, 5, 1, b"/", 1, b"x", -1)
_CONNECTION_LOSS = (BrokenPipeError, ConnectionError)


class Acknowledged(NamedTuple):
    """A write and when it was answered, by the clock `time.monotonic`."""

    port: int
    sent_s: float
    answered_s: float


class _Line:
    """One connection and what is under way on it."""

    def __init__(self, port: int) -> None:
        """ConnectionError when the server refuses it."""
        self.port = port
        self.has_session = False
        self.sent_s = time.monotonic()
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=1.0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self._send(CONNECT_REQUEST)
        self.socket.setblocking(False)

    def take(self) -> Acknowledged | None:
        """What came in; a write that was answered is followed by the next one. ConnectionError when it has ended."""
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionResetError("the server closed the connection")
        self._received += piece
        acknowledged = None
        while (answer := self._next()) is not None:
            if not self.has_session:
                if struct.unpack_from(">i", answer, 4)[0] <= 0:
                    raise ConnectionResetError("no session")
                self.has_session = True
            else:
                _xid, _zxid, error = REPLY_HEADER.unpack_from(answer)
                if error:
                    raise ConnectionResetError(f"error {error}")
                acknowledged = Acknowledged(self.port, self.sent_s, time.monotonic())
            self._send(_SET_ROOT)
        return acknowledged

    def _next(self) -> bytes | None:
        """The next whole frame; None while there is none."""
        if len(self._received) < 4:
            return None
        end = 4 + int.from_bytes(self._received[:4], "big")
        if len(self._received) < end:
            return None
        frame = bytes(self._received[4:end])
        del self._received[:end]
        return frame

    def _send(self, payload: bytes) -> None:
        self.sent_s = time.monotonic()
        self.socket.sendall(framed(payload))


class Writer:
    """Writes to all of some loopback ports while :meth:`run` runs."""

    def __init__(self, ports: Iterable[int]) -> None:
        self._lines: dict[int, list[_Line]] = {port: [] for port in ports}
        self._next_attempt_s = dict.fromkeys(self._lines, 0.0)
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for lines in self._lines.values():
            for line in list(lines):
                self._drop(line)
        self._selector.close()

    def run(self, is_enough: Callable[[Acknowledged], bool], limit_s: float) -> Acknowledged:
        """Writes until a write is enough, and returns it; BenchError when none is within `limit_s`."""
        end = time.monotonic() + limit_s
        while (now := time.monotonic()) < end:
            for port in self._lines:
                self._see_to(port, now)
            for key, _ in self._selector.select(_AGAIN_S):
                line: _Line = key.data
                try:
                    acknowledged = line.take()
                except _CONNECTION_LOSS:
                    self._drop(line)
                    self._next_attempt_s[line.port] = time.monotonic() + _AGAIN_S
                    continue
                if acknowledged is not None and is_enough(acknowledged):
                    return acknowledged
        raise BenchError(f"no write was acknowledged within {limit_s:.0f} s")

    def _see_to(self, port: int, now: float) -> None:
        """Opens a connection where there is none, or none that is answered."""
        lines = self._lines[port]
        is_answered = any(now - line.sent_s < _PATIENCE_S for line in lines)
        if is_answered or len(lines) == _LINES_MOST or now < self._next_attempt_s[port]:
            return
        self._next_attempt_s[port] = now + _AGAIN_S
        with suppress(*_CONNECTION_LOSS, TimeoutError):
            line = _Line(port)
            lines.append(line)
            self._selector.register(line.socket, selectors.EVENT_READ, line)

    def _drop(self, line: _Line) -> None:
        self._selector.unregister(line.socket)
        line.socket.close()
        self._lines[line.port].remove(line)
