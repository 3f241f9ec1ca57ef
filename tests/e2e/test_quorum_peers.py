"""Ensembles of real members in this process: they elect, replicate, and survive the loss of any minority."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.e2e.test_quorum_elector import ensemble_on_free_ports, free_ports

import corral
from corral.client import Client
from corral.quorum.leader import Leader
from corral.quorum.packet_stream import PacketStream
from corral.quorum.packets import PROTOCOL_VERSION, LearnerInfo, PacketType, pack
from corral.quorum.peer import Peer
from corral.quorum.vote import Role
from corral.server.config import from_properties
from corral.server.connection import Connection

PATIENCE_S = 30


class Members:
    """The members of one ensemble, which can be stopped and started again."""

    def __init__(self, directory: Path, number: int, observers: int = 0, **settings: str) -> None:
        self.ensemble = self.everybody = ensemble_on_free_ports(number, observers)
        self.directory = directory
        self.settings = settings
        taken = {each[n] for member in self.ensemble.members.values() for each in member.addresses for n in (1, 2)}
        free = [port for port in free_ports(4 * len(self.ensemble.members)) if port not in taken]
        self.ports: dict[int, int] = dict(zip(self.ensemble.members, free, strict=False))
        self.peers: dict[int, Peer] = {}

    async def start(self, *sids: int) -> None:
        for sid in sids:
            properties = {
                "dataDir": str(self.directory / str(sid)),
                "clientPort": str(self.ports[sid]),
                "clientPortAddress": "127.0.0.1",
                "tickTime": "100",
                "maxSessionTimeout": "20000",
                "forceSync": "no",
                **self.settings,
            }
            peer = Peer(sid, self.ensemble, from_properties(properties), init_limit=50, sync_limit=20)
            await peer.start()
            self.peers[sid] = peer

    async def stop(self, *sids: int) -> None:
        for sid in sids:
            await self.peers.pop(sid).stop()

    def hosts(self, *sids: int) -> str:
        return ",".join(f"127.0.0.1:{self.ports[sid]}" for sid in sids or self.ports)

    async def leader(self) -> int:
        """The one that serves as leader."""
        while True:
            for sid, peer in self.peers.items():
                if peer.role is Role.LEADING and peer.server is not None:
                    return sid
            await asyncio.sleep(0.005)

    async def serving(self) -> None:
        """Wait until all that run serve: then all are in step with their leader."""
        while any(each.server is None for each in self.peers.values()):
            await asyncio.sleep(0.005)

    async def trees(self) -> list[dict[bytes, bytes]]:
        """What each running member holds, once they have come to the same transaction."""
        while True:
            peers = list(self.peers.values())
            if all(each.server is not None for each in peers) and len({each.history.last_zxid for each in peers}) == 1:
                return [{path: node.refreshed() for path, node in each.history.tree.nodes.items()} for each in peers]
            await asyncio.sleep(0.005)


@asynccontextmanager
async def members(directory: Path, number: int = 3, observers: int = 0, **settings: str) -> AsyncIterator[Members]:
    made = Members(directory, number, observers, **settings)
    async with asyncio.timeout(PATIENCE_S):
        try:
            yield made
        finally:
            for peer in made.peers.values():
                await peer.stop()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert left == set()


def client(hosts: str) -> Client:
    return corral.connect(hosts, session_timeout=15, backoff_first=0.01, backoff_max=0.05)


async def fill(zk: Client, top: str, number: int) -> None:
    await zk.ensure(top)
    await asyncio.gather(*[zk.create(f"{top}/{n}", b"x" * 100) for n in range(number)])


def test_what_is_written_at_one_is_read_at_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path) as them:
            await them.start(1, 2, 3)
            for sid in them.ports:
                async with client(them.hosts(sid)) as zk:
                    await zk.create(f"/by-{sid}", b"%d" % sid)
                    await zk.create("/mine", ephemeral=True)
                    with pytest.raises(corral.NodeExistsError):
                        await zk.create("/mine")
                    with pytest.raises(corral.BadVersionError):
                        await zk.set(f"/by-{sid}", b"", version=7)
                    async with zk.transaction() as t:
                        t.set(f"/by-{sid}", b"again")
                        t.create(f"/by-{sid}/below")
                    await zk.sync()
                    assert sorted(await zk.get_children("/")) == [
                        *(f"by-{n}" for n in range(1, sid + 1)),
                        "mine",
                        "zookeeper",
                    ]
            first, *others = await them.trees()
            assert others == [first, first]
            assert b"/mine" not in first

    asyncio.run(main())


def test_syncs_are_answered_in_their_turn(tmp_path: Path) -> None:
    """Among writes of the same session, at the leader and elsewhere, and of others meanwhile."""

    async def main() -> None:
        async with members(tmp_path, 3, 1) as them:
            await them.start(1, 2, 3, 4)
            zks = [client(them.hosts(sid)) for sid in them.ports]
            for zk in zks:
                await zk.start()
            await zks[0].create("/s")
            for _ in range(20):
                calls: list[asyncio.Future[object]] = []
                for n in range(20):
                    for zk in zks:
                        calls += [asyncio.ensure_future(zk.set("/s", b"%d" % n)), asyncio.ensure_future(zk.sync("/s"))]
                        calls.append(asyncio.ensure_future(zk.get("/s")))
                await asyncio.gather(*calls)
            for zk in zks:
                assert zk.state is corral.State.CONNECTED
                await zk.close()

    asyncio.run(main())


def test_nothing_acknowledged_is_lost_when_the_leader_goes(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path) as them:
            await them.start(1, 2, 3)
            async with client(them.hosts()) as zk:
                acknowledged: set[str] = set()
                for term in range(3):
                    await zk.persist(lambda: zk.ensure("/t"))
                    gone = await them.leader()
                    writing = [asyncio.ensure_future(zk.create(f"/t/{term}-{n}")) for n in range(500)]
                    await writing[100]
                    await them.stop(gone)
                    for n, each in enumerate(writing):
                        try:
                            await each
                        except corral.ConnectionLoss:
                            continue
                        acknowledged.add(f"{term}-{n}")
                    await zk.persist(lambda: zk.set("/t", b"again"))
                    await them.start(gone)
                await zk.sync()
                assert acknowledged <= set(await zk.get_children("/t"))
                assert len(acknowledged) > 300
            first, *others = await them.trees()
            assert others == [first, first]

    asyncio.run(main())


def test_who_is_stopped_while_its_term_ends_lets_its_clients_go(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path) as them:
            await them.start(1, 2, 3)
            for turns in range(5):
                await them.serving()
                sid = await them.leader()
                term = them.peers[sid].term
                assert isinstance(term, Leader)
                async with client(them.hosts(sid)):
                    server = term.server
                    assert server is not None
                    assert server.connections
                    term._give_up("it is stopped soon")
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    await them.stop(sid)
                    assert server.stopped.is_set()
                    assert not server.connections
                    await them.start(sid)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("away", "settings"),
    [
        pytest.param(20, {}, id="from memory"),
        pytest.param(700, {"snapCount": "100000"}, id="from the log or as a tree"),
    ],
)
def test_who_was_away_catches_up(tmp_path: Path, away: int, settings: dict[str, str]) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, 0, **settings) as them:
            await them.start(1, 2, 3)
            async with client(them.hosts()) as zk:
                await fill(zk, "/before", 50)
                absent = next(sid for sid in them.peers if them.peers[sid].role is Role.FOLLOWING)
                await them.stop(absent)
                await zk.persist(lambda: fill(zk, "/while", 0))
                await fill(zk, "/during", away)
                await them.start(absent)
                await zk.persist(lambda: zk.set("/before", b"after"))
            first, *others = await them.trees()
            assert others == [first, first]

    asyncio.run(main())


def test_session_goes_on_at_another_member(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path) as them:
            await them.start(1, 2, 3)
            async with client(them.hosts()) as zk, client(them.hosts()) as other:
                await zk.create("/mine", ephemeral=True)
                session = zk.session
                assert session is not None
                for _ in range(4):
                    zk.reconnect()
                    await zk.connected()
                    await zk.persist(lambda: zk.set("/mine", b"still"))
                    assert zk.session is session
                await other.sync()
                assert (await other.get("/mine")).stat.ephemeral_owner == session.id
            async with client(them.hosts()) as other:
                await other.sync()
                assert await other.exists("/mine") is None

    asyncio.run(main())


def test_session_that_nobody_hears_of_expires_everywhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, minSessionTimeout="200") as them:
            await them.start(1, 2, 3)
            leader = await them.leader()
            follower = next(sid for sid in them.peers if sid != leader)
            lost = corral.connect(them.hosts(follower), session_timeout=0.5, heartbeat=False)
            await lost.start()
            await lost.create("/mine", ephemeral=True)
            async with client(them.hosts()) as other:
                gone = asyncio.get_running_loop().create_future()
                assert await other.exists("/mine", watch=gone.set_result) is not None
                # Its pings stop, the connection stays.
                connection = lost._keeper.connection
                assert connection is not None
                assert connection._timer is not None
                connection._timer.cancel()
                assert (await gone).kind is corral.EventKind.DELETED
            await lost.close()

    asyncio.run(main())


@pytest.mark.parametrize("way", ["diff", "snap"])
def test_zookeeper_1367_a_session_that_was_learned_of_while_coming_into_step_ends(tmp_path: Path, way: str) -> None:
    """It began while a member was away, which later leads: only that one can end it then."""

    async def main() -> None:
        async with members(tmp_path, forceSnapshotSync="true" if way == "snap" else "false") as them:
            await them.start(1, 2, 3)
            async with client(them.hosts(1, 2)) as zk:
                await fill(zk, "/before", 5)
                await them.stop(3)
                await zk.persist(lambda: zk.ensure("/without-it"))
            leader = await them.leader()
            figures = them.peers[leader].history.database.stats
            before = figures.counters[f"{way}_count"]
            lost = client(them.hosts(leader))
            await lost.start()
            await lost.create("/mine", ephemeral=True)
            session = lost.session
            assert session is not None
            await them.start(3)
            while them.peers[3].server is None:
                await asyncio.sleep(0.005)
            assert figures.counters[f"{way}_count"] > before
            await them.stop(1, 2)
            await them.start(1)
            assert await them.leader() == 3
            server = them.peers[3].server
            assert server is not None
            assert server.expire(session.id)
            async with client(them.hosts(1)) as other:
                while await other.exists("/mine") is not None:
                    await asyncio.sleep(0.005)
            assert [tree for tree in await them.trees() if b"/mine" in tree] == []
            assert [sid for sid, peer in them.peers.items() if session.id in peer.history.tree.sessions] == []
            await lost.close()

    asyncio.run(main())


def test_without_a_quorum_nobody_serves(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path) as them:
            await them.start(1)
            with pytest.raises(corral.ConnectionLoss):
                await corral.connect(them.hosts(1), connect_timeout=0.5).start()
            await them.start(2)
            async with client(them.hosts(1, 2)) as zk:
                await zk.create("/a")
                await them.stop(await them.leader())
                with pytest.raises(corral.ConnectionLoss):
                    await corral.connect(them.hosts(), connect_timeout=0.5).start()
                await them.start(3)
                await zk.persist(lambda: zk.set("/a", b"two again"))

    asyncio.run(main())


def test_observers_serve_and_do_not_count(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 3, observers=2) as them:
            await them.start(1, 4, 5)
            with pytest.raises(corral.ConnectionLoss):
                await corral.connect(them.hosts(), connect_timeout=0.5).start()
            await them.start(2, 3)
            async with client(them.hosts(4)) as zk, client(them.hosts(5)) as other:
                await fill(zk, "/a", 50)
                await other.sync()
                assert len(await other.get_children("/a")) == 50
                await them.stop(await them.leader())
                await zk.persist(lambda: zk.set("/a", b"through an observer"))
            first, *others = await them.trees()
            assert others == [first] * 3
            assert {them.peers[sid].role for sid in (4, 5)} == {Role.OBSERVING}

    asyncio.run(main())


@pytest.mark.slow
def test_everybody_goes_and_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path, 5) as them:
            sids = tuple(them.ensemble.members)
            await them.start(*sids)
            for term in range(3):
                async with client(them.hosts()) as zk:
                    await fill(zk, f"/term-{term}", 300)
                await them.stop(*them.peers)
                await them.start(*sids)
            async with client(them.hosts()) as zk:
                for term in range(3):
                    assert len(await zk.get_children(f"/term-{term}")) == 300
            first, *others = await them.trees()
            assert others == [first] * 4

    asyncio.run(main())


def test_terms_that_end_amid_writes_leave_the_members_alike(tmp_path: Path) -> None:

    async def main() -> None:
        async with members(tmp_path) as them:
            await them.start(1, 2, 3)
            async with client(them.hosts()) as zk:
                await zk.ensure("/t")
                for _ in range(3):
                    gone = await them.leader()
                    left = [sid for sid in them.peers if sid != gone]
                    writing = [asyncio.ensure_future(zk.create("/t/n-", sequential=True)) for _ in range(400)]
                    await writing[50]
                    await them.stop(gone)
                    for sid in left:
                        peer = them.peers[sid]
                        while peer.server is None:
                            await asyncio.sleep(0.005)
                    await asyncio.gather(*writing, return_exceptions=True)
                    await them.start(gone)
                    await zk.persist(lambda: zk.set("/t", b"x"))
            first, *others = await them.trees()
            assert others == [first, first]
            await them.stop(1, 2, 3)
            await them.start(1, 2, 3)
            async with client(them.hosts()) as zk:
                await zk.set("/t", b"after everybody was away")
            assert (await them.trees())[0].keys() == first.keys()

    asyncio.run(main())


def test_a_connection_that_is_made_while_its_server_ends_is_closed(tmp_path: Path) -> None:
    """The event loop tells of a connection some turns after it was accepted: nobody would look after it."""

    async def main() -> None:
        async with members(tmp_path) as them:
            await them.start(1, 2, 3)
            server = them.peers[await them.leader()].server
            assert server is not None
            listening = socket.create_server(("127.0.0.1", 0))
            client_end = socket.create_connection(listening.getsockname())
            accepted, _ = listening.accept()
            listening.close()
            await server.leave()
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: Connection(server), accepted)
            client_end.setblocking(False)
            with contextlib.suppress(ConnectionResetError):
                assert await loop.sock_recv(client_end, 1) == b""
            client_end.close()
            assert not server.connections

    asyncio.run(main())


def test_a_learner_that_is_lost_while_it_is_brought_into_step_is_forgotten(tmp_path: Path) -> None:
    """Whatever is proposed would be kept for it (simulation, seed 6)."""

    async def main() -> None:
        async with members(tmp_path) as them:
            await them.start(1, 2, 3)
            sid = await them.leader()
            gone = next(each for each in them.peers if each != sid)
            await them.stop(gone)
            leader = them.peers[sid].term
            assert isinstance(leader, Leader)
            while gone in leader.learners:
                await asyncio.sleep(0.005)
            place = them.ensemble.members[sid].addresses[0]
            loop = asyncio.get_running_loop()
            _, stream = await loop.create_connection(PacketStream, place.host, place.quorum_port)
            stream.write(pack(PacketType.FOLLOWER_INFO, 0, LearnerInfo(gone, PROTOCOL_VERSION, 0).encode()))
            told = await stream.read()
            stream.write(pack(PacketType.ACK_EPOCH, 0, (-1).to_bytes(4, "big", signed=True)))
            assert told.type == PacketType.LEADER_INFO
            while gone not in leader.learners:
                await asyncio.sleep(0.005)
            stream.abort()
            while gone in leader.learners:
                await asyncio.sleep(0.005)
            assert leader.server is not None

    asyncio.run(main())
