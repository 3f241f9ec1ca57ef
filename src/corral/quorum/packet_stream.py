"""A connection on which packets travel in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corral.quorum.packets import Packet, read_packet

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

STREAM_BUFFER_BYTES: Final = 1 << 20
"""The limit that a stream should be opened with."""
_CHUNK_BYTES: Final = 256 * 1024


class PacketStream:
    """Packets over a stream; what is not a packet (a tree) can be taken out in between."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._data = b""
        self._position = 0

    @property
    def unsent_bytes(self) -> int:
        """What the other side has not taken yet."""
        return self._writer.transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send bytes; never waits. On a connection that is over they are lost, as reading from it will tell."""
        if data and not self._writer.is_closing():
            self._writer.write(data)

    async def drain(self) -> None:
        """Wait until the other side has taken most of what was sent."""
        await self._writer.drain()

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

    async def read(self) -> Packet:
        """The next packet. Raises EOFError, OSError, JuteError."""
        while (found := read_packet(self._data, self._position)) is None:
            await self._more()
        packet, self._position = found
        return packet

    async def batches(self) -> AsyncIterator[list[Packet]]:
        """All packets that have come, as often as some come. Raises as :meth:`read` does."""
        while True:
            packets = []
            while (found := read_packet(self._data, self._position)) is not None:
                packet, self._position = found
                packets.append(packet)
            if packets:
                yield packets
            await self._more()

    async def read_bytes(self) -> bytes:
        """Whatever has come, which is no packet; at least one byte."""
        if self._position == len(self._data):
            await self._more()
        data, self._data = self._data[self._position :], b""
        self._position = 0
        return data

    def put_back(self, data: bytes) -> None:
        """What was taken by :meth:`read_bytes` and is a packet's after all."""
        self._data = data + self._data[self._position :]
        self._position = 0

    async def _more(self) -> None:
        data = await self._reader.read(_CHUNK_BYTES)
        if not data:
            raise EOFError("the connection was closed")
        self._data = self._data[self._position :] + data
        self._position = 0
