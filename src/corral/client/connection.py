"""One connection to one server: frames in both directions, replies in the order of the requests, pings.

It knows nothing of other connections. What it cannot answer itself it tells its :class:`Owner`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import struct
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, cast

from corral.client.errors import ErrorCode, ReplyTooLargeError
from corral.jute.ops import OpCode, Xid
from corral.jute.primitives import JuteError, Reader, write_boolean
from corral.jute.records import ConnectRequest, ConnectResponse, WatcherEvent

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext

    from corral.client.addresses import Address
    from corral.client.calls import Call

_INT: Final = struct.Struct(">i")
_REQUEST: Final = struct.Struct(">iii")
_REPLY: Final = struct.Struct(">iqi")
_PING: Final = _REQUEST.pack(8, Xid.PING, OpCode.PING)
_NOTIFICATION: Final = int(Xid.NOTIFICATION)
_XID_MAX: Final = 0x7FFFFFFF
_HANDSHAKE_MAX: Final = 1024
"""Bytes of a connect response, at most: it has 37 with the passwords that servers give."""

log = logging.getLogger("corral.client")


class ProtocolViolationError(ConnectionError):
    """The peer sent what a server does not send."""


class Owner(Protocol):
    """To whom a connection tells what it learns."""

    def notified(self, zxid: int, event: WatcherEvent) -> None:
        """A watch fired."""

    def connection_ended(self, connection: Connection, reason: str) -> None:
        """It is over; calls that are in flight stay in :attr:`Connection.in_flight`."""


class Connection(asyncio.Protocol):
    """Made by :func:`dial`."""

    def __init__(self, owner: Owner, address: Address, request: bytes, max_reply_bytes: int) -> None:
        self._owner = owner
        self.address = address
        self._loop = asyncio.get_running_loop()
        self._request = request
        self._max_reply_bytes = max_reply_bytes
        self._transport: asyncio.Transport | None = None
        self.welcome: asyncio.Future[tuple[ConnectResponse, bool]] = self._loop.create_future()
        """The server's answer to the handshake, and whether it is read-only."""
        self.in_flight: deque[Call] = deque()
        self._aside: dict[int, deque[Callable[[int], None]]] = {}
        self._xid = 0
        self.zxid = 0
        """The newest that the server has told."""
        self._out = bytearray()
        self._flush_is_due = False
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self._wanted_bytes = 4
        self._skipped_bytes = 0
        self.timeout = 0.0
        self._sent_at = self._heard_at = self._loop.time()
        self.acknowledged_at = self._sent_at
        """When something was sent of which it is known that the server has got it."""
        self._sent_xid = 0
        """The newest request that has been written: one that was sent before says nothing of what is sent now."""
        self._sample: tuple[int, float] | None = None
        self._pings: deque[float] = deque()
        """When each ping was sent that has not been answered."""
        self._torn = b""
        """The rest of a ping of which the heartbeat could write only the beginning."""
        self._is_late = False
        self._timer: asyncio.TimerHandle | None = None
        self._sending = threading.Lock()
        """Held while a request gets its number and its place, and while bytes go out: other threads send too."""
        self._direct: int | None = None
        """The socket, if other threads may write to it."""
        self.sends = 0
        """How often something was sent: the heartbeat's thread looks at it."""
        self.reason = ""
        self.has_ended = False

    def __repr__(self) -> str:
        state = "ended" if self.has_ended else "open"
        return f"<Connection {self.address} {state}, {len(self.in_flight)} in flight>"

    # The shell around the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        if self.has_ended:
            # Given up while it was being made.
            self._transport.abort()
            return
        self._transport.write(_INT.pack(len(self._request)) + self._request)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(str(error) if error else "the server closed the connection")

    def eof_received(self) -> bool:
        return False

    def abort(self, reason: str) -> None:
        """Close at once; what has not been written is thrown away."""
        if not self.has_ended:
            self._end(reason)

    def _end(self, reason: str) -> None:
        # From here on the socket's number may come to mean another socket: a heartbeat must be over by then.
        with self._sending:
            if self.has_ended:
                return
            self.has_ended = True
        self.reason = reason
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        if not self.welcome.done():
            self.welcome.set_exception(ConnectionError(reason))
            # Whoever waited may have been cancelled.
            self.welcome.exception()
        self._owner.connection_ended(self, reason)
        for waiting in self._aside.values():
            while waiting:
                waiting.popleft()(ErrorCode.CONNECTION_LOSS)

    # Sending

    def establish(self, timeout: float) -> None:
        """The handshake has gone well: ping from now on, by this session timeout in seconds."""
        self.timeout = timeout
        self._plan()

    def send(self, call: Call) -> None:
        """Send a request; its reply completes it."""
        body = call.body
        with self._sending:
            self._xid = xid = self._xid + 1 if self._xid < _XID_MAX else 1
            call.xid = xid
            self.in_flight.append(call)
            out = self._out
            out += _REQUEST.pack(8 + len(body), xid, call.code)
            out += body
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def send_aside(self, xid: int, code: int, body: bytes, answered: Callable[[int], None]) -> None:
        """Send a request with an xid of its own (auth, setWatches); ``answered`` gets the reply's error code."""
        self._aside.setdefault(xid, deque()).append(answered)
        self._out += _REQUEST.pack(8 + len(body), xid, code) + body
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self.has_ended or self._transport is None:
            return
        self._sent_at = now = self._loop.time()
        self.sends += 1
        with self._sending:
            if self._sample is None and self._xid != self._sent_xid:
                self._sample = (self._xid, now)
            self._sent_xid = self._xid
            out, self._out = self._out, bytearray()
            self._write(out)

    def _write(self, out: bytes | bytearray) -> None:
        assert self._transport is not None
        if self._torn:
            self._transport.write(self._torn)
            self._torn = b""
        self._transport.write(out)

    def open_to_threads(self) -> None:
        """All that must be sent first has been handed over: from now on other threads may send."""
        transport = self._transport
        assert transport is not None
        sock = transport.get_extra_info("socket")
        # What goes through TLS cannot be written past the loop.
        if sock is not None and transport.get_extra_info("ssl_object") is None:
            self._direct = sock.fileno()

    def send_at_once(self, call: Call) -> bool:
        """From any thread: send a request past the loop. False if it cannot be: it is then for the loop to send it.

        It leaves the times alone, by which the loop's thread pings: so that goes on, and is what tells how long the
        session lives.
        """
        body = call.body
        with self._sending:
            descriptor, transport = self._direct, self._transport
            if descriptor is None or transport is None or self.has_ended:
                return False
            if self._out or self._torn or transport.get_write_buffer_size():
                return False
            self._xid = self._sent_xid = xid = self._xid + 1 if self._xid < _XID_MAX else 1
            call.xid = xid
            self.in_flight.append(call)
            frame = _REQUEST.pack(8 + len(body), xid, call.code) + body
            try:
                written = os.write(descriptor, frame)
            except BlockingIOError:
                written = 0
            except OSError as error:
                self._loop.call_soon_threadsafe(self.abort, str(error))
                return True
            self._torn = frame[written:]
        if written < len(frame):
            self._loop.call_soon_threadsafe(self._flush)
        return True

    def beat(self) -> None:
        """From the heartbeat's thread: ping past the loop, unless bytes of a frame may be half sent."""
        transport = self._transport
        with self._sending:
            if self.has_ended or not self.timeout or transport is None or self._torn:
                return
            sock = transport.get_extra_info("socket")
            # What goes through TLS cannot be written past the loop.
            if transport.get_write_buffer_size() or sock is None or transport.get_extra_info("ssl_object") is not None:
                return
            now = self._loop.time()
            try:
                written = os.write(sock.fileno(), _PING)
            except OSError as error:
                log.debug("heartbeat to %s: %s", self.address, error)
                return
            self._torn = _PING[written:]
            self._pings.append(now)

    # Time

    def _plan(self) -> None:
        due = min(self._sent_at + self.timeout / 3, self._heard_at + self.timeout * 2 / 3)
        self._timer = self._loop.call_at(due, self._check, due)

    def _check(self, due: float) -> None:
        now = self._loop.time()
        if now - due > self.timeout / 6 and not self._is_late:
            # The program kept the loop busy. What has come meanwhile is read first, before it is judged.
            self._is_late = True
            self._ping(now)
            pause = self.timeout / 20
            self._timer = self._loop.call_later(pause, self._check, now + pause)
            return
        self._is_late = False
        if now - self._heard_at >= self.timeout * 2 / 3:
            self.abort(f"nothing heard for {now - self._heard_at:.1f} s")
            return
        if now - self._sent_at >= self.timeout / 3:
            self._ping(now)
        self._plan()

    def _ping(self, now: float) -> None:
        self._flush()
        if self.has_ended or self._transport is None:
            return
        self._sent_at = now
        with self._sending:
            self._pings.append(now)
            self._write(_PING)

    # Receiving

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        if self._skipped_bytes:
            data = self._skip(data)
        if self._partial:
            self._partial.append(data)
            self._partial_bytes += len(data)
            if self._partial_bytes < self._wanted_bytes:
                return
            data = b"".join(self._partial)
            self._partial.clear()
        try:
            self._receive(data)
        except (JuteError, struct.error, ProtocolViolationError) as error:
            self.abort(f"{self.address} does not speak the protocol: {error}")

    def _receive(self, data: bytes) -> None:
        position = 0
        if not self.welcome.done():
            position = self._read_welcome(data)
            if not position:
                self._partial.append(data)
                self._partial_bytes = len(data)
                return
        end = len(data)
        in_flight = self.in_flight
        read_size = _INT.unpack_from
        read_header = _REPLY.unpack_from
        wanted = 4
        while end - position >= 4:
            start = position + 4
            size = read_size(data, position)[0]
            stop = start + size
            if stop > end or size > self._max_reply_bytes:
                if size > self._max_reply_bytes:
                    if end - start >= _REPLY.size:
                        position = self._refuse_large(data, start, size, end)
                        continue
                    size = _REPLY.size
                wanted = 4 + size
                break
            if size < _REPLY.size:
                raise ProtocolViolationError(f"a frame of {size} bytes")
            xid, zxid, error = read_header(data, start)
            if xid > 0:
                if zxid > 0:
                    self.zxid = zxid
                if not in_flight or in_flight[0].xid != xid:
                    raise ProtocolViolationError(f"a reply to {xid}, which is not the oldest request")
                call = in_flight[0]
                if error:
                    in_flight.popleft()
                    call.refuse(error)
                else:
                    call.complete(data, start + _REPLY.size, stop)
                    in_flight.popleft()
            else:
                self._read_special(data, start + _REPLY.size, stop, xid, zxid, error)
            if self.has_ended:
                return
            position = stop
        if position < end:
            rest = data[position:] if position else data
            self._partial.append(rest)
            self._partial_bytes = len(rest)
            self._wanted_bytes = wanted
        sample = self._sample
        if sample is not None and (not in_flight or _is_after(in_flight[0].xid, sample[0])):
            self.acknowledged_at = max(self.acknowledged_at, sample[1])
            self._sample = None

    def _read_special(self, data: bytes, start: int, stop: int, xid: int, zxid: int, error: int) -> None:
        if xid == _NOTIFICATION:
            self._owner.notified(zxid, WatcherEvent.decode(Reader(data, start, stop)))
        elif xid == Xid.PING:
            if zxid > 0:
                self.zxid = zxid
            if self._pings:
                # Replies come in the order of the pings: this one says nothing of those that were sent later.
                self.acknowledged_at = max(self.acknowledged_at, self._pings.popleft())
        elif self._aside.get(xid):
            self._aside[xid].popleft()(error)
        elif xid not in (Xid.AUTH, Xid.SET_WATCHES):
            raise ProtocolViolationError(f"a reply to {xid}")

    def _read_welcome(self, data: bytes) -> int:
        """Read the handshake's answer at the start of ``data``, if it is whole; returns where it ends, or 0."""
        if len(data) < 4:
            return 0
        size: int = _INT.unpack_from(data)[0]
        if not 20 <= size <= _HANDSHAKE_MAX:
            raise ProtocolViolationError(f"a handshake of {size} bytes")
        if len(data) < 4 + size:
            return 0
        reader = Reader(data, 4, 4 + size)
        response = ConnectResponse.decode(reader)
        read_only = reader.remaining > 0 and reader.read_boolean()
        self.welcome.set_result((response, read_only))
        return 4 + size

    def _refuse_large(self, data: bytes, start: int, size: int, end: int) -> int:
        """Fail the call that a frame beyond the limit answers, and read past the frame; returns where to go on."""
        xid, _, _ = _REPLY.unpack_from(data, start)
        if not self.in_flight or self.in_flight[0].xid != xid:
            raise ProtocolViolationError(f"a frame of {size} bytes that answers no request")
        call = self.in_flight.popleft()
        call.fail(
            ReplyTooLargeError(
                f"{call.path}: the answer has {size} bytes, more than max_reply_bytes={self._max_reply_bytes}"
            )
        )
        stop = min(start + size, end)
        self._skipped_bytes = start + size - stop
        return stop

    def _skip(self, data: bytes) -> bytes:
        skipped = min(self._skipped_bytes, len(data))
        self._skipped_bytes -= skipped
        return data[skipped:]


