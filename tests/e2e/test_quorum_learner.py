"""What a learner says, and when: each a failure of Apache's server, by its number, that must not be repeated.

The leader is played by the test, so that it can stop, lie, or go away at any word.
"""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.faulty_disk import FailingFileSystem, HeldDisk
from tests.scripted_leader import ScriptedLeader, creation, creations, path, scripted_leader, zxid
from tests.trees import SESSION, log_entry

from corral.jute.ops import OpCode
from corral.jute.records import Acl, CreateSessionTxn, CreateTxn, Id, SetDataTxn, TxnDigest
from corral.quorum import learner as learning
from corral.quorum import serving
from corral.quorum.ensemble import Ensemble
from corral.quorum.packets import (
    COMMIT,
    INFORM,
    PROPOSAL,
    PROTOCOL_VERSION,
    PacketType,
    pack,
    pack_bare,
    pack_transactions,
)
from corral.quorum.vote import Role
from corral.storage.files import CURRENT_EPOCH, list_snapshots, read_number
from corral.storage.filesystem import REAL, FileSystem
from corral.tree.datatree import DataTree


def play(directory: Path, script: Callable[[ScriptedLeader], Awaitable[None]], filesystem: FileSystem = REAL) -> None:
    async def main() -> None:
        async with scripted_leader(directory, filesystem) as leader:
            await script(leader)

    asyncio.run(main())


def current_epoch(leader: ScriptedLeader) -> int | None:
    return read_number(leader.peer.history.database.snapshot_directory / CURRENT_EPOCH)


def test_zookeeper_3911_4643_4646_history_then_epoch_then_acknowledgement(tmp_path: Path) -> None:
    """NEWLEADER is acknowledged, and currentEpoch written, only when what came before is on disk."""
    disk = HeldDisk()

    async def script(leader: ScriptedLeader) -> None:
        await leader.greet()
        leader.stream.write(pack(PacketType.DIFF, zxid(3)))
        disk.hold()
        leader.send_history(creations(1, 3))
        leader.send_new_leader()
        await asyncio.to_thread(disk.began.wait, 10)
        answer = asyncio.ensure_future(leader.hear(PacketType.ACK))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not answer.done()
        assert current_epoch(leader) in (None, 0)
        disk.let.set()
        assert await answer == zxid(0)
        assert current_epoch(leader) == 1

    try:
        play(tmp_path, script, disk)
    finally:
        disk.let.set()


def test_zookeeper_4685_proposals_are_acknowledged_behind_new_leader(tmp_path: Path) -> None:
    async def script(leader: ScriptedLeader) -> None:
        await leader.greet()
        leader.stream.write(pack(PacketType.DIFF, zxid(0)))
        leader.send_new_leader()
        leader.stream.write(pack_transactions(PROPOSAL, creations(1, 3)))
        assert await leader.hear(PacketType.ACK) == zxid(0)
        assert [await leader.hear(PacketType.ACK) for _ in range(3)] == [zxid(1), zxid(2), zxid(3)]

    play(tmp_path, script)


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(pack(COMMIT, zxid(7)), id="4394: a commit of nothing"),
        pytest.param(pack(PROPOSAL, *creation(1)) + pack(COMMIT, zxid(2)), id="a commit of another"),
        pytest.param(pack_transactions(PROPOSAL, [creation(1), creation(3)]), id="4925: a hole"),
    ],
)
def test_zookeeper_4394_4925_a_history_that_cannot_be_is_refused(tmp_path: Path, nonsense: bytes) -> None:
    """The member begins anew, with what it had."""

    async def script(leader: ScriptedLeader) -> None:
        await leader.greet()
        leader.stream.write(pack(PacketType.DIFF, zxid(3)) + nonsense)
        await leader.gone()
        assert (await leader.greet()).zxid == 0
        leader.stream.write(pack(PacketType.DIFF, zxid(3)))
        leader.send_history(creations(1, 3))
        leader.send_new_leader()
        assert await leader.hear(PacketType.ACK) == zxid(0)
        assert leader.znodes == {path(1), path(2), path(3)}

    play(tmp_path, script)


