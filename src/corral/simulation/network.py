"""Hosts, the links between them, and connections that behave as TCP's: in order, delayed, stalled, reset, half open.

A link has a direction; a link that is cut delivers nothing, and what was sent waits to be sent again. A process that
dies closes its connections; a host that loses its power says nothing, and whoever speaks to it later is reset.
"""

from __future__ import annotations

import asyncio
import errno
import os
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from corral.simulation.loop import Loop, Timeline

SOCKET_BUFFER_BYTES: Final = 256 * 1024
"""What the kernel takes of a sender before its program must keep it."""
CONNECT_RETRIES_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""When a connection is asked for again that nobody answers."""
_FIN: Final = object()
_RESET: Final = object()


class Listening(Protocol):
    """Who hears all that programs say and are told."""

    def sent(self, end: End, data: bytes) -> None:
        """A program has written bytes; they may never arrive."""

    def received(self, end: End, data: bytes) -> None:
        """A program is about to be given bytes."""


class Network:
    """All hosts and all that is between them."""

    def __init__(self, timeline: Timeline, chance: random.Random) -> None:
        self.timeline = timeline
        self.chance = chance
        self.hosts: dict[str, Host] = {}
        self.cuts: set[tuple[str, str]] = set()
        """Links, as names of hosts, on which nothing gets through in this direction."""
        self.slow: dict[tuple[str, str], float] = {}
        """Links on which everything takes so many seconds longer, on average."""
        self.ends: dict[End, None] = {}
        self.delivered = 0
        """A sum over all bytes delivered and when: the same for two runs only if they were the same."""
        self.wire: Listening | None = None

    def add(self, name: str, address: str) -> Host:
        """A host, which has power and runs nothing yet."""
        host = self.hosts[address] = Host(self, name, address)
        return host

    def delay(self, source: Host, target: Host) -> float:
        """How long a segment takes now."""
        chance = self.chance
        taken = 0.0001 + chance.expovariate(4000)
        if chance.random() < 0.005:
            taken += chance.uniform(0.002, 0.05)
        extra = self.slow.get((source.name, target.name))
        return taken if extra is None else taken + chance.expovariate(1 / extra)

    def is_cut(self, source: Host, target: Host) -> bool:
        """Whether nothing gets from one to the other."""
        return (source.name, target.name) in self.cuts

    def cut(self, links: set[tuple[str, str]]) -> None:
        """Let nothing through on these links any more."""
        self.cuts |= links

    def heal(self, links: set[tuple[str, str]] | None = None) -> None:
        """Let everything through again; on all links if none are named."""
        self.cuts = set() if links is None else self.cuts - links
        for end in list(self.ends):
            end.try_again(self.chance.uniform(0.0, 0.4))


class Host:
    """A machine on the network. ``loop`` is the process that runs there, if one does."""

    def __init__(self, network: Network, name: str, address: str) -> None:
        self.network = network
        self.name = name
        self.address = address
        self.loop: Loop | None = None
        self.has_power = True
        self.listeners: dict[int, Listener] = {}
        self._next_port = 32768

    def __repr__(self) -> str:
        return f"<Host {self.name}>"

    def bind(self, port: int) -> Listener:
        """Take a port. Raises OSError if it is taken."""
        if port in self.listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        assert self.loop is not None
        listener = self.listeners[port] = Listener(self, port, self.loop)
        return listener

    async def connect(self, factory: Callable[[], asyncio.BaseProtocol], address: str, port: int) -> Any:
        """Transport and protocol of a new connection. Raises OSError."""
        assert self.loop is not None
        future = self.loop.create_future()
        target = self.network.hosts.get(address)
        if target is None:
            raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
        _Attempt(self, target, port, factory, self.loop, future).send()
        return await future

    def ephemeral_port(self) -> int:
        """A port for a connection that is made from here."""
        self._next_port = 32768 + (self._next_port - 32767) % 28000
        return self._next_port

    def power_on(self) -> None:
        """It can be reached again; whoever still speaks to what was there before is told."""
        self.has_power = True
        for end in list(self.network.ends):
            if end.other.host is self:
                end.try_again(self.network.chance.uniform(0.0, 0.4))

    def process_dies(self, *, silently: bool) -> None:
        """The process is gone. ``silently``: so is the power, and nobody is told."""
        loop, self.loop = self.loop, None
        self.listeners.clear()
        if silently:
            self.has_power = False
        for end in list(self.network.ends):
            if end.loop is loop:
                end.die(silently=silently)


class Listener(asyncio.AbstractServer):
    """A port at which connections are taken."""

    def __init__(self, host: Host, port: int, loop: Loop) -> None:
        self.host = host
        self.port = port
        self.loop = loop
        self._factory: Callable[[], asyncio.BaseProtocol] | None = None

    def getsockname(self) -> tuple[str, int]:
        """Where it listens."""
        return self.host.address, self.port

    def serve(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """Give each connection a protocol, from now on."""
        self._factory = factory

    def accept(self, end: End) -> None:
        """A connection has been made."""
        if self._factory is None or self.host.listeners.get(self.port) is not self:
            end.abort()
        else:
            end.establish(self._factory())

    def close(self) -> None:
        """Take no more."""
        if self.host.listeners.get(self.port) is self:
            del self.host.listeners[self.port]

    async def wait_closed(self) -> None:
        """It is closed at once."""

    async def start_serving(self) -> None:
        """It serves already."""

    async def serve_forever(self) -> None:
        """Not to be used: raises RuntimeError."""
        raise RuntimeError(f"{self.host!r} serves as long as its program runs")

    def get_loop(self) -> Loop:
        """Of the program that takes the connections."""
        return self.loop

    def is_serving(self) -> bool:
        """Whether connections are taken."""
        return self.host.listeners.get(self.port) is self and self._factory is not None


class _Attempt:
    """One call of connect: asks, and asks again, until somebody answers."""

    def __init__(
        self,
        source: Host,
        target: Host,
        port: int,
        factory: Callable[[], asyncio.BaseProtocol],
        loop: Loop,
        future: asyncio.Future[Any],
    ) -> None:
        self.source = source
        self.target = target
        self.port = port
        self.factory = factory
        self.loop = loop
        self.future = future
        self.number = 0

    def send(self) -> None:
        network = self.source.network
        network.timeline.after(network.delay(self.source, self.target), self.arrive)

    def arrive(self) -> None:
        if self.future.done() or self.loop.is_dead:
            return
        network, source, target = self.source.network, self.source, self.target
        if network.is_cut(source, target) or network.is_cut(target, source) or not target.has_power:
            self.wait()
            return
        delay = network.delay(target, source)
        listener = target.listeners.get(self.port)
        if listener is None:
            self.answer(delay, lambda: self.fail(errno.ECONNREFUSED))
            return
        ours = End(network, source, self.loop, (target.address, self.port))
        theirs = End(network, target, listener.loop, (source.address, source.ephemeral_port()))
        ours.other, theirs.other = theirs, ours
        theirs.arrives_at = network.timeline.now + delay
        listener.loop.call_soon(listener.accept, theirs)
        self.answer(delay, lambda: self.made(ours))

    def answer(self, delay: float, call: Callable[[], None]) -> None:
        timeline = self.source.network.timeline
        timeline.after(delay, lambda: self.loop.call_soon(call))

    def made(self, end: End) -> None:
        if self.future.done():
            end.abort()
            return
        protocol = self.factory()
        end.establish(protocol)
        self.future.set_result((end, protocol))

    def fail(self, number: int) -> None:
        if not self.future.done():
            self.future.set_exception(OSError(number, os.strerror(number)))

    def wait(self) -> None:
        network = self.source.network
        if self.number == len(CONNECT_RETRIES_S):
            self.loop.call_soon(self.fail, errno.ETIMEDOUT)
            return
        network.timeline.after(CONNECT_RETRIES_S[self.number] * network.chance.uniform(0.9, 1.1), self.send)
        self.number += 1


class End(asyncio.Transport):
    """One end of a connection. What it writes lies in its ``_sent`` until the other end's program has got it."""

    def __init__(self, network: Network, host: Host, loop: Loop, peer: tuple[str, int]) -> None:
        super().__init__({"peername": peer, "sockname": (host.address, 0)})
        self.network = network
        self.host = host
        self.loop = loop
        self.peer = peer
        self.other: End
        self.arrives_at = 0.0
        """When what was written last will be there, at the earliest."""
        self.is_lost = False
        """Nothing is told to the program any more: it knows the end, or is dead."""
        self._protocol: asyncio.Protocol | None = None
        self._is_closing = False
        self._sent: deque[tuple[float, Any]] = deque()
        self._is_pumping = False
        self._unsent_bytes = 0
        self._high_water, self._low_water = 64 * 1024, 16 * 1024
        self._writing_is_paused = False
        self._reading_is_paused = False
        network.ends[self] = None

    def __repr__(self) -> str:
        return f"<End at {self.host.name} of a connection with {self.peer[0]}:{self.peer[1]}>"

    @property
    def port(self) -> int:
        """Where the connection was asked for: at one of its ends."""
        return min(self.peer[1], self.other.peer[1])

    # What programs call

    def establish(self, protocol: asyncio.BaseProtocol) -> None:
        """The program has the connection now."""
        self._protocol = cast("asyncio.Protocol", protocol)
        self._protocol.connection_made(self)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See the base class."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """See the base class."""
        assert self._protocol is not None
        return self._protocol

    def is_closing(self) -> bool:
        """See the base class."""
        return self._is_closing or self.loop.is_dead

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See the base class."""
        if self._is_closing or self.is_lost or self.loop.is_dead or not data:
            return
        data = bytes(data)
        if self.network.wire is not None:
            self.network.wire.sent(self, data)
        self._put(data)
        self._unsent_bytes += len(data)
        if not self._writing_is_paused and self.get_write_buffer_size() > self._high_water:
            self._writing_is_paused = True
            assert self._protocol is not None
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        """See the base class."""
        return max(0, self._unsent_bytes - SOCKET_BUFFER_BYTES)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See the base class."""
        self._high_water = 64 * 1024 if high is None else high
        self._low_water = self._high_water // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """See the base class."""
        return self._low_water, self._high_water

    def can_write_eof(self) -> bool:
        """See the base class."""
        return False

    def pause_reading(self) -> None:
        """See the base class."""
        self._reading_is_paused = True

    def resume_reading(self) -> None:
        """See the base class."""
        self._reading_is_paused = False
        self.other.try_again(0.0)

    def is_reading(self) -> bool:
        """See the base class."""
        return not self._reading_is_paused and not self._is_closing

    def close(self) -> None:
        """See the base class."""
        if not self._is_closing and not self.loop.is_dead:
            self._is_closing = True
            self._put(_FIN)
            if self.get_write_buffer_size() == 0:
                self._lose(None)

    def abort(self) -> None:
        """See the base class."""
        if self.is_lost or self.loop.is_dead:
            return
        self._is_closing = True
        self._put(_FIN if self.network.chance.random() < 0.5 else _RESET)
        self._lose(None)

    # What happens to it

    def die(self, *, silently: bool) -> None:
        """Its process has ended."""
        chance = self.network.chance
        if silently:
            # What is on the wire already arrives, or some of it.
            for _ in range(chance.randint(0, len(self._sent))):
                self._sent.pop()
        elif not self._is_closing:
            self._put(_FIN if chance.random() < 0.5 else _RESET)
        self._is_closing = True
        self.is_lost = True
        self.other.try_again(0.0)
        self._forget()

    def break_off(self) -> None:
        """The connection is lost, as this end sees it; the other one sees it when it next says something."""
        if not self.is_lost:
            self._is_closing = True
            self._sent.clear()
            self._lose(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))

    def _lose(self, error: OSError | None) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.loop.call_soon(self._tell_lost, error)
            self.other.try_again(0.0)
        self._forget()

    def _tell_lost(self, error: OSError | None) -> None:
        if self._protocol is not None:
            self._protocol.connection_lost(error)

    def _forget(self) -> None:
        if self.is_lost and not self._sent:
            self.network.ends.pop(self, None)

    # The way of what is written

    def _put(self, item: Any) -> None:
        network = self.network
        self.arrives_at = max(self.arrives_at, network.timeline.now + network.delay(self.host, self.other.host))
        self._sent.append((self.arrives_at, item))
        if not self._is_pumping:
            self._is_pumping = True
            network.timeline.at(self.arrives_at, self._pump)

    def try_again(self, delay: float) -> None:
        """What stood against delivery may be gone."""
        if self._sent and not self._is_pumping:
            self._is_pumping = True
            self.network.timeline.after(delay, self._pump)

    def _pump(self) -> None:
        """Deliver what has arrived; stop where something stands against it."""
        network, other = self.network, self.other
        timeline = network.timeline
        self._is_pumping = False
        while self._sent:
            arrives_at, item = self._sent[0]
            if arrives_at > timeline.now:
                self._is_pumping = True
                timeline.at(arrives_at, self._pump)
                return
            if network.is_cut(self.host, other.host) or not other.host.has_power:
                return
            if other.is_lost:
                self._sent.clear()
                if item is not _RESET:
                    self._be_reset()
                break
            if item is _RESET:
                self._sent.clear()
                other.break_off()
                break
            if other._reading_is_paused:
                return
            self._sent.popleft()
            if item is _FIN:
                other.loop.call_soon(other._take_end)
            else:
                self._deliver(item)
        self._forget()

    def _deliver(self, data: bytes) -> None:
        network, other = self.network, self.other
        network.delivered = zlib.crc32(data, zlib.crc32(b"%r" % network.timeline.now, network.delivered))
        if len(data) > 1 and network.chance.random() < 0.03:
            at = network.chance.randrange(1, len(data))
            other.loop.call_soon(other._take, data[:at])
            other.loop.call_soon(other._take, data[at:])
        else:
            other.loop.call_soon(other._take, data)
        self._unsent_bytes -= len(data)
        if self._is_closing and self.get_write_buffer_size() == 0:
            self._lose(None)
        if self._writing_is_paused and self.get_write_buffer_size() <= self._low_water:
            self._writing_is_paused = False
            self.loop.call_soon(self._resume_writing)

    def _resume_writing(self) -> None:
        if not self.is_lost and not self._writing_is_paused and self._protocol is not None:
            self._protocol.resume_writing()

    def _be_reset(self) -> None:
        """The other end is gone and says so, if it can be heard."""
        network = self.network
        if self.is_lost:
            return

        def arrive() -> None:
            if network.is_cut(self.other.host, self.host):
                network.timeline.after(network.chance.uniform(0.2, 0.6), arrive)
            else:
                self.break_off()

        network.timeline.after(network.delay(self.other.host, self.host), arrive)

    def _take(self, data: bytes) -> None:
        if not self._is_closing and not self.is_lost and self._protocol is not None:
            if self.network.wire is not None:
                self.network.wire.received(self, data)
            self._protocol.data_received(data)

    def _take_end(self) -> None:
        if self._is_closing or self.is_lost or self._protocol is None:
            return
        if not self._protocol.eof_received():
            self.close()
