"""Counters and atomic values: each change is made once, and none is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from kazoo.client import KazooClient
from tests.forced_faults import Fault, at_every_request

from corral.client import ConnectionLoss, connect
from corral.recipes import AtomicBytes, AtomicFloat, Change, Counter, Layout, Reading

if TYPE_CHECKING:
    from tests.forced_faults import FaultyClient

    from corral.client import Client
    from corral.testing import Address


def test_a_change_tells_what_was_and_what_is(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, Counter(zk, "/a/counter", 5) as counter:
            assert await counter.get() == Reading(5, -1)
            assert await zk.exists("/a") is None
            change = await counter.add(2)
            assert change == Change(5, 7, 1, zk.last_zxid)
            assert await counter.get() == Reading(7, change.version)
            assert (await counter.add(-10)).after == -3
            assert (await counter.set(100)).before == -3
            assert await counter.compare_and_set(99, 0) is None
            swap = await counter.compare_and_set(100, 2**70)
            assert swap is not None
            assert (await counter.update(lambda value: value // 2)).after == 2**69
            assert (await zk.get("/a/counter")).data == b"%d" % 2**69
        async with connect(zookeeper_shared) as zk:
            assert await zk.get_children("/a/counter") == []

    asyncio.run(main())


def test_no_count_is_lost_among_many_that_count(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            counters = [Counter(client, "/counter") for client in (zk, other) for _ in range(2)]
            changes = await asyncio.gather(*[counter.add() for counter in counters for _ in range(5)])
            assert sorted(change.after for change in changes) == list(range(1, 21))
            assert all(change.after == change.before + 1 == change.version for change in changes)

    asyncio.run(main())


def test_floats_and_bytes(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            number = AtomicFloat(zk, "/float", 1.5)
            assert (await number.add(0.25)).after == 1.75
            assert (await zk.get("/float")).data == b"1.75"
            data = AtomicBytes(zk, "/bytes")
            assert (await data.set(b"one")).before == b""
            swap = await data.compare_and_set(b"one", b"")
            assert swap is not None
            assert await data.get() == Reading(b"", swap.version)
            assert (await data.update(lambda value: value + b"!")).after == b"!"

    asyncio.run(main())


def test_a_function_that_fails_changes_nothing(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            counter = Counter(zk, "/counter", 3)
            await counter.add()
            with pytest.raises(ZeroDivisionError):
                await counter.update(lambda value: value // 0)
            assert (await counter.get()).value == 4

    asyncio.run(main())


def test_bad_values_are_refused_before_anything_is_done(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            with pytest.raises(TypeError, match=r"/counter: a counter counts in int, not in 1\.5"):
                await Counter(zk, "/counter").add(1.5)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="not in True"):
                Counter(zk, "/counter", True)
            with pytest.raises(TypeError, match="a value is a float"):
                await AtomicFloat(zk, "/counter").set("1")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="a value is bytes"):
                await AtomicBytes(zk, "/counter").compare_and_set(b"", "text")  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="2147483648 does not fit in int32"):
                await Counter(zk, "/counter", 2**31 - 1, layout=Layout.INT32).add()
            assert await zk.exists("/counter") is None
            await zk.create("/counter", b"many")
            with pytest.raises(ValueError, match="/counter: b'many' is not a value of Counter"):
                await Counter(zk, "/counter").add()
            with pytest.raises(ValueError, match="4 bytes"):
                await Counter(zk, "/counter", layout=Layout.INT64).get()

    asyncio.run(main())


def test_the_layouts_of_peers(zookeeper_shared: Address) -> None:
    kazoo = KazooClient(zookeeper_shared)
    kazoo.start()

    def count_by_kazoo() -> None:
        counter = kazoo.Counter("/decimal")
        counter += 5
        curator = kazoo.Counter("/int32", support_curator=True)
        curator += 7
        number = kazoo.Counter("/float", default=0.5)
        number += 0.25

    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            await Counter(zk, "/decimal").add(2)
            await Counter(zk, "/int32", layout=Layout.INT32).add(-2)
            await Counter(zk, "/int64", layout=Layout.INT64).add(-2)
            await asyncio.to_thread(count_by_kazoo)
            assert (await Counter(zk, "/decimal").get()).value == 7
            assert (await Counter(zk, "/int32", layout=Layout.INT32).get()).value == 5
            assert (await AtomicFloat(zk, "/float").get()).value == 0.75
            assert (await zk.get("/int64")).data == b"\xff" * 7 + b"\xfe"

    try:
        asyncio.run(main())
    finally:
        kazoo.stop()
        kazoo.close()


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_every_change_is_made_once_under_every_fault(fault: Fault, zookeeper_shared: Address) -> None:
    """While somebody else counts as well, in steps of 1000."""
    certain = 0
    doubtful = 0

    async def scenario(zk: FaultyClient) -> None:
        nonlocal certain, doubtful
        certain = doubtful = 0
        async with connect(zookeeper_shared) as other:
            counter, rival = Counter(zk, "/counter"), Counter(other, "/counter")
            try:
                for _ in range(4):
                    doubtful = 1
                    change = await counter.add()
                    doubtful = 0
                    certain += 1
                    assert change.after == change.before + 1
                    certain += 1000
                    await rival.add(1000)
            except ConnectionLoss:
                assert fault in (Fault.EXPIRED_BEFORE, Fault.EXPIRED_AFTER)
        await counter.close()

    async def check(zk: Client) -> None:
        value = (await Counter(zk, "/counter").get()).value
        assert value in (certain, certain + doubtful)
        assert await zk.exists("/counter") is None or await zk.get_children("/counter") == []

    forced = asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check))
    assert forced >= 8
