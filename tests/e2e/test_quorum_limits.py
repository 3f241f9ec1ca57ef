"""What is too much for an ensemble is held off: members that do not keep up, and clients that ask too much at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.e2e.test_quorum_peers import Members, client, members

from corral.cli.words import ask
from corral.quorum import learner_link
from corral.quorum.leader import Leader
from corral.quorum.packet_stream import PacketStream
from corral.quorum.packets import ACK, PROTOCOL_VERSION, LearnerInfo, PacketType, pack
from corral.quorum.snapshot_stream import SnapshotStream
from corral.testing import Ensemble

PIECE = b"x" * 100_000


async def begin(them: Members, leader: int, sid: int, kind: PacketType) -> PacketStream:
    """Play a learner up to the moment when it has the leader's history, and is to acknowledge that."""
    loop = asyncio.get_running_loop()
    place = them.ensemble.members[leader].addresses[0]
    _, stream = await loop.create_connection(PacketStream, place.host, place.quorum_port)
    stream.write(pack(kind, 0, LearnerInfo(sid, PROTOCOL_VERSION, 0).encode()))
    told = await stream.read()
    assert told.type == PacketType.LEADER_INFO
    stream.write(pack(PacketType.ACK_EPOCH, 0, (0).to_bytes(4, "big")))
    while (packet := await stream.read()).type != PacketType.NEW_LEADER:
        if packet.type == PacketType.SNAP:
            tree = SnapshotStream()
            while not tree.feed(await stream.read_bytes()):
                pass
            stream.put_back(tree.rest)
    return stream


async def finish(stream: PacketStream) -> None:
    """Acknowledge the history of the first epoch; the leader holds the learner to be in step after that."""
    stream.write(pack(ACK, 1 << 32))
    while (await stream.read()).type != PacketType.UP_TO_DATE:
        pass


def test_follower_that_does_not_read_is_dropped_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits for it in the leader's memory is bounded, and the others go on meanwhile."""
    limit = 256 * 1024
    monkeypatch.setattr(learner_link, "_UNSENT_MAX_BYTES", limit)

    async def main() -> None:
        # With such a tick it is not its silence that counts.
        async with members(tmp_path, tickTime="2000", maxSessionTimeout="40000") as them:
            await them.start(1, 2)
            assert await them.leader() == 2
            term = them.peers[2].term
            assert isinstance(term, Leader)
            stream = await begin(them, 2, 3, PacketType.FOLLOWER_INFO)
            await finish(stream)
            # From here on its connection is not read.
            assert set(term.learners) == {1, 3}
            async with client(them.hosts(1, 2)) as zk:
                await zk.create("/big")
                written = 0
                while 3 in term.learners:
                    await zk.set("/big", PIECE)
                    written += len(PIECE)
                    if 3 in term.learners:
                        assert term.learners[3].stream.unsent_bytes <= limit + 2 * len(PIECE)
                    assert written < 100 * 2**20
                assert set(term.learners) == {1}
                await zk.set("/big", b"and on")
                stream.abort()
                await them.start(3)
                *_, third = await them.trees()
                assert them.peers[2].term is term
                assert b"and on" in third[b"/big"]

    asyncio.run(main())
    assert any("<follower 3> does not keep up: dropped with" in record.getMessage() for record in caplog.records)


def test_what_is_held_for_one_that_comes_into_step_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(learner_link, "_HELD_MAX_BYTES", 3 * len(PIECE))

    async def main() -> None:
        async with members(tmp_path) as them:
            await them.start(1, 2)
            await them.leader()
            loop = asyncio.get_running_loop()
            made = loop.create_future()
            server = await loop.create_server(lambda: PacketStream(made.set_result), "127.0.0.1", 0)
            _, other_end = await loop.create_connection(PacketStream, *server.sockets[0].getsockname())
            learner = learner_link.Learner(await made, LearnerInfo(3, PROTOCOL_VERSION, 0), is_observer=True)
            for _ in range(3):
                learner.send(PIECE)
            assert not caplog.records
            learner.send(PIECE)
            with pytest.raises((EOFError, OSError)):
                await other_end.read()
            server.close()
            await server.wait_closed()

    asyncio.run(main())
    assert "<observer 3> takes too long to come into step: dropped with 400000 bytes held" in caplog.messages


def test_only_so_many_observers_are_brought_into_step_at_once(tmp_path: Path) -> None:
    """Those that are too many have to come again; a follower never has to."""
    settings = {"leader.maxConcurrentSnapSyncs": "1", "leader.maxConcurrentDiffSyncs": "1"}

    async def main() -> None:
        async with members(tmp_path, 3, 0, **settings) as them:
            await them.start(1, 2)
            assert await them.leader() == 2
            first = await begin(them, 2, 11, PacketType.OBSERVER_INFO)
            with pytest.raises((EOFError, OSError)):
                await begin(them, 2, 12, PacketType.OBSERVER_INFO)
            follower = await begin(them, 2, 3, PacketType.FOLLOWER_INFO)
            await finish(follower)
            await finish(first)
            second = await begin(them, 2, 12, PacketType.OBSERVER_INFO)
            await finish(second)
            term = them.peers[2].term
            assert isinstance(term, Leader)
            assert set(term.learners) == {1, 3, 11, 12}
            for each in (first, follower, second):
                each.abort()

    asyncio.run(main())


def synced(ensemble: Ensemble, sid: int) -> str:
    host, _, port = ensemble.addresses[sid].partition(":")
    lines = ask(host, int(port), "mntr").splitlines()
    return next(line.split("\t")[1] for line in lines if line.startswith("zk_synced_followers"))


def test_silent_follower_is_not_in_step_any_more(caplog: pytest.LogCaptureFixture) -> None:
    with Ensemble(3, syncLimit=5) as ensemble:
        leader = ensemble.leader()
        silent = next(sid for sid in ensemble.voters if sid != leader)
        assert synced(ensemble, leader) == "2"
        ensemble.pause(silent)
        while synced(ensemble, leader) != "1":
            pass
        ensemble.resume(silent)
        while synced(ensemble, leader) != "2":
            pass
    assert any(f"<follower {silent}> is silent for " in message for message in caplog.messages)


@pytest.mark.parametrize("sid", [1, 2])
@pytest.mark.parametrize(
    "settings",
    [
        {"request_throttle_max_requests": "2"},
        {"globalOutstandingLimit": "2"},
        {"largeRequestThreshold": "1000", "largeRequestMaxBytes": "300000"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_clients_that_ask_too_much_wait_and_are_all_served(tmp_path: Path, sid: int, settings: dict[str, str]) -> None:
    """At the leader, which is server 2, and at a follower: what stalls goes on when others' writes are done."""

    async def main() -> None:
        async with members(tmp_path, 2, 0, **settings) as them:
            await them.start(1, 2)
            assert await them.leader() == 2
            async with client(them.hosts(sid)) as zk, client(them.hosts(sid)) as other:
                each_twice = [c.create(f"/{c is zk}-{n}", b"x" * 1500) for n in range(50) for c in (zk, other)]
                await asyncio.gather(*each_twice)
                assert len(await zk.get_children("/")) == 101
                server = them.peers[sid].server
                assert server is not None
                assert server.pipeline.outstanding == 0
                if "request_throttle_max_requests" in settings:
                    assert server.stats.counters["request_throttle_wait_count"] > 0

    asyncio.run(main())
