"""One data directory served by Apache's server and Corral's in turn: nothing is lost, changed or forgotten."""

from __future__ import annotations

import re
import threading
from itertools import count, cycle, islice
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.interop.kazoo_clients import (
    NO_SESSION,
    ClientFactory,
    Session,
    create_container,
    create_with_ttl,
    open_session,
    wait_until,
)
from tests.interop.peers import SERVERS, Server, apaches_tool, free_port
from tests.interop.trees import SUPER_DIGEST, SUPER_USER, fill, make_random_changes, read_tree, read_tree_of
from tests.trees import Grower, log_entry

from corral.storage.snapshot import SnapshotEncoder
from corral.storage.snapshot_file import SnapshotWriter
from corral.storage.txnlog import TxnLogWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kazoo.client import KazooClient

ROUNDS: Final = 4

SNAPSHOT_SETTINGS: Final[dict[str, dict[str, str | int]]] = {
    "log-only": {"snapCount": 1_000_000},
    "snapshots": {"snapCount": 20},
    "gz": {"snapCount": 20, "snapshot.compression.method": "gz"},
    "snappy": {"snapCount": 20, "snapshot.compression.method": "snappy"},
}


class Relay:
    """One directory and one port, handed from server to server."""

    def __init__(self, directory: Path, config: dict[str, str | int]) -> None:
        port = free_port()
        common = {**SUPER_DIGEST, "extendedTypesEnabled": "true", **config}
        reaping = {"znode.container.checkIntervalMs": 200, "znode.container.maxPerMinute": 600000}
        self.servers = {
            kind: server(directory / "data", common, properties=reaping, port=port) for kind, server in SERVERS.items()
        }
        self.address = f"127.0.0.1:{port}"
        self._clients = ClientFactory(self.address)

    def client(self, **options: Any) -> KazooClient:
        """A started client of the server whose turn it is."""
        return self._clients(**{"timeout": 30.0, **options})

    def end(self) -> None:
        self._clients.close()
        for server in self.servers.values():
            server.kill()


@pytest.fixture(params=["apache-corral", "corral-apache"])
def kinds(request: pytest.FixtureRequest) -> list[str]:
    """The two kinds of server that take turns; the first one starts."""
    pair: str = request.param
    return pair.split("-")


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    made = Relay(tmp_path, {"snapCount": 50})
    yield made
    made.end()


def leave(server: Server, *clients: KazooClient, how: str = "kill") -> None:
    """Ends the server, then its clients, whose sessions therefore live on."""
    server.kill() if how == "kill" else server.stop()
    for client in clients:
        client.stop()
        client.close()


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("setting", SNAPSHOT_SETTINGS)
def test_tree_and_session_survive_every_hand_over(tmp_path: Path, kinds: list[str], setting: str, how: str) -> None:
    relay = Relay(tmp_path, dict(SNAPSHOT_SETTINGS[setting]))
    random = Random(f"{setting} {how}")
    identity, expected = None, None
    try:
        for number, kind in enumerate(islice(cycle(kinds), ROUNDS)):
            server = relay.servers[kind].start()
            assert expected is None or read_tree_of(relay.address) == expected
            client = relay.client(client_id=identity, auth_data=[SUPER_USER, ("digest", "ann:secret")])
            assert identity in {None, client.client_id}
            identity = client.client_id
            fill(client, f"/round-{number}")
            make_random_changes(client, random, "/random", 150)
            expected = read_tree(client)
            assert server.monitor()["zk_digest_mismatches_count"] == "0", f"at {kind} in round {number}"
            leave(server, client, how=how)
    finally:
        relay.end()


