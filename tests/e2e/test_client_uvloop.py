"""The client on uvloop's event loop, whose transports are not asyncio's."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.client_peer import PATIENCE_S

from corral.client import EventKind, State, connect
from corral.testing import Address, Server

uvloop = pytest.importorskip("uvloop")


def test_life_on_uvloop(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S), connect(zookeeper_shared, backoff_first=0.001) as zk:
            states: list[State] = []
            zk.on_state(states.append)
            await zk.create("/a", bytes(500_000))
            assert (await zk.get("/a")).data == bytes(500_000)
            async with zk.watch("/a") as events:
                zk.reconnect()
                assert (await anext(events)).kind is EventKind.MISSED
                await asyncio.gather(*[zk.set("/a", b"%d" % number) for number in range(500)])
                assert [(await anext(events)).kind for _ in range(500)] == [EventKind.DATA_CHANGED] * 500
            assert states == [State.SUSPENDED, State.CONNECTED]

    uvloop.run(main())


@pytest.mark.slow
def test_the_heartbeat_on_uvloop() -> None:
    async def main() -> None:
        with Server(minSessionTimeout=100, tickTime=50) as server:
            async with asyncio.timeout(PATIENCE_S), connect(server.address, session_timeout=1.2) as zk:
                session = zk.session
                time.sleep(2.4)
                await zk.sync()
                assert zk.session is session

    uvloop.run(main())
