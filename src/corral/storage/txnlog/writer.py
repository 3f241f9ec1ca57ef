"""Appending to the transaction log, by groups.

The event loop appends and takes; whoever syncs (the loop itself or a worker thread) writes what was taken:

    append, append, roll, append  ->  take()  ->  write(batch): one pwrite and one fdatasync for each file

Nothing that ``append`` took may be acknowledged before the ``write`` of its batch has returned. ``append``, ``roll``
and ``take`` belong to one thread, ``write`` to one thread at a time, in the order of the batches.

A failed write or sync ends the writer: after a failed fsync the page cache can no longer be believed, and a second
try that succeeds proves nothing. What was acknowledged before is on disk, and what was half written is a torn tail
that the next start drops.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corral.storage.errors import DiskError, StorageError
from corral.storage.files import log_name
from corral.storage.filesystem import REAL, FileSystem, write_fully
from corral.storage.txnlog.format import (
    FRAME,
    HEADER,
    LARGEST_UNSYNCED_BYTES,
    MARK,
    entry_zxid,
    frame_entries,
    padded_size,
)
from corral.storage.txnlog.marks import LogMark, LogMarks
from corral.storage.txnlog.reader import LogReader

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_PREALLOCATION_BYTES: Final = 64 << 20
"""By how much a log grows ahead of its records (``preAllocSize``, 65536 KiB)."""

ZERO_AHEAD_BYTES: Final = 128 << 10
"""Up to the next multiple of this, a write brings zeros along behind its records.

Writing over blocks that were written before spares the sync a journal commit: on ext4 it takes 140 us instead of 190
for a record of 1 KiB, and larger steps make single syncs slow. Writes of this size and more gain nothing from it.
"""

_ZEROS: Final = bytes(ZERO_AHEAD_BYTES)
_FRAMING: Final = FRAME.size + len(MARK)


@dataclass(slots=True)
class Segment:
    """Entries for one file: a new one named by ``first_zxid``, or the current one if that is None."""

    first_zxid: int | None
    entries: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call of :meth:`TxnLogWriter.write` makes durable; ``size_bytes`` as it stands in the files."""

    segments: list[Segment]
    size_bytes: int

    @property
    def count(self) -> int:
        """Entries in the batch."""
        return sum(len(segment.entries) for segment in self.segments)

    @property
    def last_zxid(self) -> int:
        """The zxid up to which the log is durable once the batch is written."""
        return entry_zxid(self.segments[-1].entries[-1])


