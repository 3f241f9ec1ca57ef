"""The handle by which a test holds a real Corral server; see :class:`Server`."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from corral.testing import control
from corral.testing.errors import ServerError
from corral.testing.handling import aside, close_unless_forked
from corral.testing.in_child import ChildBackend
from corral.testing.in_thread import ThreadBackend
from corral.testing.ports import hold_free_port
from corral.testing.settings import build_config

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from corral.server.config import ServerConfig
    from corral.testing.control import ConnectionInfo, SessionInfo
    from corral.testing.settings import Setting

_EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""What stands for all addresses of the machine, and one of them."""


class State(enum.Enum):
    """Where a :class:`Server` is in its life."""

    NEW = "not started yet"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    KILLED = "killed"
    CLOSED = "closed"


_DOWN: Final = (State.NEW, State.STOPPED, State.KILLED)


class Address(str):
    """``host:port``, as clients want it. ``server`` is the server that listens there."""

    __slots__ = ("server",)

    server: Server

    def __new__(cls, server: Server) -> Self:
        host = f"[{server.host}]" if ":" in server.host else server.host
        address = super().__new__(cls, f"{host}:{server.port}")
        address.server = server
        return address

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """Copied and pickled as a plain string: the server stays where it is."""
        return str, (str(self),)


