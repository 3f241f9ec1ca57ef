"""Hot and cold standby: one worker runs a task, and another goes on where it was."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import TYPE_CHECKING

import pytest
from tests.forced_faults import Fault, FaultyClient, at_every_request

import corral
from corral.recipes.cold_standby import ColdStandby
from corral.recipes.ownership import OwnershipLostError
from corral.recipes.standby import HotStandby, Instance, InstanceState, instances, register_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from typing import Any

    from corral import Client
    from corral.recipes.execution import Execution
    from corral.testing import Address

TASK = "/tasks/orders"
PATIENCE_S = 10.0


class Log:
    """Work that notes what it is told, and goes on when the test says so."""

    def __init__(self) -> None:
        self.executions: list[Execution] = []
        self.begun: asyncio.Queue[Execution] = asyncio.Queue()
        self.over: asyncio.Queue[str] = asyncio.Queue()
        self.may_end = asyncio.Event()

    async def work(self, execution: Execution) -> None:
        self.executions.append(execution)
        self.begun.put_nowait(execution)
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.over.put_nowait("cancelled")
            raise
        self.over.put_nowait("done")

    async def next(self) -> Execution:
        return await asyncio.wait_for(self.begun.get(), PATIENCE_S)

    async def ended(self) -> str:
        return await asyncio.wait_for(self.over.get(), PATIENCE_S)


@asynccontextmanager
async def running(run: Awaitable[None]) -> AsyncIterator[asyncio.Future[None]]:
    """Runs beside the block, and is cancelled with it."""
    task = asyncio.ensure_future(run)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until_children(zk: Client, path: str, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            changed: asyncio.Queue[object] = asyncio.Queue()
            if len(await zk.get_children(path, watch=changed.put_nowait)) == count:
                return
            await changed.get()


async def count_up(execution: Execution) -> None:
    """Commit each number once, from where the task was."""
    for number in range(int(execution.last_commit or b"0") + 1, 6):
        await execution.commit(b"%d" % number)


def test_the_smallest_runs_and_the_next_goes_on_where_it_was(zookeeper_shared: Address) -> None:
    async def main() -> None:
        first, second = Log(), Log()
        async with corral.connect(zookeeper_shared) as one, corral.connect(zookeeper_shared) as two:
            worker = HotStandby(one, TASK, first.work, identifier="one", definition=b"what to do")
            states: list[InstanceState | None] = []
            worker.on_state(states.append)
            async with running(worker.run()):
                execution = await first.next()
                assert (execution.name, execution.definition, execution.last_commit) == ("orders", b"what to do", None)
                standby = HotStandby(two, TASK, second.work, identifier="two")
                async with running(standby.run()) as run:
                    await until_children(two, f"{TASK}/instances", 2)
                    assert await instances(two, TASK) == [
                        Instance("one", InstanceState.RUNNING),
                        Instance("two", InstanceState.STANDBY),
                    ]
                    assert (worker.state, standby.state) == (InstanceState.RUNNING, InstanceState.STANDBY)
                    await execution.commit(b"17")
                    assert execution.last_commit == b"17"
                    assert one.session is not None
                    zookeeper_shared.server.expire_session(one.session.id)
                    taken_over = await second.next()
                    assert await first.ended() == "cancelled"
                    assert taken_over.last_commit == b"17"
                    assert taken_over.held.token > execution.held.token
                    # The first one is back, behind the other.
                    await until_children(two, f"{TASK}/instances", 2)
                    assert [each.identifier for each in await instances(two, TASK)] == ["two", "one"]
                    with pytest.raises(OwnershipLostError):
                        await execution.commit(b"18")
                    assert (await two.get(f"{TASK}/lastCommit")).data == b"17"
                    second.may_end.set()
                    await asyncio.wait_for(run, PATIENCE_S)
                    assert standby.state is None
            assert states == [
                InstanceState.STANDBY,
                InstanceState.RUNNING,
                InstanceState.STANDBY,
                None,
            ]
            # It is finished for all, and for those to come.
            await asyncio.wait_for(HotStandby(one, TASK, first.work).run(), PATIENCE_S)
            assert len(first.executions) == 1
            assert await instances(two, TASK) == []

    asyncio.run(main())


def test_progress_is_stored_by_the_timer_and_before_leaving(zookeeper_shared: Address) -> None:
    async def main() -> None:
        log = Log()
        async with corral.connect(zookeeper_shared) as zk, zk.watch(f"{TASK}/lastCommit") as events:
            async with running(HotStandby(zk, TASK, log.work, commit_interval=0.01).run()):
                execution = await log.next()
                execution.report(b"1")
                async with asyncio.timeout(PATIENCE_S):
                    await anext(events)
                    assert (await zk.get(f"{TASK}/lastCommit")).data == b"1"
                    execution.report(b"2")
                    await anext(events)
            async with running(HotStandby(zk, TASK, log.work, commit_interval=3600.0).run()):
                execution = await log.next()
                assert execution.last_commit == b"2"
                execution.report(b"3")
                await execution.commit()
                execution.report(b"4")
                execution.report(b"5")
                with pytest.raises(TypeError, match="progress is bytes"):
                    execution.report("6")  # type: ignore[arg-type]
            assert (await zk.get(f"{TASK}/lastCommit")).data == b"5"
            assert await zk.exists(f"{TASK}/finished") is None
            assert await zk.get_children(f"{TASK}/instances") == []

    asyncio.run(main())


def test_an_instance_that_somebody_deletes_is_superseded(zookeeper_shared: Address) -> None:
    async def main() -> None:
        log = Log()
        async with corral.connect(zookeeper_shared) as zk, corral.connect(zookeeper_shared) as console:
            standby = HotStandby(zk, TASK, log.work)
            async with running(standby.run()):
                execution = await log.next()
                await execution.commit(b"1")
                # The commit is on its way before the client can have heard of it.
                deletion = console.delete(execution.held.path)
                commits = [execution.commit(b"%d" % number) for number in range(2, 20)]
                outcomes = await asyncio.gather(*commits, return_exceptions=True)
                await deletion
                again = await log.next()
                assert await log.ended() == "cancelled"
                done = [b"%d" % n for n, outcome in enumerate(outcomes, 2) if outcome is None]
                assert all(isinstance(each, OwnershipLostError | None) for each in outcomes)
                assert again.last_commit == (done[-1] if done else b"1")
                assert again.held.token > execution.held.token

    asyncio.run(main())


def test_work_that_fails_leaves_the_task_to_the_next(zookeeper_shared: Address) -> None:
    async def fail(execution: Execution) -> None:
        execution.report(b"half")
        raise ArithmeticError("no more")

    async def main() -> None:
        log = Log()
        async with corral.connect(zookeeper_shared) as zk:
            with pytest.raises(ArithmeticError, match="no more"):
                await HotStandby(zk, TASK, fail).run()
            async with running(HotStandby(zk, TASK, log.work).run()):
                assert (await log.next()).last_commit == b"half"

    asyncio.run(main())


def test_progress_that_cannot_be_stored_ends_the_run(zookeeper_shared: Address) -> None:
    async def main() -> None:
        log = Log()
        async with corral.connect(zookeeper_shared) as zk:
            await zk.create(f"{TASK}/lastCommit", b"0", parents=True)
            await zk.set_acl(f"{TASK}/lastCommit", corral.READ_ONLY)

            async def work(execution: Execution) -> None:
                execution.report(b"1")
                await log.work(execution)

            with pytest.raises(corral.KeeperError, match="operation 1 of 2"):
                await asyncio.wait_for(HotStandby(zk, TASK, work, commit_interval=0.01).run(), PATIENCE_S)
            assert await log.ended() == "cancelled"
            assert await zk.get_children(f"{TASK}/instances") == []

    asyncio.run(main())


def test_the_task_belongs_to_whoever_comes_first(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            assert await register_task(zk, TASK, b"mine")
            assert not await register_task(zk, TASK, b"yours")
            assert (await zk.get(TASK)).data == b"mine"
            assert await instances(zk, TASK) == []

    asyncio.run(main())


def test_cold_workers_share_the_tasks_of_their_group(zookeeper_shared: Address) -> None:
    async def main() -> None:
        first, second = Log(), Log()
        async with corral.connect(zookeeper_shared) as one, corral.connect(zookeeper_shared) as two:
            for name in "abc":
                await register_task(one, f"/tasks/{name}", name.encode())
            worker = ColdStandby(one, "/tasks", first.work, capacity=2, identifier="one", random=Random(1))
            async with running(worker.run()):
                taken = [await first.next(), await first.next()]
                assert worker.running == sorted(each.name for each in taken)
                await taken[0].commit(b"far")
                other = ColdStandby(two, "/tasks", second.work, identifier="two", random=Random(1))
                async with running(other.run()):
                    third = await second.next()
                    assert {each.name for each in [*taken, third]} == set("abc")
                    assert all(each.definition == each.name.encode() for each in [*taken, third])
                    # A task that comes is taken by the worker that has room.
                    await register_task(one, "/tasks/d")
                    assert (await second.next()).name == "d"
                    # What a lost worker leaves is taken over.
                    assert one.session is not None
                    zookeeper_shared.server.expire_session(one.session.id)
                    assert [await first.ended(), await first.ended()] == ["cancelled", "cancelled"]
                    again = {each.name: each async for each in next_of(2, first, second)}
                    assert set(again) == {each.name for each in taken}
                    assert again[taken[0].name].last_commit == b"far"
            for name in "abcd":
                assert await two.get_children(f"/tasks/{name}/instances") == []

    asyncio.run(main())


async def next_of(count: int, *logs: Log) -> AsyncIterator[Execution]:
    """The next executions of any of the logs."""
    waiting = {asyncio.ensure_future(each.begun.get()): each for each in logs}
    try:
        while count:
            done, _ = await asyncio.wait(waiting, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
            assert done
            for each in done:
                log = waiting.pop(each)
                waiting[asyncio.ensure_future(log.begun.get())] = log
                count -= 1
                yield each.result()
    finally:
        for each in waiting:
            each.cancel()


def test_a_finished_task_is_taken_by_nobody_until_somebody_says_so(zookeeper_shared: Address) -> None:
    async def main() -> None:
        log = Log()
        async with corral.connect(zookeeper_shared) as zk:
            await register_task(zk, TASK)
            workers = [ColdStandby(zk, "/tasks", log.work).run() for _ in range(2)]
            async with running(workers[0]), running(workers[1]), zk.watch(f"{TASK}/finished") as events:
                await log.next()
                log.may_end.set()
                assert await log.ended() == "done"
                async with asyncio.timeout(PATIENCE_S):
                    assert (await anext(events)).kind is corral.EventKind.CREATED
                await until_children(zk, f"{TASK}/instances", 0)
                await zk.delete(f"{TASK}/finished")
                await log.next()
                assert len(log.executions) == 2

    asyncio.run(main())


def test_a_cold_worker_rests_after_a_failure_and_tells(zookeeper_shared: Address) -> None:
    async def main() -> None:
        failures: list[tuple[str, Exception]] = []
        is_second = asyncio.Event()

        async def fail_once(execution: Execution) -> None:
            if not failures:
                raise ArithmeticError("no more")
            is_second.set()

        async with corral.connect(zookeeper_shared) as zk:
            await register_task(zk, TASK)
            worker = ColdStandby(
                zk, "/tasks", fail_once, retry_after=0.01, on_failure=lambda *failure: failures.append(failure)
            )
            async with running(worker.run()):
                await asyncio.wait_for(is_second.wait(), PATIENCE_S)
            assert [(name, str(error)) for name, error in failures] == [("orders", "no more")]

    asyncio.run(main())


def test_a_task_that_is_deleted_is_left(zookeeper_shared: Address) -> None:
    async def main() -> None:
        log = Log()
        async with corral.connect(zookeeper_shared) as zk:
            await register_task(zk, TASK)
            async with running(ColdStandby(zk, "/tasks", log.work).run()):
                await log.next()
                await zk.delete_tree(TASK)
                assert await log.ended() == "cancelled"
            assert await zk.get_children("/tasks") == []

    asyncio.run(main())


def test_bad_arguments_are_refused_at_once(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            with pytest.raises(corral.BadArgumentsError):
                HotStandby(zk, "tasks", count_up)
            with pytest.raises(ValueError, match="commit_interval=0"):
                HotStandby(zk, TASK, count_up, commit_interval=0)
            for options in ({"capacity": 0}, {"commit_interval": -1}, {"retry_after": 0}):
                with pytest.raises(ValueError, match=next(iter(options))):
                    ColdStandby(zk, "/tasks", count_up, **options)  # type: ignore[arg-type]
            await zk.create("/closed", acl=corral.READ_ONLY)
            with pytest.raises(corral.NoAuthError):
                await HotStandby(zk, "/closed/task", count_up).run()

    asyncio.run(main())


async def check_counted(zk: Client, fault: Fault) -> None:
    """Every number has been committed, and none by a worker that had been superseded."""
    stat = await zk.exists(f"{TASK}/lastCommit")
    if fault is Fault.CANCELLED and stat is None:
        return
    last = await zk.get(f"{TASK}/lastCommit")
    # A commit whose answer got lost is written once more.
    assert last.stat.version - int(last.data) + 1 in (0, 1)
    assert await zk.get_children(f"{TASK}/instances") == []
    if fault is not Fault.CANCELLED:
        assert last.data == b"5"
        assert await zk.exists(f"{TASK}/finished") is not None


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_hot_standby_under_any_fault(zookeeper_shared: Address, fault: Fault) -> None:
    async def scenario(zk: FaultyClient) -> None:
        async with corral.connect(zookeeper_shared) as two:
            runs = [HotStandby(zk, TASK, count_up).run(), HotStandby(two, TASK, count_up).run()]
            try:
                await asyncio.gather(*runs)
            finally:
                if await two.exists(f"{TASK}/instances") is not None:
                    await until_children(two, f"{TASK}/instances", 0)

    async def check(zk: Client) -> None:
        await check_counted(zk, fault)

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 8


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_cold_standby_under_any_fault(zookeeper_shared: Address, fault: Fault) -> None:
    async def scenario(zk: FaultyClient) -> None:
        async with corral.connect(zookeeper_shared) as two:
            await register_task(two, TASK)
            workers: list[Any] = [ColdStandby(each, "/tasks", count_up, retry_after=0.01).run() for each in (zk, two)]
            finished = asyncio.Event()
            async with running(workers[0]), running(workers[1]):
                while await two.exists(f"{TASK}/finished", watch=lambda _: finished.set()) is None:
                    await finished.wait()
            await until_children(two, f"{TASK}/instances", 0)

    async def check(zk: Client) -> None:
        await check_counted(zk, fault)

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 4
