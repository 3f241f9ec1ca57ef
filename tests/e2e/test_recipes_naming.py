"""Names and unique ids: nobody gets what somebody else has."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.forced_faults import Fault, at_every_request

from corral.client import NULL, BadArgumentsError, ConnectionLoss, connect
from corral.client.errors import NodeExistsError, NoNodeError, RequestTooLargeError
from corral.recipes import Names, UniqueIds
from corral.server.pipeline import WritePipeline

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.forced_faults import FaultyClient

    from corral.client import Client
    from corral.server.standalone import Server as RealServer
    from corral.testing import Address, Server

LAST = 2**31 - 1


def test_names_are_registered_looked_up_and_listed(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, Names(zk, "/app/names") as names:
            assert await names.list_names() == []
            assert await names.list_names(recursive=True) == []
            first = await names.register("billing/db", b"db7")
            second = await names.register("billing/web")
            assert second > first
            await names.register("cache", b"c1")
            assert (await names.look_up("billing/db")).data == b"db7"
            assert (await names.look_up("billing/web")).data == b""
            assert await names.list_names() == ["billing", "cache"]
            assert await names.list_names("billing") == ["billing/db", "billing/web"]
            assert await names.list_names(recursive=True) == ["billing/db", "billing/web", "cache"]
            for nobodys in ("billing", "nobody", "cache/nobody"):
                with pytest.raises(NoNodeError):
                    await names.look_up(nobodys)
                with pytest.raises(NoNodeError):
                    await names.unregister(nobodys)
            with pytest.raises(NodeExistsError, match="cache is taken"):
                await names.register("cache", b"c1")
            with pytest.raises(NodeExistsError, match="names below it"):
                await names.register("billing", ephemeral=True)
            await names.register("billing", b"the service")
            assert (await names.look_up("billing")).data == b"the service"
            await names.unregister("billing")
            assert (await names.look_up("billing/db")).data == b"db7"
            await names.unregister("billing/db")
            await names.unregister("billing/web")
            assert await names.list_names() == ["cache"]

    asyncio.run(main())


def test_an_ephemeral_name_is_free_when_its_session_has_ended(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            names = Names(zk, "/names")
            async with connect(zookeeper_shared) as other:
                await Names(other, "/names").register("a/worker", b"1", ephemeral=True)
                with pytest.raises(NodeExistsError):
                    await names.register("a/worker")
                with pytest.raises(BadArgumentsError, match="a/worker belongs to the session of another client"):
                    await names.move("a", "b")
            await names.register("a/worker", b"2", ephemeral=True)
            # What was a folder may become an ephemeral name when nothing is below it any more.
            await zk.delete("/names/a/worker")
            await names.register("a", b"3", ephemeral=True)
            assert await names.list_names(recursive=True) == ["a"]

    asyncio.run(main())


def test_a_branch_moves_in_one_transaction(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, Names(zk, "/names") as names:
            await names.register("old/a/one", b"1")
            await names.register("old/a/two", b"2", ephemeral=True)
            await names.register("old/a", b"top")
            zxid = await names.move("old/a", "new/place/a")
            moved = [await zk.get(f"/names/new/place/a{below}") for below in ("", "/one", "/two")]
            assert [znode.data for znode in moved] == [b"top", b"1", b"2"]
            assert {znode.stat.czxid for znode in moved} == {zxid}
            assert zk.session is not None
            assert [znode.stat.ephemeral_owner for znode in moved] == [0, 0, zk.session.id]
            assert await names.list_names() == ["new"]
            await names.register("target")
            for source, target, error in (
                ("new/place/a", "target", NodeExistsError),
                ("target", "new", NodeExistsError),
                ("nobody", "somebody", NoNodeError),
                ("new", "new", BadArgumentsError),
                ("new", "new/place/b", BadArgumentsError),
            ):
                with pytest.raises(error):
                    await names.move(source, target)
            await zk.create("/names/left-over", NULL)
            await names.move("target", "left-over")
            assert await names.list_names(recursive=True) == [
                "left-over",
                "new/place/a",
                "new/place/a/one",
                "new/place/a/two",
            ]

    asyncio.run(main())


def test_what_is_too_large_to_move_stays(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared, max_request_bytes=10_000) as zk:
            names = Names(zk, "/names")
            for number in range(3):
                await names.register(f"old/{number}", bytes(4_000))
            with pytest.raises(RequestTooLargeError):
                await names.move("old", "new")
            assert await names.list_names(recursive=True) == ["old/0", "old/1", "old/2"]

    asyncio.run(main())


def test_what_is_no_name_is_refused(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            names = Names(zk, "/names")
            for wrong in ("", "/a", "a/", "a//b", ".receipts", "a/../b", "a\0"):
                with pytest.raises(BadArgumentsError):
                    await names.register(wrong)
            with pytest.raises(TypeError, match="a name is a str"):
                await names.look_up(b"a")  # type: ignore[arg-type]
            with pytest.raises(BadArgumentsError, match="has data"):
                await names.register("a", NULL)
            for arguments in (("", "job-"), ("a/b", "job-"), ("type", "a/b")):
                with pytest.raises(ValueError, match="znode"):
                    UniqueIds(zk, "/ids", *arguments)
            with pytest.raises(ValueError, match="a block of 0 ids"):
                UniqueIds(zk, "/ids", "type", block=0)
            with pytest.raises(ValueError, match="0 ids are none"):
                await UniqueIds(zk, "/ids", "type").take(0)
            assert await zk.get_children("/") == ["zookeeper"]
            await zk.create("/ids/type", b"text", parents=True)
            with pytest.raises(ValueError, match="/ids/type: b'text' is no counter of ids"):
                await UniqueIds(zk, "/ids", "type").next()

    asyncio.run(main())


def test_ids_carry_type_prefix_and_number(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            ids = UniqueIds(zk, "/ids", "type2", "job-")
            assert [await ids.next() for _ in range(4)][-1] == "type2-job-0000000003"
            await zk.sync()
            assert await zk.get_children("/ids/type2") == []
            # The service's own sequence, so that others may number by it as well.
            assert await zk.create("/ids/type2/job-", sequential=True) == "/ids/type2/job-0000000004"
            assert await ids.next() == "type2-job-0000000005"

    asyncio.run(main())


def test_a_block_is_reserved_by_one_write(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            ids = UniqueIds(zk, "/ids", "type", block=100)
            first = [await ids.next() for _ in range(100)]
            before = zk.last_zxid
            second = [await ids.next() for _ in range(100)]
            assert zk.last_zxid == before + 1
            numbers = [int(each.removeprefix("type-")) for each in first + second]
            assert numbers == list(range(numbers[0], numbers[0] + 200))
            assert await ids.take(3) == [f"type-{numbers[-1] + each:010d}" for each in (1, 2, 3)]

    asyncio.run(main())


def test_no_id_comes_twice_however_they_are_taken(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            makers = [UniqueIds(client, "/ids", "t", block=block) for block in (1, 3, 1, 10) for client in (zk, other)]
            ids = await asyncio.gather(*[makers[turn % 4].next() for turn in range(40)])
            ids += await asyncio.gather(*[maker.next() for maker in makers for _ in range(12)])
            assert max(Counter(ids).values()) == 1

    asyncio.run(main())


def test_behind_the_end_of_the_sequence_the_counter_goes_on(zookeeper_server: Server) -> None:
    async def main() -> None:
        async with connect(str(zookeeper_server.address)) as zk:
            single = UniqueIds(zk, "/ids", "t")
            await single.next()
            await asyncio.to_thread(_set_sequence, zookeeper_server, b"/ids/t", LAST - 2)
            ids = [await single.next() for _ in range(4)]
            ids += [await UniqueIds(zk, "/ids", "t").next() for _ in range(2)]
            assert ids == [f"t-{LAST + each}" for each in (-2, -1, 0, 1, 2, 3)]
            await zk.set("/ids/t", b"9999999999")
            assert await single.take(2) == ["t-9999999999", "t-10000000000"]

    asyncio.run(main())


def test_a_sequence_that_sticks_is_left_for_the_counter(zookeeper_server: Server) -> None:
    async def main() -> None:
        async with connect(str(zookeeper_server.address)) as zk:
            # A number beyond the end is thrown away; the same number given out twice is refused.
            await zk.create(f"/ids/t/{LAST}", parents=True)
            await asyncio.to_thread(_set_sequence, zookeeper_server, b"/ids/t", LAST)
            ids = [await UniqueIds(zk, "/ids", "t", block=block).next() for block in (1, 5)]
            assert ids == [f"t-{LAST + each}" for each in (0, 1)]
            assert await zk.get_children("/ids/t") == [str(LAST)]

    asyncio.run(main())


def _set_sequence(server: Server, path: bytes, number: int) -> None:
    async def set_cversion(real: RealServer) -> None:
        assert isinstance(real.pipeline, WritePipeline)
        # What is on its way has been computed from the number as it was.
        while real.pipeline.busy:
            await asyncio.sleep(0.001)
        children = real.tree.nodes[path].children
        assert children is not None
        children.cversion = number
        real.pipeline.preparer.states.settled.clear()

    server._backend.call(set_cversion)


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_names_under_every_fault(fault: Fault, zookeeper_shared: Address) -> None:
    possible: list[list[str]] = []

    async def scenario(zk: FaultyClient) -> None:
        possible[:] = [[]]
        names = Names(zk, "/names")
        try:
            steps: list[tuple[Callable[[], Awaitable[object]], list[str]]] = [
                (lambda: names.register("a/b/one", b"1"), ["a/b/one"]),
                (lambda: names.register("a/two", b"2"), ["a/b/one", "a/two"]),
                (lambda: names.move("a/b", "c/d"), ["a/two", "c/d/one"]),
                (lambda: names.unregister("a/two"), ["c/d/one"]),
            ]
            for step, after in steps:
                possible.append(after)
                await step()
                possible[:] = [after]
        except ConnectionLoss:
            assert fault in (Fault.EXPIRED_BEFORE, Fault.EXPIRED_AFTER)
        await names.close()

    async def check(zk: Client) -> None:
        names = Names(zk, "/names")
        assert await names.list_names(recursive=True) in possible
        # Nothing has been left behind that would be in the way.
        for name in await names.list_names(recursive=True):
            await names.unregister(name)
        await names.register("c/d", b"", ephemeral=True)

    forced = asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check))
    assert forced >= 12


@pytest.mark.slow
@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize("fault", Fault)
def test_ids_are_unique_under_every_fault(fault: Fault, block: int, zookeeper_shared: Address) -> None:
    ids: list[str] = []

    async def scenario(zk: FaultyClient) -> None:
        ids.clear()
        async with connect(zookeeper_shared) as other:
            mine, others = UniqueIds(zk, "/ids", "t", block=block), UniqueIds(other, "/ids", "t")
            for _ in range(4):
                ids.append(await mine.next())
                ids.append(await others.next())

    async def check(zk: Client) -> None:
        ids.extend([await UniqueIds(zk, "/ids", "t", block=each).next() for each in (1, 2)])
        assert max(Counter(ids).values()) == 1
        if fault is not Fault.CANCELLED:
            assert len(ids) == 10

    forced = asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check))
    assert forced >= 4
