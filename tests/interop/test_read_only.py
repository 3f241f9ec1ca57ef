"""A member that is cut off, of either kind, and clients of all kinds that are content with it."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NotReadOnlyCallError
from kazoo.protocol.states import KeeperState
from tests.e2e import raw
from tests.interop.kazoo_clients import wait_until
from tests.interop.peers import APACHE_JARS, four_letter_word
from tests.interop.programs import run_checks_at
from tests.interop.test_jvm_clients import compiled
from tests.interop.test_mixed_ensembles import Mixed, mixed

import corral
from corral.client import State
from corral.jute.ops import CreateMode, OpCode
from corral.server.sessions import session_password

SETTINGS = {
    "readonlymode.enabled": "true",
    "localSessionsEnabled": "true",
    "localSessionsUpgradingEnabled": "true",
    "4lw.commands.whitelist": "*",
}
ALONE = 1
LIMIT_S = 60


async def told(them: Mixed, word: str) -> list[str]:
    return (await asyncio.to_thread(four_letter_word, them.ports[ALONE], word)).splitlines()


async def leave_alone(them: Mixed) -> None:
    """Stop all others, and wait until the one that is left serves those who read."""
    await them.stop(*(sid for sid in them.running if sid != ALONE))
    while await them.mode(ALONE) != "read-only":
        await asyncio.sleep(0.05)


def answer_to(port: int, connections: ExitStack, **how: object) -> raw.Client | None:
    """A connection; None if the server closes without an answer."""
    try:
        return connections.enter_context(raw.Client(port, **how))  # type: ignore[arg-type]
    except raw.ConnectionEndedError:
        return None


def who_is_served(port: int, known: tuple[int, bytes]) -> list[object]:
    """What comes of several kinds of connections; ``known`` is a session of the ensemble."""
    unknown = known[0] ^ 1
    with ExitStack() as connections:
        found: list[object] = [answer_to(port, connections, renew=renew) for renew in (None, known)]
        found.append(answer_to(port, connections, takes_read_only=True, renew=known))
        strange = answer_to(port, connections, takes_read_only=True, renew=(unknown, session_password(unknown)))
        assert strange is not None
        found += [strange.session.timeout_ms, strange.is_read_only]
        begun = answer_to(port, connections, takes_read_only=True)
        assert begun is not None
        again = answer_to(port, connections, takes_read_only=True, renew=begun.renewal)
        assert again is not None
        found += [begun.is_read_only, again.is_read_only, again.session.session_id == begun.session.session_id]
        for op, body in (
            (OpCode.CREATE, raw.create(b"/b")),
            (OpCode.CREATE2, raw.create(b"/b", flags=CreateMode.EPHEMERAL)),
            (OpCode.SET_DATA, raw.set_data(b"/a", b"")),
            (OpCode.DELETE, b"\0\0\0\2/a" + b"\xff" * 4),
            (OpCode.SYNC, b"\0\0\0\2/a"),
            (OpCode.MULTI, b"\xff\xff\xff\xff\1\xff\xff\xff\xff"),
            (OpCode.GET_DATA, raw.get_data(b"/a", watch=True)),
            (OpCode.GET_DATA, raw.get_data(b"/n/o")),
            (OpCode.CLOSE_SESSION, b""),
        ):
            found.append(again.ask(op, body).error)
        found.append(again.ended())
        return found


def kazoo_reads(hosts: str) -> KazooClient:
    """A client that has read at a read-only server, and could not write."""
    zk = KazooClient(hosts, timeout=5, read_only=True)
    zk.start(LIMIT_S)
    assert zk.client_state == KeeperState.CONNECTED_RO
    assert zk.get("/a")[0] == b"old"
    with pytest.raises(NotReadOnlyCallError):
        zk.set("/a", b"")
    with pytest.raises(NotReadOnlyCallError):
        zk.create("/b", ephemeral=True)
    with pytest.raises(NotReadOnlyCallError):
        zk.sync("/a")
    return zk


def kazoo_writes(zk: KazooClient) -> None:
    """It does so at another server, once there is one."""
    wait_until(lambda: zk.client_state == KeeperState.CONNECTED, "it finds a server that takes writes", LIMIT_S)
    zk.create("/by-kazoo", ephemeral=True)
    zk.stop()
    zk.close()


@pytest.mark.parametrize("layout", ["AAA", "CCC"])
def test_who_only_reads_is_served_by_a_member_that_is_cut_off(tmp_path: Path, layout: str) -> None:
    """All that is seen of Apache's servers is seen of ours, by kazoo, the Java client and ours."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        java = await asyncio.to_thread(compiled, "ReadOnlyChecks", APACHE_JARS, tmp_path / "classes")
        async with mixed(tmp_path, layout, **SETTINGS) as them:
            await them.start(1, 2, 3)
            while "down" in [await them.mode(sid) for sid in them.running]:
                await asyncio.sleep(0.05)
            async with corral.connect(them.hosts(2), session_timeout=4, connect_timeout=60) as zk:
                await zk.create("/a", b"old")
                await zk.create("/mine", ephemeral=True)
                async with corral.connect(them.hosts(ALONE), connect_timeout=60) as other:
                    await other.sync()
                    assert await other.exists("/mine") is not None
                assert zk.session is not None
                known = (zk.session.id, zk.session.password)
                await leave_alone(them)
                assert await told(them, "isro") == ["ro"]
                srvr = await told(them, "srvr")
                assert srvr[1] == "READ-ONLY mode; serving only read-only clients"
                assert srvr[-2:] == ["Mode: read-only", "Node count: 7"]
                figures = dict(line.split("\t") for line in await told(them, "mntr"))
                assert figures["zk_server_state"] == "read-only"
                assert figures["zk_global_sessions"] == "1"
                assert {"zk_peer_state", "zk_quorum_size"}.isdisjoint(figures)
                conf = await told(them, "conf")
                assert [line.partition("=")[0] for line in conf[-7:]] == [
                    *("serverId", "initLimit", "syncLimit", "electionAlg", "electionPort", "quorumPort", "peerType")
                ]
                dump = await told(them, "dump")
                assert dump[:4] == [
                    "SessionTracker dump:",
                    "Local Session Sets (0)/(0):",
                    "Global Sessions(1):",
                    f"0x{known[0]:x}\t4000ms",
                ]
                assert await asyncio.to_thread(who_is_served, them.ports[ALONE], known) == [
                    *(None, None, None, 0, True, True, True, True),
                    *[-119] * 6,
                    *(0, -101, 0, True),
                ]
            by_kazoo = await asyncio.to_thread(kazoo_reads, them.hosts())
            async with corral.connect(them.hosts(), read_only=True, connect_timeout=60) as zk:
                assert zk.state is State.CONNECTED_READ_ONLY
                assert (await zk.get("/a")).data == b"old"
                with pytest.raises(corral.NotReadOnlyError):
                    await zk.set("/a", b"")

                def grant(wish: str) -> None:
                    assert wish == "leader"
                    asyncio.run_coroutine_threadsafe(them.start(2, 3), loop).result(LIMIT_S)

                assert set((await asyncio.to_thread(run_checks_at, [*java, them.hosts()], grant)).values()) == {"ok"}
                await asyncio.to_thread(kazoo_writes, by_kazoo)
                async for state in zk.states():
                    if state is State.CONNECTED:
                        break
                await zk.create("/by-corral", ephemeral=True)
                assert (await zk.get("/a")).data == b"new"

    asyncio.run(main())
