"""Electors on real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tests.interop.peers import free_port

from corral.quorum.election_links import ElectionLinks
from corral.quorum.elector import Elector
from corral.quorum.ensemble import Ensemble, parse_ensemble
from corral.quorum.vote import Notification, Role, Vote, decode_notification
from corral.server.config import QuorumConfig

PATIENCE_S = 20
NO_FILES: Any = SimpleNamespace(propose=lambda *_: None, commit=lambda *_: None, withdraw=lambda: None)
"""Of a member that writes its configurations down, for one that has nowhere to."""


def free_ports(number: int) -> list[int]:
    """So many different ones that no client is given meanwhile: members that are down are called again and again."""
    ports: dict[int, None] = {}
    while len(ports) < number:
        ports[free_port()] = None
    return list(ports)


def ensemble_on_free_ports(number: int, observers: int = 0) -> Ensemble:
    """Voters have the lower ids."""
    voters, number = number, number + observers
    ports = free_ports(2 * number)
    lines = [
        f"server.{n + 1}=127.0.0.1:{ports[2 * n]}:{ports[2 * n + 1]}:{'participant' if n < voters else 'observer'}"
        for n in range(number)
    ]
    return parse_ensemble("\n".join(lines))


async def started(ensemble: Ensemble, *sids: int) -> list[Elector]:
    electors = [Elector(sid, ensemble) for sid in sids]
    for each in electors:
        await each.start()
    return electors


def test_three_elect_and_a_late_one_joins() -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            ensemble = ensemble_on_free_ports(3)
            first, second = await started(ensemble, 1, 2)
            results = await asyncio.gather(first.elect(0, 0), second.elect(0, 0))
            assert [each.role for each in results] == [Role.FOLLOWING, Role.LEADING]
            (third,) = await started(ensemble, 3)
            late = await third.elect(9 << 32, 0)
            assert (late.role, late.vote.leader) == (Role.FOLLOWING, 2)
            for each in (first, second, third):
                await each.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_again_and_again_after_the_leader_has_gone() -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            ensemble = ensemble_on_free_ports(3)
            electors = dict(zip((1, 2, 3), await started(ensemble, 1, 2, 3), strict=True))
            results = await asyncio.gather(*[each.elect(7, 1) for each in electors.values()])
            assert {each.vote.leader for each in results} == {3}
            for gone, left in ((3, (1, 2)), (2, (1, 3))):
                await electors[gone].close()
                results = await asyncio.gather(*[electors[sid].elect(7, 1) for sid in left])
                assert {each.vote.leader for each in results} == {max(left)}
                (electors[gone],) = await started(ensemble, gone)
                back = await electors[gone].elect(7, 1)
                assert back.vote.leader == max(left)
            for each in electors.values():
                await each.close()

    asyncio.run(main())


def test_one_that_does_not_run_is_not_waited_for() -> None:
    """Its machine refuses the connection."""

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            electors = await started(ensemble_on_free_ports(3), 1, 2)
            for each in electors:
                each.election.serving(1)
                each.election._finalize_s = 1000.0
            results = await asyncio.gather(*[each.elect(0, 0) for each in electors])
            assert {each.vote.leader for each in results} == {2}
            for each in electors:
                await each.close()

    asyncio.run(main())


def test_late_one_is_found_before_it_is_asked_again() -> None:
    """After a long time without a leader others are asked once a minute; whoever can be reached again hears at once."""

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            ensemble = ensemble_on_free_ports(2)
            elector = Elector(2, ensemble, QuorumConfig(first_notification_interval_ms=60_000))
            await elector.start()
            electing = asyncio.create_task(elector.elect(0, 0))
            while elector.links._dialling or not elector.links._newest:
                await asyncio.sleep(0.01)
            heard = asyncio.get_running_loop().create_future()
            place = ensemble.members[1].addresses[0]
            late = ElectionLinks(1, [place], elector.addresses, lambda *message: heard.set_result(message))
            await late.listen(place.host, place.election_port)
            sender, message = await heard
            assert sender == 2
            assert decode_notification(message).role is Role.LOOKING
            electing.cancel()
            await late.close()
            await elector.close()

    asyncio.run(main())


def test_who_missed_that_another_is_to_join_elects_it_all_the_same() -> None:
    """Server 3 is to vote and has the longest log; 1 is lost. Without the vote of 4, which was away, nobody can lead.

    What it is told it believes for this election only: a change that came to nothing must not need its quorum later.
    """

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            everybody = replace(ensemble_on_free_ports(4), version=2)
            before = replace(
                everybody, version=1, members={sid: each for sid, each in everybody.members.items() if sid != 3}
            )
            electors = {sid: Elector(sid, everybody, files=NO_FILES) for sid in (2, 3, 4)}
            for sid, each in electors.items():
                each.election.committed = before
                each.election.last_seen = None if sid == 4 else everybody
                await each.start()
            results = await asyncio.gather(*[each.elect(7 + (sid == 3), 1) for sid, each in electors.items()])
            assert {each.vote.leader for each in results} == {3}
            assert electors[4].addresses(3) == everybody.members[3].addresses
            assert electors[4].election.last_seen is None
            electors[4].follow(before)
            assert electors[4].addresses(3) == ()
            for each in electors.values():
                await each.close()

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such limit")
def test_connection_that_takes_nothing_any_more_ends() -> None:
    """Or what is said after a network has healed would wait for the system's next attempt, minutes later."""

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            ensemble = ensemble_on_free_ports(2)
            electors = [Elector(sid, ensemble, hello_timeout_s=3) for sid in (1, 2)]
            for each in electors:
                await each.start()
            await asyncio.gather(*[each.elect(0, 0) for each in electors])
            connections = [link.get_extra_info("socket") for each in electors for link in each.links._links.values()]
            limits = [each.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) for each in connections]
            for each in electors:
                await each.close()
            assert limits == [3000, 3000]

    asyncio.run(main())


