"""kazoo's sessions: restarts of the server, broken connections, expiry, re-attachment, negotiation."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from kazoo.client import KazooState
from tests.interop.gate import Gate
from tests.interop.kazoo_clients import NO_SESSION, ClientFactory, Events, Session, open_session, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kazoo.client import KazooClient
    from tests.interop.peers import Server


@pytest.fixture
def gate(server: Server) -> Iterator[Gate]:
    """A door of its own to the shared server for the clients of one test."""
    with Gate(server.port) as made:
        yield made


@pytest.fixture
def gated(gate: Gate) -> Iterator[ClientFactory]:
    """Makes clients that come through the gate."""
    with ClientFactory(gate.address) as factory:
        yield factory
        gate.open()


class States:
    """The states that a client went through."""

    def __init__(self, client: KazooClient) -> None:
        self.seen: list[str] = []
        client.add_listener(self.seen.append)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_client_goes_on_after_a_restart(
    server: Server, gate: Gate, gated: ClientFactory, clients: ClientFactory, how: str
) -> None:
    client = gated(timeout=20.0)
    identity = client.client_id
    path = client.create(f"/restart-{how}", b"before")
    client.create(f"{path}/ephemeral", b"", ephemeral=True)
    states = States(client)
    data: list[bytes] = []
    children: list[list[str]] = []
    client.DataWatch(path, lambda value, stat: data.append(value))
    client.ChildrenWatch(path, lambda names: children.append(sorted(names)))
    gate.close()
    server.stop() if how == "stop" else server.kill()
    server.start()
    other = clients()
    other.set(path, b"after")
    other.create(f"{path}/new", b"")
    gate.open()
    wait_until(lambda: client.state == KazooState.CONNECTED, "the client is back")
    wait_until(lambda: data[-1] == b"after", "the change is seen")
    wait_until(lambda: children[-1] == ["ephemeral", "new"], "the new child is seen")
    assert client.client_id == identity
    assert client.exists(f"{path}/ephemeral").ephemeralOwner == identity[0]
    assert KazooState.LOST not in states.seen


def test_broken_connection_keeps_the_session(gate: Gate, gated: ClientFactory) -> None:
    client = gated(timeout=20.0)
    identity = client.client_id
    client.create("/broken", b"", ephemeral=True)
    states = States(client)
    gate.cut()
    wait_until(lambda: KazooState.CONNECTED in states.seen, "the client is back")
    assert states.seen == [KazooState.SUSPENDED, KazooState.CONNECTED]
    assert client.client_id == identity
    assert client.exists("/broken").ephemeralOwner == identity[0]


def test_expiry_ends_the_session(gate: Gate, gated: ClientFactory, client: KazooClient) -> None:
    dying = gated(timeout=3.0)
    identity = dying.client_id
    dying.create("/expiring", b"", ephemeral=True)
    states, events = States(dying), Events()
    client.exists("/expiring", watch=events)
    gate.close()
    assert events.wait_for(1) == [("DELETED", "/expiring")]
    gate.open()
    wait_until(lambda: KazooState.LOST in states.seen, "the client is told of the expiry")
    wait_until(lambda: dying.state == KazooState.CONNECTED, "the client has a new session")
    assert dying.client_id[0] != identity[0]
    assert dying.exists("/expiring") is None


def test_pings_keep_a_silent_session_alive(clients: ClientFactory, client: KazooClient) -> None:
    silent = clients(timeout=3.0)
    silent.create("/silent", b"", ephemeral=True)
    events = Events()
    client.exists("/silent", watch=events)
    threading.Event().wait(9.0)
    assert events.seen == []
    wait_until(lambda: silent.state == KazooState.CONNECTED, "the silent client is connected")


def test_lock_passes_on_when_its_holder_expires(gate: Gate, gated: ClientFactory, client: KazooClient) -> None:
    holder = gated(timeout=3.0)
    assert holder.Lock("/lock", "holder").acquire()
    waiting = client.Lock("/lock", "waiting")
    assert not waiting.acquire(blocking=False)
    gate.close()
    assert waiting.acquire(timeout=15)
    waiting.release()


def test_reattachment_by_id_and_password(server: Server, clients: ClientFactory) -> None:
    session = open_session(server.address, 20_000)
    assert session.id != 0
    assert session.timeout_ms == 20_000
    assert open_session(server.address, 20_000, session) == session
    client = clients(client_id=session.client_id, timeout=20.0)
    assert client.client_id == session.client_id
    client.create("/reattached", b"", ephemeral=True)
    assert client.exists("/reattached").ephemeralOwner == session.id


def test_wrong_password_is_refused(server: Server) -> None:
    session = open_session(server.address, 20_000)
    forged = Session(session.id, bytes(16), session.timeout_ms)
    assert open_session(server.address, 20_000, forged) == NO_SESSION


def test_unknown_session_is_refused(server: Server) -> None:
    session = open_session(server.address, 20_000)
    unknown = Session(session.id + 1_000_000, session.password, session.timeout_ms)
    assert open_session(server.address, 20_000, unknown) == NO_SESSION


def test_expired_session_is_refused(server: Server) -> None:
    session = open_session(server.address, 500)
    wait_until(lambda: f"{session.id:x}" not in server.four_letter_word("dump"), "the session has expired")
    assert open_session(server.address, 500, session) == NO_SESSION


def test_a_second_connection_takes_the_session_over(clients: ClientFactory, server: Server) -> None:
    first = clients(timeout=20.0)
    states = States(first)
    session = Session(first.client_id[0], first.client_id[1], 20_000)
    assert open_session(server.address, 20_000, session) == session
    wait_until(lambda: states.seen == [KazooState.SUSPENDED, KazooState.CONNECTED], "the first was cut and came back")


@pytest.mark.parametrize(("asked_ms", "given_ms"), [(1, 500), (500, 500), (12_345, 12_345), (10_000_000, 60_000)])
def test_timeout_is_negotiated(server: Server, asked_ms: int, given_ms: int) -> None:
    assert open_session(server.address, asked_ms).timeout_ms == given_ms
