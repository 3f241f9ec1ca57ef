"""Commands from a console to all workers or some, with their answers.

Below the path of a group of workers:

* ``workers/NAME``: an ephemeral znode of each worker that lives,
* ``commands/MARK-NUMBER``: a command: a line of JSON with the names of its recipients, and the body,
* ``commands/MARK-NUMBER/NAME``: a worker's answer: a line of JSON with its state, and the result.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import uuid4

from corral.client import OPEN
from corral.client.errors import (
    ClientClosedError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RequestTooLargeError,
    SessionExpired,
)
from corral.client.states import State
from corral.recipes.endurance import Reconciler, create_once, endure
from corral.recipes.headed import join, split
from corral.recipes.membership import Members, Registration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from corral.client import Acl, Cache, Client

KEPT: Final = 100
"""Commands that a console leaves in the service unless it is told otherwise."""

log = logging.getLogger("corral.recipes")


class AnswerState(Enum):
    """How far a worker is with a command."""

    SENT = "sent"
    """The worker lives, and has not taken it yet."""
    RECEIVED = "received"
    """It has taken the command, and works on it."""
    DONE = "done"
    """The answer's result is what the handler returned."""
    FAILED = "failed"
    """The handler raised: the result is the message."""
    INTERRUPTED = "interrupted"
    """It took the command, and ended before it was done. It is not tried again: who knows how far it got."""
    ABSENT = "absent"
    """It is not there, and has not finished the command. It gets it if it comes back before the command is deleted."""


_FINAL: Final = (AnswerState.DONE, AnswerState.FAILED, AnswerState.INTERRUPTED)


class Answer(NamedTuple):
    """What a worker says to a command."""

    worker: str
    state: AnswerState
    result: bytes = b""


class Command(NamedTuple):
    """A command as a worker gets it."""

    path: str
    number: int
    """Grows from command to command."""
    recipients: tuple[str, ...]
    body: bytes


class Console:
    """Sends commands::

    async with Console(zk, "/billing") as console:
        sent = await console.send(b"flush")                     # to all that live
        sent = await console.send(b"flush", to=["worker-1"])    # to some
        answers = await sent.results()
    """

    def __init__(self, zk: Client, path: str, *, kept: int = KEPT, acl: Sequence[Acl] = OPEN) -> None:
        """Prepare it; nothing is sent yet.

        Args:
            path: of the group.
            kept: how many commands stay in the service, with their answers.
            acl: of the commands: workers create their answers below them.
        """
        zk.key(path)
        if kept < 1:
            raise ValueError(f"kept={kept}: at least the newest command is kept")
        self._zk = zk
        self.path = path.rstrip("/")
        self.workers = Members(zk, f"{self.path}/workers")
        """Who lives."""
        self._kept = kept
        self._acl = acl

    def __repr__(self) -> str:
        return f"<Console {self.path}: {len(self.workers)} workers>"

    async def start(self) -> Self:
        """Follow who lives; ``async with`` does so by itself."""
        await self.workers.start()
        return self

    async def close(self) -> None:
        """Follow it no more. Commands that have been sent stay."""
        await self.workers.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, body: bytes, *, to: Iterable[str] | None = None) -> SentCommand:
        """Send a command to all workers that live, or to those named.

        Lost connections and sessions are ridden out, and it is sent once. Cancelled, it may have been sent or not.
        The oldest commands beyond ``kept`` are deleted.

        Raises ValueError if there is nobody to send it to, RequestTooLargeError.
        """
        if isinstance(to, str | bytes):
            raise TypeError(f"to={to!r}: the names of the recipients are a list")
        if not isinstance(body, bytes):
            raise TypeError(f"a command is bytes, not {type(body).__name__}")
        recipients = tuple(sorted(set(to))) if to is not None else tuple(member.name for member in self.workers)
        if not recipients:
            raise ValueError(f"{self.path}: no recipients")
        data = join({"to": recipients}, body)
        path = await create_once(self._zk, _commands(self.path), data, self._acl)
        await self._delete_oldest()
        return SentCommand(self._zk, self.workers, path, recipients)

    async def _delete_oldest(self) -> None:
        names = await endure(self._zk, lambda: self._zk.get_children(_commands(self.path)))
        for name in sorted(names, key=_number)[: -self._kept]:
            try:
                await endure(self._zk, lambda name=name: self._zk.delete_tree(f"{_commands(self.path)}/{name}"))  # type: ignore[misc]
            except (NoNodeError, NotEmptyError):
                # Another console deletes it as well, or a worker has just answered: the next one will.
                continue


