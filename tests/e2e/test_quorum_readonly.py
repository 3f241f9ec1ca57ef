"""A member that finds no leader: it serves those who only read, until there is one."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.e2e import raw
from tests.e2e.test_quorum_peers import Members, client, members
from tests.e2e.test_shell import corral_shell

import corral
from corral.client import Client, State
from corral.jute.ops import CreateMode, OpCode
from corral.quorum import peer
from corral.server.sessions import session_password
from corral.testing import Ensemble

SETTINGS = {
    "readonlymode.enabled": "true",
    "localSessionsEnabled": "true",
    "localSessionsUpgradingEnabled": "true",
    "4lw.commands.whitelist": "*",
    "maxSessionTimeout": "60000",
}
NOT_READ_ONLY = -119
PATIENCE_S = 30


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """One tick is enough."""
    monkeypatch.setattr(peer, "GRACE_MIN_MS", 0)


async def begin(them: Members) -> None:
    """Start all, and wait until none of them is looking for a leader."""
    await them.start(*(them.ports.keys() - them.peers.keys()))
    await them.serving()


async def cut_off(them: Members, sid: int) -> None:
    """Leave one member alone, and wait until it serves those who read."""
    await them.stop(*(each for each in list(them.peers) if each != sid))
    while them.peers[sid].read_only is None:
        await asyncio.sleep(0.005)


def reader(hosts: str, session_timeout: float = 5) -> Client:
    return corral.connect(hosts, session_timeout=session_timeout, read_only=True, backoff_first=0.01, backoff_max=0.05)


async def reached(zk: Client, wanted: State) -> None:
    """Wait until a client is in a state."""
    async for state in zk.states():
        if state is wanted:
            return


async def connect(
    connections: ExitStack,
    port: int,
    *,
    takes_read_only: bool = True,
    timeout_ms: int = 30_000,
    renew: tuple[int, bytes] | None = None,
) -> raw.Client:
    """A connection that is closed with ``connections``. Raises ConnectionEndedError if the server gives no answer."""
    return connections.enter_context(
        await asyncio.to_thread(raw.Client, port, takes_read_only=takes_read_only, timeout_ms=timeout_ms, renew=renew)
    )


async def turned_away(port: int, *, takes_read_only: bool = True, renew: tuple[int, bytes] | None = None) -> bool:
    """Whether the server closes without an answer."""
    with ExitStack() as connections:
        try:
            await connect(connections, port, takes_read_only=takes_read_only, renew=renew)
        except raw.ConnectionEndedError:
            return True
    return False


def test_what_was_there_is_read_until_there_is_a_leader_again(tmp_path: Path) -> None:
    """And by the same client, which then writes."""

    async def main() -> None:
        async with members(tmp_path, 3, 0, **SETTINGS) as them:
            await begin(them)
            async with client(them.hosts()) as zk:
                await zk.create("/a", b"old")
            await them.trees()
            await cut_off(them, 1)
            async with reader(them.hosts()) as zk:
                assert zk.state is State.CONNECTED_READ_ONLY
                assert (await zk.get("/a")).data == b"old"
                assert sorted(await zk.get_children("/")) == ["a", "zookeeper"]
                with pytest.raises(corral.NotReadOnlyError):
                    await zk.create("/b")
                with pytest.raises(corral.NotReadOnlyError):
                    await zk.create("/b", ephemeral=True)
                with pytest.raises(corral.NotReadOnlyError):
                    await zk.set("/a", b"new")
                with pytest.raises(corral.NotReadOnlyError):
                    await zk.sync()
                transaction = zk.transaction()
                transaction.set("/a", b"new")
                with pytest.raises(corral.NotReadOnlyError):
                    await transaction.commit()
                changed = asyncio.Event()
                await zk.get("/a", watch=lambda event: changed.set())
                await them.start(2, 3)
                await reached(zk, State.CONNECTED)
                assert zk.session is not None
                assert not zk.session.read_only
                await zk.set("/a", b"new")
                await changed.wait()
            first, *others = await them.trees()
            assert them.peers[1].read_only is None
            assert others == [first, first]
            assert first[b"/a"].startswith(b"\0\0\0\3new")

    asyncio.run(main())


def test_a_session_of_the_ensemble_is_lost_before_one_that_only_reads_begins(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, 0, **SETTINGS) as them:
            await begin(them)
            async with reader(them.hosts(), session_timeout=1) as zk:
                states = zk.states()
                assert await anext(states) is State.CONNECTED
                await zk.create("/a", ephemeral=True)
                first = zk.session
                await them.trees()
                await cut_off(them, 1)
                # Its members may come and go, but none of them may judge it alone.
                seen = []
                async for state in states:
                    seen.append(state)
                    if state is State.CONNECTED_READ_ONLY:
                        break
                assert seen[-3:] == [State.SUSPENDED, State.LOST, State.CONNECTED_READ_ONLY]
                assert first is not None
                assert first.has_ended
                assert zk.session is not first
                assert await zk.exists("/a") is not None

    asyncio.run(main())


@pytest.mark.parametrize("leads", [False, True])
def test_on_the_small_side_of_a_partition_reads_go_on(*, leads: bool) -> None:
    """While the others go on without that member, whether it led them or not; afterwards it reads what they wrote."""

    async def main() -> None:
        async with Ensemble(3, properties=SETTINGS, syncLimit=5) as ensemble, asyncio.timeout(PATIENCE_S):
            leader = ensemble.leader()
            alone = leader if leads else leader % 3 + 1
            rest = {1, 2, 3} - {alone}
            hosts = ",".join(ensemble.addresses[sid] for sid in rest)
            async with client(ensemble.address) as zk:
                await zk.create("/a", b"old")
            while ensemble.tree(alone) != {"/a": b"old"}:
                await asyncio.sleep(0.01)
            ensemble.partition({alone}, rest)
            # What follows another leader has other local sessions.
            ensemble.leader(*rest)
            async with reader(ensemble.addresses[alone]) as here, client(hosts) as there:
                # At first the member may not have noticed.
                await reached(here, State.CONNECTED_READ_ONLY)
                await there.persist(lambda: there.set("/a", b"new"))
                assert (await here.get("/a")).data == b"old"
                with pytest.raises(corral.NotReadOnlyError):
                    await here.set("/a", b"other")
                ensemble.heal()
                await reached(here, State.CONNECTED)
                await here.sync()
                assert (await here.get("/a")).data == b"new"

    asyncio.run(main())


def test_who_is_served(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, 1, **SETTINGS) as them:
            await begin(them)
            async with client(them.hosts()) as zk:
                await zk.create("/a")
            with ExitStack() as connections:
                # A session of the ensemble, of which all know, and which does not end by their being cut off.
                known = await connect(connections, them.ports[2])
                await asyncio.to_thread(known.do, OpCode.CREATE, raw.create(b"/mine", flags=CreateMode.EPHEMERAL))
                known_elsewhere = known.session.session_id ^ 1
                unknown = (known_elsewhere, session_password(known_elsewhere))
                await them.trees()
                for sid in (1, 4):
                    port = them.ports[sid]
                    await cut_off(them, sid)
                    assert await turned_away(port, takes_read_only=False)
                    begun = await connect(connections, port)
                    assert begun.is_read_only
                    assert begun.session.timeout_ms > 0
                    again = await connect(connections, port, renew=begun.renewal)
                    assert again.session.session_id == begun.session.session_id
                    assert again.is_read_only
                    assert await asyncio.to_thread(begun.ended)
                    assert await turned_away(port, renew=known.renewal)
                    assert (await connect(connections, port, renew=unknown)).session.timeout_ms == 0
                    closing = [
                        raw.request(1, OpCode.SET_DATA, raw.set_data(b"/a", b"")),
                        raw.request(2, OpCode.GET_DATA, raw.get_data(b"/a")),
                        raw.request(3, OpCode.CLOSE_SESSION),
                    ]
                    again.send(b"".join(closing))
                    replies = [await asyncio.to_thread(again.reply) for _ in closing]
                    assert [(reply.xid, reply.error) for reply in replies] == [(1, NOT_READ_ONLY), (2, 0), (3, 0)]
                    assert await asyncio.to_thread(again.ended)
                    assert (await connect(connections, port, renew=begun.renewal)).session.timeout_ms == 0
                    held, server = await connect(connections, port), them.peers[sid].read_only
                    assert server is not None
                    await begin(them)
                    assert server.stopped.is_set()
                    assert await asyncio.to_thread(held.ended)

    asyncio.run(main())


@pytest.mark.slow
def test_the_shell_reads_if_that_is_enough(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, 0, **SETTINGS) as them:
            await begin(them)
            async with client(them.hosts()) as zk:
                await zk.create("/a", b"old")
            await them.trees()
            await cut_off(them, 1)
            script = "get /a\nset /a new\nget /a\n"
            done = await asyncio.to_thread(corral_shell, "-r", "-server", them.hosts(1), script=script)
            assert done.stdout == b"old\nold\n"
            assert done.stderr == b"Not a read-only call: /a\n"
            done = await asyncio.to_thread(corral_shell, "-timeout", "1000", "-server", them.hosts(1), "get", "/a")
            assert done.returncode == 1
            assert done.stdout == b""

    asyncio.run(main())


def test_sessions_expire_and_connections_end_with_the_member(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, 0, **SETTINGS) as them:
            await them.start(1)
            while (server := them.peers[1].read_only) is None:
                await asyncio.sleep(0.005)
            with ExitStack() as connections:
                silent = await connect(connections, them.ports[1], timeout_ms=200)
                assert await asyncio.to_thread(silent.ended)
                assert silent.session.session_id not in server.tracker.sessions
                other = await connect(connections, them.ports[1])
                assert len(them.peers[1].connections) == 1
                them.peers[1].crash()
                assert await asyncio.to_thread(other.ended)
                await them.peers[1].stopped.wait()
                assert server.stopped.is_set()

    asyncio.run(main())


def test_without_local_sessions_there_are_none_to_give(tmp_path: Path) -> None:
    async def main() -> None:
        settings = {**SETTINGS, "localSessionsEnabled": "false"}
        async with members(tmp_path, 3, 0, **settings) as them:
            await them.start(1)
            while them.peers[1].read_only is None:
                await asyncio.sleep(0.005)
            assert await turned_away(them.ports[1])
            assert await turned_away(them.ports[1], renew=(1, session_password(1)))
            assert await asyncio.to_thread(raw.word, them.ports[1], "isro") == "ro"

    asyncio.run(main())


def test_nobody_is_served_unless_it_is_switched_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, 0, **{**SETTINGS, "readonlymode.enabled": "false"}) as them:
            await them.start(1)
            assert await turned_away(them.ports[1])
            # What would serve stands ready from the beginning.
            assert "corral-read-only" not in {task.get_name() for task in asyncio.all_tasks()}
            assert await asyncio.to_thread(raw.word, them.ports[1], "isro") == "null"

    asyncio.run(main())


def test_the_admin_words(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, 0, **SETTINGS) as them:
            await begin(them)
            async with client(them.hosts()) as zk:
                await zk.create("/a")
                await them.trees()
                await cut_off(them, 1)
            async with reader(them.hosts(1)) as zk:

                async def told(word: str) -> list[str]:
                    return (await asyncio.to_thread(raw.word, them.ports[1], word)).splitlines()

                assert await told("isro") == ["ro"]
                for word in ("srvr", "stat"):
                    lines = await told(word)
                    assert lines[1] == "READ-ONLY mode; serving only read-only clients"
                    assert lines[-2:] == ["Mode: read-only", "Node count: 6"]
                figures = await asyncio.to_thread(raw.monitored, them.ports[1])
                assert figures["server_state"] == "read-only"
                assert (figures["local_sessions"], figures["global_sessions"]) == ("1", "0")
                assert {"peer_state", "quorum_size"}.isdisjoint(figures)
                conf = await told("conf")
                assert conf[-1] == "peerType=0"
                assert "initLimit=0" in conf
                dump = await told("dump")
                assert dump[:2] == ["SessionTracker dump:", "Local Session Sets (1)/(1):"]
                assert dump[3:5] == [f"\t{zk.session}", "Global Sessions(0):"]
                cons = await told("cons")
                assert f"sid={zk.session}" in cons[0] + cons[1]

    asyncio.run(main())
