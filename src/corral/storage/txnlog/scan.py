"""Everything in one log, damage included: for tools that show, verify and repair. Servers read with LogReplay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import adler32

from corral.storage.errors import DiskError
from corral.storage.txnlog.ending import Ending, EndKind
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

    ``entry`` is there if only the checksum is wrong: a length that leads to an end mark, and that many bytes.
    """

    ending: Ending
    entry: bytes | None

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
        bad_entry = _entry_with_wrong_checksum(path, ending.offset)
        yield Damage(ending, bad_entry)
        if bad_entry is not None:
            start = ending.offset + FRAME.size + len(bad_entry) + len(MARK)
        elif ending.resumes_at is not None:
            start = ending.resumes_at
        else:
            return


def _entry_with_wrong_checksum(path: Path, offset: int) -> bytes | None:
    if offset == 0:
        return None
    try:
        with path.open("rb") as file:
            file.seek(offset)
            head = file.read(FRAME.size)
            if len(head) < FRAME.size:
                return None
            stored, length = FRAME.unpack(head)
            if not SMALLEST_ENTRY <= length < 1 << 31:
                return None
            rest = file.read(length + len(MARK))
    except OSError as error:
        raise DiskError("read the log", error, path, offset) from error
    entry = rest[:length]
    if rest[length:] != MARK or adler32(entry) == stored:
        return None
    return entry
