"""In which order, and when, a learner answers its clients while the leader commits what they and others have asked.

The leader is played by the test: it chooses what is committed when, and what arrives together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.in_process import Client, frame, request
from tests.scripted_leader import ScriptedLeader, creation, creations, path, scripted_leader, zxid

from corral.jute.ops import OpCode
from corral.jute.records import ConnectRequest, PathWatchRequest, SetDataRequest, SetDataTxn, TxnHeader
from corral.quorum.packets import COMMIT, PROPOSAL, REQUEST, PacketType, decode_request, pack_bare, pack_transactions

CLIENTS = 3
"""Each writes and reads a znode of its own, which is created first of all."""


class Served:
    """A learner's clients, and the leader that hears what they ask."""

    def __init__(self, leader: ScriptedLeader) -> None:
        self.leader = leader
        self.asked: deque[tuple[int, int, int, bytes]] = deque()
        """Session, xid, operation and body of what the learner has handed on and is not proposed."""
        self.counter = CLIENTS

    async def hear(self, number: int = 1) -> None:
        """Take what the learner says, until so many requests have come that are not proposed."""
        while len(self.asked) < number:
            packet = await self.leader.stream.read()
            if packet.type == REQUEST:
                self.asked.append(decode_request(packet.data))
            else:
                assert packet.type in (PacketType.ACK, PacketType.PING)

    def next_transaction(self) -> tuple[int, bytes]:
        """What was asked first, as a transaction."""
        self.counter += 1
        session_id, xid, op, body = self.asked.popleft()
        if op == OpCode.SET_DATA:
            asked = SetDataRequest.from_bytes(body)
            body = SetDataTxn(asked.path, asked.data, self.counter).to_bytes()
        return zxid(self.counter), TxnHeader(session_id, xid, zxid(self.counter), self.counter, op).to_bytes() + body

    def others_transaction(self) -> tuple[int, bytes]:
        """One that somebody at another member has asked for."""
        self.counter += 1
        return creation(self.counter)

    def commit(self, *transactions: tuple[int, bytes]) -> None:
        """Propose and commit them, in one write."""
        commits = pack_bare(COMMIT, [number for number, _ in transactions])
        self.leader.stream.write(pack_transactions(PROPOSAL, transactions) + commits)

    async def connect(self) -> Client:
        """A client with a session of its own."""
        client = self.client()
        client.connection.data_received(frame(ConnectRequest(0, 0, 10_000, 0, bytes(16)).to_bytes() + b"\0"))
        await self.hear()
        self.commit(self.next_transaction())
        while not client.transport.written:
            await asyncio.sleep(0.001)
        client.take_frames()
        return client

    def client(self) -> Client:
        server: Any = self.leader.peer.server
        return Client(server)


def play(directory: Path, script: Callable[[Served], Awaitable[None]]) -> None:
    async def main() -> None:
        async with scripted_leader(directory) as leader:
            await leader.bring_into_step(creations(1, CLIENTS))
            while leader.peer.server is None:
                await asyncio.sleep(0.001)
            await script(Served(leader))

    asyncio.run(main())


def write_and_read(znode: bytes, numbers: Sequence[int]) -> bytes:
    """The frames of as many writes, a read behind each."""
    parts: list[bytes] = []
    for number in numbers:
        parts.append(request(2 * number, OpCode.SET_DATA, SetDataRequest(znode, b"%06d" % number, -1)))
        parts.append(request(2 * number + 1, OpCode.GET_DATA, PathWatchRequest(znode, False)))
    return b"".join(parts)


@pytest.mark.parametrize("seed", range(6))
def test_zookeeper_1863_replies_come_in_the_order_of_the_requests_whatever_is_committed_between(
    tmp_path: Path, seed: int
) -> None:
    random = Random(seed)

    async def script(served: Served) -> None:
        clients = [await served.connect() for _ in range(CLIENTS)]
        rounds = 8
        size = 5
        for round_number in range(rounds):
            numbers = range(round_number * size, round_number * size + size)
            for number, client in enumerate(clients, 1):
                client.connection.data_received(write_and_read(path(number), numbers))
            left = CLIENTS * size
            while left:
                await served.hear(random.randint(1, left))
                together: list[tuple[int, bytes]] = []
                while served.asked:
                    together.append(served.next_transaction())
                    left -= 1
                    while random.random() < 0.3:
                        together.append(served.others_transaction())
                    if random.random() < 0.4:
                        served.commit(*together)
                        together.clear()
                        for _ in range(random.randrange(4)):
                            await asyncio.sleep(0)
                if together:
                    served.commit(*together)
        for client in clients:
            replies = client.take_replies()
            while len(replies) < 2 * rounds * size:
                await asyncio.sleep(0.001)
                replies += client.take_replies()
            assert [each.xid for each in replies] == list(range(2 * rounds * size))
            assert [each.body[4:10] for each in replies[1::2]] == [b"%06d" % number for number in range(rounds * size)]

    play(tmp_path, script)


@pytest.mark.parametrize("number", [1, 2, 7])
def test_zookeeper_4537_the_only_client_is_answered_though_nothing_comes_after_the_commit(
    tmp_path: Path, number: int
) -> None:
    async def script(served: Served) -> None:
        client = await served.connect()
        client.connection.data_received(write_and_read(path(1), range(number)))
        await served.hear(number)
        transactions = [served.next_transaction() for _ in range(number)]
        served.leader.stream.write(pack_transactions(PROPOSAL, transactions))
        while await served.leader.hear(PacketType.ACK) != transactions[-1][0]:
            pass
        assert not client.transport.written
        replies = []
        for each in transactions:
            # One at a time; neither the leader nor the client says any more before the answer has come.
            served.leader.stream.write(pack_bare(COMMIT, [each[0]]))
            while not client.transport.written:
                await asyncio.sleep(0.001)
            replies += client.take_replies()
        assert [each.xid for each in replies] == list(range(2 * number))

    play(tmp_path, script)
