"""Soft load balancing over the members of a group."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from tests.forced_faults import Fault, FaultyClient, at_every_request

import corral
from corral.recipes.balancing import Balancer, NobodyThereError, Policy
from corral.recipes.membership import Member, Members, Registration

if TYPE_CHECKING:
    from corral import Client
    from corral.testing import Address

GROUP = "/services/web"
COUNTS = "/balance/web"
PATIENCE_S = 10.0


async def register(stack: AsyncExitStack, zk: Client, **data: bytes) -> Members:
    """Members with these names and data, and the list of them."""
    for name, each in data.items():
        await stack.enter_async_context(Registration(zk, GROUP, name, each))
    members = await stack.enter_async_context(Members(zk, GROUP))
    await members.wait_for(lambda them: len(them) == len(data))
    return members


def weight(member: Member) -> float:
    return float(member.data)


async def visits(balancer: Balancer) -> dict[str, int]:
    return {load.member.name: load.visits for load in await balancer.loads()}


def test_the_least_visited_is_next(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, AsyncExitStack() as stack:
            members = await register(stack, zk, a=b"", b=b"", c=b"")
            balancer = Balancer(zk, members, COUNTS)
            assert [(await balancer.pick()).name for _ in range(6)] == ["a", "b", "c"] * 2
            await zk.set(f"{COUNTS}/b", b"0 %d" % next(each.zxid for each in members if each.name == "b"))
            assert [(await balancer.pick()).name for _ in range(3)] == ["b", "b", "a"]
            assert await visits(balancer) == {"a": 3, "b": 2, "c": 2}

    asyncio.run(main())


def test_many_clients_share_the_counts(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(corral.connect(zookeeper_shared)) for _ in range(4)]
            members = await register(stack, clients[0], a=b"", b=b"", c=b"")
            balancers = [Balancer(zk, members, COUNTS) for zk in clients]
            picks = [balancer.pick() for balancer in balancers for _ in range(6)]
            async with asyncio.timeout(PATIENCE_S):
                picked = Counter(member.name for member in await asyncio.gather(*picks))
            assert picked == {"a": 8, "b": 8, "c": 8} == await visits(balancers[0])

    asyncio.run(main())


def test_weights(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, AsyncExitStack() as stack:
            members = await register(stack, zk, a=b"1", b=b"3")
            balancer = Balancer(zk, members, COUNTS, Policy.WEIGHTED, weight=weight)
            assert Counter([(await balancer.pick()).name for _ in range(40)]) == {"a": 10, "b": 30}
            # A newcomer begins level by its weight: not flooded, and not left out.
            async with Registration(zk, GROUP, "c", b"2"):
                await members.wait_for(lambda them: len(them) == 3)
                assert (await visits(balancer))["c"] == 19
                assert Counter([(await balancer.pick()).name for _ in range(13)]) == {"a": 2, "b": 6, "c": 5}

    asyncio.run(main())


def test_one_that_comes_back_is_not_flooded(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, AsyncExitStack() as stack:
            members = await register(stack, zk, a=b"")
            balancer = Balancer(zk, members, COUNTS)
            async with Registration(zk, GROUP, "b"):
                await members.wait_for(lambda them: len(them) == 2)
                assert [(await balancer.pick()).name for _ in range(2)] == ["a", "b"]
            await members.wait_for(lambda them: len(them) == 1)
            assert [(await balancer.pick()).name for _ in range(8)] == ["a"] * 8
            async with Registration(zk, GROUP, "b"):
                await members.wait_for(lambda them: len(them) == 2)
                assert await visits(balancer) == {"a": 9, "b": 8}
                assert Counter([(await balancer.pick()).name for _ in range(4)]) == {"a": 2, "b": 2}

    asyncio.run(main())


def test_round_robin_over_all_clients(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, AsyncExitStack() as stack:
            members = await register(stack, zk, a=b"", b=b"", c=b"")
            balancers = [Balancer(zk, members, COUNTS, Policy.ROUND_ROBIN) for _ in range(2)]
            await zk.ensure(COUNTS)
            names = [(await balancers[turn % 2].pick()).name for turn in range(6)]
            assert names == ["b", "c", "a", "b", "c", "a"]

    asyncio.run(main())


def test_the_least_used_is_next_and_uses_end(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with (
            corral.connect(zookeeper_shared) as zk,
            corral.connect(zookeeper_shared) as crashed,
            AsyncExitStack() as stack,
        ):
            members = await register(stack, zk, a=b"", b=b"")
            balancer = Balancer(zk, members, COUNTS, Policy.LEAST_USED)
            async with balancer.use() as first, balancer.use() as second:
                assert {first.name, second.name} == {"a", "b"}
                async with balancer.use() as third, Balancer(crashed, members, COUNTS).use() as fourth:
                    assert {third.name, fourth.name} == {"a", "b"}
                    assert [load.uses for load in await balancer.loads()] == [2, 2]
                    # What a client that is gone used is used no more.
                    await crashed.close()
                    assert sum(load.uses for load in await balancer.loads()) == 3
                    assert (await balancer.pick()).name == fourth.name
            assert [load.uses for load in await balancer.loads()] == [0, 0]

    asyncio.run(main())


def test_uses_are_divided_by_the_weight(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, AsyncExitStack() as stack:
            members = await register(stack, zk, a=b"1", b=b"2")
            balancer = Balancer(zk, members, COUNTS, Policy.LEAST_USED, weight=weight)
            names = [(await stack.enter_async_context(balancer.use())).name for _ in range(6)]
            assert Counter(names) == {"a": 2, "b": 4}

    asyncio.run(main())


def test_nobody_there_and_bad_arguments(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, Members(zk, GROUP) as members:
            for policy in Policy:
                balancer = Balancer(zk, members, COUNTS, policy, weight=weight if policy is Policy.WEIGHTED else None)
                with pytest.raises(NobodyThereError, match="/services/web has no members"):
                    await balancer.pick()
            with pytest.raises(ValueError, match="needs a weight"):
                Balancer(zk, members, COUNTS, Policy.WEIGHTED)
            with pytest.raises(ValueError, match="has no use for a weight"):
                Balancer(zk, members, COUNTS, weight=weight)
            for path in (GROUP, f"{GROUP}/counts"):
                with pytest.raises(ValueError, match="are members"):
                    Balancer(zk, members, path)
            with pytest.raises(corral.BadArgumentsError):
                Balancer(zk, members, "counts")
            async with Registration(zk, GROUP, "a", b"0"):
                await members.wait_for(lambda them: len(them) == 1)
                with pytest.raises(ValueError, match=r"the weight of a is 0\.0"):
                    await Balancer(zk, members, COUNTS, Policy.WEIGHTED, weight=weight).pick()

    asyncio.run(main())


def test_a_counter_of_somebody_elses_making_begins_anew(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, AsyncExitStack() as stack:
            members = await register(stack, zk, a=b"")
            await zk.create(f"{COUNTS}/a", b"many", parents=True)
            balancer = Balancer(zk, members, COUNTS)
            await balancer.pick()
            assert await visits(balancer) == {"a": 1}

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("policy", [Policy.LEAST_VISITED, Policy.LEAST_USED, Policy.ROUND_ROBIN])
@pytest.mark.parametrize("fault", Fault)
def test_picks_are_counted_and_uses_end_under_any_fault(
    zookeeper_shared: Address, fault: Fault, policy: Policy
) -> None:
    async def scenario(zk: FaultyClient) -> None:
        async with corral.connect(zookeeper_shared) as other, AsyncExitStack() as stack:
            members = await register(stack, other, a=b"", b=b"")
            balancer = Balancer(zk, members, COUNTS, policy)
            try:
                await balancer.pick()
                async with balancer.use(), balancer.use():
                    pass
            finally:
                # Seen by somebody else, while the session still lives.
                await other.sync()
                if await other.exists(COUNTS) is not None:
                    assert sum(load.uses for load in await Balancer(other, members, COUNTS).loads()) == 0
            # One pick may be counted twice, and the other member then begins one visit higher.
            assert 3 <= sum((await visits(balancer)).values()) <= 5

    async def check(zk: Client) -> None:
        assert await zk.get_ephemerals() == []

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 8
