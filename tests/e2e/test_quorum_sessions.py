"""Sessions that go from member to member while connections of before are still there."""

from __future__ import annotations

import pytest
from tests.e2e.raw import Client, ConnectionEndedError, create, get_data, set_data

from corral.jute.ops import CreateMode, OpCode
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
            old.do(OpCode.CLOSE_SESSION, b"")
            assert old.ended()
            assert new.ended()
        assert "/mine" not in ensemble.tree(follower)
