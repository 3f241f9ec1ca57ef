"""A client's connection without a socket: what it sends is collected, what it receives is given by the test."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

from corral.client.addresses import Address
from corral.client.calls import Call
from corral.client.connection import Connection
from corral.client.results import decode_nothing
from corral.jute.ops import OpCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.jute.records import WatcherEvent

_REQUEST = struct.Struct(">iii")


class Wire(asyncio.Transport):
    """Collects what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.is_aborted = True

    def take(self) -> list[tuple[int, int]]:
        """The xid and op code of each request since the last look."""
        found = []
        while self.sent:
            size, xid, code = _REQUEST.unpack_from(self.sent)
            found.append((xid, code))
            del self.sent[: 4 + size]
        return found


class Told:
    """Whoever owns the connection, and what it was told."""

    def __init__(self) -> None:
        self.events: list[tuple[int, WatcherEvent]] = []
        self.ends: list[str] = []

    def notified(self, zxid: int, event: WatcherEvent) -> None:
        self.events.append((zxid, event))

    def connection_ended(self, connection: Connection, reason: str) -> None:
        self.ends.append(reason)


def open_connection(*, max_reply_bytes: int = 1 << 20) -> tuple[Connection, Wire, Told]:
    """A connection whose handshake is still to be answered."""
    told, wire = Told(), Wire()
    connection = Connection(told, Address("server", 2181), b"", max_reply_bytes)
    connection.connection_made(wire)
    wire.sent.clear()
    return connection, wire, told


def ask(
    connection: Connection, decode: Callable[[bytes, int, int], Any] = decode_nothing, *, repeatable: bool = True
) -> Call:
    """Send a request."""
    future = asyncio.get_running_loop().create_future()
    call = Call(OpCode.GET_DATA, b"", decode, future, "/asked", repeatable=repeatable)
    connection.send(call)
    return call
