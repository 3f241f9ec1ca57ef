"""Semaphores: never more owners than permits, and no permit is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.forced_faults import Fault, at_every_request, faulty_client
from tests.owners import until_children

from corral.client import Client, ClientClosedError, ConnectionLoss, SessionExpired, connect
from corral.recipes import CURATOR, KAZOO, Held, OwnershipLostError, Semaphore

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from corral.recipes import Dialect
    from corral.testing import Address

PATIENCE_S = 20.0
"""Nothing here takes long; a test that hangs says so."""


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await main

    asyncio.run(bounded())


async def permits_in_use(client: Client, number: int, path: str = "/limit") -> None:
    await until_children(client, path, lambda names: len(names) == number)


@pytest.mark.parametrize("dialect", [KAZOO, CURATOR], ids=["kazoo", "curator"])
def test_never_more_owners_than_permits(zookeeper_shared: Address, dialect: Dialect) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as one, connect(zookeeper_shared) as two:
            inside = most = 0
            full = asyncio.Event()

            async def work(client: Client) -> int:
                nonlocal inside, most
                async with Semaphore(client, "/limit", 3, dialect=dialect) as held:
                    inside += 1
                    most = max(most, inside)
                    if inside == 3:
                        full.set()
                    await full.wait()
                    await client.sync()
                    inside -= 1
                return held.token

            tokens = await asyncio.gather(*[work(client) for client in [one, two] * 6])
            assert most == 3
            assert len(set(tokens)) == 12
            semaphore = Semaphore(one, "/limit", 3, dialect=dialect)
            assert await semaphore.holders() == []
            assert await one.get_children(semaphore.queue_path) == []

    run(main())


def test_several_permits_by_one_object(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            semaphore = Semaphore(zk, "/limit", 2, "me")
            first, second = await semaphore.acquire(), await semaphore.try_acquire()
            assert second is not None
            assert second.token > first.token
            assert await semaphore.holders() == ["me", "me"]
            assert await semaphore.try_acquire() is None
            with pytest.raises(TimeoutError):
                await semaphore.acquire(timeout=0.02)
            waiting = asyncio.create_task(semaphore.acquire())
            await until_children(zk, "/limit-__lock__", lambda names: len(names) == 1)
            await first.release()
            third = await waiting
            await second.release()
            await third.release()
            async with semaphore, semaphore.hold():
                assert len(await semaphore.holders()) == 2
            assert await semaphore.holders() == []

    run(main())


def test_all_must_say_the_same_number(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            await (await Semaphore(zk, "/limit", 2).acquire()).release()
            assert (await zk.get("/limit")).data == b"2"
            with pytest.raises(ValueError, match=r"^/limit has 2 permits, not 3: all must say the same$"):
                await Semaphore(zk, "/limit", 3).acquire()
            assert await zk.get_children("/limit-__lock__") == []
            await zk.create("/made-before")
            await (await Semaphore(zk, "/made-before", 3).acquire()).release()
            assert (await zk.get("/made-before")).data == b"3"
            await zk.create("/of-others", b"something else")
            await (await Semaphore(zk, "/of-others", 3).acquire()).release()
            assert (await zk.get("/of-others")).data == b"something else"
            assert await Semaphore(zk, "/nowhere", 1).holders() == []
            for permits in (0, -1):
                with pytest.raises(ValueError, match="there must be at least one"):
                    Semaphore(zk, "/limit", permits)

    run(main())


def test_cancelled_waiter_leaves_the_queue(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            held = await Semaphore(zk, "/limit", 1).acquire()
            first = asyncio.create_task(Semaphore(other, "/limit", 1).acquire())
            await until_children(zk, "/limit-__lock__", lambda names: len(names) == 1)
            second = asyncio.create_task(Semaphore(other, "/limit", 1).acquire())
            await until_children(zk, "/limit-__lock__", lambda names: len(names) == 2)
            for waiting in (second, first):
                waiting.cancel()
                await asyncio.wait({waiting})
            await until_children(zk, "/limit-__lock__", lambda names: not names)
            await held.release()
            await (await Semaphore(other, "/limit", 1).acquire()).release()

    run(main())


def test_waiter_survives_the_loss_of_its_place(zookeeper_shared: Address) -> None:
    """Somebody deletes the claim of the first in the queue, or the whole semaphore."""

    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            held = await Semaphore(zk, "/limit", 1).acquire()
            waiting = asyncio.create_task(Semaphore(other, "/limit", 1).acquire())
            (claim,) = await until_children(zk, "/limit-__lock__", lambda names: len(names) == 1)
            await zk.delete(f"/limit-__lock__/{claim}")
            await until_children(zk, "/limit-__lock__", lambda names: names not in ([], [claim]))
            await zk.delete_tree("/limit-__lock__")
            await zk.delete_tree("/limit")
            await held.lost()
            await (await waiting).release()

    run(main())


def test_closed_client_ends_the_waiting(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            held = await Semaphore(zk, "/limit", 1).acquire()
            waiting = asyncio.create_task(Semaphore(other, "/limit", 1).acquire())
            await until_children(zk, "/limit-__lock__", lambda names: len(names) == 1)
            await other.close()
            with pytest.raises(ClientClosedError):
                await waiting
            await held.release()

    run(main())


@pytest.mark.slow
def test_curator_595_permits_of_a_lost_session_come_back(zookeeper_server: Any) -> None:
    """After the loss of its session the permit of a client stayed taken, for others and for itself."""

    async def main() -> None:
        address = zookeeper_server.address
        async with connect(address, session_timeout=0.4) as zk, connect(address) as other:
            semaphore = Semaphore(zk, "/limit", 1)
            held = await semaphore.acquire()
            waiting = asyncio.create_task(Semaphore(other, "/limit", 1).acquire())
            await until_children(other, "/limit-__lock__", lambda names: len(names) == 1)
            await asyncio.to_thread(zookeeper_server.stop)
            await held.lost()
            assert held.is_lost
            await asyncio.to_thread(zookeeper_server.start)
            successor = await waiting
            assert successor.token > held.token
            mine = asyncio.create_task(semaphore.acquire())
            await until_children(other, "/limit-__lock__", lambda names: len(names) == 1)
            await held.release()
            await successor.release()
            await (await mine).release()
            await permits_in_use(other, 0)

    run(main())


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_no_fault_loses_a_permit(zookeeper_shared: Address, fault: Fault) -> None:
    async def scenario(client: Client) -> None:
        async with connect(zookeeper_shared) as other:
            semaphore = Semaphore(client, "/limit", 2)
            others = Semaphore(other, "/limit", 2)
            try:
                async with semaphore as first, semaphore.hold() as second:
                    permit = await others.try_acquire()
                    if permit is not None:
                        # Then one has been lost, of which the client is about to hear.
                        lost = [asyncio.create_task(held.lost()) for held in (first, second)]
                        await asyncio.wait(lost, return_when=asyncio.FIRST_COMPLETED)
                        await permit.release()
            except (ConnectionLoss, SessionExpired, OwnershipLostError, asyncio.CancelledError) as error:
                # As long as the client lives.
                await permits_in_use(other, 0)
                both: list[Held] = [await others.acquire(), await others.acquire()]
                for each in both:
                    await each.release()
                if isinstance(error, asyncio.CancelledError):
                    raise

    async def check(client: Client) -> None:
        semaphore = Semaphore(client, "/limit", 2)
        async with semaphore, semaphore.hold():
            pass
        assert await client.get_children("/limit") == []
        assert await client.get_children("/limit-__lock__") == []

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 10


def test_permit_is_not_given_to_the_next_session(zookeeper_shared: Address) -> None:
    """The session ends just when the permit is taken: nobody would know of what the next one then owned."""

    async def main() -> None:
        server = zookeeper_shared.server
        async with faulty_client(server) as zk, connect(zookeeper_shared) as other:
            # Make the znodes, so that the requests are the same each time.
            await (await Semaphore(zk, "/limit", 1).acquire()).release()
            for at in range(8):
                zk.arm(server, Fault.EXPIRED_BEFORE, at)
                held = await Semaphore(zk, "/limit", 1).acquire()
                await held.release()
                await permits_in_use(other, 0)

    run(main())