def test_desertion_is_remembered_until_the_next_election() -> None:
    """It may come before anybody is told of the election itself."""

    def looking(leader: int, round_number: int) -> bytes:
        return Notification(Role.LOOKING, Vote(leader, 0, round_number, 0)).encode()

    async def main() -> None:
        elector = Elector(2, ensemble_on_free_ports(3))
        await elector.start()
        try:
            electing = asyncio.create_task(elector.elect(0, 0))
            await asyncio.sleep(0)
            elector.links._received(1, looking(2, 1))
            while elector.election.role is Role.LOOKING:
                await asyncio.sleep(0.005)
            elector.links._received(1, looking(3, 1))
            told = [elector.is_deserted]
            assert (await electing).role is Role.LEADING
            again = asyncio.create_task(elector.elect(0, 0))
            await asyncio.sleep(0)
            told.append(elector.is_deserted)
            again.cancel()
            assert told == [True, False]
        finally:
            await elector.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        struct.pack(">q", -1),
        struct.pack(">qqi", -65536, 2, 1 << 30),
        struct.pack(">qqi", -65536, 2, 7) + b"nowhere",
        struct.pack(">qqi", -65536, 1, 6) + b"host:1",
        struct.pack(">qqi", -65536, 3, 6) + b"host:1" + struct.pack(">i", -5),
        struct.pack(">qqi", -65536, 3, 6) + b"host:1" + struct.pack(">i", 3) + b"abc",
        b"",
    ],
)
def test_garbage_on_the_port_disturbs_nobody(garbage: bytes) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            ensemble = ensemble_on_free_ports(3)
            first, second = await started(ensemble, 1, 2)
            port = ensemble.members[1].addresses[0].election_port
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(garbage)
            writer.write_eof()
            await reader.read()
            writer.close()
            results = await asyncio.gather(first.elect(0, 0), second.elect(0, 0))
            assert {each.vote.leader for each in results} == {2}
            await first.close()
            await second.close()

    asyncio.run(main())