class SentCommand:
    """A command that has been sent, and its answers."""

    def __init__(self, zk: Client, workers: Members, path: str, recipients: tuple[str, ...]) -> None:
        self._zk = zk
        self._workers = workers
        self.path = path
        self.recipients = recipients

    def __repr__(self) -> str:
        return f"<SentCommand {self.path} to {', '.join(self.recipients)}>"

    async def acknowledged(self) -> dict[str, Answer]:
        """Wait until every recipient has received it, or is not there; returns all answers, by worker."""
        return await self._wait((AnswerState.RECEIVED, AnswerState.ABSENT, *_FINAL))

    async def results(self) -> dict[str, Answer]:
        """Wait until every recipient has finished it, or is not there; returns all answers, by worker.

        A worker that has just lost its session is not there until it has registered again, though it may still work on
        the command: :meth:`answers` tells later. Raises NoNodeError if the command has been deleted.
        """
        return await self._wait((AnswerState.ABSENT, *_FINAL))

    async def answers(self) -> dict[str, Answer]:
        """All answers as they are now, by worker."""
        return await self._wait(tuple(AnswerState))

    async def delete(self) -> None:
        """Delete the command and its answers: a worker that has not received it will not get it any more."""
        try:
            await endure(self._zk, lambda: self._zk.delete_tree(self.path))
        except NoNodeError:
            return

    async def _wait(self, states: Container[AnswerState]) -> dict[str, Answer]:
        changed = asyncio.Event()

        def note(_news: object) -> None:
            changed.set()

        self._workers.on_change(note)
        self._zk.on_state(note)
        cache = await endure(self._zk, lambda: self._zk.cache(self.path).start())
        cache.on_change(note)
        try:
            while True:
                changed.clear()
                if self._zk.state is State.CLOSED:
                    raise ClientClosedError("the client is closed")
                if self.path not in cache:
                    raise NoNodeError(f"{self.path} has been deleted")
                if self._are_in(cache, states):
                    # Whoever has gone may have answered just before, and that may still be under way.
                    await endure(self._zk, cache.sync)
                    if self._are_in(cache, states):
                        return {worker: self._answer(cache, worker) for worker in self.recipients}
                await changed.wait()
        finally:
            self._workers.off_change(note)
            self._zk.off_state(note)
            await cache.close()

    def _are_in(self, cache: Cache, states: Container[AnswerState]) -> bool:
        return all(self._answer(cache, worker).state in states for worker in self.recipients)

    def _answer(self, cache: Cache, worker: str) -> Answer:
        znode = cache.get(f"{self.path}/{worker}")
        if znode is not None:
            header, result = split(znode.data)
            state = AnswerState(header["state"]) if header is not None else AnswerState.FAILED
            if state in _FINAL:
                return Answer(worker, state, result)
        if worker not in self._workers:
            return Answer(worker, AnswerState.ABSENT)
        return Answer(worker, AnswerState.SENT if znode is None else AnswerState.RECEIVED)


