"""A leader that was replaced and does not know it, and what is read there (ZOOKEEPER-1675, 3600)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import corral
from corral.client import Client
from corral.quorum.leader import Leader
from corral.quorum.peer import Peer
from corral.testing import Ensemble

PATIENCE_S = 40
ROUND_TRIPS = 50
"""Who answers from memory has answered by then."""


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await scenario()

    asyncio.run(main())


def client(hosts: str) -> Client:
    return corral.connect(hosts, session_timeout=30, backoff_first=0.01, backoff_max=0.05)


async def believe_for_ever(peer: Peer) -> None:
    """Let a leader not count who is still there."""
    assert isinstance(peer.term, Leader)
    peer.term._sync_limit = 1_000_000


def test_zookeeper_1675_3600_neither_replaced_leader_nor_who_follows_it_says_what_is_old() -> None:
    async def scenario() -> None:
        async with Ensemble(5, observers=1) as ensemble, AsyncExitStack() as clients:
            old = ensemble.leader()
            beside = next(sid for sid in ensemble.voters if sid != old)
            rest = [sid for sid in ensemble.voters if sid not in (old, beside)]
            cut_off = (old, beside, *ensemble.observers)
            there, beside_them = [
                [await clients.enter_async_context(client(ensemble.addresses[sid])) for sid in cut_off]
                for _ in range(2)
            ]
            await there[0].create("/x", b"old")
            for zk in there:
                assert (await zk.get("/x", linearizable=True)).data == b"old"
            ensemble._members[old].backend.call(believe_for_ever)
            ensemble.partition(cut_off, rest)
            new = ensemble.leader(*rest)
            async with client(ensemble.addresses[new]) as zk:
                await zk.set("/x", b"new")
                assert (await zk.get("/x", linearizable=True)).data == b"new"
                await zk.sync(quorum=True)
            asked: list[Any] = []
            for zk in there:
                calls = zk.get("/x", linearizable=True), zk.sync("/x"), zk.get("/x"), zk.sync("/x", quorum=True)
                asked += map(asyncio.ensure_future, calls)
            for _ in range(ROUND_TRIPS):
                for zk in beside_them:
                    # As ever, and as with Apache's servers.
                    assert (await zk.get("/x")).data == b"old"
            assert not [each for each in asked if each.done()]
            ensemble.heal()
            read = [each.data for each in await asyncio.gather(*asked) if each is not None]
            assert read == [b"new"] * 2 * len(there)

    play(scenario)
