"""Queues, barriers, counters and names against both servers."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from typing import TYPE_CHECKING

from tests.interop.kazoo_clients import WAIT_LIMIT_S

from corral.client import Client, connect
from corral.recipes import Counter, DelayQueue, DoubleBarrier, LockingQueue, Names, PriorityQueue, Queue, UniqueIds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.interop.peers import Server

ITEMS = [b"%d" % number for number in range(60)]


def run(server: Server, root: str, main: Callable[[Client, Client], Awaitable[None]]) -> None:
    """Run ``main`` with two clients, of which the second one loses its connection again and again."""

    async def bounded() -> None:
        hosts = f"{server.address}{root}"
        async with (
            asyncio.timeout(WAIT_LIMIT_S),
            connect(hosts) as steady,
            connect(hosts, backoff_first=0.001, backoff_max=0.01) as restless,
        ):
            disturbing = asyncio.create_task(disturb(restless))
            try:
                await main(steady, restless)
            finally:
                disturbing.cancel()

    asyncio.run(bounded())


async def disturb(restless: Client) -> None:
    while True:
        # Now and then it gets through all that one item needs.
        for _ in range(25):
            await restless.sync()
        restless.reconnect()


def test_queue(server: Server, root: str) -> None:
    async def main(steady: Client, restless: Client) -> None:
        taken: list[bytes] = []

        async def consume(client: Client) -> None:
            async with Queue(client, "/queue") as queue:
                while len(taken) < len(ITEMS):
                    taken.extend(await queue.take_many(2))

        consumers = [asyncio.create_task(consume(client)) for client in (steady, restless)]
        source = Queue(restless, "/queue")
        for item in ITEMS:
            await source.put(item)
        await asyncio.wait(consumers, return_when=asyncio.FIRST_COMPLETED)
        for consumer in consumers:
            consumer.cancel()
        await asyncio.wait(consumers)
        assert Tally(taken) == Tally(ITEMS)

    run(server, root, main)


def test_locking_queue(server: Server, root: str) -> None:
    async def main(steady: Client, restless: Client) -> None:
        await LockingQueue(steady, "/queue").put_many(ITEMS)
        done: list[bytes] = []

        async def work(client: Client) -> None:
            async with LockingQueue(client, "/queue") as queue:
                while (item := await queue.take_now()) is not None:
                    async with item:
                        done.append(item.data)

        await asyncio.gather(work(steady), work(restless))
        assert Tally(done) == Tally(ITEMS)
        assert await steady.get_children("/queue/taken") == []

    run(server, root, main)


def test_priorities_and_delays(server: Server, root: str) -> None:
    async def main(steady: Client, restless: Client) -> None:
        urgent = PriorityQueue(steady, "/priority")
        await PriorityQueue(restless, "/priority").put_many([b"low"], 500)
        await urgent.put(b"high", 1)
        assert [await urgent.take(), await urgent.take()] == [b"high", b"low"]
        delayed = DelayQueue(restless, "/delay")
        await delayed.put(b"second", 2.0)
        await delayed.put(b"first", 0.1)
        assert [await delayed.take(), await delayed.take()] == [b"first", b"second"]

    run(server, root, main)


def test_double_barrier(server: Server, root: str) -> None:
    async def main(steady: Client, restless: Client) -> None:
        inside = 0

        async def take_part(client: Client) -> None:
            nonlocal inside
            barrier = DoubleBarrier(client, "/barrier", 3)
            for turn in range(1, 6):
                inside += 1
                async with barrier:
                    assert inside == 3 * turn

        await asyncio.gather(*[take_part(client) for client in (steady, restless, restless)])
        assert await steady.get_children("/barrier") == []

    run(server, root, main)


def test_counter(server: Server, root: str) -> None:
    async def main(steady: Client, restless: Client) -> None:
        async def count(client: Client) -> list[int]:
            async with Counter(client, "/counter") as counter:
                return [(await counter.add()).after for _ in range(20)]

        counts = await asyncio.gather(count(steady), count(restless), count(restless))
        assert sorted(number for each in counts for number in each) == list(range(1, 61))

    run(server, root, main)


def test_names_and_ids(server: Server, root: str) -> None:
    async def main(steady: Client, restless: Client) -> None:
        names = Names(restless, "/names")
        await names.register("a/one", b"1")
        await names.register("a/two", b"")
        await names.move("a", "b/c")
        assert await Names(steady, "/names").list_names(recursive=True) == ["b/c/one", "b/c/two"]
        makers = [UniqueIds(client, "/ids", "t", block=block) for client in (steady, restless) for block in (1, 3) * 2]
        ids = await asyncio.gather(*[maker.next() for maker in makers for _ in range(10)])
        assert len(set(ids)) == len(ids)

    run(server, root, main)
