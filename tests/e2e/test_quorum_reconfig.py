"""Members that come and go while the ensemble serves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.test_quorum_peers import Members, client, members

import corral
from corral.client import Client
from corral.quorum.ensemble import Ensemble, parse_ensemble
from corral.quorum.leader import Leader
from corral.quorum.vote import Role

SETTINGS = {"reconfigEnabled": "true", "skipACL": "yes"}


def line(them: Members, sid: int, role: str = "participant") -> str:
    address = them.everybody.members[sid].addresses[0]
    place = f"{address.host}:{address.quorum_port}:{address.election_port}"
    return f"server.{sid}={place}:{role};127.0.0.1:{them.ports[sid]}"


def only(them: Members, *sids: int) -> None:
    """Let the ensemble begin with some of the members that there are places for."""
    them.ensemble = Ensemble({sid: them.everybody.members[sid] for sid in sids})


async def voters(zk: Client) -> set[int]:
    await zk.sync()
    return set(parse_ensemble((await zk.get_config()).data.decode()).voters)


async def start_joining(them: Members, sid: int) -> None:
    """Start one that knows the members and itself."""
    before = them.ensemble
    them.ensemble = Ensemble({**before.members, sid: them.everybody.members[sid]})
    await them.start(sid)
    them.ensemble = before


def test_members_are_shown(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, 0, **SETTINGS) as them:
            await them.start(1, 2, 3)
            async with client(them.hosts()) as zk:
                shown = parse_ensemble((await zk.get_config()).data.decode())
                assert shown.voters == {1, 2, 3}
                assert shown.version == 1 << 32

    asyncio.run(main())


def test_one_joins_and_one_leaves(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 4, 0, **SETTINGS) as them:
            only(them, 1, 2, 3)
            await them.start(1, 2, 3)
            await them.serving()
            async with client(them.hosts()) as zk:
                seen: asyncio.Future[corral.WatchEvent] = asyncio.get_running_loop().create_future()
                await zk.get_config(watch=seen.set_result)
                await start_joining(them, 4)
                while them.peers[4].server is None:
                    await asyncio.sleep(0.01)
                changed = await zk.reconfig(joining=[line(them, 4)])
                assert parse_ensemble(changed.data.decode()).voters == {1, 2, 3, 4}
                assert (await seen).kind is corral.EventKind.DATA_CHANGED
                assert await voters(zk) == {1, 2, 3, 4}
                # Four need three: the new one counts.
                gone = next(sid for sid in (1, 2, 3) if them.peers[sid].role is Role.FOLLOWING)
                await them.stop(gone)
                await zk.persist(lambda: zk.ensure("/with-the-new-one"))
                await them.start(gone)
                await zk.reconfig(leaving=[str(gone)])
                assert await voters(zk) == {1, 2, 3, 4} - {gone}

    asyncio.run(main())


def test_the_leader_itself_leaves(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, 0, **SETTINGS) as them:
            await them.start(1, 2, 3)
            await them.serving()
            async with client(them.hosts()) as zk:
                await zk.create("/before")
                leader = await them.leader()
                await zk.persist(lambda: change(zk, leader))
                await zk.persist(lambda: zk.set("/before", b"after"))
                assert await voters(zk) == {1, 2, 3} - {leader}
                while await them.leader() == leader:
                    await asyncio.sleep(0.01)

    async def change(zk: Client, leader: int) -> None:
        if leader in await voters(zk):
            await zk.reconfig(leaving=[str(leader)])

    asyncio.run(main())


def test_an_observer_becomes_a_voter(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, 1, **SETTINGS) as them:
            await them.start(1, 2, 3, 4)
            await them.serving()
            async with client(them.hosts(1, 2, 3)) as zk:
                while them.peers[4].server is None:
                    await asyncio.sleep(0.01)
                await zk.reconfig(joining=[line(them, 4)])
                assert await voters(zk) == {1, 2, 3, 4}
                while them.peers[4].role is not Role.FOLLOWING or them.peers[4].server is None:
                    await asyncio.sleep(0.01)
                await zk.reconfig(joining=[line(them, 4, "observer")])
                assert await voters(zk) == {1, 2, 3}

    asyncio.run(main())


def test_what_makes_no_sense_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 4, 0, **SETTINGS) as them:
            only(them, 1, 2, 3)
            await them.start(1, 2, 3)
            async with client(them.hosts()) as zk:
                before = await zk.get_config()
                with pytest.raises(corral.BadArgumentsError):
                    await zk.reconfig(joining=["server.4=nonsense"])
                with pytest.raises(corral.BadArgumentsError):
                    await zk.reconfig(joining=["server.4=127.0.0.1:1:2:participant"])
                with pytest.raises(corral.BadArgumentsError):
                    await zk.reconfig(leaving=["1", "2"])
                with pytest.raises(corral.BadVersionError):
                    await zk.reconfig(leaving=["1"], from_version=7)
                with pytest.raises(corral.NewConfigNoQuorumError):
                    # Nobody of these is there but the leader, perhaps.
                    await zk.reconfig(members=[line(them, 4), line(them, 1).replace("server.1", "server.9")])
                assert await zk.get_config() == before

    asyncio.run(main())


def test_it_is_off_by_default(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path) as them:
            await them.start(1, 2, 3)
            async with client(them.hosts()) as zk:
                with pytest.raises(corral.ReconfigDisabledError):
                    await zk.reconfig(leaving=["1"])
                assert parse_ensemble((await zk.get_config()).data.decode()).voters == {1, 2, 3}

    asyncio.run(main())


def test_everybody_remembers_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, 0, **SETTINGS) as them:
            await them.start(1, 2, 3)
            await them.serving()
            async with client(them.hosts()) as zk:
                gone = next(sid for sid in (1, 2, 3) if sid in them.peers and them.peers[sid].role is Role.FOLLOWING)
                await zk.reconfig(leaving=[str(gone)])
            await them.stop(1, 2, 3)
            left = sorted({1, 2, 3} - {gone})
            # The configuration that they are started with still names all three.
            await them.start(*left)
            async with client(them.hosts(*left)) as zk:
                assert await voters(zk) == set(left)

    asyncio.run(main())


def test_one_change_at_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 5, 0, **SETTINGS) as them:
            await them.start(1, 2, 3, 4, 5)
            await them.serving()
            async with client(them.hosts(await them.leader())) as zk:
                both = await asyncio.gather(
                    zk.reconfig(leaving=["1"]), zk.reconfig(leaving=["2"]), return_exceptions=True
                )
                assert isinstance(both[0], corral.Znode)
                assert isinstance(both[1], corral.ReconfigInProgressError)
                await zk.reconfig(leaving=["2"])
                assert await voters(zk) == {3, 4, 5}

    asyncio.run(main())


def test_who_may_change_the_members(tmp_path: Path) -> None:
    async def main() -> None:
        digest = "super:xQJmxLMiHGwaqBvst5y6rkB6HQs="
        settings = {"reconfigEnabled": "true", "DigestAuthenticationProvider.superDigest": digest}
        async with members(tmp_path, 4, 0, **settings) as them:
            await them.start(1, 2, 3, 4)
            await them.serving()
            async with client(them.hosts()) as zk, client(them.hosts()) as anybody:
                with pytest.raises(corral.NoAuthError):
                    await anybody.reconfig(leaving=["1"])
                await zk.add_auth("digest", b"super:admin")
                await zk.reconfig(leaving=["1"])
                with pytest.raises(corral.NoAuthError):
                    await anybody.reconfig(leaving=["2"])
                await zk.set_acl("/zookeeper/config", [corral.Acl("world", "anyone", "rw")])
                await anybody.sync()
                await anybody.reconfig(leaving=["2"])
                assert await voters(anybody) == {3, 4}

    asyncio.run(main())


def test_an_observer_does_not_make_the_quorum_of_new_members(tmp_path: Path) -> None:
    """It gets no proposals: a change that needed its word would stand still, and everything with it."""

    async def main() -> None:
        async with members(tmp_path, 4, 1, **SETTINGS) as them:
            only(them, 1, 2, 3, 5)
            await them.start(1, 2, 3, 5)
            await them.serving()
            async with client(them.hosts(1, 2, 3)) as zk:
                lines = [line(them, sid) for sid in (await them.leader(), 4, 5)]
                with pytest.raises(corral.NewConfigNoQuorumError):
                    await zk.reconfig(members=lines)
                await zk.create("/goes-on")

    asyncio.run(main())


def test_a_change_that_waits_for_a_lost_voter_is_agreed_to_when_another_leader_is_elected(tmp_path: Path) -> None:
    """An observer is to be a voter, and a voter goes as that is proposed: of four only two could agree to it."""

    async def main() -> None:
        async with members(tmp_path, 3, 1, **SETTINGS) as them:
            await them.start(1, 2, 3, 4)
            await them.serving()
            leader = await them.leader()
            lost, left = {1, 2, 3} - {leader}
            term, elector = them.peers[leader].term, them.peers[leader].elector
            assert isinstance(term, Leader)
            broadcast: Any = term._broadcast
            stopping: list[asyncio.Task[None]] = []

            def lose(ensemble: Ensemble) -> None:
                elector.propose(ensemble)
                term.learners[lost].stream.abort()
                stopping.append(asyncio.ensure_future(them.stop(lost)))

            async with client(them.hosts(left)) as zk:
                broadcast._propose = lose
                change = asyncio.ensure_future(zk.reconfig(joining=[line(them, 4)]))
                while not stopping or not stopping[0].done():
                    await asyncio.sleep(0.01)
                done, _ = await asyncio.wait([change], timeout=0.5)
                assert not done
                await them.stop(leader)
                await them.start(leader)
                await asyncio.wait([change])
                change.exception()
                while await zk.persist(lambda: voters(zk)) != {1, 2, 3, 4}:
                    await asyncio.sleep(0.01)
                await zk.persist(lambda: zk.ensure("/without-the-lost-one"))

    asyncio.run(main())


def test_groups_are_changed_as_a_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 4, 0, **SETTINGS) as them:
            await them.start(1, 2, 3, 4)
            await them.serving()
            async with client(them.hosts()) as zk:
                lines = [line(them, sid) for sid in (1, 2, 3, 4)]
                await zk.reconfig(members=[*lines, "group.1=1:2:3", "group.2=4", "weight.4=0"])
                with pytest.raises(corral.BadArgumentsError):
                    await zk.reconfig(leaving=["4"])
                with pytest.raises(corral.BadArgumentsError):
                    await zk.reconfig(joining=lines[:1])
                # A group without weight does not count.
                await them.stop(4)
                await zk.persist(lambda: zk.ensure("/with-one-group"))
                await zk.persist(lambda: zk.reconfig(members=lines[:3]))
                assert await voters(zk) == {1, 2, 3}

    asyncio.run(main())


def test_all_members_are_replaced_under_load(tmp_path: Path) -> None:
    """Three become five, and then the other three; what is acknowledged stays."""

    async def main() -> None:
        acknowledged: set[str] = set()
        finished = asyncio.Event()

        async def write(zk: Client, writer: int) -> None:
            number = 0
            while not finished.is_set():
                number += 1
                try:
                    acknowledged.add(await zk.create(f"/w/{writer}-{number}", b"x" * 50))
                except corral.ConnectionLoss:
                    continue

        async def change(zk: Client, wanted: set[int], joining: Sequence[int], leaving: Sequence[int]) -> None:
            async def once() -> None:
                if await voters(zk) != wanted:
                    await zk.reconfig(
                        joining=[line(them, sid) for sid in joining], leaving=[str(sid) for sid in leaving]
                    )

            await zk.persist(once)
            # The next ones leave when these are in step.
            while any(them.peers[sid].server is None for sid in wanted):
                await asyncio.sleep(0.01)

        async with members(tmp_path, 5, 0, **SETTINGS) as them:
            only(them, 1, 2, 3)
            await them.start(1, 2, 3)
            await them.serving()
            async with client(them.hosts()) as zk:
                await zk.create("/w")
                writing = [asyncio.create_task(write(zk, writer)) for writer in range(8)]
                await start_joining(them, 4)
                await start_joining(them, 5)
                await change(zk, {1, 2, 3, 4, 5}, (4, 5), ())
                for gone in (1, 2):
                    count = len(acknowledged)
                    await change(zk, {3, 4, 5} | ({2} if gone == 1 else set()), (), (gone,))
                    await them.stop(gone)
                    while len(acknowledged) < count + 50:
                        await asyncio.sleep(0.01)
                finished.set()
                await asyncio.gather(*writing)
                await zk.sync()
                assert await voters(zk) == {3, 4, 5}
                assert {f"/w/{name}" for name in await zk.get_children("/w")} >= acknowledged
                assert len(acknowledged) > 100
            # Any two of the three that are left have it all.
            await them.stop(await them.leader())
            async with client(them.hosts(3, 4, 5)) as zk:
                assert {f"/w/{name}" for name in await zk.get_children("/w")} >= acknowledged

    asyncio.run(main())


def test_other_servers_in_the_configuration_count_more_than_the_record(tmp_path: Path) -> None:
    """Somebody has stopped all, and written other servers into every configuration."""

    async def main() -> None:
        async with members(tmp_path, 4, 0, **SETTINGS) as them:
            only(them, 1, 2, 3)
            await them.start(1, 2, 3)
            await them.serving()
            async with client(them.hosts()) as zk:
                await zk.create("/kept")
                await zk.reconfig(members=[line(them, sid) for sid in (2, 3)])
            await them.stop(1, 2, 3)
            only(them, 1, 3, 4)
            await them.start(1, 3, 4)
            async with client(them.hosts(1, 3, 4)) as zk:
                assert await voters(zk) == {1, 3, 4}
                assert await zk.exists("/kept") is not None

    asyncio.run(main())
