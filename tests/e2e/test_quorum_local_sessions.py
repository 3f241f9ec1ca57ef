"""Sessions that only one member knows: what they may do, when they become sessions of the ensemble, and their end."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest
from tests.e2e import raw
from tests.e2e.test_quorum_peers import Members, client, members
from tests.e2e.test_shell import corral_shell

import corral
from corral.client import Client, State
from corral.jute.ops import CreateMode, OpCode
from corral.quorum.packets import decode_sessions
from corral.quorum.serving import LearnerSessions
from corral.server.local_sessions import LocalSessions
from corral.server.sessions import session_password

LOCAL = {"localSessionsEnabled": "true", "maxSessionTimeout": "60000"}
UPGRADING = {**LOCAL, "localSessionsUpgradingEnabled": "true"}
ALL_WORDS = {"4lw.commands.whitelist": "*"}


async def begin(them: Members) -> int:
    """Start all; returns the zxid of the first transaction. (Of an epoch without any, only the leader knows.)"""
    await them.start(*them.ports)
    while any(each.server is None for each in them.peers.values()):
        await asyncio.sleep(0.005)
    async with client(them.hosts()) as zk:
        await zk.create("/first")
    return await settled(them)


async def connect(
    connections: ExitStack, port: int, *, timeout_ms: int = 30_000, renew: tuple[int, bytes] | None = None
) -> raw.Client:
    """A connection that is closed with ``connections``."""
    return connections.enter_context(await asyncio.to_thread(raw.Client, port, timeout_ms=timeout_ms, renew=renew))


async def told(them: Members, sid: int, word: str) -> list[str]:
    return (await asyncio.to_thread(raw.word, them.ports[sid], word)).splitlines()


async def settled(them: Members) -> int:
    """The transaction to which all members have come."""
    await them.trees()
    return next(iter(them.peers.values())).history.last_zxid


def in_ensemble(them: Members) -> set[int]:
    """The sessions that any member's tree has."""
    return {session_id for peer in them.peers.values() for session_id in peer.history.tree.sessions}


async def refused(them: Members, zk: Client) -> None:
    """What a session that is to stay local may do, and what not."""
    with pytest.raises(corral.EphemeralOnLocalSessionError):
        await zk.create("/mine", ephemeral=True)
    with pytest.raises(corral.EphemeralOnLocalSessionError):
        await zk.create("/mine-", ephemeral=True, sequential=True)
    with pytest.raises(corral.EphemeralOnLocalSessionError):
        await zk.create("/n/o/mine", ephemeral=True)
    transaction = zk.transaction()
    transaction.create("/not")
    transaction.create("/mine", ephemeral=True)
    with pytest.raises(corral.TransactionError) as caught:
        await transaction.commit()
    assert caught.value.index == 1
    assert isinstance(caught.value.__cause__, corral.EphemeralOnLocalSessionError)
    transaction = zk.transaction()
    transaction.create("/n/o")
    transaction.create("/mine", ephemeral=True)
    with pytest.raises(corral.TransactionError) as caught:
        await transaction.commit()
    assert isinstance(caught.value.__cause__, corral.NoNodeError)
    assert sorted(await zk.get_children("/")) == ["first", "zookeeper"]
    assert in_ensemble(them) == set()


def test_a_local_session_costs_the_ensemble_nothing_and_owns_nothing(tmp_path: Path) -> None:
    """At the leader, at a follower and at an observer."""

    async def main() -> None:
        async with members(tmp_path, 3, 1, **LOCAL, **ALL_WORDS) as them:
            before = await begin(them)
            for sid in them.ports:
                async with client(them.hosts(sid)) as zk:
                    assert zk.session is not None
                    assert await settled(them) == before
                    assert in_ensemble(them) == set()
                    figures = await told(them, sid, "mntr")
                    assert {"zk_local_sessions\t1", "zk_global_sessions\t0"} <= {*figures}
                    dump = await told(them, sid, "dump")
                    assert dump[1] == "Local Session Sets (1)/(1):"
                    assert dump[3] == f"\t{zk.session}"
                    mode = them.peers[sid].server
                    assert mode is not None
                    assert dump[4] == ("Global Session Sets (0)/(0):" if mode.owns_sessions else "Global Sessions(0):")
                    await refused(them, zk)
                    assert (await zk.create("/kept", b"1")) == "/kept"
                    await zk.set("/kept", b"2")
                    async with zk.transaction() as t:
                        t.check("/kept", version=1)
                        t.delete("/kept")
                    await zk.sync()
                    before = await settled(them)
                # Nor does its end.
                assert await settled(them) == before
                assert "zk_local_sessions\t0" in await told(them, sid, "mntr")

    asyncio.run(main())


