"""The connections that election messages travel on: one for each pair of servers.

Of two that dial each other the one dialled by the server with the larger id stays. Only the newest message matters:
one that could not be sent is replaced by the next, and a new connection begins with the last one. Source of the rules:
QuorumCnxManager. There is no heartbeat; a server that is gone is noticed elsewhere, or when it takes nothing any more.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from corral.server.config.membership import ANY_ADDRESSES, HOST, PeerAddress
from corral.server.listeners import close_listeners, listen

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

_LONG: Final = struct.Struct(">q")
_INT: Final = struct.Struct(">i")
_HELLO: Final = struct.Struct(">qqi")
_ONE_ADDRESS: Final = -65536
_MANY_ADDRESSES: Final = -65535
_ADDRESSES_MAX_BYTES: Final = 2048
MESSAGE_MAX_BYTES: Final = 512 * 1024
_ANNOUNCED: Final = re.compile(rf"(?P<host>{HOST}):(?P<port>[0-9]{{1,5}})")
_ANONYMOUS: Final = (1 << 63) - 1
"""The id of an observer that has none."""
_USER_TIMEOUT: Final[int | None] = getattr(socket, "TCP_USER_TIMEOUT", None)
"""Where the system has it."""
_STRANGERS_MAX: Final = 100
"""Connections on which nobody has said yet who it is, and such of servers that no configuration knows: of either, the
oldest goes beyond that."""
_UNSENT_MAX_BYTES: Final = 1 << 20
"""A peer that leaves so much unread is dialled anew."""

log = logging.getLogger(__name__)


class ElectionLinks:
    """All such connections of one server. Everything happens on the running event loop.

    ``addresses`` tells where a server is by the configuration, ``received`` is given each message and its sender,
    ``refused`` each server that was dialled at all its addresses and listens at none of them.
    """

    def __init__(
        self,
        me: int,
        own_addresses: Sequence[PeerAddress],
        addresses: Callable[[int], Sequence[PeerAddress]],
        received: Callable[[int, bytes], None],
        refused: Callable[[int], None] = lambda _: None,
        *,
        connect_timeout_s: float = 5.0,
        hello_timeout_s: float = 10.0,
        tells_all_addresses: bool = False,
        keepalive: bool = False,
    ) -> None:
        self.me = me
        self.own_addresses = own_addresses
        """Where this server says that it is."""
        self._addresses = addresses
        self._received = received
        self._refused = refused
        self._connect_timeout_s = connect_timeout_s
        self._hello_timeout_s = hello_timeout_s
        self._tells_all_addresses = tells_all_addresses
        self._keepalive = keepalive
        self._listeners: list[asyncio.Server] = []
        self._links: dict[int, asyncio.StreamWriter] = {}
        self._newest: dict[int, bytes] = {}
        self._dialling: set[int] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unknown_hosts: set[str] = set()
        """Of which the log has told: they may be wrong in the configuration."""
        self._strangers: dict[asyncio.StreamWriter, None] = {}
        """Connections on which nobody has said yet who it is, the oldest first."""
        self._outsiders: dict[int, None] = {}
        """Servers with a connection that no configuration knows, the oldest first."""
        self._next_anonymous = -1
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<ElectionLinks of {self.me}, connected with {sorted(self._links)}>"

    async def listen(self, host: str | None, port: int) -> None:
        """Take connections at an address. Raises OSError."""
        loop = asyncio.get_running_loop()

        def made() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), self._accept, loop=loop)

        await listen(loop, made, host, port, self._listeners)

    @property
    def is_listening(self) -> bool:
        """Whether connections are taken anywhere."""
        return bool(self._listeners)

    async def listen_no_more(self) -> None:
        """Take no connections; those that are there stay."""
        listeners, self._listeners = self._listeners, []
        await close_listeners(listeners)

    async def close(self) -> None:
        """Close everything and wait until nothing runs any more."""
        self._is_closed = True
        await self.listen_no_more()
        for writer in list(self._links.values()):
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        # Who was being accepted is there two turns of the loop later, and transports close in a turn of their own.
        for _ in range(3):
            await asyncio.sleep(0)

    def send(self, to: int, message: bytes) -> None:
        """Let ``message`` be what ``to`` gets next; it may be lost."""
        writer = self._links.get(to)
        is_gone = writer is None or writer.is_closing()
        if is_gone and not self._addresses(to):
            # It may come again, and ask again.
            self._drop(to)
            return
        self._newest[to] = message
        if writer is None or is_gone:
            self._drop(to)
            self.dial(to)
        elif writer.transport.get_write_buffer_size() > _UNSENT_MAX_BYTES:
            writer.transport.abort()
        else:
            writer.write(_INT.pack(len(message)) + message)

    def dial(self, to: int) -> None:
        """See to it that there is a connection, if it is not there yet; it may be the other side that keeps it up."""
        if to not in self._links and to not in self._dialling and not self._is_closed:
            self._dialling.add(to)
            self._run(self._dial(to, self._addresses(to)))

    # Connecting

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _dial(self, to: int, addresses: Sequence[PeerAddress]) -> None:
        refusals = 0
        try:
            for address in addresses:
                try:
                    async with asyncio.timeout(self._connect_timeout_s):
                        reader, writer = await asyncio.open_connection(address.host, address.election_port)
                    self._unknown_hosts.discard(address.host)
                except socket.gaierror as error:
                    if address.host not in self._unknown_hosts:
                        self._unknown_hosts.add(address.host)
                        log.warning("the host of server %d, %s, is not found: %s", to, address.host, error.strerror)
                    continue
                except (OSError, ValueError) as error:
                    # A ValueError: what is announced as a host's name cannot be one.
                    log.debug("server %d at %s:%d: %s", to, address.host, address.election_port, error)
                    refusals += isinstance(error, ConnectionRefusedError)
                    continue
                # In one piece: a Java peer takes what it gets of the addresses by one read.
                writer.write(self._hello())
                if to > self.me:
                    # It will dial us; this was only to wake it.
                    await _finish(writer)
                    return
                self._adopt(to, reader, writer)
                return
        finally:
            self._dialling.discard(to)
        if refusals and refusals == len(addresses) and to not in self._links:
            self._refused(to)

    def _hello(self) -> bytes:
        told = self.own_addresses if self._tells_all_addresses else self.own_addresses[:1]
        text = "|".join(
            f"[{a.host}]:{a.election_port}" if ":" in a.host else f"{a.host}:{a.election_port}" for a in told
        )
        version = _MANY_ADDRESSES if self._tells_all_addresses else _ONE_ADDRESS
        return _HELLO.pack(version, self.me, len(text.encode())) + text.encode()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_closed:
            writer.transport.abort()
        else:
            self._strangers[writer] = None
            if len(self._strangers) > _STRANGERS_MAX:
                self._turn_out()
            # A task that is cancelled before it has begun closes nothing.
            greeting = self._run(self._greet(reader, writer))
            greeting.add_done_callback(lambda task: writer.transport.abort() if task.cancelled() else None)

    def _turn_out(self) -> None:
        oldest = next(iter(self._strangers))
        log.warning("too many connections that do not say who they are: %s goes", oldest.get_extra_info("peername"))
        del self._strangers[oldest]
        oldest.transport.abort()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._hello_timeout_s):
                sid, announced = await _read_hello(reader)
        except (OSError, EOFError, ValueError) as error:
            log.warning("%s is no peer: %s", writer.get_extra_info("peername"), error or type(error).__name__)
            writer.transport.abort()
            return
        finally:
            self._strangers.pop(writer, None)
        if sid == _ANONYMOUS:
            sid, self._next_anonymous = self._next_anonymous, self._next_anonymous - 1
            self._adopt(sid, reader, writer)
        elif sid == self.me:
            log.warning("%s says that it is server %d, which is this one", writer.get_extra_info("peername"), sid)
            writer.transport.abort()
        elif sid < self.me:
            writer.transport.abort()
            self._drop(sid)
            if sid not in self._dialling:
                self._dialling.add(sid)
                self._run(self._dial(sid, announced or self._addresses(sid)))
        else:
            self._adopt(sid, reader, writer)

    def _adopt(self, sid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._drop(sid)
        self._links[sid] = writer
        if not self._addresses(sid):
            self._outsiders[sid] = None
            if len(self._outsiders) > _STRANGERS_MAX:
                self._drop(next(iter(self._outsiders)))
        if self._keepalive:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._limit_silence(writer)
        newest = self._newest.get(sid)
        if newest is not None:
            writer.write(_INT.pack(len(newest)) + newest)
        self._run(self._read(sid, reader, writer))

    def _limit_silence(self, writer: asyncio.StreamWriter) -> None:
        """End the connection when nothing that was sent has arrived for so long that a peer would be dialled in vain.

        Left to itself the system tries again after ever longer pauses, and long after the network has healed.
        """
        connection = writer.get_extra_info("socket")
        if connection is not None and _USER_TIMEOUT is not None:
            connection.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(self._hello_timeout_s * 1000))

    def _drop(self, sid: int) -> None:
        writer = self._links.pop(sid, None)
        if writer is not None:
            writer.transport.abort()
        self._forget_outsider(sid)

    def _forget_outsider(self, sid: int) -> None:
        """Nobody can say who else will come, and under how many numbers."""
        self._outsiders.pop(sid, None)
        if not self._addresses(sid):
            self._newest.pop(sid, None)

    async def _read(self, sid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = _INT.unpack(await reader.readexactly(_INT.size))
                if not 0 < length <= MESSAGE_MAX_BYTES:
                    log.warning("server %d announces a message of %d bytes: its connection is closed", sid, length)
                    return
                self._received(sid, await reader.readexactly(length))
        except (OSError, EOFError) as error:
            log.debug("connection with server %d is over: %s", sid, error)
        finally:
            writer.transport.abort()
            if self._links.get(sid) is writer:
                del self._links[sid]
                self._forget_outsider(sid)


async def _finish(writer: asyncio.StreamWriter) -> None:
    try:
        await writer.drain()
    except OSError as error:
        log.debug("a peer closed while it was greeted: %s", error)
    finally:
        writer.close()


async def _read_hello(reader: asyncio.StreamReader) -> tuple[int, list[PeerAddress]]:
    """Who dials, and where he says that he is. Raises ValueError, EOFError."""
    (version,) = _LONG.unpack(await reader.readexactly(_LONG.size))
    if version >= 0:
        # Before 3.5: the id, and nothing else.
        return version, []
    if version not in (_ONE_ADDRESS, _MANY_ADDRESSES):
        raise ValueError(f"version {version} of the opening message")
    sid, length = struct.unpack(">qi", await reader.readexactly(12))
    if not 0 < length <= _ADDRESSES_MAX_BYTES:
        raise ValueError(f"an address of {length} bytes")
    text = (await reader.readexactly(length)).decode()
    return sid, [address for part in text.split("|") if (address := _parse_announced(part)) is not None]


def _parse_announced(text: str) -> PeerAddress | None:
    matched = _ANNOUNCED.fullmatch(text)
    if matched is None:
        raise ValueError(f"{text!r} is no address")
    host, port = matched["host"].strip("[]"), int(matched["port"])
    if not 0 < port < 1 << 16:
        raise ValueError(f"{text!r} is no address")
    if host in ANY_ADDRESSES:
        return None
    return PeerAddress(host, 0, port)