class Server:
    """A real server for tests, on a free port of this machine and with its data in a temporary directory::

        with Server() as server:                  # or: async with Server() as server:
            client = KazooClient(server.address)

    It runs in this process, on a thread and an event loop of its own, or with ``in_process=False`` in a child process.
    Both behave alike. Leaving the context stops it and removes its temporary directory; without a context,
    :meth:`start` and :meth:`close` do the same. It keeps its port through :meth:`stop`, :meth:`kill` and
    :meth:`start`.

    Methods return when what they say has happened. They block for a few milliseconds (start and stop of a child
    process: some hundred); in a coroutine use ``await asyncio.to_thread(server.restart)`` where that matters. A server
    is to be used by one thread at a time.
    """

    def __init__(
        self,
        *,
        in_process: bool = True,
        data_dir: str | os.PathLike[str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        properties: Mapping[str, str] | None = None,
        **settings: Setting,
    ) -> None:
        """Prepare a server; nothing runs yet.

        Args:
            in_process: whether it runs in this process rather than in a child.
            data_dir: the directory for its data, which is made if need be and is left behind; None is a temporary one.
            host: the address to listen on.
            port: the port; 0 takes a free one, which is held from now on until :meth:`close`.
            properties: settings as in ``zoo.cfg``; what is unknown there is warned of in the log.
            settings: settings by their names in ``zoo.cfg`` or in :class:`~corral.server.config.ServerConfig` and its
                groups, as ``tickTime=2000`` or ``tick_time_ms=2000``. They win over ``properties``, and both over
                :data:`~corral.testing.settings.TEST_DEFAULTS`.

        Raises:
            ConfigError: a setting is unknown or its value is refused.
            StartError: there is no such address.
        """
        self._state = State.NEW
        self._in_process = in_process
        self._is_temporary = data_dir is None
        self._resources = contextlib.ExitStack()
        with contextlib.ExitStack() as resources:
            if data_dir is None:
                self._data_dir = Path(tempfile.mkdtemp(prefix="corral-"))
                resources.callback(shutil.rmtree, self._data_dir, ignore_errors=True)
            else:
                self._data_dir = Path(data_dir).absolute()
            if port == 0:
                port = resources.enter_context(hold_free_port(host))
            self._config: ServerConfig = build_config(self._data_dir, host, port, properties or {}, settings)
            self._backend = ThreadBackend() if in_process else ChildBackend()
            resources.callback(self._backend.kill)
            self._resources = resources.pop_all()
        self._owner_pid = os.getpid()
        # Also for one that nobody closes: when it is collected, or the interpreter ends.
        self._finalizer = weakref.finalize(self, close_unless_forked, self._owner_pid, self._resources)

    def __repr__(self) -> str:
        where = (
            "in this process" if self._in_process else f"in process {self.pid}" if self.pid else "in a child process"
        )
        return f"<corral.testing.Server {self.address} {self._state.value} {where}, data in {self._data_dir}>"

    @property
    def state(self) -> State:
        """Where it is in its life, by what it was told to do."""
        return self._state

    @property
    def host(self) -> str:
        """The address at which clients on this machine reach it."""
        host = self._config.client_port_address or "0.0.0.0"
        return _EVERY_ADDRESS.get(host, host)

    @property
    def port(self) -> int:
        """The port, known before the start and the same after each restart."""
        return self._config.client_port

    @property
    def address(self) -> Address:
        """``host:port``."""
        return Address(self)

    @property
    def data_dir(self) -> Path:
        """Where its data is."""
        return self._data_dir

    @property
    def config(self) -> ServerConfig:
        """All settings, defaults included."""
        return self._config

    @property
    def pid(self) -> int | None:
        """The process it runs in; None while there is none."""
        return self._backend.pid

    # Life

    def start(self) -> Self:
        """Start, on what data there is; returns once clients can connect.

        Raises:
            StartError: the port is in use, the data cannot be read, ...
            ServerError: it runs already, or is closed.
        """
        self._expect(*_DOWN, to="start")
        self._backend.start(self._config)
        self._state = State.RUNNING
        return self

    def stop(self) -> None:
        """Stop cleanly; sessions and data stay for the next :meth:`start`. One that is down stays so."""
        if self._state in (*_DOWN, State.CLOSED):
            return
        self._state = State.STOPPED
        self._backend.stop()

    def kill(self) -> None:
        """End as a crash does: nothing that is under way is finished or answered.

        A child process gets SIGKILL. In this process all connections are cut, and what waits for the disk is dropped.
        """
        self._expect(State.RUNNING, State.PAUSED, to="kill")
        self._state = State.KILLED
        self._backend.kill()

    def restart(self) -> None:
        """Stop, if it is up, and start again: the same port, data and sessions."""
        self._expect(*State, to="restart")
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop, and remove the temporary directory. That is the end; closing again does nothing.

        Nor does it in a process that was forked from the one that made the server.
        """
        if self._state is State.CLOSED or os.getpid() != self._owner_pid:
            return
        try:
            self.stop()
        finally:
            self._state = State.CLOSED
            self._finalizer.detach()
            self._resources.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        try:
            await aside(self.start)
        except asyncio.CancelledError:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await aside(self.close)

    # Trouble

    def pause(self) -> None:
        """Answer nobody any more, until :meth:`resume`; connections stay, and new ones are accepted by the system.

        Time goes on: sessions whose timeout passes meanwhile may end as soon as the server goes on.
        """
        self._expect(State.RUNNING, to="pause")
        self._backend.pause()
        self._state = State.PAUSED

    def resume(self) -> None:
        """Go on after :meth:`pause`, with what clients have sent meanwhile."""
        self._expect(State.PAUSED, to="resume")
        self._backend.resume()
        self._state = State.RUNNING

    def drop_connections(self) -> int:
        """Reset all connections, and return how many; sessions live on and clients may come back at once."""
        self._expect(State.RUNNING, to="drop the connections of")
        return self._backend.call(control.drop_connections)

    def expire_session(self, session_id: int) -> None:
        """End a session as if its client had not been heard of in time (kazoo: ``client.client_id[0]``).

        Its ephemerals are gone when this returns. Raises SessionNotFoundError if there is no such session.
        """
        self._expect(State.RUNNING, to="expire a session of")
        self._backend.call(control.expire_session, session_id)

    def clear(self) -> None:
        """End all sessions, reset all connections and delete all znodes (``/zookeeper`` stays).

        zxids and the counters of ``/`` go on. Only for data in a temporary directory.
        """
        if not self._is_temporary:
            raise ServerError(f"{self!r} is not cleared: its data is not in a temporary directory")
        self._expect(State.RUNNING, to="clear")
        self._backend.call(control.clear)

    # Looking inside

    def sessions(self) -> list[SessionInfo]:
        """The live sessions."""
        self._expect(State.RUNNING, to="list the sessions of")
        return self._backend.call(control.sessions)

    def connections(self) -> list[ConnectionInfo]:
        """The open connections, the oldest first."""
        self._expect(State.RUNNING, to="list the connections of")
        return self._backend.call(control.connections)

    def tree(self) -> dict[str, bytes | None]:
        """The data of all znodes by their paths, sorted; without ``/`` and what every server has in ``/zookeeper``."""
        self._expect(State.RUNNING, to="read the tree of")
        return self._backend.call(control.tree)

    def _expect(self, *states: State, to: str) -> None:
        if self._state is State.CLOSED or self._state not in states:
            hints = {State.PAUSED: "; resume() it first", State.CLOSED: "; make a new one"}
            hint = hints.get(self._state, "; start() it first" if self._state in _DOWN else "")
            raise ServerError(f"cannot {to} {self!r}: it is {self._state.value}{hint}")
