"""corral.testing.Server, in this process and in a child, as kazoo's clients and the system see it."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import ConnectionLoss, NoNodeError
from kazoo.security import make_digest_acl
from tests.interop.kazoo_clients import ClientFactory, Events, open_session, wait_until

from corral.testing import Server, ServerError, SessionNotFoundError, StartError, State
from corral.testing.in_thread import new_event_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

in_either_place = pytest.mark.parametrize("in_process", [True, False], ids=["thread", "child"])


@pytest.fixture(scope="module")
def child() -> Iterator[Server]:
    with Server(in_process=False) as running:
        yield running


@pytest.fixture(params=["thread", "child"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A running, empty server; the child process is one for all tests."""
    if request.param == "thread":
        with Server() as running:
            yield running
        return
    shared: Server = request.getfixturevalue("child")
    if shared.state is not State.RUNNING:
        shared.restart()
    shared.clear()
    yield shared


@pytest.fixture
def connect(server: Server) -> Iterator[ClientFactory]:
    with ClientFactory(server.address) as factory:
        yield factory


class States:
    """The states a client has been told, in order."""

    def __init__(self, client: KazooClient) -> None:
        self.seen: list[str] = []
        client.add_listener(self.seen.append)

    def wait_for(self, *expected: str) -> None:
        """Wait for the first states, and fail as soon as there are others."""
        wait_until(lambda: len(self.seen) >= len(expected), f"for states {expected}")
        assert tuple(self.seen[: len(expected)]) == expected


def refuses(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) != 0


def run_script(source: str, *arguments: str) -> str:
    """The output of a Python program that must end well, with warnings as errors and nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", source, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # asyncio's debug mode tells of every callback that a busy machine held up.
    said = [line for line in done.stderr.splitlines() if not re.match(r"Executing <.* took [\d.]+ seconds$", line)]
    assert (done.returncode, said) == (0, [])
    return done.stdout


def has_ended(pid: int) -> bool:
    """Whether there is no such process any more, or only what its parent has to collect."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("ascii")
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


# Life


def test_manual_s_example_works() -> None:
    manual = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
    example = manual.read_text("utf-8").split("```python\n")[1].split("```")[0]
    assert "expire_session" in example
    # kazoo warns in its log of what the example is about: that it was disconnected.
    run_script(f"import logging\nlogging.disable()\n{example}")


def test_serves_clients_and_shows_its_state(server: Server, connect: ClientFactory) -> None:
    client = connect()
    client.create("/app/config", b"v1", makepath=True)
    client.create("/app/worker", b"", ephemeral=True)
    session_id = client.client_id[0]
    assert server.tree() == {"/app": b"", "/app/config": b"v1", "/app/worker": b""}
    (session,) = server.sessions()
    assert (session.id, session.timeout_ms, session.connected) == (session_id, 10_000, True)
    assert session.ephemerals == ("/app/worker",)
    assert str(session) == hex(session_id)
    (connection,) = server.connections()
    assert (connection.host, connection.session_id) == ("127.0.0.1", session_id)
    assert connection.port != server.port
    client.stop()
    wait_until(lambda: not server.connections(), "the client's connection is closed")
    assert server.sessions() == []


def test_every_administrative_word_is_answered(server: Server) -> None:
    with socket.create_connection((server.host, server.port), timeout=10) as admin:
        admin.sendall(b"ruok")
        assert admin.recv(100) == b"imok"


def test_address_is_a_string_with_controls(server: Server) -> None:
    address = server.address
    assert address == f"127.0.0.1:{server.port}"
    assert isinstance(address, str)
    assert address.server is server
    assert type(copy.deepcopy(address)) is str
    assert pickle.loads(pickle.dumps(address)) == address


