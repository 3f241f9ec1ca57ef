"""The network between the members of an ensemble for tests: every connection goes through here, and can be cut.

Members look for each other at addresses of this relay. Who opens a connection says so in its first bytes, as both of
Apache's protocols between servers want it. What crosses a cut is held back as the network would do it: nothing arrives,
not even that the other end has closed; when the cut is healed it arrives late, if anybody still waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
import threading
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from corral.server.config.membership import PeerAddress
from corral.server.listeners import close_listeners
from corral.testing.errors import StartError
from corral.testing.in_thread import ANSWER_LIMIT_S, new_event_loop

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LONG: Final = struct.Struct(">q")
_ELECTION_HEAD: Final = struct.Struct(">qq")
"""The version of the opening message, and who sends it."""
_QUORUM_HEAD: Final = struct.Struct(">iqiq")
"""The first packet of a learner: type, zxid, length of its data, which begins with who sends it."""
_CHUNK_BYTES: Final = 1 << 16
_REACH_FOR_S: Final = 1.0
_REACH_PAUSE_S: Final = 0.002


class _End(NamedTuple):
    """Where connections are taken for a member, and where they lead."""

    sid: int
    port: int
    is_for_elections: bool


class Network:
    """Runs on a thread of its own from :meth:`open` to :meth:`close`."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._cut: frozenset[frozenset[int]] = frozenset()
        self._listeners: list[asyncio.Server] = []
        self._is_closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._changed: asyncio.Event
        self._thread: threading.Thread | None = None

    def open(self, members: Mapping[int, PeerAddress]) -> dict[int, PeerAddress]:
        """Take connections for members that listen there; returns where the others are to look for them.

        Raises StartError.
        """
        opened: Future[dict[int, PeerAddress]] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(members, opened), name="corral-ensemble-network", daemon=True
        )
        self._thread.start()
        return opened.result(ANSWER_LIMIT_S)

    def close(self) -> None:
        """Close all connections."""
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            thread.join(ANSWER_LIMIT_S)

    def partition(self, groups: Iterable[frozenset[int]], members: Iterable[int]) -> None:
        """Let only those talk who are in one group; members that are in no group are one together."""
        side = {sid: number for number, group in enumerate(groups) for sid in group}
        pairs = itertools.combinations(members, 2)
        self._set(frozenset(frozenset(pair) for pair in pairs if side.get(pair[0]) != side.get(pair[1])))

    def heal(self) -> None:
        """Let everybody talk."""
        self._set(frozenset())

    def _set(self, cut: frozenset[frozenset[int]]) -> None:
        done: Future[None] = Future()

        def change() -> None:
            self._cut = cut
            self._changed.set()
            self._changed = asyncio.Event()
            done.set_result(None)

        self._loop.call_soon_threadsafe(change)
        done.result(ANSWER_LIMIT_S)

    # The thread

    def _run(self, members: Mapping[int, PeerAddress], opened: Future[dict[int, PeerAddress]]) -> None:
        loop = new_event_loop()
        try:
            loop.run_until_complete(self._carry_all(members, opened))
        finally:
            loop.close()

    async def _carry_all(self, members: Mapping[int, PeerAddress], opened: Future[dict[int, PeerAddress]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        try:
            places = {
                sid: PeerAddress(
                    self._host,
                    await self._listen(_End(sid, address.quorum_port, is_for_elections=False)),
                    await self._listen(_End(sid, address.election_port, is_for_elections=True)),
                )
                for sid, address in members.items()
            }
        except OSError as error:
            opened.set_exception(StartError(f"cannot listen on {self._host!r}: {error.strerror or error}"))
        else:
            opened.set_result(places)
            await self._ended.wait()
        # Who was being accepted is there two turns of the loop later, and transports close in a turn of their own.
        self._is_closing = True
        await close_listeners(self._listeners)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for _ in range(3):
            await asyncio.sleep(0)

    async def _listen(self, end: _End) -> int:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._is_closing:
                writer.transport.abort()
                return
            task = self._loop.create_task(self._carry(end, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(partial(self._carried, writer))

        listener = await asyncio.start_server(accept, self._host, 0)
        self._listeners.append(listener)
        port: int = listener.sockets[0].getsockname()[1]
        return port

    def _carried(self, writer: asyncio.StreamWriter, task: asyncio.Task[None]) -> None:
        # A task that is cancelled before it has begun closes nothing.
        writer.transport.abort()
        self._tasks.discard(task)

    async def _carry(self, end: _End, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head, caller = await _opening(end, reader)
            link = frozenset((caller, end.sid))
            await self._passable(link)
            there_reader, there_writer = await self._reach(end)
        except (OSError, EOFError):
            return
        try:
            there_writer.write(head)
            ways = (self._pump(reader, there_writer, link), self._pump(there_reader, writer, link))
            pumps = [self._loop.create_task(way) for way in ways]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.wait(pumps)
        finally:
            there_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: frozenset[int]) -> None:
        """Carry one way until one end is closed, and what was sent before has arrived."""
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                await self._passable(link)
                writer.write(data)
                await writer.drain()
        await self._passable(link)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _passable(self, link: frozenset[int]) -> None:
        while link in self._cut:
            await self._changed.wait()

    async def _reach(self, end: _End) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The member itself. One that was elected and does not listen yet is waited for, as by one that calls it."""
        give_up_at = self._loop.time() + (0 if end.is_for_elections else _REACH_FOR_S)
        while True:
            try:
                return await asyncio.open_connection(self._host, end.port)
            except OSError:
                if self._loop.time() >= give_up_at:
                    raise
            await asyncio.sleep(_REACH_PAUSE_S)


async def _opening(end: _End, reader: asyncio.StreamReader) -> tuple[bytes, int]:
    """The first bytes of a connection, and who opened it."""
    if not end.is_for_elections:
        head = await reader.readexactly(_QUORUM_HEAD.size)
        return head, _QUORUM_HEAD.unpack(head)[3]
    head = await reader.readexactly(_LONG.size)
    if _LONG.unpack(head)[0] >= 0:
        # Before 3.5: the id, and nothing else.
        return head, _LONG.unpack(head)[0]
    head += await reader.readexactly(_LONG.size)
    return head, _ELECTION_HEAD.unpack(head)[1]
