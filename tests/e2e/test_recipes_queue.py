"""Queues: what they promise, also when every request in turn meets a fault."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from kazoo.client import KazooClient
from tests.forced_faults import Fault, at_every_request

from corral.client import ConnectionLoss, connect
from corral.client.errors import RequestTooLargeError
from corral.recipes import DelayQueue, LockingQueue, OwnershipLostError, PriorityQueue, Queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.forced_faults import FaultyClient

    from corral.client import Client
    from corral.recipes import ClaimedItem
    from corral.testing import Address

ITEMS = [b"0", b"1", b"2", b"3"]


def test_first_in_first_out(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, Queue(zk, "/queue") as queue:
            assert await queue.take_now() is None
            for item in ITEMS[:2]:
                await queue.put(item)
            await queue.put_many(ITEMS[2:])
            assert await queue.size() == 4
            assert [await queue.take() for _ in ITEMS] == ITEMS
            assert await queue.take_now() is None
            assert await queue.size() == 0

    asyncio.run(main())


def test_many_are_taken_in_one_transaction(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, Queue(zk, "/queue") as queue:
            await queue.put_many(ITEMS)
            before = zk.last_zxid
            assert await queue.take_many(3) == ITEMS[:3]
            # The receipt's parent, and the transaction.
            assert zk.last_zxid - before <= 2
            assert await queue.take_many(3) == ITEMS[3:]
            with pytest.raises(ValueError, match="at_most=0"):
                await queue.take_many(0)

    asyncio.run(main())


def test_a_taker_waits_and_one_item_wakes_one(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            takers = [asyncio.create_task(Queue(client, "/queue").take()) for client in (zk, other) * 4]
            queue = Queue(zk, "/queue")
            await _until_children(zk, "/queue/waiting", len(takers))
            for number in range(len(takers)):
                await queue.put(b"%d" % number)
            assert sorted(await asyncio.gather(*takers)) == [b"%d" % number for number in range(len(takers))]
            assert await zk.get_children("/queue/waiting") == []

    asyncio.run(main())


def test_a_taker_that_is_cancelled_leaves_the_line_and_takes_nothing(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            queue = Queue(zk, "/queue")
            taker = asyncio.create_task(queue.take())
            await _until_children(zk, "/queue/waiting", 1)
            taker.cancel()
            await asyncio.wait({taker})
            assert taker.cancelled()
            assert await zk.get_children("/queue/waiting") == []
            await queue.put(b"item")
            assert await queue.take() == b"item"

    asyncio.run(main())


def test_kazoo_175_takes_that_time_out_pile_up_nothing(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            queue = Queue(zk, "/queue")

            async def time_out() -> str:
                taker = asyncio.create_task(queue.take())
                await _until_children(zk, "/queue/waiting", 1)
                taker.cancel()
                await asyncio.wait({taker})
                watches = zk._keeper.watches
                tables = [*watches._one_shot.values(), *watches._lasting.values()]
                return str([[len(callbacks) for callbacks in table.values()] for table in tables])

            before = await time_out()
            assert [await time_out() for _ in range(5)] == [before] * 5
            await queue.close()

    asyncio.run(main())


def test_several_takers_share_a_long_queue(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            items = [b"%d" % number for number in range(200)]
            await Queue(zk, "/queue").put_many(items)
            taken: list[bytes] = []

            async def consume(client: Client) -> None:
                async with Queue(client, "/queue") as queue:
                    while (item := await queue.take_now()) is not None:
                        taken.append(item)

            await asyncio.gather(consume(zk), consume(other), consume(other))
            assert Counter(taken) == Counter(items)

    asyncio.run(main())


def test_tasks_that_take_at_the_same_time_lose_nothing(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            for turn in range(7):
                async with asyncio.timeout(20), Queue(zk, f"/queue-{turn}") as queue:
                    takers = [asyncio.create_task(queue.take()) for _ in range(3)]
                    for _ in range(turn):
                        await asyncio.sleep(0)
                    await queue.put_many([b"1", b"2", b"3"])
                    assert sorted(await asyncio.gather(*takers)) == [b"1", b"2", b"3"]

    asyncio.run(main())


def test_a_hundred_takes_list_the_queue_once(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            listings = 0
            get_children = zk.get_children

            def count(path: str) -> object:
                nonlocal listings
                listings += 1
                return get_children(path)

            zk.get_children = count  # type: ignore[method-assign, assignment]
            queue = Queue(zk, "/queue")
            await queue.put_many([b"%d" % number for number in range(100)])
            assert [int(await queue.take()) for _ in range(100)] == list(range(100))
            assert listings == 1

    asyncio.run(main())


def test_what_does_not_fit_is_refused_before_anything_is_done(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared, max_request_bytes=10_000) as zk:
            queue = Queue(zk, "/queue")
            with pytest.raises(RequestTooLargeError, match="/queue: an item of 10000 bytes would make a request of"):
                await queue.put(bytes(10_000))
            with pytest.raises(RequestTooLargeError, match="3 items at once"):
                await queue.put_many([bytes(4_000)] * 3)
            with pytest.raises(TypeError, match="an item is bytes, not str"):
                await queue.put("text")  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="priority 1000 is not between 0 and 999"):
                await PriorityQueue(zk, "/queue").put(b"item", 1000)
            with pytest.raises(ValueError, match="a delay of -1 s"):
                await DelayQueue(zk, "/queue").put(b"item", -1)
            assert await zk.exists("/queue") is None
            await queue.put(bytes(9_000))
            assert await queue.take() == bytes(9_000)

    asyncio.run(main())


def test_what_the_server_does_not_accept_ends_with_an_error(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared, max_request_bytes=1 << 22, backoff_first=0.001) as zk:
            with pytest.raises(ConnectionLoss):
                await Queue(zk, "/queue").put(bytes(1 << 20))
            assert await Queue(zk, "/queue").size() == 0

    asyncio.run(main())


def test_the_urgent_goes_first_also_when_it_comes_late(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            queue = PriorityQueue(zk, "/queue")
            elsewhere = PriorityQueue(other, "/queue")
            await elsewhere.put(b"low", 200)
            await elsewhere.put_many([b"one", b"two"])
            assert await queue.take() == b"one"
            await elsewhere.put(b"urgent", 0)
            await zk.sync()
            assert [await queue.take() for _ in range(3)] == [b"urgent", b"two", b"low"]

    asyncio.run(main())


def test_delayed_items_come_when_they_are_due(zookeeper_shared: Address) -> None:
    async def main() -> None:
        now = 1_000_000.0
        async with connect(zookeeper_shared) as zk:
            queue = DelayQueue(zk, "/queue", clock=lambda: now)
            await queue.put(b"later", 10)
            await queue.put(b"soon", 5)
            await queue.put_at(b"past", 0)
            assert await queue.take() == b"past"
            assert await queue.take_now() is None
            now += 5
            assert await queue.take() == b"soon"
            assert await queue.take_now() is None
            now += 4.9
            assert await queue.take_now() is None
            now += 0.1
            assert await queue.take() == b"later"

    asyncio.run(main())


def test_a_delayed_item_wakes_who_waits_for_it(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            queue = DelayQueue(zk, "/queue")
            await queue.put(b"in an hour", 3600)
            taker = asyncio.create_task(queue.take())
            await _until_children(zk, "/queue/waiting", 1)
            await DelayQueue(other, "/queue").put(b"in a moment", 0.05)
            assert await taker == b"in a moment"

    asyncio.run(main())


def test_an_item_comes_again_until_it_is_acknowledged(zookeeper_shared: Address) -> None:
    async def fail(queue: LockingQueue) -> None:
        async with await queue.take() as item:
            assert item.data == b"first"
            raise RuntimeError("no matter")

    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            queue = LockingQueue(zk, "/queue", name="worker 1")
            elsewhere = LockingQueue(other, "/queue")
            await queue.put_many([b"first", b"second"])
            item = await queue.take()
            assert item.data == b"first"
            second = await elsewhere.take()
            assert second.data == b"second"
            assert second.token > item.token
            assert await elsewhere.take_now() is None
            await item.release()
            with pytest.raises(RuntimeError, match="no matter"):
                await fail(elsewhere)
            async with await elsewhere.take() as again:
                assert again.data == b"first"
            await second.ack()
            assert await queue.size() == 0
            assert await zk.get_children("/queue/taken") == []
            with pytest.raises(OwnershipLostError, match="has been released"):
                await second.ack()

    asyncio.run(main())


def test_the_item_of_a_taker_that_dies_wakes_another_one(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            await LockingQueue(zk, "/queue").put(b"item")
            item = await LockingQueue(zk, "/queue").take()
            waiting = asyncio.create_task(LockingQueue(other, "/queue").take())
            await _until_children(zk, "/queue/waiting", 1)
            assert zk.session is not None
            zookeeper_shared.server.expire_session(zk.session.id)
            again = await waiting
            assert again.data == b"item"
            assert again.token > item.token
            await item.lost()
            with pytest.raises(OwnershipLostError):
                await item.ack()
            await again.ack()

    asyncio.run(main())


def test_kazoo_puts_and_takes_in_the_same_queues(zookeeper_shared: Address) -> None:
    kazoo = KazooClient(zookeeper_shared)
    kazoo.start()

    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            ours = PriorityQueue(zk, "/queue")
            theirs = kazoo.Queue("/queue/entries")
            await ours.put(b"ours", 50)
            await asyncio.to_thread(theirs.put, b"theirs", 20)
            await ours.put(b"last")
            assert await asyncio.to_thread(theirs.get) == b"theirs"
            assert await ours.take() == b"ours"
            assert await asyncio.to_thread(theirs.get) == b"last"

            locking = LockingQueue(zk, "/locking")
            peers = kazoo.LockingQueue("/locking")
            await asyncio.to_thread(peers.put, b"one")
            await locking.put(b"two")
            item = await locking.take()
            assert item.data == b"one"
            assert await asyncio.to_thread(peers.get) == b"two"
            assert await locking.take_now() is None
            assert await asyncio.to_thread(peers.consume)
            await item.release()
            assert await asyncio.to_thread(peers.get, 10) == b"one"
            assert await asyncio.to_thread(peers.consume)
            assert await locking.size() == 0

    try:
        asyncio.run(main())
    finally:
        kazoo.stop()
        kazoo.close()


def test_the_numbers_begin_anew_when_a_worn_queue_is_empty(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            await zk.ensure("/queue/entries")
            await zk.create(f"/queue/entries/entry-100-{2**30:010d}", b"worn")
            made = (await zk.get("/queue/entries")).stat.czxid
            queue = LockingQueue(zk, "/queue")
            item = await queue.take()
            waiting = asyncio.create_task(queue.take())
            # There is nothing to take, but not nothing.
            await _until_children(other, "/queue/waiting", 1)
            assert (await other.get("/queue/entries")).stat.czxid == made
            await item.ack()
            while (await other.get("/queue/entries")).stat.czxid == made:
                await other.sync()
            await LockingQueue(other, "/queue").put(b"next")
            following = await waiting
            assert following.data == b"next"
            assert following.path == "/queue/taken/entry-100-0000000000"

    asyncio.run(main())


# Under faults


class Ledger:
    """What a scenario knows of its items."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.put: list[bytes] = []
        """Put for certain."""
        self.doubtful: list[bytes] = []
        """Perhaps put."""
        self.taken: list[bytes] = []
        self.may_have_lost = 0


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_put_is_done_once_under_every_fault(fault: Fault, zookeeper_shared: Address) -> None:
    """While somebody else takes what is put at once, so that looking for it would not tell."""
    ledger = Ledger()

    async def take_all(queue: Queue) -> None:
        while True:
            ledger.taken.append(await queue.take())

    async def scenario(zk: FaultyClient) -> None:
        ledger.clear()
        queue = Queue(zk, "/queue")
        async with connect(zookeeper_shared) as other:
            taker = asyncio.create_task(take_all(Queue(other, "/queue")))
            try:
                for item in ITEMS:
                    ledger.doubtful = [item]
                    await queue.put(item)
                    ledger.doubtful = []
                    ledger.put.append(item)
            except ConnectionLoss:
                assert fault in (Fault.EXPIRED_BEFORE, Fault.EXPIRED_AFTER)
            finally:
                taker.cancel()
                await asyncio.wait({taker})
        await queue.close()

    async def check(zk: Client) -> None:
        found = ledger.taken + await _drain(zk)
        assert found in (ledger.put, ledger.put + ledger.doubtful)
        assert await _children(zk, "/queue/receipts") == []

    forced = asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check))
    assert forced >= len(ITEMS)


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_take_neither_loses_nor_doubles_under_every_fault(fault: Fault, zookeeper_shared: Address) -> None:
    """First of a queue that has items, then one that has to be waited for, then two at once."""
    ledger = Ledger()

    async def put(queue: Queue, items: list[bytes]) -> None:
        await queue.put_many(items)
        ledger.put += items

    async def feed(zk: FaultyClient, other: Client) -> None:
        # A session that ends takes the place in line with it.
        await _until_children(other, "/queue/waiting", 1, or_else=lambda: zk.has_happened)
        await put(Queue(other, "/queue"), ITEMS[2:])

    async def scenario(zk: FaultyClient) -> None:
        ledger.clear()
        async with connect(zookeeper_shared) as other:
            await put(Queue(other, "/queue"), ITEMS[:2])
            queue = Queue(zk, "/queue")
            feeder = None
            try:
                ledger.taken.append(await queue.take())
                ledger.taken.append(await queue.take())
                feeder = asyncio.create_task(feed(zk, other))
                while len(ledger.taken) < len(ITEMS):
                    ledger.taken += await queue.take_many(2)
                await queue.close()
            except ConnectionLoss:
                assert fault in (Fault.EXPIRED_BEFORE, Fault.EXPIRED_AFTER)
                ledger.may_have_lost = 2
            finally:
                if feeder is not None:
                    feeder.cancel()
                    await asyncio.wait({feeder})

    async def check(zk: Client) -> None:
        found = Counter(ledger.taken + await _drain(zk))
        assert all(count == 1 for count in found.values())
        assert len(found) >= len(ledger.put) - ledger.may_have_lost
        assert await _children(zk, "/queue/waiting") == []

    forced = asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check))
    assert forced >= 8


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_a_claimed_item_is_processed_at_least_once_under_every_fault(fault: Fault, zookeeper_shared: Address) -> None:
    acknowledged: list[bytes] = []

    async def scenario(zk: FaultyClient) -> None:
        acknowledged.clear()
        async with connect(zookeeper_shared) as other:
            await LockingQueue(other, "/queue").put_many(ITEMS[:3])
            queue = LockingQueue(zk, "/queue")
            held: list[ClaimedItem] = []
            try:
                while (await queue.size()) - len(held):
                    held.append(await queue.take())
                    if len(held) == 1:
                        await held[0].release()
                        held.clear()
                        held.append(await queue.take())
                    async with held[-1] as item:
                        pass
                    held.clear()
                    acknowledged.append(item.data)
            except OwnershipLostError:
                assert fault in (Fault.EXPIRED_BEFORE, Fault.EXPIRED_AFTER)
            except asyncio.CancelledError:
                # While the session lives, nobody else could get what is claimed behind its back.
                for each in held:
                    await each.release()
                assert await _children(other, "/queue/taken") == []
                raise
            await queue.close()

    async def check(zk: Client) -> None:
        rest = []
        queue = LockingQueue(zk, "/queue")
        while (item := await queue.take_now()) is not None:
            rest.append(item.data)
            await item.ack()
        # What was acknowledged for certain is gone; one more may be, whose acknowledgement was under way.
        assert not set(acknowledged) & set(rest)
        in_doubt = 0 if fault in (Fault.LOST_REQUEST, Fault.LOST_REPLY) else 1
        assert len(acknowledged) + len(rest) >= 3 - in_doubt
        assert await queue.size() == 0
        assert await _children(zk, "/queue/taken") == []

    forced = asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check))
    assert forced >= 9


async def _drain(zk: Client) -> list[bytes]:
    found = []
    async with Queue(zk, "/queue") as queue:
        while (item := await queue.take_now()) is not None:
            found.append(item)
    return found


async def _children(zk: Client, path: str) -> list[str]:
    return await zk.get_children(path) if await zk.exists(path) is not None else []


async def _until_children(zk: Client, path: str, count: int, *, or_else: Callable[[], bool] = lambda: False) -> None:
    await zk.ensure(path)
    while len(await zk.get_children(path)) < count and not or_else():
        await zk.sync()
