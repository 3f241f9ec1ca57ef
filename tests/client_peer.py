"""A server of which a test decides every byte, for what a real one does rarely or never."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corral.client import Client, connect
from corral.jute.ops import SYNC_CONNECTED, OpCode, Xid
from corral.jute.primitives import Reader, write_boolean, write_buffer, write_int, write_text
from corral.jute.records import ConnectRequest, ConnectResponse, Stat, WatcherEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType
    from typing import Self

SESSION: Final = 0x1001
PASSWORD: Final = b"sixteen letters!"
PATIENCE_S: Final = 20.0
"""Nothing that a test waits for takes longer, however busy the machine."""

_INT = struct.Struct(">i")
_HEADER = struct.Struct(">ii")
_REPLY = struct.Struct(">iqi")


class Request(NamedTuple):
    """What a client sent."""

    xid: int
    op: int
    body: bytes

    @property
    def path(self) -> str:
        """The path that the body begins with."""
        path = Reader(self.body).read_text()
        assert path is not None
        return path


def frame(payload: bytes) -> bytes:
    """A payload with its length in front."""
    return _INT.pack(len(payload)) + payload


def reply(xid: int, body: bytes = b"", *, zxid: int = 1, error: int = 0) -> bytes:
    """The frame of a reply."""
    return frame(_REPLY.pack(xid, zxid, error) + body)


def event(kind: int, path: str, *, zxid: int = -1) -> bytes:
    """The frame of a watch that fires."""
    body = WatcherEvent(kind, SYNC_CONNECTED, path.encode()).to_bytes()
    return reply(Xid.NOTIFICATION, body, zxid=zxid)


def welcome(
    session_id: int = SESSION, timeout_ms: int = 10_000, *, read_only: bool = False, password: bytes = PASSWORD
) -> bytes:
    """The frame that answers a handshake."""
    out = bytearray(ConnectResponse(0, timeout_ms, session_id, password).to_bytes())
    write_boolean(out, read_only)
    return frame(bytes(out))


REFUSAL: Final = welcome(0, 0, password=bytes(16))
"""The session has expired."""


def stat_body(*, version: int = 0, owner: int = 0, zxid: int = 1) -> bytes:
    return Stat(zxid, zxid, 0, 0, version, 0, 0, owner, 0, 0, zxid).to_bytes()


def znode_body(data: bytes | None = b"data") -> bytes:
    out = bytearray()
    write_buffer(out, data)
    return bytes(out) + stat_body()


def created_body(path: str, *, owner: int = 0) -> bytes:
    out = bytearray()
    write_text(out, path)
    return bytes(out) + stat_body(owner=owner)


def names_body(*names: str) -> bytes:
    out = bytearray()
    write_int(out, len(names))
    for name in names:
        write_text(out, name)
    return bytes(out)


class Visit:
    """One connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ahead = b""
        self.pings = 0
        """How many have been answered."""

    async def is_word(self) -> bool:
        """Whether an admin word comes where the handshake is expected."""
        self._ahead = await self._reader.readexactly(4)
        return self._ahead.isalpha()

    async def handshake(self) -> tuple[ConnectRequest, bool]:
        """What the client wants, and whether a read-only server will do."""
        reader = Reader(await self._read_frame())
        return ConnectRequest.decode(reader), reader.read_boolean()

    async def accept(self, answer: bytes | None = None) -> ConnectRequest:
        """Let the client in."""
        request, _ = await self.handshake()
        self.send(answer if answer is not None else welcome())
        return request

    async def read(self) -> Request:
        """The client's next request; pings are answered by the way. Raises EOFError when the connection is over."""
        while True:
            payload = await self._read_frame()
            xid, op = _HEADER.unpack_from(payload)
            if xid != Xid.PING:
                return Request(xid, op, payload[_HEADER.size :])
            self.pings += 1
            self.send(reply(Xid.PING))

    async def expect(self, op: OpCode) -> Request:
        """The next request, which is an ``op``."""
        request = await self.read()
        assert request.op == op, f"{OpCode(request.op).name} where {op.name} was expected"
        return request

    async def answer(self, op: OpCode, body: bytes = b"", *, zxid: int = 1, error: int = 0) -> Request:
        """Answer the next request, which is an ``op``."""
        request = await self.expect(op)
        self.send(reply(request.xid, body, zxid=zxid, error=error))
        return request

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def close(self) -> None:
        """End the connection, after what has been sent."""
        self._writer.close()

    def reset(self) -> None:
        """Break it at once."""
        self._writer.transport.abort()

    async def over(self) -> None:
        """Wait until the client has closed the connection; what it sends before is answered with a plain yes."""
        with suppress(EOFError, ConnectionError):
            while True:
                request = await self.read()
                self.send(reply(request.xid))
        self.close()

    async def _read_frame(self) -> bytes:
        head, self._ahead = self._ahead or await self._reader.readexactly(4), b""
        (size,) = _INT.unpack(head)
        return await self._reader.readexactly(size)


