"""A connection on which packets travel in both directions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from corral.quorum.packets import PacketReader, pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.quorum.packets import Packet, RawPacket

_UNREAD_MAX_BYTES: Final = 1 << 20
"""What is taken from the other side before anybody asks for it."""


class PacketStream(asyncio.Protocol):
    """Packets over a connection: read one by one at first, and then given to :meth:`serve` as they come.

    What is not a packet (a tree) can be taken out in between.
    """

    def __init__(self, made: Callable[[PacketStream], None] | None = None) -> None:
        """``made`` is told when the connection is there."""
        self._made = made
        self._reader = PacketReader()
        self._out: list[bytes] = []
        self._flush_is_due = False
        self._is_paused = False
        self._lost: Exception | None = None
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._receive: Callable[[list[RawPacket]], None] | None = None
        self._over: asyncio.Future[None] | None = None
        self._heard_s = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._made is not None:
            self._made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or EOFError("the connection was closed"))

    def _end(self, error: Exception) -> None:
        if self._lost is not None:
            return
        self._lost = error
        self._wake(self._readable)
        self._wake(self._writable)
        if self._watch is not None:
            self._watch.cancel()
        if self._over is not None and not self._over.done():
            self._over.set_exception(error)

    @staticmethod
    def _wake(waiting: asyncio.Future[None] | None) -> None:
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # Writing

    @property
    def unsent_bytes(self) -> int:
        """What the other side has not taken yet."""
        return self._transport.get_write_buffer_size()

    def gather(self, data: bytes) -> None:
        """Send bytes together with what else is gathered in this turn of the loop."""
        self._out.append(data)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._out:
            self.write(b"")

    def write(self, data: bytes) -> None:
        """Send bytes at once; never waits. On a connection that is over they are lost, as reading from it will tell."""
        if self._out:
            data = b"".join([*self._out, data])
            self._out.clear()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        self._wake(self._writable)
        self._writable = None

    async def drain(self) -> None:
        """Wait until the other side has taken most of what was sent. Raises EOFError, OSError."""
        if self._writable is not None:
            await self._writable
        if self._lost is not None:
            raise self._lost

    # Reading

    def limit(self, data_max_bytes: int) -> None:
        """From now on a packet with more data is none."""
        self._reader.data_max_bytes = data_max_bytes

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._receive is not None:
            self._hand_over()
        else:
            if self._reader.unread_bytes > _UNREAD_MAX_BYTES and not self._is_paused:
                self._is_paused = True
                self._transport.pause_reading()
            self._wake(self._readable)

    async def _wait(self) -> None:
        """Wait until more has come."""
        if self._lost is not None:
            raise self._lost
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        self._readable = self._loop.create_future()
        await self._readable

    async def read(self) -> Packet:
        """The next packet. Raises EOFError, OSError, JuteError."""
        while (packet := self._reader.packet()) is None:
            await self._wait()
        return packet

    async def read_many(self, stop: int) -> list[RawPacket]:
        """The packets that have come, at least one; none behind the first of type ``stop``.

        Raises EOFError, OSError, JuteError.
        """
        while not (packets := self._reader.packets()):
            await self._wait()
        for count, packet in enumerate(packets, 1):
            if packet[0] == stop:
                self._reader.put_back(b"".join([pack(*each) for each in packets[count:]]))
                return packets[:count]
        return packets

    async def read_bytes(self) -> bytes:
        """Whatever has come, which is no packet; at least one byte. Raises EOFError, OSError."""
        while not (data := self._reader.take_rest()):
            await self._wait()
        return data

    def put_back(self, data: bytes) -> None:
        """What was taken by :meth:`read_bytes` and is a packet's after all."""
        self._reader.put_back(data)

    async def serve(self, receive: Callable[[list[RawPacket]], None], patience_s: float | None = None) -> None:
        """Give ``receive`` all packets as they come, until the connection is lost, which raises EOFError or OSError.

        So do packets that are none (JuteError), a silence of ``patience_s`` (TimeoutError), and whatever ``receive``
        raises.
        """
        if self._lost is None:
            self._over = self._loop.create_future()
            self._receive = receive
            self._hand_over()
            if self._is_paused and self._lost is None:
                self._is_paused = False
                self._transport.resume_reading()
            if patience_s is not None:
                self._watch_silence(patience_s)
            await self._over
        assert self._lost is not None
        raise self._lost

    def _hand_over(self) -> None:
        assert self._receive is not None
        self._heard_s = self._loop.time()
        try:
            packets = self._reader.packets()
            if packets:
                self._receive(packets)
        except Exception as error:
            self._receive = None
            self._end(error)
            self._transport.abort()

    def _watch_silence(self, patience_s: float) -> None:
        if self._lost is not None:
            return
        silent_s = self._loop.time() - self._heard_s
        if silent_s >= patience_s:
            self._end(TimeoutError(f"nothing was heard for {patience_s:g} s"))
            self._transport.abort()
        else:
            self._watch = self._loop.call_later(patience_s - silent_s, self._watch_silence, patience_s)
