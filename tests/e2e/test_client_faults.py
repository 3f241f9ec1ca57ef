"""The client's own operations of several steps, with a fault forced at each of their requests."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

import pytest
from tests.forced_faults import Fault, at_every_request

from corral.client import Client, EventKind, NoNodeError, SessionExpired

if TYPE_CHECKING:
    from tests.forced_faults import FaultyClient

    from corral.testing import Address, Server

BROKEN = [Fault.LOST_REQUEST, Fault.LOST_REPLY]


@pytest.fixture
def shared(zookeeper_shared: Address) -> Server:
    """The run's one server, empty."""
    return zookeeper_shared.server


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("is_ephemeral", [False, True])
def test_a_protected_creation_makes_one_znode_or_none(shared: Server, fault: Fault, is_ephemeral: bool) -> None:
    outcomes: list[str] = []
    is_expiry = fault in (Fault.EXPIRED_BEFORE, Fault.EXPIRED_AFTER)

    async def create_one(zk: FaultyClient) -> None:
        created = await zk.create("/q/n-", sequential=True, protected=True, parents=True, ephemeral=is_ephemeral)
        outcomes.append(created)
        names = [name for name in await zk.get_children("/q") if name.startswith("_c_")]
        if is_expiry:
            assert len(names) <= 1
        else:
            assert [f"/q/{name}" for name in names] == outcomes

    async def scenario(zk: FaultyClient) -> None:
        outcomes.clear()
        with suppress(SessionExpired) if is_expiry else nullcontext():
            await create_one(zk)

    async def check(zk: Client) -> None:
        try:
            names = await zk.get_children("/q")
        except NoNodeError:
            names = []
        if is_ephemeral:
            assert names == [], "it ended with the session"
        elif fault in BROKEN:
            assert [f"/q/{name}" for name in names] == outcomes
        elif fault is Fault.CANCELLED:
            assert len(names) == len(outcomes), "cancelled, it leaves nothing"

    forced = asyncio.run(at_every_request(shared, fault, scenario, check))
    assert forced >= 4


@pytest.mark.slow
@pytest.mark.parametrize("fault", BROKEN)
def test_ensure_and_delete_tree_go_on(shared: Server, fault: Fault) -> None:
    async def scenario(zk: FaultyClient) -> None:
        await zk.ensure("/a/b/c")
        await zk.ensure("/a/b/d")
        assert await zk.exists("/a/b/c") is not None
        await zk.delete_tree("/a")

    async def check(zk: Client) -> None:
        assert await zk.exists("/a") is None

    forced = asyncio.run(at_every_request(shared, fault, scenario, check))
    assert forced > 12


@pytest.mark.parametrize("fault", [*BROKEN, Fault.EXPIRED_AFTER])
def test_a_one_shot_watch_tells_the_next_change_or_that_it_is_lost(shared: Server, fault: Fault) -> None:
    async def scenario(zk: FaultyClient) -> None:
        told: asyncio.Queue[EventKind] = asyncio.Queue()
        with suppress(SessionExpired) if fault is Fault.EXPIRED_AFTER else nullcontext():
            await zk.ensure("/a")
            await zk.get("/a", watch=lambda event: told.put_nowait(event.kind))
            with suppress(SessionExpired) if fault is Fault.EXPIRED_AFTER else nullcontext():
                await zk.persist(lambda: zk.set("/a", b""))
            assert await told.get() in (EventKind.DATA_CHANGED, EventKind.LOST)
            assert told.empty(), "once"

    async def check(zk: Client) -> None:
        assert await zk.exists("/a") is not None or fault is Fault.EXPIRED_AFTER

    asyncio.run(at_every_request(shared, fault, scenario, check))
