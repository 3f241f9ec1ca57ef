"""A member that is elected and cannot listen leaves the lead to others, and lives on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.test_quorum_peers import client, members


def test_port_of_the_leader_is_taken(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path) as them:
            address = them.ensemble.members[3].addresses[0]
            with socket.socket() as squatter:
                # Connections of an earlier test may still be remembered there.
                squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                squatter.bind((address.host, address.quorum_port))
                squatter.listen()
                # By its id it is the one to be elected, again and again; so it must be there first.
                await them.start(3, 1, 2)
                await asyncio.sleep(0.3)
                assert them.peers[3].failed is None
                assert them.peers[3].server is None
            async with client(them.hosts()) as zk:
                await zk.create("/now")

    asyncio.run(main())


@contextlib.contextmanager
def silent_port(host: str, port: int) -> Iterator[None]:
    """Who connects there gets no answer, as from behind a cut link: the queue of connections is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((host, port))
        yield


def test_port_of_the_leader_is_silent(tmp_path: Path) -> None:
    """The others look for another one after a second, not after all the time that coming into step may take."""

    async def main() -> None:
        async with members(tmp_path, tickTime="1000") as them:
            address = them.ensemble.members[3].addresses[0]
            with silent_port(address.host, address.quorum_port):
                await them.start(1, 2, 3)
                async with client(them.hosts()) as zk:
                    await zk.create("/now")

    asyncio.run(main())
