from __future__ import annotations

from pathlib import Path

import pytest
from tests.faulty_disk import FailingFileSystem, disk_full, input_output_error

from corral.storage.errors import DirectoryLayoutError, DiskError, StorageError
from corral.storage.files import (
    check_layout,
    list_logs,
    list_lookalikes,
    list_snapshots,
    log_name,
    parse_log,
    parse_snapshot,
    read_number,
    snapshot_name,
    write_number,
)
from corral.storage.filesystem import replace_file


def touch(directory: Path, *names: str) -> None:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).touch()


@pytest.mark.parametrize("zxid", [0, 1, 0xAB, 0x100000001, (1 << 63) - 1])
def test_names_read_back(zxid: int) -> None:
    log = parse_log(Path(log_name(zxid)))
    assert log is not None
    assert log.zxid == zxid
    for compression in ("", "gz", "snappy"):
        snapshot = parse_snapshot(Path(snapshot_name(zxid, compression)))
        assert snapshot is not None
        assert (snapshot.zxid, snapshot.compression) == (zxid, compression)


def test_names_are_apaches() -> None:
    assert log_name(0x100000001) == "log.100000001"
    assert snapshot_name(0xFF, "gz") == "snapshot.ff.gz"


@pytest.mark.parametrize("name", ["log", "log.", "log.x", "log.5.fixed", "log.0x5", "log.8000000000000000", "log.5\n"])
def test_other_names_are_no_logs(name: str) -> None:
    assert parse_log(Path(name)) is None


@pytest.mark.parametrize("name", ["snapshot", "snapshot.", "snapshot.5.tmp", "snapshot.5.gz.tmp", "snapshot.5.zst"])
def test_other_names_are_no_snapshots(name: str) -> None:
    assert parse_snapshot(Path(name)) is None


def test_listings_are_in_order_of_zxid(tmp_path: Path) -> None:
    touch(tmp_path, "log.10", "log.9", "log.a", "snapshot.f.gz", "snapshot.2", "currentEpoch", "log.9.fixed")
    assert [log.zxid for log in list_logs(tmp_path)] == [0x9, 0xA, 0x10]
    assert [snapshot.zxid for snapshot in list_snapshots(tmp_path)] == [2, 0xF]


def test_no_directory_has_no_files(tmp_path: Path) -> None:
    assert list_logs(tmp_path / "none") == []


def test_lookalikes_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "log.5", "log.5.fixed", "snapshot.zz", "snapshot.6.tmp", "myid")
    assert [path.name for path in list_lookalikes(tmp_path)] == ["log.5.fixed", "snapshot.zz"]


def test_one_directory_may_hold_both(tmp_path: Path) -> None:
    touch(tmp_path, "log.1", "snapshot.0")
    check_layout(tmp_path, tmp_path / ".." / tmp_path.name)


def test_snapshots_among_logs_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "snapshots")
    touch(tmp_path / "logs", "log.1", "snapshot.0")
    with pytest.raises(DirectoryLayoutError, match=r"logs/snapshot\.0: a snapshot in the log directory"):
        check_layout(tmp_path / "snapshots", tmp_path / "logs")


def test_logs_among_snapshots_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "snapshots", "snapshot.0", "log.1")
    touch(tmp_path / "logs")
    with pytest.raises(DirectoryLayoutError, match=r"snapshots/log\.1: a transaction log in the snapshot directory"):
        check_layout(tmp_path / "snapshots", tmp_path / "logs")


def test_numbers_read_back(tmp_path: Path) -> None:
    path = tmp_path / "currentEpoch"
    assert read_number(path) is None
    write_number(path, 17)
    assert path.read_bytes() == b"17"
    assert read_number(path) == 17
    path.write_text(" 18 \n")
    assert read_number(path) == 18


def test_no_number_is_told(tmp_path: Path) -> None:
    path = tmp_path / "myid"
    path.write_text("one")
    with pytest.raises(StorageError, match="myid: a decimal number was expected, not 'one'"):
        read_number(path)


@pytest.mark.parametrize("call", ["create", "pwrite", "sync_data", "rename"])
def test_a_failed_replacement_leaves_the_old_content(tmp_path: Path, call: str) -> None:
    path = tmp_path / "currentEpoch"
    write_number(path, 1)
    filesystem = FailingFileSystem()
    filesystem.fail(call, disk_full)
    with pytest.raises(DiskError, match="currentEpoch: cannot replace the file: No space left on device"):
        write_number(path, 2, filesystem)
    assert read_number(path) == 1
    write_number(path, 2)
    assert read_number(path) == 2


def test_a_replacement_is_whole_when_writes_are_short(tmp_path: Path) -> None:
    filesystem = FailingFileSystem()
    filesystem.largest_write = 3
    replace_file(tmp_path / "file", b"0123456789", filesystem)
    assert (tmp_path / "file").read_bytes() == b"0123456789"
    assert filesystem.calls["pwrite"] == 4


def test_a_replacement_syncs_file_and_directory(tmp_path: Path) -> None:
    filesystem = FailingFileSystem()
    filesystem.fail("sync_directory", input_output_error)
    with pytest.raises(DiskError, match="Input/output error"):
        replace_file(tmp_path / "file", b"x", filesystem)
    assert filesystem.calls["sync_data"] == 1