@in_either_place
def test_leaves_nothing_behind(in_process: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # uvloop's library makes a pipe with the first event loop of a process, and keeps it.
    new_event_loop().close()
    gc.collect()
    threads = threading.enumerate()
    descriptors = {each.name for each in Path("/proc/self/fd").iterdir()}
    for ending in (Server.stop, Server.kill, Server.pause, Server.restart, Server.drop_connections):
        with Server(in_process=in_process) as server, socket.create_connection((server.host, server.port)):
            open_session(server.address, 60_000)
            pid = server.pid
            ending(server)
            assert (server.pid is None) == (not in_process and server.state in (State.STOPPED, State.KILLED))
        assert refuses(server.address)
        assert in_process or (pid is not None and not Path(f"/proc/{pid}").exists())
    assert list(tmp_path.iterdir()) == []
    assert threading.enumerate() == threads
    gc.collect()
    assert {each.name for each in Path("/proc/self/fd").iterdir()} == descriptors


def test_leaves_the_process_as_it_is() -> None:
    def settings() -> list[object]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
        root = logging.getLogger()
        policy: object = asyncio.get_event_loop_policy()
        return [
            *handlers,
            gc.get_threshold(),
            gc.get_freeze_count(),
            gc.isenabled(),
            root.level,
            *root.handlers,
            policy,
        ]

    before = settings()
    with Server():
        assert settings() == before
        # The signals wake up nobody's loop.
        wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wakeup)
        assert wakeup == -1
    assert settings() == before


def test_is_ready_within_100_ms_in_this_process() -> None:
    durations = []
    for _ in range(5):
        started = time.perf_counter()
        with Server():
            durations.append(time.perf_counter() - started)
    assert min(durations) < 0.1


def test_runs_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with Server() as server, ClientFactory(server.address) as connect:
        client = connect()
        states = States(client)
        client.create("/node", b"")
        with socket.create_connection((server.host, server.port)):
            wait_until(lambda: len(server.connections()) == 2, "both connections are seen")
            assert server.drop_connections() == 2
        states.wait_for(KazooState.SUSPENDED, KazooState.CONNECTED)
        server.pause()
        read = client.get_async("/node")
        server.resume()
        assert read.get(timeout=10)[0] == b""
    gc.collect()


def test_restart_keeps_port_data_and_sessions(server: Server, connect: ClientFactory) -> None:
    client = connect()
    states = States(client)
    client.create("/stays", b"data")
    client.create("/owned", b"", ephemeral=True)
    session, port = client.client_id, server.port
    server.restart()
    states.wait_for(KazooState.SUSPENDED, KazooState.CONNECTED)
    assert client.get("/stays")[0] == b"data"
    assert client.exists("/owned").owner_session_id == session[0]
    assert (client.client_id, server.port) == (session, port)


def test_stops_and_starts_again(server: Server, connect: ClientFactory) -> None:
    connect().create("/stays", b"")
    server.stop()
    server.stop()
    assert (server.state, refuses(server.address)) == (State.STOPPED, True)
    server.start()
    assert (server.state, server.tree()) == (State.RUNNING, {"/stays": b""})


def test_port_is_held_while_the_server_is_down(server: Server) -> None:
    server.stop()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((server.host, server.port))


def test_killed_server_has_what_it_acknowledged(server: Server, connect: ClientFactory) -> None:
    client = connect()
    states = States(client)
    for number in range(100):
        client.create(f"/{number}", b"")
    server.kill()
    states.wait_for(KazooState.SUSPENDED)
    assert server.state is State.KILLED
    server.restart()
    states.wait_for(KazooState.SUSPENDED, KazooState.CONNECTED)
    assert server.tree() == dict.fromkeys(sorted(f"/{number}" for number in range(100)), b"")


def test_killed_while_paused_serves_nothing_of_what_waited(server: Server, connect: ClientFactory) -> None:
    client = connect()
    server.pause()
    waiting = client.create_async("/late", b"")
    server.kill()
    with pytest.raises(ConnectionLoss):
        waiting.get(timeout=10)
    server.start()
    assert server.tree() == {}