@pytest.mark.parametrize("counters", [(4,), (3, 5), (3, 3), (2,)])
def test_zookeeper_4925_a_proposal_behind_a_hole_is_not_logged(tmp_path: Path, counters: tuple[int, ...]) -> None:
    """Nor one that comes again: the leader is not what it should be."""

    async def script(leader: ScriptedLeader) -> None:
        await leader.bring_into_step(creations(1, 2))
        leader.stream.write(pack_transactions(PROPOSAL, [creation(each) for each in counters]))
        await leader.gone()
        await leader.restart()
        assert (await leader.greet(2)).zxid == zxid(2)
        assert leader.znodes == {path(1), path(2)}

    play(tmp_path, script)


@pytest.mark.parametrize("comes_as_a_tree", [False, True])
def test_zookeeper_4394_what_is_committed_right_behind_new_leader_is_applied(
    tmp_path: Path, comes_as_a_tree: bool
) -> None:
    """It was proposed before NEWLEADER, hence is not in the history that NEWLEADER ends."""

    async def script(leader: ScriptedLeader) -> None:
        await leader.greet()
        if comes_as_a_tree:
            tree = DataTree()
            tree.last_zxid = zxid(3)
            leader.send_tree(tree)
        else:
            leader.stream.write(pack(PacketType.DIFF, zxid(3)))
            leader.send_history(creations(1, 3))
        leader.stream.write(pack_transactions(PROPOSAL, creations(4, 5)))
        leader.send_new_leader()
        assert await leader.hear(PacketType.ACK) == zxid(0)
        assert leader.peer.history.last_zxid == zxid(3)
        leader.stream.write(pack(COMMIT, zxid(4)) + pack(PacketType.UP_TO_DATE, -1) + pack(COMMIT, zxid(5)))
        assert sorted([await leader.hear(PacketType.ACK) for _ in range(3)]) == [zxid(0), zxid(4), zxid(5)]
        while leader.peer.history.last_zxid != zxid(5):
            await asyncio.sleep(0.001)
        assert {path(4), path(5)} <= leader.znodes
        await leader.restart()
        assert (await leader.greet(2)).zxid == zxid(5)
        assert {path(4), path(5)} <= leader.znodes

    play(tmp_path, script)


def test_zookeeper_4712_what_was_on_no_way_to_the_log_is_not_logged_in_the_next_term(tmp_path: Path) -> None:
    """The log is busy when the leader is lost, and what was proposed meanwhile waits for it."""
    disk = HeldDisk()

    async def script(leader: ScriptedLeader) -> None:
        await leader.bring_into_step(creations(1, 2))
        disk.hold()
        leader.stream.write(pack(PROPOSAL, *creation(3)))
        await asyncio.to_thread(disk.began.wait, 10)
        leader.stream.write(pack_transactions(PROPOSAL, creations(4, 5)))
        writer = leader.peer.history.database.txn_log
        while writer.first_waiting_zxid != zxid(4):
            await asyncio.sleep(0.001)
        leader.stream.abort()
        while leader.peer.term is not None:
            await asyncio.sleep(0.001)
        disk.let.set()
        assert (await leader.greet(2)).zxid == zxid(3)
        leader.stream.write(pack(PacketType.DIFF, zxid(3)))
        leader.send_history(creations(1, 2, 2))
        await leader.finish(2)
        expected = {*(path(counter) for counter in range(1, 4)), path(1, 2), path(2, 2)}
        assert leader.znodes == expected
        await leader.restart()
        assert (await leader.greet(3)).zxid == zxid(2, 2)
        assert leader.znodes == expected

    try:
        play(tmp_path, script, disk)
    finally:
        disk.let.set()


def test_zookeeper_4785_who_is_killed_after_its_acknowledgement_has_what_it_acknowledged(tmp_path: Path) -> None:
    async def script(leader: ScriptedLeader) -> None:
        await leader.greet()
        leader.stream.write(pack(PacketType.DIFF, zxid(10)))
        leader.send_history(creations(1, 10))
        leader.send_new_leader()
        assert await leader.hear(PacketType.ACK) == zxid(0)
        await leader.restart()
        told = await leader.greet()
        assert told.zxid == zxid(10)
        assert leader.znodes == {path(counter) for counter in range(1, 11)}

    play(tmp_path, script)


