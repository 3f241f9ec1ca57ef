"""A door between clients and a server: connections pass, can all be cut at once, and can be kept out for a while.

Restarting a server behind a closed gate also keeps clients away while it loads: Apache's server never answers a
connection that arrives at that moment, and the client would wait for its whole session timeout.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Gate:
    """Forwards connections from a loopback port of its own to the server's port."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open = True
        self._connections: set[socket.socket] = set()
        self._acceptor = threading.Thread(target=self._accept, name="gate", daemon=True)

    @property
    def address(self) -> str:
        """``host:port`` for any client."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Breaks every connection; new ones are let in."""
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Breaks every connection and turns new ones away until `open`."""
        with self._lock:
            self._open = False
        self.cut()

    def open(self) -> None:
        """Lets connections in again."""
        with self._lock:
            self._open = True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._connect(client):
                client.close()

    def _connect(self, client: socket.socket) -> bool:
        """Joins a new client to the server; tells whether it was let in."""
        with self._lock:
            if not self._open:
                return False
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                return False
            self._connections |= {client, server}
        for source, target in ((client, server), (server, client)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._carry, args=(source, target), name="gate", daemon=True).start()
        return True

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
        with self._lock:
            self._connections.discard(source)
        # The partner's thread may still be reading from its own source: each thread closes only that.
        source.close()

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
