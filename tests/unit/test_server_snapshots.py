"""When snapshots are taken, and what becomes of one that is taken while the tree changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.in_process import Client, ManualClock, WatchedServer, create, serving
from tests.trees import facts

from corral.jute.ops import OpCode
from corral.jute.owner import OwnerRules
from corral.jute.record import Record
from corral.jute.records import Acl, AuthPacket, Id, PathVersionRequest, SetAclRequest, SetDataRequest
from corral.server.config import StorageConfig
from corral.server.snapshots import SnapshotSchedule
from corral.storage.files import list_logs, list_snapshots
from corral.storage.filesystem import FileSystem
from corral.storage.recovery import recover
from corral.storage.snapshot import SnapshotReader
from corral.storage.snapshot_file import read_snapshot_bytes
from corral.storage.txnlog import LogReader
from corral.storage.txnlog.entry import decode_entry
from corral.tree.digest import DIGEST_MASK

CREATIONS = [(number + 1, OpCode.CREATE, create(b"/n%d" % number, b"x" * 50)) for number in range(1200)]
MINE = [Acl(31, Id("auth", ""))]


@pytest.mark.parametrize("count", [2, 3, 10, 1000])
def test_a_snapshot_is_due_after_half_to_all_of_the_count(count: int) -> None:
    schedule = SnapshotSchedule(StorageConfig(snap_count=count, snap_size_limit_kb=-1), Random(1))
    gaps: list[int] = []
    since = 0
    for _ in range(50 * count):
        since += 1
        if schedule.is_due(1, 1 << 50):
            gaps.append(since)
            since = 0
    assert count // 2 < min(gaps)
    assert max(gaps) <= count
    # Drawn anew each time.
    assert len(set(gaps)) > 1 or count < 4


def test_transactions_of_a_batch_are_counted_together() -> None:
    schedule = SnapshotSchedule(StorageConfig(snap_count=100, snap_size_limit_kb=-1), Random(1))
    assert schedule.is_due(101, 0)
    assert not schedule.is_due(50, 0)
    assert schedule.is_due(51, 0)


def test_the_size_of_the_log_counts_as_well() -> None:
    schedule = SnapshotSchedule(StorageConfig(snap_count=10**6, snap_size_limit_kb=1000), Random(3))
    assert not schedule.is_due(1, 500 * 1024)
    assert schedule.is_due(1, 1000 * 1024)


def play(directory: Path, scenario: Callable[[WatchedServer, Client], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        async with serving(directory, ManualClock(), **settings) as server:
            client = Client(server)
            await client.connect()
            await scenario(server, client)

    asyncio.run(run())


async def written(server: WatchedServer) -> None:
    async with asyncio.timeout(20):
        while server.database.snapshotter.running:
            await asyncio.sleep(0.001)


def snapshot_names(directory: Path) -> list[str]:
    return [each.path.name for each in list_snapshots(directory / "version-2")]


def test_snapshots_are_taken_as_transactions_come(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        for number in range(30):
            await client.ask(OpCode.SET_DATA, SetDataRequest(b"/", b"%d" % number, -1))
            await written(server)
        assert 4 <= len(snapshot_names(tmp_path)) <= 11

    play(tmp_path, scenario, storage=StorageConfig(snap_count=6))


def last_digest_logged(directory: Path, zxid: int) -> int:
    """The digest of the tree at a zxid, as the log has it: refused transactions bring none."""
    entries = (entry for each in list_logs(directory) for number, entry in LogReader(each.path) if number <= zxid)
    digests = [transaction.digest for transaction in map(decode_entry, entries) if transaction.digest is not None]
    return digests[-1].tree_digest & DIGEST_MASK


@pytest.mark.parametrize("compression", [None, "gz", "snappy"])
def test_a_snapshot_taken_amid_changes_is_made_whole_by_the_log(tmp_path: Path, compression: str | None) -> None:
    """Writes go on between the pieces; what is recovered must be the tree as it was at the end."""

    async def scenario(server: WatchedServer, client: Client) -> None:
        await client.ask(OpCode.AUTH, AuthPacket(0, "digest", b"me:pw"), xid=-4)
        await client.ask_all(CREATIONS)
        assert server.database.snapshotter.start()
        assert not server.database.snapshotter.start()
        logged = server.tree.last_zxid
        rounds = 0
        while server.database.snapshotter.running:
            rounds += 1
            changes: list[tuple[int, int, Record]] = []
            for number in range(20 * rounds, 20 * rounds + 20):
                path = b"/n%d" % (number * 7 % 1200)
                changes.append((1, OpCode.SET_DATA, SetDataRequest(path, b"changed", -1)))
                changes.append((2, OpCode.SET_ACL, SetAclRequest(path, MINE, -1)))
                changes.append((3, OpCode.DELETE, PathVersionRequest(b"/n%d" % (1199 - number), -1)))
                changes.append((4, OpCode.CREATE, create(b"/m%d" % number, flags=number % 2)))
            await client.ask_all(changes)
        assert rounds > 0
        assert server.database.snapshotter.longest_stall_ms > 0
        expected = facts(server.tree)
        directory = tmp_path / "version-2"
        recovered = recover(directory, directory, OwnerRules())
        assert recovered.snapshot is not None
        assert recovered.snapshot.zxid == server.database.snapshotter.last_zxid
        assert recovered.transactions == server.tree.last_zxid - logged >= 80
        reader = SnapshotReader(read_snapshot_bytes(recovered.snapshot), recovered.snapshot.path)
        assert len(list(reader.nodes())) > 1000
        reader.check()
        end = reader.trailer.digest_zxid
        assert end is not None
        assert logged <= end <= server.tree.last_zxid
        assert reader.trailer.digest == last_digest_logged(directory, end)
        assert facts(recovered.tree) == expected
        assert recovered.tree.digest == server.tree.digest

    play(tmp_path, scenario, storage=StorageConfig(snapshot_compression=compression))


class FailingSnapshots(FileSystem):
    """No room for snapshots."""

    fails = False

    def create(self, path: Path) -> int:
        if self.fails and path.name.startswith("snapshot."):
            raise OSError(28, "No space left on device")
        return super().create(path)


def test_a_snapshot_that_fails_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        filesystem = FailingSnapshots()
        server.database.snapshotter._filesystem = filesystem
        filesystem.fails = True
        await client.ask(OpCode.CREATE, create(b"/a"))
        assert server.database.snapshotter.start()
        await written(server)
        assert server.stats.counters["snapshot_error_count"] == 1
        assert "No space left" in caplog.text
        assert snapshot_names(tmp_path) == ["snapshot.0"]
        # The service goes on, and the next one succeeds.
        assert (await client.ask(OpCode.CREATE, create(b"/b"))).error == 0
        filesystem.fails = False
        assert server.database.snapshotter.start()
        await written(server)
        assert len(snapshot_names(tmp_path)) == 2

    with caplog.at_level(logging.ERROR):
        play(tmp_path, scenario)


def test_a_stop_gives_a_snapshot_up_and_leaves_no_half_file(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        await client.ask_all(CREATIONS)
        assert server.database.snapshotter.start()

    play(tmp_path, scenario)
    names = sorted(path.name for path in (tmp_path / "version-2").iterdir())
    assert not [name for name in names if name.endswith(".tmp")]
    assert [name for name in names if name.startswith("snapshot.")] == ["snapshot.0"]