def test_given_directory_is_kept(tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "data"
    with Server(data_dir=data_dir) as server, ClientFactory(server.address) as connect:
        connect().create("/stays", b"")
        with pytest.raises(ServerError, match="not in a temporary directory"):
            server.clear()
    assert server.data_dir == data_dir
    with Server(data_dir=str(data_dir), in_process=False) as other:
        assert other.tree() == {"/stays": b""}


@in_either_place
def test_one_server_to_a_directory(in_process: bool, server: Server) -> None:
    other = Server(in_process=in_process, data_dir=server.data_dir)
    with pytest.raises(StartError, match=rf"{server.data_dir}.*in use by another server \(process {server.pid}\)"):
        other.start()
    other.close()


@in_either_place
def test_port_in_use_is_told(in_process: bool, server: Server) -> None:
    with pytest.raises(StartError, match=rf"port {server.port} of 127\.0\.0\.1: Address already in use"):
        Server(in_process=in_process, port=server.port).start()


def test_unknown_address_is_told() -> None:
    with pytest.raises(StartError, match=r"cannot listen on '192\.0\.2\.1'"):
        Server(host="192.0.2.1")
    with pytest.raises(StartError, match=r"no address 'no such host' to listen on"):
        Server(host="no such host")


def test_is_reached_where_it_listens_everywhere() -> None:
    with Server(host="0.0.0.0") as server:
        assert server.address == f"127.0.0.1:{server.port}"
        assert not refuses(server.address)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_listens_on_ipv6() -> None:
    with Server(host="::1") as server:
        assert server.address == f"[::1]:{server.port}"
        socket.create_connection((server.host, server.port), timeout=10).close()


@in_either_place
def test_wrong_order_is_told(in_process: bool) -> None:
    server = Server(in_process=in_process)

    def refused(method: Callable[[], object], message: str) -> None:
        with pytest.raises(ServerError, match=message) as caught:
            method()
        assert repr(server) in str(caught.value)

    refused(server.tree, r"cannot read the tree of .*: it is not started yet; start\(\) it first")
    refused(server.kill, r"cannot kill .*: it is not started yet; start\(\) it first")
    server.stop()
    server.start()
    refused(server.start, r"cannot start .*: it is running$")
    refused(server.resume, r"cannot resume .*: it is running$")
    server.pause()
    refused(server.pause, r"cannot pause .*: it is paused; resume\(\) it first")
    refused(server.tree, r"cannot read the tree of .*: it is paused; resume\(\) it first")
    server.kill()
    refused(server.kill, r"cannot kill .*: it is killed; start\(\) it first")
    refused(server.sessions, r"cannot list the sessions of .*: it is killed; start\(\) it first")
    server.close()
    server.close()
    for method in (server.start, server.restart):
        refused(method, r"cannot (re)?start .*: it is closed; make a new one")


def test_repr_tells_where_it_is() -> None:
    server = Server(in_process=False)
    place = f"{server.address} not started yet in a child process, data in {server.data_dir}"
    assert repr(server) == f"<corral.testing.Server {place}>"
    with server:
        place = f"{server.address} running in process {server.pid}, data in {server.data_dir}"
        assert repr(server) == f"<corral.testing.Server {place}>"
    with Server() as server:
        assert "running in this process" in repr(server)


# Trouble


def test_expired_session_is_lost(server: Server, connect: ClientFactory) -> None:
    client, other = connect(), connect()
    states = States(client)
    client.create("/owned", b"", ephemeral=True)
    seen = Events()
    other.exists("/owned", watch=seen)
    session_id = client.client_id[0]
    server.expire_session(session_id)
    assert server.tree() == {}
    assert session_id not in [session.id for session in server.sessions()]
    states.wait_for(KazooState.SUSPENDED, KazooState.LOST, KazooState.CONNECTED)
    assert client.client_id[0] != session_id
    assert seen.wait_for(1) == [("DELETED", "/owned")]
    assert other.connected


def test_session_without_connection_expires_too(server: Server) -> None:
    session = open_session(server.address, 60_000)
    wait_until(lambda: not any(each.connected for each in server.sessions()), "the connection is closed")
    server.expire_session(session.id)
    assert server.sessions() == []
    assert open_session(server.address, 60_000, session).id == 0


def test_unknown_session_is_told(server: Server) -> None:
    session = open_session(server.address, 60_000)
    with pytest.raises(SessionNotFoundError, match=f"no session 0x12ab; there are: {session.id:#x}"):
        server.expire_session(0x12AB)


def test_sessions_may_be_short(server: Server) -> None:
    session = open_session(server.address, 1)
    assert session.timeout_ms == 100
    wait_until(lambda: not server.sessions(), "the session has expired", limit_s=5)


def test_dropped_connections_come_back_with_their_watches(server: Server, connect: ClientFactory) -> None:
    client, other = connect(), connect()
    client.create("/watched", b"old")
    seen: list[bytes] = []
    client.DataWatch("/watched", lambda data, _: seen.append(data))
    states, others_states = States(client), States(other)
    session = client.client_id
    assert server.drop_connections() == 2
    states.wait_for(KazooState.SUSPENDED, KazooState.CONNECTED)
    others_states.wait_for(KazooState.SUSPENDED, KazooState.CONNECTED)
    assert client.client_id == session
    other.set("/watched", b"new")
    wait_until(lambda: seen[-1] == b"new", "the watch told of the change")


def test_dropped_connection_is_reset(server: Server) -> None:
    with socket.create_connection((server.host, server.port), timeout=10) as client:
        wait_until(server.connections, "the connection is seen")
        assert server.drop_connections() == 1
        assert server.connections() == []
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_paused_server_answers_when_it_goes_on(server: Server, connect: ClientFactory) -> None:
    client = connect()
    client.create("/node", b"data")
    states = States(client)
    server.pause()
    read, written = client.get_async("/node"), client.set_async("/node", b"new")
    with pytest.raises(client.handler.timeout_exception):
        read.get(timeout=0.3)
    # The system still takes connections for it.
    assert not refuses(server.address)
    assert not written.ready()
    server.resume()
    assert read.get(timeout=10)[0] == b"data"
    assert written.get(timeout=10).version == 1
    assert states.seen == []


def test_time_goes_on_while_the_server_is_paused(server: Server) -> None:
    open_session(server.address, 2000)
    server.pause()
    time.sleep(2.2)
    server.resume()
    wait_until(lambda: not server.sessions(), "the session has expired", limit_s=1.5)


def test_cleared_server_is_empty(server: Server, connect: ClientFactory) -> None:
    client, other = connect(), connect()
    client.add_auth("digest", "user:secret")
    client.create("/locked", b"", acl=[make_digest_acl("user", "secret", read=True)])
    client.create("/a/b/c", b"", makepath=True)
    client.create("/a/b/owned", b"", ephemeral=True)
    client.create("/zookeeper/quota/a/zookeeper_limits", b"count=100,bytes=-1", makepath=True)
    open_session(server.address, 60_000)
    states = States(other)
    server.clear()
    assert server.tree() == {}
    states.wait_for(KazooState.SUSPENDED, KazooState.LOST, KazooState.CONNECTED)
    with pytest.raises(NoNodeError):
        other.get("/a")
    server.restart()
    assert server.tree() == {}


def test_failed_server_says_why() -> None:
    with Server() as server:
        client = KazooClient(server.address, connection_retry={"max_tries": 0})
        shutil.rmtree(server.data_dir / "version-2")
        with pytest.raises(client.handler.timeout_exception):
            client.start(timeout=1)
        client.stop()
        client.close()
        with pytest.raises(ServerError, match=r"the server stopped by itself: .*version-2.*No such file or directory"):
            server.tree()


def test_child_that_ends_by_itself_is_told() -> None:
    with Server(in_process=False) as server:
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ServerError, match=f"process {pid} ended by itself with status -9"):
            server.tree()
        server.kill()
        server.start()
        assert server.tree() == {}


