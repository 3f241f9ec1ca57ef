"""Clients that work on an ensemble, and note what they were told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import corral
from corral.client.results import Stat
from corral.simulation.invariants import Invariant
from corral.simulation.loop import Loop

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from corral.client import Client
    from corral.simulation.invariants import Broke
    from corral.simulation.network import Host
    from corral.simulation.trace import Trace

REGISTERS: Final = tuple(f"/register-{n}" for n in range(4))
QUEUE: Final = "/queue"
MEMBERS: Final = "/members"


class Written(NamedTuple):
    """An acknowledged write: when it was asked for and acknowledged, its zxid, and what it did to which znode."""

    client: str
    begun_at: float
    ended_at: float
    zxid: int
    path: str
    data: bytes | None
    """None: the znode was deleted."""


class Read(NamedTuple):
    """An answered read. ``seen`` is the newest zxid that the client knew of when it asked."""

    client: str
    begun_at: float
    ended_at: float
    seen: int
    path: str
    mzxid: int | None
    """None: there was no such znode."""
    data: bytes


@dataclass(slots=True)
class Testimony:
    """What all clients have been told."""

    writes: list[Written]
    reads: list[Read]
    unknown: int = 0
    """Requests of which it is not known whether they were done."""
    sessions: int = 0


class Worker:
    """One client program, on a host of its own."""

    def __init__(
        self,
        host: Host,
        servers: str,
        chance: random.Random,
        trace: Trace,
        testimony: Testimony,
        broke: Broke,
        *,
        pause_s: float,
        session_timeout_s: float,
    ) -> None:
        self.host = host
        self.trace = trace
        self._servers = servers
        self._chance = chance
        self._testimony = testimony
        self._broke = broke
        self._pause_s = pause_s
        self._session_timeout_s = session_timeout_s
        self._number = 0
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether its program has ended."""
        return self.host.loop is None

    def start(self) -> None:
        """Run the program."""
        self.trace.tell(self.host.name, "starts")
        timeline = self.host.network.timeline
        self.host.loop = loop = Loop(timeline, self.host, self._uncaught)
        loop.call_soon(lambda: loop.create_task(self._run(loop)))

    def stop(self) -> None:
        """Let it end its work, close its client and end."""
        self._is_stopping = True

    def kill(self) -> None:
        """End it at once; its session is left to expire."""
        loop = self.host.loop
        if loop is not None:
            self.trace.tell(self.host.name, "is killed")
            self.host.process_dies(silently=False)
            loop.kill()

    def _uncaught(self, message: str, error: BaseException | None) -> None:
        self._broke(Invariant.PROGRAM, f"{self.host.name}: nobody caught {error!r} ({message})")

    async def _run(self, loop: Loop) -> None:
        while not self._is_stopping:
            await self._live(self._work)
        # Once everything has healed everybody must be able to write and to read.
        while not await self._live(self._take_leave):
            continue
        self.trace.tell(self.host.name, "is done")
        loop.call_soon(self._end, loop)

    def _end(self, loop: Loop) -> None:
        self.host.process_dies(silently=False)
        loop.kill()

    async def _live(self, work: Callable[[Client], Awaitable[bool]]) -> bool:
        """One client, from its start to its close; False if it could not do its work."""
        zk = corral.connect(
            self._servers,
            session_timeout=self._session_timeout_s,
            connect_timeout=5.0,
            backoff_first=0.02,
            backoff_max=0.5,
            heartbeat=False,
            random=self._chance,
        )
        try:
            await zk.start()
        except corral.ConnectionLoss:
            return False
        self._testimony.sessions += 1
        is_done = await work(zk)
        await zk.close()
        return is_done

    async def _take_leave(self, zk: Client) -> bool:
        try:
            made = await zk.create("/healed-", sequential=True)
            await zk.get(made)
        except (corral.ConnectionLoss, corral.SessionExpired):
            return False
        return True

    async def _work(self, zk: Client) -> bool:
        """Do a number of things, or fewer if the session is lost."""
        number = self._chance.randint(5, 400)
        for top in (*REGISTERS, QUEUE, MEMBERS):
            await self._attempt(zk, self._create(zk, top))
        for _ in range(number):
            if self._is_stopping or zk.state is corral.State.LOST:
                return False
            await asyncio.sleep(self._chance.expovariate(1 / self._pause_s))
            if self._chance.random() < 0.1:
                several = [self._attempt(zk, self._draw(zk)) for _ in range(self._chance.randint(2, 8))]
                await asyncio.gather(*several)
            else:
                await self._attempt(zk, self._draw(zk))
        return True

    def _draw(self, zk: Client) -> Awaitable[None]:
        chance = self._chance
        kind = chance.random()
        if kind < 0.3:
            return self._set(zk, chance.choice(REGISTERS))
        if kind < 0.6:
            return self._get(zk, chance.choice(REGISTERS))
        if kind < 0.7:
            return self._create(zk, f"{QUEUE}/n-", sequential=True)
        if kind < 0.75:
            return self._create(zk, f"{MEMBERS}/{self._label()}", ephemeral=True)
        if kind < 0.8:
            return self._set_both(zk, *chance.sample(REGISTERS, 2))
        if kind < 0.9:
            return self._take_from_queue(zk)
        return self._get_after_sync(zk, chance.choice(REGISTERS))

    async def _attempt(self, zk: Client, operation: Awaitable[None]) -> None:
        try:
            await operation
        except corral.NotSent:
            await asyncio.sleep(self._pause_s)
        except (corral.ConnectionLoss, corral.SessionExpired):
            self._testimony.unknown += 1
        except corral.KeeperError:
            # Another client was quicker.
            return

    def _label(self) -> str:
        self._number += 1
        return f"{self.host.name}-{self._number}"

    def _wrote(self, begun_at: float, zxid: int, path: str, data: bytes | None) -> None:
        now = self.host.network.timeline.now
        self._testimony.writes.append(Written(self.host.name, begun_at, now, zxid, path, data))

    async def _create(self, zk: Client, path: str, *, sequential: bool = False, ephemeral: bool = False) -> None:
        begun_at, data = self.host.network.timeline.now, self._label().encode()
        made = await zk.create(path, data, sequential=sequential, ephemeral=ephemeral)
        self._wrote(begun_at, made.zxid, str(made), data)

    async def _set(self, zk: Client, path: str) -> None:
        begun_at, data = self.host.network.timeline.now, self._label().encode()
        stat = await zk.set(path, data)
        self._wrote(begun_at, stat.mzxid, path, data)

    async def _set_both(self, zk: Client, one: str, other: str) -> None:
        begun_at, data = self.host.network.timeline.now, self._label().encode()
        async with zk.transaction() as both:
            both.set(one, data)
            both.set(other, data)
        for path, result in zip((one, other), both.results, strict=True):
            assert isinstance(result, Stat)
            self._wrote(begun_at, result.mzxid, path, data)

    async def _get(self, zk: Client, path: str) -> None:
        begun_at, seen = self.host.network.timeline.now, zk.last_zxid
        found: tuple[int | None, bytes]
        try:
            znode = await zk.get(path)
            found = (znode.stat.mzxid, znode.data)
        except corral.NoNodeError:
            found = (None, b"")
        now = self.host.network.timeline.now
        self._testimony.reads.append(Read(self.host.name, begun_at, now, seen, path, *found))

    async def _get_after_sync(self, zk: Client, path: str) -> None:
        await zk.sync(path)
        await self._get(zk, path)

    async def _take_from_queue(self, zk: Client) -> None:
        names = await zk.get_children(QUEUE)
        if names:
            await zk.delete(f"{QUEUE}/{min(names)}")
