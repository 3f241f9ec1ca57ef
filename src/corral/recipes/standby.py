"""Hot standby: several workers are ready for a task, one runs it, and the next goes on where it was."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from corral.client import OPEN
from corral.client.errors import NodeExistsError
from corral.recipes.endurance import endure
from corral.recipes.execution import COMMIT_INTERVAL_S, carry_out, contender, finished_path
from corral.recipes.listeners import Listeners
from corral.recipes.ownership import OwnershipLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.client import Acl, Client
    from corral.recipes.execution import Work


class InstanceState(Enum):
    """What a worker is to a task."""

    RUNNING = "running"
    """It has the smallest number: it runs the task, or will as soon as it learns of it."""
    STANDBY = "standby"
    """It waits for the one before it to end."""


class Instance(NamedTuple):
    """A worker of a task."""

    identifier: str
    state: InstanceState


async def register_task(zk: Client, task: str, definition: bytes = b"", *, acl: Sequence[Acl] = OPEN) -> bool:
    """Create a task unless it exists; returns whether it was this call that did, as far as is known.

    Rides out lost connections and sessions. An existing task keeps its definition.
    """
    is_repeated = False

    async def create() -> bool:
        nonlocal is_repeated
        try:
            first, is_repeated = not is_repeated, True
            await zk.create(task, definition, acl=acl, parents=True)
        except NodeExistsError:
            return not first
        return True

    return await endure(zk, create)


async def instances(zk: Client, task: str) -> list[Instance]:
    """The workers of a task: the one that runs it first, then those on standby in the order of their turns.

    Raises ConnectionLoss, SessionExpired, NoAuthError.
    """
    identifiers = await contender(zk, task, None, OPEN).contenders()
    return [
        Instance(each, InstanceState.STANDBY if position else InstanceState.RUNNING)
        for position, each in enumerate(identifiers)
    ]


class HotStandby:
    """A worker that is ready for a task from the beginning::

        async def replicate(execution):
            position = execution.last_commit or b"start"
            async for event in source.read_from(position):
                ...
                execution.report(event.position)

        await HotStandby(zk, "/tasks/orders", replicate).run()

    Of all the workers of a task the one with the smallest number is RUNNING, the others are on STANDBY, each watching
    the one before it. When the running one ends, the next begins with what is stored in ``last_commit``.

    Progress that the work reports is stored every ``commit_interval`` seconds, and before the worker leaves if there
    is still a session; ``await execution.commit(...)`` stores it at once. What happened after the last commit is
    done again by the successor.

    When the session is lost, or somebody deletes the instance, the work is cancelled and the worker registers again,
    with a new number. While the connection is away the work goes on as long as the session may live, by the clock of
    the client, which ends it before the service does; a process that stood still for longer may run some steps beside
    its successor, but its progress is refused: it is stored in transactions that check the instance.
    """

    def __init__(
        self,
        zk: Client,
        task: str,
        work: Work,
        *,
        identifier: str | None = None,
        definition: bytes = b"",
        commit_interval: float = COMMIT_INTERVAL_S,
        acl: Sequence[Acl] = OPEN,
    ) -> None:
        """Prepare it; nothing is sent yet.

        Args:
            task: the path of the task's znode.
            work: what is to be done, a coroutine function that gets an :class:`~corral.recipes.execution.Execution`.
                When it returns, the task is finished, for all workers and for ever (until ``finished`` is deleted).
            identifier: this worker, for others to see; the default is ``host:pid``.
            definition: data of the task's znode, if it is this worker that registers the task.
            commit_interval: seconds between two stores of progress.
            acl: of all that is created.
        """
        zk.key(task)
        if not commit_interval > 0:
            raise ValueError(f"commit_interval={commit_interval!r} is not positive")
        self._zk = zk
        self.task = task
        self._work = work
        self._definition = definition
        self._interval = commit_interval
        self._acl = acl
        self._contender = contender(zk, task, identifier, acl)
        self._state: InstanceState | None = None
        self._listeners: Listeners[InstanceState | None] = Listeners(self)

    def __repr__(self) -> str:
        return f"<HotStandby {self.task} {self.identifier} {self._state.value if self._state else 'not registered'}>"

    @property
    def identifier(self) -> str:
        """This worker, as others see it."""
        return self._contender.identifier

    @property
    def state(self) -> InstanceState | None:
        """What it is to the task; None before and after :meth:`run`."""
        return self._state

    def on_state(self, callback: Callable[[InstanceState | None], object]) -> None:
        """Call ``callback`` with each state as it is entered."""
        self._listeners.add(callback)

    def off_state(self, callback: Callable[[InstanceState | None], object]) -> None:
        """Do so no more."""
        self._listeners.remove(callback)

    async def run(self) -> None:
        """Be ready for the task, and run it, until it is finished, by this worker or another.

        Raises what the work raises: the worker then leaves the task to the others. Cancelled, it cancels the work,
        stores its last progress and leaves; without a connection that lasts until there is one or the session has
        ended. Raises ClientClosedError when the client is closed.
        """
        await register_task(self._zk, self.task, self._definition, acl=self._acl)
        try:
            while True:
                self._enter(InstanceState.STANDBY)
                held = await self._contender.acquire()
                try:
                    async with held:
                        if await endure(self._zk, lambda: self._zk.exists(finished_path(self.task))) is not None:
                            return
                        self._enter(InstanceState.RUNNING)
                        await carry_out(self._zk, self.task, held, self._work, self._interval, self._acl)
                        return
                except OwnershipLostError:
                    # It may also be something else that was lost, which the work held.
                    if not held.is_lost:
                        raise
        finally:
            self._enter(None)

    def _enter(self, state: InstanceState | None) -> None:
        if state is not self._state:
            self._state = state
            self._listeners.tell(state)
