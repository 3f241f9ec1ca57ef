"""What of a member's history is on its disk: looked up there, not asked of its program."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from corral.jute.checksums import adler32
from corral.storage.files import (
    ACCEPTED_EPOCH,
    CURRENT_EPOCH,
    VERSION_DIRECTORY,
    LogFile,
    list_logs,
    list_snapshots,
    read_number,
)
from corral.storage.txnlog.format import FRAME, FRAME_AND_ZXID, HEADER, MARK

if TYPE_CHECKING:
    from corral.simulation.machine import Member

_LAST: Final = 1 << 63


class History:
    """The data directory of a member. What has been read of its newest log is not read again while that only grows."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._directory = member.data_directory / VERSION_DIRECTORY
        self._life = 0
        self._log: LogFile | None = None
        self._read_to = 0
        self._last_zxid = -1
        self._durable = -1
        self._unsure: deque[tuple[int, int]] = deque()
        """Of the records in that log that were not durable when they were read: end and zxid."""

    def __repr__(self) -> str:
        return f"<History on the disk of {self._member!r}: {self._durable:#x}>"

    def forget(self) -> None:
        """The log may have been cut."""
        self._log = None
        self._read_to = 0
        self._last_zxid = self._durable = -1
        self._unsure.clear()

    def has(self, zxid: int) -> bool:
        """Whether the log reaches so far, durably."""
        if self._life != self._member.life:
            self._life = self._member.life
            self.forget()
        if zxid > self._durable:
            self._look(zxid)
        return zxid <= self._durable

    def reaches(self, zxid: int) -> bool:
        """Whether the log or a snapshot does, durably."""
        return self.has(zxid) or any(
            each.zxid >= zxid and self._member.disk.is_durable(each.path) for each in list_snapshots(self._directory)
        )

    def last_logged(self) -> int:
        """The last zxid of the logs, durable or not; -1 if there is none."""
        self.forget()
        self._look(_LAST)
        return self._last_zxid

    def last_zxid(self) -> int:
        """Of all that can be read, durable or not."""
        return max(self.last_logged(), *(each.zxid for each in list_snapshots(self._directory)), 0)

    def last_durable(self) -> int:
        """Of what even a loss of power leaves."""
        self.last_logged()
        snapshots = [each.zxid for each in list_snapshots(self._directory) if self._member.disk.is_durable(each.path)]
        return max(self._durable, *snapshots, 0)

    def accepted_epoch(self) -> int:
        """As it is on the disk, durably; -1 if it is not."""
        return self._epoch(ACCEPTED_EPOCH)

    def current_epoch(self) -> int:
        """As it is on the disk, durably; -1 if it is not."""
        return self._epoch(CURRENT_EPOCH)

    def _epoch(self, name: str) -> int:
        path = self._directory / name
        number = read_number(path)
        return -1 if number is None or not self._member.disk.is_durable(path) else number

    def _look(self, zxid: int) -> None:
        """Read on, as far as it is needed to find a zxid."""
        if self._log is not None and self._read_on(self._log) >= zxid:
            return
        for each in list_logs(self._directory)[-2:]:
            if self._log is None or each > self._log:
                self._log, self._read_to = each, len(HEADER)
                self._unsure.clear()
                self._read_on(each)

    def _read_on(self, log: LogFile) -> int:
        """The zxid of the last record that is durable."""
        with log.path.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        position = 0
        while len(data) - position >= FRAME_AND_ZXID.size:
            stored, length, zxid = FRAME_AND_ZXID.unpack_from(data, position)
            end = position + FRAME.size + length
            if not length or data[end : end + 1] != MARK or adler32(data[position + FRAME.size : end]) != stored:
                break
            self._last_zxid = zxid
            position = end + len(MARK)
            self._unsure.append((self._read_to + position, zxid))
        self._read_to += position
        durable_bytes = self._member.disk.durable_bytes(log.path)
        while self._unsure and self._unsure[0][0] <= durable_bytes:
            self._durable = self._unsure.popleft()[1]
        return self._durable


def end_of_history(member: Member) -> int:
    """The last zxid of all that a member that runs has, committed or not."""
    assert member.peer is not None
    on_disk, recent = History(member).last_zxid(), member.peer.history.recent
    # A log that was damaged since it was read seems to end there; the member knows what it had.
    return max(on_disk, recent[-1][0]) if member.is_spoiled and recent else on_disk
