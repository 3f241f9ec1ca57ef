"""What a leader makes of what learners pass on: of sessions that are at another member now, and other requests."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.e2e.raw import Client, ConnectionEndedError, create, get_data, set_data
from tests.e2e.test_quorum_peers import client, members

from corral.jute.ops import CreateMode, OpCode
from corral.quorum.serving import LeaderServer
from corral.testing import Ensemble


def ports(ensemble: Ensemble) -> dict[int, int]:
    """Of each member, for clients."""
    return {sid: int(address.rpartition(":")[2]) for sid, address in ensemble.addresses.items()}


def test_who_has_moved_writes_by_its_new_connection_only() -> None:
    with Ensemble(3) as ensemble:
        leader = ensemble.leader()
        first, second = (port for sid, port in ports(ensemble).items() if sid != leader)
        with Client(first) as old:
            old.do(OpCode.CREATE, create(b"/mine", b"", CreateMode.EPHEMERAL))
            with Client(second, renew=old.renewal) as new:
                old.do(OpCode.GET_DATA, get_data(b"/mine"))
                with pytest.raises(ConnectionEndedError):
                    old.ask(OpCode.SET_DATA, set_data(b"/mine", b"late"))
                new.do(OpCode.SET_DATA, set_data(b"/mine", b"in time"))
                assert b"in time" in new.do(OpCode.GET_DATA, get_data(b"/mine")).body


@pytest.mark.parametrize("to_leader", [False, True])
def test_a_session_is_closed_by_a_connection_of_before_too(*, to_leader: bool) -> None:
    with Ensemble(3) as ensemble:
        leader = ensemble.leader()
        follower, another = (sid for sid in ensemble.voters if sid != leader)
        port = ports(ensemble)
        with Client(port[follower]) as old, Client(port[leader if to_leader else another], renew=old.renewal) as new:
            new.do(OpCode.CREATE, create(b"/mine", b"", CreateMode.EPHEMERAL))
            # No client gives a session's requests the same number twice: a member goes by it.
            old.do(OpCode.GET_DATA, get_data(b"/"))
            old.do(OpCode.CLOSE_SESSION, b"")
            assert old.ended()
            assert new.ended()
        assert "/mine" not in ensemble.tree(follower)


def test_no_client_deletes_as_the_server_does_by_way_of_a_learner_that_passes_everything_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path) as them:
            await them.start(1, 2, 3)
            async with client(them.hosts()) as zk:
                await zk.create("/kept")
                leader = them.peers[await them.leader()].server
                assert isinstance(leader, LeaderServer)
                leader.forwarded(0, 1, OpCode.DELETE_CONTAINER, b"/kept", (), object())
                await zk.sync()
                assert await zk.exists("/kept") is not None

    asyncio.run(main())
