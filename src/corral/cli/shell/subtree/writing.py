"""Writes znodes as they were elsewhere: pipelined in batches, over lost connections, never over what exists unasked."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from corral.cli.shell.subtree.errors import SubtreeError
from corral.cli.shell.subtree.paths import parent_of
from corral.cli.shell.subtree.reading import HELD_BYTES_MAX, WINDOW, Entry, discard, outliving
from corral.client import NULL, ConnectionLoss, SessionExpired
from corral.client.errors import BadVersionError, NodeExistsError, NoNodeError, NotSent, UnimplementedError
from corral.jute.owner import OwnerKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from corral.client import Acl, Client

__all__ = ["Existing", "Outcome", "Tally", "Writer", "all_of", "batches", "is_same_acl", "is_same_data"]

_T = TypeVar("_T")

ROUNDS_MAX: Final = 10
"""How often a batch is tried: over that many lost connections, or others that change the same znodes."""


class Existing(Enum):
    """What becomes of a znode that stands where another one is to be written."""

    REFUSE = "an error"
    MERGE = "kept as it is"
    OVERWRITE = "given the data and the ACL of the other"


class Outcome(Enum):
    """What became of one znode."""

    CREATED = "created"
    OVERWRITTEN = "overwritten"
    UNCHANGED = "unchanged"
    """It was there, and the same."""
    KEPT = "kept"
    """It was there, was different, and still is."""
    DELETED = "deleted"


_CHANGES: Final = (Outcome.CREATED, Outcome.OVERWRITTEN, Outcome.DELETED)


@dataclass(slots=True)
class Tally:
    """What has been done so far."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    data_bytes: int = 0
    """Of the data written."""
    ephemerals: list[str] = field(default_factory=list)
    """Ephemeral znodes that were left out: they belong to sessions."""
    complaints: list[str] = field(default_factory=list)
    """What is not as it was asked for, a sentence for each znode."""
    in_doubt: int = 0
    """Requests without an answer: what they ask for may have been done or not."""

    def add(self, outcome: Outcome, data_bytes: int = 0) -> None:
        """Count one znode."""
        self.counts[outcome] += 1
        if outcome in _CHANGES:
            self.data_bytes += data_bytes

    def __bool__(self) -> bool:
        """Whether anything has been written or deleted, or may have been."""
        return bool(self.in_doubt or any(self.counts[outcome] for outcome in _CHANGES))

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {outcome.value: self.counts[outcome] for outcome in Outcome}
        return found | {
            "data_bytes": self.data_bytes,
            "ephemerals": self.ephemerals,
            "complaints": self.complaints,
            "in_doubt": self.in_doubt,
        }

    def __str__(self) -> str:
        """One line for a reader."""
        parts = [f"{self.counts[outcome]} {outcome.value}" for outcome in Outcome if self.counts[outcome]]
        if self.ephemerals:
            parts.append(f"{len(self.ephemerals)} ephemeral left out")
        if self.in_doubt:
            parts.append(f"{self.in_doubt} more perhaps, for the answers are missing")
        return ", ".join(parts) or "nothing"


class _Present(NamedTuple):
    """What is already there."""

    data: bytes
    acl: Sequence[Acl]
    is_ephemeral: bool
    version: int


