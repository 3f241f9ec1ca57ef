"""Waits for a server's first answered request: a session and a getData of the root, in raw frames.

A server that is starting may refuse a connection, close it, hold it until it is ready, or lose it: Apache's does when
a request comes in at the wrong moment. So new attempts are made while earlier ones still wait, and the first one that
is answered counts.
"""

import selectors
import socket
import struct
import time
from collections.abc import Callable

from bench.errors import BenchError

_REFUSED_PAUSE_S = 0.002
_CLOSED_PAUSE_S = 0.01
_UNANSWERED_PAUSE_S = 0.05
_UNANSWERED_PAUSE_MOST_S = 2.0
_ANSWER_LIMIT_S = 60.0
CONNECT_REQUEST = struct.pack(">iqiqi16s?", 0, 0, 10_000, 0, 16, bytes(16), False)
"""Asks for a session of 10 s."""
_GET_ROOT = struct.pack(">iii1s?", 1, 4, 1, b"/", False)
_CLOSE_SESSION = struct.pack(">ii", 2, -11)
REPLY_HEADER = struct.Struct(">iqi")
"""xid, zxid, error."""


def wait_for_answer(port: int, limit_s: float, still_running: Callable[[], None]) -> int:
    """Returns once the server on the loopback port has answered a request: the zxid of its answer.

    `still_running` is called now and then and raises when waiting is pointless.
    BenchError when no answer came within `limit_s` or the answer was an error.
    """
    now = time.monotonic()
    end = now + limit_s
    next_attempt = now
    unanswered_pause_s = _UNANSWERED_PAUSE_S
    with selectors.DefaultSelector() as waiting:
        try:
            while now < end:
                if now >= next_attempt:
                    still_running()
                    if _begin_attempt(port, waiting):
                        next_attempt = now + unanswered_pause_s
                        unanswered_pause_s = min(2 * unanswered_pause_s, _UNANSWERED_PAUSE_MOST_S)
                    else:
                        next_attempt = now + _REFUSED_PAUSE_S
                for key, _ in waiting.select(max(0.0, next_attempt - time.monotonic())):
                    assert isinstance(key.fileobj, socket.socket)
                    zxid = _finish_attempt(key.fileobj)
                    if zxid is not None:
                        return zxid
                    waiting.unregister(key.fileobj)
                    key.fileobj.close()
                    next_attempt = time.monotonic() + _CLOSED_PAUSE_S
                now = time.monotonic()
        finally:
            for key in list(waiting.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()
    raise BenchError(f"no answer from the server on port {port} within {limit_s:.0f} s")


def _begin_attempt(port: int, waiting: selectors.BaseSelector) -> bool:
    """Asks for a session; False when the connection is refused."""
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_LIMIT_S)
    except ConnectionError:
        return False
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        _send(connection, CONNECT_REQUEST)
    except ConnectionError:
        connection.close()
        return False
    waiting.register(connection, selectors.EVENT_READ)
    return True


def _finish_attempt(connection: socket.socket) -> int | None:
    """Takes the session that was answered and reads the root with it: the reply's zxid.

    None when the server has closed instead.
    """
    try:
        session = _receive(connection)
        if struct.unpack_from(">i", session, 4)[0] <= 0:
            raise BenchError("the server refused the probe's session")
        _send(connection, _GET_ROOT)
        _xid, zxid, error = REPLY_HEADER.unpack_from(_receive(connection))
        if error:
            raise BenchError(f"getData of / was answered with error {error}")
        _send(connection, _CLOSE_SESSION)
        _receive(connection)
    except ConnectionError:
        return None
    return int(zxid)


def framed(payload: bytes) -> bytes:
    """The payload as it stands on the wire."""
    return struct.pack(">i", len(payload)) + payload


def _send(connection: socket.socket, payload: bytes) -> None:
    connection.sendall(framed(payload))


def _receive(connection: socket.socket) -> bytes:
    (length,) = struct.unpack(">i", _receive_exactly(connection, 4))
    return _receive_exactly(connection, length)


def _receive_exactly(connection: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        piece = connection.recv(length - len(received))
        if not piece:
            raise ConnectionResetError("the server closed the connection")
        received += piece
    return bytes(received)
