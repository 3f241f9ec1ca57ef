"""Heartbeat and progress: who lives, and how far each one is."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from corral.client import OPEN
from corral.client.errors import ClientClosedError, KeeperError
from corral.recipes.codecs import DataclassCodec
from corral.recipes.membership import MemberEventKind, Members, Registration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from corral.client import Acl, Client
    from corral.recipes.membership import Member

REPORT_INTERVAL_S: Final = 1.0

log = logging.getLogger("corral.recipes")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a worker is, in a unit of its own."""

    done: float = 0.0
    total: float | None = None
    """None if nobody knows."""
    note: str = ""

    @property
    def fraction(self) -> float | None:
        """What part is done, from 0 to 1; None without a total."""
        return self.done / self.total if self.total else None


_CODEC: Final = DataclassCodec(Progress)


class ProgressReporter:
    """A worker's sign of life, and its progress, in an ephemeral znode of its own::

        async with ProgressReporter(zk, "/workers", "worker-7") as reporter:
            for number, item in enumerate(items):
                ...
                reporter.report(number, len(items))

    The znode lives as long as the session does; the client's pings are the heartbeat. After the loss of a session it
    is put back. Reports are written at most once per ``interval`` seconds, the newest one wins, and the last one is
    written before the end.
    """

    def __init__(
        self, zk: Client, group: str, name: str, *, interval: float = REPORT_INTERVAL_S, acl: Sequence[Acl] = OPEN
    ) -> None:
        """Prepare it; nothing is sent yet. ``name`` must be this worker's alone: see :class:`Registration`."""
        if not interval > 0:
            raise ValueError(f"interval={interval!r} is not positive")
        self._interval = interval
        self._newest = Progress()
        self._registration = Registration(zk, group, name, _CODEC.encode(self._newest), acl=acl)
        self._reported = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<ProgressReporter {self._registration.path} {self._newest}>"

    async def start(self) -> Self:
        """Register, with no progress; ``async with`` does so by itself. Waits while another session has the name."""
        await self._registration.start()
        self._writer = asyncio.create_task(self._write(), name=f"progress {self._registration.path}")
        return self

    async def close(self) -> None:
        """Write the last report, and vanish from the board."""
        try:
            if self._writer is not None:
                self._writer.cancel()
                await asyncio.wait({self._writer})
            await self._write_newest()
        finally:
            await self._registration.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def report(self, done: float, total: float | None = None, note: str = "") -> None:
        """Let others know, soon. Never waits. Raises ValueError for what is no number."""
        newest = Progress(float(done), float(total) if total is not None else None, note)
        _CODEC.encode(newest)
        self._newest = newest
        self._reported.set()

    async def _write(self) -> None:
        while True:
            await self._reported.wait()
            await self._write_newest()
            await asyncio.sleep(self._interval)

    async def _write_newest(self) -> None:
        if not self._reported.is_set():
            return
        self._reported.clear()
        try:
            await self._registration.update(_CODEC.encode(self._newest))
        except asyncio.CancelledError:
            # It may not have been written: the next time.
            self._reported.set()
            raise
        except ClientClosedError:
            return
        except KeeperError as error:
            log.error("progress of %s cannot be written: %s", self._registration.path, error)  # noqa: TRY400


class Report(NamedTuple):
    """What a worker says of itself."""

    worker: str
    progress: Progress | None
    """None if its data is no report of progress."""
    reported: datetime
    """When it was written, by the service's clock."""
    member: Member


class ReportEvent(NamedTuple):
    """A worker came, said something or went; ``report`` is None for RESYNCHRONISED only."""

    kind: MemberEventKind
    report: Report | None


class ProgressBoard:
    """All workers that live, and how far each is, readable at memory speed::

    async with ProgressBoard(zk, "/workers") as board:
        for report in board:
            print(report.worker, report.progress)
        async for event in board.changes():
            ...
    """

    def __init__(self, zk: Client, group: str) -> None:
        self.members = Members(zk, group)

    async def start(self) -> Self:
        """Read the board and follow it; ``async with`` does so by itself."""
        await self.members.start()
        return self

    async def close(self) -> None:
        """Follow it no more."""
        await self.members.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def get(self, worker: str) -> Report | None:
        """The report of a worker, None if it does not live."""
        member = self.members.get(worker)
        return _report(member) if member is not None else None

    def __iter__(self) -> Iterator[Report]:
        return map(_report, self.members)

    def __len__(self) -> int:
        return len(self.members)

    def changes(self) -> AsyncIterator[ReportEvent]:
        """Each event from now on. Ends when this or the client is closed."""
        return _reports(self.members.changes())

    async def wait_for(self, condition: Callable[[ProgressBoard], bool]) -> None:
        """Wait until ``condition`` holds. Raises ClientClosedError when this or the client is closed before."""
        await self.members.wait_for(lambda _: condition(self))


async def _reports(events: AsyncIterator[tuple[MemberEventKind, Member | None]]) -> AsyncIterator[ReportEvent]:
    async for kind, member in events:
        yield ReportEvent(kind, _report(member) if member is not None else None)


def _report(member: Member) -> Report:
    progress: Progress | None
    try:
        progress = _CODEC.decode(member.data)
    except ValueError:
        progress = None
    return Report(member.name, progress, member.stat.modified, member)