def test_zookeeper_3642_a_tree_whose_leader_dies_is_on_disk_or_was_never_there(tmp_path: Path) -> None:
    """Between SNAP and NEWLEADER; what follows is sent on top of what the member says that it has."""

    async def script(leader: ScriptedLeader) -> None:
        await leader.greet()
        tree = DataTree()
        tree.insert(b"/from-the-tree", tree.nodes[b"/zookeeper"])
        tree.last_zxid = zxid(5)
        leader.send_tree(tree)
        leader.stream.write(b"")
        await asyncio.sleep(0)
        leader.stream.abort()
        told = (await leader.greet()).zxid
        assert (b"/from-the-tree" in leader.znodes) == (told == zxid(5))
        await leader.restart()
        assert (await leader.greet()).zxid == told
        assert (b"/from-the-tree" in leader.znodes) == (told == zxid(5))

    play(tmp_path, script)


@pytest.mark.parametrize("cut_bytes", [1, 20, 100])
def test_zookeeper_3104_half_a_tree_is_none(tmp_path: Path, cut_bytes: int) -> None:
    async def script(leader: ScriptedLeader) -> None:
        await leader.bring_into_step(creations(1, 3))
        leader.stream.abort()
        await leader.greet(2)
        tree = DataTree()
        tree.last_zxid = zxid(5)
        leader.send_tree(tree, cut_bytes=cut_bytes)
        while leader.stream.unsent_bytes:
            await asyncio.sleep(0.001)
        leader.stream.abort()
        assert (await leader.greet(2)).zxid == zxid(3)
        assert leader.znodes == {path(1), path(2), path(3)}
        await leader.restart()
        assert (await leader.greet(2)).zxid == zxid(3)
        assert leader.znodes == {path(1), path(2), path(3)}

    play(tmp_path, script)


def test_zookeeper_5094_an_interrupted_truncation_leaves_memory_and_log_alike(tmp_path: Path) -> None:
    async def script(leader: ScriptedLeader) -> None:
        await leader.bring_into_step(creations(1, 6))
        leader.stream.abort()
        await leader.greet(2)
        leader.stream.write(pack(PacketType.TRUNC, zxid(4)))
        while leader.peer.history.last_zxid != zxid(4):
            await asyncio.sleep(0.001)
        leader.stream.abort()
        assert (await leader.greet(2)).zxid == zxid(4)
        # What the new leader sends on top of that leaves no gap, in memory or on disk.
        leader.stream.write(pack(PacketType.DIFF, zxid(2, 2)))
        leader.send_history(creations(1, 2, 2))
        leader.send_new_leader(2)
        assert await leader.hear(PacketType.ACK) == zxid(0, 2)
        expected = {*(path(counter) for counter in range(1, 5)), path(1, 2), path(2, 2)}
        assert leader.znodes == expected
        await leader.restart()
        assert (await leader.greet(3)).zxid == zxid(2, 2)
        assert leader.znodes == expected

    play(tmp_path, script)


def test_zookeeper_4837_an_ephemeral_that_is_cut_off_does_not_come_back_by_a_snapshot(tmp_path: Path) -> None:
    """The others have never heard of it, nor of its session: nobody would ever remove it."""
    ephemeral = CreateTxn(b"/mine", b"", [Acl(31, Id("world", "anyone"))], True, 1).to_bytes()

    async def script(leader: ScriptedLeader) -> None:
        await leader.bring_into_step(creations(1, 2))
        session = log_entry(zxid(3), OpCode.CREATE_SESSION, SESSION, CreateSessionTxn(30_000).to_bytes())
        mine = log_entry(zxid(4), OpCode.CREATE, SESSION, ephemeral)
        leader.stream.write(pack_transactions(PROPOSAL, [(zxid(3), session), (zxid(4), mine)]))
        assert [await leader.hear(PacketType.ACK) for _ in range(2)] == [zxid(3), zxid(4)]
        await leader.restart()
        assert (await leader.greet(2)).zxid == zxid(4)
        directory = leader.peer.history.database.snapshot_directory
        assert list_snapshots(directory)[-1].zxid == zxid(4)
        leader.stream.write(pack(PacketType.TRUNC, zxid(2)))
        leader.send_history(creations(1, 1, 2))
        await leader.finish(2)
        for epoch in (3, 4):
            assert leader.znodes == {path(1), path(2), path(1, 2)}
            tree = leader.peer.history.tree
            assert SESSION not in tree.sessions
            assert not tree.ephemerals
            await leader.restart()
            assert (await leader.greet(epoch)).zxid == zxid(1, 2)

    play(tmp_path, script)


