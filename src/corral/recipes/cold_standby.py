"""Cold standby: workers of a group take over whichever of its tasks nobody runs."""

from __future__ import annotations

import asyncio
import itertools
import logging
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

from corral.client import OPEN, ClientClosedError
from corral.client.errors import NodeExistsError, NoNodeError
from corral.recipes.endurance import Reconciler
from corral.recipes.execution import COMMIT_INTERVAL_S, carry_out, contender, finished_path, instances_path
from corral.recipes.listeners import Listeners
from corral.recipes.ownership import OwnershipLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.client import Acl, Client
    from corral.recipes.execution import Work
    from corral.recipes.listeners import Listeners
from corral.recipes.ownership import Held

log = logging.getLogger("corral.recipes")


class ColdStandby:
    """A worker that looks through the tasks of its group and takes those that nobody runs::

        await ColdStandby(zk, "/groups/billing/tasks", work, capacity=4).run()

    It tries the ``instances`` of each: with the smallest number it runs the task, otherwise it deletes its instance
    and goes on to the next. It looks again when tasks come, or end, or lose their worker. A task that it loses, with
    its session or because somebody deletes its instance, is cancelled and left, and may be taken by another worker.

    Compared with :class:`~corral.recipes.standby.HotStandby`: one worker serves many tasks, and idle tasks cost no
    waiting workers; but a successor has to be found, and has nothing prepared. Progress is stored in the same way, so
    that the successor goes on where the task was.
    """

    def __init__(
        self,
        zk: Client,
        group: str,
        work: Work,
        *,
        identifier: str | None = None,
        capacity: int | None = None,
        commit_interval: float = COMMIT_INTERVAL_S,
        retry_after: float = 5.0,
        on_failure: Callable[[str, Exception], object] | None = None,
        acl: Sequence[Acl] = OPEN,
        random: Random | None = None,
    ) -> None:
        """Prepare it; nothing is sent yet.

        Args:
            group: the path whose children are the tasks; it is created if it is missing.
            work: what is to be done with a task, a coroutine function that gets an
                :class:`~corral.recipes.execution.Execution`. When it returns, the task is finished, for ever (until
                ``finished`` is deleted).
            identifier: this worker, for others to see; the default is ``host:pid``.
            capacity: how many tasks it runs at the same time; None: any number.
            commit_interval: seconds between two stores of progress.
            retry_after: seconds for which this worker leaves a task alone whose work has failed.
            on_failure: called with the name of a task and what its work raised; that is logged in any case.
            acl: of all that is created.
            random: for the order in which tasks are tried, so that workers do not all begin with the same one.
        """
        zk.key(group)
        if capacity is not None and capacity < 1:
            raise ValueError(f"capacity={capacity!r}: a worker runs at least one task")
        for name, value in {"commit_interval": commit_interval, "retry_after": retry_after}.items():
            if not value > 0:
                raise ValueError(f"{name}={value!r} is not positive")
        self._zk = zk
        self.group = group.rstrip("/")
        self._work = work
        self._identifier = identifier
        self._capacity = capacity
        self._interval = commit_interval
        self._retry_after = retry_after
        self._failed: Listeners[tuple[str, Exception]] = Listeners(self)
        if on_failure is not None:
            self._failed.add(lambda failure: on_failure(*failure))
        self._acl = acl
        self._random = random if random is not None else Random()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._resting: dict[str, asyncio.TimerHandle] = {}
        self._reconciler = Reconciler(zk, self._scan, f"worker for {group}")

    def __repr__(self) -> str:
        return f"<ColdStandby {self.group} running {', '.join(self.running) or 'nothing'}>"

    @property
    def running(self) -> list[str]:
        """The names of the tasks that it runs."""
        return sorted(self._running)

    async def run(self) -> None:
        """Take tasks and run them until cancelled.

        Then the work is cancelled, its last progress stored, and every task left. Raises ClientClosedError when the
        client is closed, and what keeps it from looking for tasks, as NoAuthError.
        """
        try:
            await self._reconciler.start(lambda: False)
        finally:
            for task in self._running.values():
                task.cancel()
            if self._running:
                await asyncio.wait(self._running.values())
            for timer in self._resting.values():
                timer.cancel()

    # Taking

    async def _scan(self) -> None:
        names = [name for name in await self._tasks() if name not in self._running and name not in self._resting]
        idle = await asyncio.gather(*[self._is_idle(name) for name in names])
        for name in itertools.compress(names, idle):
            if self._capacity is not None and len(self._running) >= self._capacity:
                return
            held = await contender(self._zk, self._path(name), self._identifier, self._acl).try_acquire()
            if held is not None:
                task = asyncio.create_task(self._carry_out(name, held), name=f"task {self._path(name)}")
                self._running[name] = task
                task.add_done_callback(lambda _, name=name: self._leave(name))  # type: ignore[misc]

    async def _tasks(self) -> list[str]:
        try:
            names = await self._zk.get_children(self.group or "/", watch=self._reconciler.wake)
        except NoNodeError:
            await self._zk.ensure(self.group, acl=self._acl)
            self._reconciler.wake()
            return []
        self._random.shuffle(names)
        return names

    async def _is_idle(self, name: str) -> bool:
        """Whether nobody runs it; the watches tell of a change."""
        path = self._path(name)
        if await self._zk.exists(finished_path(path), watch=self._reconciler.wake) is not None:
            return False
        try:
            return not await self._zk.get_children(instances_path(path), watch=self._reconciler.wake)
        except NoNodeError:
            # Without its parents: a task that has been deleted is not to come back.
            with suppress(NoNodeError):
                with suppress(NodeExistsError):
                    await self._zk.create(instances_path(path), acl=self._acl)
                self._reconciler.wake()
            return False

    def _path(self, name: str) -> str:
        return f"{self.group}/{name}"

    # Running

    async def _carry_out(self, name: str, held: Held) -> None:
        try:
            async with held:
                await carry_out(self._zk, self._path(name), held, self._work, self._interval, self._acl)
        except OwnershipLostError as error:
            log.warning("task %s: %s", self._path(name), error)
        except ClientClosedError:
            return
        except Exception as error:
            log.exception("task %s failed", self._path(name))
            self._rest(name)
            self._failed.tell((name, error))

    def _rest(self, name: str) -> None:
        def again() -> None:
            del self._resting[name]
            self._reconciler.wake()

        self._resting[name] = asyncio.get_running_loop().call_later(self._retry_after, again)

    def _leave(self, name: str) -> None:
        del self._running[name]
        self._reconciler.wake()
