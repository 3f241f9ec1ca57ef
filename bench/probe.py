"""Waits for a server's first answered request: a session and a getData of the root, in raw frames."""

import socket
import struct
import time
from collections.abc import Callable

from bench.errors import BenchError

_RETRY_S = 0.002
_CONNECT_REQUEST = struct.pack(">iqiqi16s?", 0, 0, 10_000, 0, 16, bytes(16), False)
_GET_ROOT = struct.pack(">iii1s?", 1, 4, 1, b"/", False)
_CLOSE_SESSION = struct.pack(">ii", 2, -11)
_REPLY_HEADER = struct.Struct(">iqi")


def wait_for_answer(port: int, limit_s: float, still_running: Callable[[], None]) -> None:
    """Returns once the server on the loopback port has answered a request.

    `still_running` is called between attempts and raises when waiting is pointless.
    BenchError when no answer came within `limit_s` or the answer was an error.
    """
    end = time.monotonic() + limit_s
    while (left_s := end - time.monotonic()) > 0:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=left_s) as connection:
                _ask(connection)
                return
        except (ConnectionError, TimeoutError):
            still_running()
            time.sleep(_RETRY_S)
    raise BenchError(f"no answer from the server on port {port} within {limit_s:.0f} s")


def _ask(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _send(connection, _CONNECT_REQUEST)
    session = _receive(connection)
    if struct.unpack_from(">i", session, 4)[0] <= 0:
        raise BenchError("the server refused the probe's session")
    _send(connection, _GET_ROOT)
    _xid, _zxid, error = _REPLY_HEADER.unpack_from(_receive(connection))
    if error:
        raise BenchError(f"getData of / was answered with error {error}")
    _send(connection, _CLOSE_SESSION)
    _receive(connection)


def _send(connection: socket.socket, payload: bytes) -> None:
    connection.sendall(struct.pack(">i", len(payload)) + payload)


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
