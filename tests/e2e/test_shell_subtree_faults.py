"""Copies and moves under lost connections, lost replies, ended sessions and cancellation, forced at every request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.forced_faults import Fault, FaultyClient, at_every_request

from corral.cli.shell.subtree.copying import Place, Policy, copy, move
from corral.cli.shell.subtree.reading import read_subtree
from corral.cli.shell.subtree.writing import Existing, Outcome, Tally
from corral.client import Client, connect

if TYPE_CHECKING:
    from corral.testing import Address

pytestmark = pytest.mark.slow

TREE = {"/a": b"top", "/a/b": b"1", "/a/b/d": b"2", "/a/c": b"3"}


async def plant(address: Address) -> None:
    """The tree, made by a client that nothing happens to."""
    async with connect(address) as zk:
        for path, data in TREE.items():
            await zk.create(path, data)


async def found(zk: Client, root: str) -> dict[str, bytes | None]:
    """The data of a subtree by the paths at the source; nothing if it does not exist."""
    if await zk.exists(root) is None:
        return {}
    return {"/a" + node.path.removeprefix(root): node.data async for node in read_subtree(zk, root, data=True)}


@pytest.mark.parametrize("fault", Fault)
def test_a_copy_is_whole_or_says_that_it_is_not(zookeeper_shared: Address, fault: Fault) -> None:
    tallies: list[Tally] = []
    over: list[bool] = []

    async def scenario(client: FaultyClient) -> None:
        await plant(zookeeper_shared)
        tallies.append(Tally())
        over.append(False)
        await copy(Place(client, "/a"), Place(client, "/b"), Policy(), tallies[-1])
        over[-1] = True

    async def check(zk: Client) -> None:
        tally, written = tallies[-1], await found(zk, "/b")
        assert await found(zk, "/a") == TREE
        assert written.items() <= TREE.items()
        if over[-1]:
            assert written == TREE
            assert tally.counts == {Outcome.CREATED: 4}
            assert tally.in_doubt == 0
        else:
            assert fault is Fault.CANCELLED
            assert tally.counts[Outcome.CREATED] <= len(written) <= tally.counts[Outcome.CREATED] + tally.in_doubt
        # It is finished by doing it again.
        await copy(Place(zk, "/a"), Place(zk, "/b"), Policy(Existing.MERGE), Tally())
        assert await found(zk, "/b") == TREE

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 10


@pytest.mark.parametrize("fault", Fault)
def test_a_move_loses_nothing(zookeeper_shared: Address, fault: Fault) -> None:
    tallies: list[Tally] = []
    over: list[bool] = []

    async def scenario(client: FaultyClient) -> None:
        await plant(zookeeper_shared)
        tallies.append(Tally())
        over.append(False)
        await move(Place(client, "/a"), Place(client, "/b"), Policy(), tallies[-1])
        over[-1] = True

    async def check(zk: Client) -> None:
        tally, left, written = tallies[-1], await found(zk, "/a"), await found(zk, "/b")
        assert left | written == TREE
        assert left == TREE or written == TREE, "nothing is deleted before everything is copied"
        if over[-1]:
            assert (left, written) == ({}, TREE)
            assert tally.counts == {Outcome.CREATED: 4, Outcome.DELETED: 4}
            assert tally.in_doubt == 0
        else:
            assert fault is Fault.CANCELLED
            deleted = len(TREE) - len(left)
            assert tally.counts[Outcome.DELETED] <= deleted <= tally.counts[Outcome.DELETED] + tally.in_doubt
        if left:
            await move(Place(zk, "/a"), Place(zk, "/b"), Policy(Existing.MERGE), Tally())
        assert await found(zk, "/a") == {}
        assert await found(zk, "/b") == TREE

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 20


@pytest.mark.parametrize("fault", Fault)
def test_overwriting_and_deleting_ends_the_same(zookeeper_shared: Address, fault: Fault) -> None:
    over: list[bool] = []
    policy = Policy(Existing.OVERWRITE, delete=True)

    async def scenario(client: FaultyClient) -> None:
        await plant(zookeeper_shared)
        async with connect(zookeeper_shared) as zk:
            await zk.create("/b", b"old")
            await zk.create("/b/extra", b"old")
        over.append(False)
        tally = Tally()
        await copy(Place(client, "/a"), Place(client, "/b"), policy, tally)
        assert tally.counts == {Outcome.OVERWRITTEN: 1, Outcome.CREATED: 3, Outcome.DELETED: 1}
        over[-1] = True

    async def check(zk: Client) -> None:
        assert over[-1] or fault is Fault.CANCELLED
        if not over[-1]:
            await copy(Place(zk, "/a"), Place(zk, "/b"), policy, Tally())
        assert await found(zk, "/a") == TREE
        assert await found(zk, "/b") == TREE

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 10
