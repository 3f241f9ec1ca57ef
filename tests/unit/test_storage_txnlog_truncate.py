from __future__ import annotations

from pathlib import Path

import pytest
from tests.faulty_disk import FailingFileSystem, disk_full
from tests.log_entries import append, set_data, write_log

from corral.storage.errors import CorruptLogError, DiskError, StorageError
from corral.storage.txnlog import TxnLogWriter, read_from, truncate
from corral.storage.txnlog.format import HEADER

RECORD_SIZE = len(set_data(1)) + 13


def three_logs(directory: Path, preallocation_bytes: int = 0) -> None:
    for zxids in (range(1, 5), range(5, 9), range(9, 13)):
        write_log(directory, zxids, preallocation_bytes=preallocation_bytes)


def zxids_in(directory: Path) -> list[int]:
    return [zxid for zxid, _ in read_from(directory, 0)]


@pytest.mark.parametrize("zxid", range(13))
@pytest.mark.parametrize("preallocation_bytes", [0, 10_000])
def test_zookeeper_1156_what_lies_beyond_is_gone_and_the_rest_stays(
    tmp_path: Path, zxid: int, preallocation_bytes: int
) -> None:
    three_logs(tmp_path, preallocation_bytes)
    plan = truncate(tmp_path, zxid)
    assert plan.last_zxid == (zxid or None)
    assert zxids_in(tmp_path) == list(range(1, zxid + 1))
    append(TxnLogWriter(tmp_path), zxid + 1, b"new")
    assert list(read_from(tmp_path, zxid)) == [(zxid + 1, set_data(zxid + 1, b"new"))]
    assert zxids_in(tmp_path) == list(range(1, zxid + 2))


def test_the_file_is_cut_behind_the_record(tmp_path: Path) -> None:
    three_logs(tmp_path, 10_000)
    truncate(tmp_path, 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.1", "log.5"]
    assert (tmp_path / "log.5").stat().st_size == len(HEADER) + 2 * RECORD_SIZE


def test_a_zxid_beyond_the_logs_is_told(tmp_path: Path) -> None:
    three_logs(tmp_path)
    assert truncate(tmp_path, 20).last_zxid == 12
    assert zxids_in(tmp_path) == list(range(1, 13))


def test_all_logs_go_if_they_begin_right_behind(tmp_path: Path) -> None:
    write_log(tmp_path, range(5, 9))
    write_log(tmp_path, range(9, 13))
    truncate(tmp_path, 4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("zxid", [0, 4, 1 << 32 | 7])
def test_all_logs_go_if_they_begin_with_a_later_epoch(tmp_path: Path, zxid: int) -> None:
    """What was there before may be in a snapshot alone, or be nothing."""
    write_log(tmp_path, range(2 << 32 | 1, 2 << 32 | 4))
    truncate(tmp_path, zxid)
    assert list(tmp_path.iterdir()) == []


def test_logs_that_begin_in_the_middle_of_a_later_epoch_are_left_alone(tmp_path: Path) -> None:
    write_log(tmp_path, range(2 << 32 | 2, 2 << 32 | 4))
    with pytest.raises(StorageError, match="the logs begin at zxid 0x200000002, they do not reach back to 0x4"):
        truncate(tmp_path, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["log.200000002"]


def test_logs_that_do_not_reach_back_are_left_alone(tmp_path: Path) -> None:
    write_log(tmp_path, range(5, 9))
    with pytest.raises(StorageError, match="the logs begin at zxid 0x5, they do not reach back to 0x3"):
        truncate(tmp_path, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["log.5"]


def test_no_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no transaction log to truncate to zxid 0x3"):
        truncate(tmp_path, 3)


def test_damage_before_the_point_changes_nothing(tmp_path: Path) -> None:
    three_logs(tmp_path)
    content = bytearray((tmp_path / "log.5").read_bytes())
    content[len(HEADER) + 30] ^= 1
    (tmp_path / "log.5").write_bytes(content)
    with pytest.raises(CorruptLogError, match=r"log\.5 at offset 16: .* before zxid 0x7"):
        truncate(tmp_path, 7)
    assert (tmp_path / "log.9").exists()


def test_damage_beyond_the_point_goes_with_the_rest(tmp_path: Path) -> None:
    three_logs(tmp_path)
    for name, offset in (("log.5", len(HEADER) + 2 * RECORD_SIZE + 30), ("log.9", 3)):
        content = bytearray((tmp_path / name).read_bytes())
        content[offset] ^= 1
        (tmp_path / name).write_bytes(content)
    truncate(tmp_path, 6)
    assert zxids_in(tmp_path) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("call", ["unlink", "open", "truncate", "sync_data", "sync_directory"])
def test_a_failure_is_told_and_what_is_left_can_be_read(tmp_path: Path, call: str) -> None:
    three_logs(tmp_path)
    filesystem = FailingFileSystem()
    filesystem.fail(call, disk_full)
    with pytest.raises(DiskError, match="No space left on device"):
        truncate(tmp_path, 3, filesystem)
    left = zxids_in(tmp_path)
    assert left == list(range(1, len(left) + 1))
    assert left[:3] == [1, 2, 3]
    truncate(tmp_path, 3)
    assert zxids_in(tmp_path) == [1, 2, 3]


def test_a_full_disk_is_no_hindrance(tmp_path: Path) -> None:
    three_logs(tmp_path)
    filesystem = FailingFileSystem()
    filesystem.space_bytes = 0
    truncate(tmp_path, 6, filesystem)
    assert zxids_in(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_later_logs_go_newest_first(tmp_path: Path) -> None:
    three_logs(tmp_path)
    filesystem = FailingFileSystem()
    filesystem.fail("unlink", disk_full, after=1)
    with pytest.raises(DiskError):
        truncate(tmp_path, 2, filesystem)
    assert zxids_in(tmp_path) == list(range(1, 9))
