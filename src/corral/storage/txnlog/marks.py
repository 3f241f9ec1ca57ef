"""Where in the logs some of the records begin: so that the end of a log can be read without all that comes before."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final, NamedTuple

SPACING_BYTES: Final = 256 << 10
"""From one mark to the next one in a log, at least."""

_COUNT_MAX: Final = 4096
"""A gigabyte of logs, and half a megabyte of memory; who reads further back begins at the start of a log."""


class LogMark(NamedTuple):
    """A record of ``zxid`` begins at ``offset`` of the log that is named by ``log_zxid``."""

    zxid: int
    log_zxid: int
    offset: int
    bytes_before: int
    """Size of all entries that the writer had taken before this one."""


class LogMarks:
    """Marks of what one writer has written, by zxid.

    They are hints: a log may have been cut since. Whoever goes by one makes sure that the record is there.
    """

    def __init__(self) -> None:
        self._marks: list[LogMark] = []

    def note(self, mark: LogMark) -> None:
        """A record begins there. It is kept if it is the first of its log, or far enough from the mark before."""
        marks = self._marks
        # What had these zxids before was cut off.
        del marks[bisect_left(marks, mark.zxid, key=_zxid) :]
        last = marks[-1] if marks else None
        if last is None or last.log_zxid != mark.log_zxid or mark.offset - last.offset >= SPACING_BYTES:
            marks.append(mark)
        if len(marks) > _COUNT_MAX:
            del marks[: _COUNT_MAX // 2]

    def before(self, zxid: int) -> LogMark | None:
        """The last mark at or before a zxid."""
        at = bisect_right(self._marks, zxid, key=_zxid)
        return self._marks[at - 1] if at else None

    def after(self, zxid: int) -> LogMark | None:
        """The first mark behind a zxid."""
        at = bisect_right(self._marks, zxid, key=_zxid)
        return self._marks[at] if at < len(self._marks) else None


def _zxid(mark: LogMark) -> int:
    return mark.zxid