def test_an_ephemeral_znode_makes_the_session_one_of_the_ensemble(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, 1, **UPGRADING, **ALL_WORDS) as them:
            await begin(them)
            for sid in them.ports:
                zk = client(them.hosts(sid))
                await zk.start()
                assert zk.session is not None
                before = await settled(them)
                await zk.create("/kept")
                if sid % 2:
                    async with zk.transaction() as t:
                        t.check("/kept", version=0)
                        t.create("/mine", ephemeral=True)
                else:
                    await zk.create("/mine", ephemeral=True)
                assert (await zk.get("/mine")).stat.ephemeral_owner == zk.session.id
                # The create, the session, the ephemeral znode.
                assert await settled(them) == before + 3
                assert in_ensemble(them) == {zk.session.id}
                await zk.create("/mine-too", ephemeral=True)
                await zk.delete("/kept")
                assert await settled(them) == before + 5
                assert {"zk_local_sessions\t0", "zk_global_sessions\t1"} <= {*await told(them, sid, "mntr")}
                await zk.close()
                assert await settled(them) == before + 6
                assert in_ensemble(them) == set()
            assert b"/mine" not in (await them.trees())[0]

    asyncio.run(main())


def test_an_upgraded_session_moves_and_lives_on(tmp_path: Path) -> None:
    """Others keep it from now on: the leader hears of it by the pings, and another member takes its client."""

    async def main() -> None:
        async with members(tmp_path, 3, 0, **UPGRADING) as them:
            await begin(them)
            leader = await them.leader()
            at = next(sid for sid in them.ports if sid != leader)
            other = 6 - leader - at
            with ExitStack() as connections:
                begun = await connect(connections, them.ports[at])
                await asyncio.to_thread(begun.do, OpCode.CREATE, raw.create(b"/mine", flags=CreateMode.EPHEMERAL))
                server = them.peers[leader].server
                assert server is not None
                kept = server.tracker.sessions[begun.session.session_id]
                bucket_ms = kept.bucket_ms
                while kept.bucket_ms < bucket_ms + 600:
                    await asyncio.to_thread(begun.ping)
                    await asyncio.sleep(0.02)
                moved = await connect(connections, them.ports[other], renew=begun.renewal)
                assert moved.session.session_id == begun.session.session_id
                await asyncio.to_thread(moved.do, OpCode.GET_DATA, raw.get_data(b"/mine"))

    asyncio.run(main())


def test_the_leader_is_not_told_that_a_local_session_was_heard_of() -> None:
    sessions = LearnerSessions(100, 1)
    known, local = sessions.add(1, 1000, 0), sessions.add(2, 2000, 0)
    sessions.take_touched()
    local.local = cast("LocalSessions", object())
    for each in (known, local):
        sessions.touch(each, 500)
    assert decode_sessions(sessions.take_touched()) == [(1, 1000)]


def test_a_local_session_ends_by_the_word_of_its_own_member(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, 1, **LOCAL) as them:
            before = await begin(them)
            with ExitStack() as connections:
                silent = {sid: await connect(connections, port, timeout_ms=200) for sid, port in them.ports.items()}
                for sid, each in silent.items():
                    assert await asyncio.to_thread(each.ended)
                    server = them.peers[sid].server
                    assert server is not None
                    assert each.session.session_id not in server.tracker.sessions
                    renewed = await connect(connections, them.ports[sid], renew=each.renewal)
                    assert renewed.session.timeout_ms == 0
                    assert await asyncio.to_thread(renewed.ended)
            assert await settled(them) == before

    asyncio.run(main())


