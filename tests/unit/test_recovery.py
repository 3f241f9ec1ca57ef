"""From the files back to the tree: which snapshot, which transactions, what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tests.trees import ANN, ANYONE, EXTENDED, NOW_MS, SESSION, Grower, facts, log_entry, sealed, varied_tree

from corral.jute.ops import OpCode
from corral.jute.records import Acl, CreateTxn, DeleteTxn, ErrorTxn, Id
from corral.server.database import is_whole
from corral.storage.errors import LogGapError, StorageError
from corral.storage.purge import plan_purge, purge
from corral.storage.recovery import Recovered, recover
from corral.storage.snapshot import SnapshotEncoder
from corral.storage.snapshot_file import write_snapshot
from corral.storage.txnlog import TxnLogWriter
from corral.tree.datatree import DataTree

BOB = Acl(31, Id("digest", "bob:y"))


class Disk:
    """A data directory that is filled while a tree grows."""

    def __init__(self, directory: Path) -> None:
        self.snapshots = directory / "data"
        self.logs = directory / "logs"
        self.snapshots.mkdir()
        self.logs.mkdir()
        self.grower = Grower()
        self.logged = 0

    def write_log(self, *, roll: bool = True, digests: bool = True) -> None:
        """Log what was applied since the last time, in one file."""
        writer = TxnLogWriter(self.logs, preallocation_bytes=0)
        for zxid, kind, session, record in self.grower.log[self.logged :]:
            last = zxid == self.grower.log[-1][0]
            digest = self.grower.tree.digest if digests and last and kind != OpCode.ERROR else None
            writer.append(zxid, log_entry(zxid, kind, session, record, digest))
        batch = writer.take()
        assert batch is not None
        writer.write(batch)
        writer.close()
        self.logged = len(self.grower.log)

    def write_snapshot(self, compression: str = "") -> Path:
        encoder = SnapshotEncoder(self.grower.tree, digests=True, last_zxid_section=True)
        return write_snapshot(self.snapshots, encoder, compression)

    def recover(self, *, trust_empty: bool = False, digests: bool = True) -> Recovered:
        return recover(self.snapshots, self.logs, EXTENDED, digests=digests, trust_empty=trust_empty)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_nothing_at_all(disk: Disk) -> None:
    recovered = disk.recover()
    assert recovered.is_new
    assert facts(recovered.tree) == facts(DataTree())


@pytest.mark.parametrize("compression", ["", "gz", "snappy"])
@pytest.mark.parametrize("digests", [True, False])
def test_a_snapshot_and_the_log_behind_it(disk: Disk, compression: str, digests: bool) -> None:
    grower = disk.grower
    grower.open_session()
    grower.create(b"/a", b"1")
    grower.create(b"/e", ephemeral=True)
    disk.write_log()
    path = disk.write_snapshot(compression)
    grower.create(b"/a/b")
    grower.set_data(b"/a", b"2")
    grower.apply(OpCode.ERROR, ErrorTxn(-101))
    disk.write_log()
    recovered = disk.recover(digests=digests)
    assert not recovered.is_new
    assert recovered.snapshot is not None
    assert recovered.snapshot.path == path
    assert (recovered.transactions, recovered.digest_mismatches) == (3, 0)
    assert facts(recovered.tree) == facts(grower.tree)
    assert recovered.tree.changes == []
    if digests:
        assert recovered.tree.digest == grower.tree.digest


def test_the_newest_whole_snapshot_is_taken(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    grower = disk.grower
    grower.create(b"/a")
    disk.write_snapshot()
    disk.write_log()
    grower.create(b"/b")
    whole = disk.write_snapshot()
    disk.write_log()
    grower.create(b"/c")
    damaged = disk.write_snapshot()
    disk.write_log()
    damaged.write_bytes(damaged.read_bytes()[:-3])
    grower.create(b"/d")
    disk.write_log()
    # A path without a slash once ended the start with a programming error instead.
    strange = disk.snapshots / f"snapshot.{grower.tree.last_zxid:x}"
    strange.write_bytes(whole.read_bytes().replace(b"/a", b"xa", 1))
    with caplog.at_level(logging.WARNING):
        recovered = disk.recover()
    assert recovered.snapshot is not None
    assert recovered.snapshot.path == whole
    assert recovered.transactions == 2
    assert facts(recovered.tree) == facts(grower.tree)
    assert sorted(str(path) in caplog.text for path in (damaged, strange, whole)) == [False, True, True]


@pytest.mark.parametrize("is_followed", [False, True])
def test_a_snapshot_that_has_what_no_log_has_is_not_passed_over(disk: Disk, is_followed: bool) -> None:
    """A member of an ensemble got it from its leader. Simulation found that all of it was forgotten without a word."""
    grower = disk.grower
    grower.create(b"/a")
    disk.write_snapshot()
    disk.write_log()
    grower.create(b"/b")
    disk.logged = len(grower.log)
    from_leader = disk.write_snapshot()
    if is_followed:
        grower.tree.last_zxid = 1 << 32
        grower.create(b"/c")
        disk.write_log()
    from_leader.write_bytes(from_leader.read_bytes()[:-1])
    with pytest.raises(StorageError, match=f"no log leads to zxid 0x2, which it holds: {from_leader} at offset"):
        disk.recover()


@pytest.mark.parametrize("trust_empty", [False, True])
@pytest.mark.parametrize("kept_bytes", [0, 20, -1])
def test_zookeeper_2325_who_has_no_whole_snapshot_does_not_start_empty(
    disk: Disk, kept_bytes: int, trust_empty: bool
) -> None:
    disk.grower.create(b"/a")
    disk.write_log()
    for path in (disk.write_snapshot(), disk.write_snapshot("gz")):
        path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(StorageError, match="none of the 2 snapshots is whole"):
        disk.recover(trust_empty=trust_empty)


def test_zookeeper_2325_3644_transactions_without_any_snapshot_need_trust_and_are_replayed_then(disk: Disk) -> None:
    disk.grower.open_session()
    disk.grower.create(b"/a", b"1")
    disk.write_log()
    with pytest.raises(StorageError, match=r"no snapshot in .*trust\.empty") as caught:
        disk.recover()
    assert caught.value.path == disk.logs / "log.1"
    recovered = disk.recover(trust_empty=True)
    assert (recovered.snapshot, recovered.transactions) == (None, 2)
    assert facts(recovered.tree) == facts(disk.grower.tree)


def test_zookeeper_3231_purging_spares_the_last_snapshots_that_are_whole(disk: Disk) -> None:
    """The newest are of no use, and would be all that is kept if they counted."""
    grower = disk.grower
    snapshots: list[Path] = []
    for number in range(8):
        grower.create(b"/%d" % number)
        disk.write_log()
        snapshots.append(disk.write_snapshot())
    for path, kept_bytes in zip(snapshots[-3:], (0, 30, -1), strict=True):
        path.write_bytes(path.read_bytes()[:kept_bytes])
    plan = plan_purge(disk.snapshots, disk.logs, 3, is_whole)
    assert plan.snapshots == tuple(snapshots[:2])
    purge(plan)
    recovered = disk.recover()
    assert recovered.snapshot is not None
    assert recovered.snapshot.path == snapshots[4]
    assert facts(recovered.tree) == facts(grower.tree)


def test_logs_without_transactions_need_no_snapshot(disk: Disk) -> None:
    (disk.logs / "log.1").write_bytes(b"")
    assert disk.recover().is_new


def test_a_log_that_is_missing_is_noticed(disk: Disk) -> None:
    grower = disk.grower
    grower.create(b"/a")
    disk.write_log()
    disk.write_snapshot()
    for path in (b"/b", b"/c", b"/d"):
        grower.create(path)
        disk.write_log()
    (disk.logs / "log.3").unlink()
    with pytest.raises(LogGapError):
        disk.recover()


def test_what_the_snapshot_shows_already_may_come_again(disk: Disk) -> None:
    """The znodes of a snapshot are newer than its name says: the log brings the same again."""
    grower = disk.grower
    grower.open_session()
    grower.create(b"/a", b"1")
    encoder = SnapshotEncoder(grower.tree, digests=True, last_zxid_section=True)
    grower.set_data(b"/a", b"2")
    grower.create(b"/a/b")
    grower.create(b"/a/gone")
    grower.apply(OpCode.DELETE, DeleteTxn(b"/a/gone"))
    grower.create(b"/e", ephemeral=True)
    disk.write_log()
    write_snapshot(disk.snapshots, encoder)
    recovered = disk.recover()
    assert recovered.transactions == 5
    assert facts(recovered.tree) == facts(grower.tree)
    assert recovered.tree.digest == grower.tree.digest


@pytest.mark.parametrize("dropped", [(), (ANN,)])
def test_zookeeper_3306_4846_a_znode_whose_acl_is_not_in_the_table_gets_it_back(
    disk: Disk, dropped: tuple[Acl, ...]
) -> None:
    """Apache's servers write the table of ACLs first, and znodes that come later with numbers that it has not."""
    grower = disk.grower
    grower.create(b"/before", b"", *dropped)
    disk.write_log()
    encoder = SnapshotEncoder(grower.tree, digests=False, last_zxid_section=True)
    head, zxid = encoder.head(), encoder.zxid
    grower.apply(OpCode.DELETE, DeleteTxn(b"/before"))
    grower.create(b"/a", b"", BOB)
    grower.create(b"/a/below", b"", ANN)
    assert grower.tree.nodes[b"/a"].acl not in (-1, 0)
    all_of_it = SnapshotEncoder(grower.tree, digests=False, last_zxid_section=True)
    content = bytearray(head) + (all_of_it.nodes(1000) or b"")
    assert all_of_it.nodes(1) is None
    disk.write_log()
    (disk.snapshots / f"snapshot.{zxid:x}").write_bytes(sealed(content, all_of_it))
    tree = disk.recover().tree
    assert facts(tree) == facts(grower.tree)
    assert tree.acls.entries(tree.nodes[b"/a"].acl) == (BOB,)
    # As a leader it can go on from there, below that znode too.
    grower = Grower(tree)
    grower.set_acl(b"/a", ANN)
    grower.create(b"/a/later", b"", BOB)
    assert [tree.acls.entries(tree.nodes[path].acl) for path in (b"/a", b"/a/below", b"/a/later")] == [
        (ANN,),
        (ANN,),
        (BOB,),
    ]


