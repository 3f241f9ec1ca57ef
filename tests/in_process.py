"""A server on this test's own event loop, and connections to it whose transport is made of Python objects.

Nothing goes over a socket, so a test decides which bytes arrive together and sees exactly what is written.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corral.jute.records import Acl, ConnectRequest, ConnectResponse, CreateRequest, Id
from corral.server.clock import Clock
from corral.server.config import ServerConfig, StorageConfig
from corral.server.connection import Connection
from corral.server.standalone import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from pathlib import Path

    from corral.jute.record import Record

OPEN_ACL: Final = [Acl(31, Id("world", "anyone"))]
PATIENCE_S: Final = 20.0
ALL_WORDS: Final = frozenset({"*"})


class ManualClock(Clock):
    """Stands still until told."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self.now_ms

    def monotonic_ms(self) -> int:
        return self.now_ms


class Reply(NamedTuple):
    """One frame from the server after its first: a reply or, with xid -1, a watch event."""

    xid: int
    zxid: int
    error: int
    body: bytes


class _Socket:
    """Takes socket options."""

    def setsockopt(self, *_: object) -> None:
        return


class MemoryTransport(asyncio.Transport):
    """Keeps what is written; tells the protocol of its end in the next turn of the loop, as real ones do."""

    def __init__(self, protocol: Connection, peer: tuple[str, int]) -> None:
        super().__init__({"peername": peer, "socket": _Socket()})
        self.protocol = protocol
        self.written = bytearray()
        self.closing = False
        self.aborted = False
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.closing
        self.written += data

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return

    def get_write_buffer_size(self) -> int:
        return 0


class WatchedServer(Server):
    """A server; what goes wrong unseen on its event loop is in ``problems``."""

    problems: list[dict[str, Any]]


class Client:
    """A connection, its transport, and what a test does with them."""

    _ports = itertools.count(40_000)

    def __init__(self, server: WatchedServer, address: str = "127.0.0.1") -> None:
        self.server = server
        self.connection = Connection(server)
        self.transport = MemoryTransport(self.connection, (address, next(self._ports)))
        self.connection.connection_made(self.transport)
        self.response: ConnectResponse | None = None

    @property
    def closed(self) -> bool:
        return self.transport.closing

    async def feed(self, chunks: Iterable[bytes], turns: int = 0) -> None:
        """Let the chunks arrive one by one, each after ``turns`` turns of the loop, as far as the server reads."""
        for chunk in chunks:
            for _ in range(turns):
                await asyncio.sleep(0)
            await self._until(lambda: not self.transport.paused)
            if self.closed:
                return
            self.connection.data_received(chunk)
        await self.settle()

    async def settle(self) -> None:
        """Wait until everything asked for is answered."""
        await self._until(
            lambda: (
                not self.transport.paused
                and not self.connection.waiting
                and not self.connection.out
                and not self.server.pipeline.busy
            )
        )

    async def _until(self, reached: Any) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not self.closed and not reached():
                await asyncio.sleep(0)
                assert self.server.problems == []
        # What is due in this turn of the loop belongs to it.
        await asyncio.sleep(0)

    async def connect(
        self,
        timeout_ms: int = 30_000,
        session_id: int = 0,
        password: bytes = bytes(16),
        last_zxid: int = 0,
        *,
        read_only: bytes = b"\0",
    ) -> ConnectResponse | None:
        """The handshake; None if the server closes without an answer."""
        request = ConnectRequest(0, last_zxid, timeout_ms, session_id, password).to_bytes() + read_only
        await self.feed([frame(request)])
        frames = self.take_frames()
        if not frames:
            assert self.closed
            return None
        (payload,) = frames
        assert len(payload) == 36 + len(read_only)
        self.response = ConnectResponse.from_bytes(payload)
        return self.response

    async def ask(self, op: int, body: bytes | Record = b"", xid: int = 7) -> Reply:
        """One request and its one reply; watch events that came with it are left out."""
        replies = [reply for reply in await self.ask_all([(xid, op, body)]) if reply.xid != -1]
        assert len(replies) == 1, replies
        assert replies[0].xid == xid
        return replies[0]

    async def ask_all(self, requests: Sequence[tuple[int, int, bytes | Record]]) -> list[Reply]:
        """Everything that comes of requests sent together."""
        await self.feed([b"".join(request(xid, op, body) for xid, op, body in requests)])
        return self.take_replies()

    def take_frames(self) -> list[bytes]:
        """The payloads written since the last call."""
        frames = split_frames(bytes(self.transport.written))
        self.transport.written.clear()
        return frames

    def take_replies(self) -> list[Reply]:
        return [parse_reply(payload) for payload in self.take_frames()]

    def hang_up(self) -> None:
        """The client closes."""
        self.transport.close()


def frame(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload


def request(xid: int, op: int, body: bytes | Record = b"") -> bytes:
    """A request's frame."""
    encoded = body if isinstance(body, bytes) else body.to_bytes()
    return frame(struct.pack(">ii", xid, op) + encoded)


def create(path: bytes, data: bytes | None = b"", flags: int = 0, acl: list[Acl] | None = None) -> CreateRequest:
    return CreateRequest(path, data, acl or OPEN_ACL, flags)


def split_frames(data: bytes) -> list[bytes]:
    """The payloads of whole frames; there must be nothing else."""
    frames = []
    while data:
        (length,) = struct.unpack_from(">i", data)
        assert 0 <= length <= len(data) - 4
        frames.append(data[4 : 4 + length])
        data = data[4 + length :]
    return frames


def parse_reply(payload: bytes) -> Reply:
    xid, zxid, error = struct.unpack_from(">iqi", payload)
    return Reply(xid, zxid, error, payload[16:])


@asynccontextmanager
async def serving(data_dir: Path, clock: Clock | None = None, **settings: Any) -> AsyncIterator[WatchedServer]:
    """A server with its files in ``data_dir``; nothing may go wrong unseen on its event loop."""
    storage = settings.pop("storage", StorageConfig())
    config = ServerConfig(
        data_dir=data_dir,
        client_port=0,
        client_port_address="127.0.0.1",
        storage=replace(storage, force_sync=False, prealloc_size_kb=0),
        **settings,
    )
    server = WatchedServer(config, clock=ManualClock() if clock is None else clock)
    server.problems = problems = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    await server.start()
    try:
        yield server
    finally:
        if problems:
            server.crash()
        else:
            await server.stop()
        # Connections are told of their end in the next turn.
        await asyncio.sleep(0)
    assert problems == []
    assert server.failed is None
