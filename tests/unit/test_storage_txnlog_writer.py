from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.faulty_disk import FailingFileSystem, disk_full, input_output_error
from tests.log_entries import VECTOR_ENTRY, VECTOR_RECORD, append, set_data, write_log

from corral.storage.errors import DiskError, StorageError
from corral.storage.files import list_logs
from corral.storage.txnlog import DEFAULT_PREALLOCATION_BYTES, LogReader, TxnLogWriter, read_from
from corral.storage.txnlog.format import HEADER, LARGEST_UNSYNCED_BYTES, padded_size
from corral.storage.txnlog.writer import ZERO_AHEAD_BYTES


def zxids_in(directory: Path) -> list[int]:
    return [zxid for zxid, _ in read_from(directory, 0)]


def test_bytes_are_apaches(tmp_path: Path) -> None:
    writer = TxnLogWriter(tmp_path)
    writer.append(0x100000001, VECTOR_ENTRY)
    batch = writer.take()
    assert batch is not None
    writer.write(batch)
    writer.close()
    content = (tmp_path / "log.100000001").read_bytes()
    assert len(content) == 16 + DEFAULT_PREALLOCATION_BYTES == 67108880
    assert content.startswith(bytes.fromhex("5a4b4c47 00000002 0000000000000000") + VECTOR_RECORD)
    assert not content[16 + len(VECTOR_RECORD) :].strip(b"\0")


def test_a_batch_tells_what_it_makes_durable(tmp_path: Path) -> None:
    writer = TxnLogWriter(tmp_path)
    assert writer.take() is None
    writer.append(7, set_data(7))
    writer.append(8, set_data(8))
    batch = writer.take()
    assert batch is not None
    assert (batch.count, batch.last_zxid) == (2, 8)
    assert batch.size_bytes == 2 * (len(set_data(7)) + 13)
    assert writer.size_bytes == 16 + batch.size_bytes
    assert writer.take() is None
    assert list(tmp_path.iterdir()) == []


def test_one_sync_covers_a_whole_batch(tmp_path: Path) -> None:
    filesystem = FailingFileSystem()
    writer = TxnLogWriter(tmp_path, filesystem=filesystem)
    append(writer, 1)
    assert (filesystem.calls["sync_data"], filesystem.calls["sync_directory"]) == (1, 1)
    for zxid in range(2, 500):
        writer.append(zxid, set_data(zxid))
    batch = writer.take()
    assert batch is not None
    writer.write(batch)
    assert (filesystem.calls["sync_data"], filesystem.calls["sync_directory"]) == (2, 1)
    assert filesystem.calls["pwrite"] == 2
    assert zxids_in(tmp_path) == list(range(1, 500))
    assert writer.last_sync_ms > 0


def test_a_huge_batch_is_synced_in_parts(tmp_path: Path) -> None:
    filesystem = FailingFileSystem()
    writer = TxnLogWriter(tmp_path, filesystem=filesystem)
    size = LARGEST_UNSYNCED_BYTES // 2 - 100
    for zxid in range(1, 6):
        writer.append(zxid, set_data(zxid, bytes(size)))
    batch = writer.take()
    assert batch is not None
    writer.write(batch)
    assert filesystem.calls["sync_data"] == 3
    assert zxids_in(tmp_path) == [1, 2, 3, 4, 5]


def test_force_sync_off_syncs_no_data(tmp_path: Path) -> None:
    filesystem = FailingFileSystem()
    append(TxnLogWriter(tmp_path, force_sync=False, filesystem=filesystem), 1)
    assert "sync_data" not in filesystem.calls


def test_roll_starts_a_file_named_by_its_first_record(tmp_path: Path) -> None:
    writer = TxnLogWriter(tmp_path, preallocation_bytes=0)
    writer.append(1, set_data(1))
    writer.roll()
    writer.roll()
    writer.append(2, set_data(2))
    writer.append(3, set_data(3))
    batch = writer.take()
    assert batch is not None
    writer.write(batch)
    append(writer, 4)
    writer.roll()
    assert writer.take() is None
    append(writer, 5)
    writer.close()
    assert [log.zxid for log in list_logs(tmp_path)] == [1, 2, 5]
    assert zxids_in(tmp_path) == [1, 2, 3, 4, 5]


def test_a_rolled_file_is_synced_before_the_next_exists(tmp_path: Path) -> None:
    filesystem = FailingFileSystem()
    writer = TxnLogWriter(tmp_path, filesystem=filesystem)
    append(writer, 1)
    writer.append(2, set_data(2))
    writer.roll()
    writer.append(3, set_data(3))
    batch = writer.take()
    assert batch is not None
    filesystem.fail("sync_data", input_output_error)
    with pytest.raises(DiskError):
        writer.write(batch)
    assert [log.zxid for log in list_logs(tmp_path)] == [1]


