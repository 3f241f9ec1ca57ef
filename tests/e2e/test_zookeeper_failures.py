"""Failures of Apache's server, by their numbers, that no other test is about."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
from tests.e2e import raw
from tests.e2e.test_quorum_peers import client, members
from tests.scripted_leader import creations, path, scripted_leader

import corral
from corral.jute.errors import ErrorCode
from corral.jute.ops import CreateMode, OpCode
from corral.jute.owner import OwnerKind, OwnerRules
from corral.jute.primitives import Reader
from corral.jute.records import MultiHeader, PathResponse, PathVersionRequest, Stat
from corral.quorum import serving
from corral.quorum.ensemble import parse_ensemble
from corral.quorum.vote import Notification, Role, Vote, decode_notification
from corral.server import standalone
from corral.server.config import ConfigError, from_properties
from corral.server.config.model import EXTENDED_SERVER_ID_MAX
from corral.server.sessions import first_session_id
from corral.storage.files import list_snapshots
from corral.storage.txnlog import decode_entry
from corral.testing import Server

MULTI_END = MultiHeader(-1, True, -1).to_bytes()


def test_zookeeper_2623_a_check_sent_alone_leaves_nothing_that_cannot_be_replayed(tmp_path: Path) -> None:
    with Server(data_dir=tmp_path) as server:
        with raw.Client(server.port) as asking:
            assert asking.ask(OpCode.CREATE, raw.create(b"/a")).error == 0
            for version in (0, 7):
                answer = asking.ask(OpCode.CHECK, PathVersionRequest(b"/a", version))
                assert answer.error == ErrorCode.UNIMPLEMENTED
            assert asking.ask(OpCode.SET_DATA, raw.set_data(b"/a", b"after")).error == 0
        server.kill()
        server.restart()
        with corral.sync.connect(server.address) as zk:
            assert zk.get("/a").data == b"after"


def test_zookeeper_2678_who_is_told_the_difference_takes_no_snapshot_before_it_joins(tmp_path: Path) -> None:
    """Writing down a large tree once more takes longer than there is time to join."""

    async def main() -> None:
        async with scripted_leader(tmp_path) as leader:
            await leader.bring_into_step(creations(1, 50))
            await leader.restart()
            directory = leader.peer.history.database.snapshot_directory
            before = {each.path.name: each.path.stat().st_ino for each in list_snapshots(directory)}
            await leader.bring_into_step(creations(1, 50, 2), 2)
            assert {each.path.name: each.path.stat().st_ino for each in list_snapshots(directory)} == before
            assert path(50, 2) in leader.znodes

    asyncio.run(main())


def test_zookeeper_2623_a_check_sent_alone_to_an_ensemble_proposes_nothing(tmp_path: Path) -> None:
    def ask(port: int) -> None:
        with raw.Client(port) as asking:
            for path in (b"/", b"/missing"):
                assert asking.ask(OpCode.CHECK, PathVersionRequest(path, 7)).error == ErrorCode.UNIMPLEMENTED

    async def main() -> None:
        async with members(tmp_path, 3, 1) as them:
            await them.start(*them.ports)
            leader = them.peers[await them.leader()]
            while any(peer.server is None for peer in them.peers.values()):
                await asyncio.sleep(0.005)
            for port in them.ports.values():
                await asyncio.to_thread(ask, port)
            logged = [decode_entry(entry).header.type for _, entry in leader.history.database.logged_after(0)]
            assert logged == [OpCode.CREATE_SESSION] * 4
            first, *others = await them.trees()
            assert others == [first] * 3

    asyncio.run(main())


@pytest.mark.parametrize("number", [1, 127, 128, 200, EXTENDED_SERVER_ID_MAX])
def test_zookeeper_2901_ephemerals_are_ephemerals_whatever_the_servers_number(number: int) -> None:
    for rules in (OwnerRules(), OwnerRules(extended_types=True)):
        for now_ms in (0, 1_700_000_000_000):
            assert rules.kind(first_session_id(number, now_ms)) is OwnerKind.EPHEMERAL


def test_zookeeper_2901_an_ephemeral_of_server_200_ends_with_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standalone.Server, "server_id", 200)
    with Server(data_dir=tmp_path, extended_types_enabled=True) as server:
        with corral.sync.connect(server.address) as zk:
            zk.create("/mine", ephemeral=True)
            server.kill()
            server.restart()
            stat = zk.get("/mine").stat
            assert zk.session is not None
            assert stat.ephemeral_owner == zk.session.id < 0
        with corral.sync.connect(server.address) as zk:
            assert zk.exists("/mine") is None


def test_zookeeper_2901_a_number_whose_sessions_would_look_like_times_to_live_is_refused(tmp_path: Path) -> None:
    (tmp_path / "myid").write_text("255")
    properties = {"dataDir": str(tmp_path), "clientPort": "2181"}
    assert from_properties(properties).server_id == 255
    with pytest.raises(ConfigError, match=r"the number 255 in .* is above 254"):
        from_properties({**properties, "extendedTypesEnabled": "true"})


def test_zookeeper_1277_2789_an_epoch_whose_counter_is_used_up_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is acknowledged beyond it, and nothing is lost."""
    monkeypatch.setattr(serving, "LAST_COUNTER", 0x1F)

    async def main() -> None:
        async with members(tmp_path) as them:
            await them.start(1, 2, 3)
            async with client(them.hosts()) as zk:
                first = them.peers[await them.leader()].history.current_epoch
                for number in range(80):
                    await zk.persist(partial(zk.create, f"/{number}"))
                assert them.peers[await them.leader()].history.current_epoch >= first + 2
            for tree in await them.trees():
                assert {b"/%d" % number for number in range(80)} <= tree.keys()

    asyncio.run(main())


