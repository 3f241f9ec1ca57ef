"""Barriers: who waits, and who goes on, also after deaths and faults."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from kazoo.client import KazooClient
from tests.forced_faults import Fault, at_every_request

from corral.client import SessionExpired, connect
from corral.recipes import Barrier, DoubleBarrier

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.forced_faults import FaultyClient

    from corral.client import Client
    from corral.testing import Address


def test_a_barrier_holds_up_until_it_is_removed(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            barrier = Barrier(zk, "/run/barrier")
            await barrier.wait()
            await barrier.create()
            await barrier.create()
            waiting = [asyncio.create_task(Barrier(client, "/run/barrier").wait()) for client in (zk, other)]
            await asyncio.gather(zk.sync(), other.sync())
            assert not any(task.done() for task in waiting)
            assert await barrier.remove()
            await asyncio.gather(*waiting)
            assert not await barrier.remove()

    asyncio.run(main())


def test_all_begin_together_and_end_together_again_and_again(zookeeper_shared: Address) -> None:
    inside: set[int] = set()
    done: set[int] = set()

    async def member(client: Client, number: int) -> None:
        barrier = DoubleBarrier(client, "/run/barrier", 3, name=f"member {number}")
        for turn in range(3):
            inside.add(turn * 10 + number)
            await barrier.enter()
            assert {turn * 10 + each for each in range(3)} <= inside
            done.add(turn * 10 + number)
            await barrier.leave()
            assert {turn * 10 + each for each in range(3)} <= done

    async def main() -> None:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(zookeeper_shared)) for _ in range(3)]
            await asyncio.gather(*[member(client, number) for number, client in enumerate(clients)])
            assert await clients[0].get_children("/run/barrier") == []

    asyncio.run(main())


def test_who_comes_too_late_waits_for_the_next_round(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            first, second, third, fourth = (DoubleBarrier(zk, "/barrier", 2) for _ in range(4))
            await asyncio.gather(first.enter(), second.enter())
            late = asyncio.create_task(third.enter())
            await _until(zk, lambda names: len(names) == 4)
            await asyncio.gather(first.leave(), second.leave())
            assert not late.done()
            await fourth.enter()
            await late
            await asyncio.gather(third.leave(), fourth.leave())
            assert await zk.get_children("/barrier") == []

    asyncio.run(main())


def test_who_gives_up_is_not_counted(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            impatient = asyncio.create_task(DoubleBarrier(zk, "/barrier", 2).enter())
            await _until(zk, lambda names: len(names) == 1)
            impatient.cancel()
            await asyncio.wait({impatient})
            assert await zk.get_children("/barrier") == []
            first, second = DoubleBarrier(zk, "/barrier", 2), DoubleBarrier(zk, "/barrier", 2)
            entering = asyncio.create_task(first.enter())
            await _until(zk, lambda names: len(names) == 1)
            assert not entering.done()
            await second.enter()
            await entering

    asyncio.run(main())


def test_a_round_whose_members_have_all_died_does_not_open_the_next(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as dead:
            await asyncio.gather(*[DoubleBarrier(dead, "/barrier", 2).enter() for _ in range(2)])
        async with connect(zookeeper_shared) as zk:
            assert await zk.get_children("/barrier") == ["ready"]
            first, second = DoubleBarrier(zk, "/barrier", 2), DoubleBarrier(zk, "/barrier", 2)
            entering = asyncio.create_task(first.enter())
            # The old sign has gone, and only the new member is there.
            await _until(zk, lambda names: len(names) == 1 and "ready" not in names)
            assert not entering.done()
            await second.enter()
            await entering
            await asyncio.gather(first.leave(), second.leave())
            assert await zk.get_children("/barrier") == []

    asyncio.run(main())


def test_who_dies_inside_does_not_hold_up_the_others(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            dying, living = DoubleBarrier(zk, "/barrier", 2), DoubleBarrier(other, "/barrier", 2)
            await asyncio.gather(dying.enter(), living.enter())
            leaving = asyncio.create_task(living.leave())
            assert zk.session is not None
            zookeeper_shared.server.expire_session(zk.session.id)
            await leaving
            await dying.leave()

    asyncio.run(main())


def test_a_session_that_ends_at_the_barrier_is_an_error(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            entering = asyncio.create_task(DoubleBarrier(zk, "/barrier", 2).enter())
            await _until(other, lambda names: len(names) == 1)
            assert zk.session is not None
            zookeeper_shared.server.expire_session(zk.session.id)
            with pytest.raises(SessionExpired, match="the session has ended"):
                await entering

    asyncio.run(main())


def test_wrong_use_is_refused(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            with pytest.raises(ValueError, match="a barrier for 0 members"):
                DoubleBarrier(zk, "/barrier", 0)
            barrier = DoubleBarrier(zk, "/barrier", 1)
            with pytest.raises(RuntimeError, match="not in; enter first"):
                await barrier.leave()
            async with barrier:
                with pytest.raises(RuntimeError, match="already in; leave first"):
                    await barrier.enter()

    asyncio.run(main())


def test_kazoo_meets_at_the_same_barriers(zookeeper_shared: Address) -> None:
    kazoo = KazooClient(zookeeper_shared)
    kazoo.start()

    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            theirs = kazoo.DoubleBarrier("/double", 2)
            ours = DoubleBarrier(zk, "/double", 2)
            await asyncio.gather(asyncio.to_thread(theirs.enter), ours.enter())
            await asyncio.gather(asyncio.to_thread(theirs.leave), ours.leave())
            assert await zk.get_children("/double") == []
            await asyncio.to_thread(kazoo.Barrier("/barrier").create)
            waiting = asyncio.create_task(Barrier(zk, "/barrier").wait())
            await asyncio.to_thread(kazoo.Barrier("/barrier").remove)
            await waiting

    try:
        asyncio.run(main())
    finally:
        kazoo.stop()
        kazoo.close()


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_a_barrier_under_every_fault(fault: Fault, zookeeper_shared: Address) -> None:
    async def scenario(zk: FaultyClient) -> None:
        barrier = Barrier(zk, "/barrier")
        await barrier.create()
        async with connect(zookeeper_shared) as other:
            waiting = asyncio.create_task(Barrier(other, "/barrier").wait())
            try:
                assert await barrier.remove()
                await barrier.wait()
                await waiting
                await barrier.create()
            finally:
                waiting.cancel()
                await asyncio.wait({waiting})

    async def check(zk: Client) -> None:
        await Barrier(zk, "/barrier").remove()

    forced = asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check))
    assert forced >= 4


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("faulty_goes_first", [True, False])
def test_a_double_barrier_under_every_fault(fault: Fault, faulty_goes_first: bool, zookeeper_shared: Address) -> None:
    """Two members, of whom one meets the fault. Whatever happens, the other one is not stuck for ever."""

    async def take_part(barrier: DoubleBarrier) -> None:
        await barrier.enter()
        await barrier.leave()

    async def scenario(zk: FaultyClient) -> None:
        async with connect(zookeeper_shared) as other:
            faulty, healthy = DoubleBarrier(zk, "/barrier", 2), DoubleBarrier(other, "/barrier", 2)
            companion = asyncio.create_task(take_part(healthy))
            if not faulty_goes_first:
                await _until(other, lambda names: len(names) == 1)
            try:
                await take_part(faulty)
            except (SessionExpired, asyncio.CancelledError) as error:
                if isinstance(error, SessionExpired):
                    assert fault in (Fault.EXPIRED_BEFORE, Fault.EXPIRED_AFTER)
                # The companion goes on if the barrier has opened, and waits if not: then somebody else comes.
                substitute = asyncio.create_task(take_part(DoubleBarrier(other, "/barrier", 2)))
                await asyncio.wait({companion})
                substitute.cancel()
                await asyncio.wait({substitute})
                raise
            await companion

    async def tolerant(zk: FaultyClient) -> None:
        try:
            await scenario(zk)
        except SessionExpired:
            return

    async def check(zk: Client) -> None:
        # Whatever has been left behind, the next round works.
        barriers = [DoubleBarrier(zk, "/barrier", 2) for _ in range(2)]
        await asyncio.gather(*[barrier.enter() for barrier in barriers])
        await asyncio.gather(*[barrier.leave() for barrier in barriers])
        assert await zk.get_children("/barrier") == []

    forced = asyncio.run(at_every_request(zookeeper_shared.server, fault, tolerant, check))
    assert forced >= 6


async def _until(zk: Client, condition: Callable[[list[str]], bool]) -> None:
    """Return when the names below the barrier satisfy it."""
    await zk.ensure("/barrier")
    while not condition(await zk.get_children("/barrier")):
        await zk.sync()
