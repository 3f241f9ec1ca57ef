"""kazoo clients for the tests, and the operations that kazoo itself does not know."""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from kazoo.client import KazooClient
from kazoo.protocol.serialization import Connect, int_struct, read_string, write_buffer, write_string
from kazoo.retry import KazooRetry

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from kazoo.protocol.states import WatchedEvent

WAIT_LIMIT_S: Final = 20.0
"""Longer than anything here takes on a busy machine: reaching it is a failure."""

POLL_INTERVAL_S: Final = 0.02


def wait_until(condition: Callable[[], object], what: str, limit_s: float = WAIT_LIMIT_S) -> None:
    """Polls until the condition holds; fails naming `what` after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit_s} s in vain: {what}"
        time.sleep(POLL_INTERVAL_S)


class ClientFactory:
    """Makes kazoo clients of one server and closes them all at the end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._made: list[KazooClient] = []

    def __call__(self, *, start: bool = True, chroot: str = "", **options: Any) -> KazooClient:
        options.setdefault("timeout", 10.0)
        retry = {"max_tries": -1, "delay": 0.05, "backoff": 1, "max_delay": 0.2}
        options.setdefault("connection_retry", KazooRetry(**retry))
        client = KazooClient(self.address + chroot, **options)
        self._made.append(client)
        if start:
            client.start(WAIT_LIMIT_S)
        return client

    def close(self) -> None:
        """Ends all clients made so far, and their sessions if the server can be reached."""
        for client in self._made:
            client.stop()
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class CreateExtended:
    """A request of `KazooClient._call` for the two node kinds that kazoo cannot make: container and TTL znodes."""

    path: str
    data: bytes | None
    ttl_ms: int | None = None

    @property
    def type(self) -> int:
        return 19 if self.ttl_ms is None else 21

    def serialize(self) -> bytes:
        acl = b"".join((struct.pack("!ii", 1, 31), write_string("world"), write_string("anyone")))
        body: bytes = write_string(self.path) + write_buffer(self.data) + acl
        return body + (struct.pack("!i", 4) if self.ttl_ms is None else struct.pack("!iq", 5, self.ttl_ms))

    @staticmethod
    def deserialize(payload: bytes, offset: int) -> str:
        path: str = read_string(payload, offset)[0]
        return path


def create_container(client: KazooClient, path: str, data: bytes | None = b"") -> None:
    """Creates a container znode."""
    _call(client, CreateExtended(path, data))


def create_with_ttl(client: KazooClient, path: str, ttl_ms: int, data: bytes | None = b"") -> None:
    """Creates a TTL znode."""
    _call(client, CreateExtended(path, data, ttl_ms))


def _call(client: KazooClient, request: CreateExtended) -> None:
    result = client.handler.async_result()
    client._call(request, result)
    result.get(timeout=WAIT_LIMIT_S)


@dataclass(frozen=True)
class Session:
    """What a server answered to a connect request; `id` 0 and `timeout_ms` 0 when it refused."""

    id: int
    password: bytes
    timeout_ms: int

    @property
    def client_id(self) -> tuple[int, bytes]:
        """As kazoo wants it."""
        return self.id, self.password


NO_SESSION: Final = Session(0, bytes(16), 0)


def open_session(address: str, timeout_ms: int, session: Session = NO_SESSION) -> Session:
    """Opens or re-attaches to a session and at once drops the connection, as a client that crashed."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_LIMIT_S) as connection:
        request = bytes(Connect(0, 0, timeout_ms, session.id, session.password, False).serialize())
        connection.sendall(int_struct.pack(len(request)) + request)
        with connection.makefile("rb") as replies:
            (length,) = int_struct.unpack(replies.read(4))
            reply, _ = Connect.deserialize(replies.read(length), 0)
    return Session(reply.session_id, reply.passwd, reply.time_out)


class Events:
    """A watch function that keeps what it was called with."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._seen: list[tuple[str, str]] = []

    def __call__(self, event: WatchedEvent) -> None:
        with self._changed:
            self._seen.append((event.type, event.path))
            self._changed.notify_all()

    @property
    def seen(self) -> list[tuple[str, str]]:
        """Type and path of every event so far, in order."""
        with self._changed:
            return list(self._seen)

    def wait_for(self, count: int) -> list[tuple[str, str]]:
        """The events so far, once there are `count`."""
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self._seen) >= count, WAIT_LIMIT_S)
            assert enough, f"{count} events expected, seen {self._seen}"
            return list(self._seen)
