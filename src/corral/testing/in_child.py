"""A server in a child process, which runs it by a :class:`~corral.testing.in_thread.ThreadBackend` of its own.

Parent and child share a pair of sockets. Each request is the pickled name of one of that backend's methods and its
arguments, each answer whether that went well and its result, or the error. When the parent's end closes, however the
parent ended, the child stops its server and exits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple

import corral
from corral.testing.errors import ServerError, StartError
from corral.testing.in_thread import ANSWER_LIMIT_S, ThreadBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from io import BufferedRWPair

    from corral.server.config import ServerConfig

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PATIENCE_S: Final = 2 * ANSWER_LIMIT_S
"""The child gives up on its server earlier, and says why."""


class ChildBackend:
    """Runs one child process at a time; the methods are those of ThreadBackend."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket
        self._channel: BufferedRWPair
        self._paused = False

    def start(self, config: ServerConfig) -> None:
        """Return once clients can connect. Raises StartError."""
        if not sys.executable:
            raise StartError("there is no Python to run a child process with: sys.executable is empty")
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "corral.testing.child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(),
                # Ctrl-C at the terminal is for the test run, which then stops its servers. And where the parent ends
                # while the child is paused, the system ends a stopped group that nobody is left to wake up.
                process_group=0,
            )
        self.pid = self._process.pid
        self._socket.settimeout(PATIENCE_S)
        self._channel = self._socket.makefile("rwb")
        try:
            self._ask("start", config)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Stop cleanly: what clients asked so far is done and answered."""
        if self._paused:
            self.resume()
        try:
            self._ask("stop")
        finally:
            self._finish()

    def kill(self) -> None:
        """End the process by SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._finish()

    def pause(self) -> None:
        """Stop the process by SIGSTOP; connections stay, and the system goes on accepting new ones."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self._process.returncode = os.waitstatus_to_exitcode(status)
            raise self._ended()
        self._paused = True

    def resume(self) -> None:
        """Let the process go on."""
        assert self._process is not None
        self._paused = False
        self._process.send_signal(signal.SIGCONT)

    def call(self, control: Callable[[Any, *Ts], Coroutine[None, None, T]], *args: *Ts) -> T:
        """Run one of :mod:`corral.testing.control` (of a member: ``ensemble_control``) in the child."""
        answer: T = self._ask("call", control, *args)
        return answer

    def _ask(self, method: str, *args: object) -> Any:
        try:
            pickle.dump((method, args), self._channel)
            self._channel.flush()
            went_well, result = pickle.load(self._channel)
        except TimeoutError:
            raise ServerError(f"the server's process {self.pid} did not answer within {PATIENCE_S:.0f} s") from None
        except (EOFError, ConnectionError):
            raise self._ended() from None
        if not went_well:
            raise result
        return result

    def _ended(self) -> ServerError:
        assert self._process is not None
        try:
            status = self._process.wait(ANSWER_LIMIT_S)
        except subprocess.TimeoutExpired:
            return ServerError(f"the server's process {self.pid} is not to be talked to")
        return ServerError(f"the server's process {self.pid} ended by itself with status {status}")

    def _finish(self) -> None:
        """Close our end, upon which the child exits, and wait for that."""
        assert self._process is not None
        # What was asked last may never have been sent, if the child is dead.
        with contextlib.suppress(ConnectionError):
            self._channel.close()
        self._socket.close()
        self._paused = False
        try:
            self._process.wait(ANSWER_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self.pid = None


def _environment() -> dict[str, str]:
    """This process's environment, in which the child also finds the package that we are."""
    root = str(Path(corral.__file__).resolve().parent.parent)
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return os.environ | {"PYTHONPATH": os.pathsep.join([*paths, root])}


def serve_parent(descriptor: int) -> None:
    """The child's life: do what the parent asks for until it closes its end."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    backend = ThreadBackend()
    with socket.socket(fileno=descriptor) as ours, ours.makefile("rwb") as channel:
        while True:
            try:
                method, args = pickle.load(channel)
            except (EOFError, ConnectionError):
                break
            try:
                answer = (True, getattr(backend, method)(*args))
            except ServerError as error:
                answer = (False, error)
            pickle.dump(answer, channel)
            channel.flush()
    backend.stop()