class Peer:
    """Listens on a free port of this machine, in the loop of the test.

    Without a ``script`` the test takes each connection with :meth:`visit`; with one, the script has every connection,
    and the connection ends with it.
    """

    def __init__(self, script: Callable[[Visit], Awaitable[None]] | None = None) -> None:
        self._script = script
        self._server: asyncio.Server | None = None
        self._visits: asyncio.Queue[Visit] = asyncio.Queue()
        self._open: deque[asyncio.StreamWriter] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self.connections = 0
        """How many there have been."""

    async def __aenter__(self) -> Self:
        await self.move("127.0.0.1", 0)
        return self

    async def move(self, host: str, port: int) -> None:
        """Listen there, and no longer where it was; connections stay."""
        if self._server is not None:
            self._server.close()
        self._server = await asyncio.start_server(self._receive, host, port)
        self.host = host
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if self._failure is not None and error is None:
            raise self._failure

    async def stop(self) -> None:
        """Break all connections, and let nobody in any more."""
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    async def visit(self) -> Visit:
        """The next connection."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._visits.get()

    def look_after(self, visit: Visit) -> None:
        """Answer whatever comes from now on with a plain yes."""
        self._tasks.add(asyncio.create_task(visit.over()))

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.append(writer)
        visit = Visit(reader, writer)
        if self._script is None:
            self._visits.put_nowait(visit)
            return
        try:
            await self._script(visit)
        except (EOFError, ConnectionError):
            # The client has gone, which is its right.
            pass
        except Exception as failure:
            self._failure = failure
        visit.close()


class NoPause(Random):
    """Lets no time pass between attempts, and keeps the bounds of the pauses."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self.bounds: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.bounds.append(b)
        return 0.0


def client(*peers: Peer, chroot: str = "", **options: Any) -> Client:
    """One that makes no pauses."""
    options.setdefault("random", NoPause())
    options.setdefault("heartbeat", False)
    return connect(",".join(peer.address for peer in peers) + chroot, **options)


@asynccontextmanager
async def connected(peer: Peer, answer: bytes | None = None, **options: Any) -> AsyncIterator[tuple[Client, Visit]]:
    """A client, and its first connection; whatever connections are left at the end are answered with a plain yes."""
    zk = client(peer, **options)
    async with asyncio.timeout(PATIENCE_S):
        start = asyncio.create_task(zk.start())
        visit = await peer.visit()
        await visit.accept(answer)
        await start
        try:
            yield zk, visit
        finally:
            closing = asyncio.create_task(zk.close())
            over = asyncio.create_task(visit.over())
            await closing
            over.cancel()


@asynccontextmanager
async def client_of(hosts: str, **options: Any) -> AsyncIterator[Client]:
    """A client that is connected, and makes no pauses."""
    options.setdefault("random", NoPause())
    async with asyncio.timeout(PATIENCE_S), connect(hosts, heartbeat=False, **options) as zk:
        yield zk