class TxnLogWriter:
    """Writes the logs of one directory. A writer always begins with a new file, never goes on with one it finds."""

    def __init__(
        self,
        directory: Path,
        *,
        preallocation_bytes: int = DEFAULT_PREALLOCATION_BYTES,
        force_sync: bool = True,
        size_limit_bytes: int | None = None,
        filesystem: FileSystem = REAL,
    ) -> None:
        """``force_sync=False`` leaves syncing to the system; ``size_limit_bytes`` rolls a log that has grown so far."""
        self._directory = directory
        self._preallocation_bytes = preallocation_bytes
        self.force_sync = force_sync
        self._size_limit_bytes = size_limit_bytes
        self._filesystem = filesystem
        # Of the appending thread.
        self._entries: list[bytes] | None = None
        self._segments: list[Segment] = []
        self._rolled = True
        self.size_bytes = 0
        """Bytes taken for the current log, its header included; 0 if the next append starts a new one."""
        self.marks = LogMarks()
        """Where in the logs some of what was taken begins."""
        self.taken_bytes = 0
        """Size of all entries that were ever taken."""
        self._log_zxid = 0
        # Of the writing thread.
        self._file: _OpenLog | None = None
        self._failure: StorageError | None = None
        self.last_sync_ms = 0.0
        """How long the latest sync took."""

    def __repr__(self) -> str:
        return f"TxnLogWriter({str(self._directory)!r}, size_bytes={self.size_bytes})"

    def append(self, zxid: int, entry: bytes) -> None:
        """Queue one entry, whose zxid is ``zxid``, for the next batch. Does no input or output."""
        entries = self._entries
        if entries is None:
            entries = self._open_segment(zxid)
        entries.append(entry)

    def extend(self, transactions: Sequence[tuple[int, bytes]]) -> None:
        """Queue entries, each behind its zxid, for the next batch. Does no input or output."""
        entries = self._entries
        if entries is None:
            entries = self._open_segment(transactions[0][0])
        entries.extend([entry for _, entry in transactions])

    def roll(self) -> None:
        """The next append starts a new file."""
        self._rolled = True
        self._entries = None

    @property
    def first_waiting_zxid(self) -> int | None:
        """Of what was appended and not taken; None if nothing was."""
        return entry_zxid(self._segments[0].entries[0]) if self._segments else None

    def give_up(self) -> None:
        """Forget what was appended and not taken; the next append starts a new file."""
        self._segments = []
        self.roll()
        self.size_bytes = 0

    def take(self) -> Batch | None:
        """All that was appended since the last call, or None if that is nothing."""
        segments = self._segments
        if not segments:
            return None
        size_bytes = 0
        for segment in segments:
            if segment.first_zxid is not None:
                self._log_zxid = segment.first_zxid
                self.size_bytes = len(HEADER)
            first_zxid = entry_zxid(segment.entries[0])
            self.marks.note(LogMark(first_zxid, self._log_zxid, self.size_bytes, self.taken_bytes))
            taken = sum(map(len, segment.entries))
            part = taken + len(segment.entries) * _FRAMING
            self.taken_bytes += taken
            self.size_bytes += part
            size_bytes += part
        self._segments = []
        self._entries = None
        if self._size_limit_bytes is not None and self.size_bytes > self._size_limit_bytes:
            self._rolled = True
        if self._rolled:
            self.size_bytes = 0
        return Batch(segments, size_bytes)

    def write(self, batch: Batch) -> None:
        """Return once the whole batch is on disk. Raises :class:`~corral.storage.errors.StorageError`, for good."""
        if self._failure is not None:
            raise self._failure
        try:
            for segment in batch.segments:
                self._write_segment(segment)
        except StorageError as error:
            self._failure = error
            raise

    def write_unsynced(self, batch: Batch) -> int | None:
        """Write a batch that fits into the current file as it is; returns the descriptor that is then to be synced.

        None if the batch needs :meth:`write`: nothing was done. If the sync fails, tell :meth:`sync_failed`.
        """
        if self._failure is not None:
            raise self._failure
        file = self._file
        if file is None or len(batch.segments) != 1 or batch.segments[0].first_zxid is not None:
            return None
        if batch.size_bytes > LARGEST_UNSYNCED_BYTES:
            return None
        if padded_size(file.position + batch.size_bytes, file.size, self._preallocation_bytes) != file.size:
            return None
        try:
            self._write(file, frame_entries(batch.segments[0].entries))
        except StorageError as error:
            self._failure = error
            raise
        return file.descriptor

    def sync_failed(self, error: OSError) -> StorageError:
        """The sync of what :meth:`write_unsynced` wrote has failed: nothing more can be written."""
        file = self._file
        assert file is not None
        self._failure = DiskError("sync the log", error, file.path, file.position)
        return self._failure

    def close(self) -> None:
        """Close the current file. What was appended but not written is given up."""
        file, self._file = self._file, None
        if file is not None:
            self._filesystem.close(file.descriptor)

    def _open_segment(self, zxid: int) -> list[bytes]:
        segment = Segment(zxid if self._rolled else None)
        self._rolled = False
        self._segments.append(segment)
        self._entries = segment.entries
        return segment.entries

    def _write_segment(self, segment: Segment) -> None:
        parts = _split(segment.entries)
        if segment.first_zxid is None:
            file = self._file
            assert file is not None
        else:
            # The previous file's records were synced with their segment: a later file never outlives them.
            self.close()
            file = self._file = self._create(self._directory / log_name(segment.first_zxid))
        for number, entries in enumerate(parts):
            data = frame_entries(entries)
            if number == 0 and segment.first_zxid is not None:
                data = HEADER + data
            self._write(file, data)
            self._sync(file)
        if segment.first_zxid is not None:
            try:
                self._filesystem.sync_directory(self._directory)
            except OSError as error:
                raise DiskError("sync the directory", error, self._directory) from error

    def _create(self, path: Path) -> _OpenLog:
        try:
            return _OpenLog(path, self._filesystem.create(path))
        except FileExistsError:
            # A log is named by its first record. Had that record been readable, recovery would have replayed it and
            # the zxid would not be given out again: the file holds nothing, or what a crash left of a first write.
            if any(True for _ in LogReader(path)):
                raise StorageError("the new log's name is taken by a log that holds transactions", path) from None
        except OSError as error:
            raise DiskError("create the log", error, path) from error
        try:
            self._filesystem.unlink(path)
            return _OpenLog(path, self._filesystem.create(path))
        except OSError as error:
            raise DiskError("replace an empty log", error, path) from error

    def _write(self, file: _OpenLog, data: bytes) -> None:
        position = file.position
        try:
            if position == 0:
                size = padded_size(len(HEADER), len(HEADER), self._preallocation_bytes)
            else:
                size = padded_size(position, file.size, self._preallocation_bytes)
            end = position + len(data)
            if end > file.written:
                zeros = 0
                if len(data) < ZERO_AHEAD_BYTES:
                    zeros = max(0, min(-end % ZERO_AHEAD_BYTES, size - end))
                write_fully(self._filesystem, file.descriptor, data + _ZEROS[:zeros] if zeros else data, position)
                file.written = end + zeros
            else:
                write_fully(self._filesystem, file.descriptor, data, position)
            if size > max(file.size, file.written):
                self._filesystem.truncate(file.descriptor, size)
            file.position = end
            file.size = size
        except OSError as error:
            raise DiskError("append to the log", error, file.path, position) from error

    def _sync(self, file: _OpenLog) -> None:
        if not self.force_sync:
            return
        started = time.perf_counter()
        try:
            self._filesystem.sync_data(file.descriptor)
        except OSError as error:
            raise DiskError("sync the log", error, file.path, file.position) from error
        self.last_sync_ms = (time.perf_counter() - started) * 1000


@dataclass(slots=True)
class _OpenLog:
    """The file being written: where the next record goes, its padded length, and how far blocks were written."""

    path: Path
    descriptor: int
    position: int = 0
    size: int = 0
    written: int = 0


def _split(entries: list[bytes]) -> list[list[bytes]]:
    """The entries in runs of at most LARGEST_UNSYNCED_BYTES, or of one entry."""
    if sum(map(len, entries)) <= LARGEST_UNSYNCED_BYTES:
        return [entries]
    runs: list[list[bytes]] = [[]]
    size = 0
    for entry in entries:
        if runs[-1] and size + len(entry) > LARGEST_UNSYNCED_BYTES:
            runs.append([])
            size = 0
        runs[-1].append(entry)
        size += len(entry)
    return runs
