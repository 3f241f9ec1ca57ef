"""Everything in one log, damage included: for tools that show, verify and repair. Servers read with LogReplay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corral.jute.checksums import adler32
from corral.storage.errors import DiskError
from corral.storage.txnlog.ending import Ending, EndKind, restore_entry
from corral.storage.txnlog.format import FRAME, MARK, SMALLEST_ENTRY
from corral.storage.txnlog.reader import LogReader


@dataclass(frozen=True, slots=True)
class GoodRecord:
    """A record as it was written, at ``offset``."""

    offset: int
    zxid: int
    entry: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """What could not be read, up to the next good record or the end.

    ``entry`` is there if only its checksum or only its end mark is wrong. ``restored`` is the entry as it was written,
    if a single changed byte explains the damage.
    """

    ending: Ending
    entry: bytes | None = None
    restored: bytes | None = None

    @property
    def offset(self) -> int:
        return self.ending.offset


def scan_log(path: Path) -> Iterator[GoodRecord | Damage]:
    """All records of a log, and every damage where it stands; goes on behind damage as soon as a record is readable.

    Raises :class:`~corral.storage.errors.DiskError` if the file cannot be read.
    """
    start, last_zxid = 0, -1
    while True:
        reader = LogReader(path, start, last_zxid)
        for last_zxid, entry in reader:
            yield GoodRecord(reader.offset, last_zxid, entry)
        ending = reader.ending
        assert ending is not None
        if ending.kind is EndKind.CLEAN:
            return
        damage = _examine(path, ending)
        yield damage
        if damage.entry is not None:
            start = ending.offset + FRAME.size + len(damage.entry) + len(MARK)
        elif ending.resumes_at is not None:
            start = ending.resumes_at
        else:
            return


def _examine(path: Path, ending: Ending) -> Damage:
    if ending.offset == 0:
        return Damage(ending)
    try:
        with path.open("rb") as file:
            file.seek(ending.offset)
            head = file.read(FRAME.size)
            if len(head) < FRAME.size:
                return Damage(ending)
            stored, length = FRAME.unpack(head)
            if not SMALLEST_ENTRY <= length < 1 << 31:
                return Damage(ending)
            rest = file.read(length + len(MARK))
    except OSError as error:
        raise DiskError("read the log", error, path, ending.offset) from error
    entry = rest[:length]
    if adler32(entry) == stored and rest[length:].strip(b"\0"):
        return Damage(ending, entry, entry)
    if rest[length:] == MARK:
        return Damage(ending, entry, restore_entry(entry, stored))
    return Damage(ending)
