"""Leases: exclusive for a time, by the clock of the service."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.forced_faults import Fault, at_every_request

from corral.client import Client, connect
from corral.recipes import Lease

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from corral.testing import Address

PATIENCE_S = 20.0
"""Nothing here takes long; a test that hangs says so."""
LONG_S = 3600.0


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await main

    asyncio.run(bounded())


def test_one_holder_who_renews_and_gives_back(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            lease, rival = Lease(zk, "/lease", LONG_S, "me"), Lease(other, "/lease", LONG_S, "rival")
            assert await lease.holder() is None
            assert await lease.take()
            token = lease.token
            assert token is not None
            assert LONG_S - 60 < lease.remaining <= LONG_S
            assert not await rival.take()
            assert (rival.token, rival.remaining) == (None, 0.0)
            assert await rival.holder() == "me"
            assert await lease.take()
            assert lease.token is not None
            assert lease.token > token
            await rival.release()
            assert await rival.holder() == "me"
            await lease.release()
            assert lease.remaining == 0.0
            assert await rival.take()
            assert rival.token is not None
            assert rival.token > lease.token
            assert await zk.get_children("/lease") == ["lease_holder"]

    run(main())


def test_outlives_the_session_of_its_holder(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            assert await Lease(zk, "/lease", LONG_S, "me").take()
        async with connect(zookeeper_shared) as zk:
            assert not await Lease(zk, "/lease", LONG_S, "rival").take()
            assert await Lease(zk, "/lease", LONG_S, "me").take()

    run(main())


def test_ends_by_the_clock_of_the_service(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            assert await Lease(zk, "/lease", 0.05, "me").take()
            end_ms = json.loads((await zk.get("/lease/lease_holder")).data)["end_ms"]
            rival = Lease(zk, "/lease", LONG_S, "rival")
            while not await rival.take():
                pass
            assert (await zk.get("/lease/lease_holder")).stat.mtime >= end_ms

    run(main())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"version": 1, "holder": "x", "end": "tomorrow"}', b"\xff"])
def test_what_is_no_lease(zookeeper_shared: Address, data: bytes) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            await zk.create("/lease/lease_holder", data, parents=True)
            with pytest.raises(ValueError, match=r"^/lease/lease_holder is no lease: "):
                await Lease(zk, "/lease", LONG_S).take()
            assert await zk.get_children("/lease") == ["lease_holder"]

    run(main())


def test_of_another_version_is_left_alone(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            await zk.create("/lease/lease_holder", b'{"version": 2}', parents=True)
            assert not await Lease(zk, "/lease", LONG_S).take()

    run(main())


@pytest.mark.parametrize("duration", [0, -1, float("nan"), float("inf")])
def test_durations_that_are_none(duration: float) -> None:
    with pytest.raises(ValueError, match="is no number of seconds"):
        Lease(connect("127.0.0.1:1"), "/lease", duration)


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_with_a_fault_at_every_request(zookeeper_shared: Address, fault: Fault) -> None:
    async def scenario(client: Client) -> None:
        lease = Lease(client, "/lease", LONG_S, "me")
        assert await lease.take()
        assert await lease.take()
        await lease.release()

    async def check(client: Client) -> None:
        holder = await Lease(client, "/lease", LONG_S).holder()
        assert holder in (None, "me")
        rival = Lease(client, "/lease", LONG_S, "rival")
        async with asyncio.timeout(5):
            assert await rival.take() == (holder is None)
        assert await client.get_children("/lease") == ["lease_holder"]
        assert holder is None or fault is Fault.CANCELLED

    async def main() -> None:
        assert await at_every_request(zookeeper_shared.server, fault, scenario, check) > 10

    run(main())
