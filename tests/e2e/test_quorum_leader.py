"""What a leader counts, and whom it believes. The learners are played by the test."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.faulty_disk import HeldDisk
from tests.scripted_learners import LEADER, PATIENCE_S, ScriptedLearner, ScriptedLearners, scripted_learners

import corral
from corral.client import Client
from corral.jute.ops import OpCode
from corral.jute.records import Acl, Id
from corral.quorum.ensemble import Ensemble
from corral.quorum.packets import (
    ACK,
    PROTOCOL_VERSION,
    LearnerInfo,
    PacketType,
    encode_sessions,
    pack,
    pack_request,
)
from corral.quorum.snapshot_stream import SnapshotStream
from corral.storage.files import ACCEPTED_EPOCH
from corral.storage.filesystem import REAL, FileSystem
from corral.tree.acl import encode_acl

Script = Callable[[ScriptedLearners], Awaitable[None]]


def play(
    directory: Path,
    script: Script,
    filesystem: FileSystem = REAL,
    *,
    number: int = 3,
    sync_limit: int = PATIENCE_S,
    **settings: Any,
) -> None:
    async def main() -> None:
        async with scripted_learners(directory, number, filesystem, sync_limit=sync_limit, **settings) as them:
            await script(them)

    asyncio.run(main())


async def begin(them: ScriptedLearners, follower: ScriptedLearner) -> tuple[Client, int]:
    """A client of the leader, and the zxid of its session."""
    zk = corral.connect(f"127.0.0.1:{them.client_port}", session_timeout=15)
    starting = asyncio.ensure_future(zk.start())
    zxid = await follower.acknowledge_next()
    await starting
    return zk, zxid


async def turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def test_what_was_acknowledged_before_a_truncation_counts_no_more(tmp_path: Path) -> None:
    """A follower that comes again is cut back to what is committed; until it has the rest again, nobody else may.

    The leader's own disk is done only after that. With the old acknowledgement it would answer its client, and be the
    only one to have what was written.
    """
    disk = HeldDisk()

    async def script(them: ScriptedLearners) -> None:
        follower = await them.bring_into_step(2)
        zk, opened = await begin(them, follower)
        disk.let.clear()
        writing = asyncio.ensure_future(zk.create("/written"))
        proposed = await follower.acknowledge_next()
        await follower.heard()
        follower.stream.abort()
        again = await them.connect(2)
        await again.greet(accepted_epoch=1)
        again.promise(proposed, -1)
        first = await again.take_history()
        assert (first.type, first.zxid) == (PacketType.TRUNC, opened)
        disk.let.set()
        await them.peer.history.database._is_idle.wait()
        await turns()
        assert not writing.done()
        assert them.peer.history.last_zxid == opened
        await again.finish()
        again.acknowledge(proposed)
        await writing

    try:
        play(tmp_path, script, disk)
    finally:
        disk.let.set()


def test_what_was_never_proposed_cannot_be_acknowledged(tmp_path: Path) -> None:
    """It would count for everything that comes later."""

    async def script(them: ScriptedLearners) -> None:
        honest = await them.bring_into_step(2)
        zk, opened = await begin(them, honest)
        liar = await them.bring_into_step(3)
        liar.acknowledge(opened + 1000)
        with pytest.raises((EOFError, OSError)):
            await liar.hear(PacketType.ACK)
        writing = asyncio.ensure_future(zk.create("/written"))
        proposed = await honest.hear(PacketType.PROPOSAL)
        await them.peer.history.database._is_idle.wait()
        await honest.heard()
        assert not writing.done()
        honest.acknowledge(proposed.zxid)
        await writing

    play(tmp_path, script)


def test_zookeeper_4685_a_proposal_that_is_acknowledged_before_new_leader_counts(tmp_path: Path) -> None:
    """Apache's followers before 3.9.1 may do so."""

    async def script(them: ScriptedLearners) -> None:
        first = await them.bring_into_step(2)
        zk, _ = await begin(them, first)
        writing = asyncio.ensure_future(zk.create("/written"))
        proposed = await first.hear(PacketType.PROPOSAL)
        first.stream.abort()
        second = await them.connect(3)
        await second.greet()
        second.promise(0)
        await second.take_history()
        assert (await second.hear(PacketType.PROPOSAL)).zxid == proposed.zxid
        second.acknowledge(proposed.zxid)
        await second.finish()
        await writing

    play(tmp_path, script)


