"""Ports for servers of tests."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import TYPE_CHECKING

from corral.testing.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def hold_free_port(host: str) -> Iterator[int]:
    """A port that is free and stays so while the server is down.

    Linux lets a server listen on a port that another socket is merely bound to, and gives such a port neither to
    others that want any port nor to a client as its own end: one that tries to reconnect would reach itself.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        holder = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise StartError(f"no address {host!r} to listen on: {error.strerror or error}") from error
    with holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(place)
        except OSError as error:
            raise StartError(f"cannot listen on {host!r}: {error.strerror or error}") from error
        port: int = holder.getsockname()[1]
        if sys.platform != "linux":
            holder.close()
        yield port
