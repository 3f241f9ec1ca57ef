"""Disks that fill up, fail or hang under a running server. What was acknowledged is there after the next start."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest
from tests.e2e.in_thread import Running, running
from tests.e2e.raw import (
    PING,
    Client,
    ConnectionEndedError,
    Raw,
    create,
    get_data,
    monitored,
    request,
    set_data,
    wait_until,
    word,
)
from tests.faulty_disk import FailingFileSystem, disk_full, input_output_error
from tests.trees import facts

from corral.jute.errors import ErrorCode
from corral.jute.ops import OpCode, Xid
from corral.jute.records import Acl, Id, SetAclRequest
from corral.server.config import StorageConfig
from corral.storage.errors import StorageError
from corral.storage.filesystem import FileSystem
from corral.tree.acl import READ_ONLY_ACL

FEW_PER_SNAPSHOT = StorageConfig(snap_count=20)


class FullForSnapshots(FileSystem):
    """A disk with space for logs but, while ``full``, not for snapshots."""

    def __init__(self) -> None:
        self.full = True
        self._snapshots: set[int] = set()

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        if path.name.startswith("snapshot."):
            self._snapshots.add(descriptor)
        else:
            self._snapshots.discard(descriptor)
        return descriptor

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        if self.full and descriptor in self._snapshots:
            raise disk_full()
        return super().pwrite(descriptor, data, offset)


class HangingFileSystem(FileSystem):
    """A disk that does not answer while ``answers`` is not set.

    ``only`` are the files concerned, by the beginning of their names; ``call`` what does not return for them.
    """

    def __init__(self, only: str = "", call: str = "sync_data") -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.hangs = threading.Event()
        self._only = only
        self._call = call
        self._names: dict[int, str] = {}

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        self._names[descriptor] = path.name
        return descriptor

    def sync_data(self, descriptor: int) -> None:
        self._hang("sync_data", descriptor)
        super().sync_data(descriptor)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        self._hang("pwrite", descriptor)
        return super().pwrite(descriptor, data, offset)

    def _hang(self, call: str, descriptor: int) -> None:
        if call == self._call and not self.answers.is_set() and self._names[descriptor].startswith(self._only):
            self.hangs.set()
            self.answers.wait(60)
            self.hangs.clear()


def write_until_it_ends(port: int, start: int = 0, size: int = 2000) -> list[bytes]:
    """Create znodes, several in flight, until the connection ends; returns the paths that were acknowledged."""
    acknowledged: list[bytes] = []
    with Client(port) as client:
        in_flight: list[bytes] = []
        try:
            for number in range(start, start + 100_000):
                path = b"/n%06d" % number
                client.submit(OpCode.CREATE, create(path, b"x" * size))
                in_flight.append(path)
                if len(in_flight) == 8:
                    reply = client.reply()
                    assert reply.error == 0
                    acknowledged.append(in_flight.pop(0))
            raise AssertionError("the disk never failed")
        except (ConnectionEndedError, OSError):
            pass
        return acknowledged


def assert_all_there(server: Running, paths: list[bytes]) -> None:
    nodes = server.call(lambda each: set(each.tree.nodes))
    missing = [path for path in paths if path not in nodes]
    assert not missing, f"{len(missing)} of {len(paths)} acknowledged writes are lost, the first {missing[0]!r}"


@pytest.mark.parametrize("space_bytes", [300_000, 300_001, 363_000, 700_123])
def test_full_disk_while_appending_loses_nothing_acknowledged(tmp_path: Path, space_bytes: int) -> None:
    disk = FailingFileSystem()
    with running(tmp_path, disk) as server:
        disk.space_bytes = space_bytes
        acknowledged = write_until_it_ends(server.port)
        server.wait()
        assert isinstance(server.server.failed, StorageError)
        assert "No space left" in str(server.server.failed)
    assert acknowledged
    with running(tmp_path) as server:
        assert_all_there(server, acknowledged)
        with Client(server.port) as client:
            client.do(OpCode.CREATE, create(b"/space-again"))


def test_full_disk_again_and_again(tmp_path: Path) -> None:
    acknowledged: list[bytes] = []
    for round_number in range(4):
        disk = FailingFileSystem()
        disk.space_bytes = 350_000 + round_number
        with running(tmp_path, disk) as server:
            acknowledged += write_until_it_ends(server.port, start=1000 * round_number)
            server.wait()
    assert len(acknowledged) > 50
    with running(tmp_path) as server:
        assert_all_there(server, acknowledged)


def test_full_disk_while_snapshotting_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = FullForSnapshots()
    disk.full = False
    written: list[bytes] = []

    def write(client: Client) -> None:
        for _ in range(30):
            written.append(b"/n%d" % len(written))
            client.do(OpCode.CREATE, create(written[-1], b"x"))

    with running(tmp_path, disk, storage=FEW_PER_SNAPSHOT) as server, Client(server.port) as client:
        disk.full = True
        write(client)
        wait_until(lambda: int(monitored(server.port)["snapshot_error_count"]), "a snapshot fails")
        assert "No space left" in caplog.text
        assert not list(tmp_path.glob("version-2/*.tmp"))
        disk.full = False
        before = server.call(lambda each: each.database.snapshotter.last_zxid)
        write(client)
        wait_until(
            lambda: server.call(lambda each: each.database.snapshotter.last_zxid) > before, "a snapshot succeeds"
        )
    with running(tmp_path) as server:
        assert_all_there(server, written)


def test_full_disk_at_the_start_only_costs_the_snapshot(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(tmp_path) as server, Client(server.port) as client:
        client.do(OpCode.CREATE, create(b"/a", b"x"))
    snapshots = sorted(tmp_path.glob("version-2/snapshot.*"))
    disk = FullForSnapshots()
    with running(tmp_path, disk) as server, Client(server.port) as client:
        assert client.ask(OpCode.GET_DATA, get_data(b"/a")).error == 0
        client.do(OpCode.CREATE, create(b"/b"))
    assert "no snapshot could be written at the start" in caplog.text
    assert sorted(tmp_path.glob("version-2/snapshot.*")) == snapshots
    with running(tmp_path) as server:
        assert_all_there(server, [b"/a", b"/b"])


def test_snapshot_that_hangs_in_the_disk_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = HangingFileSystem("snapshot.")
    paths = [b"/n%d" % number for number in range(100)]
    with running(tmp_path, disk, storage=FEW_PER_SNAPSHOT) as server, Client(server.port) as client:
        disk.answers.clear()
        for path in paths:
            client.do(OpCode.CREATE, create(path, b"x"))
        assert disk.hangs.is_set()
        assert "still being written" in caplog.text
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 10
        assert server.server.failed is None
        disk.answers.set()
    with running(tmp_path) as server:
        assert_all_there(server, paths)


def test_zookeeper_3531_nobody_waits_for_the_table_of_acls_while_it_hangs_in_the_disk(tmp_path: Path) -> None:
    disk = HangingFileSystem("snapshot.", "pwrite")

    def protect(client: Client, path: bytes, *more: Acl) -> None:
        client.do(OpCode.SET_ACL, SetAclRequest(path, [*READ_ONLY_ACL, *more], -1).to_bytes())

    with running(tmp_path, disk) as server, Client(server.port) as client:
        client.do(OpCode.CREATE, create(b"/before"))
        protect(client, b"/before")
        disk.answers.clear()
        try:
            assert server.call(lambda each: each.database.snapshotter.start())
            assert disk.hangs.wait(10)
            for number in range(20):
                client.do(OpCode.CREATE, create(b"/n%d" % number))
                protect(client, b"/n%d" % number, Acl(31, Id("digest", f"user{number}:x")))
            with Client(server.port) as other:
                assert other.ask(OpCode.GET_DATA, get_data(b"/before")).error == 0
                assert other.ask(OpCode.SET_DATA, set_data(b"/before", b"")).error == ErrorCode.NO_AUTH
                assert other.ask(OpCode.GET_DATA, get_data(b"/n19")).error == 0
            assert disk.hangs.is_set()
        finally:
            disk.answers.set()
        expected = server.call(lambda each: facts(each.tree))
    with running(tmp_path) as server:
        assert server.call(lambda each: facts(each.tree)) == expected


@pytest.mark.parametrize("call", ["truncate", "sync_data"])
def test_torn_tail_that_cannot_be_mended_is_left_for_the_next_start(tmp_path: Path, call: str) -> None:
    with running(tmp_path) as server, Client(server.port) as client:
        client.do(OpCode.CREATE, create(b"/a"))
        client.do(OpCode.CREATE, create(b"/b"))
    log = next(tmp_path.glob("version-2/log.*"))
    content = log.read_bytes().rstrip(b"\0")
    log.write_bytes(content[:-20])
    disk = FailingFileSystem()
    disk.fail(call, disk_full)
    with pytest.raises(StorageError, match="No space left"), running(tmp_path, disk):
        pass
    with running(tmp_path) as server:
        assert_all_there(server, [b"/a"])


def test_without_its_first_snapshot_a_server_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No space left"), running(tmp_path, FullForSnapshots()):
        pass
    with running(tmp_path):
        pass


def test_what_a_killed_server_left_unfinished_is_removed(tmp_path: Path) -> None:
    with running(tmp_path):
        pass
    left = tmp_path / "version-2" / "snapshot.5.tmp"
    left.write_bytes(b"half a snapshot")
    with running(tmp_path):
        assert not left.exists()


def test_failing_sync_ends_the_server_and_acknowledges_nothing_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FailingFileSystem()
    with running(tmp_path, disk) as server:
        with Client(server.port) as client:
            client.do(OpCode.CREATE, create(b"/before"))
            disk.fail("sync_data", input_output_error)
            client.submit(OpCode.CREATE, create(b"/after"))
            client.submit(OpCode.GET_DATA, get_data(b"/before"))
            with pytest.raises(ConnectionEndedError):
                client.reply()
        server.wait()
        assert "sync the log" in str(server.server.failed)
    assert "nothing more is acknowledged" in caplog.text
    with running(tmp_path) as server:
        assert_all_there(server, [b"/before"])


@pytest.fixture
def hanging(tmp_path: Path) -> HangingFileSystem:
    return HangingFileSystem()


def hang(disk: HangingFileSystem, client: Client) -> int:
    """Make the disk hang on a write of this client; returns its xid."""
    disk.answers.clear()
    xid = client.submit(OpCode.SET_DATA, set_data(b"/a", b"new"))
    assert disk.hangs.wait(10)
    return xid


def test_hanging_disk_holds_up_nobody_but_writers(tmp_path: Path, hanging: HangingFileSystem) -> None:
    with running(tmp_path, hanging) as server, Client(server.port) as writer, Client(server.port) as reader:
        writer.do(OpCode.CREATE, create(b"/a", b"old"))
        xid = hang(hanging, writer)
        try:
            started = time.monotonic()
            for _ in range(100):
                assert reader.do(OpCode.GET_DATA, get_data(b"/a")).body[4:7] == b"old"
            reader.ping()
            writer.ping()
            assert word(server.port, "ruok") == "imok"
            assert monitored(server.port)["outstanding_requests"] == "1"
            with Client(server.port, renew=reader.renewal) as renewed:
                assert renewed.session.session_id == reader.session.session_id
                assert renewed.do(OpCode.GET_DATA, get_data(b"/a")).body[4:7] == b"old"
            assert time.monotonic() - started < 5
        finally:
            hanging.answers.set()
        reply = writer.reply()
        assert (reply.xid, reply.error) == (xid, 0)


def test_who_comes_back_sees_what_the_session_had_asked(tmp_path: Path, hanging: HangingFileSystem) -> None:
    """A write whose answer is lost with the connection is applied before the session reads again."""
    with running(tmp_path, hanging) as server, Client(server.port) as writer:
        writer.do(OpCode.CREATE, create(b"/a", b"old"))
        hang(hanging, writer)
        release = threading.Timer(0.2, hanging.answers.set)
        release.start()
        with Client(server.port, renew=writer.renewal) as renewed:
            assert hanging.answers.is_set()
            assert renewed.session.session_id == writer.session.session_id
            assert renewed.do(OpCode.GET_DATA, get_data(b"/a")).body[4:7] == b"new"
        release.join()


def test_nobody_who_pings_expires_while_the_disk_hangs(tmp_path: Path, hanging: HangingFileSystem) -> None:
    timeout_ms = 1000
    with (
        running(tmp_path, hanging, min_session_timeout_ms=timeout_ms) as server,
        Client(server.port, timeout_ms=timeout_ms) as writer,
        Client(server.port, timeout_ms=timeout_ms) as reader,
    ):
        writer.do(OpCode.CREATE, create(b"/a"))
        # More than globalOutstandingLimit: this connection is not read from while they are under way.
        hanging.answers.clear()
        writer.send(b"".join(request(5000 + n, OpCode.SET_DATA, set_data(b"/a", b"x")) for n in range(1500)))
        assert hanging.hangs.wait(10)
        end = time.monotonic() + 2.5 * timeout_ms / 1000
        while time.monotonic() < end:
            writer.send(PING)
            reader.ping()
            time.sleep(0.2)
        assert server.call(lambda each: len(each.tracker)) == 2
        hanging.answers.set()
        answered: list[int] = []
        while len(answered) < 1500:
            reply = writer.reply()
            if reply.xid != Xid.PING:
                assert reply.error == 0
                answered.append(reply.xid)
        assert answered == list(range(5000, 6500))
        reader.ping()
        assert monitored(server.port)["stale_sessions_expired"] == "0"


def test_a_silent_session_still_expires_while_the_disk_hangs(tmp_path: Path, hanging: HangingFileSystem) -> None:
    with running(tmp_path, hanging, min_session_timeout_ms=400) as server, Client(server.port) as writer:
        writer.do(OpCode.CREATE, create(b"/a"))
        silent = Client(server.port, timeout_ms=400)
        silent.do(OpCode.CREATE, create(b"/e", flags=1))
        hang(hanging, writer)
        try:
            wait_until(lambda: int(monitored(server.port)["stale_sessions_expired"]), "the session expires")
            assert writer.session.session_id != 0
        finally:
            hanging.answers.set()
        assert silent.ended()
        silent.close()
        wait_until(lambda: b"/e" not in server.call(lambda each: each.tree.nodes), "its ephemeral goes")


def test_stop_with_a_hanging_disk_ends_and_says_why(
    tmp_path: Path, hanging: HangingFileSystem, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.server.standalone.STOP_LIMIT_S", 0.5)
    caplog.set_level(logging.CRITICAL)
    with running(tmp_path, hanging) as server, Client(server.port) as writer:
        writer.do(OpCode.CREATE, create(b"/a", b"old"))
        hang(hanging, writer)
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 5
        assert "1 writes were not acknowledged" in caplog.text
        assert server.server.failed is not None
        with pytest.raises(ConnectionEndedError):
            writer.reply()
        hanging.answers.set()


def test_new_session_waits_for_the_disk(tmp_path: Path, hanging: HangingFileSystem) -> None:
    with running(tmp_path, hanging) as server, Client(server.port) as writer:
        writer.do(OpCode.CREATE, create(b"/a", b"old"))
        hang(hanging, writer)
        started = time.monotonic()
        threading.Timer(0.5, hanging.answers.set).start()
        with Client(server.port) as newcomer:
            assert newcomer.session.session_id
            assert time.monotonic() - started >= 0.4
        with Raw(server.port) as raw:
            raw.send(b"srvr")
            assert raw.everything().startswith(b"Zookeeper version")
