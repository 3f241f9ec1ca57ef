"""A leader that does what a test says, to a real member that believes it elected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.e2e.test_quorum_elector import ensemble_on_free_ports, free_ports
from tests.trees import log_entry

from corral.jute.ops import OpCode
from corral.jute.records import Acl, CreateTxn, Id
from corral.quorum.election import Elected
from corral.quorum.packet_stream import PacketStream
from corral.quorum.packets import (
    COMMIT,
    PROPOSAL,
    PROTOCOL_VERSION,
    Packet,
    PacketType,
    pack,
    pack_bare,
    pack_transactions,
)
from corral.quorum.peer import Peer
from corral.quorum.snapshot_stream import encode_stream
from corral.quorum.vote import Role, Vote
from corral.server.config import from_properties
from corral.server.machine import Machine
from corral.storage.filesystem import REAL, FileSystem
from corral.storage.snapshot import SnapshotEncoder
from corral.tree.datatree import DataTree

EPOCH = 1
LEADER = 2
PATIENCE_S = 20


def zxid(counter: int, epoch: int = EPOCH) -> int:
    return epoch << 32 | counter


def creation(counter: int, epoch: int = EPOCH) -> tuple[int, bytes]:
    """A transaction that creates one more znode."""
    number = zxid(counter, epoch)
    record = CreateTxn(path(counter, epoch), b"data", [Acl(31, Id("world", "anyone"))], False, counter)
    return number, log_entry(number, OpCode.CREATE, 0, record.to_bytes())


def path(counter: int, epoch: int = EPOCH) -> bytes:
    return b"/%x" % zxid(counter, epoch)


def creations(first: int, last: int, epoch: int = EPOCH) -> list[tuple[int, bytes]]:
    return [creation(counter, epoch) for counter in range(first, last + 1)]


class ScriptedLeader:
    """Listens where member 2 of three should, and is believed by member 1 to lead."""

    def __init__(self, directory: Path, filesystem: FileSystem = REAL) -> None:
        self.directory = directory
        self.filesystem = filesystem
        self.ensemble = ensemble_on_free_ports(3)
        (self.client_port,) = free_ports(1)
        self._arrived: asyncio.Queue[PacketStream] = asyncio.Queue()
        self.part = Role.FOLLOWING
        """What the member is elected to be next."""
        self.stream: PacketStream
        self.peer: Peer

    async def start(self) -> None:
        """Start the member."""
        properties = {
            "dataDir": str(self.directory),
            "clientPort": str(self.client_port),
            "clientPortAddress": "127.0.0.1",
            "tickTime": "1000",
        }
        self.peer = Peer(
            1,
            self.ensemble,
            from_properties(properties),
            init_limit=PATIENCE_S,
            sync_limit=PATIENCE_S,
            machine=Machine(filesystem=self.filesystem),
        )

        async def elect(zxid: int, epoch: int) -> Elected:
            return Elected(self.part, Vote(1 if self.part is Role.LEADING else LEADER, zxid, 1, epoch))

        elector: Any = self.peer.elector
        elector.elect = elect
        await self.peer.start()

    async def restart(self) -> None:
        """End the member as if it were killed, and start it again."""
        if self.peer.server is not None:
            self.peer.server.crash()
        await self.peer.stop()
        while not self._arrived.empty():
            self._arrived.get_nowait().abort()
        await self.start()

    async def arrive(self) -> PacketStream:
        """The member's next connection, on which nothing was said yet."""
        self.stream = await self._arrived.get()
        return self.stream

    async def greet(self, epoch: int = EPOCH) -> Packet:
        """Take the member's next connection, as far as what it says of its history."""
        await self.arrive()
        assert (await self.stream.read()).type == PacketType.FOLLOWER_INFO
        self.stream.write(pack(PacketType.LEADER_INFO, epoch << 32, PROTOCOL_VERSION.to_bytes(4, "big")))
        told = await self.stream.read()
        assert told.type == PacketType.ACK_EPOCH
        return told

    def send_history(self, transactions: Sequence[tuple[int, bytes]]) -> None:
        """Committed ones, as they are sent to bring a learner into step."""
        self.stream.write(b"".join([pack(PROPOSAL, *each) + pack(COMMIT, each[0]) for each in transactions]))

    def send_tree(self, tree: DataTree, *, cut_bytes: int = 0) -> None:
        """A whole tree, but for its last bytes."""
        encoder = SnapshotEncoder(tree, digests=False, last_zxid_section=False)
        data = pack(PacketType.SNAP, tree.last_zxid) + b"".join(encode_stream(encoder))
        self.stream.write(data[: len(data) - cut_bytes])

    def send_new_leader(self, epoch: int = EPOCH) -> None:
        self.stream.write(pack(PacketType.NEW_LEADER, epoch << 32, self.ensemble.to_text().encode()))

    async def commit(self, transactions: Sequence[tuple[int, bytes]]) -> None:
        """Let the member log transactions, and then apply them."""
        self.stream.write(pack_transactions(PROPOSAL, transactions))
        for number, _ in transactions:
            assert await self.hear(PacketType.ACK) == number
        self.stream.write(pack_bare(COMMIT, [number for number, _ in transactions]))
        while self.peer.history.last_zxid < transactions[-1][0]:
            await asyncio.sleep(0.001)

    async def hear(self, kind: PacketType) -> int:
        """The zxid of the next packet, which must be of a kind."""
        packet = await self.stream.read()
        assert packet.type == kind, packet
        return packet.zxid

    async def bring_into_step(self, transactions: Sequence[tuple[int, bytes]], epoch: int = EPOCH) -> None:
        """Up to where the member serves."""
        await self.greet(epoch)
        self.stream.write(pack(PacketType.DIFF, transactions[-1][0] if transactions else 0))
        self.send_history(transactions)
        await self.finish(epoch)

    async def finish(self, epoch: int = EPOCH) -> None:
        """Behind the history: let the member enter the epoch and serve."""
        self.send_new_leader(epoch)
        assert await self.hear(PacketType.ACK) == epoch << 32
        self.stream.write(pack(PacketType.UP_TO_DATE, -1))
        assert await self.hear(PacketType.ACK) == epoch << 32

    def depose(self) -> None:
        """Make the member, which leads, follow."""
        self.part = Role.FOLLOWING
        self.peer.elector.deserted()

    async def gone(self) -> None:
        """Wait until the member has closed the connection."""
        with suppress(EOFError, ConnectionError):
            while True:
                await self.stream.read()

    @property
    def znodes(self) -> set[bytes]:
        """What the member holds beside the servers' own."""
        tree = self.peer.history.tree
        return {each for each in tree.nodes if len(each) > 1 and not each.startswith(b"/zookeeper")}

    def made(self, stream: PacketStream) -> None:
        self._arrived.put_nowait(stream)

    def abort(self) -> None:
        """Close every connection that is left."""
        while not self._arrived.empty():
            self._arrived.get_nowait().abort()
        if hasattr(self, "stream"):
            self.stream.abort()


@asynccontextmanager
async def scripted_leader(
    directory: Path, filesystem: FileSystem = REAL, *, patience_s: float = PATIENCE_S
) -> AsyncIterator[ScriptedLeader]:
    """With its member started."""
    leader = ScriptedLeader(directory, filesystem)
    place = leader.ensemble.members[LEADER].addresses[0]
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(patience_s):
        listener = await loop.create_server(lambda: PacketStream(leader.made), place.host, place.quorum_port)
        try:
            await leader.start()
            yield leader
        finally:
            listener.close()
            await leader.peer.stop()
            for _ in range(3):
                leader.abort()
                await asyncio.sleep(0)
