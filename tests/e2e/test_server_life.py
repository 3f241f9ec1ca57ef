"""The server as a process: it starts or says why not, stops when asked, and survives being killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from tests.e2e.child import KERNEL_SYNC_FAILS_LATER, KERNEL_SYNC_HANGS, SYNC_FAILS_LATER, SYNC_HANGS, PatchedServer
from tests.e2e.in_thread import running
from tests.e2e.raw import (
    PATIENCE_S,
    PING,
    Client,
    ConnectionEndedError,
    Raw,
    create,
    get_data,
    set_data,
    wait_until,
)
from tests.interop.peers import CorralServer, free_port

from corral.jute.ops import OpCode, Xid
from corral.server.config import StorageConfig
from corral.storage.errors import StorageError

SMALL_FILES: Final = {"preAllocSize": 64, "snapCount": 200}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this to a file system")


def exit_status(server: CorralServer, limit_s: float = PATIENCE_S) -> int:
    """Wait for a server to end by itself."""
    assert server._process is not None
    return server._process.wait(limit_s)


def start_in_vain(data_dir: Path, *prefix: str, **config: str | int) -> str:
    """A start that must fail with exit status 1 and without a traceback; what was printed is returned."""
    server = CorralServer(data_dir, config)
    server.write_config()
    done = subprocess.run(
        [*prefix, *server.command()], capture_output=True, text=True, timeout=60, check=False, env=server.environment()
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


class Writer(threading.Thread):
    """Creates znodes and counts up in one of them, many in flight, and knows what was acknowledged."""

    def __init__(self, port: int, name: str, window: int = 16) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.root = f"/{name}".encode()
        self.window = window
        self.created: list[bytes] = []
        self.counter = 0
        self.sent = 0

    def run(self) -> None:
        with contextlib.suppress(ConnectionEndedError, OSError), Client(self.port) as client:
            client.do(OpCode.CREATE, create(self.root, b"0"))
            waiting: list[bytes | int] = []
            while True:
                self.sent += 1
                path = b"%s/n%d" % (self.root, self.sent)
                client.submit(OpCode.CREATE, create(path, b"x" * 200))
                client.submit(OpCode.SET_DATA, set_data(self.root, b"%d" % self.sent))
                waiting += [path, self.sent]
                while len(waiting) >= self.window:
                    assert client.reply().error == 0
                    match waiting.pop(0):
                        case bytes(path):
                            self.created.append(path)
                        case int(number):
                            self.counter = number

    def check(self, port: int) -> None:
        """Everything acknowledged must be there, and nothing that was never sent."""
        with Client(port) as client:
            reply = client.ask(OpCode.GET_DATA, get_data(self.root))
            if reply.error:
                assert not self.created
                return
            size = int.from_bytes(reply.body[:4], "big")
            assert self.counter <= int(reply.body[4 : 4 + size]) <= self.sent
            for start in range(0, len(self.created), 500):
                paths = self.created[start : start + 500]
                for path in paths:
                    client.submit(OpCode.EXISTS, get_data(path))
                lost = [path for path in paths if client.reply().error]
                assert not lost, f"acknowledged and lost: {lost[:3]}"


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_cleanly_with_many_connections(tmp_path: Path, number: signal.Signals) -> None:
    with CorralServer(tmp_path / "data", {"maxClientCnxns": 0}) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(300)]
        clients[0].do(OpCode.CREATE, create(b"/a"))
        started = time.monotonic()
        os.kill(server.pid, number)
        assert exit_status(server) == 0
        assert time.monotonic() - started < 5
        assert all(client.ended(1) for client in clients)
        assert "stopped" in server.log


def test_stop_under_load_loses_nothing(tmp_path: Path) -> None:
    server = CorralServer(tmp_path / "data", SMALL_FILES).start()
    writers = [Writer(server.port, f"w{number}") for number in range(4)]
    for writer in writers:
        writer.start()
    wait_until(lambda: all(writer.created for writer in writers), "all of them have written")
    time.sleep(0.3)
    server.stop()
    for writer in writers:
        writer.join(PATIENCE_S)
    with server:
        for writer in writers:
            writer.check(server.port)


def test_stop_with_clients_that_do_not_read(tmp_path: Path) -> None:
    with CorralServer(tmp_path / "data") as server, Client(server.port, receive_buffer_bytes=4096) as client:
        client.do(OpCode.CREATE, create(b"/big", b"x" * 1_000_000))
        for _ in range(20):
            client.submit(OpCode.GET_DATA, get_data(b"/big"))
        time.sleep(0.2)
        started = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        assert exit_status(server) == 0
        assert time.monotonic() - started < 5


@pytest.mark.slow
def test_process_that_stood_still_hears_its_clients_first(tmp_path: Path) -> None:
    with CorralServer(tmp_path / "data") as server, Client(server.port, timeout_ms=1000) as client:
        client.do(OpCode.CREATE, create(b"/mine", flags=1))
        os.kill(server.pid, signal.SIGSTOP)
        for _ in range(15):
            client.send(PING)
            time.sleep(0.2)
        os.kill(server.pid, signal.SIGCONT)
        for _ in range(15):
            assert client.reply().xid == Xid.PING
        for _ in range(5):
            time.sleep(0.2)
            client.ping()
        client.do(OpCode.EXISTS, get_data(b"/mine"))


@pytest.mark.slow
def test_process_out_of_descriptors_goes_on(tmp_path: Path) -> None:
    class Limited(CorralServer):
        def command(self) -> Sequence[str]:
            return ["prlimit", "--nofile=64", *super().command()]

    if shutil.which("prlimit") is None:
        pytest.skip("needs prlimit")
    with Limited(tmp_path / "data", {"maxClientCnxns": 0}) as server, Client(server.port) as client:
        with contextlib.ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(Raw(server.port))
            for _ in range(20):
                client.do(OpCode.SET_DATA, set_data(b"/", b"x"))
                time.sleep(0.02)
            assert len(server.log.splitlines()) < 100
        wait_until(lambda: is_served(server.port), "new connections are served again")
        client.ping()


def is_served(port: int) -> bool:
    try:
        with Raw(port) as connection:
            connection.socket.settimeout(1)
            connection.send(b"ruok")
            return connection.everything() == b"imok"
    except OSError:
        return False


# Starts that must not succeed


def test_port_in_use_leaves_the_data_alone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        data = tmp_path / "data"
        said = start_in_vain(data, clientPort=taken.getsockname()[1])
    assert f"port {taken}" not in said
    assert "is in use by another process" in said
    assert not (data / "version-2").exists()


def test_second_server_on_one_directory_is_refused(tmp_path: Path) -> None:
    with CorralServer(tmp_path / "data") as server, Client(server.port) as client:
        client.do(OpCode.CREATE, create(b"/a"))
        before = contents(tmp_path / "data")
        said = start_in_vain(tmp_path / "data", clientPort=free_port())
        assert f"in use by another server (process {server.pid})" in said
        assert contents(tmp_path / "data") == before
        client.do(OpCode.CREATE, create(b"/b"))


def test_second_server_on_the_log_directory_is_refused(tmp_path: Path) -> None:
    with CorralServer(tmp_path / "data", {"dataLogDir": str(tmp_path / "logs")}) as server:
        said = start_in_vain(tmp_path / "other", dataLogDir=str(tmp_path / "logs"))
        assert f"in use by another server (process {server.pid})" in said


def contents(directory: Path) -> dict[str, bytes]:
    """All files but the lock, which names the latest process to hold it."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "corral.lock")
    return {str(path): path.read_bytes() for path in files}


