"""What the recipes of services rest on: repeating, reconciling, and leaving nothing behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.forced_faults import Fault, FaultyClient, at_every_request

import corral
from corral.client.errors import NotReadOnlyError
from corral.recipes.endurance import Reconciler, create_once, create_own, endure, withdraw
from corral.recipes.listeners import Listeners

if TYPE_CHECKING:
    from corral import Client
    from corral.testing import Address

PATIENCE_S = 10.0


class Steps:
    """Steps that do what they are told, one after the other; the last one for ever."""

    def __init__(self, *outcomes: type[Exception] | None) -> None:
        self.outcomes = list(outcomes)
        self.taken = 0

    async def __call__(self) -> None:
        self.taken += 1
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome("by order of the test")


def test_endurance_ends_with_the_first_outcome_that_counts(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            steps = Steps(corral.ConnectionLoss, corral.SessionExpired, NotReadOnlyError, None)
            await endure(zk, steps)
            assert steps.taken == 4
            with pytest.raises(corral.NoAuthError):
                await endure(zk, Steps(corral.NoAuthError))
        for loss in (corral.ConnectionLoss, NotReadOnlyError):
            with pytest.raises(corral.ClientClosedError):
                await endure(zk, Steps(loss))

    asyncio.run(main())


def test_a_reconciler_takes_a_step_for_each_wake_and_each_connection(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, asyncio.timeout(PATIENCE_S):
            over: list[None] = []
            steps = Steps()
            reconciler = Reconciler(zk, steps, "test", lambda: over.append(None))
            with pytest.raises(corral.ClientClosedError):
                await reconciler.settle()
            await reconciler.start()
            assert steps.taken == 1
            await reconciler.settle()
            assert steps.taken == 2
            zookeeper_shared.server.drop_connections()
            await reconciler.until(lambda: steps.taken == 3)
            with pytest.raises(RuntimeError, match="test is started once"):
                await reconciler.start()
            await reconciler.close()
            await reconciler.close()
            assert over == [None]
            with pytest.raises(corral.ClientClosedError):
                await reconciler.until(lambda: False)

    asyncio.run(main())


def test_a_failure_is_raised_until_a_later_step_succeeds(
    zookeeper_shared: Address, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, asyncio.timeout(PATIENCE_S):
            with pytest.raises(corral.NoAuthError):
                await Reconciler(zk, Steps(corral.NoAuthError), "first").start()
            reconciler = Reconciler(zk, Steps(None, corral.NoAuthError, None, corral.NoAuthError), "second")
            await reconciler.start()
            with pytest.raises(corral.NoAuthError):
                await reconciler.settle()
            assert isinstance(reconciler.failure, corral.NoAuthError)
            with pytest.raises(corral.NoAuthError):
                await reconciler.until(lambda: False)
            await reconciler.settle()
            waiting = asyncio.ensure_future(reconciler.until(lambda: False))
            await asyncio.sleep(0)
            reconciler.wake()
            with pytest.raises(corral.NoAuthError):
                await waiting
            assert "second: NoAuthError: by order of the test" in caplog.text
            # A step that finds the client closed is the last one.
            closing = Reconciler(zk, Steps(None, corral.ClientClosedError), "third")
            await closing.start()
            with pytest.raises(corral.ClientClosedError):
                await closing.settle()
            assert not closing.is_running

    asyncio.run(main())


def test_a_step_may_close_its_reconciler(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            closed = asyncio.Event()

            async def step() -> None:
                await reconciler.close()
                closed.set()

            reconciler = Reconciler(zk, step, "test")
            await reconciler.start()
            await asyncio.wait_for(closed.wait(), PATIENCE_S)
            await reconciler.close()

    asyncio.run(main())


def test_listeners_do_not_harm_each_other() -> None:
    async def main() -> None:
        failures: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        told: list[int] = []
        listeners: Listeners[int] = Listeners("the owner")
        listeners.add(lambda news: news // 0)
        listeners.add(told.append)
        listeners.tell(1)
        listeners.remove(told.append)
        listeners.remove(told.append)
        listeners.tell(2)
        assert told == [1]
        assert [(each["message"], type(each["exception"])) for each in failures] == [
            ("callback of 'the owner'", ZeroDivisionError)
        ] * 2

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_creations_leave_one_znode_or_none_under_any_fault(zookeeper_shared: Address, fault: Fault) -> None:
    async def scenario(zk: FaultyClient) -> None:
        await create_once(zk, "/once", b"data", corral.OPEN)
        try:
            own = await create_own(zk, "/own/name-", b"")
            await withdraw(zk, own)
            assert await zk.get_ephemerals() == []
        except corral.SessionExpired:
            return
        except asyncio.CancelledError:
            # It has gone, although the session lives on.
            assert await zk.get_ephemerals() == []
            raise

    async def check(zk: Client) -> None:
        created = await zk.get_children("/once") if await zk.exists("/once") is not None else []
        assert len(created) == 1 or (fault is Fault.CANCELLED and not created)
        assert await zk.get_ephemerals() == []

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 4