class Writer:
    """Writes entries, parents before children, and tells of each what became of it.

    A write whose connection is lost is looked up and done again. When :meth:`write` ends with an exception or is
    cancelled, ``tally`` has what was done and how much is in doubt.
    """

    def __init__(
        self,
        client: Client,
        existing: Existing,
        tally: Tally,
        *,
        dry_run: bool = False,
        verify: bool = False,
        on_outcome: Callable[[Entry, Outcome], None] | None = None,
    ) -> None:
        """A writer to ``client``.

        Args:
            client: where to write.
            existing: what becomes of znodes that are already there.
            tally: where to count.
            dry_run: write nothing; the outcomes are what would become of the entries.
            verify: read each batch again once it is written.
            on_outcome: called for each entry.
        """
        self._client = client
        self._existing = existing
        self._tally = tally
        self._dry_run = dry_run
        self._verify = verify
        self._on_outcome = on_outcome

    async def write(self, entries: AsyncIterable[Entry]) -> None:
        """Write them all.

        Raises:
            SubtreeError: one cannot be written, or is not what was written when it is read again.
            NodeExistsError: one exists, and that is to be refused.
            KeeperError: the service refuses one (NoNodeError: it has no parent, NoAuthError, QuotaExceededError, ...).
            RequestTooLargeError: one is larger than the service accepts.
        """
        async for batch in batches(entries):
            kept = await self._write_batch(batch)
            if self._verify and not self._dry_run:
                await self._read_back([entry for entry in batch if entry.path not in kept])

    async def _write_batch(self, batch: Sequence[Entry]) -> set[str]:
        """Write one batch; the paths of those that stay different from what was to be written."""
        kept: set[str] = set()
        doubtful: dict[str, Outcome] = {}
        looks_first = self._dry_run or self._existing is not Existing.REFUSE
        pending = list(batch)
        for _ in range(ROUNDS_MAX):
            present = await self._look(pending) if looks_first else [None] * len(pending)
            pending = await self._try(pending, present, doubtful, kept)
            if not pending:
                return kept
            looks_first = True
        raise SubtreeError(f"{pending[0].path}: given up after {ROUNDS_MAX} attempts")

    async def _try(
        self,
        entries: Sequence[Entry],
        present: Sequence[_Present | None],
        doubtful: dict[str, Outcome],
        kept: set[str],
    ) -> list[Entry]:
        """Write them once; those to be written again."""
        work: list[tuple[Entry, Outcome, _Present | None]] = []
        for entry, there in zip(entries, present, strict=True):
            outcome = self._decide(entry, there, doubtful)
            if outcome is Outcome.KEPT:
                kept.add(entry.path)
            if self._dry_run or (there is not None and not (outcome is Outcome.OVERWRITTEN and _differs(entry, there))):
                self._settle(entry, outcome, doubtful)
            else:
                work.append((entry, outcome, there))
        self._tally.in_doubt = len(work)
        results = await asyncio.gather(
            *[self._write_one(entry, there) for entry, _, there in work], return_exceptions=True
        )
        again: dict[str, Entry] = {}
        errors: list[BaseException] = []
        for (entry, outcome, _), result in zip(work, results, strict=True):
            if result is None:
                self._settle(entry, outcome, doubtful)
            elif self._is_to_be_repeated(entry, outcome, result, again):
                again[entry.path] = entry
                if isinstance(result, (ConnectionLoss, SessionExpired)) and not isinstance(result, NotSent):
                    doubtful[entry.path] = outcome
            else:
                errors.append(result)
        self._tally.in_doubt = len(doubtful)
        if errors:
            raise errors[0]
        return list(again.values())

    def _decide(self, entry: Entry, there: _Present | None, doubtful: dict[str, Outcome]) -> Outcome:
        if there is None:
            return Outcome.CREATED
        if not _differs(entry, there):
            return doubtful.get(entry.path, Outcome.UNCHANGED)
        match self._existing:
            case Existing.REFUSE:
                raise NodeExistsError(f"{entry.path}: node exists")
            case Existing.MERGE:
                return Outcome.KEPT
            case Existing.OVERWRITE if there.is_ephemeral:
                self._tally.complaints.append(f"{entry.path}: not overwritten, for it is the ephemeral of a session")
                return Outcome.KEPT
            case Existing.OVERWRITE:
                return Outcome.OVERWRITTEN

    def _settle(self, entry: Entry, outcome: Outcome, doubtful: dict[str, Outcome]) -> None:
        doubtful.pop(entry.path, None)
        self._tally.add(outcome, len(entry.data))
        if self._on_outcome is not None:
            self._on_outcome(entry, outcome)

    def _is_to_be_repeated(
        self, entry: Entry, outcome: Outcome, result: BaseException, again: dict[str, Entry]
    ) -> bool:
        match result:
            case ConnectionLoss() | SessionExpired() | BadVersionError():
                return True
            case NodeExistsError():
                return self._existing is not Existing.REFUSE
            case NoNodeError():
                # Its parent is to be repeated, or it has been deleted since it was looked at.
                return outcome is Outcome.OVERWRITTEN or parent_of(entry.path) in again
            case _:
                return False

    async def _write_one(self, entry: Entry, there: _Present | None) -> None:
        client = self._client
        if there is None:
            try:
                await client.create(
                    entry.path,
                    entry.data,
                    acl=entry.acl,
                    container=entry.kind is OwnerKind.CONTAINER,
                    ttl=entry.ttl,
                )
            except UnimplementedError:
                raise SubtreeError(
                    f"{entry.path}: the service makes no znodes of the kind {entry.kind.value}; "
                    "--plain makes them persistent ones"
                ) from None
            return
        if not is_same_data(entry.data, there.data):
            await client.set(entry.path, entry.data, version=there.version)
        if not is_same_acl(entry.acl, there.acl):
            await client.set_acl(entry.path, entry.acl)

    async def _look(self, entries: Iterable[Entry]) -> list[_Present | None]:
        return await all_of(self._find(entry.path) for entry in entries)

    async def _find(self, path: str) -> _Present | None:
        data, acl = asyncio.ensure_future(self._client.get(path)), asyncio.ensure_future(self._client.get_acl(path))
        try:
            found = await outliving(data, partial(self._client.get, path))
            access = await outliving(acl, partial(self._client.get_acl, path))
        except NoNodeError:
            return None
        finally:
            discard([data, acl])
        return _Present(found.data, access.acl, found.stat.kind is OwnerKind.EPHEMERAL, found.stat.version)

    async def _read_back(self, entries: Sequence[Entry]) -> None:
        for entry, there in zip(entries, await self._look(entries), strict=True):
            if there is None or not is_same_data(entry.data, there.data):
                raise SubtreeError(
                    f"{entry.path}: is {'gone' if there is None else 'different'} right after it was written"
                )


async def all_of(work: Iterable[Awaitable[_T]]) -> list[_T]:
    """All results; if there are exceptions, the first, once all have ended."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]


async def batches(entries: AsyncIterable[Entry]) -> AsyncIterator[list[Entry]]:
    """Cut into pieces that may be under way at once."""
    batch: list[Entry] = []
    size = 0
    async for entry in entries:
        if batch and (len(batch) >= WINDOW or size + len(entry.data) > HELD_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += len(entry.data)
    if batch:
        yield batch


def _differs(entry: Entry, there: _Present) -> bool:
    return not (is_same_data(entry.data, there.data) and is_same_acl(entry.acl, there.acl))


def is_same_data(left: bytes, right: bytes) -> bool:
    """Whether both are the same bytes, or no data at all."""
    return left == right and (left is NULL) == (right is NULL)


def is_same_acl(left: Iterable[Acl], right: Iterable[Acl]) -> bool:
    """Whether both say the same; the order means nothing."""
    return set(left) == set(right)
