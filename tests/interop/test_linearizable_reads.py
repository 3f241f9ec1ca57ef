"""Syncs that a quorum confirms, between both kinds of server: Apache's followers confirm, and nobody is confused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from tests.interop.peers import ApacheServer
from tests.interop.test_mixed_ensembles import Mixed, mixed

import corral
from corral.client import Client, State, UnimplementedError


async def assert_refused_and_unharmed(zk: Client) -> None:
    """What cannot be had is refused, and costs neither connection nor session."""
    session, broken = zk.session, list[State]()
    zk.on_state(broken.append)
    await zk.ensure("/r")
    calls: list[Any] = [
        zk.get("/r", linearizable=True),
        zk.exists("/nothing", linearizable=True),
        zk.sync("/r", quorum=True),
        zk.set("/r", b"x"),
        zk.sync("/r"),
        zk.get("/r"),
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in outcomes[:3]] == [UnimplementedError] * 3
    assert (await calls[5]).data == b"x"
    assert zk.session is session
    assert broken == []


def test_apaches_server_refuses_and_is_not_confused(tmp_path: Path) -> None:
    async def main() -> None:
        with ApacheServer(tmp_path / "data") as server:
            async with corral.connect(server.address) as zk:
                await assert_refused_and_unharmed(zk)

    asyncio.run(main())


def _sync_among_writes(hosts: str) -> None:
    """kazoo gets each answer in its turn, and reads what it wrote before."""
    client = KazooClient(hosts, timeout=20)
    client.start(30)
    try:
        client.ensure_path("/k")
        asked = [
            (client.set_async("/k", b"%d" % n), client.sync_async("/k"), client.get_async("/k")) for n in range(300)
        ]
        for n, (written, synced, read) in enumerate(asked):
            written.get(30)
            assert synced.get(30) == "/k"
            assert read.get(30)[0] == b"%d" % n
        assert client.state == "CONNECTED"
    finally:
        client.stop()
        client.close()


async def _wait_for_mode(them: Mixed, sid: int, *modes: str) -> None:
    while await them.mode(sid) not in modes:
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("theirs", ["A", "8"])
def test_leaders_and_followers_of_both_kinds(tmp_path: Path, theirs: str) -> None:
    async def main() -> None:
        async with mixed(tmp_path, f"C{theirs}C") as them:
            await them.start(2, 3)
            # Without the third, no round is complete without Apache's follower.
            await _wait_for_mode(them, 3, "leader")
            async with corral.connect(them.hosts(3), session_timeout=20, connect_timeout=30) as leading:
                await leading.create("/x", b"1")
                for n in range(100):
                    await leading.set("/x", b"%d" % n)
                    assert (await leading.get("/x", linearizable=True)).data == b"%d" % n
                await leading.sync(quorum=True)
                for sid in (2, 3):
                    await asyncio.to_thread(_sync_among_writes, them.hosts(sid))
                async with corral.connect(them.hosts(2), session_timeout=20, connect_timeout=30) as following:
                    await assert_refused_and_unharmed(following)
                await them.start(1)
                await _wait_for_mode(them, 1, "follower")
                async with corral.connect(them.hosts(1), session_timeout=20, connect_timeout=30) as following:
                    for n in range(100):
                        await leading.set("/x", b"%d" % n)
                        assert (await following.get("/x", linearizable=True)).data == b"%d" % n
                    await following.sync(quorum=True)
            async with corral.connect(them.hosts(2), session_timeout=20, connect_timeout=30) as following:
                # It shall be no further behind than the other, or that one would lead.
                await following.sync()
            await them.stop(3)
            await _wait_for_mode(them, 2, "leader")
            async with corral.connect(them.hosts(1), session_timeout=20, connect_timeout=30) as following:
                await assert_refused_and_unharmed(following)
            assert not [line for line in them.apaches[2].log.splitlines() if "Got cxid" in line]

    asyncio.run(main())