def test_zookeeper_1154_1489_what_is_appended_after_a_truncation_follows_what_was_kept(tmp_path: Path) -> None:
    async def script(leader: ScriptedLeader) -> None:
        await leader.bring_into_step(creations(1, 6))
        # Logged here, and committed nowhere.
        leader.stream.write(pack_transactions(PROPOSAL, creations(7, 9)))
        assert [await leader.hear(PacketType.ACK) for _ in range(3)] == [zxid(7), zxid(8), zxid(9)]
        leader.stream.abort()
        assert (await leader.greet(2)).zxid == zxid(9)
        leader.stream.write(pack(PacketType.TRUNC, zxid(6)))
        leader.send_history(creations(1, 3, 2))
        leader.send_new_leader(2)
        assert await leader.hear(PacketType.ACK) == zxid(0, 2)
        leader.stream.write(pack_transactions(PROPOSAL, creations(4, 5, 2)))
        assert [await leader.hear(PacketType.ACK) for _ in range(2)] == [zxid(4, 2), zxid(5, 2)]
        await leader.restart()
        assert (await leader.greet(3)).zxid == zxid(5, 2)
        assert leader.znodes == {
            *(path(counter) for counter in range(1, 7)),
            *(path(counter, 2) for counter in range(1, 6)),
        }

    play(tmp_path, script)


def test_all_is_taken_back_of_who_was_the_only_one_to_have_anything(tmp_path: Path) -> None:
    """Its log begins with an epoch, and has nothing before it. A simulation found that such a member stopped."""

    async def script(leader: ScriptedLeader) -> None:
        await leader.bring_into_step(())
        leader.stream.write(pack_transactions(PROPOSAL, creations(1, 2)))
        assert [await leader.hear(PacketType.ACK) for _ in range(2)] == [zxid(1), zxid(2)]
        leader.stream.abort()
        assert (await leader.greet(2)).zxid == zxid(2)
        leader.stream.write(pack(PacketType.TRUNC, 0))
        leader.send_history(creations(1, 3, 2))
        leader.send_new_leader(2)
        assert await leader.hear(PacketType.ACK) == zxid(0, 2)
        await leader.restart()
        assert (await leader.greet(3)).zxid == zxid(3, 2)
        assert leader.znodes == {path(counter, 2) for counter in range(1, 4)}

    play(tmp_path, script)


def test_zookeeper_2355_half_a_proposal_leaves_nothing_in_memory(tmp_path: Path) -> None:
    async def script(leader: ScriptedLeader) -> None:
        await leader.bring_into_step(creations(1, 2))
        whole = pack_transactions(PROPOSAL, creations(3, 4))
        leader.stream.write(whole[:-10])
        assert await leader.hear(PacketType.ACK) == zxid(3)
        leader.stream.abort()
        assert (await leader.greet(2)).zxid == zxid(3)
        assert leader.znodes == {path(1), path(2), path(3)}
        # Nobody else has the third: the new leader takes it back.
        leader.stream.write(pack(PacketType.TRUNC, zxid(2)))
        leader.send_new_leader(2)
        assert await leader.hear(PacketType.ACK) == zxid(0, 2)
        assert leader.znodes == {path(1), path(2)}

    play(tmp_path, script)


