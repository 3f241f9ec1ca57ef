"""One member of a simulated ensemble: its machine, and the real server program on it, which may die at any moment."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from corral.quorum.peer import Peer
from corral.server.clock import Clock
from corral.server.machine import Machine
from corral.simulation.disk import Disk, PowerLostError
from corral.simulation.durable import History
from corral.simulation.invariants import Invariant
from corral.simulation.loop import Loop
from corral.storage.errors import StorageError

if TYPE_CHECKING:
    import asyncio
    import random
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from corral.quorum.ensemble import Ensemble
    from corral.server.config import ServerConfig
    from corral.simulation.damage import Damage
    from corral.simulation.invariants import Broke
    from corral.simulation.network import Host, Network
    from corral.simulation.trace import Trace

EPOCH_MS: Final = 1_767_225_600_000
"""The wall clock when a simulation begins: 2026-01-01."""


def server_line(sid: int, *, votes: bool) -> str:
    """Where a member is, and its part, as a configuration has it."""
    return f"server.{sid}=10.0.0.{sid}:2888:3888:{'participant' if votes else 'observer'};10.0.0.{sid}:2181"


class SimulatedClock(Clock):
    """A machine's clocks. ``ahead_ms`` is by how much the wall clock is wrong."""

    def __init__(self, network: Network, started_ms: int) -> None:
        self._timeline = network.timeline
        self._started_ms = started_ms
        self.ahead_ms = 0
        self.rate = 1.0
        """How many seconds it counts in one: the same for all that measures time on the machine."""

    def wall_ms(self) -> int:
        return EPOCH_MS + self.ahead_ms + int(self._timeline.now * self.rate * 1000)

    def monotonic_ms(self) -> int:
        return self._started_ms + int(self._timeline.now * self.rate * 1000)


class SimulatedWorker:
    """Does its jobs at moments that are drawn. Each job happens at once; a crash may come within it."""

    def __init__(self, member: Member, loop: Loop) -> None:
        self._member = member
        self._loop = loop
        self._jobs: deque[tuple[Callable[[], object], Callable[[], None]]] = deque()

    def submit(self, job: Callable[[], object], done: Callable[[], None]) -> None:
        """See :class:`corral.server.workers.Worker`."""
        self._jobs.append((job, done))
        if len(self._jobs) == 1:
            self._begin()

    def stop(self, timeout_s: float | None = None) -> bool:
        """See :class:`corral.server.workers.Worker`."""
        while self._jobs and not self._loop.is_dead:
            self._do()
        return True

    def _begin(self) -> None:
        self._loop.timeline.after(self._member.draw_disk_delay(), self._turn)

    def _turn(self) -> None:
        if self._jobs and not self._loop.is_dead:
            self._do()
            if self._jobs:
                self._begin()

    def _do(self) -> None:
        job, done = self._jobs.popleft()
        try:
            job()
        except PowerLostError:
            return
        self._loop.timeline.after(self._member.draw_disk_delay(), lambda: self._loop.call_soon(done))


def _nothing(member: Member) -> None:
    """Nobody wants to know any more."""


class SimulatedMachine(Machine):
    """What a server program gets of a simulated machine."""

    def __init__(self, member: Member, clock: Clock, disk: Disk, chance: random.Random) -> None:
        super().__init__(clock=clock, filesystem=disk, chance=chance)
        self._member = member

    def worker(self, name: str, loop: asyncio.AbstractEventLoop) -> SimulatedWorker:
        return SimulatedWorker(self._member, cast("Loop", loop))

    def bind(self, host: str | None, port: int, backlog: int) -> socket.socket:
        return cast("socket.socket", self._member.host.bind(port))


