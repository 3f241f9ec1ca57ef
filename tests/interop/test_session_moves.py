"""Sessions that go from member to member while their older connections stay: the same answers by either kind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.e2e.raw import Client, ConnectionEndedError, create, get_data, set_data
from tests.interop.test_dynamic_files import PATIENCE_S, both_kinds

from corral.jute.ops import CreateMode, OpCode
from corral.jute.records import PathRequest

pytestmark = pytest.mark.timeout(2 * PATIENCE_S)
MINE = b"/mine"


def outcome(client: Client, operation: int, body: bytes) -> int | str:
    """The error code of the answer; "ended" if the connection ends instead."""
    try:
        return client.ask(operation, body).error
    except ConnectionEndedError:
        return "ended"


def moves(before: int, after: int) -> list[object]:
    """What becomes of both connections of a session, by the ports that they were made to."""
    with Client(before) as old:
        told: list[object] = [outcome(old, OpCode.CREATE, create(MINE, b"", CreateMode.EPHEMERAL))]
        with Client(after, renew=old.renewal) as new:
            told.append(new.renewal == old.renewal)
            # One by one, so that no two requests of the session have one number.
            told += [outcome(old, OpCode.GET_DATA, get_data(MINE)), outcome(old, OpCode.SET_DATA, set_data(MINE, b"1"))]
            # Only its own write tells that a member of Apache's has come so far.
            told.append(outcome(new, OpCode.SET_DATA, set_data(MINE, b"2")))
            told.append(b"2" in new.do(OpCode.GET_DATA, get_data(MINE)).body[4:5])
            told.append(outcome(new, OpCode.CLOSE_SESSION, b""))
    return told


def closes(before: int, after: int) -> list[object]:
    """The same if the older connection ends the session."""
    with Client(before) as old, Client(after, renew=old.renewal) as new:
        told: list[object] = [outcome(new, OpCode.CREATE, create(MINE, b"", CreateMode.EPHEMERAL))]
        told += [outcome(old, OpCode.GET_DATA, get_data(b"/")), outcome(old, OpCode.CLOSE_SESSION, b"")]
        told += [old.ended(), new.ended()]
    return told


def stolen(before: int, after: int) -> list[object]:
    """The same if whoever comes does not know the password."""
    with Client(before) as old, Client(after, renew=(old.session.session_id, b"x" * 16)) as thief:
        told: list[object] = [thief.session.timeout_ms, thief.session.session_id, thief.ended()]
        told += [outcome(old, OpCode.GET_DATA, get_data(b"/")), outcome(old, OpCode.CLOSE_SESSION, b"")]
    return told


def gone(port: int) -> bool:
    """Whether a member has nothing left of the session."""
    with Client(port) as client:
        client.do(OpCode.SYNC, PathRequest(b"/").to_bytes())
        return client.ask(OpCode.GET_DATA, get_data(MINE)).error == -101


def test_sessions_move_as_in_apaches_ensembles(tmp_path: Path) -> None:
    async def main(layout: str) -> dict[str, list[object]]:
        async with both_kinds(tmp_path / layout, layout) as them:
            await them.start(1, 2, 3)
            await them.take_part(1, 2, 3)
            follower = await them.follower()
            (another,) = [sid for sid in them.ports if sid != follower and await them.mode(sid) == "follower"]
            (leader,) = {1, 2, 3} - {follower, another}
            ways = {
                "from follower to follower": (follower, another),
                "from follower to leader": (follower, leader),
                "at one follower": (follower, follower),
                "at the leader": (leader, leader),
            }
            found: dict[str, list[object]] = {}
            for way, sids in ways.items():
                ports = [them.ports[sid] for sid in sids]
                for story in (moves, closes, stolen) if len({*sids}) == 2 else (moves, stolen):
                    told = await asyncio.to_thread(story, *ports)
                    told += [await asyncio.to_thread(gone, port) for port in them.ports.values()]
                    found[f"{story.__name__} {way}"] = told
            # Apache's leader keeps the older connection until it asks something.
            ports = [them.ports[leader], them.ports[another]]
            found["moves from leader to follower"] = await asyncio.to_thread(moves, *ports)
            return found

    ours, theirs = asyncio.run(main("CCC")), asyncio.run(main("AAA"))
    assert ours == theirs
    # Not all the same for the wrong reason.
    assert ours["moves from follower to follower"] == [0, True, 0, "ended", 0, True, 0, True, True, True]
    assert ours["closes from follower to leader"] == [0, 0, 0, True, True, True, True, True]
