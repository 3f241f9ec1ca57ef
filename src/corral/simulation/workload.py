"""Clients that work on an ensemble, and note what they were told."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import corral
from corral.client.results import Stat
from corral.simulation.invariants import Invariant
from corral.simulation.loop import Loop
from corral.simulation.watching import Diary

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Sequence

    from corral.client import Client
    from corral.simulation.invariants import Broke
    from corral.simulation.network import Host
    from corral.simulation.trace import Trace

REGISTERS: Final = tuple(f"/register-{n}" for n in range(4))
QUEUE: Final = "/queue"
MEMBERS: Final = "/members"
READERS: Final = 0.1
"""How many of the sessions only read: a write waits as long as there is no quorum."""


_T = TypeVar("_T")


@dataclass(slots=True)
class Asked:
    """Something that a client has asked for, and what it was told."""

    client: str
    session: int
    """0: the client had none when it asked."""
    begun_at: float
    seen: int
    """The newest zxid that the client knew of when it asked; of a linearizable read, the newest that was committed."""
    ended_at: float = field(default=math.inf, init=False)
    """When it was answered, if it was."""
    committed: int = field(default=0, init=False)
    """The newest committed transaction when it was answered."""
    error: corral.KeeperError | None = field(default=None, init=False)
    """Why it was refused."""
    was_sent: bool = field(default=True, init=False)
    """False: the client says that it certainly was not."""

    @property
    def is_answered(self) -> bool:
        """Whether it was, if only by a refusal."""
        return self.ended_at < math.inf

    @property
    def is_done(self) -> bool:
        """Whether it was answered, and not refused."""
        return self.is_answered and self.error is None


@dataclass(slots=True)
class Write(Asked):
    """``data`` is written by nobody else."""

    kind: str
    """``create``, ``set``, ``delete``."""
    paths: Sequence[str]
    """The znodes; of a sequential one the beginning of its path, until the rest is known."""
    data: bytes | None
    """None: the znode is to be deleted."""
    version: int | None
    """It is to be done only if that is the current one."""
    stats: Sequence[Stat] = field(default=(), init=False)
    """What the answer says of each path."""


@dataclass(slots=True)
class Read(Asked):
    """Of a znode, or of its children."""

    path: str
    stat: Stat | None = field(default=None, init=False)
    """None: there was no such znode."""
    data: bytes | None = field(default=None, init=False)
    names: frozenset[str] | None = field(default=None, init=False)
    as_of: int = field(default=0, init=False)
    """How far the server was at least, by what the client knew when it was answered."""


@dataclass(slots=True)
class Testimony:
    """What all clients have asked and been told."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    diaries: list[Diary] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        """Writes that were."""
        return sum(each.is_done for each in self.writes)

    @property
    def unknown(self) -> int:
        """Writes of which it is not known whether they were done."""
        return sum(each.was_sent and not each.is_answered for each in self.writes)


class Worker:
    """One client program, on a host of its own."""

    def __init__(
        self,
        host: Host,
        servers: str,
        chance: random.Random,
        trace: Trace,
        testimony: Testimony,
        committed: Callable[[], int],
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
        self._committed = committed
        self._broke = broke
        self._pause_s = pause_s
        self._session_timeout_s = session_timeout_s
        self._number = 0
        self._last_number = -1
        """That its newest sequential znode was given."""
        self._only_reads = False
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
        self._diary = Diary(self.host.name, self._committed)
        self._testimony.diaries.append(self._diary)
        self._diary.follow(zk)
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
        self._only_reads = self._chance.random() < READERS
        for top in (*REGISTERS, QUEUE, MEMBERS):
            await self._attempt(zk, self._create(zk, top))
        for kind in ("persistent", "recursive"):
            if self._chance.random() < 0.5:
                await self._attempt(zk, self._watch_all(zk, kind))
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
        register, other = chance.sample(REGISTERS, 2)
        if self._only_reads:
            return self._get_newest(zk, register) if chance.random() < 0.5 else self._get(zk, register)
        operations: dict[Callable[[], Awaitable[None]], int] = {
            lambda: self._set(zk, register): 22,
            lambda: self._swap(zk, register): 8,
            lambda: self._set_both(zk, register, other): 5,
            lambda: self._get(zk, register): 20,
            lambda: self._get(zk, register, is_watched=True): 8,
            lambda: self._get_newest(zk, register): 8,
            lambda: self._create(zk, f"{QUEUE}/n-", sequential=True): 9,
            lambda: self._create(zk, f"{MEMBERS}/{self._label()}", ephemeral=True): 5,
            lambda: self._take_from_queue(zk): 7,
            lambda: self._watch_creation(zk): 3,
            lambda: self._list(zk, chance.choice((QUEUE, MEMBERS)), is_watched=chance.random() < 0.5): 5,
        }
        (operation,) = chance.choices(list(operations), list(operations.values()))
        return operation()

    async def _attempt(self, zk: Client, operation: Awaitable[None]) -> None:
        asked = self._diary.number
        try:
            await operation
        except corral.NotSent:
            await asyncio.sleep(self._pause_s)
            return
        except (corral.ConnectionLoss, corral.SessionExpired):
            return
        except corral.KeeperError:
            # Another client was quicker.
            pass
        self._diary.replied(asked, zk.last_zxid)

    def _label(self) -> str:
        self._number += 1
        return f"{self.host.name}-{self._number}"

    @property
    def _now(self) -> float:
        return self.host.network.timeline.now

    async def _answered(self, asked: Asked, request: Awaitable[_T]) -> _T:
        """Wait for the answer, and note that it came."""
        try:
            result = await request
        except corral.NotSent:
            asked.was_sent = False
            raise
        except (corral.ConnectionLoss, corral.SessionExpired):
            raise
        except corral.KeeperError as error:
            asked.error = error
            self._note_end(asked)
            raise
        self._note_end(asked)
        return result

    def _note_end(self, asked: Asked) -> None:
        asked.ended_at, asked.committed = self._now, self._committed()

    # Writing

    def _begin_write(
        self, zk: Client, kind: str, paths: Sequence[str], data: bytes | None, version: int | None = None
    ) -> Write:
        write = Write(self.host.name, _session_of(zk), self._now, zk.last_zxid, kind, paths, data, version)
        self._testimony.writes.append(write)
        return write

    async def _create(self, zk: Client, path: str, *, sequential: bool = False, ephemeral: bool = False) -> None:
        data = self._label().encode()
        write = self._begin_write(zk, "create", (path,), data)
        made = await self._answered(write, zk.create(path, data, sequential=sequential, ephemeral=ephemeral))
        write.paths, write.stats = (str(made),), (made.stat,)
        if sequential:
            self._last_number = int(made[-10:])

    async def _set(self, zk: Client, path: str, version: int | None = None) -> None:
        data = self._label().encode()
        write = self._begin_write(zk, "set", (path,), data, version)
        write.stats = (await self._answered(write, zk.set(path, data, version=version)),)

    async def _swap(self, zk: Client, path: str) -> None:
        """Write only if nobody else has written since it was read."""
        znode = await zk.get(path)
        await self._set(zk, path, znode.stat.version)

    async def _set_both(self, zk: Client, *paths: str) -> None:
        data = self._label().encode()
        both = zk.transaction()
        for path in paths:
            both.set(path, data)
        write = self._begin_write(zk, "set", paths, data)
        results = await self._answered(write, both.commit())
        write.stats = tuple(result for result in results if isinstance(result, Stat))

    async def _take_from_queue(self, zk: Client) -> None:
        names = await zk.get_children(QUEUE)
        if names:
            path = f"{QUEUE}/{min(names)}"
            write = self._begin_write(zk, "delete", (path,), None)
            await self._answered(write, zk.delete(path))

    # Reading

    def _begin_read(self, zk: Client, path: str, must_see: int = 0) -> Read:
        read = Read(self.host.name, _session_of(zk), self._now, max(zk.last_zxid, must_see), path)
        self._testimony.reads.append(read)
        return read

    async def _get(self, zk: Client, path: str, *, is_watched: bool = False) -> None:
        read = self._begin_read(zk, path)
        watched, took = self._diary.watch("data", path)
        znode = await self._answered(read, zk.get(path, watch=took if is_watched else None))
        read.data, read.stat = znode
        if is_watched:
            self._diary.is_set(watched, znode.stat.mzxid)

    async def _get_newest(self, zk: Client, path: str) -> None:
        """By either way: nothing may be missed that is committed when it begins."""
        committed, session = self._committed(), zk.session
        if self._number % 2:
            read = self._begin_read(zk, path, committed)
            read.data, read.stat = await self._answered(read, zk.get(path, linearizable=True))
        else:
            await zk.sync(path)
            # The next session may begin at a member that lags behind.
            read = self._begin_read(zk, path, committed if session is not None and zk.session is session else 0)
            read.data, read.stat = await self._answered(read, zk.get(path))
        read.as_of = zk.last_zxid

    async def _list(self, zk: Client, path: str, *, is_watched: bool) -> None:
        read = self._begin_read(zk, path)
        watched, took = self._diary.watch("children", path)
        listing = await self._answered(read, zk.get_listing(path, watch=took if is_watched else None))
        read.stat, read.names = listing.stat, frozenset(listing.names)
        if is_watched:
            self._diary.is_set(watched, listing.stat.pzxid)

    # Watching

    async def _watch_creation(self, zk: Client) -> None:
        """Of what will soon be put into the queue."""
        path = f"{QUEUE}/n-{self._last_number + self._chance.randint(1, 4):010d}"
        read = self._begin_read(zk, path)
        watched, took = self._diary.watch("exists", path)
        read.stat = await self._answered(read, zk.exists(path, watch=took))
        if read.stat is None:
            self._diary.is_set(watched, read.seen, read.committed)
        else:
            watched.kind = "data"
            self._diary.is_set(watched, read.stat.mzxid)

    async def _watch_all(self, zk: Client, kind: str) -> None:
        is_recursive = kind == "recursive"
        path = self._chance.choice((QUEUE, MEMBERS, "/") if is_recursive else (QUEUE, MEMBERS, *REGISTERS))
        watched, took = self._diary.watch(kind, path)
        await zk.add_watch(path, took, recursive=is_recursive)
        self._diary.is_set(watched, zk.last_zxid)


def _session_of(zk: Client) -> int:
    return zk.session.id if zk.session is not None else 0
