"""Snapshot files: three ways to write one, whole or not at all."""

from __future__ import annotations

import gzip
from contextlib import suppress
from pathlib import Path
from random import Random
from zlib import adler32

import pytest
from tests.faulty_disk import ForgetfulFileSystem, PowerCutError
from tests.trees import EXTENDED, Grower, facts, snapshot_of, varied_tree

from corral.storage import snapshot_file
from corral.storage.errors import DiskError
from corral.storage.files import SnapshotFile, list_snapshots
from corral.storage.filesystem import FileSystem
from corral.storage.snapshot import SnapshotEncoder, SnapshotError
from corral.storage.snapshot_file import SnapshotWriter, load_snapshot, read_snapshot_bytes, write_snapshot
from corral.tree.datatree import DataTree

TREE = varied_tree()


def encoder(tree: DataTree = TREE) -> SnapshotEncoder:
    return SnapshotEncoder(tree, digests=True, last_zxid_section=True)


@pytest.mark.parametrize(("compression", "suffix"), [("", ""), ("gz", ".gz"), ("snappy", ".snappy")])
def test_written_and_read(tmp_path: Path, compression: str, suffix: str) -> None:
    path = write_snapshot(tmp_path, encoder(), compression)
    assert path.name == f"snapshot.{TREE.last_zxid:x}{suffix}"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    snapshot = SnapshotFile(TREE.last_zxid, path, compression)
    assert read_snapshot_bytes(snapshot) == snapshot_of(encoder())
    loaded = load_snapshot(snapshot, EXTENDED, digests=True)
    assert facts(loaded) == facts(TREE)
    assert loaded.digest == TREE.digest


def test_plain_and_gzip_are_what_others_read(tmp_path: Path) -> None:
    content = snapshot_of(encoder())
    assert write_snapshot(tmp_path, encoder()).read_bytes() == content
    assert gzip.decompress(write_snapshot(tmp_path, encoder(), "gz").read_bytes()) == content


def test_snappy_is_framed_as_xerial_does_it(tmp_path: Path) -> None:
    """A header of 16 bytes, then blocks that hold at most 32 KiB each, with their compressed length in front."""
    cramjam = pytest.importorskip("cramjam")
    tree = DataTree()
    content = bytes(range(256)) * 300
    writer = SnapshotWriter(tmp_path, 1, "snappy")
    for start in range(0, len(content), 10_000):
        writer.write(content[start : start + 10_000])
    raw = writer.finish(encoder(tree).sections()).read_bytes()
    assert raw[:16] == b"\x82SNAPPY\0" + b"\0\0\0\1" + b"\0\0\0\1"
    at, blocks = 16, []
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 4], "big")
        blocks.append(bytes(cramjam.snappy.decompress_raw(raw[at + 4 : at + 4 + length])))
        at += 4 + length
    assert at == len(raw)
    assert {len(block) for block in blocks[:-1]} == {32 * 1024}
    assert b"".join(blocks).startswith(content)


def test_seals_are_over_everything_before_them(tmp_path: Path) -> None:
    content = write_snapshot(tmp_path, encoder()).read_bytes()
    for end in (len(content), len(content) - 21, len(content) - 21 - 33):
        assert content[end - 5 : end] == b"\0\0\0\1/"
        assert int.from_bytes(content[end - 13 : end - 5], "big") == adler32(content[: end - 13])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="cannot read the snapshot"):
        read_snapshot_bytes(SnapshotFile(1, tmp_path / "snapshot.1", ""))


@pytest.mark.parametrize("compression", ["gz", "snappy"])
@pytest.mark.parametrize("content", [b"", b"no snapshot", b"\x1f\x8b", b"\x82SNAPPY\0", b"\x82SNAPPY\0" + bytes(9)])
def test_what_is_not_compressed_so(tmp_path: Path, compression: str, content: bytes) -> None:
    path = tmp_path / f"snapshot.1.{compression}"
    path.write_bytes(content)
    with pytest.raises(SnapshotError) as caught:
        load_snapshot(SnapshotFile(1, path, compression), EXTENDED, digests=True)
    assert caught.value.path == path


