"""A task that one worker at a time carries out, with its progress in the service.

A task is a znode ``TASK`` with the definition as its data, and below it:

* ``instances``: an ephemeral sequential znode of each worker; the one with the smallest number runs the task,
* ``lastCommit``: how far the task has been carried out, by whoever did it,
* ``finished``: there once the task has come to its end.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from corral.client.errors import ConnectionLoss, NodeExistsError, NoNodeError, SessionExpired, TransactionError
from corral.recipes.lock import QueueContender
from corral.recipes.ownership import OwnershipLostError
from corral.recipes.queue_of_claims import CURATOR

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import TypeAlias

    from corral.client import Acl, Client, Transaction, Znode
    from corral.recipes.ownership import Held

    Work: TypeAlias = "Callable[[Execution], Awaitable[object]]"

COMMIT_INTERVAL_S: Final = 1.0

log = logging.getLogger("corral.recipes")


def instances_path(task: str) -> str:
    """Where the workers' instances are."""
    return f"{task}/instances"


def finished_path(task: str) -> str:
    """What is there once the task has come to its end."""
    return f"{task}/finished"


def contender(zk: Client, task: str, identifier: str | None, acl: Sequence[Acl]) -> QueueContender:
    """A worker that wants to run ``task``."""
    return QueueContender(zk, instances_path(task), identifier, acl, name=CURATOR.lock, shared=False)


class Execution:
    """One worker's run of a task; given to the work.

    What it stores is stored in transactions that check the worker's instance: once another worker may run the task,
    nothing of this one's arrives any more.
    """

    def __init__(self, zk: Client, task: str, held: Held, acl: Sequence[Acl]) -> None:
        self._zk = zk
        self._acl = acl
        self.path = task
        self.held = held
        """The ownership of the task: ``held.token`` is the fencing number for whatever else the work writes to."""
        self.definition = b""
        """The data of the task's znode when this run began."""
        self.last_commit: bytes | None = None
        """What was stored last, by this run or one before; None if nothing ever was."""
        self._progress = b""
        self._revision = 0
        self._stored = 0
        self._exists = False
        self._is_finished = False
        self._storing = asyncio.Lock()
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Execution of {self.path} token={self.held.token:#x}>"

    @property
    def name(self) -> str:
        """The task's name."""
        return self.path.rpartition("/")[2]

    def report(self, progress: bytes) -> None:
        """Let ``progress`` be stored when the timer comes round; what was reported before it is then passed over."""
        if not isinstance(progress, bytes):
            raise TypeError(f"progress is bytes, not {type(progress).__name__}")
        self._progress = progress
        self._revision += 1
        self._changed.set()

    async def commit(self, progress: bytes | None = None) -> None:
        """Store ``progress``, or what has been reported, now.

        Returns when a successor would find it. Rides out lost connections. Cancelled, it may have been stored or not.

        Raises OwnershipLostError if the task is this worker's no more: nothing has been stored then.
        """
        if progress is not None:
            self.report(progress)
        await self._store(finish=False)

    # Storing

    async def load(self) -> None:
        """Read what a run begins with. Raises NoNodeError if the task has been deleted."""
        try:
            # The server may not have heard yet of the last commit of the worker before.
            await self._zk.persist(lambda: self._zk.sync(self.path))
            self.definition = (await self._zk.persist(lambda: self._zk.get(self.path))).data
            stored = await self._zk.persist(self._read)
        except SessionExpired as error:
            raise OwnershipLostError(f"{self.held.path} ended with its session") from error
        if stored is not None:
            self._exists = True
            self.last_commit = stored.data

    async def _read(self) -> Znode | None:
        try:
            return await self._zk.get(self._commit_path)
        except NoNodeError:
            return None

    @property
    def _commit_path(self) -> str:
        return f"{self.path}/lastCommit"

    async def keep(self, interval: float) -> None:
        """Store what is reported, at most once per ``interval`` seconds, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._store(finish=False)
            await asyncio.sleep(interval)

    async def flush(self) -> None:
        """Store the rest, if the task is still this worker's."""
        if self.held.is_held:
            try:
                await self._store(finish=False)
            except OwnershipLostError:
                log.info("%s: the last progress could not be stored: the task has been lost", self.path)

    async def finish(self) -> None:
        """Store the rest, and that the task has come to its end. Raises OwnershipLostError."""
        await self._store(finish=True)

    async def _store(self, *, finish: bool) -> None:
        # One at a time: what is older must not arrive later.
        async with self._storing:
            while self._stored < self._revision or (finish and not self._is_finished):
                self.held.check()
                revision, progress = self._revision, self._progress
                transaction = self._zk.transaction()
                transaction.check(self.held.path)
                if self._stored < revision:
                    self._add_progress(transaction, progress)
                if finish and not self._is_finished:
                    transaction.create(finished_path(self.path), acl=self._acl)
                if await self._commit(transaction):
                    self._stored = revision
                    self._is_finished = self._is_finished or finish
                    self.last_commit = progress if revision else self.last_commit

    def _add_progress(self, transaction: Transaction, progress: bytes) -> None:
        if self._exists:
            transaction.set(self._commit_path, progress)
        else:
            transaction.create(self._commit_path, progress, acl=self._acl)

    async def _commit(self, transaction: Transaction) -> bool:
        """Whether it has been done; if not, it is to be tried again, perhaps otherwise."""
        try:
            await transaction.commit()
        except TransactionError as error:
            cause = error.__cause__
            if error.index == 0 and isinstance(cause, NoNodeError):
                # Before the client knows: let it look.
                self.held.look()
                raise OwnershipLostError(f"{self.held.path} is lost: {self.path} is another worker's") from error
            if error.index == 1 and isinstance(cause, NodeExistsError | NoNodeError) and self._stored < self._revision:
                self._exists = isinstance(cause, NodeExistsError)
                return False
            if isinstance(cause, NodeExistsError):
                # Finished by this run: the answer was lost.
                self._is_finished = True
                return False
            raise
        except ConnectionLoss:
            return False
        except SessionExpired as error:
            raise OwnershipLostError(f"{self.held.path} ended with its session") from error
        return True


async def carry_out(zk: Client, task: str, held: Held, work: Work, interval: float, acl: Sequence[Acl]) -> None:
    """Run ``work`` to its end, store its progress meanwhile, and mark the task as finished.

    Raises OwnershipLostError if the task is lost before, and what ``work`` raises. ``work`` is over in any case; what
    it has reported is stored if that is still possible.
    """
    execution = Execution(zk, task, held, acl)
    async with held.cancelling():
        await execution.load()
        worker = asyncio.create_task(_run(work, execution), name=f"work on {task}")
        timer = asyncio.create_task(execution.keep(interval), name=f"progress of {task}")
        try:
            await asyncio.wait({worker, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (timer, worker):
                each.cancel()
            await asyncio.wait({timer, worker})
            # Of both: what nobody asks for would be complained of.
            failures = [each.exception() for each in (timer, worker) if not each.cancelled()]
            await execution.flush()
        for failure in failures:
            if failure is not None:
                raise failure
        worker.result()
        await execution.finish()


async def _run(work: Work, execution: Execution) -> None:
    await work(execution)
