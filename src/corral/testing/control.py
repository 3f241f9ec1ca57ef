"""What a test may do to a running server, and ask it.

Each function is a coroutine that runs on the event loop of the server, its first argument. Arguments and results can
be pickled, so that the server may be in another process.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from corral.jute.ops import OpCode
from corral.jute.paths import RESERVED
from corral.testing.errors import ServerError, SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.server.standalone import Server

_POLL_INTERVAL_S: Final = 0.001
_MASK_64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session as the server sees it."""

    id: int
    """Signed, as on the wire and in kazoo's ``client_id``."""
    timeout_ms: int
    """As negotiated."""
    connected: bool
    """Whether a connection holds it now."""
    ephemerals: tuple[str, ...]
    """The paths of its ephemeral znodes, sorted."""

    def __str__(self) -> str:
        return hex(self.id & _MASK_64)


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """A client's connection to the server."""

    host: str
    port: int
    """The client's end."""
    session_id: int | None
    """None before there is a session."""


async def sessions(server: Server) -> list[SessionInfo]:
    """The live sessions, in the order of their ids."""
    found = []
    local = {each.id: each.timeout_ms for each in server.tracker.sessions.values() if each.local is not None}
    for session_id, timeout_ms in sorted((server.tree.sessions | local).items()):
        tracked = server.tracker.sessions.get(session_id)
        held = tracked is not None and tracked.connection is not None and not tracked.connection.closed
        paths = tuple(sorted(path.decode() for path in server.tree.ephemerals.get(session_id, ())))
        found.append(SessionInfo(session_id, timeout_ms, held, paths))
    return found


async def connections(server: Server) -> list[ConnectionInfo]:
    """The open connections, the oldest first."""
    return [
        ConnectionInfo(*each.peer, each.session.id if each.session else None)
        for each in server.connections
        if not each.closed
    ]


async def tree(server: Server) -> dict[str, bytes | None]:
    """Paths and data of all znodes but ``/`` and those that every server has under ``/zookeeper``, sorted."""
    nodes = server.tree.nodes
    return {path.decode(): nodes[path].data for path in sorted(nodes) if path not in RESERVED}


async def expire_session(server: Server, session_id: int) -> None:
    """End a session as if it had not been heard of in time; its ephemerals are gone when this returns."""
    if session_id not in server.tracker.sessions:
        known = ", ".join(str(each) for each in await sessions(server)) or "none"
        raise SessionNotFoundError(f"there is no session {session_id & _MASK_64:#x}; there are: {known}")
    server.expire(session_id)
    await _until(server, lambda: session_id not in server.tracker.sessions)


async def drop_connections(server: Server) -> int:
    """Reset all connections; returns how many. Sessions live on."""
    open_connections = [each for each in server.connections if not each.closed]
    for each in open_connections:
        each.reset()
    return len(open_connections)


async def clear(server: Server) -> None:
    """End all sessions and delete all znodes, by transactions: no client is confused by zxids that go back."""
    ended = list(server.tracker.sessions)
    for session_id in ended:
        server.expire(session_id)
    await _until(server, lambda: not any(each in server.tracker.sessions for each in ended))
    await drop_connections(server)
    for path in sorted(server.tree.nodes, reverse=True):
        if path not in RESERVED:
            # The deletion that the server itself makes, for which neither session nor permission is needed.
            server.pipeline.submit(None, 0, 0, OpCode.DELETE_CONTAINER, path, ())
    await _until(server, lambda: not server.pipeline.busy)


async def _until(server: Server, condition: Callable[[], bool]) -> None:
    while not condition():
        if server.failed is not None:
            raise ServerError(f"the server stopped by itself: {server.failed}")
        await asyncio.sleep(_POLL_INTERVAL_S)
