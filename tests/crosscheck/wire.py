"""A raw client connection: frames out, frames in, nothing assumed about either."""

from __future__ import annotations

import socket
import struct
import time
from typing import TYPE_CHECKING, Final

from tests.crosscheck.plan import Segments

if TYPE_CHECKING:
    from collections.abc import Sequence

RECEIVE_BYTES: Final = 1 << 18


def frame(payload: bytes) -> bytes:
    """A payload with its length in front."""
    return struct.pack(">i", len(payload)) + payload


class RawConnection:
    """One TCP connection. `closed` becomes true when the peer ends it, in whatever way."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=5.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self.closed = False

    def send(self, frames: Sequence[bytes], segments: Segments = Segments.ONE) -> None:
        """Send frames, cut into segments as told. A connection that the peer has closed swallows them."""
        whole = b"".join(frames)
        pieces: Sequence[bytes]
        match segments:
            case Segments.ONE:
                pieces = [whole]
            case Segments.FRAMES:
                pieces = frames
            case Segments.BYTES:
                pieces = [whole[i : i + 1] for i in range(len(whole))]
            case Segments.HALVES:
                cut = len(whole) - len(frames[-1]) // 2
                pieces = [whole[:cut], whole[cut:]]
        try:
            self._socket.settimeout(10.0)
            for piece in pieces:
                self._socket.sendall(piece)
        except OSError:
            self.closed = True

    def next_frame(self, deadline: float) -> bytes | None:
        """The payload of the next frame; ``None`` when the peer has closed or `deadline` (monotonic) has passed."""
        while True:
            if len(self._received) >= 4:
                (length,) = struct.unpack_from(">i", self._received)
                if len(self._received) >= 4 + length:
                    payload = bytes(self._received[4 : 4 + length])
                    del self._received[: 4 + length]
                    return payload
            if not self._receive(deadline):
                return None

    def wait_for_end(self, deadline: float) -> bytes:
        """Read until the peer closes or `deadline` passes; what came meanwhile and makes no frame is returned."""
        while self._receive(deadline):
            pass
        return bytes(self._received)

    def _receive(self, deadline: float) -> bool:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or self.closed:
            return False
        self._socket.settimeout(remaining)
        try:
            chunk = self._socket.recv(RECEIVE_BYTES)
        except TimeoutError:
            return False
        except OSError:
            chunk = b""
        if not chunk:
            self.closed = True
            return False
        self._received += chunk
        return True

    def close(self) -> None:
        self._socket.close()
        self.closed = True


def ask(address: tuple[str, int], word: bytes, timeout_s: float = 5.0) -> str:
    """The answer to an admin word."""
    connection = RawConnection(address)
    try:
        connection.send([word])
        return connection.wait_for_end(time.monotonic() + timeout_s).decode("utf-8", "replace")
    finally:
        connection.close()