def test_zookeeper_3701_a_truncation_that_fails_is_not_passed_over(tmp_path: Path) -> None:
    """The member stops, and says why; when there is space again it starts with what it had."""
    disk = FailingFileSystem()

    async def script(leader: ScriptedLeader) -> None:
        await leader.bring_into_step(creations(1, 6))
        leader.stream.abort()
        await leader.greet(2)
        disk.fail("truncate", lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        leader.stream.write(pack(PacketType.TRUNC, zxid(4)))
        leader.send_new_leader(2)
        await leader.peer.stopped.wait()
        assert "No space left" in str(leader.peer.failed)
        assert current_epoch(leader) == 1
        disk.failures.clear()
        await leader.restart()
        assert (await leader.greet(2)).zxid == zxid(6)

    play(tmp_path, script, disk)


def reconfiguration(counter: int, members: bytes) -> tuple[int, bytes]:
    number = zxid(counter)
    return number, log_entry(number, OpCode.RECONFIG, 0, SetDataTxn(b"/zookeeper/config", members, 1).to_bytes())


NONSENSE = {
    "a commit of nothing": pack(COMMIT, zxid(3)),
    "a proposal of nothing": pack(PROPOSAL, zxid(3)),
    "an inform of nothing": pack(INFORM, zxid(3)),
    "no transaction": pack(PROPOSAL, zxid(3), b"short"),
    "a transaction of another number": pack(PROPOSAL, zxid(3), creation(4)[1]),
    "a hole": pack(PROPOSAL, *creation(4)),
    "one once more": pack(PROPOSAL, *creation(2)),
    "one of an older epoch": pack(PROPOSAL, *creation(9, 0)),
    "one of an epoch that is not the leader's": pack(PROPOSAL, *creation(1, 999)),
    "no members": pack(PROPOSAL, *reconfiguration(3, b"\xff")),
    "members nowhere": pack(PROPOSAL, *reconfiguration(3, b"server.1=nowhere")),
    "inform and activate nothing": pack(PacketType.INFORM_AND_ACTIVATE, zxid(3), b"abc"),
    "no word": pack(99, zxid(3)),
    "a negative length": struct.pack(">iqii", PROPOSAL, zxid(3), -7, -1),
    "a length of 2 GiB": struct.pack(">iqii", PROPOSAL, zxid(3), 0x7FFFFFFF, -1),
    "a commit out of order": pack_transactions(PROPOSAL, creations(3, 4)) + pack_bare(COMMIT, [zxid(4)]),
}


@pytest.mark.parametrize("serves", [False, True], ids=["before NEWLEADER", "in step"])
def test_a_leader_that_talks_nonsense_is_left_and_nothing_of_it_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, serves: bool
) -> None:
    """The member says why, and looks for a leader again; what it had is as it was, also after a restart."""

    async def script(leader: ScriptedLeader) -> None:
        await leader.bring_into_step(creations(1, 2))
        leader.stream.abort()
        for epoch, (name, nonsense) in enumerate(NONSENSE.items(), 2):
            if serves:
                await leader.bring_into_step([], epoch)
            else:
                assert (await leader.greet(epoch)).zxid == zxid(2), name
                leader.stream.write(pack(PacketType.DIFF, zxid(2)))
            caplog.clear()
            leader.stream.write(nonsense)
            await leader.gone()
            while "is not led by 2 any more" not in caplog.text:
                await asyncio.sleep(0.001)
        told = (await leader.greet(100)).zxid
        # Proposals that were no nonsense may be in the log, as after any leader that was lost.
        assert told == zxid(2) or (told == zxid(4) and serves)
        await leader.restart()
        assert (await leader.greet(100)).zxid == told
        assert leader.znodes == {path(counter) for counter in range(1, (told & 7) + 1)}

    play(tmp_path, script)


