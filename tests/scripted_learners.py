"""Learners that do what a test says, to a real member that believes itself elected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.e2e.test_quorum_elector import ensemble_on_free_ports, free_ports
from tests.trees import SESSION

from corral.jute.ops import OpCode
from corral.jute.owner import OwnerRules
from corral.quorum.election import Elected
from corral.quorum.ensemble import Ensemble
from corral.quorum.leader import Leader
from corral.quorum.packet_stream import PacketStream
from corral.quorum.packets import (
    ACK,
    PROTOCOL_VERSION,
    LearnerInfo,
    Packet,
    PacketType,
    encode_sessions,
    pack,
    pack_request,
)
from corral.quorum.peer import Peer
from corral.quorum.serving import CREATE_SESSION_TIMEOUT
from corral.quorum.snapshot_stream import SnapshotStream
from corral.quorum.vote import Role, Vote
from corral.server.config import from_properties
from corral.server.machine import Machine
from corral.storage.filesystem import REAL, FileSystem

LEADER = 1
PATIENCE_S = 20


class Taught(NamedTuple):
    """What a leader sends before NEWLEADER."""

    type: PacketType
    zxid: int
    """Of the first packet, as the type."""
    znodes: set[bytes]
    """Of the tree, if one came."""
    transactions: list[int]
    """The zxids of what followed."""

    def znodes_of(self, logged: Iterable[int]) -> set[bytes]:
        """What a learner has afterwards if ``logged`` is what it had: each transaction makes a znode of its name."""
        match self.type:
            case PacketType.SNAP:
                kept: set[int] = set()
            case PacketType.TRUNC:
                kept = {each for each in logged if each <= self.zxid}
            case _:
                kept = set(logged)
        return self.znodes | {b"/%x" % each for each in kept.union(self.transactions)}


class ScriptedLearner:
    """One connection of a learner. Packets that a test does not wait for are passed over."""

    def __init__(self, sid: int, stream: PacketStream) -> None:
        self.sid = sid
        self.stream = stream
        self.epoch = 0

    async def hear(self, kind: PacketType) -> Packet:
        """The next packet of a kind. Raises EOFError or OSError if the leader closes the connection."""
        while (packet := await self.stream.read()).type != kind:
            if packet.type == PacketType.PING:
                self.stream.write(pack(PacketType.PING, packet.zxid, b""))
        return packet

    async def greet(self, accepted_epoch: int = 0, kind: PacketType = PacketType.FOLLOWER_INFO) -> None:
        """As far as the epoch that the leader tells."""
        self.stream.write(pack(kind, accepted_epoch << 32, LearnerInfo(self.sid, PROTOCOL_VERSION, 0).encode()))
        self.epoch = (await self.hear(PacketType.LEADER_INFO)).zxid >> 32

    def promise(self, zxid: int, current_epoch: int = 0) -> None:
        self.stream.write(pack(PacketType.ACK_EPOCH, zxid, current_epoch.to_bytes(4, "big", signed=True)))

    async def take_history(self) -> Taught:
        """As far as NEWLEADER."""
        first = await self.stream.read()
        znodes: set[bytes] = set()
        if first.type == PacketType.SNAP:
            collected = SnapshotStream()
            while not collected.feed(await self.stream.read_bytes()):
                pass
            self.stream.put_back(collected.rest)
            tree = collected.tree(first.zxid, OwnerRules(), digests=False)
            znodes = {each for each in tree.nodes if len(each) > 1 and not each.startswith(b"/zookeeper")}
        transactions: list[int] = []
        while (packet := await self.stream.read()).type != PacketType.NEW_LEADER:
            if packet.type == PacketType.PROPOSAL:
                transactions.append(packet.zxid)
        return Taught(PacketType(first.type), first.zxid, znodes, transactions)

    def ask(self, operation: OpCode, body: bytes, session_id: int = SESSION) -> None:
        """Hand on what a client wants."""
        identities = None if operation == OpCode.CREATE_SESSION else [("ip", "127.0.0.1")]
        self.stream.write(pack_request(session_id, 1, operation, body, identities))

    async def open_session(self) -> int:
        """As if a client had come; returns the transaction's zxid once it is committed."""
        self.ask(OpCode.CREATE_SESSION, CREATE_SESSION_TIMEOUT.pack(30_000))
        zxid = await self.acknowledge_next()
        assert (await self.hear(PacketType.COMMIT)).zxid == zxid
        return zxid

    def acknowledge(self, zxid: int) -> None:
        self.stream.write(pack(ACK, zxid))

    async def gone(self) -> None:
        """Answer PINGs until the leader has closed the connection."""
        with suppress(EOFError, OSError):
            while True:
                await self.hear(PacketType.SNAP)

    async def heard(self) -> None:
        """Wait until the leader has taken everything that was sent so far."""
        self.stream.write(pack(PacketType.REVALIDATE, -1, encode_sessions([(-1, 0)])))
        await self.hear(PacketType.REVALIDATE)

    async def acknowledge_next(self) -> int:
        """Acknowledge the next proposal; returns its zxid."""
        zxid = (await self.hear(PacketType.PROPOSAL)).zxid
        self.acknowledge(zxid)
        return zxid

    async def finish(self) -> None:
        """Acknowledge the leader's history, and wait until the leader holds this one to be in step."""
        self.acknowledge(self.epoch << 32)
        await self.hear(PacketType.UP_TO_DATE)