def test_a_local_session_is_gone_on_with_at_its_own_member_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, 1, **LOCAL) as them:
            await begin(them)
            with ExitStack() as connections:
                for sid, port in them.ports.items():
                    begun = await connect(connections, port)
                    session_id = begun.session.session_id
                    # Whatever it has asked before is done when it goes on.
                    paths = [b"/%d-%d" % (sid, n) for n in range(20)]
                    begun.send(b"".join(raw.request(1, OpCode.CREATE, raw.create(path)) for path in paths))
                    again = await connect(connections, port, renew=begun.renewal)
                    assert again.session.session_id == session_id
                    assert (await asyncio.to_thread(again.ask, OpCode.GET_DATA, raw.get_data(paths[-1]))).error == 0
                    leader = them.peers[await them.leader()].server
                    assert leader is not None
                    # What another member speaks for is believed; its own sessions the leader knows.
                    assert leader.may_be_local(session_id)
                    assert leader.may_be_local(session_id + 1) is (sid != leader.server_id)
                    for other in them.ports.keys() - {sid}:
                        elsewhere = await connect(connections, them.ports[other], renew=again.renewal)
                        assert elsewhere.session.timeout_ms == 0
                    # Nobody has taken it away from where it is.
                    await asyncio.to_thread(again.ping)
                    stranger = (session_id + 1, session_password(session_id + 1))
                    assert (await connect(connections, port, renew=stranger)).session.timeout_ms == 0

    asyncio.run(main())


@pytest.mark.parametrize("settings", [LOCAL, UPGRADING])
def test_all_is_answered_in_the_order_of_the_requests(tmp_path: Path, settings: dict[str, str]) -> None:
    """Writes, refusals, reads and the end of the session, sent at once."""
    requests = [
        (OpCode.CREATE2, raw.create(b"/mine", flags=CreateMode.EPHEMERAL)),
        (OpCode.GET_DATA, raw.get_data(b"/mine")),
        (OpCode.CREATE, raw.create(b"/a")),
        (OpCode.GET_DATA, raw.get_data(b"/a")),
        (OpCode.SYNC, b"\0\0\0\2/a"),
        (OpCode.SET_DATA, raw.set_data(b"/n/o", b"")),
        (OpCode.DELETE, b"\0\0\0\2/a" + b"\xff" * 4),
        (OpCode.CLOSE_SESSION, b""),
    ]
    errors = [-120, -101, 0, 0, 0, -101, 0, 0] if settings is LOCAL else [0, 0, 0, 0, 0, -101, 0, 0]

    async def main() -> None:
        async with members(tmp_path, 3, 1, **settings) as them:
            await begin(them)
            for sid in them.ports:
                # A client may begin to count at 0, as the upgrade of its session does.
                for first in (0, 1):
                    with ExitStack() as connections:
                        asking = await connect(connections, them.ports[sid])
                        asking.send(b"".join(raw.request(first + n, *each) for n, each in enumerate(requests)))
                        replies = [await asyncio.to_thread(asking.reply) for _ in requests]
                        assert [reply.xid for reply in replies] == list(range(first, first + len(requests)))
                        assert [reply.error for reply in replies] == errors
                        assert await asyncio.to_thread(asking.ended)
            await settled(them)
            assert in_ensemble(them) == set()

    asyncio.run(main())


def test_they_end_with_the_leader_of_their_member(tmp_path: Path) -> None:
    """Whoever was connected goes on with another one."""

    async def main() -> None:
        async with members(tmp_path, 3, 0, **LOCAL) as them:
            await begin(them)
            leader = await them.leader()
            at = next(sid for sid in them.ports if sid != leader)
            async with client(them.hosts(at)) as zk:
                states = zk.states()
                assert await anext(states) is State.CONNECTED
                first = zk.session
                await them.stop(leader)
                assert [await anext(states) for _ in range(3)] == [State.SUSPENDED, State.LOST, State.CONNECTED]
                assert zk.session is not first
                await zk.create("/later")

    asyncio.run(main())


@pytest.mark.slow
def test_what_the_shell_says(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, 0, **LOCAL) as them:
            await begin(them)
            done = await asyncio.to_thread(corral_shell, "-server", them.hosts(), "create", "-e", "/mine")
            assert done.stderr.splitlines() == [
                b"Unable to create ephemeral node on a local session",
                b"KeeperErrorCode = Ephemeral node on local session for /mine",
            ]
            assert done.returncode == 1

    asyncio.run(main())