# The end of those that are forgotten


_STARTS_CHILD = """
import os, signal, sys
from corral.testing import Server
server = Server(in_process=False).start()
if "paused" in sys.argv:
    server.pause()
print(server.pid, server.data_dir, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("condition", ["running", "paused"])
def test_child_ends_with_its_parent(condition: str) -> None:
    # In a session of its own, as below a terminal: who adopts the child is not in it.
    done = subprocess.run(
        [sys.executable, "-c", _STARTS_CHILD, condition],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == -signal.SIGKILL
    pid, data_dir = done.stdout.split()
    try:
        wait_until(lambda: has_ended(int(pid)), "the child has ended")
    finally:
        if not has_ended(int(pid)):
            os.kill(int(pid), signal.SIGKILL)
        shutil.rmtree(data_dir)


@pytest.mark.parametrize("place", ["True", "False"], ids=["thread", "child"])
def test_interpreter_ends_with_a_forgotten_server(place: str) -> None:
    source = f"from corral.testing import Server; s = Server(in_process={place}).start(); print(s.pid, s.data_dir)"
    pid, data_dir = run_script(source).split()
    assert not Path(data_dir).exists()
    assert has_ended(int(pid))


@in_either_place
def test_collected_server_ends(in_process: bool) -> None:
    server = Server(in_process=in_process).start()
    address, data_dir = str(server.address), server.data_dir
    del server
    gc.collect()
    assert refuses(address)
    assert not data_dir.exists()


async def collect_garbage(_: object) -> None:
    gc.collect()


def test_collected_server_ends_on_its_own_thread() -> None:
    server = Server().start()
    backend, address, data_dir = server._backend, str(server.address), server.data_dir
    cycle: list[object] = [server]
    cycle.append(cycle)
    gc.disable()
    try:
        del server, cycle
        backend.call(collect_garbage)
    finally:
        gc.enable()
    wait_until(lambda: refuses(address), "the server has ended")
    assert not data_dir.exists()


def test_forked_process_does_not_end_the_server() -> None:
    source = """
