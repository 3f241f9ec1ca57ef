"""Members that come and go while the ensemble serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.e2e.test_quorum_peers import Members, client, members

import corral
from corral.client import Client
from corral.quorum.ensemble import Ensemble, parse_ensemble
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