def test_acknowledged_writes_survive_a_crash_in_full_flight(relay: Relay, kinds: list[str]) -> None:
    first, second = (relay.servers[kind] for kind in kinds)
    with first:
        writers = [relay.client() for _ in range(3)]
        for index, writer in enumerate(writers):
            writer.create(f"/{index}", b"")
        sent: list[tuple[str, Any]] = []

        def acknowledged() -> set[str]:
            return {path for path, result in sent if result.ready() and result.successful()}

        def crash() -> None:
            wait_until(lambda: len(acknowledged()) > 1000, "some writes are acknowledged")
            first.kill()

        crashing = threading.Thread(target=crash)
        crashing.start()
        for number in count():
            if not first.running:
                break
            for index, writer in enumerate(writers):
                path = f"/{index}/{number}"
                sent.append((path, writer.create_async(path, path.encode())))
            if number % 100 == 99:
                wait_until(lambda: not first.running or sent[-300][1].ready(), "the server keeps up")
        crashing.join()
        leave(first, *writers)
    assert 1000 < len(acknowledged()) < len(sent)
    with second:
        found = read_tree_of(relay.address)
        assert acknowledged() <= found.keys()
        assert all(found[path].data == path.encode() for path in acknowledged())
        # Of each client's writes a prefix survived: they were sent in order.
        for index in range(len(writers)):
            numbers = sorted(int(path.split("/")[2]) for path in found if path.startswith(f"/{index}/"))
            assert numbers == list(range(len(numbers)))


def test_ephemerals_of_an_expired_session_go(relay: Relay, kinds: list[str]) -> None:
    first, second = (relay.servers[kind] for kind in kinds)
    with first:
        dying, living = relay.client(timeout=5.0), relay.client()
        dying.create("/dying", b"", ephemeral=True)
        living.create("/living", b"", ephemeral=True)
        owners = {"/dying": dying.client_id[0], "/living": living.client_id[0]}
        leave(first, dying, living)
    with second:
        living = relay.client(client_id=living.client_id)
        assert {path: living.exists(path).ephemeralOwner for path in owners} == owners
        wait_until(lambda: living.exists("/dying") is None, "the dead session expires")
        assert living.exists("/living").ephemeralOwner == owners["/living"]
        living.stop()


def test_closed_session_stays_closed(relay: Relay, kinds: list[str]) -> None:
    first, second = (relay.servers[kind] for kind in kinds)
    with first:
        client = relay.client()
        client.create("/ephemeral", b"", ephemeral=True)
        closed = Session(client.client_id[0], client.client_id[1], 10_000)
        client.stop()
        first.kill()
    with second:
        assert "/ephemeral" not in read_tree_of(relay.address)
        assert open_session(relay.address, 10_000, closed) == NO_SESSION


def test_session_opened_on_one_is_taken_up_on_the_other(relay: Relay, kinds: list[str]) -> None:
    first, second = (relay.servers[kind] for kind in kinds)
    with first:
        session = open_session(relay.address, 20_000)
        first.kill()
    with second:
        assert open_session(relay.address, 20_000, session) == session
        forged = Session(session.id, bytes(16), session.timeout_ms)
        assert open_session(relay.address, 20_000, forged) == NO_SESSION


def test_containers_and_ttl_znodes_stay_what_they_are(relay: Relay, kinds: list[str]) -> None:
    first, second = (relay.servers[kind] for kind in kinds)
    with first:
        client = relay.client()
        create_container(client, "/container")
        client.create("/container/child", b"")
        create_with_ttl(client, "/ttl", 3000)
        client.create("/ttl/child", b"")
        client.create("/plain", b"")
        client.create("/plain/child", b"")
        leave(first, client, how="stop")
    with second:
        client = relay.client(client_id=client.client_id)
        assert set(client.get_children("/")) == {"container", "ttl", "plain", "zookeeper"}
        for path in ("/container", "/ttl", "/plain"):
            client.delete(f"{path}/child")
        wait_until(lambda: set(client.get_children("/")) == {"plain", "zookeeper"}, "both are reaped")
        client.stop()


def test_separate_log_directory(tmp_path: Path, kinds: list[str]) -> None:
    relay = Relay(tmp_path, {"snapCount": 30, "dataLogDir": str(tmp_path / "logs")})
    expected = None
    try:
        for number, kind in enumerate(islice(cycle(kinds), ROUNDS)):
            server = relay.servers[kind].start()
            assert expected is None or read_tree_of(relay.address) == expected
            client = relay.client(auth_data=[SUPER_USER])
            make_random_changes(client, Random(number), "/random", 100)
            client.stop()
            expected = read_tree_of(relay.address)
            server.kill()
        names = {
            directory: [path.name for path in (tmp_path / directory / "version-2").iterdir()]
            for directory in ("data", "logs")
        }
        assert not [name for name in names["data"] if name.startswith("log.")]
        assert not [name for name in names["logs"] if name.startswith("snapshot.")]
    finally:
        relay.end()


