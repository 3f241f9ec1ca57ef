"""Reading the end of a log without what comes before."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.log_entries import append, set_data

from corral.storage.errors import CorruptLogError
from corral.storage.txnlog import TxnLogWriter, read_from, truncate
from corral.storage.txnlog.format import HEADER
from corral.storage.txnlog.marks import SPACING_BYTES, LogMark, LogMarks

LARGE = SPACING_BYTES // 4


def write(writer: TxnLogWriter, *zxids: int) -> None:
    for zxid in zxids:
        append(writer, zxid, bytes([zxid]) * LARGE)


def zxids(directory: Path, after_zxid: int, mark: LogMark | None) -> list[int]:
    return [zxid for zxid, _ in read_from(directory, after_zxid, mark)]


def test_marks_stand_apart() -> None:
    marks = LogMarks()
    assert marks.before(5) is marks.after(5) is None
    first, near, far = (LogMark(zxid, 1, offset, 0) for zxid, offset in [(1, 16), (4, 500), (9, 16 + SPACING_BYTES)])
    other = LogMark(12, 12, 16, 0)
    for mark in (first, near, far, other):
        marks.note(mark)
    assert marks.before(0) is None
    assert marks.before(8) == first
    assert marks.before(9) == marks.before(11) == far
    assert marks.before(99) == other
    assert marks.after(0) == first
    assert marks.after(1) == marks.after(8) == far
    assert marks.after(12) is None


def test_what_is_written_anew_replaces_what_was_cut_off() -> None:
    marks = LogMarks()
    for number in range(10):
        marks.note(LogMark(number * 10, 0, number * SPACING_BYTES, 0))
    anew = LogMark(51, 51, 16, 0)
    marks.note(anew)
    assert marks.before(99) == anew
    assert marks.after(51) is None
    assert marks.before(50) == LogMark(50, 0, 5 * SPACING_BYTES, 0)


def test_old_marks_go() -> None:
    marks = LogMarks()
    for number in range(100_000):
        marks.note(LogMark(number, number, 16, 0))
    assert marks.before(99_000) == LogMark(99_000, 99_000, 16, 0)
    assert marks.before(90_000) is None


def test_a_writer_marks_where_its_records_begin(tmp_path: Path) -> None:
    writer = TxnLogWriter(tmp_path)
    write(writer, *range(1, 10))
    writer.roll()
    write(writer, 10, 11)
    mark = writer.marks.before(8)
    assert mark is not None
    assert (mark.zxid, mark.log_zxid) == (5, 1)
    assert mark.bytes_before == 4 * len(set_data(1, bytes(LARGE)))
    assert zxids(tmp_path, 5, mark) == [6, 7, 8, 9, 10, 11]
    assert zxids(tmp_path, 4, mark) == [5, 6, 7, 8, 9, 10, 11]
    assert zxids(tmp_path, 11, writer.marks.before(12)) == []
    newer = writer.marks.before(11)
    assert newer == LogMark(10, 10, len(HEADER), 9 * len(set_data(1, bytes(LARGE))))


def test_what_stands_before_the_mark_is_not_read(tmp_path: Path) -> None:
    writer = TxnLogWriter(tmp_path)
    write(writer, *range(1, 10))
    path = tmp_path / "log.1"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptLogError):
        zxids(tmp_path, 8, None)
    assert zxids(tmp_path, 8, writer.marks.before(9)) == [9]


@pytest.mark.parametrize("after", [4, 6, 8])
def test_a_mark_behind_what_is_wanted_or_cut_off_is_no_harm(tmp_path: Path, after: int) -> None:
    writer = TxnLogWriter(tmp_path)
    write(writer, *range(1, 10))
    last = writer.marks.before(9)
    assert last is not None
    assert zxids(tmp_path, 2, last) == [3, 4, 5, 6, 7, 8, 9]
    writer.close()
    truncate(tmp_path, after)
    assert zxids(tmp_path, after - 1, writer.marks.before(after)) == [after]
    assert zxids(tmp_path, after, last) == []
    writer.give_up()
    write(writer, after + 1)
    assert zxids(tmp_path, after - 1, last) == [after, after + 1]
    assert zxids(tmp_path, after - 1, writer.marks.before(after)) == [after, after + 1]
