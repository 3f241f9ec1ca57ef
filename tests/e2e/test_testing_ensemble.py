"""``corral.testing.Ensemble``: real members, with the trouble that a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import corral
from corral.client import Client
from corral.server.config import ConfigError
from corral.testing import Ensemble, ServerError, SessionNotFoundError
from corral.testing.server import State

PATIENCE_S = 40


def client(hosts: str, timeout: float = 5) -> Client:
    return corral.connect(hosts, session_timeout=timeout, backoff_first=0.01, backoff_max=0.05)


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await scenario()

    asyncio.run(main())


def same_trees(ensemble: Ensemble, *sids: int) -> dict[str, bytes | None]:
    """What these members hold, once they hold the same."""
    while True:
        first, *others = [ensemble.tree(sid) for sid in sids]
        if all(other == first for other in others):
            return first


def test_members_replicate_and_outlive_their_leader() -> None:
    async def scenario() -> None:
        async with Ensemble(3, observers=1) as ensemble:
            assert (ensemble.voters, ensemble.observers) == ((1, 2, 3), (4,))
            leader = ensemble.leader()
            modes = {sid: ensemble.standing(sid).mode for sid in ensemble.addresses}
            assert modes == dict.fromkeys((1, 2, 3), "follower") | {4: "observer", leader: "leader"}
            async with client(ensemble.address) as zk:
                await zk.create("/a", b"1")
                ensemble.kill(leader)
                assert ensemble.state(leader) is State.KILLED
                await zk.persist(lambda: zk.set("/a", b"2"))
                assert ensemble.leader() != leader
                ensemble.restart(leader)
                ensemble.wait_until_serving()
                await zk.persist(lambda: zk.set("/a", b"3"))
            assert same_trees(ensemble, 1, 2, 3, 4) == {"/a": b"3"}

    play(scenario)


def test_cut_off_leader_serves_no_more() -> None:
    async def scenario() -> None:
        async with Ensemble(3, syncLimit=4) as ensemble:
            old = ensemble.leader()
            rest = [sid for sid in ensemble.voters if sid != old]
            ensemble.partition({old}, rest)
            new = ensemble.leader(*rest)
            assert ensemble.standing(new).epoch > 1
            async with client(ensemble.addresses[new]) as zk:
                await zk.create("/by-the-new-one", b"")
            while ensemble.standing(old).mode is not None:
                await asyncio.sleep(0.005)
            assert "/by-the-new-one" not in ensemble.tree(old)
            ensemble.heal()
            ensemble.wait_until_serving()
            assert same_trees(ensemble, 1, 2, 3) == {"/by-the-new-one": b""}

    play(scenario)


def test_expired_session_is_gone_everywhere(zookeeper_ensemble: Ensemble) -> None:
    async def scenario() -> None:
        ensemble = zookeeper_ensemble
        async with client(ensemble.address) as zk:
            await zk.create("/mine", ephemeral=True)
            session = zk.session
            assert session is not None
            assert [each.id for each in ensemble.sessions(ensemble.leader())] == [session.id]
            ensemble.expire_session(session.id)
            await session.ended()
        assert same_trees(ensemble, 1, 2, 3) == {}
        with pytest.raises(SessionNotFoundError):
            ensemble.expire_session(1)

    play(scenario)


def test_expired_local_session_is_gone_where_it_was() -> None:
    async def scenario() -> None:
        async with Ensemble(3, properties={"localSessionsEnabled": "true"}) as ensemble:
            for sid in ensemble.voters:
                async with client(ensemble.addresses[sid]) as zk:
                    session = zk.session
                    assert session is not None
                    assert [each.id for each in ensemble.sessions(sid)] == [session.id]
                    ensemble.expire_session(session.id)
                    await session.ended()

    play(scenario)


@pytest.mark.slow
@pytest.mark.parametrize("in_process", [True, False])
def test_every_trouble_in_turn(in_process: bool) -> None:
    async def scenario() -> None:
        async with Ensemble(3, observers=1, in_process=in_process, syncLimit=5) as ensemble:
            written = 0

            async def write() -> None:
                nonlocal written
                async with client(ensemble.address) as zk:
                    await zk.persist(lambda: zk.ensure("/n"))
                    await zk.persist(lambda: zk.set("/n", b"%d" % (written + 1)))
                written += 1

            await write()
            for _ in range(2):
                leader = ensemble.leader()
                ensemble.kill(leader)
                await write()
                ensemble.restart(leader)
                await write()
                leader = ensemble.leader()
                ensemble.pause(leader)
                assert ensemble.leader() != leader
                await write()
                ensemble.resume(leader)
                ensemble.wait_until_serving()
                leader = ensemble.leader()
                ensemble.partition({leader})
                await write()
                ensemble.partition({1, 2}, {3, 4})
                ensemble.leader(1, 2)
                await write()
                ensemble.heal()
                ensemble.wait_until_serving()
                ensemble.stop(leader)
                await write()
                ensemble.restart(leader)
                ensemble.wait_until_serving()
            assert same_trees(ensemble, 1, 2, 3, 4) == {"/n": b"%d" % written}

    play(scenario)


def test_one_member_is_an_ensemble() -> None:
    with Ensemble(1) as ensemble:
        assert ensemble.leader() == 1
        assert ensemble.config(1).is_member


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="0 servers and 1 observers are no ensemble"):
        Ensemble(0, observers=1)
    with pytest.raises(ConfigError, match="there is no setting nonsense"):
        Ensemble(nonsense=1)
    ensemble = Ensemble(2)
    directory = ensemble.config(1).data_dir.parent
    with pytest.raises(ServerError, match="cannot kill server 1: it is not started yet"):
        ensemble.kill(1)
    with pytest.raises(ValueError, match="there is no server 3; there are 1, 2"):
        ensemble.partition({1}, {2, 3})
    with pytest.raises(ValueError, match="server 1 is in two groups"):
        ensemble.partition({1}, {1, 2})
    assert directory.is_dir()
    ensemble.close()
    ensemble.close()
    assert not Path(directory).exists()
    with pytest.raises(ServerError, match="has been closed already"):
        ensemble.start()