def _is_after(xid: int, earlier: int) -> bool:
    """Whether a request was made after another one that is not much older: the numbers begin anew when they end."""
    return 0 < (xid - earlier) % _XID_MAX < _XID_MAX // 2


async def look_up(address: Address) -> list[str]:
    """The IP addresses that the name of a server stands for now. Raises OSError, and UnicodeError for no name."""
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(place[0]) for *_, place in found))
    return [address.host]


async def dial(
    owner: Owner,
    address: Address,
    host: str,
    request: ConnectRequest,
    *,
    read_only: bool,
    ssl: SSLContext | None,
    timeout: float,
    max_reply_bytes: int,
) -> tuple[Connection, ConnectResponse, bool]:
    """Connect to ``host``, one of the IP addresses of ``address``, and shake hands.

    Returns the connection, the server's answer, and whether the server is read-only.

    Raises:
        OSError: there is no such server, it does not answer in time (TimeoutError), or closes the connection.
    """
    loop = asyncio.get_running_loop()
    out = bytearray(request.to_bytes())
    write_boolean(out, read_only)
    connection = Connection(owner, address, bytes(out), max_reply_bytes)
    try:
        async with asyncio.timeout(timeout):
            await loop.create_connection(
                lambda: connection,
                host,
                address.port,
                ssl=ssl,
                server_hostname=address.host if ssl is not None else None,
            )
            response, server_is_read_only = await connection.welcome
    except BaseException:
        connection.abort("the attempt to connect was given up")
        raise
    return connection, response, server_is_read_only
