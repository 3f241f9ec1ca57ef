"""How logs are read back: whole, torn by a crash, and damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faulty_disk import FailingFileSystem, input_output_error
from tests.log_entries import append, set_data, write_log

from corral.storage.errors import CorruptLogError, DiskError, LogGapError, StorageError
from corral.storage.txnlog import EndKind, LogReader, TxnLogWriter, read_from
from corral.storage.txnlog.format import FRAME, HEADER, frame_entries


def record(zxid: int, data: bytes = b"value") -> bytes:
    return frame_entries([set_data(zxid, data)])


def put(path: Path, *pieces: bytes) -> Path:
    path.write_bytes(HEADER + b"".join(pieces))
    return path


def zxids_in(directory: Path, after_zxid: int = 0) -> list[int]:
    return [zxid for zxid, _ in read_from(directory, after_zxid)]


def kind_of(path: Path) -> EndKind:
    reader = LogReader(path)
    for _ in reader:
        pass
    assert reader.ending is not None
    return reader.ending.kind


def flip(path: Path, offset: int, mask: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= mask
    path.write_bytes(content)


def test_one_log_read_to_its_padding(tmp_path: Path) -> None:
    reader = LogReader(write_log(tmp_path, range(5, 9), preallocation_bytes=100_000))
    assert list(reader) == [(zxid, set_data(zxid)) for zxid in range(5, 9)]
    assert (reader.count, reader.first_zxid, reader.last_zxid) == (4, 5, 8)
    assert reader.ending is not None
    assert (reader.ending.kind, reader.ending.offset) == (EndKind.CLEAN, len(HEADER) + 4 * len(record(5)))


def test_records_larger_than_a_read(tmp_path: Path) -> None:
    entries = [set_data(zxid, bytes([zxid]) * size) for zxid, size in enumerate([3, 1 << 20, 5 << 20, 7, 1 << 20], 1)]
    path = put(tmp_path / "log.1", frame_entries(entries), bytes(5000))
    assert [entry for _, entry in LogReader(path)] == entries


def test_reading_starts_behind_a_zxid(tmp_path: Path) -> None:
    write_log(tmp_path, range(1, 6))
    write_log(tmp_path, range(6, 9))
    for after in range(8):
        assert zxids_in(tmp_path, after) == list(range(after + 1, 9))
    assert zxids_in(tmp_path, 8) == []
    assert zxids_in(tmp_path, 20) == []


def test_a_log_without_use_is_not_opened(tmp_path: Path) -> None:
    write_log(tmp_path, range(1, 6))
    (tmp_path / "log.1").write_bytes(b"nonsense")
    write_log(tmp_path, range(6, 9))
    assert zxids_in(tmp_path, 5) == [6, 7, 8]


def test_no_logs_hold_nothing(tmp_path: Path) -> None:
    assert zxids_in(tmp_path) == []


def test_foreign_files_are_passed_over(tmp_path: Path) -> None:
    write_log(tmp_path, range(1, 3))
    for name in ("log.1.fixed", "snapshot.0", "currentEpoch", "log.txt"):
        (tmp_path / name).write_bytes(b"anything")
    assert zxids_in(tmp_path) == [1, 2]


@pytest.mark.parametrize("padding", [0, 1, 60, 10_000])
def test_a_tail_torn_at_any_byte_is_dropped(tmp_path: Path, padding: int) -> None:
    last = record(3, b"the last\0one")
    for kept in range(len(last)):
        path = put(tmp_path / "log.1", record(1), record(2), last[:kept], bytes(len(last) - kept if padding else 0))
        with path.open("ab") as file:
            file.write(bytes(padding))
        replay = read_from(tmp_path, 0)
        assert [zxid for zxid, _ in replay] == [1, 2]
        torn = bool(last[:kept].strip(b"\0")) and last[kept:].strip(b"\0") != b""
        assert len(replay.notices) == torn
        if torn:
            assert str(path) in replay.notices[0]
            assert f"offset {len(HEADER) + 2 * len(record(1))}" in replay.notices[0]


@pytest.mark.parametrize("preallocation_bytes", [0, 10_000])
def test_a_mended_log_is_clean_and_new_logs_follow_it(tmp_path: Path, preallocation_bytes: int) -> None:
    path = write_log(tmp_path, range(1, 4), preallocation_bytes=preallocation_bytes)
    end_of_second = len(HEADER) + 2 * len(record(1))
    content = path.read_bytes()
    for kept in range(end_of_second + 5, end_of_second + len(record(3))):
        directory = tmp_path / str(kept)
        directory.mkdir()
        (directory / "log.1").write_bytes(content[:kept] + bytes(preallocation_bytes))
        replay = read_from(directory, 0)
        assert [zxid for zxid, _ in replay] == [1, 2]
        replay.mend()
        assert (directory / "log.1").read_bytes() == content[:end_of_second]
        append(TxnLogWriter(directory), 3, b"another")
        assert list(read_from(directory, 0))[2] == (3, set_data(3, b"another"))
        assert kind_of(directory / "log.1") is EndKind.CLEAN


@pytest.mark.parametrize("padding", [0, 5000])
def test_a_flipped_bit_anywhere_is_refused_naming_file_and_offset(tmp_path: Path, padding: int) -> None:
    records = [record(1), record(2, b"middle"), record(3, b"last"), bytes(padding)]
    whole = HEADER + b"".join(records)
    starts = [len(HEADER) + sum(map(len, records[:number])) for number in range(4)]
    path = tmp_path / "log.1"
    for offset in range(len(HEADER), starts[3]):
        for mask in (1, 0x80):
            path.write_bytes(whole)
            flip(path, offset, mask)
            start = max(start for start in starts[:3] if start <= offset)
            with pytest.raises(CorruptLogError) as refusal:
                zxids_in(tmp_path)
            assert (refusal.value.path, refusal.value.offset) == (path, start)
            assert f"{path} at offset {start}: " in str(refusal.value)
            assert "corral log repair" in str(refusal.value)


def test_a_flipped_bit_among_zeros_is_no_hole(tmp_path: Path) -> None:
    data = bytes(20_000)
    path = put(tmp_path / "log.1", record(1), record(2, data), record(3))
    flip(path, len(HEADER) + len(record(1)) + 10_000)
    with pytest.raises(CorruptLogError, match="checksum"):
        zxids_in(tmp_path)
    put(path, record(1), record(2, data))
    flip(path, len(HEADER) + len(record(1)) + 10_000)
    with pytest.raises(CorruptLogError, match="checksum"):
        zxids_in(tmp_path)


def test_flipped_padding_costs_nothing(tmp_path: Path) -> None:
    path = put(tmp_path / "log.1", record(1), bytes(20_000))
    flip(path, 15_000)
    # Zeros where the next record would begin and something behind: it cannot be told from the rest of a torn write.
    replay = read_from(tmp_path, 0)
    assert [zxid for zxid, _ in replay] == [1]
    assert len(replay.notices) == 1


def test_a_page_lost_from_the_last_write_is_dropped(tmp_path: Path) -> None:
    acknowledged = record(1)
    torn = [record(zxid, b"x" * 1000) for zxid in range(2, 20)]
    content = bytearray(HEADER + acknowledged + b"".join(torn))
    content[4096:8192] = bytes(4096)
    path = tmp_path / "log.1"
    path.write_bytes(content)
    replay = read_from(tmp_path, 0)
    kept = [zxid for zxid, _ in replay]
    assert kept == [1, 2, 3, 4]
    assert "a page was never written" in replay.notices[0]
    replay.mend()
    assert zxids_in(tmp_path) == kept


def test_a_page_lost_deep_inside_is_refused(tmp_path: Path) -> None:
    records = [record(zxid, b"x" * 100_000) for zxid in range(1, 40)]
    content = bytearray(HEADER + b"".join(records))
    content[4096:8192] = bytes(4096)
    (tmp_path / "log.1").write_bytes(content)
    with pytest.raises(CorruptLogError):
        zxids_in(tmp_path)


def test_a_sector_lost_from_the_last_record_is_dropped(tmp_path: Path) -> None:
    content = bytearray(HEADER + record(1) + record(2, b"x" * 3000))
    content[1024:1536] = bytes(512)
    (tmp_path / "log.1").write_bytes(content)
    replay = read_from(tmp_path, 0)
    assert [zxid for zxid, _ in replay] == [1]
    assert "a block of the last record was never written" in replay.notices[0]


def test_overwritten_bytes_in_the_last_record_are_refused(tmp_path: Path) -> None:
    content = bytearray(HEADER + record(1) + record(2, b"x" * 3000))
    content[1024:1536] = bytes(range(256)) * 2
    (tmp_path / "log.1").write_bytes(content)
    with pytest.raises(CorruptLogError, match="checksum"):
        zxids_in(tmp_path)


@pytest.mark.parametrize("length", [-1, -(2**31), 2**31 - 1, 1, 31])
def test_an_unreasonable_length_before_good_records_is_refused(tmp_path: Path, length: int) -> None:
    bad = FRAME.pack(1, length & 0xFFFFFFFF) + set_data(2) + b"B"
    put(tmp_path / "log.1", record(1), bad, record(3))
    with pytest.raises(CorruptLogError, match=f"unreasonable record length {length};"):
        zxids_in(tmp_path)


def test_a_negative_length_at_the_end_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "log.1", record(1), FRAME.pack(1, 0xFFFFFFFF) + b"x" * 50)
    with pytest.raises(CorruptLogError, match="unreasonable record length -1;"):
        zxids_in(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        HEADER[:1],
        HEADER[:4],
        HEADER[:15],
        HEADER,
        HEADER + bytes(100),
        bytes(16),
        bytes(100_000),
        HEADER + b"\0" * 7 + b"\1",
    ],
)
def test_zookeeper_1621_2332_a_newest_log_without_records_is_skipped_and_removed(
    tmp_path: Path, content: bytes
) -> None:
    write_log(tmp_path, range(1, 4))
    path = tmp_path / "log.4"
    path.write_bytes(content)
    replay = read_from(tmp_path, 0)
    assert [zxid for zxid, _ in replay] == [1, 2, 3]
    assert any(str(path) in notice for notice in replay.notices)
    replay.mend()
    assert not path.exists()
    append(TxnLogWriter(tmp_path), 4)
    assert zxids_in(tmp_path) == [1, 2, 3, 4]


def test_empty_logs_behind_a_torn_one_are_all_mended(tmp_path: Path) -> None:
    path = put(tmp_path / "log.1", record(1), record(2)[:40])
    (tmp_path / "log.2").write_bytes(b"")
    (tmp_path / "log.3").write_bytes(HEADER[:9])
    replay = read_from(tmp_path, 0)
    assert [zxid for zxid, _ in replay] == [1]
    replay.mend()
    assert [path.name for path in tmp_path.iterdir()] == ["log.1"]
    assert path.read_bytes() == HEADER + record(1)


def test_a_newest_log_that_is_no_log_is_refused(tmp_path: Path) -> None:
    write_log(tmp_path, range(1, 4))
    path = tmp_path / "log.4"
    for content in (b"ZKLG"[::-1] + HEADER[4:] + record(4), b"not a log", b"ZK", b"\x7fELF" + bytes(5000)):
        path.write_bytes(content)
        if content == b"ZK":
            assert zxids_in(tmp_path) == [1, 2, 3]
            continue
        with pytest.raises(CorruptLogError, match=r"log\.4 at offset 0: not a transaction log"):
            zxids_in(tmp_path)


def test_an_older_log_with_a_torn_end_is_followed_by_the_next(tmp_path: Path) -> None:
    put(tmp_path / "log.1", record(1), record(2), record(3)[:50], bytes(5000))
    write_log(tmp_path, range(3, 6))
    replay = read_from(tmp_path, 0)
    assert [zxid for zxid, _ in replay] == [1, 2, 3, 4, 5]
    assert "nothing is missing, log.3 goes on behind it" in replay.notices[0]
    replay.mend()
    assert (tmp_path / "log.1").stat().st_size > 5000


def test_an_older_log_with_a_damaged_record_that_is_missing_is_refused(tmp_path: Path) -> None:
    path = write_log(tmp_path, range(1, 4))
    flip(path, len(HEADER) + 2 * len(record(1)) + 40)
    write_log(tmp_path, range(4, 6))
    with pytest.raises(CorruptLogError, match=r"log\.1 at offset 150: checksum"):
        zxids_in(tmp_path)


def test_an_older_log_cut_short_leaves_a_gap(tmp_path: Path) -> None:
    put(tmp_path / "log.1", record(1), record(2), record(3)[:50])
    second = write_log(tmp_path, range(4, 6))
    with pytest.raises(LogGapError) as gap:
        zxids_in(tmp_path)
    assert str(gap.value).startswith(
        f"{second} at offset 16: transactions are missing: {tmp_path / 'log.1'} ends at zxid 0x2, here follows 0x4"
    )


def test_a_missing_log_is_noticed(tmp_path: Path) -> None:
    write_log(tmp_path, range(1, 4))
    write_log(tmp_path, range(7, 9))
    with pytest.raises(LogGapError, match=r"log\.1 ends at zxid 0x3, here follows 0x7"):
        zxids_in(tmp_path)
    (tmp_path / "log.1").unlink()
    with pytest.raises(LogGapError, match=r"what came before ends at zxid 0x5, here follows 0x7"):
        zxids_in(tmp_path, 5)
    assert zxids_in(tmp_path, 6) == [7, 8]


def test_a_gap_within_a_log_is_noticed(tmp_path: Path) -> None:
    put(tmp_path / "log.1", record(1), record(3))
    with pytest.raises(LogGapError, match=r"log\.1 at offset 83: .* ends at zxid 0x1, here follows 0x3"):
        zxids_in(tmp_path)


def test_zxids_that_go_back_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "log.1", record(1), record(2), record(3), record(2))
    with pytest.raises(LogGapError, match="zxids go back"):
        zxids_in(tmp_path)


def test_a_repeated_zxid_is_legal(tmp_path: Path) -> None:
    put(tmp_path / "log.1", record(1), record(2), record(2, b"again"), record(3))
    assert zxids_in(tmp_path) == [1, 2, 2, 3]
    assert zxids_in(tmp_path, 2) == [3]


def test_a_new_epoch_begins_with_its_first_transaction(tmp_path: Path) -> None:
    put(tmp_path / "log.1", record(1), record(2))
    put(tmp_path / "log.100000001", record(0x100000001), record(0x300000001))
    assert zxids_in(tmp_path) == [1, 2, 0x100000001, 0x300000001]
    put(tmp_path / "log.400000002", record(0x400000002))
    with pytest.raises(LogGapError, match=r"log\.100000001 ends at zxid 0x300000001, here follows 0x400000002"):
        zxids_in(tmp_path)


def test_the_counter_may_run_over(tmp_path: Path) -> None:
    put(tmp_path / "log.ffffffff", record(0xFFFFFFFF), record(0x100000000), record(0x100000001))
    assert zxids_in(tmp_path, 0xFFFFFFFE) == [0xFFFFFFFF, 0x100000000, 0x100000001]


def test_a_torn_record_before_a_new_epoch_is_dropped_and_a_damaged_one_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "log.1", record(1), record(2)[:50], bytes(100))
    put(tmp_path / "log.100000001", record(0x100000001))
    assert zxids_in(tmp_path) == [1, 0x100000001]
    put(path, record(1), record(2))
    flip(path, len(HEADER) + len(record(1)) + 50)
    with pytest.raises(CorruptLogError, match=r"log\.1 at offset 83"):
        zxids_in(tmp_path)


def test_a_good_record_is_not_lost_with_its_mark(tmp_path: Path) -> None:
    path = put(tmp_path / "log.1", record(1), record(2), bytes(1000))
    flip(path, len(HEADER) + 2 * len(record(1)) - 1, 0xFF)
    with pytest.raises(CorruptLogError, match="ends with byte 0xbd instead of 0x42"):
        zxids_in(tmp_path)


def test_a_record_stored_in_a_value_is_not_taken_for_one(tmp_path: Path) -> None:
    # Whoever stores an old record in a znode must not be able to make a torn log look damaged.
    put(tmp_path / "log.5", record(5), record(6, record(3) * 3 + b"x" * 100)[:-20])
    assert zxids_in(tmp_path, 4) == [5]


def test_mending_that_fails_is_told(tmp_path: Path) -> None:
    put(tmp_path / "log.1", record(1), record(2)[:50])
    for call in ("open", "truncate", "sync_data"):
        filesystem = FailingFileSystem()
        filesystem.fail(call, input_output_error)
        replay = read_from(tmp_path, 0)
        assert [zxid for zxid, _ in replay] == [1]
        with pytest.raises(DiskError, match=r"log\.1 at offset 83: cannot cut the log: Input/output error"):
            replay.mend(filesystem)


def test_a_log_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "log.1").mkdir()
    with pytest.raises(StorageError, match=r"log\.1.*: cannot read the log: Is a directory"):
        zxids_in(tmp_path)
