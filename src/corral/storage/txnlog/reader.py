"""Reading one transaction log."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from corral.jute.checksums import adler32
from corral.storage.errors import DiskError
from corral.storage.txnlog.ending import Ending, examine_ending, read_range
from corral.storage.txnlog.format import FRAME, FRAME_AND_ZXID, HEADER, MAGIC, MARK, SMALLEST_ENTRY, SMALLEST_RECORD

_CHUNK_BYTES: Final = 1 << 20


class LogReader:
    """The good records of a log, in order; iterate once, then ask ``ending`` how the file ended.

    Nothing is raised for damage: it is the reader of a whole directory who can tell what the damage of one file means.
    """

    def __init__(self, path: Path, start: int = 0, last_zxid: int = -1) -> None:
        """``start`` is 0 or where a record begins; the good record before it has ``last_zxid``."""
        self.path = path
        self._start = start
        self._last_zxid = last_zxid
        self.count = 0
        """Good records; set once reading has ended, as are the fields below but ``offset``."""
        self.first_zxid: int | None = None
        self.last_zxid: int | None = None
        """zxids of the first and the last good record."""
        self.offset = 0
        """Where the record handed out last begins in the file."""
        self.ending: Ending | None = None

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """zxid and entry of each good record. Raises :class:`~corral.storage.errors.DiskError` if reading fails."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DiskError("open the log", error, self.path) from error
        try:
            yield from self._read(descriptor)
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int) -> Iterator[tuple[int, bytes]]:
        file_size = os.fstat(descriptor).st_size
        base, position = self._start, 0
        buffer = self._load(descriptor, base, min(_CHUNK_BYTES, file_size - base))
        zxid = self._last_zxid
        if base or (len(buffer) >= len(HEADER) and int.from_bytes(buffer[:4], "big") == MAGIC):
            position = 0 if base else len(HEADER)
            unpack, frame_size, mark = FRAME_AND_ZXID.unpack_from, FRAME.size, MARK[0]
            count, limit = 0, len(buffer)
            while True:
                if limit - position >= SMALLEST_RECORD:
                    stored, length, this_zxid = unpack(buffer, position)
                    start = position + frame_size
                    end = start + length
                    if end < limit:
                        entry = buffer[start:end]
                        if adler32(entry) != stored or buffer[end] != mark or length < SMALLEST_ENTRY:
                            break
                        self.offset = base + position
                        position = end + 1
                        zxid = this_zxid
                        if not count:
                            self.first_zxid = zxid
                        count += 1
                        yield zxid, entry
                        continue
                    needed = end + 1 - position
                else:
                    needed = SMALLEST_RECORD
                base += position
                position = 0
                if base + needed > file_size:
                    break
                buffer = self._load(descriptor, base, min(max(needed, _CHUNK_BYTES), file_size - base))
                limit = len(buffer)
                if limit < needed:
                    break
            self.count = count
            self.last_zxid = zxid if count else None
        try:
            self.ending = examine_ending(descriptor, base + position, file_size, zxid)
        except OSError as error:
            raise DiskError("read the log", error, self.path, base + position) from error

    def _load(self, descriptor: int, start: int, size: int) -> bytes:
        try:
            return read_range(descriptor, start, start + size)
        except OSError as error:
            raise DiskError("read the log", error, self.path, start) from error
