"""The client port of a member of an ensemble: it is there all the time, while those who serve at it come and go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from corral.server.connection import Connection
from corral.server.words import TELNET_BREAK, WORDS, FourLetterWords

if TYPE_CHECKING:
    from corral.server.config import ServerConfig
    from corral.server.machine import Machine
    from corral.server.standalone import Server

_WORD_BYTES: Final = 4


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

    def __repr__(self) -> str:
        return f"<ClientPort {self.port} of {self.server or 'nobody'}>"

    async def open(self) -> None:
        """Listen. Raises OSError."""
        config = self.config
        listening = self._machine.bind(config.client_port_address, config.client_port, config.listen_backlog)
        self.port = listening.getsockname()[1]
        self._loop = asyncio.get_running_loop()
        self._listener = await self._loop.create_server(self._accept, sock=listening, backlog=config.listen_backlog)

    async def close(self) -> None:
        """Listen no more; connections that were handed over are their server's to close."""
        if self._listener is None:
            return
        self._listener.close()
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
