"""What a server takes from the machine it runs on: clocks, disk, chance, threads, and ports to listen at."""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING

from corral.server.clock import Clock
from corral.server.workers import ThreadWorker, Worker
from corral.storage.filesystem import REAL, FileSystem

if TYPE_CHECKING:
    import asyncio


class Machine:
    """The real one, unless parts are given. A simulator stands in another as a whole."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        filesystem: FileSystem = REAL,
        chance: random.Random | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.filesystem = filesystem
        self.chance = chance or random.Random()

    def worker(self, name: str, loop: asyncio.AbstractEventLoop) -> Worker:
        """Someone who does what blocks, beside the loop."""
        return ThreadWorker(name, loop)

    def bind(self, host: str | None, port: int, backlog: int) -> socket.socket:
        """A socket that listens at an address, from which nothing is taken yet. None is any address. Raises OSError."""
        if host is None:
            family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
            address: str = "::" if family == socket.AF_INET6 else "0.0.0.0"
        else:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, address = found[0][0], str(found[0][4][0])
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host is not None else 0)
            listening.bind((address, port))
            # Two servers may bind one address with SO_REUSEADDR as long as neither listens.
            listening.listen(backlog)
        except BaseException:
            listening.close()
            raise
        return listening