def test_ephemerals_without_a_session_end(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    disk.grower.create(b"/p")
    disk.grower.create(b"/p/e", ephemeral=True)
    disk.write_log()
    disk.write_snapshot()
    with caplog.at_level(logging.WARNING):
        recovered = disk.recover()
    assert b"/p/e" not in recovered.tree.nodes
    assert recovered.tree.ephemerals == {}
    assert f"{SESSION:#x}" in caplog.text


def test_a_wrong_digest_is_reported_and_nothing_more(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    disk.grower.create(b"/a")
    disk.write_snapshot()
    disk.grower.create(b"/b")
    disk.grower.tree.digest += 1
    disk.write_log()
    with caplog.at_level(logging.WARNING):
        recovered = disk.recover()
    assert recovered.digest_mismatches == 1
    assert "0x2" in caplog.text
    disk.grower.tree.recompute_digest()
    assert recovered.tree.digest == disk.grower.tree.digest


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        (OpCode.CREATE, b"\0\0\0\2/b"),
        (OpCode.CREATE, CreateTxn(b"no slash", b"", [ANYONE], False, 1).to_bytes()),
        (OpCode.SET_DATA, b""),
        (OpCode.SET_ACL, b"\0\0\0\2/a"),
        (OpCode.MULTI, b"\0\0\0\1"),
        (OpCode.DELETE, b"\0\0\0\1x"),
        (OpCode.CREATE_SESSION, b"\0"),
        (OpCode.CREATE_TTL, CreateTxn(b"/b", b"", [ANYONE], False, 1).to_bytes()),
    ],
)
def test_a_transaction_that_is_none_is_named(disk: Disk, kind: int, record: bytes) -> None:
    disk.grower.create(b"/a")
    disk.write_log()
    disk.write_snapshot()
    disk.grower.log.append((2, kind, SESSION, record))
    disk.write_log(digests=False)
    with pytest.raises(StorageError, match="zxid 0x2 cannot be decoded"):
        disk.recover()


def test_quotas_work_after_recovery(disk: Disk) -> None:
    grower = disk.grower
    for path in (b"/a", b"/zookeeper/quota/a", b"/zookeeper/quota/a/zookeeper_stats"):
        grower.create(path)
    grower.create(b"/zookeeper/quota/a/zookeeper_limits", b"count=5,bytes=-1")
    disk.write_log()
    disk.write_snapshot()
    grower.create(b"/a/b", b"123")
    disk.write_log()
    tree = disk.recover().tree
    assert list(tree.quotas) == [b"/a"]
    assert tree.nodes[b"/zookeeper/quota/a/zookeeper_stats"].data == b"count=2,bytes=3"


def test_every_kind_of_znode_through_snapshot_and_log(disk: Disk) -> None:
    disk.grower = Grower(varied_tree())
    disk.write_snapshot()
    disk.grower.create(b"/a/late")
    disk.write_log()
    recovered = disk.recover()
    assert facts(recovered.tree) == facts(disk.grower.tree)
    assert recovered.tree.stat(b"/a/late")[16:24] == (NOW_MS + disk.grower.tree.last_zxid).to_bytes(8, "big")
