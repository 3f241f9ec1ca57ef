"""What a leader teaches others, and what becomes of a leader's own: failures of Apache's server, by their numbers.

The learners are played by the test, and before that the leader from which the member has its history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.e2e import raw
from tests.scripted_leader import ScriptedLeader, creation, creations, path, scripted_leader, zxid
from tests.scripted_learners import ScriptedLearner, Taught, connect
from tests.trees import Grower

from corral.jute.ops import OpCode
from corral.quorum.packets import INFORM, PROPOSAL, PacketType, pack, pack_transactions
from corral.quorum.vote import Role
from corral.tree.datatree import DataTree


def play(directory: Path, script: Callable[[ScriptedLeader], Awaitable[None]]) -> None:
    async def main() -> None:
        async with scripted_leader(directory) as leader:
            await script(leader)

    asyncio.run(main())


async def teach(member: ScriptedLeader, sid: int, zxid: int, epoch: int) -> tuple[ScriptedLearner, Taught]:
    """Let the member lead, if it does not yet, and teach a learner whose history goes so far."""
    member.part = Role.LEADING
    # It has no leader any more.
    member.stream.abort()
    learner = await connect(member.ensemble, sid)
    await learner.greet(epoch)
    learner.promise(zxid, epoch)
    return learner, await learner.take_history()


def tree_of(counters: range, epoch: int = 1) -> DataTree:
    """Large enough that some transactions are worth sending instead."""
    grower = Grower(DataTree())
    for counter in counters:
        grower.tree.last_zxid = zxid(counter, epoch) - 1
        grower.create(path(counter, epoch), bytes(2000))
    return grower.tree


def zxids(first: int, last: int, epoch: int = 1) -> list[int]:
    return [zxid(counter, epoch) for counter in range(first, last + 1)]


def test_zookeeper_2845_what_a_leader_logged_alone_does_not_come_back(tmp_path: Path) -> None:
    """It loses its quorum, and follows another leader with the memory that it has: that must show what its log has."""

    async def script(member: ScriptedLeader) -> None:
        await member.bring_into_step(creations(1, 3))
        learner, _ = await teach(member, 2, zxid(3), 1)
        await learner.finish()
        session = await learner.open_session()
        learner.ask(OpCode.CREATE, raw.create(b"/alone"))
        alone = (await learner.hear(PacketType.PROPOSAL)).zxid
        member.depose()
        learner.stream.abort()
        told = (await member.greet(3)).zxid
        # As any leader that does not have it.
        way = pack(PacketType.TRUNC, session) if told >= alone else pack(PacketType.DIFF, session)
        member.stream.write(way)
        member.send_history(creations(1, 2, 3))
        await member.finish(3)
        expected = {*(path(counter) for counter in range(1, 4)), path(1, 3), path(2, 3)}
        assert member.znodes == expected
        await member.restart()
        assert (await member.greet(4)).zxid == zxid(2, 3)
        assert member.znodes == expected

    play(tmp_path, script)


def test_zookeeper_4925_what_came_while_it_was_brought_into_step_is_taught_as_well(tmp_path: Path) -> None:
    async def script(member: ScriptedLeader) -> None:
        await member.bring_into_step([])
        await member.commit(creations(1, 3))
        member.stream.abort()
        await member.bring_into_step(creations(4, 6), 2)
        await member.commit(creations(1, 2, 2))
        learner, taught = await teach(member, 2, zxid(2), 1)
        learner.stream.abort()
        assert taught.type is PacketType.DIFF
        assert taught.transactions == [*zxids(3, 6), *zxids(1, 2, 2)]

    play(tmp_path, script)


def test_zookeeper_2846_a_log_that_was_left_for_a_tree_is_taught_to_nobody(tmp_path: Path) -> None:
    """It ends with what nobody else has, and lacks what was in the tree."""

    async def script(member: ScriptedLeader) -> None:
        await member.bring_into_step(creations(1, 4))
        member.stream.write(pack_transactions(PROPOSAL, creations(5, 6)))
        assert [await member.hear(PacketType.ACK) for _ in range(2)] == zxids(5, 6)
        member.stream.abort()
        assert (await member.greet(2)).zxid == zxid(6)
        member.send_tree(tree_of(range(1, 4), 2))
        await member.finish(2)
        member.stream.abort()
        # With an epoch's first transaction no log shows that something is missing before it.
        await member.bring_into_step(creations(1, 2, 3), 3)
        await member.restart()
        await member.greet(4)
        assert member.znodes == {path(counter, 2) for counter in range(1, 4)} | {path(1, 3), path(2, 3)}
        learner, taught = await teach(member, 2, zxid(4), 1)
        learner.stream.abort()
        assert taught.znodes_of(zxids(1, 4)) == member.znodes

    play(tmp_path, script)


def test_zookeeper_4352_a_newcomer_gets_what_is_older_than_memory(tmp_path: Path) -> None:
    """What is in memory of the history begins behind the tree from the leader; as told to observers, too."""

    async def script(member: ScriptedLeader) -> None:
        await member.greet()
        member.send_tree(tree_of(range(1, 6)))
        await member.finish()
        member.stream.write(pack_transactions(INFORM, creations(6, 7)))
        assert [await member.hear(PacketType.ACK) for _ in range(2)] == zxids(6, 7)
        await member.commit([creation(8)])
        assert member.znodes == {path(counter) for counter in range(1, 9)}
        learner, taught = await teach(member, 2, 0, 0)
        learner.stream.abort()
        assert taught.znodes_of([]) == member.znodes

    play(tmp_path, script)


def test_zookeeper_1154_what_a_learner_alone_has_of_an_older_epoch_is_taken_back(tmp_path: Path) -> None:
    """It was away when the leader was elected, and its log goes on where the leader's goes on otherwise."""

    async def script(member: ScriptedLeader) -> None:
        await member.bring_into_step(creations(1, 3))
        learner, _ = await teach(member, 2, zxid(3), 1)
        await learner.finish()
        await learner.open_session()
        late, taught = await teach(member, 3, zxid(4), 1)
        late.stream.abort()
        learner.stream.abort()
        assert path(4) not in taught.znodes_of(zxids(1, 4))
        assert member.znodes <= taught.znodes_of(zxids(1, 4))

    play(tmp_path, script)