class CommandReceiver:
    """A worker that obeys commands::

        async def obey(command):
            return b"flushed"

        async with CommandReceiver(zk, "/billing", "worker-1", obey):
            ...

    Commands are handled one after the other, in the order in which they were sent, also those that were sent to this
    worker while it was away, if they are still there. Each is handled at most once: it is marked as received before,
    and one that was received and not finished, by an earlier process of this name, is answered as INTERRUPTED.
    Answers are written over lost connections and lost sessions. What the handler raises is the answer FAILED.
    """

    def __init__(
        self,
        zk: Client,
        path: str,
        name: str,
        handler: Callable[[Command], Awaitable[bytes | None]],
        *,
        data: bytes = b"",
        acl: Sequence[Acl] = OPEN,
    ) -> None:
        """Prepare it; nothing is sent yet.

        Args:
            path: of the group; created if it is missing.
            name: this worker's alone; see :class:`~corral.recipes.membership.Registration`.
            handler: a coroutine function that does what a command says and returns the result.
            data: what is to be known of this worker, beside its name.
            acl: of this worker's znode and its answers: a console reads the answers, and deletes them with the command.
        """
        self._zk = zk
        self.path = path.rstrip("/")
        self.name = name
        self._handler = handler
        self._registration = Registration(zk, f"{self.path}/workers", name, data, acl=acl)
        self._acl = acl
        self._token = uuid4().hex
        self._seen: set[str] = set()
        self._reconciler = Reconciler(zk, self._look, f"commands to {self.path}/workers/{name}")

    def __repr__(self) -> str:
        return f"<CommandReceiver {self.name} of {self.path}>"

    async def start(self) -> Self:
        """Register, and begin to handle commands; ``async with`` does so by itself.

        Waits while another session has the name. Cancelled, it leaves nothing behind.
        """
        await self._registration.start()
        try:
            await self._reconciler.start(lambda: True)
        except BaseException:
            await self._registration.close()
            raise
        return self

    async def close(self) -> None:
        """Leave. A handler that is running is cancelled, and its command answered as INTERRUPTED."""
        try:
            await self._reconciler.close()
        finally:
            await self._registration.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Handling

    async def _look(self) -> None:
        top = _commands(self.path)
        try:
            names = await self._zk.get_children(top, watch=self._reconciler.wake)
        except NoNodeError:
            await self._zk.ensure(top, acl=self._acl)
            self._reconciler.wake()
            return
        self._seen.intersection_update(names)
        for name in sorted(set(names) - self._seen, key=_number):
            command = await self._read(f"{top}/{name}", _number(name))
            if command is not None and self.name in command.recipients and await self._receive(command.path):
                # Whatever comes of it, it is handled once.
                self._seen.add(name)
                await self._handle(command)
            self._seen.add(name)

    async def _read(self, path: str, number: int) -> Command | None:
        try:
            header, body = split((await self._zk.get(path)).data)
        except NoNodeError:
            return None
        recipients = header.get("to") if header is not None else None
        if not isinstance(recipients, list):
            log.error("%s is no command: it does not say to whom", path)
            return None
        return Command(path, number, tuple(recipients), body)

    async def _receive(self, path: str) -> bool:
        """Mark the command as received; false if it is not to be handled."""
        await self._registration.registered()
        answer = f"{path}/{self.name}"
        try:
            await self._zk.create(answer, self._encode(AnswerState.RECEIVED), acl=self._acl)
        except NoNodeError:
            return False
        except NodeExistsError:
            try:
                header, _ = split((await self._zk.get(answer)).data)
            except NoNodeError:
                return False
            if header is None:
                return False
            if header.get("by") == self._token:
                # The answer to an earlier attempt got lost.
                return True
            if header.get("state") == AnswerState.RECEIVED.value:
                await self._answer(path, AnswerState.INTERRUPTED)
            return False
        return True

    async def _handle(self, command: Command) -> None:
        state, result = AnswerState.DONE, b""
        try:
            returned = await self._handler(command)
            if returned is not None and not isinstance(returned, bytes):
                raise TypeError(f"the handler returned {type(returned).__name__}, not bytes")  # noqa: TRY301
            result = returned or b""
        except asyncio.CancelledError:
            try:
                await self._zk.persist(lambda: self._write(command.path, AnswerState.INTERRUPTED, b""))
            except (SessionExpired, ClientClosedError):
                log.warning("%s was interrupted, and could not say so", command.path)
            raise
        except Exception as error:
            log.exception("%s failed", command.path)
            state, result = AnswerState.FAILED, f"{type(error).__name__}: {error}".encode()
        await self._answer(command.path, state, result)

    async def _answer(self, path: str, state: AnswerState, result: bytes = b"") -> None:
        try:
            await endure(self._zk, lambda: self._write(path, state, result))
        except RequestTooLargeError as error:
            message = str(error).encode()
            await endure(self._zk, lambda: self._write(path, AnswerState.FAILED, message))

    async def _write(self, path: str, state: AnswerState, result: bytes) -> None:
        try:
            await self._zk.set(f"{path}/{self.name}", self._encode(state, result))
        except NoNodeError:
            log.info("%s has been deleted: nobody wants its result", path)

    def _encode(self, state: AnswerState, result: bytes = b"") -> bytes:
        return join({"state": state.value, "by": self._token}, result)


def _commands(path: str) -> str:
    return f"{path}/commands"


def _number(name: str) -> int:
    digits = name[-10:]
    return int(digits) if digits.isdigit() else -1