@pytest.mark.parametrize(
    "word", [pack(ACK, 7 << 32), pack(ACK, -1), pack(PacketType.PING, 1 << 32)], ids=["epoch 7", "no epoch", "no ACK"]
)
def test_who_acknowledges_another_leader_is_not_in_step(tmp_path: Path, word: bytes) -> None:
    async def script(them: ScriptedLearners) -> None:
        learner = await them.connect(2)
        await learner.greet()
        learner.promise(0)
        await learner.take_history()
        learner.stream.write(word)
        with pytest.raises((EOFError, OSError)):
            await learner.hear(PacketType.UP_TO_DATE)
        assert them.leader.server is None
        await them.bring_into_step(2)

    play(tmp_path, script)


def test_the_leaders_own_promise_counts_before_it_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Learners that are a quorum without it reach its first address while it is not yet at its second."""
    (tmp_path / "version-2").mkdir()
    (tmp_path / "version-2" / ACCEPTED_EPOCH).write_text("7")
    may_listen = asyncio.Event()
    make_listener = asyncio.base_events.BaseEventLoop.create_server

    async def slowly(loop: asyncio.base_events.BaseEventLoop, protocol: Any, host: Any, port: Any, **more: Any) -> Any:
        if host == "127.0.0.2":
            await may_listen.wait()
        return await make_listener(loop, protocol, host, port, **more)

    async def main() -> None:
        them = ScriptedLearners(tmp_path, 5, REAL, {"multiAddress.enabled": "true"})
        member = them.ensemble.members[LEADER]
        places = (*member.addresses, member.addresses[0]._replace(host="127.0.0.2"))
        them.ensemble = replace(
            them.ensemble, members={**them.ensemble.members, LEADER: member._replace(addresses=places)}
        )
        async with asyncio.timeout(PATIENCE_S):
            await them.start()
            monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "create_server", slowly)
            learners = [await them.connect(sid) for sid in (2, 3, 4)]
            greetings = [asyncio.ensure_future(each.greet()) for each in learners]
            done, _ = await asyncio.wait(greetings, return_when=asyncio.FIRST_COMPLETED)
            assert done
            may_listen.set()
            await asyncio.gather(*greetings)
            assert {each.epoch for each in learners} == {8}
            them.abort()
            await them.peer.stop()

    asyncio.run(main())


def test_an_observer_that_is_to_vote_counts_once_it_comes_as_a_follower(tmp_path: Path) -> None:
    """It promises as it is, and is told then; for what it has taken over only a follower vouches.

    Of four that are to vote the leader has one follower and the observer: without this nobody would ever lead.
    """

    async def script(them: ScriptedLearners) -> None:
        lines = them.ensemble.members
        election = them.peer.elector.election
        election.committed = Ensemble({**lines, 4: lines[4]._replace(is_participant=False)})
        election.last_seen = replace(them.ensemble, version=1)
        follower, observer = await them.connect(2), await them.connect(4)
        await asyncio.gather(follower.greet(), observer.greet(kind=PacketType.OBSERVER_INFO))
        for each in (follower, observer):
            each.promise(0)
        await asyncio.gather(follower.take_history(), observer.take_history())
        for each in (follower, observer):
            each.acknowledge(each.epoch << 32)
        await turns()
        assert them.leader.server is None
        observer.stream.abort()
        again = await them.connect(4)
        await again.greet(accepted_epoch=observer.epoch)
        again.promise(0, -1)
        await again.take_history()
        await asyncio.gather(again.finish(), follower.hear(PacketType.UP_TO_DATE))
        assert election.committed.voters == {1, 2, 3, 4}

    play(tmp_path, script, number=4)


def test_who_has_more_than_a_leader_that_a_quorum_has_promised_is_cut_back_at_once(tmp_path: Path) -> None:
    """It need not be sent away first, for what it has more was never committed."""

    async def script(them: ScriptedLearners) -> None:
        await them.bring_into_step(2)
        late = await them.connect(3)
        await late.greet()
        late.promise(1 << 32 | 5, 0)
        first = await late.take_history()
        assert first.type in (PacketType.TRUNC, PacketType.SNAP)
        await late.finish()

    play(tmp_path, script)


def test_zookeeper_3531_who_does_not_read_the_table_of_acls_holds_up_nobody(tmp_path: Path) -> None:
    """A learner to which a tree is sent stops reading at its beginning; the others go on, with ACLs old and new."""

    async def script(them: ScriptedLearners) -> None:
        follower = await them.bring_into_step(2)
        zk, _ = await begin(them, follower)
        table = them.peer.history.tree.acls
        for number in range(24):
            table.intern(encode_acl([Acl(31, Id("digest", f"{number}" + "x" * 500_000))]))
        slow = await them.connect(3)
        await slow.greet()
        slow.promise(0)
        await slow.hear(PacketType.SNAP)
        slow.stream._transport.pause_reading()
        sending = them.leader.learners[3].stream
        while not sending.unsent_bytes:
            await asyncio.sleep(0.001)
        for call in (
            lambda: zk.create("/a"),
            lambda: zk.set_acl("/a", [corral.Acl("world", "anyone", "r")]),
            lambda: zk.create("/b", acl=[corral.Acl("world", "anyone", "cr")]),
        ):
            asked = asyncio.ensure_future(call())
            await follower.acknowledge_next()
            await asked
        refused = asyncio.ensure_future(zk.set("/a", b""))
        await follower.acknowledge_next()
        with pytest.raises(corral.NoAuthError):
            await refused
        assert sending.unsent_bytes
        # It gets all of it when it reads again, and what came meanwhile behind it.
        slow.stream._transport.resume_reading()
        tree = SnapshotStream()
        while not tree.feed(await slow.stream.read_bytes()):
            pass
        slow.stream.put_back(tree.rest)
        await slow.hear(PacketType.NEW_LEADER)
        await slow.finish()

    play(tmp_path, script, forceSnapshotSync="true")


def test_a_follower_whose_disk_is_stuck_is_not_in_step_any_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It answers PINGs; what it is to log would gather there without an end."""

    async def script(them: ScriptedLearners) -> None:
        stuck, sound = await them.bring_into_step(2), await them.bring_into_step(3)
        ending = asyncio.ensure_future(stuck.gone())
        _, opened = await begin(them, sound)
        following = asyncio.ensure_future(sound.gone())
        await ending
        assert f"<follower 2> has not acknowledged {opened:#x} for " in caplog.text
        assert not following.done()
        assert set(them.leader.learners) == {3}
        following.cancel()

    play(tmp_path, script, sync_limit=3, tickTime="200")


