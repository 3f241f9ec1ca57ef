"""Requests that other threads send past the loop: their order, and what the loop must still send first."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.client_peer import reply, welcome
from tests.client_wire import Told, Wire, ask

from corral.client.addresses import Address
from corral.client.calls import Call
from corral.client.connection import Connection
from corral.client.results import decode_nothing
from corral.jute.ops import OpCode, Xid
from corral.sync.calls import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

_REQUEST = struct.Struct(">iii")


class SocketWire(Wire):
    """A transport of which other threads can see the socket; what the loop sends goes there too."""

    def __init__(self, near: socket.socket, *, tls: bool = False) -> None:
        super().__init__()
        self._extra = {"socket": near, "ssl_object": object() if tls else None}
        self.near = near
        self.waiting = 0

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.near.sendall(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting


class Far:
    """The server's end."""

    def __init__(self) -> None:
        self.near, self.end = socket.socketpair()
        self.near.setblocking(False)
        self._received = b""

    def take(self) -> list[tuple[int, int]]:
        """The xid and op code of each whole request since the last look."""
        self.end.setblocking(False)
        try:
            while data := self.end.recv(1 << 20):
                self._received += data
        except BlockingIOError:
            pass
        found = []
        while len(self._received) >= 12:
            size, xid, code = _REQUEST.unpack_from(self._received)
            if len(self._received) < 4 + size:
                break
            found.append((xid, code))
            self._received = self._received[4 + size :]
        return found


@contextmanager
def established(*, tls: bool = False) -> Iterator[tuple[Connection, SocketWire, Far, Told]]:
    far = Far()
    told, wire = Told(), SocketWire(far.near, tls=tls)
    connection = Connection(told, Address("server", 2181), b"", 1 << 20)
    connection.connection_made(wire)
    far.end.recv(100)
    connection.data_received(welcome())
    with far.near, far.end:
        yield connection, wire, far, told


def blocking_call(body: bytes = b"") -> Call:
    future: Any = Answer()
    return Call(OpCode.GET_DATA, body, decode_nothing, future, "/asked", repeatable=True)


def test_requests_keep_their_order_whoever_sends_them() -> None:
    async def main() -> None:
        with established() as (connection, _, far, _):
            connection.open_to_threads()
            first, third = blocking_call(), blocking_call()
            assert connection.send_at_once(first)
            assert [xid for xid, _ in far.take()] == [1]
            second = ask(connection)
            assert not connection.send_at_once(third), "the loop has not sent the second yet"
            connection.send(third)
            await asyncio.sleep(0)
            assert [xid for xid, _ in far.take()] == [2, 3]
            assert [each.xid for each in connection.in_flight] == [1, 2, 3]
            connection.data_received(reply(1) + reply(2) + reply(3))
            assert first.future.done()
            assert second.future.done()
            assert third.future.done()

    asyncio.run(main())


def test_what_a_connection_begins_with_goes_first() -> None:
    async def main() -> None:
        with established() as (connection, _, far, _):
            assert not connection.send_at_once(blocking_call()), "the credentials have not been handed over"
            connection.send_aside(Xid.AUTH, OpCode.AUTH, b"", lambda error: None)
            connection.open_to_threads()
            assert not connection.send_at_once(blocking_call()), "they have not been sent"
            await asyncio.sleep(0)
            assert connection.send_at_once(blocking_call())
            assert far.take() == [(Xid.AUTH, OpCode.AUTH), (1, OpCode.GET_DATA)]

    asyncio.run(main())


def test_nothing_overtakes_what_the_transport_keeps() -> None:
    async def main() -> None:
        with established() as (connection, wire, far, _):
            connection.open_to_threads()
            wire.waiting = 1
            assert not connection.send_at_once(blocking_call())
            wire.waiting = 0
            assert connection.send_at_once(blocking_call())
            assert len(far.take()) == 1

    asyncio.run(main())


def test_nothing_goes_past_tls_or_to_a_connection_that_has_ended() -> None:
    async def main() -> None:
        with established(tls=True) as (connection, _, _, _):
            connection.open_to_threads()
            assert not connection.send_at_once(blocking_call())
        with established() as (connection, _, far, _):
            connection.open_to_threads()
            connection.abort("by order of the test")
            assert not connection.send_at_once(blocking_call())
            assert far.take() == []

    asyncio.run(main())


def test_the_rest_of_a_request_goes_before_all_others() -> None:
    async def main() -> None:
        with established() as (connection, _, far, _):
            connection.open_to_threads()
            far.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            assert connection.send_at_once(blocking_call(bytes(200_000)))
            assert far.take() == [], "only a part of it"
            assert not connection.send_at_once(blocking_call())
            ask(connection)
            far.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            await asyncio.sleep(0)
            assert [xid for xid, _ in far.take()] == [1, 2]

    asyncio.run(main())


def test_a_broken_socket_ends_the_connection_with_the_call_in_flight() -> None:
    async def main() -> None:
        with established() as (connection, _, far, told):
            connection.open_to_threads()
            far.end.close()
            call = blocking_call()
            assert connection.send_at_once(call)
            assert list(connection.in_flight) == [call]
            await asyncio.sleep(0)
            assert len(told.ends) == 1

    asyncio.run(main())


def test_a_reply_proves_nothing_about_later_than_its_request() -> None:
    class Later:
        """The loop, with its clock put forward."""

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._loop = loop

        def __getattr__(self, name: str) -> Any:
            return getattr(self._loop, name)

        def time(self) -> float:
            return self._loop.time() + 1000

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        for by_thread in (False, True):
            with established() as (connection, _, _, _):
                connection.open_to_threads()
                ask(connection)
                await asyncio.sleep(0)
                if by_thread:
                    assert connection.send_at_once(blocking_call())
                else:
                    ask(connection)
                    await asyncio.sleep(0)
                connection.data_received(reply(1))
                connection._loop = Later(loop)  # type: ignore[assignment]
                connection._ping(connection._loop.time())
                connection.data_received(reply(2))
                assert connection.acknowledged_at < loop.time() + 500
                connection.data_received(reply(Xid.PING))
                assert connection.acknowledged_at > loop.time() + 500
                connection._loop = loop

    asyncio.run(main())
