"""Locks and read-write locks; the failures that other clients had are tests by their names."""

from __future__ import annotations

import asyncio
import gc
import re
import textwrap
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from tests.forced_faults import Fault, faulty_client
from tests.owners import check_ledger, open_ledger, own, records, until_children

from corral.client import Acl, Client, ClientClosedError, ConnectionLoss, Created, NoAuthError, connect
from corral.client.errors import BadArgumentsError, NoNodeError
from corral.recipes import CURATOR, KAZOO, Lock, OwnershipLostError, ReadWriteLock
from corral.recipes.contest import Contest

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from corral.client.calls import Call
    from corral.recipes import Dialect, Held
    from corral.testing import Address

PATIENCE_S = 20.0
"""Nothing here takes long; a test that hangs says so."""
SHORT_SESSION_S = 0.4


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await main

    asyncio.run(bounded())


async def queued(client: Client, number: int, path: str = "/lock") -> list[str]:
    """The claims, once there are so many."""
    return await until_children(client, path, lambda names: len(names) == number)


class CountingClient(Client):
    """Counts its requests."""

    requests = 0

    def send(self, call: Call) -> None:
        self.requests += 1
        super().send(call)


def test_one_holder_at_a_time_in_the_order_of_arrival(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as first, connect(zookeeper_shared) as second:
            await open_ledger(first)
            order: list[int] = []

            async def contend(client: Client, number: int) -> None:
                async with Lock(client, "/lock", f"number {number}") as held:
                    order.append(number)
                    await own(held)

            async with Lock(first, "/lock", "holder") as held:
                tasks = []
                for number in range(8):
                    tasks.append(asyncio.create_task(contend((first, second)[number % 2], number)))
                    await queued(first, number + 2)
                contenders = await Lock(second, "/lock").contenders()
                assert contenders == ["holder", *(f"number {number}" for number in range(8))]
                assert held.is_held
                assert held.is_certain
            await asyncio.gather(*tasks)
            assert order == list(range(8))
            await check_ledger(first)
            assert len(await records(first)) == 16
            assert await first.get_children("/lock") == []

    run(main())


def test_not_waiting(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            one, two = Lock(zk, "/lock"), Lock(zk, "/lock")
            held = await one.try_acquire()
            assert held is not None
            assert await two.try_acquire() is None
            assert len(await zk.get_children("/lock")) == 1
            await held.release()
            again = await two.try_acquire()
            assert again is not None
            assert again.token > held.token
            await again.release()

    run(main())


def test_timeout_leaves_no_claim(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            async with Lock(zk, "/lock"):
                late = Lock(zk, "/lock")
                with pytest.raises(TimeoutError, match=r"^/lock: not obtained within 0.02 s$"):
                    await late.acquire(timeout=0.02)
                await queued(zk, 1)
            async with late.hold(timeout=PATIENCE_S):
                await queued(zk, 1)

    run(main())


def test_cancelled_waiter_leaves_no_claim_and_the_next_one_is_served(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            async with Lock(zk, "/lock"):
                cancelled = asyncio.create_task(Lock(other, "/lock").acquire())
                await queued(zk, 2)
                behind = asyncio.create_task(Lock(zk, "/lock").acquire())
                await queued(zk, 3)
                cancelled.cancel()
                await queued(zk, 2)
                with pytest.raises(asyncio.CancelledError):
                    await cancelled
            await (await behind).release()

    run(main())


def test_claim_is_removed_after_the_connection_is_back(zookeeper_server: Any) -> None:
    """Timed out while there is no connection: the claim goes when there is one."""

    async def main() -> None:
        async with connect(zookeeper_server.address) as zk, connect(zookeeper_server.address) as other:
            held = await Lock(zk, "/lock").acquire()
            waiting = asyncio.create_task(Lock(other, "/lock").acquire(timeout=2))
            await queued(zk, 2)
            await asyncio.to_thread(zookeeper_server.stop)
            await other.suspended()
            with pytest.raises(TimeoutError):
                await waiting
            await asyncio.to_thread(zookeeper_server.start)
            await queued(zk, 1)
            assert held.is_held
            await held.release()

    run(main())


def test_no_task_is_left_after_close(zookeeper_server: Any) -> None:
    async def main() -> None:
        zk = await connect(zookeeper_server.address).start()
        held = await Lock(zk, "/lock").acquire()
        waiting = asyncio.create_task(Lock(zk, "/lock").acquire())
        await queued(zk, 2)
        zookeeper_server.stop()
        await zk.suspended()
        waiting.cancel()
        releasing = asyncio.create_task(held.release())
        await asyncio.wait({waiting})
        await zk.close()
        await releasing
        assert asyncio.all_tasks() <= {asyncio.current_task()}

    # Without the helper: its own task would be one more.
    asyncio.run(main())


def test_same_object_twice_is_an_error(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            lock = Lock(zk, "/lock", "me")
            async with lock:
                for again in (lock.acquire, lock.try_acquire, lock.hold().__aenter__):
                    with pytest.raises(RuntimeError, match=r"<Lock /lock me> already holds it and is not re-entrant"):
                        await again()
                with pytest.raises(RuntimeError, match="in an 'async with' block already"):
                    await lock.__aenter__()
            held = await Lock(other, "/lock").acquire()
            waiting = asyncio.create_task(lock.acquire())
            await queued(zk, 2)
            with pytest.raises(RuntimeError, match="already waits for it"):
                await lock.acquire()
            await held.release()
            await (await waiting).release()

    run(main())


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_timeouts_that_are_none(zookeeper_shared: Address, timeout: float) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            with pytest.raises(ValueError, match="is not positive; try_acquire"):
                await Lock(zk, "/lock").acquire(timeout=timeout)
            assert await zk.exists("/lock") is None

    run(main())


@pytest.mark.parametrize("path", ["lock", "/lock/", "/a//b", "", "/a/./b"])
def test_bad_paths_are_refused_at_once(path: str) -> None:
    with pytest.raises(BadArgumentsError):
        Lock(connect("127.0.0.1:1"), path)


def test_refusal_of_the_service_is_told(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            await zk.create("/closed", acl=[Acl("world", "anyone", "r")])
            with pytest.raises(NoAuthError):
                await Lock(zk, "/closed").acquire()
            await zk.create("/unreadable", acl=[Acl("world", "anyone", "cda")])
            with pytest.raises(NoAuthError):
                await Lock(zk, "/unreadable").acquire()
            await zk.set_acl("/unreadable", [Acl("world", "anyone")], version=None)
            await queued(zk, 0, "/unreadable")

    run(main())


def test_below_a_chroot(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(f"{zookeeper_shared}/app") as inside:
            await zk.create("/app")
            async with Lock(inside, "/lock") as held:
                assert held.path.startswith("/lock/")
                waiting = asyncio.create_task(Lock(zk, "/app/lock").acquire())
                await queued(zk, 2, "/app/lock")
            await (await waiting).release()

    run(main())


# Loss


def test_suspended_is_doubt_and_not_loss(zookeeper_server: Any) -> None:
    async def main() -> None:
        async with connect(zookeeper_server.address) as zk, Lock(zk, "/lock") as held:
            await asyncio.to_thread(zookeeper_server.stop)
            await zk.suspended()
            assert repr(held).endswith("held, in doubt>")
            assert (held.is_held, held.is_certain) == (True, False)
            await asyncio.to_thread(zookeeper_server.start)
            await zk.connected()
            assert (held.is_held, held.is_certain) == (True, True)
            held.check()

    run(main())


def test_loss_is_told_and_ends_the_block(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            lock = Lock(zk, "/lock")
            told: list[str] = []

            async def lose(error: Exception | None = None) -> Held:
                async with lock as held:
                    held.on_lost(lambda: told.append("lost"))
                    helds.append(held)
                    zookeeper_shared.server.expire_session(held.session.id)
                    await held.lost()
                    if error is not None:
                        raise error
                return held

            helds: list[Held] = []
            with pytest.raises(OwnershipLostError, match="was lost while it was used"):
                await lose()
            (held,) = helds
            assert told == ["lost"]
            held.on_lost(lambda: told.append("late"))
            assert told == ["lost", "late"]
            assert held.is_lost
            assert not held.is_held
            with pytest.raises(OwnershipLostError, match="is lost"):
                held.check()
            successor = await Lock(other, "/lock").acquire()
            assert successor.token > held.token
            await successor.release()
            # The error of a block goes first.
            with pytest.raises(ZeroDivisionError):
                await lose(ZeroDivisionError())

    run(main())


def test_deleted_claim_is_lost_at_once(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as operator:
            held = await Lock(zk, "/lock").acquire()
            await operator.set(held.path, b"touched")
            await zk.sync()
            assert held.is_held
            await operator.delete(held.path)
            await held.lost()
            assert held.is_lost
            await held.release()

    run(main())


def test_released_is_not_lost(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            held = await Lock(zk, "/lock").acquire()
            told: list[str] = []
            held.on_lost(lambda: told.append("lost"))
            waiting = asyncio.create_task(held.lost())
            await held.release()
            await waiting
            assert not held.is_lost
            with pytest.raises(OwnershipLostError, match="has been released"):
                held.check()
            await held.release()
            assert told == []

    run(main())


def test_block_is_cancelled_when_lost(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:

            async def body() -> None:
                async with Lock(zk, "/lock").hold(cancel_when_lost=True) as held:
                    zookeeper_shared.server.expire_session(held.session.id)
                    await asyncio.Event().wait()

            with pytest.raises(OwnershipLostError):
                await body()
            task = asyncio.current_task()
            assert task is not None
            assert not task.cancelling()

    run(main())


def test_cancellation_from_outside_is_no_loss(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            entered = asyncio.Event()

            async def body() -> None:
                async with Lock(zk, "/lock").hold(cancel_when_lost=True):
                    entered.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(body())
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await zk.get_children("/lock") == []

    run(main())


def test_listener_that_fails_is_reported(zookeeper_shared: Address) -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        async with connect(zookeeper_shared) as zk:
            held = await Lock(zk, "/lock").acquire()
            told = asyncio.Event()
            held.on_lost(lambda: 1 / 0)
            held.on_lost(told.set)
            await zk.delete(held.path)
            await told.wait()
        assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]

    run(main())


def test_end_of_a_claim_wakes_one_waiter(zookeeper_shared: Address) -> None:
    """No herd: those further behind make no request."""

    async def main() -> None:
        waiters = [CountingClient(connect(zookeeper_shared).settings, Random(seed)) for seed in range(4)]
        async with connect(zookeeper_shared) as zk:
            held = await Lock(zk, "/lock").acquire()
            tasks = []
            for number, client in enumerate(waiters):
                await client.start()
                tasks.append(asyncio.create_task(Lock(client, "/lock").acquire()))
                await queued(zk, number + 2)
            for client in waiters:
                await client.sync()
            # Two rounds, the second of which ends with a watch.
            while any(client.requests < 5 for client in waiters):
                await asyncio.gather(*[client.sync() for client in waiters])
            before = [client.requests for client in waiters]
            await held.release()
            await tasks[0]
            for client in waiters[1:]:
                await client.sync()
            assert [client.requests - count for client, count in zip(waiters[1:], before[1:], strict=True)] == [1, 1, 1]
            for client in waiters:
                await client.close()
            await asyncio.wait(tasks)

    run(main())


# Read-write lock


@pytest.mark.parametrize("dialect", [KAZOO, CURATOR], ids=["kazoo", "curator"])
def test_readers_share_and_writers_do_not(zookeeper_shared: Address, dialect: Dialect) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            locks = [ReadWriteLock(zk, "/lock", f"number {number}", dialect=dialect) for number in range(4)]
            async with locks[0].read, locks[1].read:
                assert await locks[2].write.try_acquire() is None
                writing = asyncio.create_task(locks[2].write.acquire())
                await queued(zk, 3)
                reading = asyncio.create_task(locks[3].read.acquire())
                await queued(zk, 4)
                assert await locks[0].write.contenders() == [f"number {number}" for number in range(4)]
            writer = await writing
            assert not reading.done()
            assert await locks[0].read.try_acquire() is None
            await writer.release()
            await (await reading).release()
            assert await zk.get_children("/lock") == []

    run(main())


@pytest.mark.parametrize("dialect", [KAZOO, CURATOR], ids=["kazoo", "curator"])
def test_downgrade_keeps_the_place(zookeeper_shared: Address, dialect: Dialect) -> None:
    """A writer that waits does not come between; readers that wait before it do."""

    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            first, second, third = (ReadWriteLock(zk, "/lock", dialect=dialect) for _ in range(3))
            held = await first.write.acquire()
            token = held.token
            reading = asyncio.create_task(second.read.acquire())
            await queued(zk, 2)
            writing = asyncio.create_task(ReadWriteLock(other, "/lock", dialect=dialect).write.acquire())
            await queued(zk, 3)
            await first.write.downgrade(held)
            assert held.is_held
            assert held.token == token
            reader = await reading
            assert await third.read.try_acquire() is None, "a writer waits before it"
            await reader.release()
            assert not writing.done()
            await held.release()
            writer = await writing
            assert writer.token > token
            with pytest.raises(OwnershipLostError, match="has been released"):
                await held.move("/lock/other", b"", [])
            with pytest.raises(ValueError, match="was not acquired through"):
                await first.write.downgrade(writer)
            await writer.release()

    run(main())


def test_downgraded_lock_is_lost_with_its_new_claim(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as operator:
            lock = ReadWriteLock(zk, "/lock")
            held = await lock.write.acquire()
            await lock.write.downgrade(held)
            await zk.sync()
            await operator.delete(held.path)
            await held.lost()
            held = await lock.write.acquire()
            await operator.delete(held.path)
            with pytest.raises(OwnershipLostError):
                await lock.write.downgrade(held)

    run(main())


# What happened to others


def test_kazoo_282_acquire_after_a_lost_connection(zookeeper_server: Any) -> None:
    """Lock.acquire hung when the connection had been lost and was back."""

    async def main() -> None:
        async with connect(zookeeper_server.address) as zk:
            lock = Lock(zk, "/lock")
            held = await lock.acquire()
            await asyncio.to_thread(zookeeper_server.kill)
            await zk.suspended()
            await asyncio.to_thread(zookeeper_server.start)
            await zk.connected()
            await held.release()
            held = await lock.acquire()
            zookeeper_server.expire_session(held.session.id)
            await held.lost()
            await (await lock.acquire()).release()
            waiting = asyncio.create_task(lock.acquire())
            zookeeper_server.drop_connections()
            await (await waiting).release()

    run(main())


def test_kazoo_241_waiter_whose_session_is_lost_goes_on(zookeeper_shared: Address) -> None:
    """A call hung for ever when the session had been lost."""

    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            held = await Lock(other, "/lock").acquire()
            waiting = asyncio.create_task(Lock(zk, "/lock").acquire())
            await queued(other, 2)
            assert zk.session is not None
            zookeeper_shared.server.expire_session(zk.session.id)
            await zk.lost()
            await queued(other, 2)
            await held.release()
            await (await waiting).release()

    run(main())


def test_kazoo_482_lock_on_a_closed_client() -> None:
    """Acquiring hung if the client was closed, or had not been started."""

    async def main() -> None:
        zk = connect("127.0.0.1:1")
        with pytest.raises(ClientClosedError, match="was not started"):
            await Lock(zk, "/lock").acquire()
        await zk.close()
        with pytest.raises(ClientClosedError, match="is closed"):
            await Lock(zk, "/lock").acquire()

    run(main())


def test_kazoo_482_client_closed_while_waiting(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            held = await Lock(other, "/lock").acquire()
            waiting = asyncio.create_task(Lock(zk, "/lock").acquire())
            await queued(other, 2)
            await zk.close()
            with pytest.raises(ClientClosedError):
                await waiting
            await queued(other, 1)
            await held.release()

    run(main())


@pytest.mark.slow
def test_kazoo_632_busy_program_keeps_its_lock(zookeeper_server: Any) -> None:
    """A program that kept the interpreter busy lost its session, and the lock with it."""

    async def main() -> None:
        async with connect(zookeeper_server.address, session_timeout=3) as zk, Lock(zk, "/lock") as held:
            # This is the program that is busy, and does not let the loop run.
            time.sleep(4)
            await zk.sync()
            assert held.is_held

    run(main())


def test_curator_498_claim_of_a_dying_session_is_not_taken_for_the_own(zookeeper_shared: Address) -> None:
    """A creation whose reply was lost was found again, but it belonged to a session that was about to end."""

    async def main() -> None:
        class Fixed(Random):
            def getrandbits(self, bits: int, /) -> int:
                return 5

        async with connect(zookeeper_shared) as dying, faulty_client(zookeeper_shared.server) as zk:
            marker = f"_c_{5:032x}-"
            old = await dying.create(f"/lock/{marker}__lock__", ephemeral=True, sequential=True, parents=True)
            zk._random = Fixed()
            zk.arm(zookeeper_shared.server, Fault.LOST_REPLY, 0)
            acquiring = asyncio.create_task(Lock(zk, "/lock").acquire())
            await queued(dying, 2)
            assert not acquiring.done()
            await dying.close()
            held = await acquiring
            assert held.path != old
            stat = await zk.exists(held.path)
            assert stat is not None
            assert stat.ephemeral_owner == held.session.id
            # Nor is anything left that the repeated creation made.
            assert await zk.get_children("/lock") == [held.path.removeprefix("/lock/")]
            await held.release()

    run(main())


def test_own_stray_is_removed(zookeeper_shared: Address) -> None:
    """A creation was repeated although it had been done: the first claim would be in the way of the second for ever."""

    async def main() -> None:
        class Repeating(Client):
            def create(self, path: str, data: bytes = b"", **kind: Any) -> Any:
                if not kind.pop("protected", False):
                    return super().create(path, data, **kind)

                async def twice() -> Created:
                    marked = path.replace("__lock__", f"_c_{0:032x}-__lock__")
                    await super(Repeating, self).create(marked, data, **kind)
                    return await super(Repeating, self).create(marked, data, **kind)

                return twice()

        async with Repeating(connect(zookeeper_shared).settings, Random(1)) as zk:
            async with Lock(zk, "/lock") as held:
                assert held.path.endswith("0000000001")
                assert len(await zk.get_children("/lock")) == 1
            assert await zk.get_children("/lock") == []

    run(main())


def test_claim_made_in_a_session_that_has_ended_is_made_again(zookeeper_shared: Address) -> None:
    """CURATOR-498, where the client itself is told of a znode that is another session's."""

    async def main() -> None:
        async with connect(zookeeper_shared) as other:

            class Misled(Client):
                def create(self, path: str, data: bytes = b"", **kind: Any) -> Any:
                    if created:
                        return super().create(path, data, **kind)
                    creation = other.create(path, data, **kind)

                    async def keep() -> Created:
                        created.append(await creation)
                        return created[0]

                    return keep()

            created: list[Created] = []
            async with Misled(connect(zookeeper_shared).settings, Random(1)) as zk:
                acquiring = asyncio.create_task(Lock(zk, "/lock").acquire())
                await queued(other, 2)
                assert not acquiring.done()
                await other.delete(created[0])
                held = await acquiring
                assert held.path != created[0]
                await held.release()

    run(main())


@pytest.mark.slow
def test_local_expiry_precedes_the_next_holder(zookeeper_server: Any) -> None:
    """The holder knows of its loss, by its own clock, before the service lets anybody else in."""

    async def main() -> None:
        address = zookeeper_server.address
        async with connect(address, session_timeout=SHORT_SESSION_S) as zk, connect(address) as other:
            held = await Lock(zk, "/lock").acquire()
            waiting = asyncio.create_task(Lock(other, "/lock").acquire())
            await queued(other, 2)
            await asyncio.to_thread(zookeeper_server.pause)
            await held.lost()
            assert not waiting.done()
            await asyncio.to_thread(zookeeper_server.resume)
            successor = await waiting
            assert successor.token > held.token
            with pytest.raises(NoNodeError):
                await other.get(held.path)
            await successor.release()

    run(main())


def test_kazoo_565_the_documentation_shows_how_to_react_to_state_changes(
    zookeeper_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody could show how to use a lock together with the changes of the connection's state: here it runs."""
    page = (Path(__file__).parents[2] / "docs" / "recipes" / "ownership.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    source = "async def main(zk, do_the_work, steps):\n" + textwrap.indent("\n".join(examples), "    ")
    names: dict[str, Any] = {}
    exec(compile(source, "ownership.md", "exec"), names)

    async def main() -> None:
        async with connect(zookeeper_server.address) as zk:
            works = 0

            async def do_the_work() -> None:
                """Meet the loss of the session at first, and then of the connection."""
                nonlocal works
                works += 1
                if works == 1:
                    assert zk.session is not None
                    zookeeper_server.expire_session(zk.session.id)
                    await asyncio.Event().wait()
                zookeeper_server.drop_connections()
                await zk.suspended()
                await zk.connected()

            await names["main"](zk, do_the_work, [zk.sync, zk.sync])

    run(main())
    printed = capsys.readouterr().out
    expected = [
        "mine, with the fencing number",
        "somebody else may be at it now",
        "no connection: pausing",
        "still mine: going on",
        "others may read again",
        "at most three of us:",
        "leading, with the fencing number",
        "True",
    ]
    assert [line for line in expected if line not in printed] == []
    assert "\nlost" not in printed


def test_waits_for_a_service_that_is_away(zookeeper_server: Any) -> None:
    """Also when the session has ended meanwhile, and calls end for want of a connection."""

    async def main() -> None:
        async with connect(zookeeper_server.address, session_timeout=0.1, backoff_max=0.05) as zk:
            await asyncio.to_thread(zookeeper_server.stop)
            waiting = [asyncio.create_task(each) for each in (Lock(zk, "/a").acquire(), Lock(zk, "/b").try_acquire())]
            await zk.lost()
            # Twice as long as a call waits for a connection.
            for _ in range(2):
                with pytest.raises(ConnectionLoss):
                    await zk.exists("/")
            assert not any(task.done() for task in waiting)
            await asyncio.to_thread(zookeeper_server.start)
            for task in waiting:
                held = await task
                assert held is not None
                await held.release()

    run(main())


def test_attempts_that_timed_out_leave_nothing_in_memory(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, Lock(zk, "/lock"):
            late = Lock(zk, "/lock")
            for _ in range(10):
                with pytest.raises(TimeoutError):
                    await late.acquire(timeout=0.005)
            await queued(zk, 1)
            gc.collect()
            assert sum(isinstance(each, Contest) for each in gc.get_objects()) <= 2, "the last of each lock"

    run(main())


def test_own_claim_that_timed_out_is_not_in_the_way(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            lock = Lock(zk, "/lock")
            for _ in range(20):
                acquiring = asyncio.create_task(lock.acquire())
                await until_children(zk, "/lock", bool)
                acquiring.cancel()
                await asyncio.wait({acquiring})
                if acquiring.cancelled():
                    held = await lock.try_acquire()
                    assert held is not None
                else:
                    held = acquiring.result()
                await held.release()

    run(main())