def test_a_leader_whose_disk_is_stuck_lets_another_lead(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is the only one that everybody else waits for."""
    disk = HeldDisk()

    async def script(them: ScriptedLearners) -> None:
        followers = [await them.bring_into_step(2), await them.bring_into_step(3)]
        following = asyncio.ensure_future(followers[1].gone())
        zk, _ = await begin(them, followers[0])
        disk.let.clear()
        writing = asyncio.ensure_future(zk.create("/written"))
        # A majority of the others has it; with one alone there would be nobody to lead instead.
        followers[1].acknowledge(await followers[0].acknowledge_next())
        await asyncio.gather(followers[0].gone(), following)
        assert "its disk has not answered for 3 ticks" in caplog.text
        disk.let.set()
        with pytest.raises(corral.ConnectionLoss):
            await writing
        await zk.close()

    try:
        play(tmp_path, script, disk, sync_limit=3, tickTime="200")
    finally:
        disk.let.set()


def first_packet(sid: int, epoch: int = 0, data: bytes | None = None) -> bytes:
    return pack(
        PacketType.FOLLOWER_INFO, epoch << 32, LearnerInfo(sid, PROTOCOL_VERSION, 0).encode() if data is None else data
    )


STRANGE = {
    "no packet": b"GET / HTTP/1.0\r\n\r\n" * 2,
    "too long": struct.pack(">iqii", PacketType.FOLLOWER_INFO, 0, 5000, -1),
    "length of 2 GiB": struct.pack(">iqi", PacketType.FOLLOWER_INFO, 0, 0x7FFFFFFF) + b"data",
    "negative length": struct.pack(">iqi", PacketType.FOLLOWER_INFO, 0, -2) + b"data",
    "many identities": struct.pack(">iqii", PacketType.FOLLOWER_INFO, 0, -1, 0x7FFFFFFF),
    "no introduction": pack(PacketType.PING, 0),
    "nobody": first_packet(2, data=b""),
    "the leader itself": first_packet(LEADER),
    "an epoch beyond all": first_packet(3, 0x7FFFFFFF),
    "an epoch before all": first_packet(3, -1),
    "an answer without an epoch": first_packet(3) + pack(PacketType.ACK_EPOCH, 0, b"ab"),
    "no answer": first_packet(3) + pack(PacketType.PING, 0),
}

IN_STEP = {
    "no word": pack(99, 0),
    "a request of nothing": pack(PacketType.REQUEST, -1),
    "half a request": pack(PacketType.REQUEST, -1, b"x" * 15),
    "a session without a timeout": pack_request(5, 0, OpCode.CREATE_SESSION, b""),
    "no session to renew": pack(PacketType.REVALIDATE, -1, b""),
    "two sessions to renew": pack(PacketType.REVALIDATE, -1, encode_sessions([(1, 1), (2, 2)])),
    "an answer to no PING": pack(PacketType.PING, 0, b"") * 100,
    "a negative length": struct.pack(">iqi", PacketType.REQUEST, 0, -2) + b"data",
}


def test_who_talks_nonsense_to_a_leader_is_dropped_and_nobody_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(them: ScriptedLearners) -> None:
        caplog.set_level("INFO")
        follower = await them.bring_into_step(2)
        zk, _ = await begin(them, follower)
        for name, data in STRANGE.items():
            stranger = await them.connect(3)
            caplog.clear()
            stranger.stream.write(data)
            await stranger.gone()
            assert " is gone: " in caplog.text, name
        for name, data in IN_STEP.items():
            learner = await them.bring_into_step(3)
            caplog.clear()
            learner.stream.write(data)
            await learner.gone()
            assert "<follower 3> is gone: " in caplog.text, name
        writing = asyncio.ensure_future(zk.create("/written"))
        await follower.acknowledge_next()
        await writing

    play(tmp_path, script)


def test_who_does_not_say_who_he_is_makes_room_for_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def script(them: ScriptedLearners) -> None:
        strangers = [await them.connect(3) for _ in range(105)]
        await them.bring_into_step(2)
        await asyncio.gather(*[each.gone() for each in strangers[:5]])
        assert not any(each.stream._transport.is_closing() for each in strangers[10:])
        assert "too many connections that do not say who they are" in caplog.text

    play(tmp_path, script)


def test_a_leader_that_has_promised_the_last_epoch_says_so(tmp_path: Path) -> None:
    async def script(them: ScriptedLearners) -> None:
        await them.peer.stopped.wait()
        assert "acceptedEpoch: no epoch comes after 2147483647" in str(them.peer.failed)

    (tmp_path / "version-2").mkdir()
    (tmp_path / "version-2" / ACCEPTED_EPOCH).write_text("2147483647")
    play(tmp_path, script)


def test_zookeeper_1277_a_late_request_of_a_session_that_has_moved_uses_no_zxid_of_the_next_epoch(
    tmp_path: Path,
) -> None:
    """Its failure is a transaction like any other."""

    async def script(them: ScriptedLearners) -> None:
        here, elsewhere = await them.bring_into_step(2), await them.bring_into_step(3)
        timeout = (5000).to_bytes(4, "big")
        here.stream.write(pack_request(5, 0, OpCode.CREATE_SESSION, timeout))
        assert await here.acknowledge_next() == 1 << 32 | 1
        await here.hear(PacketType.COMMIT)
        assert them.leader.server is not None
        them.leader.server.leading.zxid_max = 1 << 32 | 1
        await elsewhere.hear(PacketType.PROPOSAL)
        elsewhere.stream.write(pack_request(5, 0, OpCode.CREATE, b""))
        with pytest.raises((EOFError, OSError)):
            await elsewhere.hear(PacketType.PROPOSAL)

    play(tmp_path, script)