def test_the_size_limit_rolls_after_a_batch(tmp_path: Path) -> None:
    writer = TxnLogWriter(tmp_path, preallocation_bytes=0, size_limit_bytes=250)
    for zxid in range(1, 10):
        append(writer, zxid)
    writer.close()
    logs = list_logs(tmp_path)
    record = len(set_data(1)) + 13
    assert len(HEADER) + 4 * record > 250 >= len(HEADER) + 3 * record
    assert [log.zxid for log in logs] == [1, 5, 9]
    assert writer.size_bytes == len(HEADER) + record


def test_the_size_in_use_starts_again_with_each_log(tmp_path: Path) -> None:
    writer = TxnLogWriter(tmp_path)
    record = len(set_data(1)) + 13
    append(writer, 1)
    append(writer, 2)
    assert writer.size_bytes == len(HEADER) + 2 * record
    writer.roll()
    append(writer, 3)
    assert writer.size_bytes == len(HEADER) + record


@pytest.mark.parametrize(
    ("position", "size", "preallocation", "expected"),
    [
        (16, 16, 65536 * 1024, 67108880),
        (100, 67108880, 65536 * 1024, 67108880),
        (67108880 - 4097, 67108880, 65536 * 1024, 67108880),
        (67108880 - 4096, 67108880, 65536 * 1024, 67108880 + 67108864),
        (67108880, 67108880, 65536 * 1024, 67108880 + 67108864),
        (67108881, 67108880, 65536 * 1024, 134217728),
        (5000, 100, 1024, 5120),
        (5000, 100, 0, 100),
    ],
)
def test_padding_grows_as_apaches(position: int, size: int, preallocation: int, expected: int) -> None:
    assert padded_size(position, size, preallocation) == expected


@pytest.mark.parametrize("preallocation", [0, 1, 1000, 4096, 8192, 100_000, 10 * ZERO_AHEAD_BYTES])
def test_file_length_follows_the_padding_rule(tmp_path: Path, preallocation: int) -> None:
    writer = TxnLogWriter(tmp_path, preallocation_bytes=preallocation)
    position = size = 16
    for zxid, length in enumerate([0, 100, 3900, 5, 4100, 9000, 1, 50_000, 7, ZERO_AHEAD_BYTES, 3, 200_000, 11], 1):
        size = padded_size(position, size, preallocation)
        append(writer, zxid, b"x" * length)
        position += len(set_data(zxid, b"x" * length)) + 13
        assert (tmp_path / "log.1").stat().st_size == max(position, size)
    reader = LogReader(tmp_path / "log.1")
    assert [len(entry) for _, entry in reader][-1] == len(set_data(13, b"x" * 11))
    assert reader.ending is not None
    assert reader.ending.offset == position


@pytest.mark.parametrize("preallocation", [1000, 100_000, 500_000])
def test_zookeeper_2249_padding_overwrites_no_record_that_is_larger(tmp_path: Path, preallocation: int) -> None:
    writer = TxnLogWriter(tmp_path, preallocation_bytes=preallocation)
    # Zeros among them would be seen.
    data = [b"\xff" * size for size in (2 * preallocation, 0, 3 * preallocation, 5000, preallocation, 0)]
    for zxid, each in enumerate(data, 1):
        append(writer, zxid, each)
    assert list(read_from(tmp_path, 0)) == [(zxid, set_data(zxid, each)) for zxid, each in enumerate(data, 1)]


def test_short_writes_are_completed(tmp_path: Path) -> None:
    filesystem = FailingFileSystem()
    filesystem.largest_write = 7
    writer = TxnLogWriter(tmp_path, preallocation_bytes=100, filesystem=filesystem)
    append(writer, 1)
    append(writer, 2)
    assert list(read_from(tmp_path, 0)) == [(1, set_data(1)), (2, set_data(2))]