@pytest.mark.parametrize("place", [zxid(5), zxid(4, 2), 1 << 62, -1])
def test_a_history_is_not_cut_back_to_where_it_never_was(tmp_path: Path, place: int) -> None:
    """Everything behind that would be gone for nothing."""

    async def script(leader: ScriptedLeader) -> None:
        await leader.bring_into_step([*creations(1, 4), *creations(1, 3, 2)], 2)
        leader.stream.abort()
        await leader.greet(3)
        leader.stream.write(pack(PacketType.TRUNC, place))
        await leader.gone()
        assert (await leader.greet(3)).zxid == zxid(3, 2)

    play(tmp_path, script)


def test_a_damaged_tree_is_no_reason_to_stop(tmp_path: Path) -> None:
    async def script(leader: ScriptedLeader) -> None:
        await leader.bring_into_step(creations(1, 2))
        leader.stream.abort()
        await leader.greet(2)
        tree = DataTree()
        tree.last_zxid = zxid(5)
        # A znode whose parent is not there.
        tree.nodes[b"/nowhere/child"] = tree.nodes[b"/zookeeper"]
        leader.send_tree(tree)
        await leader.gone()
        assert (await leader.greet(2)).zxid == zxid(2)
        assert leader.znodes == {path(1), path(2)}

    play(tmp_path, script)


def test_what_waits_for_a_disk_that_is_stuck_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An observer acknowledges nothing, so no leader would notice."""
    monkeypatch.setattr(learning, "_UNSYNCED_MAX_BYTES", 1000)
    disk = HeldDisk()

    async def script(leader: ScriptedLeader) -> None:
        await leader.bring_into_step(creations(1, 2))
        disk.began.clear()
        disk.let.clear()
        leader.stream.write(pack(INFORM, *creation(3)))
        await asyncio.to_thread(disk.began.wait, 10)
        leader.stream.write(pack_transactions(INFORM, creations(4, 20)))
        await leader.gone()
        assert "bytes wait for this server's disk" in caplog.text
        disk.let.set()
        # What was applied is in the log, and the rest comes from the next leader.
        assert zxid(3) <= (await leader.greet(2)).zxid <= zxid(20)

    try:
        play(tmp_path, script, disk)
    finally:
        disk.let.set()


def test_data_of_another_ensemble_are_noticed_by_their_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its zxids happen to fit, so the leader sends no more than what comes next."""
    monkeypatch.setattr(serving, "STRANGE_MAX", 3)

    async def script(leader: ScriptedLeader) -> None:
        await leader.bring_into_step(creations(1, 2))
        for counter in range(3, 7):
            number, entry = creation(counter)
            sent = (number, entry + TxnDigest(2, 12345).to_bytes())
            leader.stream.write(pack(PROPOSAL, *sent) + pack(COMMIT, number))
            assert await leader.hear(PacketType.ACK) == number
        while "3 transactions, and the tree's digest is not the leader's" not in caplog.text:
            await asyncio.sleep(0.001)
        assert caplog.text.count("it may be another's") == 1

    play(tmp_path, script)


def test_an_observer_that_hears_that_it_is_to_vote_comes_again_as_a_follower(tmp_path: Path) -> None:
    """The leader, which has not begun to serve, may wait for its vote; then an observer's word would not count."""

    async def script(leader: ScriptedLeader) -> None:
        lines = leader.ensemble.members
        leader.peer.elector.election.committed = Ensemble({**lines, 1: lines[1]._replace(is_participant=False)})
        leader.ensemble = replace(leader.ensemble, version=1)
        leader.part = Role.OBSERVING
        observing = await leader.arrive()
        assert (await observing.read()).type == PacketType.OBSERVER_INFO
        observing.write(pack(PacketType.LEADER_INFO, 1 << 32, PROTOCOL_VERSION.to_bytes(4, "big")))
        assert (await observing.read()).type == PacketType.ACK_EPOCH
        leader.part = Role.FOLLOWING
        observing.write(
            pack(PacketType.DIFF, 0) + pack(PacketType.NEW_LEADER, 1 << 32, leader.ensemble.to_text().encode())
        )
        with pytest.raises((EOFError, OSError)):
            await observing.read()
        await leader.bring_into_step(creations(1, 3))
        assert leader.znodes == {path(1), path(2), path(3)}
        assert 1 in leader.peer.elector.election.committed.voters

    play(tmp_path, script)