@pytest.mark.parametrize("kind", sorted(SERVERS))
def test_a_snapshot_written_amid_changes_matches_its_digest(tmp_path: Path, kind: str) -> None:
    """Its digest once was that of its beginning, a tree that such a file does not show: Apache's server noticed."""
    directory = tmp_path / "data" / "version-2"
    directory.mkdir(parents=True)
    grower, paths = Grower(), [b"/%d" % number for number in range(10)]
    digests: list[int] = []
    for path in paths:
        grower.create(path)
        digests.append(grower.tree.digest)
    encoder = SnapshotEncoder(grower.tree, digests=True, last_zxid_section=True)
    snapshot = SnapshotWriter(directory, encoder.zxid)
    snapshot.write(encoder.head())
    snapshot.write(encoder.nodes(5) or b"")
    for version in (1, 2):
        for path in paths:
            grower.set_data(path, b"changed", version)
            digests.append(grower.tree.digest)
        while (piece := encoder.nodes(5)) is not None:
            snapshot.write(piece)
    snapshot.finish(encoder.sections())
    log = TxnLogWriter(directory, preallocation_bytes=0)
    for (zxid, txn_type, session, record), digest in zip(grower.log, digests, strict=True):
        log.append(zxid, log_entry(zxid, txn_type, session, record, digest))
    batch = log.take()
    assert batch is not None
    log.write(batch)
    log.close()
    with SERVERS[kind](tmp_path / "data") as server:
        assert server.monitor()["zk_digest_mismatches_count"] == "0"
        with ClientFactory(server.address) as clients:
            client = clients()
            assert {client.get(path.decode())[1].mzxid for path in paths} == set(range(21, 31))


def test_sequence_numbers_go_on(relay: Relay, kinds: list[str]) -> None:
    for number, kind in enumerate(islice(cycle(kinds), ROUNDS)):
        with relay.servers[kind]:
            client = relay.client()
            client.ensure_path("/s")
            assert client.create("/s/n-", b"", sequence=True) == f"/s/n-{2 * number:010d}"
            client.delete(client.create("/s/n-", b"", sequence=True))
            client.stop()


@pytest.fixture
def stopped(server_type: type[Server], tmp_path: Path) -> Server:
    """A server of either kind that was filled, restarted (which writes a snapshot), changed and stopped."""
    server = server_type(tmp_path / "data", {**SUPER_DIGEST, "extendedTypesEnabled": "true"})
    credentials = [SUPER_USER, ("digest", "ann:secret")]
    with ClientFactory(server.address) as clients:
        with server:
            client = clients(auth_data=credentials)
            fill(client, "/before")
            leave(server, client)
        with server:
            client = clients(client_id=client.client_id, auth_data=credentials)
            make_random_changes(client, Random(7), "/random", 100)
            client.stop()
    return server


def newest(server: Server, prefix: str) -> Path:
    files = (server.data_dir / "version-2").glob(f"{prefix}.*")
    return max(files, key=lambda path: int(path.name.split(".")[1], 16))


def test_apaches_tools_read_the_log(stopped: Server) -> None:
    for log in (stopped.data_dir / "version-2").glob("log.*"):
        text = apaches_tool("persistence.TxnLogToolkit", "--dump", str(log))
        assert "CRC ERROR" not in text
        zxids = [int(zxid, 16) for zxid in re.findall(r"zxid 0x([0-9a-f]+) ", text)]
        assert f"EOF reached after {len(zxids)} txns." in text
        first = int(log.name.split(".")[1], 16)
        assert zxids == list(range(first, first + len(zxids)))


def test_apaches_tools_read_the_snapshot(stopped: Server) -> None:
    text = apaches_tool(
        "SnapshotFormatter", str(newest(stopped, "snapshot")), properties={"zookeeper.extendedTypesEnabled": "true"}
    )
    assert "/before/ünï-コード" in text
    owner = re.compile(
        r"^(/before/(?:container|ttl|null|empty))$.*?^  ephemeralOwner = 0x(\w+)$", re.DOTALL | re.MULTILINE
    )
    shown = dict(owner.findall(text))
    assert shown == {
        "/before/container": "8000000000000000",
        "/before/null": "8000000000000000",
        "/before/ttl": "ff00000005265c00",
        "/before/empty": "00000000000000",
    }
    root_and_its_alias = 2
    assert f"count={text.count('  ephemeralOwner = ') - 1 + root_and_its_alias})" in text