import os, sys, warnings
from corral.testing import Server
with Server() as server:
    warnings.simplefilter("ignore", DeprecationWarning)
    pid = os.fork()
    if pid == 0:
        del server
        sys.exit()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    print(server.data_dir.exists(), server.tree())
"""
    assert "True {}" in run_script(source).splitlines()


# asyncio


@in_either_place
def test_asynchronous_context(in_process: bool) -> None:
    async def main() -> None:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0.001)

        beating = asyncio.create_task(beat())
        async with Server(in_process=in_process) as server:
            assert server.tree() == {}
        assert server.state is State.CLOSED
        # Neither did the loop stand still, nor was its pool of threads needed.
        assert beats > 1
        assert getattr(asyncio.get_running_loop(), "_default_executor") is None  # noqa: B009
        beating.cancel()

    threads = threading.enumerate()
    asyncio.run(main())
    assert threading.enumerate() == threads


@in_either_place
def test_cancelled_start_leaves_nothing(in_process: bool) -> None:
    async def main() -> None:
        server = Server(in_process=in_process)

        async def use() -> None:
            async with server:
                raise AssertionError("never reached")

        task = asyncio.create_task(use())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (server.state, server.data_dir.exists()) == (State.CLOSED, False)
        assert refuses(server.address)

    threads = threading.enumerate()
    asyncio.run(main())
    assert threading.enumerate() == threads


async def _fails() -> None:
    async with Server():
        raise KeyError("a test's own error")


def test_errors_pass_through_the_contexts() -> None:
    with pytest.raises(KeyError, match="own error"):
        asyncio.run(_fails())


@in_either_place
def test_settings_reach_the_server(in_process: bool) -> None:
    with Server(in_process=in_process, properties={"maxSessionTimeout": "5000"}, min_session_timeout_ms=4000) as server:
        assert open_session(server.address, 60_000).timeout_ms == 5000
        assert open_session(server.address, 100).timeout_ms == 4000