def test_zookeeper_4787_a_host_name_beyond_ascii_travels_with_a_vote() -> None:
    ensemble = parse_ensemble("server.1=zürich:2888:3888:participant\nserver.2=東京:2888:3888:participant")
    told = Notification(Role.LOOKING, Vote(1, 0, 1, 0), config=ensemble.to_text())
    heard = decode_notification(told.encode())
    assert heard == told
    assert parse_ensemble(heard.config) == ensemble


@pytest.mark.parametrize(
    ("op", "kind", "flags"),
    [
        (OpCode.CREATE, OpCode.CREATE, CreateMode.PERSISTENT),
        (OpCode.CREATE2, OpCode.CREATE2, CreateMode.PERSISTENT),
        (OpCode.CREATE2, OpCode.CREATE2, CreateMode.EPHEMERAL_SEQUENTIAL),
        (OpCode.CREATE_CONTAINER, OpCode.CREATE2, CreateMode.CONTAINER),
    ],
)
def test_zookeeper_4026_who_asks_for_the_stat_gets_it_within_a_multi_too(
    op: OpCode, kind: OpCode, flags: CreateMode
) -> None:
    """Among other operations: what follows must be found where it is."""
    with Server() as server, raw.Client(server.port) as asking:
        other = MultiHeader(OpCode.CREATE, False, -1).to_bytes() + raw.create(b"/plain")
        body = MultiHeader(op, False, -1).to_bytes() + raw.create(b"/a", b"data", flags)
        reader = Reader(asking.do(OpCode.MULTI, other + body + other[:9] + raw.create(b"/last") + MULTI_END).body)
        assert MultiHeader.decode(reader) == MultiHeader(OpCode.CREATE, False, 0)
        assert PathResponse.decode(reader).path == b"/plain"
        assert MultiHeader.decode(reader) == MultiHeader(kind, False, 0)
        path = PathResponse.decode(reader).path
        assert path is not None
        if kind == OpCode.CREATE2:
            stat = Stat.decode(reader)
            assert stat.to_bytes() == asking.do(OpCode.EXISTS, raw.get_data(path)).body
        assert MultiHeader.decode(reader) == MultiHeader(OpCode.CREATE, False, 0)
        assert PathResponse.decode(reader).path == b"/last"
        assert reader.data[reader.position :] == MULTI_END


def test_zookeeper_1412_what_was_seen_before_a_reconnection_is_no_event_after_it(tmp_path: Path) -> None:
    """A client knows by the zxid in the replies to its reads how much it has seen."""

    async def main() -> None:
        async with members(tmp_path) as them:
            await them.start(1, 2, 3)
            leader = await them.leader()
            follower = next(sid for sid in them.peers if sid != leader)
            for sid in (leader, follower):
                async with client(them.hosts(sid)) as writing, client(them.hosts(sid)) as reading:
                    await writing.create(f"/{sid}", b"seen")
                    await writing.create(f"/{sid}/below")
                    events: list[corral.WatchEvent] = []
                    assert await reading.exists(f"/{sid}", watch=events.append) is not None
                    assert await reading.get_children(f"/{sid}", watch=events.append) == ["below"]
                    reading.reconnect()
                    await reading.connected()
                    assert (await reading.get(f"/{sid}")).data == b"seen"
                    assert events == []
                    changed = await writing.set(f"/{sid}", b"new")
                    created = await writing.create(f"/{sid}/new")
                    await reading.sync()
                    assert events == [
                        corral.WatchEvent(corral.EventKind.DATA_CHANGED, f"/{sid}", changed.mzxid),
                        corral.WatchEvent(corral.EventKind.CHILDREN_CHANGED, f"/{sid}", created.zxid),
                    ]

    asyncio.run(main())