class Member:
    """A machine of the ensemble. ``broke`` is told when its program does what no program should."""

    def __init__(
        self,
        sid: int,
        ensemble: Ensemble,
        config: ServerConfig,
        host: Host,
        directory: Path,
        chance: random.Random,
        trace: Trace,
        broke: Broke,
        stepped: Callable[[Member], None],
        ended: Callable[[Member], None],
        *,
        init_limit: int,
        sync_limit: int,
    ) -> None:
        self.sid = sid
        self.host = host
        self.data_directory = config.data_dir
        self.trace = trace
        self.life = 0
        """Counts the starts of its program."""
        self.peer: Peer | None = None
        self.clock = SimulatedClock(host.network, chance.randrange(1 << 31))
        self.disk = Disk(directory / "attic", chance, self._die_within)
        self.sync_delay_s = 0.0005
        """How long the disk takes for half of a job, on average."""
        self.is_paused = False
        self.is_stopping = False
        """It has been told to end, and will."""
        self.is_out_of_service = False
        """Its machine stands open: whoever opened it will start it."""
        self.is_empty = False
        """That is because it has lost its disk."""
        self.refuses = False
        """Its program has ended because of what the disk has spoiled."""
        self._spoiled: list[Path] = []
        """Files that are not what was written."""
        self._had = 0
        """How far the history on its disk went, durably, when that was spoiled while nothing ran."""
        self.ensemble = ensemble
        """What its configuration says; what it has written down itself since then counts more."""
        self._config = config
        self._chance = chance
        self._broke = broke
        self._stepped = stepped
        self._ended = ended
        self._limits = {"init_limit": init_limit, "sync_limit": sync_limit}

    def __repr__(self) -> str:
        return f"<Member {self.sid}>"

    @property
    def is_up(self) -> bool:
        """Whether its program runs, or is paused."""
        return self.peer is not None

    @property
    def loop(self) -> Loop:
        """Of the program that runs."""
        assert self.host.loop is not None
        return self.host.loop

    def draw_disk_delay(self) -> float:
        """How long half of what is asked of the disk takes now."""
        return self._chance.expovariate(1 / self.sync_delay_s)

    def start(self) -> None:
        """Power and program on, unless they are, or the machine stands open."""
        if self.is_up or self.is_out_of_service:
            return
        self.life += 1
        self.trace.tell(self.host.name, "starts")
        self.disk.revive()
        self.host.loop = loop = Loop(self.host.network.timeline, self.host, self._uncaught, self._step, self.clock.rate)
        self.host.power_on()
        machine = SimulatedMachine(self, self.clock, self.disk, self._chance)
        self.peer = peer = Peer(self.sid, self.ensemble, self._config, machine=machine, **self._limits)
        loop.call_soon(lambda: loop.create_task(self._run(peer)))

    async def _run(self, peer: Peer) -> None:
        try:
            await peer.start()
        except StorageError as error:
            if self._is_excused(error):
                self.trace.tell(self.host.name, f"cannot start: {error}")
                self.loop.call_soon(self.kill)
            else:
                self._broke(Invariant.PROGRAM, f"{self.host.name} cannot start: {error}")
            return
        if peer.history.last_zxid < self._had:
            self._broke(
                Invariant.DAMAGE,
                f"{self.host.name} had {self._had:#x} on its disk, and starts with {peer.history.last_zxid:#x}",
            )
        self._had = 0
        await peer.stopped.wait()
        if peer.failed is not None and not self._is_excused(peer.failed):
            self._broke(Invariant.PROGRAM, f"{self.host.name} fails: {peer.failed}")
        self.trace.tell(self.host.name, f"ends by itself: {peer.failed or 'it was told to'}")
        self.loop.call_soon(self.kill)

    def _is_excused(self, error: StorageError) -> bool:
        if getattr(error, "errno", None) in (errno.EIO, errno.ENOSPC):
            return True
        told = str(error)
        self.refuses = any(path.name in told for path in self._spoiled) and " at offset " in told
        if self.refuses:
            self.trace.counts["damage refused"] += 1
        return self.refuses

    def _uncaught(self, message: str, error: BaseException | None) -> None:
        if not isinstance(error, PowerLostError):
            self._broke(Invariant.PROGRAM, f"{self.host.name}: nobody caught {error!r} ({message})")

    def _step(self) -> None:
        self._stepped(self)

    def stop(self) -> bool:
        """Let the program end as it should; False if there is none."""
        if self.peer is None or self.is_stopping:
            return False
        self.trace.tell(self.host.name, "is told to stop")
        self.is_stopping = True
        self.loop.call_soon(lambda peer: self.loop.create_task(peer.stop()), self.peer)
        return True

    # Faults

    def kill(self) -> bool:
        """The program dies; the machine lives, and its page cache. False if there is none."""
        if not self.is_up:
            return False
        self.trace.tell(self.host.name, "is killed")
        self._end(silently=False)
        return True

    def lose_power(self) -> bool:
        """Everything dies, and what was not synced is lost. False if nothing runs."""
        if not self.is_up:
            return False
        self.trace.tell(self.host.name, "loses its power")
        self._end(silently=True)
        self.disk.lose_power()
        return True

    def spoil(self, damage: Damage) -> None:
        """Its disk does not keep what it was given."""
        self.trace.tell(self.host.name, str(damage))
        if not self.is_up:
            self._had = History(self).last_durable()
        self._spoiled.append(damage.path)
        self.disk.spoil(damage.path, damage.offset, damage.data)

    @property
    def is_spoiled(self) -> bool:
        """Whether its disk does not keep what it was given."""
        return bool(self._spoiled)

    def lose_disk(self) -> None:
        """The machine with all that is on it is gone. An empty one stands in its place, and nobody starts it yet."""
        self.is_out_of_service = self.is_empty = True
        if self.is_up:
            self._end(silently=True)
        self.trace.tell(self.host.name, "gets an empty disk")
        self.disk.replace(self.data_directory)
        self.refuses = False
        self._spoiled.clear()
        self._had = 0

    def _die_within(self, call: str) -> None:
        """A moment that the disk has chosen has come."""
        self.trace.tell(self.host.name, f"loses its power within a call to its disk: {call}")
        self.trace.counts[f"power lost: {call}"] += 1
        self._end(silently=True)
        self.disk.lose_power()

    def _end(self, *, silently: bool) -> None:
        peer, self.peer = self.peer, None
        assert peer is not None
        loop = self.loop
        self.is_paused = self.is_stopping = False
        self.disk.process_dies()
        self.host.process_dies(silently=silently)
        loop.kill()
        peer.history.database.unlock()
        self._ended(self)

    def turn_off(self) -> None:
        """Everything is over."""
        self._ended = _nothing
        self._end(silently=False)

    def pause(self) -> bool:
        """The program stands still. False if there is none."""
        if not self.is_up:
            return False
        self.trace.tell(self.host.name, "stands still")
        self.is_paused = True
        self.loop.pause()
        return True

    def resume(self) -> None:
        """It goes on."""
        if self.is_up and self.is_paused:
            self.trace.tell(self.host.name, "goes on")
            self.is_paused = False
            self.loop.resume()

    def jump_clock(self, by_ms: int) -> None:
        """Its wall clock is set."""
        self.trace.tell(self.host.name, f"its clock jumps by {by_ms} ms")
        self.clock.ahead_ms += by_ms
