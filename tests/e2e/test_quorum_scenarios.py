"""Who leads, and who is enough, with real members: the scenarios by which elections and quorums are explained."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.e2e.test_quorum_peers import Members, client, members

import corral
from corral.quorum.election_links import ElectionLinks
from corral.quorum.vote import Notification, Role, Vote, decode_notification
from corral.server.config.membership import PeerAddress

COUNTER = 0xFFFFFFFF
"""The part of a zxid that counts in its epoch."""


async def led_by(them: Members) -> dict[int, int]:
    """Whom each running member follows, once all of them serve."""
    await them.serving()
    return {sid: peer.elector.election.vote.leader for sid, peer in them.peers.items()}


async def written(them: Members, sid: int) -> None:
    """Wait until all that a member has been told to log is in its log."""
    database = them.peers[sid].history.database
    while database.txn_log.first_waiting_zxid is not None or not database._is_idle.is_set():
        await asyncio.sleep(0.005)


async def until_nobody_serves(them: Members) -> None:
    while any(peer.server is not None for peer in them.peers.values()):
        await asyncio.sleep(0.005)


def roles(them: Members) -> set[Role]:
    """What the running members are."""
    return {peer.role for peer in them.peers.values()}


def test_first_start_of_five_one_by_one(tmp_path: Path) -> None:
    """Two are no quorum; with the third, the largest of them leads; who comes later follows, however large."""

    async def main() -> None:
        async with members(tmp_path, 5) as them:
            await them.start(1)
            await them.start(2)
            while them.peers[1].elector.election.vote.leader != 2:
                await asyncio.sleep(0.005)
            assert roles(them) == {Role.LOOKING}
            await them.start(3)
            assert await led_by(them) == dict.fromkeys((1, 2, 3), 3)
            for sid in (4, 5):
                await them.start(sid)
                assert await led_by(them) == dict.fromkeys(them.peers, 3)
                assert them.peers[sid].role is Role.FOLLOWING
            assert them.peers[3].history.current_epoch == 1

    asyncio.run(main())


def test_later_start_the_longest_log_leads_and_then_the_largest_number(tmp_path: Path) -> None:
    """Zxids 8, 8, 8, 7, 7; the leader 3 and 5 are lost: of the others 2 leads, though 4 is larger."""

    async def main() -> None:
        async with members(tmp_path, 5) as them:
            await them.start(3, 1, 2)
            assert await them.leader() == 3
            await them.start(4, 5)
            await led_by(them)
            async with client(them.hosts(1)) as zk:
                # The session is the first transaction of the epoch.
                for number in range(2, 8):
                    await zk.create(f"/{number}")
                await them.trees()
                for sid in (4, 5):
                    # What a quorum has is applied at once, and may still be on its way to this disk.
                    await written(them, sid)
                await them.stop(4, 5)
                await zk.create("/8")
                await them.trees()
                counters = {peer.history.last_zxid & COUNTER for peer in them.peers.values()}
                assert counters == {8}
                await them.stop(3)
                await them.start(4)
                assert them.peers[4].history.last_zxid & COUNTER == 7
                assert await led_by(them) == dict.fromkeys((1, 2, 4), 2)
                await zk.persist(zk.sync)
                assert b"/8" in them.peers[4].history.tree.nodes

    asyncio.run(main())


def test_vote_of_an_older_round_is_answered_and_not_counted(tmp_path: Path) -> None:
    """Somebody whom we play votes for server 1 in a round that is over, and then in the one that is on."""

    async def main() -> None:
        answers: asyncio.Queue[Notification] = asyncio.Queue()
        async with members(tmp_path, 2) as them:
            place = them.ensemble.members[2].addresses[0]
            links = ElectionLinks(
                2,
                [place],
                lambda to: them.ensemble.members[to].addresses,
                lambda _, message: answers.put_nowait(decode_notification(message)),
            )
            await links.listen(place.host, place.election_port)
            try:
                await them.start(1)
                election = them.peers[1].elector.election
                first = await answers.get()
                assert first.vote == election.vote == Vote(1, 0, 1, 0)
                links.send(1, Notification(Role.LOOKING, Vote(1, 0, 0, 0)).encode())
                answered = await answers.get()
                assert answered.vote.round == 1
                # Both have spoken: had it been counted, there would be a leader at once.
                assert roles(them) == {Role.LOOKING}
                links.send(1, Notification(Role.LOOKING, Vote(1, 0, 1, 0)).encode())
                while roles(them) != {Role.LEADING}:
                    await asyncio.sleep(0.005)
            finally:
                await links.close()

    asyncio.run(main())


def grouped(them: Members, groups: Mapping[int, set[int]], weights: Mapping[int, int] | None = None) -> None:
    """Give the ensemble, before it is started, groups and weights."""
    frozen = {gid: frozenset(group) for gid, group in groups.items()}
    them.ensemble = dataclasses.replace(them.ensemble, groups=frozen, weights=weights or {})


def test_majority_in_a_majority_of_groups(tmp_path: Path) -> None:
    """Four of nine are enough if they are the right ones; six are not if those are the wrong ones."""

    async def main() -> None:
        async with members(tmp_path, 9) as them:
            grouped(them, {1: {1, 2, 3}, 2: {4, 5, 6}, 3: {7, 8, 9}})
            await them.start(1, 2, 4, 5)
            assert await led_by(them) == dict.fromkeys((1, 2, 4, 5), 5)
            async with client(them.hosts(1, 4)) as zk:
                await zk.create("/by-four")
                await them.stop(2)
                await until_nobody_serves(them)
                # One in the first and the third group, three in the second.
                await them.start(6, 7)
                assert not them.ensemble.is_quorum(them.peers)
                assert roles(them) == {Role.LOOKING}
                await them.start(8)
                # Now there are two of the third.
                await led_by(them)
                await zk.persist(lambda: zk.create("/by-six"))
                assert await zk.exists("/by-four") is not None

    asyncio.run(main())


def test_weights_decide(tmp_path: Path) -> None:
    """One that weighs three serves alone; two that weigh one each do not; who weighs nothing never leads."""

    async def main() -> None:
        async with members(tmp_path, 4) as them:
            grouped(them, {1: {1, 2, 3, 4}}, {1: 3, 2: 1, 3: 1, 4: 0})
            await them.start(4, 3, 2)
            await them.start(1)
            leaders = await led_by(them)
            assert set(leaders.values()) <= {1, 2, 3}
            async with client(them.hosts(1)) as zk:
                await zk.create("/by-all")
                await them.trees()
                await them.stop(2, 3, 4)
                await zk.persist(lambda: zk.ensure("/by-one"))
                await them.start(2, 3, 4)
                await led_by(them)
                await them.trees()
                await them.stop(1)
                await until_nobody_serves(them)

    asyncio.run(main())


def test_leader_that_takes_no_clients(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, leaderServes="no") as them:
            await them.start(1, 2, 3)
            leader = await them.leader()
            await led_by(them)
            async with client(them.hosts()) as zk, client(them.hosts()) as other:
                await zk.create("/a")
                await other.sync()
                assert await other.exists("/a") is not None
                served = [sid for sid, peer in them.peers.items() for _ in peer.connections]
                assert len(served) == 2
                assert leader not in served
            with pytest.raises(corral.ConnectionLoss):
                async with corral.connect(them.hosts(leader), connect_timeout=0.2):
                    pass

    asyncio.run(main())


def test_member_that_has_moved_is_found_where_it_says_that_it_is() -> None:
    """A member announces in its greeting where it listens, and is called back there."""

    async def main() -> None:
        arrived: asyncio.Queue[bytes] = asyncio.Queue()
        places: dict[int, PeerAddress] = {}
        links: dict[int, ElectionLinks] = {}
        # Who looks for server 1 in the configuration finds nobody there.
        nobody = PeerAddress("127.0.0.1", 1, 1)
        for sid in (1, 2):
            server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
            places[sid] = PeerAddress("127.0.0.1", 0, server.sockets[0].getsockname()[1])
            server.close()
            await server.wait_closed()
            links[sid] = ElectionLinks(
                sid,
                [places[sid]],
                lambda to: [places[2] if to == 2 else nobody],
                lambda _, message: arrived.put_nowait(message),
            )
            await links[sid].listen("127.0.0.1", places[sid].election_port)
        try:
            links[1].send(2, b"from the smaller one")
            assert await arrived.get() == b"from the smaller one"
        finally:
            for each in links.values():
                await each.close()

    asyncio.run(main())
