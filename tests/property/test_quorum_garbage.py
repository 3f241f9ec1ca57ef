"""Whatever comes in at a member's ports, or from the leader that it follows: it stays up, and serves."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.scripted_leader import ScriptedLeader, creations, scripted_leader
from tests.scripted_learners import LEADER, ScriptedLearners, scripted_learners
from tests.trees import log_entry

from corral.jute.ops import OpCode
from corral.jute.records import CreateSessionTxn
from corral.quorum.election_links import ElectionLinks
from corral.quorum.packet_stream import PacketStream
from corral.quorum.packets import (
    ACK,
    COMMIT,
    INFORM,
    PROPOSAL,
    PROTOCOL_VERSION,
    LearnerInfo,
    PacketType,
    encode_sessions,
    pack,
    pack_request,
)
from corral.quorum.snapshot_stream import encode_stream
from corral.quorum.vote import Notification, Role, Vote
from corral.storage.snapshot import SnapshotEncoder
from corral.tree.datatree import DataTree

EXAMPLES = pytest.mark.parametrize("examples", [15, pytest.param(150, marks=pytest.mark.slow)])
"""One member lives through all of them: a failure depends on those before, so none is made smaller."""
PATIENCE_S = 110
Chance = random.Random


def spoiled(data: bytes, chance: Chance) -> bytes:
    """The same with a few changes, or something else altogether."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(out))
        match chance.randrange(6):
            case 0 if at < len(out):
                out[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(out):
                out[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del out[at : at + chance.randint(1, 8)]
            case 3:
                out[at:at] = chance.randbytes(chance.randint(1, 8))
            case 4:
                out[at : at + 4] = chance.choice((b"\x7f\xff\xff\xff", b"\xff\xff\xff\xfe", b"\x80\0\0\0", bytes(4)))
            case _:
                del out[at:]
    return bytes(out) if chance.randrange(8) else chance.randbytes(chance.randint(0, 200))


class Surprises(logging.Handler):
    """Exceptions that nobody expected: those of tasks, and those that were logged where everything is caught."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[object] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(record.exc_info)


def play(
    first: Callable[[Any], Coroutine[Any, Any, None]],
    each: Callable[[Any, Chance], Coroutine[Any, Any, None]],
    context: Callable[[], Any],
    examples: int,
) -> None:
    """Run examples on one member, which is there for all of them."""
    surprises = Surprises()

    async def live(ready: asyncio.Future[None], queue: asyncio.Queue[tuple[Chance, asyncio.Future[None]]]) -> None:
        async with context() as them:
            await first(them)
            ready.set_result(None)
            while True:
                chance, done = await queue.get()
                await each(them, chance)
                assert not surprises.found
                done.set_result(None)

    async def begin() -> tuple[asyncio.Task[None], asyncio.Queue[tuple[Chance, asyncio.Future[None]]]]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: surprises.found.append(context))
        ready, queue = loop.create_future(), asyncio.Queue[tuple[Chance, asyncio.Future[None]]]()
        living = loop.create_task(live(ready, queue))
        await asyncio.wait([living, ready], return_when=asyncio.FIRST_COMPLETED)
        return living, queue

    with asyncio.Runner() as runner:
        living, queue = runner.run(begin())

        async def one(chance: Chance) -> None:
            done = asyncio.get_running_loop().create_future()
            queue.put_nowait((chance, done))
            await asyncio.wait([living, done], return_when=asyncio.FIRST_COMPLETED)
            if living.done():
                living.result()

        @settings(max_examples=examples, deadline=None, derandomize=True, phases=[Phase.generate])
        @given(st.integers(0, 2**64 - 1))
        def run(seed: int) -> None:
            runner.run(one(Chance(seed)))

        logging.getLogger("corral").addHandler(surprises)
        try:
            run()
        finally:
            logging.getLogger("corral").removeHandler(surprises)
            living.cancel()
            runner.run(ended(living))
            # Of a task that ended with an exception one hears when it is thrown away.
            gc.collect()
        assert not surprises.found


async def gone(stream: PacketStream) -> None:
    """Wait until the other side has closed."""
    with suppress(EOFError, OSError):
        while True:
            await stream.read_bytes()


async def ended(task: asyncio.Task[None]) -> None:
    with suppress(asyncio.CancelledError):
        await task


def learner_words(sid: int, epoch: int) -> list[bytes]:
    """What a learner says to a leader, and what its clients ask."""
    return [
        pack(PacketType.FOLLOWER_INFO, 0, LearnerInfo(sid, PROTOCOL_VERSION, 0).encode()),
        pack(PacketType.ACK_EPOCH, 0, bytes(4)),
        pack(ACK, epoch << 32),
        pack_request(7, 0, OpCode.CREATE_SESSION, (4000).to_bytes(4, "big")),
        pack_request(7, 1, OpCode.CREATE, b"\0\0\0\2/x" + bytes(12), [("ip", "::1")]),
        pack_request(7, 2, OpCode.MULTI, b"\0\0\0\1\0\xff\xff\xff\xff" * 2),
        pack_request(7, 3, OpCode.SYNC, b"\0\0\0\1/"),
        pack(PacketType.REVALIDATE, -1, encode_sessions([(7, 4000)])),
        pack(PacketType.PING, epoch << 32, encode_sessions([(7, 4000), (8, 4000)])),
        pack(ACK, epoch << 32 | 1),
    ]


@EXAMPLES
def test_whatever_comes_in_at_the_port_for_learners(tmp_path: Path, examples: int) -> None:
    """The leader leads on, or leads again if a voter seems to have promised a later epoch to another."""

    async def first(them: ScriptedLearners) -> None:
        await them.bring_into_step(2)

    async def each(them: ScriptedLearners, chance: Chance) -> None:
        stranger = await them.connect(3)
        words = learner_words(3, them.leader.epoch)
        at = chance.randrange(len(words))
        words[at] = spoiled(words[at], chance)
        stranger.stream.write(b"".join(words if chance.randrange(2) else words[at:]))
        stranger.stream._transport.write_eof()
        await gone(stranger.stream)
        # Whether it was the other one that was ended, or the term: a follower comes into step.
        is_in_step = False
        while not is_in_step:
            with suppress(EOFError, OSError):
                await them.bring_into_step(2)
                is_in_step = True
        assert them.peer.failed is None
        assert them.leader.server is not None

    play(first, each, lambda: scripted_learners(tmp_path, 3, patience_s=PATIENCE_S), examples)


def leader_words(zxid: int, epoch: int) -> list[bytes]:
    """What a leader says to a learner whose history ends at ``zxid``."""
    entries = creations(1, 4, epoch)
    opened = entries[-1][0] + 1
    entries.append((opened, log_entry(opened, OpCode.CREATE_SESSION, 7, CreateSessionTxn(4000).to_bytes())))
    return [
        pack(PacketType.LEADER_INFO, epoch << 32, PROTOCOL_VERSION.to_bytes(4, "big")),
        pack(PacketType.DIFF, zxid),
        pack(PROPOSAL, *entries[0]) + pack(COMMIT, entries[0][0]),
        pack(PacketType.NEW_LEADER, epoch << 32, b"server.1=a:1:2\nversion=0"),
        pack(PROPOSAL, *entries[1]),
        pack(PacketType.UP_TO_DATE, -1),
        pack(COMMIT, entries[1][0]),
        pack(PacketType.PING, entries[1][0]),
        pack(INFORM, *entries[2]),
        pack(PROPOSAL, *entries[3]) + pack(PROPOSAL, *entries[4]),
        pack(PacketType.SYNC, 0),
        pack(PacketType.REVALIDATE, -1, bytes(9)),
        pack(COMMIT, entries[3][0]) + pack(COMMIT, entries[4][0]),
    ]


@EXAMPLES
def test_whatever_a_leader_says(tmp_path: Path, examples: int) -> None:
    async def greet(leader: ScriptedLeader) -> tuple[int, int]:
        """The epoch that the member has promised, and where its history ends."""
        leader.stream = await leader._arrived.get()
        told = await leader.stream.read()
        return told.zxid >> 32, leader.peer.history.last_zxid

    async def first(leader: ScriptedLeader) -> None:
        pass

    async def each(leader: ScriptedLeader, chance: Chance) -> None:
        promised, zxid = await greet(leader)
        epoch = promised + 1 if promised < 0x7FFF0000 else promised
        words = leader_words(zxid, epoch)
        if not chance.randrange(3):
            encoder = SnapshotEncoder(DataTree(), digests=False, last_zxid_section=False)
            words[1] = pack(PacketType.SNAP, zxid) + b"".join(encode_stream(encoder))
        elif not chance.randrange(3):
            words[1] = pack(PacketType.TRUNC, zxid)
        at = chance.randrange(len(words))
        words[at] = spoiled(words[at], chance)
        leader.stream.write(b"".join(words))
        leader.stream._transport.write_eof()
        await gone(leader.stream)
        # A leader that knows what to say is followed all the same.
        promised, zxid = await greet(leader)
        leader.stream.write(leader_words(zxid, promised)[0])
        while (told := await leader.stream.read()).type != PacketType.ACK_EPOCH:
            pass
        leader.stream.write(pack(PacketType.DIFF, told.zxid))
        leader.send_new_leader(promised)
        await leader.hear(PacketType.ACK)
        leader.stream.write(pack(PacketType.UP_TO_DATE, -1))
        await leader.hear(PacketType.ACK)
        assert leader.peer.server is not None
        assert leader.peer.failed is None
        leader.stream.abort()

    play(first, each, lambda: scripted_leader(tmp_path, patience_s=PATIENCE_S), examples)


def vote(sid: int, config: str) -> bytes:
    data = Notification(Role.LOOKING, Vote(sid, 1 << 32, 5, 1), config=config).encode()
    return len(data).to_bytes(4, "big") + data


@EXAMPLES
def test_whatever_comes_in_at_the_port_for_elections(tmp_path: Path, examples: int) -> None:
    """It answers everybody else, and leads on."""

    async def first(them: ScriptedLearners) -> None:
        await them.bring_into_step(2)

    async def each(them: ScriptedLearners, chance: Chance) -> None:
        place = them.ensemble.members[LEADER].addresses[0]
        reader, writer = await asyncio.open_connection(place.host, place.election_port)
        announced = b"127.0.0.1:9"
        hello = (-65536).to_bytes(8, "big", signed=True) + (3).to_bytes(8, "big") + len(announced).to_bytes(4, "big")
        words = [hello + announced, vote(3, them.ensemble.to_text()), vote(3, "")]
        at = chance.randrange(len(words))
        words[at] = spoiled(words[at], chance)
        writer.write(b"".join(words))
        writer.write_eof()
        with suppress(OSError):
            await reader.read()
        writer.close()
        answered: asyncio.Queue[bytes] = asyncio.Queue()
        links = ElectionLinks(
            2,
            them.ensemble.members[2].addresses,
            lambda sid: them.ensemble.members[sid].addresses,
            lambda _, message: answered.put_nowait(message),
        )
        try:
            links.send(LEADER, vote(2, "")[4:])
            await answered.get()
        finally:
            await links.close()
        assert them.peer.failed is None
        assert them.leader.server is not None

    play(first, each, lambda: scripted_learners(tmp_path, 3, patience_s=PATIENCE_S), examples)
