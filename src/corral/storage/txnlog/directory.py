"""Reading, mending and cutting the logs of a whole directory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corral.storage.errors import CorruptLogError, DiskError, LogGapError, StorageError
from corral.storage.files import LogFile, list_logs
from corral.storage.filesystem import REAL, FileSystem
from corral.storage.txnlog.ending import Ending, EndKind
from corral.storage.txnlog.format import HEADER
from corral.storage.txnlog.marks import LogMark
from corral.storage.txnlog.reader import LogReader

logger = logging.getLogger(__name__)

_COUNTER_BITS = 32
_COUNTER_MASK = (1 << _COUNTER_BITS) - 1

ADVICE = "`corral log verify` shows what is readable, `corral log repair` writes a repaired copy"


class LogReplay:
    """All transactions after ``after_zxid``, in order, from the logs of a directory.

    Iterate once to the end, then call :meth:`mend` before anything new is logged. Iterating raises

    - :class:`~corral.storage.errors.CorruptLogError` for damage that no crash explains,
    - :class:`~corral.storage.errors.LogGapError` if transactions are missing,
    - :class:`~corral.storage.errors.DiskError` if reading fails.

    What is dropped without an error, the torn end of a write that was never acknowledged, is logged as a warning and
    listed in ``notices``.

    Two records may have the same zxid (servers before 3.9 logged a failed request so); both are handed out. Within an
    epoch zxids count up by one, a new epoch begins at counter 1 (0 when the counter has run over).
    """

    def __init__(self, directory: Path, after_zxid: int, mark: LogMark | None = None) -> None:
        """``mark`` is where reading may begin, a record at or before the first one that is wanted."""
        self.directory = directory
        self.last_zxid = max(after_zxid, 0)
        """zxid of the transaction handed out last; before the first, the zxid that reading goes on from."""
        self.notices: list[str] = []
        self._after_zxid = self.last_zxid
        self._mark = mark
        self._read: list[LogReader] = []
        self._unexplained: LogReader | None = None

    def __repr__(self) -> str:
        return f"LogReplay({str(self.directory)!r}, last_zxid={self.last_zxid:#x})"

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """zxid and entry of each transaction."""
        last_zxid = self.last_zxid
        for log in logs_from(self.directory, last_zxid):
            reader = self._reader(log)
            self._read.append(reader)
            for zxid, entry in reader:
                if zxid != last_zxid + 1:
                    if zxid <= self._after_zxid:
                        continue
                    if zxid != last_zxid:
                        self._check_step(last_zxid, zxid, reader)
                if self._unexplained is not None:
                    self._explain(last_zxid, zxid, reader)
                self.last_zxid = last_zxid = zxid
                yield zxid, entry
            self._note_ending(reader)
        if self._unexplained is not None:
            self._drop_or_refuse(self._unexplained)

    def _reader(self, log: LogFile) -> LogReader:
        mark = self._mark
        if mark is not None and mark.log_zxid == log.zxid and mark.zxid <= self._after_zxid + 1:
            start, before = mark.offset, mark.zxid - 1
            # The log may have been cut, and gone on differently, since that was noted.
            if next((zxid for zxid, _ in LogReader(log.path, start, before)), None) == mark.zxid:
                return LogReader(log.path, start, before)
        return LogReader(log.path)

    def mend(self, filesystem: FileSystem = REAL) -> None:
        """Cut the torn end off the newest log, remove logs at the end that hold no record, and sync what was read.

        Then the directory is in order for every reader, Apache's server included, and the next log can be created;
        and what was read is durable: whoever wrote it may have been killed before its sync, and what is read back
        from the page cache could still be lost with the power. Needs no free space.
        Raises :class:`~corral.storage.errors.DiskError`.
        """
        self._cut_ends(filesystem)
        for reader in self._read:
            if reader.count:
                sync_log(reader.path, filesystem)
        if self._read:
            try:
                filesystem.sync_directory(self.directory)
            except OSError as error:
                raise DiskError("sync the directory", error, self.directory) from error

    def _cut_ends(self, filesystem: FileSystem) -> None:
        for reader in reversed(self._read):
            ending = reader.ending
            if ending is None or ending.kind is EndKind.CORRUPT:
                return
            if reader.count:
                if ending.kind is EndKind.TORN:
                    cut_log(reader.path, ending.offset, filesystem)
                return
            remove_log(reader.path, filesystem)

    def _note_ending(self, reader: LogReader) -> None:
        ending = reader.ending
        assert ending is not None
        spoiled = ending.kind is EndKind.CORRUPT or (ending.kind is EndKind.TORN and reader.count > 0)
        if not spoiled and not reader.count:
            self._notice(reader.path, ending, "the log holds no transaction")
        if spoiled:
            if self._unexplained is not None:
                self._drop_or_refuse(self._unexplained)
            self._unexplained = reader

    def _explain(self, last_zxid: int, zxid: int, reader: LogReader) -> None:
        """An older log ended badly. If a newer one goes on right behind its last good record, nothing is missing."""
        damaged, self._unexplained = self._unexplained, None
        assert damaged is not None
        assert damaged.ending is not None
        if zxid == last_zxid + 1 and damaged is not reader:
            self._notice(damaged.path, damaged.ending, f"nothing is missing, {reader.path.name} goes on behind it")
        else:
            self._drop_or_refuse(damaged)

    def _drop_or_refuse(self, reader: LogReader) -> None:
        ending = reader.ending
        assert ending is not None
        if ending.kind is EndKind.CORRUPT:
            raise CorruptLogError(f"{ending.reason}; {ADVICE}", reader.path, ending.offset)
        self._notice(reader.path, ending, f"{ending.bytes_lost} bytes of a write that never finished are dropped")

    def _check_step(self, last_zxid: int, zxid: int, reader: LogReader) -> None:
        if _begins_epoch_after(last_zxid, zxid):
            return
        if self._unexplained is not None:
            self._drop_or_refuse(self._unexplained)
        previous = next((read.path for read in reversed(self._read[:-1]) if read.count), None)
        if reader.offset > len(HEADER) or previous is None:
            before = f"what came before ends at zxid {last_zxid:#x}"
        else:
            before = f"{previous} ends at zxid {last_zxid:#x}"
        if zxid < last_zxid:
            problem = f"zxids go back: {before}, here follows {zxid:#x}"
        else:
            problem = f"transactions are missing: {before}, here follows {zxid:#x}"
        raise LogGapError(f"{problem}; put the missing log back, or restore from a backup", reader.path, reader.offset)

    def _notice(self, path: Path, ending: Ending, consequence: str) -> None:
        notice = f"{path} at offset {ending.offset}: {ending.reason}; {consequence}"
        self.notices.append(notice)
        logger.warning("%s", notice)


def _begins_epoch_after(last_zxid: int, zxid: int) -> bool:
    """Whether ``zxid`` is the first of a later epoch, before which nothing need be missing."""
    return zxid >> _COUNTER_BITS > last_zxid >> _COUNTER_BITS and zxid & _COUNTER_MASK <= 1


def read_from(directory: Path, after_zxid: int, mark: LogMark | None = None) -> LogReplay:
    """All transactions with a zxid beyond ``after_zxid``; see :class:`LogReplay`."""
    return LogReplay(directory, after_zxid, mark)


def logs_from(directory: Path, after_zxid: int) -> list[LogFile]:
    """The logs that may hold transactions beyond ``after_zxid``: from the newest that begins no later than the next."""
    logs = list_logs(directory)
    start = max((log.zxid for log in logs if log.zxid <= after_zxid + 1), default=0)
    return [log for log in logs if log.zxid >= start]


@dataclass(frozen=True, slots=True)
class Truncation:
    """How to forget everything beyond a zxid: remove ``later`` (newest first), then cut ``log`` at ``offset``."""

    later: tuple[Path, ...]
    log: Path | None
    offset: int
    last_zxid: int | None
    """The last zxid that stays in the logs; None if none stays."""


def plan_truncation(directory: Path, zxid: int) -> Truncation:
    """What to cut so that no transaction beyond ``zxid`` stays in the logs.

    Raises :class:`~corral.storage.errors.StorageError` if there is no log, or none that reaches back to ``zxid``, and
    :class:`~corral.storage.errors.CorruptLogError` if the log is damaged before that point.
    """
    logs = list_logs(directory)
    if not logs:
        raise StorageError(f"no transaction log to truncate to zxid {zxid:#x}", directory)
    kept = [log for log in logs if log.zxid <= zxid]
    later = tuple(log.path for log in reversed(logs) if log.zxid > zxid)
    if not kept:
        if logs[0].zxid != zxid + 1 and not _begins_epoch_after(zxid, logs[0].zxid):
            raise StorageError(
                f"the logs begin at zxid {logs[0].zxid:#x}, they do not reach back to {zxid:#x}", directory
            )
        return Truncation(later, None, 0, None)
    reader = LogReader(kept[-1].path)
    last_zxid = None
    for record_zxid, _ in reader:
        if record_zxid > zxid:
            return Truncation(later, reader.path, reader.offset, last_zxid)
        last_zxid = record_zxid
    ending = reader.ending
    assert ending is not None
    if last_zxid != zxid and ending.kind is EndKind.CORRUPT:
        raise CorruptLogError(f"{ending.reason}, before zxid {zxid:#x}; {ADVICE}", reader.path, ending.offset)
    return Truncation(later, reader.path, ending.offset, last_zxid)


def truncate(directory: Path, zxid: int, filesystem: FileSystem = REAL) -> Truncation:
    """Remove every transaction beyond ``zxid`` from the logs (a leader's TRUNC); no writer may be at work.

    Whole logs go newest first, so that a crash in between leaves a shorter but unbroken history. Needs no free space;
    a call that fails raises :class:`~corral.storage.errors.DiskError`, and the logs may then still hold some of it.
    """
    plan = plan_truncation(directory, zxid)
    for path in plan.later:
        remove_log(path, filesystem)
    if plan.log is not None:
        if plan.offset > len(HEADER):
            cut_log(plan.log, plan.offset, filesystem)
        else:
            remove_log(plan.log, filesystem)
    return plan


def cut_log(path: Path, offset: int, filesystem: FileSystem) -> None:
    """Shorten a log to ``offset`` bytes, durably."""
    try:
        descriptor = filesystem.open(path)
        try:
            filesystem.truncate(descriptor, offset)
            filesystem.sync_data(descriptor)
        finally:
            filesystem.close(descriptor)
    except OSError as error:
        raise DiskError("cut the log", error, path, offset) from error


def sync_log(path: Path, filesystem: FileSystem) -> None:
    """Make all that can be read of a log durable."""
    try:
        descriptor = filesystem.open(path)
        try:
            filesystem.sync_data(descriptor)
        finally:
            filesystem.close(descriptor)
    except OSError as error:
        raise DiskError("sync the log", error, path) from error


def remove_log(path: Path, filesystem: FileSystem) -> None:
    """Delete a log, durably."""
    try:
        filesystem.unlink(path)
        filesystem.sync_directory(path.parent)
    except OSError as error:
        raise DiskError("remove the log", error, path) from error