@pytest.mark.parametrize("space_bytes", range(0, 400, 7))
def test_a_full_disk_loses_nothing_acknowledged(tmp_path: Path, space_bytes: int) -> None:
    filesystem = FailingFileSystem()
    filesystem.space_bytes = space_bytes
    writer = TxnLogWriter(tmp_path, preallocation_bytes=0, filesystem=filesystem)
    acknowledged = max(space_bytes - len(HEADER), 0) // (len(set_data(1, b"x" * 20)) + 13)
    for zxid in range(1, acknowledged + 1):
        append(writer, zxid, b"x" * 20)
    with pytest.raises(DiskError, match=r"log\.1 at offset \d+: cannot append to the log: No space left on device"):
        append(writer, acknowledged + 1, b"x" * 20)
    writer.close()
    # The disk is still full when the server comes back: reading and mending need no space.
    replay = read_from(tmp_path, 0)
    assert [zxid for zxid, _ in replay] == list(range(1, acknowledged + 1))
    replay.mend(filesystem)
    with pytest.raises(DiskError):
        append(TxnLogWriter(tmp_path, preallocation_bytes=0, filesystem=filesystem), acknowledged + 1, b"x" * 400)
    again = read_from(tmp_path, 0)
    assert [zxid for zxid, _ in again] == list(range(1, acknowledged + 1))
    again.mend(filesystem)
    filesystem.space_bytes = None
    append(TxnLogWriter(tmp_path, preallocation_bytes=0, filesystem=filesystem), acknowledged + 1)
    assert zxids_in(tmp_path) == list(range(1, acknowledged + 2))


@pytest.mark.parametrize("call", ["create", "pwrite", "truncate", "sync_data", "sync_directory"])
def test_a_failure_ends_the_writer(tmp_path: Path, call: str) -> None:
    filesystem = FailingFileSystem()
    writer = TxnLogWriter(tmp_path, filesystem=filesystem)
    filesystem.fail(call, input_output_error)
    with pytest.raises(DiskError, match="Input/output error") as first:
        append(writer, 1)
    filesystem.failures.clear()
    with pytest.raises(DiskError) as second:
        append(writer, 2)
    assert second.value is first.value


def test_a_failed_sync_is_not_tried_again(tmp_path: Path) -> None:
    filesystem = FailingFileSystem()
    writer = TxnLogWriter(tmp_path, filesystem=filesystem)
    append(writer, 1)
    filesystem.fail("sync_data", input_output_error)
    with pytest.raises(DiskError, match=r"log\.1 at offset \d+: cannot sync the log: Input/output error") as failure:
        append(writer, 2)
    with pytest.raises(DiskError):
        append(writer, 3)
    assert filesystem.calls["sync_data"] == 2
    assert failure.value.path == tmp_path / "log.1"


def test_a_new_log_replaces_one_that_holds_nothing(tmp_path: Path) -> None:
    for content in (b"", HEADER[:7], HEADER, HEADER + bytes(1000), HEADER + b"\0\0\0\0\1"):
        (tmp_path / "log.1").write_bytes(content)
        append(TxnLogWriter(tmp_path), 1)
        assert list(read_from(tmp_path, 0)) == [(1, set_data(1))]


def test_a_new_log_never_replaces_one_that_holds_transactions(tmp_path: Path) -> None:
    write_log(tmp_path, range(1, 3))
    before = (tmp_path / "log.1").read_bytes()
    with pytest.raises(StorageError, match=r"log\.1: the new log's name is taken by a log that holds transactions"):
        append(TxnLogWriter(tmp_path), 1)
    assert (tmp_path / "log.1").read_bytes() == before


def test_a_full_disk_is_noticed_at_the_sync_too(tmp_path: Path) -> None:
    filesystem = FailingFileSystem()
    writer = TxnLogWriter(tmp_path, filesystem=filesystem)
    filesystem.fail("sync_data", disk_full)
    with pytest.raises(DiskError, match=os.strerror(28)):
        append(writer, 1)


def test_only_what_fits_is_written_without_a_sync(tmp_path: Path) -> None:
    filesystem = FailingFileSystem()
    writer = TxnLogWriter(tmp_path, preallocation_bytes=10 * LARGEST_UNSYNCED_BYTES, filesystem=filesystem)

    def written_unsynced(zxid: int, data: bytes) -> bool:
        writer.append(zxid, set_data(zxid, data))
        batch = writer.take()
        assert batch is not None
        descriptor = writer.write_unsynced(batch)
        if descriptor is None:
            writer.write(batch)
        return descriptor is not None

    assert not written_unsynced(1, b"the first needs a file")
    assert written_unsynced(2, b"x" * 1000)
    assert filesystem.calls["sync_data"] == 1
    assert not written_unsynced(3, b"x" * LARGEST_UNSYNCED_BYTES)
    writer.roll()
    assert not written_unsynced(4, b"rolled")
    assert written_unsynced(5, b"x")
    assert zxids_in(tmp_path) == [1, 2, 3, 4, 5]


def test_a_sync_that_failed_elsewhere_ends_the_writer(tmp_path: Path) -> None:
    writer = TxnLogWriter(tmp_path)
    append(writer, 1)
    error = writer.sync_failed(input_output_error())
    assert "log.1 at offset" in str(error)
    with pytest.raises(DiskError) as failure:
        append(writer, 2)
    assert failure.value is error
