"""The client port of a member of an ensemble: it is there all the time, while those who serve at it come and go."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING, Final, cast

from corral.server.connection import Connection
from corral.server.listeners import close_listeners
from corral.server.words import TELNET_BREAK, WORDS, FourLetterWords

if TYPE_CHECKING:
    from corral.server.config import ServerConfig
    from corral.server.machine import Machine
    from corral.server.standalone import Server

_WORD_BYTES: Final = 4
_BIND_ATTEMPTS: Final = 5
_BIND_PAUSE_S: Final = 0.05

log = logging.getLogger(__name__)


class ClientPort:
    """Hands connections to ``server``. While there is none it answers the admin words, and closes everybody else."""

    def __init__(self, config: ServerConfig, machine: Machine) -> None:
        self.config = config
        self.port = config.client_port
        self.server: Server | None = None
        self.words = FourLetterWords(config, None)
        self.visitors: set[Visitor] = set()
        """Those who came while nobody served."""
        self._machine = machine
        self._listener: asyncio.Server | None = None
        self._host = config.client_port_address
        self._moving: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<ClientPort {self.port} of {self.server or 'nobody'}>"

    async def open(self) -> None:
        """Listen. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        await self._listen(self._host, self.port)

    async def _listen(self, host: str | None, port: int) -> None:
        backlog = self.config.listen_backlog
        listening = self._machine.bind(host, port, backlog)
        self._host, self.port = host, listening.getsockname()[1]
        self._listener = await self._loop.create_server(self._accept, sock=listening, backlog=backlog)
        if self.server is not None:
            self.server.port = self.port

    def move(self, host: str | None, port: int) -> None:
        """Listen elsewhere from now on; connections stay. What cannot be had is reported, and the old place kept."""
        if self._moving is not None:
            self._moving.cancel()
            self._moving = None
        if (host, port) != (self._host, self.port):
            self._moving = self._loop.create_task(self._move(host, port))

    async def _move(self, host: str | None, port: int) -> None:
        before, old_host, old_port = self._listener, self._host, self.port
        assert before is not None
        if port == old_port:
            # All addresses of a machine and one of them are in each other's way.
            await close_listeners([before])
        try:
            await self._listen_soon(host, port)
        except OSError as error:
            log.warning("clients are not taken on port %d of %s: %s", port, host or "all addresses", error.strerror)
            if port == old_port:
                await self._take_back(old_host, old_port)
        else:
            await close_listeners([before])
            log.info("clients are taken on port %d of %s", port, host or "all addresses")

    async def _take_back(self, host: str | None, port: int) -> None:
        try:
            await self._listen_soon(host, port)
        except OSError as error:
            log.critical("clients are not taken any more: port %d is gone: %s", port, error.strerror)

    async def _listen_soon(self, host: str | None, port: int) -> None:
        """As :meth:`_listen`, with patience for a port that is being given back."""
        for last in (*[False] * _BIND_ATTEMPTS, True):
            try:
                await self._listen(host, port)
            except OSError as error:
                if last or error.errno != errno.EADDRINUSE:
                    raise
            else:
                return
            await asyncio.sleep(_BIND_PAUSE_S)

    async def close(self) -> None:
        """Listen no more; connections that were handed over are their server's to close."""
        if self._moving is not None:
            self._moving.cancel()
            await asyncio.wait([self._moving])
        if self._listener is None:
            return
        await close_listeners([self._listener])
        # Who was being accepted is there two turns of the loop later, and gone one after that.
        for _ in range(3):
            await asyncio.sleep(0)
            for visitor in list(self.visitors):
                visitor.abort()
        await self._listener.wait_closed()

    def after(self, delay_s: float, visitor: Visitor) -> asyncio.TimerHandle:
        """Give a visitor up after a time."""
        return self._loop.call_later(delay_s, visitor.abort)

    def _accept(self) -> asyncio.Protocol:
        server = self.server
        return Connection(server) if server is not None and server.serving else Visitor(self)


class Visitor(asyncio.Protocol):
    """A connection that nobody serves."""

    def __init__(self, port: ClientPort) -> None:
        self._port = port
        self._data = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        self._port.visitors.add(self)
        self._timeout = self._port.after(self._port.config.limits.sessionless_connection_timeout_ms / 1000, self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timeout.cancel()
        self._port.visitors.discard(self)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._data += data
        name = self._data[:_WORD_BYTES]
        if len(name) < _WORD_BYTES or (name in WORDS and len(self._data) < WORDS[name].size):
            return
        if name in WORDS and name != TELNET_BREAK:
            argument = self._data[_WORD_BYTES : WORDS[name].size]
            self._transport.write(self._port.words.answer(name, argument).encode())
        self._transport.close()
