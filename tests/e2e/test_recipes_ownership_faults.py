"""Locks, semaphores and elections with a fault forced at every request of one contender, between two others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest
from tests.forced_faults import Fault, FaultyClient, at_every_request
from tests.owners import check_ledger, open_ledger, own, records, until_children

from corral.client import Client, ConnectionLoss, SessionExpired, connect
from corral.client.errors import TransactionError
from corral.recipes import CURATOR, Election, LeaderLatch, Lock, OwnershipLostError, ReadWriteLock, Semaphore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corral.testing import Address

DIRECTORY: Final = "/owned"


async def use_lock(client: Client) -> None:
    async with Lock(client, DIRECTORY) as held:
        await own(held)


async def use_write_lock(client: Client) -> None:
    async with ReadWriteLock(client, DIRECTORY).write as held:
        await own(held)


async def use_read_lock(client: Client) -> None:
    async with ReadWriteLock(client, DIRECTORY).read as held:
        await own(held)


async def use_downgraded_lock(client: Client) -> None:
    lock = ReadWriteLock(client, DIRECTORY)
    async with lock.write as held:
        await lock.write.downgrade(held)
        await own(held)


async def use_semaphore(client: Client) -> None:
    async with Semaphore(client, DIRECTORY, 1, dialect=CURATOR) as held:
        await own(held)


async def use_election(client: Client) -> None:
    await Election(client, DIRECTORY).run(own)


async def use_latch(client: Client) -> None:
    async with LeaderLatch(client, DIRECTORY) as latch:
        await own(await latch.wait())


USES: Final[dict[Callable[[Client], Awaitable[None]], tuple[Callable[[Client], Awaitable[None]], str]]] = {
    use_lock: (use_lock, DIRECTORY),
    use_write_lock: (use_write_lock, DIRECTORY),
    use_read_lock: (use_write_lock, DIRECTORY),
    use_downgraded_lock: (use_write_lock, DIRECTORY),
    use_semaphore: (use_semaphore, f"{DIRECTORY}/locks"),
    use_election: (use_election, DIRECTORY),
    use_latch: (use_latch, DIRECTORY),
}
"""What the contender with the fault does, what the others do, and where they queue."""


async def force(address: Address, use: Callable[[Client], Awaitable[None]], fault: Fault) -> int:
    others_use, queue = USES[use]

    async def after_another_waits(client: Client) -> None:
        """Be the first; own it until somebody waits."""
        lock = (
            Lock(client, queue) if others_use is not use_semaphore else Semaphore(client, DIRECTORY, 1, dialect=CURATOR)
        )
        async with lock as held:
            started.set()
            least = 1 if others_use is use_semaphore else 2
            await until_children(client, queue, lambda names: len(names) >= least)
            await own(held)

    async def scenario(client: FaultyClient) -> None:
        started.clear()
        async with connect(str(address)) as first, connect(str(address)) as last:
            await open_ledger(first)
            before = asyncio.create_task(after_another_waits(first))
            await started.wait()
            behind: asyncio.Task[None] | None = None
            cancelled: asyncio.CancelledError | None = None
            faulty = asyncio.ensure_future(use(client))
            behind = asyncio.ensure_future(others_use(last))
            try:
                await faulty
            except asyncio.CancelledError as error:
                cancelled = error
            except (ConnectionLoss, SessionExpired, TransactionError, OwnershipLostError):
                pass
            await before
            await behind
            # While its client lives on: nothing of it is left that would block others.
            await until_children(last, queue, lambda names: not names)
            if others_use is use_semaphore:
                await until_children(last, f"{DIRECTORY}/leases", lambda names: not names)
            if cancelled is not None:
                raise cancelled

    async def check(client: Client) -> None:
        await check_ledger(client)
        assert len({token for token, _ in await records(client)}) >= 2
        async with asyncio.timeout(5):
            await others_use(client)
        assert await client.get_children(queue) == []

    started = asyncio.Event()
    return await at_every_request(address.server, fault, scenario, check)


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_faults_leave_nothing_behind(
    zookeeper_shared: Address, use: Callable[[Client], Awaitable[None]], fault: Fault
) -> None:
    forced = asyncio.run(force(zookeeper_shared, use, fault))
    assert forced >= 5
