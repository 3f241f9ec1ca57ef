"""A server, or a member of an ensemble, on a thread of this process, with an event loop of its own.

Nothing of the process is touched: no signal handler, no setting of the garbage collector, no logging configuration,
no event loop or event loop policy of anybody else.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple

from corral.server.standalone import Server
from corral.storage.errors import StorageError
from corral.testing.errors import ServerError, StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from corral.quorum.peer import Peer
    from corral.server.config import ServerConfig

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

ANSWER_LIMIT_S: Final = 30.0
"""Longer than the server takes for anything a test can ask for."""
CLOSE_LIMIT_S: Final = 0.5
"""How long a client may take to read the last replies before its connection is cut."""
_POLL_INTERVAL_S: Final = 0.001


class ThreadBackend:
    """Runs one server at a time. The caller minds the order: start, then anything else, then stop or kill."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._server: Server | Peer
        self._end: Future[bool] = Future()
        self._released: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._paused = False
        self._failure: BaseException | None = None

    def start(self, config: ServerConfig) -> None:
        """Return once clients can connect. Raises StartError."""
        self._end = Future()
        self._failure = None
        started: Future[None] = Future()
        # A daemon, so that a test run that forgets to stop its server still comes to an end.
        self._thread = threading.Thread(target=self._run, args=(config, started), name="corral-server", daemon=True)
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self._finish(as_crash=True)
            raise

    def stop(self) -> None:
        """Stop cleanly: what clients asked so far is done and answered."""
        if self._paused:
            self.resume()
        self._finish(as_crash=False)

    def kill(self) -> None:
        """End as if killed: connections are closed, nothing is finished."""
        if self._paused:
            # Before the loop gets round to what clients have sent meanwhile.
            self._release(self._server.crash)
        self._finish(as_crash=True)

    def pause(self) -> None:
        """Block the loop; connections stay, and the system goes on accepting new ones."""
        blocked = threading.Event()

        def block() -> None:
            blocked.set()
            self._released.get()()

        self._paused = True
        self._loop.call_soon_threadsafe(block)
        if not blocked.wait(ANSWER_LIMIT_S):
            raise ServerError(f"the server did not pause within {ANSWER_LIMIT_S:.0f} s")

    def resume(self) -> None:
        """Let the loop go on."""
        self._release(lambda: None)

    def call(self, control: Callable[[Any, *Ts], Coroutine[None, None, T]], *args: *Ts) -> T:
        """Run one of :mod:`corral.testing.control` (of a member: ``ensemble_control``) on the server's loop."""
        if self._server.failed is not None:
            raise ServerError(f"the server stopped by itself: {self._server.failed}")
        answer = asyncio.run_coroutine_threadsafe(control(self._server, *args), self._loop)
        try:
            return answer.result(ANSWER_LIMIT_S)
        except TimeoutError:
            answer.cancel()
            raise ServerError(f"the server did not do that within {ANSWER_LIMIT_S:.0f} s") from None

    def _release(self, action: Callable[[], None]) -> None:
        self._paused = False
        self._released.put(action)

    def _finish(self, *, as_crash: bool) -> None:
        thread = self._thread
        if thread is None:
            return
        if not self._end.done():
            self._end.set_result(as_crash)
        if thread is threading.current_thread():
            # The collector found a forgotten server, and ran on that server's own thread, which ends by itself now.
            return
        thread.join(ANSWER_LIMIT_S)
        if thread.is_alive():
            raise ServerError(f"the server did not end within {ANSWER_LIMIT_S:.0f} s")
        self._thread = None
        if self._failure is not None:
            raise self._failure

    def _run(self, config: ServerConfig, started: Future[None]) -> None:
        """What the thread does."""
        try:
            loop = new_event_loop()
            try:
                loop.run_until_complete(self._serve(config, started))
            finally:
                loop.close()
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            else:
                self._failure = error

    async def _serve(self, config: ServerConfig, started: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server = _make(config)
        try:
            await server.start()
        except (OSError, StorageError) as error:
            raise StartError(f"the server cannot start: {_explain(error, config)}") from error
        started.set_result(None)
        if await asyncio.wrap_future(self._end):
            server.crash()
            await server.stopped.wait()
        else:
            await server.stop()
        await self._close_connections(server)

    async def _close_connections(self, server: Server | Peer) -> None:
        """Wait until all sockets are closed; connections that were being accepted are among them."""
        loop = asyncio.get_running_loop()
        cut_at = loop.time() + CLOSE_LIMIT_S
        this_task = {asyncio.current_task()}
        while server.connections or asyncio.all_tasks() - this_task:
            is_late = loop.time() > cut_at
            for connection in list(server.connections):
                if is_late or not connection.closed:
                    connection.abort()
            await asyncio.sleep(_POLL_INTERVAL_S)


def _make(config: ServerConfig) -> Server | Peer:
    if not config.is_member:
        return Server(config)
    # Imported here: a single server is ready sooner without.
    from corral.quorum.daemon import make_peer

    return make_peer(config)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where there is one, asyncio's own otherwise; whatever policy the process has set."""
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop()
    return uvloop.new_event_loop()


def _explain(error: OSError | StorageError, config: ServerConfig) -> str:
    if isinstance(error, StorageError):
        return str(error)
    return f"cannot listen on port {config.client_port} of {config.client_port_address}: {error.strerror or error}"
