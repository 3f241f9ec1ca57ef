"""When snapshots are taken, and what becomes of one that is taken while the tree changes."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.in_process import Client, ManualClock, WatchedServer, create, serving
from tests.trees import facts, sealed

from corral.jute.ops import OpCode
from corral.jute.owner import OwnerRules
from corral.jute.record import Record
from corral.jute.records import Acl, AuthPacket, Id, MultiHeader, PathVersionRequest, SetAclRequest, SetDataRequest
from corral.server.config import StorageConfig
from corral.server.snapshots import SnapshotSchedule
from corral.storage.files import list_logs, list_snapshots
from corral.storage.filesystem import FileSystem
from corral.storage.recovery import recover
from corral.storage.snapshot import SnapshotEncoder, SnapshotReader
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


def assert_recovers(server: WatchedServer, directory: Path) -> None:
    """What the newest snapshot and the logs lead to is what the server has, and nothing was replayed in vain."""
    recovered = recover(directory / "version-2", directory / "version-2", OwnerRules())
    assert recovered.snapshot is not None
    assert recovered.snapshot.zxid == server.database.snapshotter.last_zxid
    assert facts(recovered.tree) == facts(server.tree)
    assert recovered.digest_mismatches == 0


def begin_within(server: WatchedServer, of: object, name: str, *, at_call: int = 1) -> None:
    """Let a snapshot begin when a method of the tree, or of a part of it, is about to be called for the n-th time."""
    called = getattr(of, name)
    calls = itertools.count(1)

    def hooked(*arguments: Any) -> Any:
        if next(calls) == at_call:
            assert server.database.snapshotter.start()
        return called(*arguments)

    setattr(of, name, hooked)


@pytest.mark.parametrize(("name", "at_call"), [("put", 1), ("add", 1), ("add", 2), ("remove", 1)])
def test_zookeeper_3127_a_snapshot_that_begins_within_a_multi_brings_all_of_it(
    tmp_path: Path, name: str, at_call: int
) -> None:
    """Or none: it must not claim to hold a transaction of which it shows the first part only."""

    async def scenario(server: WatchedServer, client: Client) -> None:
        for path in (b"/a", b"/b", b"/c"):
            await client.ask(OpCode.CREATE, create(path))
        begin_within(server, server.tree, name, at_call=at_call)
        operations = [
            (OpCode.CREATE, create(b"/first")),
            (OpCode.SET_DATA, SetDataRequest(b"/a", b"changed", -1)),
            (OpCode.DELETE, PathVersionRequest(b"/b", -1)),
            (OpCode.CREATE, create(b"/second")),
            (OpCode.SET_DATA, SetDataRequest(b"/c", b"changed", -1)),
        ]
        body = b"".join(MultiHeader(op, False, -1).to_bytes() + each.to_bytes() for op, each in operations)
        assert (await client.ask(OpCode.MULTI, body + MultiHeader(-1, True, -1).to_bytes())).error == 0
        assert server.database.snapshotter.running
        await written(server)
        assert_recovers(server, tmp_path)

    play(tmp_path, scenario)


class Sessions(dict[int, int]):
    """Has methods for what is done to a table of sessions, as a test can only stand before those."""

    def __setitem__(self, session_id: int, timeout_ms: int) -> None:
        self.begin(session_id, timeout_ms)

    def begin(self, session_id: int, timeout_ms: int) -> None:
        super().__setitem__(session_id, timeout_ms)


@pytest.mark.parametrize(
    ("name", "at_call"),
    [
        pytest.param("begin", 1, id="before a session is there"),
        pytest.param("pop", 1, id="before it is gone"),
        pytest.param("remove", 1, id="before its ephemerals are gone"),
        pytest.param("remove", 2, id="before its last one is gone"),
    ],
)
def test_zookeeper_3144_a_snapshot_that_begins_while_a_session_does_or_ends_loses_and_revives_nothing(
    tmp_path: Path, name: str, at_call: int
) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        other = Client(server)
        server.tree.sessions = sessions = Sessions(server.tree.sessions)
        begin_within(server, server.tree if name == "remove" else sessions, name, at_call=at_call)
        await other.connect()
        for path in (b"/mine", b"/mine-too"):
            await other.ask(OpCode.CREATE, create(path, flags=1))
        if name != "begin":
            await other.ask(OpCode.CLOSE_SESSION)
        await written(server)
        assert len(server.tree.sessions) == (2 if name == "begin" else 1)
        assert_recovers(server, tmp_path)

    play(tmp_path, scenario)


def test_zookeeper_3145_the_end_of_a_session_is_replayed_though_its_ephemerals_are_gone(tmp_path: Path) -> None:
    """Their parent was written down before, and must note their end all the same: watches are set by its pzxid."""

    async def scenario(server: WatchedServer, client: Client) -> None:
        await client.ask(OpCode.CREATE, create(b"/p"))
        await client.ask(OpCode.CREATE, create(b"/between"))
        for path in (b"/p/deleted", b"/p/left"):
            await client.ask(OpCode.CREATE, create(path, flags=1))
        tree = server.tree
        encoder = SnapshotEncoder(tree, digests=True, last_zxid_section=True)
        content = bytearray(encoder.head())
        until_between = [path for path, _ in tree.walk()].index(b"/between") + 1
        content += encoder.nodes(until_between + 1) or b""
        assert b"/p" in content
        await client.ask(OpCode.DELETE, PathVersionRequest(b"/p/deleted", -1))
        await client.ask(OpCode.CLOSE_SESSION)
        assert not tree.sessions
        while (piece := encoder.nodes(10)) is not None:
            content += piece
        assert b"/p/left" not in content
        directory = tmp_path / "version-2"
        (directory / f"snapshot.{encoder.zxid:x}").write_bytes(sealed(content, encoder))
        recovered = recover(directory, directory, OwnerRules())
        assert recovered.transactions == 2
        assert recovered.tree.stat(b"/p") == tree.stat(b"/p")
        assert facts(recovered.tree) == facts(tree)

    play(tmp_path, scenario)


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