async def connect(ensemble: Ensemble, sid: int) -> ScriptedLearner:
    """A connection of learner ``sid`` to the leader, on which nothing was said yet."""
    place = ensemble.members[LEADER].addresses[0]
    loop = asyncio.get_running_loop()
    while True:
        try:
            _, stream = await loop.create_connection(PacketStream, place.host, place.quorum_port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.001)
        else:
            return ScriptedLearner(sid, stream)


class ScriptedLearners:
    """Member 1 leads, as far as it knows; all others are played by the test."""

    def __init__(
        self,
        directory: Path,
        number: int,
        filesystem: FileSystem,
        settings: dict[str, str],
        *,
        sync_limit: int = PATIENCE_S,
    ) -> None:
        self.ensemble = ensemble_on_free_ports(number)
        self.directory = directory
        self.filesystem = filesystem
        (self.client_port,) = free_ports(1)
        self.settings = settings
        self.sync_limit = sync_limit
        self.peer: Peer
        self._learners: list[ScriptedLearner] = []

    async def start(self) -> None:
        """Start the member."""
        properties = {
            "dataDir": str(self.directory),
            "clientPort": str(self.client_port),
            "clientPortAddress": "127.0.0.1",
            "tickTime": "1000",
            "maxSessionTimeout": "40000",
            **self.settings,
        }
        self.peer = Peer(
            LEADER,
            self.ensemble,
            from_properties(properties),
            init_limit=PATIENCE_S,
            sync_limit=self.sync_limit,
            machine=Machine(filesystem=self.filesystem),
        )

        async def elect(zxid: int, epoch: int) -> Elected:
            return Elected(Role.LEADING, Vote(LEADER, zxid, 1, epoch))

        elector: Any = self.peer.elector
        elector.elect = elect
        await self.peer.start()

    @property
    def leader(self) -> Leader:
        """The term that is under way."""
        assert isinstance(self.peer.term, Leader)
        return self.peer.term

    async def connect(self, sid: int) -> ScriptedLearner:
        """A connection of learner ``sid``, on which nothing was said yet."""
        learner = await connect(self.ensemble, sid)
        self._learners.append(learner)
        return learner

    async def bring_into_step(self, sid: int, zxid: int = 0) -> ScriptedLearner:
        """One that has gone all the way."""
        learner = await self.connect(sid)
        await learner.greet()
        learner.promise(zxid)
        await learner.take_history()
        await learner.finish()
        return learner

    def abort(self) -> None:
        """Close every connection."""
        for each in self._learners:
            each.stream.abort()


@asynccontextmanager
async def scripted_learners(
    directory: Path,
    number: int = 3,
    filesystem: FileSystem = REAL,
    *,
    sync_limit: int = PATIENCE_S,
    patience_s: float = PATIENCE_S,
    **settings: str,
) -> AsyncIterator[ScriptedLearners]:
    """With the member started, which takes itself for the leader."""
    learners = ScriptedLearners(directory, number, filesystem, settings, sync_limit=sync_limit)
    async with asyncio.timeout(patience_s):
        await learners.start()
        try:
            yield learners
        finally:
            learners.abort()
            await learners.peer.stop()