def test_data_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a directory")
    assert f"{tmp_path / 'data'}" in start_in_vain(tmp_path / "elsewhere", dataDir=str(tmp_path / "data"))


def test_missing_log_directory_is_made_or_refused(tmp_path: Path) -> None:
    logs = tmp_path / "a" / "logs"
    said = start_in_vain(tmp_path / "data", **{"dataLogDir": str(logs), "datadir.autocreate": "false"})
    assert "datadir.autocreate=false" in said
    assert not logs.exists()
    with CorralServer(tmp_path / "data", {"dataLogDir": str(logs)}):
        assert list((logs / "version-2").iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "corral-test", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@needs_root
def test_read_only_directory(small_disk: Path) -> None:
    with CorralServer(small_disk / "data"):
        pass
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    server = CorralServer(small_disk / "data")
    server.config_path = small_disk.parent / "zoo.cfg"
    server.write_config()
    done = subprocess.run(server.command(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "the file system is read-only" in done.stderr
    assert "Traceback" not in done.stderr


@needs_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_directory_of_another_user(tmp_path: Path) -> None:
    with CorralServer(tmp_path / "data"):
        pass
    version_2 = tmp_path / "data" / "version-2"
    version_2.chmod(0o755)
    os.chown(version_2, 12345, 12345)
    for path in version_2.iterdir():
        os.chown(path, 12345, 12345)
    # Without its capabilities root is a user as any other.
    said = start_in_vain(tmp_path / "data", "setpriv", "--bounding-set", "-all", "--inh-caps", "-all")
    assert "belongs to 12345" in said


# Disks


@needs_root
@pytest.mark.slow
def test_disk_that_is_really_full(small_disk: Path) -> None:
    data = small_disk / "data"
    writers: list[Writer] = []
    server = CorralServer(data, {"preAllocSize": 64, "snapCount": 100_000}).start()
    writers.append(Writer(server.port, "first"))
    writers[-1].start()
    assert exit_status(server) == 1
    assert "No space left on device" in server.log
    assert server.log.count("No space left") < 5
    writers[-1].join(PATIENCE_S)
    assert len(writers[-1].created) > 100
    # It starts on the full disk, and ends again when there is something to write.
    server.start()
    second = Writer(server.port, "second")
    second.start()
    assert exit_status(server) == 1
    second.join(PATIENCE_S)
    writers.append(second)
    subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
    with server:
        for writer in writers:
            writer.check(server.port)
        with Client(server.port) as client:
            client.do(OpCode.CREATE, create(b"/space-again"))


def test_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    class Limited(CorralServer):
        def command(self) -> Sequence[str]:
            return ["prlimit", "--fsize=1000000", *super().command()]

    if shutil.which("prlimit") is None:
        pytest.skip("needs prlimit")
    limited = Limited(tmp_path / "data", SMALL_FILES | {"snapCount": 100_000}).start()
    writer = Writer(limited.port, "w")
    writer.start()
    assert exit_status(limited) == 1
    writer.join(PATIENCE_S)
    assert "File too large" in limited.log
    assert len(writer.created) > 100
    with CorralServer(tmp_path / "data", SMALL_FILES) as server:
        writer.check(server.port)


@pytest.mark.parametrize("fault", [SYNC_FAILS_LATER, KERNEL_SYNC_FAILS_LATER], ids=["in a thread", "in the kernel"])
def test_failing_sync_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setenv("FAIL_SYNCS", str(tmp_path / "fail"))
    server = PatchedServer(tmp_path / "data", fault, SMALL_FILES).start()
    writer = Writer(server.port, "w")
    writer.start()
    wait_until(lambda: len(writer.created) > 100, "it has written")
    (tmp_path / "fail").touch()
    assert exit_status(server) == 1
    assert "nothing more is acknowledged" in server.log
    assert "Input/output error" in server.log
    assert "Traceback" not in server.log
    writer.join(PATIENCE_S)
    with CorralServer(tmp_path / "data", SMALL_FILES) as again:
        writer.check(again.port)


@pytest.mark.slow
def test_stop_of_a_process_whose_disk_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANG_SYNCS", str(tmp_path / "hang"))
    server = PatchedServer(tmp_path / "data", SYNC_HANGS, SMALL_FILES).start()
    with Client(server.port) as client:
        client.do(OpCode.CREATE, create(b"/a", b"x"))
        (tmp_path / "hang").touch()
        client.submit(OpCode.CREATE, create(b"/b"))
        time.sleep(0.2)
        started = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        assert exit_status(server, 30) == 1
        assert 8 < time.monotonic() - started < 20
        assert "the disk has not answered for 10 s; 1 writes were not acknowledged" in server.log
    (tmp_path / "hang").unlink()
    with CorralServer(tmp_path / "data") as again, Client(again.port) as client:
        client.do(OpCode.GET_DATA, get_data(b"/a"))


@pytest.mark.slow
def test_stop_of_a_process_whose_disk_hangs_in_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANG_SYNCS", str(tmp_path / "hang"))
    server = PatchedServer(tmp_path / "data", KERNEL_SYNC_HANGS, SMALL_FILES).start()
    writer = Writer(server.port, "w")
    with Client(server.port) as reader:
        writer.start()
        time.sleep(0.2)
        (tmp_path / "hang").touch()
        wait_until(lambda: "the kernel hangs" in server.log, "a sync goes to the kernel")
        for _ in range(100):
            reader.do(OpCode.GET_DATA, get_data(b"/"))
            reader.ping()
        os.kill(server.pid, signal.SIGTERM)
        assert exit_status(server, 30) == 1
        assert "the disk has not answered for 10 s" in server.log
    writer.join(PATIENCE_S)
    with CorralServer(tmp_path / "data", SMALL_FILES) as again:
        writer.check(again.port)


# Being killed


def kill_under_load(directory: Path, rounds: int, seed: int) -> None:
    random = Random(seed)
    server = CorralServer(directory, SMALL_FILES)
    writers: list[Writer] = []
    for number in range(rounds):
        server.start()
        for writer in writers:
            writer.check(server.port)
        # Three rounds' worth is enough to look at each time.
        writers = writers[-6:]
        fresh = [Writer(server.port, f"r{number}w{index}", random.choice((1, 4, 64))) for index in range(3)]
        for writer in fresh:
            writer.start()
        time.sleep(random.uniform(0.02, 0.6))
        server.kill()
        for writer in fresh:
            writer.join(PATIENCE_S)
        writers += fresh
    with server:
        for writer in writers:
            writer.check(server.port)


def test_kill_under_load_loses_nothing_acknowledged(tmp_path: Path) -> None:
    kill_under_load(tmp_path / "data", rounds=3, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(3))
def test_many_kills_under_load_lose_nothing_acknowledged(tmp_path: Path, seed: int) -> None:
    kill_under_load(tmp_path / "data", rounds=25, seed=seed)


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """A directory with several snapshots and logs, left behind by a kill, and the paths that must be there."""
    data = tmp_path_factory.mktemp("left") / "data"
    paths: list[bytes] = []
    server = CorralServer(data, SMALL_FILES).start()
    with Client(server.port) as client:
        for number in range(600):
            paths.append(b"/n%d" % number)
            client.do(OpCode.CREATE, create(paths[-1], b"x" * 50))
    server.kill()
    for unfinished in (data / "version-2").glob("*.tmp"):
        # The kill came while a snapshot was being written.
        unfinished.unlink()
    return data, paths


@pytest.fixture
def written(left_behind: tuple[Path, list[bytes]], tmp_path: Path) -> tuple[Path, list[bytes]]:
    """A copy of it for one test."""
    data, paths = left_behind
    return shutil.copytree(data, tmp_path / "data"), paths


def assert_starts_with(data: Path, paths: list[bytes], **settings: Any) -> None:
    with running(data, **settings) as server, Client(server.port) as client:
        for path in paths:
            client.submit(OpCode.EXISTS, get_data(path))
        lost = [path for path in paths if client.reply().error]
        assert not lost


def refusal(data: Path) -> str:
    """Why a server does not start there."""
    with pytest.raises(StorageError) as caught, running(data):
        pass
    return str(caught.value)


def damage_first_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes(len(content) // 2) + content[len(content) // 2 :])


def snapshots(data: Path) -> list[Path]:
    return sorted((data / "version-2").glob("snapshot.*"), key=lambda path: int(path.suffix[1:], 16))


def logs(data: Path) -> list[Path]:
    return sorted((data / "version-2").glob("log.*"), key=lambda path: int(path.suffix[1:], 16))


@pytest.mark.parametrize("damage", [Path.unlink, damage_first_half, lambda path: path.write_bytes(b"")])
def test_all_snapshots_but_the_first_gone(written: tuple[Path, list[bytes]], damage: Callable[[Path], object]) -> None:
    data, paths = written
    assert len(snapshots(data)) >= 3
    for path in snapshots(data)[1:]:
        damage(path)
    assert_starts_with(data, paths)


def test_all_snapshots_missing_needs_the_operators_word(written: tuple[Path, list[bytes]]) -> None:
    data, paths = written
    for path in snapshots(data):
        path.unlink()
    before = contents(data)
    said = refusal(data)
    assert "no snapshot" in said
    assert "snapshot.trust.empty=true" in said
    assert str(logs(data)[0]) in said
    assert contents(data) == before
    assert_starts_with(data, paths, storage=StorageConfig(snapshot_trust_empty=True))
    # Once started it has a snapshot again.
    assert_starts_with(data, paths)


def test_all_snapshots_invalid_is_refused_by_name(written: tuple[Path, list[bytes]]) -> None:
    data, _ = written
    for path in snapshots(data):
        damage_first_half(path)
    before = contents(data)
    said = refusal(data)
    assert str(snapshots(data)[-1]) in said
    assert contents(data) == before


@pytest.mark.parametrize("cut_bytes", [1, 5, 30, 70])
def test_torn_tail_is_dropped(written: tuple[Path, list[bytes]], cut_bytes: int) -> None:
    data, paths = written
    last = logs(data)[-1]
    content = last.read_bytes().rstrip(b"\0")
    last.write_bytes(content[:-cut_bytes])
    # One record at most is torn, and in this test alone it had been acknowledged.
    assert_starts_with(data, paths[:-1])


def test_bit_flip_in_the_middle_is_refused_by_file_and_offset(written: tuple[Path, list[bytes]]) -> None:
    data, _ = written
    path = logs(data)[-1]
    content = bytearray(path.read_bytes())
    content[len(bytes(content).rstrip(b"\0")) // 2] ^= 4
    path.write_bytes(content)
    before = contents(data)
    said = start_in_vain(data)
    assert str(path) in said
    assert "at offset" in said
    assert contents(data) == before


def test_empty_newest_log_is_passed_over(written: tuple[Path, list[bytes]]) -> None:
    data, paths = written
    (data / "version-2" / "log.ffffff").write_bytes(b"")
    assert_starts_with(data, paths)
