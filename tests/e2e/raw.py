"""A client that is nothing but a socket: it can be as rude, as slow and as greedy as a test wants it to be."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from corral.jute.ops import CreateMode, OpCode, Xid
from corral.jute.records import (
    Acl,
    ConnectRequest,
    ConnectResponse,
    CreateRequest,
    Id,
    PathWatchRequest,
    SetDataRequest,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from corral.jute.record import Record

OPEN_ACL: Final = [Acl(31, Id("world", "anyone"))]
PATIENCE_S: Final = 20.0
"""Nothing that a test waits for takes longer on a working server, however busy the machine."""

_HEADER = struct.Struct(">ii")
_REPLY = struct.Struct(">iqi")


def frame(payload: bytes) -> bytes:
    """A payload with its length in front."""
    return struct.pack(">i", len(payload)) + payload


def request(xid: int, op: int, body: bytes = b"") -> bytes:
    """The frame of a request."""
    return frame(_HEADER.pack(xid, op) + body)


def get_data(path: bytes, *, watch: bool = False) -> bytes:
    return PathWatchRequest(path, watch).to_bytes()


def set_data(path: bytes, data: bytes) -> bytes:
    return SetDataRequest(path, data, -1).to_bytes()


def create(path: bytes, data: bytes = b"", flags: int = CreateMode.PERSISTENT) -> bytes:
    return CreateRequest(path, data, OPEN_ACL, flags).to_bytes()


PING: Final = request(Xid.PING, OpCode.PING)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply, or with xid -1 a watch event."""

    xid: int
    zxid: int
    error: int
    body: bytes


class ConnectionEndedError(Exception):
    """The server closed the connection."""


class Raw:
    """A TCP connection to a server; every wait is bounded."""

    def __init__(self, port: int, *, receive_buffer_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(PATIENCE_S)
        try:
            self.socket.connect(("127.0.0.1", port))
        except BaseException:
            self.socket.close()
            raise
        self._received = bytearray()
        self._xids = itertools.count(1)

    def send(self, data: bytes) -> None:
        """Raises ConnectionEndedError if the server closes before it has read everything."""
        try:
            self.socket.sendall(data)
        except (ConnectionResetError, BrokenPipeError) as error:
            raise ConnectionEndedError from error

    def finish_sending(self) -> None:
        """Tell the server that nothing more will come; one that has reset the connection need not be told."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def send_all_it_takes(self, data: bytes, limit_s: float = 2.0) -> int:
        """Send until the server takes nothing for ``limit_s``; returns how many bytes went out."""
        sent = 0
        self.socket.settimeout(limit_s)
        try:
            while sent < len(data):
                sent += self.socket.send(data[sent : sent + (1 << 20)])
        except TimeoutError:
            pass
        finally:
            self.socket.settimeout(PATIENCE_S)
        return sent

    def ended(self, limit_s: float = PATIENCE_S) -> bool:
        """Whether the server ends the connection within the time; what it sends meanwhile is thrown away."""
        deadline = time.monotonic() + limit_s
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                if not self.socket.recv(1 << 20):
                    return True
            except TimeoutError:
                return False
            except OSError:
                return True
        return False

    def everything(self) -> bytes:
        """All that comes until the server closes."""
        data = bytearray(self._received)
        with contextlib.suppress(ConnectionResetError):
            while chunk := self.socket.recv(1 << 20):
                data += chunk
        return bytes(data)

    def next_frame(self) -> bytes:
        """The next frame's payload. Raises ConnectionEndedError, or TimeoutError after PATIENCE_S."""
        size = 4
        while True:
            if len(self._received) >= 4:
                size = 4 + int.from_bytes(self._received[:4], "big")
            if len(self._received) >= size > 4:
                payload = bytes(self._received[4:size])
                del self._received[:size]
                return payload
            try:
                chunk = self.socket.recv(1 << 18)
            except ConnectionResetError as error:
                raise ConnectionEndedError from error
            if not chunk:
                raise ConnectionEndedError
            self._received += chunk

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Client(Raw):
    """A connection with a session."""

    def __init__(
        self,
        port: int,
        *,
        timeout_ms: int = 30_000,
        renew: tuple[int, bytes] | None = None,
        takes_read_only: bool = False,
        receive_buffer_bytes: int | None = None,
    ) -> None:
        super().__init__(port, receive_buffer_bytes=receive_buffer_bytes)
        session_id, password = renew or (0, bytes(16))
        try:
            self.send(
                frame(ConnectRequest(0, 0, timeout_ms, session_id, password).to_bytes() + bytes([takes_read_only]))
            )
            welcome = self.next_frame()
            self.session = ConnectResponse.from_bytes(welcome)
            self.is_read_only = welcome[-1] != 0
        except BaseException:
            self.close()
            raise

    @property
    def renewal(self) -> tuple[int, bytes]:
        """What another connection needs to go on with this session."""
        return self.session.session_id, self.session.password or b""

    def submit(self, op: int, body: bytes = b"") -> int:
        """Send a request; returns its xid."""
        xid = next(self._xids)
        self.send(request(xid, op, body))
        return xid

    def reply(self) -> Reply:
        payload = self.next_frame()
        xid, zxid, error = _REPLY.unpack_from(payload)
        return Reply(xid, zxid, error, payload[_REPLY.size :])

    def ask(self, op: int, body: bytes | Record = b"") -> Reply:
        """A request and its reply; watch events in between are thrown away."""
        xid = self.submit(op, body if isinstance(body, bytes) else body.to_bytes())
        while (reply := self.reply()).xid != xid:
            assert reply.xid == Xid.NOTIFICATION, f"a reply to {reply.xid} while {xid} was waited for"
        return reply

    def do(self, op: int, body: bytes) -> Reply:
        """A request that must succeed."""
        reply = self.ask(op, body)
        assert reply.error == 0, f"operation {op} failed with {reply.error}"
        return reply

    def ping(self) -> None:
        self.send(PING)
        assert self.reply().xid == Xid.PING


def word(port: int, name: str) -> str:
    """The answer to a four letter word."""
    with Raw(port) as connection:
        connection.send(name.encode("ascii"))
        return connection.everything().decode("utf-8")


def monitored(port: int) -> dict[str, str]:
    """The answer to ``mntr`` by key, without ``zk_``."""
    return dict(line.removeprefix("zk_").split("\t") for line in word(port, "mntr").splitlines())


def wait_until(condition: Callable[[], object], what: str, limit_s: float = PATIENCE_S) -> None:
    """Wait until ``condition()`` is true; AssertionError with ``what`` if that takes longer."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.01)
