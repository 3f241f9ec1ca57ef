"""A member's history: cut, replaced, settled, and what it promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from tests.faulty_disk import FailingFileSystem, disk_full, input_output_error
from tests.trees import Grower, log_entry

from corral.jute.ops import OpCode
from corral.jute.owner import OwnerRules
from corral.jute.records import Acl, CreateTxn, Id, SetDataTxn
from corral.quorum.ensemble import parse_ensemble
from corral.quorum.history import History, apply
from corral.quorum.sync_plan import SyncPlan, Way, plan_sync
from corral.server.config import from_properties
from corral.server.database import Database, is_whole
from corral.server.machine import Machine
from corral.server.stats import ServerStats
from corral.storage.errors import StorageError
from corral.storage.files import ACCEPTED_EPOCH, list_logs, list_snapshots
from corral.storage.filesystem import REAL, FileSystem
from corral.storage.purge import plan_purge, purge
from corral.storage.snapshot import SnapshotEncoder
from corral.storage.snapshot_file import write_snapshot
from corral.storage.txnlog.marks import SPACING_BYTES
from corral.tree.datatree import DataTree

EPOCH = 3 << 32


def entry(counter: int, epoch: int = EPOCH, data: bytes = b"data") -> tuple[int, bytes]:
    """The creation of one more znode."""
    zxid = epoch | counter
    record = CreateTxn(b"/%x" % zxid, data, [Acl(31, Id("world", "anyone"))], False, counter)
    return zxid, log_entry(zxid, OpCode.CREATE, 0, record.to_bytes())


def entries(first: int, last: int, epoch: int = EPOCH) -> list[tuple[int, bytes]]:
    return [entry(counter, epoch) for counter in range(first, last + 1)]


def fail(error: StorageError) -> None:
    raise error


@asynccontextmanager
async def opened(directory: Path, filesystem: FileSystem = REAL) -> AsyncIterator[History]:
    config = from_properties({"dataDir": str(directory), "clientPort": "1"})
    database = Database(config, ServerStats(0), failed=fail, machine=Machine(filesystem=filesystem))
    database.open(asyncio.get_running_loop())
    try:
        yield History(database, filesystem=filesystem)
    finally:
        await database.settle()
        database.close()


def znodes(history: History) -> set[bytes]:
    return {path for path in history.tree.nodes if len(path) > 1 and not path.startswith(b"/zookeeper")}


def names(*each: tuple[int, bytes]) -> set[bytes]:
    return {b"/%x" % zxid for zxid, _ in each}


def test_what_is_appended_is_there_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as history:
            on_disk = await history.append(entries(1, 10))
            assert on_disk.zxid == history.last_zxid == EPOCH | 10
            # Once more, as when a leader sends what is there already.
            assert (await history.append(entries(5, 10))).zxid == EPOCH | 10
        async with opened(tmp_path) as history:
            assert history.last_zxid == EPOCH | 10
            assert history.current_epoch == history.accepted_epoch == 3

    asyncio.run(main())


def test_zookeeper_2845_what_was_logged_and_not_committed_is_settled_as_a_restart_would(tmp_path: Path) -> None:
    """Memory and log must not disagree when a member tells how far its history goes."""

    async def main() -> None:
        async with opened(tmp_path) as history:
            await history.append(entries(1, 3))
            for zxid, data in entries(4, 6):
                history.database.append(zxid, data)
            synced = asyncio.Event()
            history.database.sync(synced.set)
            # Appended, and not on its way to the disk when the leader was lost.
            history.database.append(*entry(7))
            assert history.last_zxid == EPOCH | 3
            await history.settle()
            assert synced.is_set()
            assert history.last_zxid == EPOCH | 6
            assert znodes(history) == names(*entries(1, 6))
            await history.append(entries(7, 8))
        async with opened(tmp_path) as history:
            assert znodes(history) == names(*entries(1, 8))

    asyncio.run(main())


def test_the_whole_log_is_not_read_again_at_the_end_of_a_term(tmp_path: Path) -> None:
    """Nobody is served in the meantime, and a log may hold a hundred thousand transactions."""

    async def main() -> None:
        async with opened(tmp_path) as history:
            large = bytes(SPACING_BYTES // 4)
            for counter in range(1, 11):
                await history.append([entry(counter, data=large)])
            (log,) = list_logs(history.database.log_directory)
            content = bytearray(log.path.read_bytes())
            # Whoever reads the first record sees that it is damaged.
            content[100] ^= 1
            log.path.write_bytes(content)
            history.database.append(*entry(11))
            synced = asyncio.Event()
            history.database.sync(synced.set)
            await history.settle()
            assert history.last_zxid == EPOCH | 11
            assert history.database.logged_bytes_after(EPOCH | 10) == 0
            assert history.database.logged_bytes_after(EPOCH | 1) > 2 * len(large)

    asyncio.run(main())


def test_what_was_committed_before_this_disk_had_it_leaves_no_hole_in_the_log(tmp_path: Path) -> None:
    """Two others have a quorum: a member with a slow disk applies what still waits for its own log."""

    async def main() -> None:
        async with opened(tmp_path) as history:
            await history.append(entries(1, 3))
            history.database.append(*entry(4))
            history.database.sync(lambda: None)
            for each in entries(5, 6):
                history.database.append(*each)
            for each in entries(4, 5):
                apply(history.tree, *each)
                history.note([each])
            await history.settle()
            await history.append(entries(7, 8))
            assert znodes(history) == names(*entries(1, 8))
        async with opened(tmp_path) as history:
            assert znodes(history) == names(*entries(1, 8))

    asyncio.run(main())


def test_zookeeper_4837_what_is_cut_off_does_not_come_back(tmp_path: Path) -> None:
    """A snapshot newer than the cut would bring it all back."""

    async def main() -> None:
        async with opened(tmp_path) as history:
            await history.append(entries(1, 6))
        # The restart takes a snapshot at 6, and begins another log.
        async with opened(tmp_path) as history:
            await history.append(entries(7, 9))
            assert list_snapshots(history.database.snapshot_directory)[-1].zxid == EPOCH | 6
            on_disk = await history.cut(EPOCH | 4)
            assert on_disk.zxid == history.last_zxid == EPOCH | 4
            assert znodes(history) == names(*entries(1, 4))
            await history.append(entries(1, 2, 4 << 32))
        async with opened(tmp_path) as history:
            assert znodes(history) == names(*entries(1, 4), *entries(1, 2, 4 << 32))
            assert history.last_zxid == 4 << 32 | 2

    asyncio.run(main())


def test_a_snapshot_under_way_does_not_show_what_may_be_cut_off(tmp_path: Path) -> None:
    """It has the number of its beginning, so it would stay when what was never committed is cut off."""

    async def main() -> None:
        async with opened(tmp_path) as history:
            await history.append(entries(1, 3))
            database = history.database
            path = b"/%x" % entry(1)[0]
            zxid = EPOCH | 4
            database.extend([(zxid, log_entry(zxid, OpCode.SET_DATA, 0, SetDataTxn(path, b"lost", 1).to_bytes()))])
            done = asyncio.Event()
            database.sync(done.set)
            await done.wait()
            assert database.snapshotter.start()
            await history.settle()
            assert history.tree.nodes[path].data == b"lost"
            while database.snapshotter.running:
                await asyncio.sleep(0.001)
            await history.cut(EPOCH | 3)
            assert history.tree.nodes[path].data == b"data"

    asyncio.run(main())


def test_what_it_can_be_cut_back_to(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as history:
            await history.append(entries(1, 3))
            await history.append(entries(1, 2, 4 << 32))
            can = {
                zxid
                for zxid in (-1, 0, EPOCH | 2, EPOCH | 3, EPOCH | 4, 4 << 32, 4 << 32 | 2, 4 << 32 | 3, 5 << 32)
                if history.can_be_cut(zxid)
            }
            assert can == {0, EPOCH | 2, EPOCH | 3, 4 << 32, 4 << 32 | 2}
            for each in list_snapshots(history.database.snapshot_directory):
                each.path.unlink()
            assert not history.can_be_cut(EPOCH | 2)

    asyncio.run(main())


@pytest.mark.parametrize("text", ["-1", "2147483648"])
def test_a_number_that_is_no_epoch_is_refused(tmp_path: Path, text: str) -> None:
    async def main() -> None:
        async with opened(tmp_path) as history:
            (history.database.snapshot_directory / ACCEPTED_EPOCH).write_text(text)
            with pytest.raises(StorageError, match=f"acceptedEpoch: {text} is no epoch"):
                _ = history.accepted_epoch

    asyncio.run(main())


@pytest.mark.parametrize("call", ["truncate", "rename"])
def test_another_tree_and_what_this_server_alone_had_are_never_mixed(tmp_path: Path, call: str) -> None:
    """Whichever step of the exchange is the last."""

    async def main() -> None:
        grower = Grower(DataTree(OwnerRules()))
        grower.tree.last_zxid = EPOCH | 1
        grower.create(b"/other", b"from the leader")
        disk = FailingFileSystem()
        async with opened(tmp_path, disk) as history:
            await history.append(entries(1, 6))
            disk.fail(call, disk_full)
            with pytest.raises(StorageError, match="No space"):
                await history.replace(grower.tree, EPOCH | 2)
        async with opened(tmp_path) as history:
            assert znodes(history) == names(*entries(1, 6 if call == "truncate" else 2))

    asyncio.run(main())


def test_it_is_cut_back_to_where_an_epoch_begins(tmp_path: Path) -> None:
    """A leader that has nothing of its epoch yet names the beginning of it, which is no transaction."""

    async def main() -> None:
        async with opened(tmp_path) as history:
            await history.append(entries(1, 6))
            await history.append(entries(1, 2, 4 << 32))
            on_disk = await history.cut(4 << 32)
            assert on_disk.zxid == history.last_zxid == 4 << 32
            assert znodes(history) == names(*entries(1, 6))
            await history.append(entries(1, 1, 5 << 32))
        async with opened(tmp_path) as history:
            assert znodes(history) == names(*entries(1, 6), *entries(1, 1, 5 << 32))

    asyncio.run(main())


def test_another_tree_takes_the_place_of_everything(tmp_path: Path) -> None:
    """ZOOKEEPER-3642: what came as a whole tree must not be in memory only."""

    async def main() -> None:
        grower = Grower(DataTree(OwnerRules()))
        grower.tree.last_zxid = 5 << 32
        grower.create(b"/5", b"from the leader")
        async with opened(tmp_path) as history:
            await history.append(entries(1, 6))
            on_disk = await history.replace(grower.tree, grower.tree.last_zxid)
            assert on_disk.zxid == 5 << 32 | 1
            assert znodes(history) == {b"/5"}
            await history.append(entries(2, 3, 5 << 32))
        async with opened(tmp_path) as history:
            assert znodes(history) == {b"/5"} | names(*entries(2, 3, 5 << 32))

    asyncio.run(main())


def test_a_tree_of_an_older_history_is_not_followed_by_what_this_one_had(tmp_path: Path) -> None:
    async def main() -> None:
        tree = DataTree(OwnerRules())
        tree.last_zxid = EPOCH | 4
        async with opened(tmp_path) as history:
            await history.append(entries(1, 6))
            await history.replace(tree, EPOCH | 4)
            assert znodes(history) == set()
        async with opened(tmp_path) as history:
            assert history.last_zxid == EPOCH | 4
            assert znodes(history) == set()

    asyncio.run(main())


def test_zookeeper_4925_a_hole_is_refused(tmp_path: Path) -> None:
    """What is kept for others must have none."""

    async def main() -> None:
        async with opened(tmp_path) as history:
            await history.append(entries(1, 3))
            with pytest.raises(StorageError, match="hole"):
                history.note([entry(5)])
            history.note([entry(1, 4 << 32)])

    asyncio.run(main())


def test_epochs_are_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as history:
            assert history.promise(7).epoch == 7
            assert (history.accepted_epoch, history.current_epoch) == (7, 0)
            assert history.enter(7, await history.append(())).epoch == 7
        async with opened(tmp_path) as history:
            assert (history.accepted_epoch, history.current_epoch) == (7, 7)

    asyncio.run(main())


def test_learners_are_served_from_the_log_while_that_is_short(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as history:
            await history.append(entries(1, 400))
        async with opened(tmp_path) as history:
            await history.append(entries(401, 410))
            found = await history.read_log(EPOCH | 395)
            assert found == history.read_on(found) == entries(395, 410)
            assert await history.read_log(EPOCH | 1) is None

    asyncio.run(main())


def test_others_get_turns_while_the_log_is_read_and_what_they_commit_is_read_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as history:
            await history.append(entries(1, 12_000))
        async with opened(tmp_path) as history:
            reading = asyncio.create_task(history.read_log(EPOCH | 9_000))
            for _ in range(3):
                await asyncio.sleep(0)
            assert not reading.done()
            # More than what memory holds.
            await history.append(entries(12_001, 13_000))
            found = await reading
            assert found == entries(9_000, 12_000)
            assert history.recent[0][0] == EPOCH | 12_501
            whole = history.read_on(found)
            plan = plan_sync(EPOCH | 9_000, history.last_zxid, list(history.recent), lambda _zxid: whole)
            assert plan == SyncPlan(Way.DIFF, EPOCH | 13_000, entries(9_001, 13_000))
            assert history.read_on(None) is None

    asyncio.run(main())


def test_zookeeper_2846_nobody_is_served_from_a_log_that_was_left_for_a_tree(tmp_path: Path) -> None:
    """What the log has after the parting was never committed, and what came as a tree is not in it."""

    async def main() -> None:
        grower = Grower(DataTree(OwnerRules()))
        grower.tree.last_zxid = 4 << 32
        for number in range(100):
            grower.create(b"/%d" % number, b"from the leader")
        async with opened(tmp_path) as history:
            await history.append(entries(1, 6))
            await history.replace(grower.tree, grower.tree.last_zxid)
            await history.append(entries(1, 2, 5 << 32))
            assert await history.read_log(EPOCH | 5) is None
            assert await history.read_log(5 << 32 | 1) == entries(1, 2, 5 << 32)

    asyncio.run(main())


@pytest.mark.parametrize("removed", range(4))
def test_zookeeper_2846_a_purge_that_stops_midway_leaves_no_such_log_without_its_tree(
    tmp_path: Path, removed: int
) -> None:
    """The tree's snapshot is what tells that the log before it was left."""

    async def main() -> None:
        grower = Grower(DataTree(OwnerRules()))
        grower.tree.last_zxid = 4 << 32
        for number in range(100):
            grower.create(b"/%d" % number, b"from the leader")
        async with opened(tmp_path) as history:
            await history.append(entries(1, 6))
            await history.replace(grower.tree, grower.tree.last_zxid)
            directory = history.database.snapshot_directory
            for counter in range(1, 4):
                await history.append([entry(counter, 5 << 32)])
                write_snapshot(directory, SnapshotEncoder(history.tree, digests=True, last_zxid_section=True))
            plan = plan_purge(directory, history.database.log_directory, 3, is_whole)
            assert len(plan.paths) == 3
            disk = FailingFileSystem()
            disk.fail("unlink", input_output_error, after=removed)
            with suppress(StorageError):
                purge(plan, disk)
            assert sum(path.exists() for path in plan.paths) == 3 - removed
            assert await history.read_log(EPOCH | 5) is None

    asyncio.run(main())


def test_to_show_members_that_others_have_told_of_is_no_history(tmp_path: Path) -> None:
    """Found by simulation: a member that had heard of a change claimed everything before it, and did not have it."""

    async def main() -> None:
        async with opened(tmp_path) as history:
            await history.append(entries(1, 2))
            told = parse_ensemble(f"server.1=a:1:2\nserver.2=b:1:2\nversion={EPOCH | 7:x}")
            history.show(told)
            assert history.shown_ensemble == told
            assert history.last_zxid == EPOCH | 2

    asyncio.run(main())


def test_a_cut_behind_the_last_transaction_needs_no_log(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as history:
            tree = DataTree(OwnerRules())
            tree.last_zxid = EPOCH | 7
            await history.replace(tree, EPOCH | 7)
            assert history.can_be_cut(EPOCH | 7)
            assert (await history.cut(EPOCH | 7)).zxid == history.last_zxid == EPOCH | 7

    asyncio.run(main())