def test_a_snappy_block_that_claims_to_be_huge(tmp_path: Path) -> None:
    """Its first bytes say how long it will be; nobody may be made to believe four gigabytes."""
    pytest.importorskip("cramjam")
    path = tmp_path / "snapshot.1.snappy"
    path.write_bytes(b"\x82SNAPPY\0\0\0\0\1\0\0\0\1" + b"\0\0\0\7" + b"\xff\xff\xff\xff\x0f" + b"\0a")
    with pytest.raises(SnapshotError):
        load_snapshot(SnapshotFile(1, path, "snappy"), EXTENDED, digests=True)


class FullDisk(FileSystem):
    """Fails in one of the calls that a snapshot needs."""

    def __init__(self, failing: str) -> None:
        self.failing = failing

    def _fail(self, call: str) -> None:
        if call == self.failing:
            raise OSError(28, "No space left on device")

    def create(self, path: Path) -> int:
        self._fail("create")
        return super().create(path)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        if offset > 0:
            self._fail("pwrite")
        return super().pwrite(descriptor, data, offset)

    def sync_data(self, descriptor: int) -> None:
        self._fail("sync_data")

    def rename(self, source: Path, target: Path) -> None:
        self._fail("rename")
        super().rename(source, target)


@pytest.mark.parametrize("call", ["create", "pwrite", "sync_data", "rename"])
@pytest.mark.parametrize("compression", ["", "gz"])
def test_zookeeper_2872_half_a_snapshot_is_never_seen(tmp_path: Path, call: str, compression: str) -> None:
    big = DataTree()
    big.nodes[b"/zookeeper"].body = (3_000_000).to_bytes(4, "big") + bytes(3_000_000) + bytes(68)
    with pytest.raises(DiskError, match="No space left") as caught:
        write_snapshot(tmp_path, encoder(big), compression, FullDisk(call))
    assert caught.value.path.parent == tmp_path
    assert list(tmp_path.iterdir()) == []
    assert write_snapshot(tmp_path, encoder(big), compression).exists()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("syncs", [0, 1, 2, None])
def test_zookeeper_2872_a_power_cut_leaves_no_half_of_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, syncs: int | None
) -> None:
    """Whatever was synced until then; and a snapshot that is said to be written outlives it."""
    monkeypatch.setattr(snapshot_file, "SYNC_EVERY_BYTES", 10_000)
    disk = ForgetfulFileSystem(tmp_path, Random(seed))
    grower = Grower(varied_tree())
    write_snapshot(tmp_path, encoder(grower.tree), filesystem=disk)
    both = [facts(grower.tree)]
    grower.create(b"/large", b"x" * 30_000)
    both.append(facts(grower.tree))
    disk.syncs_left = syncs
    is_written = False
    with suppress(PowerCutError):
        write_snapshot(tmp_path, encoder(grower.tree), filesystem=disk)
        is_written = True
    disk.power_cut()
    left = [facts(load_snapshot(each, EXTENDED, digests=True)) for each in list_snapshots(tmp_path)]
    assert left == both if is_written else left in (both[:1], both)


def test_leftovers_of_an_interrupted_snapshot_are_replaced(tmp_path: Path) -> None:
    leftover = tmp_path / f"snapshot.{TREE.last_zxid:x}.tmp"
    leftover.write_bytes(b"x" * 100_000)
    path = write_snapshot(tmp_path, encoder())
    assert path.read_bytes() == snapshot_of(encoder())
    assert not leftover.exists()


def test_discarding_twice_is_harmless(tmp_path: Path) -> None:
    writer = SnapshotWriter(tmp_path, 1)
    writer.write(b"begin")
    writer.discard()
    writer.discard()
    assert list(tmp_path.iterdir()) == []
