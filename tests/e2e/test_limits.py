"""Clients that are too many, too fast, too big, too slow or out of their mind: each is held off, the others served."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Final

import pytest
from tests.e2e.child import SYNC_HANGS, Memory, PatchedServer
from tests.e2e.in_thread import Running, running
from tests.e2e.raw import (
    PING,
    Client,
    ConnectionEndedError,
    Raw,
    create,
    frame,
    get_data,
    monitored,
    request,
    set_data,
    wait_until,
    word,
)
from tests.e2e.test_disk_faults import HangingFileSystem
from tests.interop.peers import CorralServer

from corral.jute.errors import ErrorCode
from corral.jute.ops import AddWatchMode, OpCode
from corral.jute.records import ConnectRequest, MultiHeader, PathTypeRequest
from corral.server.config import ConnectionThrottle, Limits, RequestThrottle
from corral.server.handshake import FIRST_FRAME_MAX_BYTES
from corral.server.standalone import Server

MIB: Final = 1 << 20
JUTE_MAX_BUFFER: Final = 0xFFFFF


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CorralServer]:
    """A server of its own process, whose memory can be measured. Clients may misbehave, it must not mind."""
    with CorralServer(tmp_path_factory.mktemp("limits") / "data", {"maxClientCnxns": 0}) as server:
        yield server
        with Client(server.port) as client:
            client.ping()


def count(server: Running, name: str) -> int:
    return server.call(lambda each: each.stats.counters[name])


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def abort_connection(server: Server, session_id: int) -> None:
    connection = server.tracker.sessions[session_id].connection
    assert connection is not None
    connection.abort()


def is_refused(port: int) -> bool:
    """Whether a new connection is ended at once."""
    try:
        with Raw(port) as extra:
            return extra.ended()
    except ConnectionResetError:
        return True


# Connections


def test_max_client_connections(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(tmp_path, limits=Limits(max_client_connections=3)) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(3)]
        for _ in range(50):
            assert is_refused(server.port)
        assert count(server, "connection_rejected") == 50
        assert len([text for text in warnings(caplog) if "one more is refused" in text]) == 1
        for client in clients:
            client.ping()
        clients[0].close()
        wait_until(lambda: server.call(lambda each: len(each.connections)) == 2, "the connection is gone")
        with Client(server.port) as another:
            another.ping()


def test_max_connections(tmp_path: Path) -> None:
    limits = Limits(max_client_connections=0, max_connections=2)
    with running(tmp_path, limits=limits) as server, Client(server.port) as first, Client(server.port):
        assert is_refused(server.port)
        first.ping()


def test_connection_throttle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    throttle = ConnectionThrottle(tokens=3, fill_time_ms=3_600_000)
    with running(tmp_path, connection_throttle=throttle) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(3)]
        for _ in range(5):
            with pytest.raises(ConnectionEndedError):
                Client(server.port)
        for client in clients:
            client.ping()
        assert count(server, "connection_rejected") == 5
        assert len([text for text in warnings(caplog) if "faster than" in text]) == 1
        found = monitored(server.port)
        assert found["max_connection_token_deficit"] == "3"
        assert found["connection_request_count"] == "8"


def test_connection_throttle_lets_in_again(tmp_path: Path) -> None:
    throttle = ConnectionThrottle(tokens=1, fill_time_ms=2000)

    def is_let_in() -> bool:
        try:
            with Client(server.port) as late:
                late.ping()
        except ConnectionEndedError:
            return False
        return True

    with running(tmp_path, connection_throttle=throttle) as server, Client(server.port):
        assert not is_let_in()
        wait_until(is_let_in, "there is room again")


def test_connection_without_a_session_is_closed_in_time(tmp_path: Path) -> None:
    beginnings = [b"", b"\0", b"\0\0\0\x2c", b"\0\0\0\x2c" + bytes(20), b"stm"]
    limits = Limits(sessionless_connection_timeout_ms=300)
    with (
        running(tmp_path, limits=limits) as server,
        Client(server.port) as client,
        contextlib.ExitStack() as stack,
    ):
        started = time.monotonic()
        silent = [stack.enter_context(Raw(server.port)) for _ in beginnings]
        for connection, said in zip(silent, beginnings, strict=True):
            connection.send(said)
        assert all(connection.ended() for connection in silent)
        assert time.monotonic() - started > 0.2
        client.ping()
        assert count(server, "sessionless_connections_expired") == len(beginnings)


def test_answer_to_a_word_that_is_never_read_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.server.standalone._FAREWELL_LIMIT_MS", 300)
    with running(tmp_path) as server, Client(server.port) as client:
        # An answer of some MB: watches of many paths.
        for number in range(100):
            path = b"/%d%s" % (number, b"x" * 100_000)
            client.ask(OpCode.EXISTS, get_data(path, watch=True))
        with Raw(server.port, receive_buffer_bytes=4096) as deaf:
            deaf.send(b"wchp")
            wait_until(lambda: server.call(lambda each: len(each._leaving)) == 1, "the answer is on its way")
            wait_until(lambda: server.call(lambda each: len(each.connections)) == 1, "the connection is cut off")
        client.ping()


# Frames that are none

GARBAGE: Final = {
    "2 GB": b"\x7f\xff\xff\xff",
    "-1": b"\xff\xff\xff\xff",
    "least": b"\x80\0\0\0",
    "zero": bytes(4),
    "too long by one": (JUTE_MAX_BUFFER + 1).to_bytes(4, "big"),
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": bytes.fromhex("160301020001000001fc0303") + bytes(64),
    "noise": Random(7).randbytes(1 << 16),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_as_the_first_words(child: CorralServer, garbage: bytes) -> None:
    with Client(child.port) as other, Raw(child.port) as fool:
        memory = Memory(child.pid)
        with contextlib.suppress(OSError):
            fool.send(garbage)
        assert fool.ended(5)
        other.ping()
        assert memory.peak_growth_bytes < 4 * MIB


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_after_requests(child: CorralServer, garbage: bytes) -> None:
    with Client(child.port) as other, Client(child.port) as fool:
        memory = Memory(child.pid)
        xid = fool.submit(OpCode.EXISTS, get_data(b"/"))
        with contextlib.suppress(OSError):
            fool.send(garbage)
        # What was asked before is answered.
        assert fool.reply().xid == xid
        assert fool.ended(5)
        other.ping()
        assert memory.peak_growth_bytes < 4 * MIB


def test_garbage_of_many_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(tmp_path, limits=Limits(max_client_connections=0)) as server:
        for _ in range(100):
            with Raw(server.port) as fool:
                fool.send(b"\x7f\xff\xff\xff")
                assert fool.ended()
        assert len(warnings(caplog)) == 1


def test_a_random_byte_changed_anywhere_harms_nobody_else(child: CorralServer) -> None:
    random = Random(11)
    sound = frame(ConnectRequest(0, 0, 5000, 0, bytes(16)).to_bytes() + b"\0") + b"".join(
        request(n, OpCode.EXISTS, get_data(b"/a")) + PING + request(n, OpCode.SET_DATA, set_data(b"/b", b"x"))
        for n in range(5)
    )
    with Client(child.port) as other:
        for _ in range(300):
            data = bytearray(sound)
            data[random.randrange(len(data))] = random.randrange(256)
            with Raw(child.port) as fool:
                fool.send(bytes(data))
                fool.finish_sending()
                assert fool.ended(10)
        other.ping()
    assert "Traceback" not in child.log


@pytest.mark.parametrize("frame_bytes", [JUTE_MAX_BUFFER, JUTE_MAX_BUFFER + 1])
def test_frame_of_just_the_longest_length(child: CorralServer, frame_bytes: int) -> None:
    with Client(child.port) as client:
        body = create(b"/longest")
        data = b"x" * (frame_bytes - 8 - len(body))
        if frame_bytes <= JUTE_MAX_BUFFER:
            client.do(OpCode.CREATE, create(b"/longest", data))
            assert client.do(OpCode.GET_DATA, get_data(b"/longest")).body[4 : 4 + len(data)] == data
        else:
            with pytest.raises(ConnectionEndedError):
                client.do(OpCode.CREATE, create(b"/longest", data))


def test_first_frame_is_short(child: CorralServer) -> None:
    with Raw(child.port) as fool:
        fool.send((FIRST_FRAME_MAX_BYTES + 1).to_bytes(4, "big"))
        assert fool.ended(5)
    with Raw(child.port) as odd:
        # A password may be of any length, it is simply wrong.
        padding = FIRST_FRAME_MAX_BYTES - len(ConnectRequest(0, 0, 5000, 77, b"").to_bytes())
        odd.send(frame(ConnectRequest(0, 0, 5000, 77, bytes(padding)).to_bytes()))
        assert odd.next_frame()[4:16] == bytes(12)


def half_frames(port: int, number: int, stack: contextlib.ExitStack) -> None:
    """Connections with half a request for a session, and some with a session and half a frame of a megabyte."""
    for index in range(number):
        if index % 10:
            fool = stack.enter_context(Raw(port))
            fool.send(b"\0\0\0\x2c" + bytes(20))
        else:
            client = stack.enter_context(Client(port))
            client.send(struct.pack(">ii", JUTE_MAX_BUFFER, 1) + bytes(1000))


@pytest.mark.parametrize("number", [500, pytest.param(9500, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_half_frames_and_then_nothing(tmp_path: Path, number: int) -> None:
    settings = {"maxClientCnxns": 0, "nio.sessionlessCnxnTimeout": 20_000, "maxSessionTimeout": 20_000}
    with CorralServer(tmp_path / "data", settings) as server, contextlib.ExitStack() as stack:
        other = stack.enter_context(Client(server.port))
        memory = Memory(server.pid)
        half_frames(server.port, number, stack)
        other.ping()
        wait_until(lambda: word(server.port, "isro") == "rw", "the server answers")
        grown = memory.peak_growth_bytes
        print(f"{number} half frames: {grown / MIB:.1f} MiB, {grown // number} bytes each")
        assert grown < 2 * MIB + number * 8192
        assert len(server.log.splitlines()) < 100


def test_one_frame_in_tiny_pieces(child: CorralServer) -> None:
    with Client(child.port) as client, Client(child.port) as other:
        client.do(OpCode.CREATE, create(b"/pieces"))
        memory = Memory(child.pid)
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = request(99, OpCode.SET_DATA, set_data(b"/pieces", b"y" * 200_000))
        for start in range(0, len(data), 2):
            client.send(data[start : start + 2])
        assert client.reply().error == 0
        other.ping()
        print(f"a frame in pieces of 2 bytes: {memory.peak_growth_bytes / MIB:.1f} MiB")
        assert memory.peak_growth_bytes < 8 * MIB


# Too much


def deaf_client(port: int) -> Client:
    return Client(port, receive_buffer_bytes=4096)


@pytest.mark.slow
def test_client_that_never_reads_its_replies_is_not_read_from(child: CorralServer) -> None:
    with Client(child.port) as other, deaf_client(child.port) as deaf:
        other.do(OpCode.CREATE, create(b"/deaf", b"x" * 1_000_000))
        memory = Memory(child.pid)
        asked = deaf.send_all_it_takes(
            b"".join(request(n, OpCode.GET_DATA, get_data(b"/deaf")) for n in range(500_000))
        )
        other.ping()
        print(f"{asked} bytes of unread big reads: {memory.peak_growth_bytes / MIB:.1f} MiB")
        assert memory.peak_growth_bytes < 24 * MIB
        # It is held off, not cut off: when it reads, it gets everything in order.
        for number in range(20):
            assert deaf.reply().xid == number


def test_client_that_never_reads_its_watch_events_is_cut_off(child: CorralServer) -> None:
    name = b"/" + b"w" * 500_000
    with Client(child.port) as other, deaf_client(child.port) as deaf:
        other.do(OpCode.CREATE, create(name))
        deaf.do(OpCode.ADD_WATCH, PathTypeRequest(name, AddWatchMode.PERSISTENT).to_bytes())
        memory = Memory(child.pid)
        logged = len(child.log.splitlines())
        for _ in range(400):
            other.do(OpCode.SET_DATA, set_data(name, b""))
        assert deaf.ended(5)
        print(f"400 unread events of 0.5 MB: {memory.peak_growth_bytes / MIB:.1f} MiB")
        assert memory.peak_growth_bytes < 200 * MIB
        said = child.log.splitlines()[logged:]
        assert len([line for line in said if "does not read what it is sent" in line]) == 1
        other.do(OpCode.DELETE, PathTypeRequest(name, -1).to_bytes())


def test_reads_behind_a_write_that_hangs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANG_SYNCS", str(tmp_path / "hang"))
    with (
        PatchedServer(tmp_path / "data", SYNC_HANGS) as server,
        Client(server.port) as other,
        Client(server.port) as greedy,
    ):
        other.do(OpCode.CREATE, create(b"/big", b"x" * 1_000_000))
        (tmp_path / "hang").touch()
        memory = Memory(server.pid)
        first = greedy.submit(OpCode.SET_DATA, set_data(b"/", b""))
        reads = b"".join(request(1000 + n, OpCode.GET_DATA, get_data(b"/big")) for n in range(200_000))
        greedy.send_all_it_takes(reads, 1.0)
        other.ping()
        (tmp_path / "hang").unlink()
        assert greedy.reply().xid == first
        for number in range(300):
            reply = greedy.reply()
            assert reply.xid == 1000 + number
            assert len(reply.body) > 1_000_000
        print(f"reads of 1 MB behind a write: {memory.peak_growth_bytes / MIB:.1f} MiB")
        assert memory.peak_growth_bytes < 48 * MIB


def test_one_request_cannot_ask_for_gigabytes(child: CorralServer) -> None:
    with Client(child.port) as greedy:
        greedy.do(OpCode.CREATE, create(b"/much", b"x" * 1_000_000))
        memory = Memory(child.pid)
        one = MultiHeader(OpCode.GET_DATA, False, -1).to_bytes() + get_data(b"/much")
        end = MultiHeader(-1, True, -1).to_bytes()
        assert greedy.ask(OpCode.MULTI_READ, one * 40_000 + end).error == ErrorCode.BAD_ARGUMENTS
        few = greedy.do(OpCode.MULTI_READ, one * 10 + end)
        assert len(few.body) > 10_000_000
        print(f"a multiRead of 40,000 MB: {memory.peak_growth_bytes / MIB:.1f} MiB")
        assert memory.peak_growth_bytes < 200 * MIB


@pytest.mark.parametrize("interleaved", [False, True])
def test_reads_of_what_a_write_before_them_makes_big_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, interleaved: bool
) -> None:
    monkeypatch.setenv("HANG_SYNCS", str(tmp_path / "hang"))
    with PatchedServer(tmp_path / "data", SYNC_HANGS) as server, Client(server.port) as greedy:
        greedy.do(OpCode.CREATE, create(b"/grows"))
        (tmp_path / "hang").touch()
        memory = Memory(server.pid)
        xids = [greedy.submit(OpCode.SET_DATA, set_data(b"/grows", b"x" * 1_000_000))]
        for number in range(150):
            xids.append(greedy.submit(OpCode.GET_DATA, get_data(b"/grows")))
            if interleaved:
                xids.append(greedy.submit(OpCode.SET_DATA, set_data(b"/", b"%d" % number)))
        time.sleep(0.3)
        (tmp_path / "hang").unlink()
        assert [greedy.reply().xid for _ in xids] == xids
        print(f"150 reads of a znode grown to 1 MB: {memory.peak_growth_bytes / MIB:.1f} MiB")
        assert memory.peak_growth_bytes < 48 * MIB


def test_writes_behind_reads_that_are_not_read_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path) as server, Client(server.port) as other, deaf_client(server.port) as deaf:
        other.do(OpCode.CREATE, create(b"/big", b"x" * 1_000_000))
        deaf.socket.settimeout(60)
        expected: list[int] = []
        for number in range(15):
            expected.append(deaf.submit(OpCode.SET_DATA, set_data(b"/", b"%d" % number)))
            expected += [deaf.submit(OpCode.GET_DATA, get_data(b"/big")) for _ in range(3)]
        time.sleep(0.5)
        other.ping()
        assert [deaf.reply().xid for _ in expected] == expected


@pytest.mark.parametrize(
    ("op", "body", "children"),
    [
        pytest.param(OpCode.GET_DATA, get_data(b"/fair"), 0, marks=pytest.mark.slow),
        pytest.param(OpCode.GET_CHILDREN, get_data(b"/fair"), 20_000, marks=pytest.mark.slow),
        pytest.param(OpCode.GET_ALL_CHILDREN_NUMBER, create(b"/")[:5], 20_000, marks=pytest.mark.slow),
        (OpCode.SET_DATA, set_data(b"/fair/n0", b"x" * 100), 1),
        (OpCode.PING, b"", 0),
    ],
    ids=["big reads", "long lists", "walks over the tree", "writes", "tiny frames"],
)
def test_flood_of_one_client_leaves_the_others_served(child: CorralServer, op: int, body: bytes, children: int) -> None:
    with Client(child.port) as other:
        present = (0, ErrorCode.NODE_EXISTS)
        assert other.ask(OpCode.CREATE, create(b"/fair", b"x" * 100_000)).error in present
        for start in range(0, children, 100):
            batch = range(start, min(start + 100, children))
            for number in batch:
                other.submit(OpCode.CREATE, create(b"/fair/n%d" % number))
            assert all(other.reply().error in present for _ in batch)
        memory = Memory(child.pid)
        stop = threading.Event()

        def flood() -> None:
            with Client(child.port) as greedy:
                burst = b"".join(request(n, op, body) for n in range(2000))
                reader = threading.Thread(target=swallow, args=(greedy.socket,))
                reader.start()
                with contextlib.suppress(OSError):
                    while not stop.is_set():
                        greedy.send_all_it_takes(burst, 0.2)
                with contextlib.suppress(OSError):
                    greedy.socket.shutdown(socket.SHUT_RDWR)
                reader.join()

        flooder = threading.Thread(target=flood)
        flooder.start()
        waits: list[float] = []
        try:
            end = time.monotonic() + 1
            while time.monotonic() < end or len(waits) < 20:
                started = time.monotonic()
                other.ping()
                other.do(OpCode.GET_DATA, get_data(b"/zookeeper"))
                waits.append(time.monotonic() - started)
        finally:
            stop.set()
            flooder.join()
        waits.sort()
        print(
            f"op {op}: {len(waits)} round trips of two, median {waits[len(waits) // 2] * 1000:.1f} ms,"
            f" worst {waits[-1] * 1000:.1f} ms, memory +{memory.peak_growth_bytes / MIB:.1f} MiB"
        )
        assert waits[len(waits) // 2] < 0.2
        assert waits[-1] < 5
        assert memory.peak_growth_bytes < 64 * MIB


def swallow(connection: socket.socket) -> None:
    connection.settimeout(None)
    with contextlib.suppress(OSError):
        while connection.recv(1 << 20):
            pass


# Requests in process


def test_global_outstanding_limit(tmp_path: Path) -> None:
    disk = HangingFileSystem()
    with (
        running(tmp_path, disk, limits=Limits(global_outstanding_limit=50)) as server,
        Client(server.port) as greedy,
        Client(server.port) as other,
    ):
        other.do(OpCode.CREATE, create(b"/a"))
        disk.answers.clear()
        for _ in range(300):
            greedy.submit(OpCode.SET_DATA, set_data(b"/a", b"x"))
        wait_until(lambda: int(monitored(server.port)["outstanding_requests"]) > 50, "the limit is reached")
        time.sleep(0.2)
        assert int(monitored(server.port)["outstanding_requests"]) == 51
        # Another connection is not held up: it has nothing in process.
        other.do(OpCode.GET_DATA, get_data(b"/a"))
        other.submit(OpCode.SET_DATA, set_data(b"/a", b"y"))
        wait_until(lambda: monitored(server.port)["outstanding_requests"] == "52", "one more is taken")
        disk.answers.set()
        assert [greedy.reply().error for _ in range(300)] == [0] * 300
        assert other.reply().error == 0


@pytest.fixture
def throttled(tmp_path: Path) -> Callable[..., contextlib.AbstractContextManager[tuple[Running, HangingFileSystem]]]:
    """A server that takes 10 writes at a time, and its disk."""

    @contextlib.contextmanager
    def start(
        overdue_ms: int = 0, *, stale_latency_check: bool = False, drop_stale: bool = True
    ) -> Iterator[tuple[Running, HangingFileSystem]]:
        disk = HangingFileSystem()
        throttle = RequestThrottle(max_requests=10, stale_latency_check=stale_latency_check, drop_stale=drop_stale)
        limits = Limits(throttled_op_wait_time_ms=overdue_ms)
        with running(tmp_path, disk, request_throttle=throttle, limits=limits, min_session_timeout_ms=400) as server:
            with Client(server.port) as client:
                client.do(OpCode.CREATE, create(b"/a"))
            yield server, disk
            disk.answers.set()

    return start


def test_request_throttle_stalls_and_goes_on_in_order(
    throttled: Callable[..., contextlib.AbstractContextManager[tuple[Running, HangingFileSystem]]],
) -> None:
    with throttled() as (server, disk), Client(server.port) as first, Client(server.port) as second:
        disk.answers.clear()
        xids = [first.submit(OpCode.SET_DATA, set_data(b"/a", b"x")) for _ in range(35)]
        assert disk.hangs.wait(10)
        wait_until(lambda: count(server, "request_throttle_wait_count"), "the first connection is stalled")
        other_xid = second.submit(OpCode.SET_DATA, set_data(b"/a", b"y"))
        assert monitored(server.port)["outstanding_requests"] == "10"
        disk.answers.set()
        assert [first.reply().xid for _ in range(35)] == xids
        assert second.reply().xid == other_xid
        assert int(monitored(server.port)["cnt_request_throttle_queue_time_ms"]) >= 36


def test_request_throttle_leaves_reads_alone(
    throttled: Callable[..., contextlib.AbstractContextManager[tuple[Running, HangingFileSystem]]],
) -> None:
    with throttled() as (server, disk), Client(server.port) as writer, Client(server.port) as reader:
        disk.answers.clear()
        for _ in range(20):
            writer.submit(OpCode.SET_DATA, set_data(b"/a", b"x"))
        assert disk.hangs.wait(10)
        for _ in range(50):
            reader.do(OpCode.GET_DATA, get_data(b"/a"))


def at_once(number: int) -> bytes:
    """Writes that the server reads in one piece: once it holds the connection up it reads no more of it."""
    return b"".join(request(100 + n, OpCode.SET_DATA, set_data(b"/a", b"x")) for n in range(number))


def test_overdue_requests_are_answered_throttled(
    throttled: Callable[..., contextlib.AbstractContextManager[tuple[Running, HangingFileSystem]]],
) -> None:
    with throttled(overdue_ms=100) as (server, disk), Client(server.port) as client:
        disk.answers.clear()
        client.send(at_once(15) + request(99, OpCode.GET_DATA, get_data(b"/a")))
        wait_until(lambda: count(server, "request_throttle_wait_count"), "the connection is stalled")
        time.sleep(0.2)
        disk.answers.set()
        errors = [client.reply().error for _ in range(16)]
        assert errors == [0] * 10 + [ErrorCode.THROTTLED_OP] * 6
        assert count(server, "throttled_ops") == 6
        # What comes now has not waited.
        client.do(OpCode.SET_DATA, set_data(b"/a", b"z"))


def test_stale_requests_are_dropped_with_their_connection(
    throttled: Callable[..., contextlib.AbstractContextManager[tuple[Running, HangingFileSystem]]],
) -> None:
    with throttled(stale_latency_check=True) as (server, disk), Client(server.port, timeout_ms=400) as client:
        disk.answers.clear()
        client.send(at_once(15))
        wait_until(lambda: count(server, "request_throttle_wait_count"), "the connection is stalled")
        time.sleep(0.6)
        disk.answers.set()
        assert client.ended()
        assert count(server, "stale_requests_dropped") == 1


def test_stale_requests_are_counted_and_served_if_not_to_be_dropped(
    throttled: Callable[..., contextlib.AbstractContextManager[tuple[Running, HangingFileSystem]]],
) -> None:
    with (
        throttled(stale_latency_check=True, drop_stale=False) as (server, disk),
        Client(server.port, timeout_ms=400) as client,
    ):
        disk.answers.clear()
        client.send(at_once(15))
        wait_until(lambda: count(server, "request_throttle_wait_count"), "the connection is stalled")
        time.sleep(0.6)
        disk.answers.set()
        assert [client.reply().error for _ in range(15)] == [0] * 15
        assert count(server, "stale_requests") == 5


def test_requests_of_a_closed_connection_are_dropped(
    throttled: Callable[..., contextlib.AbstractContextManager[tuple[Running, HangingFileSystem]]],
) -> None:
    with throttled() as (server, disk):
        with Client(server.port) as client:
            disk.answers.clear()
            for _ in range(15):
                client.submit(OpCode.SET_DATA, set_data(b"/a", b"x"))
            wait_until(lambda: count(server, "request_throttle_wait_count"), "the connection is stalled")
            session = client.session.session_id
        server.call(lambda each: abort_connection(each, session))
        wait_until(lambda: count(server, "stale_requests_dropped"), "they are dropped")
        disk.answers.set()
        wait_until(lambda: monitored(server.port)["outstanding_requests"] == "0", "the others are done")
        with Client(server.port) as client:
            assert int.from_bytes(client.do(OpCode.EXISTS, get_data(b"/a")).body[32:36], "big") == 10


def test_large_requests_are_limited_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = HangingFileSystem()
    limits = Limits(large_request_threshold=1000, large_request_max_bytes=50_000)
    with (
        running(tmp_path, disk, limits=limits) as server,
        Client(server.port) as small,
        Client(server.port) as large,
        Client(server.port) as too_large,
    ):
        small.do(OpCode.CREATE, create(b"/a"))
        disk.answers.clear()
        small.submit(OpCode.SET_DATA, set_data(b"/a", b"s"))
        assert disk.hangs.wait(10)
        for _ in range(2):
            large.submit(OpCode.SET_DATA, set_data(b"/a", b"x" * 20_000))
        wait_until(lambda: monitored(server.port)["outstanding_requests"] == "3", "they are in process")
        # It is refused as soon as its length is known.
        too_large.send(struct.pack(">i", 20_000))
        assert too_large.ended(5)
        small.submit(OpCode.SET_DATA, set_data(b"/a", b"s" * 900))
        assert count(server, "large_requests_rejected") == 1
        disk.answers.set()
        assert [small.reply().error for _ in range(2)] == [0, 0]
        assert [large.reply().error for _ in range(2)] == [0, 0]
        # There is room again.
        for _ in range(10):
            large.do(OpCode.SET_DATA, set_data(b"/a", b"x" * 20_000))
        assert len([text for text in warnings(caplog) if "large ones" in text]) == 1
