"""Members that register, and the live list of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.forced_faults import Fault, FaultyClient, at_every_request

import corral
from corral.recipes.membership import MemberEventKind, Members, Registration

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral import Client
    from corral.recipes.membership import MemberEvent
    from corral.testing import Address

GROUP = "/services/web"
PATIENCE_S = 10.0


async def until(members: Members, condition: Callable[[Members], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await members.wait_for(condition)


def names(members: Members) -> list[str]:
    return [member.name for member in members]


def expire(zk: Client, address: Address) -> None:
    assert zk.session is not None
    address.server.expire_session(zk.session.id)


def test_members_join_update_and_leave(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, corral.connect(zookeeper_shared) as watcher:
            async with Members(watcher, GROUP) as members:
                assert names(members) == []
                told: list[MemberEvent] = []
                members.on_change(told.append)
                changes = members.changes()
                async with Registration(zk, GROUP, "a", b"10.0.0.1:80") as member:
                    await until(members, lambda them: len(them) == 1)
                    (shown,) = members
                    assert zk.session is not None
                    assert shown[:4] == ("a", b"10.0.0.1:80", member.zxid, zk.session.id)
                    assert members.get("a") == shown
                    assert "a" in members
                    assert "b" not in members
                    await member.update(b"10.0.0.1:81")
                    await members.refresh()
                    assert members.get("a") is not None
                await until(members, lambda them: len(them) == 0)
                kinds = [MemberEventKind.JOINED, MemberEventKind.UPDATED, MemberEventKind.LEFT]
                events = [await anext(changes) for _ in kinds]
                assert [each.kind for each in events] == kinds
                assert [each.member.data for each in events if each.member] == [b"10.0.0.1:80"] + [b"10.0.0.1:81"] * 2
                assert told == events
                members.off_change(told.append)
                members.off_change(told.append)
            assert [each async for each in changes] == []
            with pytest.raises(corral.ClientClosedError):
                await members.wait_for(lambda them: len(them) == 9)

    asyncio.run(main())


def test_a_member_is_put_back_after_the_loss_of_its_session(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with (
            corral.connect(zookeeper_shared) as zk,
            corral.connect(zookeeper_shared) as watcher,
            Members(watcher, GROUP) as members,
            Registration(zk, GROUP, "a", b"1") as member,
        ):
            await member.update(b"2")
            await members.refresh()
            changes = members.changes()
            first = member.zxid
            expire(zk, zookeeper_shared)
            events = [await asyncio.wait_for(anext(changes), PATIENCE_S) for _ in range(2)]
            assert [each.kind for each in events] == [MemberEventKind.LEFT, MemberEventKind.JOINED]
            assert events[1].member is not None
            assert events[1].member.data == b"2"
            assert events[1].member.zxid == member.zxid > first

    asyncio.run(main())


def test_a_member_that_somebody_deletes_is_put_back(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            async with Members(zk, GROUP) as members, Registration(zk, GROUP, "a", b"1") as member:
                first = member.zxid
                await zk.delete(member.path)
                await until(members, lambda them: any(each.zxid > first for each in them))
            assert await zk.get_children(GROUP) == []

    asyncio.run(main())


def test_a_name_that_another_session_holds_is_waited_for(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as crashed, corral.connect(zookeeper_shared) as zk:
            await Registration(crashed, GROUP, "a", b"old").start()
            member = Registration(zk, GROUP, "a", b"new")
            starting = asyncio.ensure_future(member.start())
            async with Members(zk, GROUP) as members:
                await zk.sync()
                assert not starting.done()
                assert not member.is_registered
                await crashed.close()
                await asyncio.wait_for(starting, PATIENCE_S)
                await until(members, lambda them: [each.data for each in them] == [b"new"])
            # The one that waited in vain leaves the owner alone.
            other = asyncio.ensure_future(Registration(zk, GROUP, "b").start())
            await asyncio.wait_for(other, PATIENCE_S)
            async with corral.connect(zookeeper_shared) as late:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(Registration(late, GROUP, "b").start(), 0.01)
            assert sorted(await zk.get_children(GROUP)) == ["a", "b"]

    asyncio.run(main())


def test_the_list_catches_up_after_a_lost_connection(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with (
            corral.connect(zookeeper_shared) as zk,
            corral.connect(zookeeper_shared) as watcher,
            Members(watcher, GROUP) as members,
            Registration(zk, GROUP, "a"),
        ):
            await until(members, lambda them: len(them) == 1)
            zookeeper_shared.server.drop_connections()
            async with Registration(zk, GROUP, "b", b"2"):
                await until(members, lambda them: names(them) == ["a", "b"])
            expire(watcher, zookeeper_shared)
            await until(members, lambda them: names(them) == ["a"])

    asyncio.run(main())


def test_only_ephemeral_children_are_members(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, Members(zk, GROUP) as members:
            await zk.create(f"{GROUP}/settings/deeper", parents=True)
            await zk.create(f"{GROUP}/settings/ephemeral", ephemeral=True)
            async with Registration(zk, GROUP, "a"):
                await until(members, lambda them: len(them) == 1)
                assert names(members) == ["a"]
                assert members.get("settings") is None
                assert members.get("settings/ephemeral") is None

    asyncio.run(main())


def test_bad_arguments_are_refused_at_once(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            for name in ("", "a/b"):
                with pytest.raises(ValueError, match="a member's name"):
                    Registration(zk, GROUP, name)
            with pytest.raises(corral.BadArgumentsError):
                Registration(zk, "services", "a")
            with pytest.raises(TypeError, match="data is bytes"):
                await Registration(zk, GROUP, "a", "text").start()  # type: ignore[arg-type]
            await zk.create("/closed", acl=corral.READ_ONLY)
            with pytest.raises(corral.NoAuthError):
                await Registration(zk, "/closed", "a").start()
            member = Registration(zk, GROUP, "a")
            await member.start()
            with pytest.raises(RuntimeError, match="started once"):
                await member.start()
            await member.close()
            with pytest.raises(corral.ClientClosedError):
                await member.update(b"")

    asyncio.run(main())


def test_the_clients_end_is_the_members_end(zookeeper_shared: Address) -> None:
    async def main() -> None:
        zk = await corral.connect(zookeeper_shared).start()
        member = await Registration(zk, GROUP, "a").start()
        await zk.close()
        await member.close()
        assert not member.is_registered
        assert zookeeper_shared.server.tree() == {"/services": b"", "/services/web": b""}

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_a_member_is_there_and_gone_under_any_fault(zookeeper_shared: Address, fault: Fault) -> None:
    async def scenario(zk: FaultyClient) -> None:
        async with corral.connect(zookeeper_shared) as watcher, Members(watcher, GROUP) as members:
            async with Registration(zk, GROUP, "a", b"1") as member:
                await members.wait_for(lambda them: [each.data for each in them] in ([b"1"], [b"2"]))
                await member.update(b"2")
                await members.wait_for(lambda them: [each.data for each in them] == [b"2"])
            await members.refresh()
            assert names(members) == []
            assert await watcher.get_children(GROUP) == []

    async def check(zk: Client) -> None:
        if await zk.exists(GROUP) is not None:
            assert await zk.get_children(GROUP) == []

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 5


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_the_list_is_right_under_any_fault(zookeeper_shared: Address, fault: Fault) -> None:
    async def scenario(zk: FaultyClient) -> None:
        async with corral.connect(zookeeper_shared) as other, Members(zk, GROUP) as members:
            async with Registration(other, GROUP, "a"), Registration(other, GROUP, "b"):
                await members.wait_for(lambda them: names(them) == ["a", "b"])
                await members.refresh()
            await members.wait_for(lambda them: names(them) == [])

    async def check(zk: Client) -> None:
        if await zk.exists(GROUP) is not None:
            assert await zk.get_children(GROUP) == []

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 4
