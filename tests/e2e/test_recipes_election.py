"""Elections and latches: one leader at a time; the failures that other clients had are tests by their names."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.owners import check_ledger, open_ledger, own, records, until_children

from corral.client import Acl, Client, ClientClosedError, NoAuthError, connect
from corral.client.errors import TransactionError
from corral.recipes import CURATOR, Election, LeaderLatch, Lock, OwnershipLostError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from corral.recipes import Held
    from corral.testing import Address

PATIENCE_S = 20.0
"""Nothing here takes long; a test that hangs says so."""


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await main

    asyncio.run(bounded())


async def standing(client: Client, number: int) -> list[str]:
    """The claims, once there are so many."""
    return await until_children(client, "/leader", lambda names: len(names) == number)


class Journal:
    """What a latch has told, in order; can be waited for."""

    def __init__(self, latch: LeaderLatch) -> None:
        self.told: list[bool] = []
        self._changed = asyncio.Event()
        latch.on_change(self._write)

    def _write(self, is_leader: bool) -> None:
        self.told.append(is_leader)
        self._changed.set()

    async def reaches(self, *expected: bool) -> None:
        while self.told != list(expected):
            self._changed.clear()
            await self._changed.wait()


@asynccontextmanager
async def leader_and_follower(
    first: Client, second: Client, path: str = "/leader"
) -> AsyncIterator[tuple[LeaderLatch, LeaderLatch]]:
    """Two latches, of which the first leads and the second waits."""
    async with LeaderLatch(first, path) as leader:
        await leader.wait()
        async with LeaderLatch(second, path) as follower:
            await until_children(first, path, lambda names: len(names) == 2)
            yield leader, follower


# Election


def test_each_leads_in_turn(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as one, connect(zookeeper_shared) as two:
            await open_ledger(one)
            elections = [Election(client, "/leader") for client in [one, two] * 4]
            await asyncio.gather(*[election.run(own) for election in elections])
            await check_ledger(one)
            assert len(await records(one)) == 16
            assert await elections[0].leader() is None

    run(main())


def test_result_and_error_of_the_leader(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            election = Election(zk, "/leader", "me")

            async def lead(held: Held) -> str | None:
                assert held.is_certain
                with pytest.raises(RuntimeError, match="not re-entrant"):
                    await election.run(lead)
                return await election.leader()

            async def fail(_: Held) -> None:
                raise ZeroDivisionError

            async def lose_something_else(_: Held) -> None:
                raise OwnershipLostError

            assert await election.run(lead) == "me"
            with pytest.raises(ZeroDivisionError):
                await election.run(fail)
            with pytest.raises(OwnershipLostError):
                await election.run(lose_something_else)
            assert await zk.get_children("/leader") == []

    run(main())


def test_leader_is_cancelled_when_it_loses_and_stands_again(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            terms: list[Held] = []
            outcomes: list[str] = []
            leading = asyncio.Event()

            async def lead(held: Held) -> str:
                terms.append(held)
                leading.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    outcomes.append("lost" if held.is_lost else "cancelled")
                    raise
                return "unreachable"

            first = asyncio.create_task(Election(zk, "/leader").run(lead))
            await leading.wait()
            leading.clear()
            second = asyncio.create_task(Election(other, "/leader").run(lead))
            await standing(zk, 2)
            zookeeper_shared.server.expire_session(terms[0].session.id)
            await leading.wait()
            assert terms[1].client is other
            await standing(other, 2)
            assert outcomes == ["lost"]
            leading.clear()
            second.cancel()
            await leading.wait()
            assert terms[2].client is zk
            first.cancel()
            await asyncio.wait({first, second})
            assert first.cancelled()
            assert second.cancelled()
            assert outcomes == ["lost", "cancelled", "cancelled"]
            assert [held.token for held in terms] == sorted(held.token for held in terms)
            await standing(other, 0)

    run(main())


def test_lost_connection_is_no_lost_leadership(zookeeper_server: Any) -> None:
    async def main() -> None:
        async with connect(zookeeper_server.address) as zk:

            async def lead(held: Held) -> bool:
                zookeeper_server.drop_connections()
                await zk.suspended()
                in_doubt = held.is_held and not held.is_certain
                await zk.connected()
                return in_doubt and held.is_certain

            assert await Election(zk, "/leader").run(lead)

    run(main())


# Latch


def test_latch_says_who_leads(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            async with LeaderLatch(zk, "/leader", "one") as one:
                journal = Journal(one)
                held = await one.wait()
                assert (one.is_leader, one.is_certain, one.held) == (True, True, held)
                assert await one.wait() is held
                async with LeaderLatch(other, "/leader", "two") as two:
                    await standing(zk, 2)
                    assert not two.is_leader
                    assert two.held is None
                    assert await two.contenders() == ["one", "two"]
                    with pytest.raises(TimeoutError):
                        await two.wait(timeout=0.02)
                    waiting = asyncio.create_task(two.wait())
                    await one.close()
                    assert (await waiting).token > held.token
                    assert (one.is_leader, one.is_certain, one.held) == (False, False, None)
                    assert journal.told == [True, False]
            await standing(zk, 0)
            with pytest.raises(RuntimeError, match="is closed"):
                await one.wait()
            with pytest.raises(RuntimeError, match="started once"):
                await one.start()
            with pytest.raises(RuntimeError, match="start it"):
                await LeaderLatch(zk, "/leader").wait()
            await LeaderLatch(zk, "/leader").close()

    run(main())


def test_waiting_ends_with_the_latch(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, Lock(zk, "/leader"):
            latch = await LeaderLatch(zk, "/leader").start()
            waiting = asyncio.create_task(latch.wait())
            await standing(zk, 2)
            await latch.close()
            with pytest.raises(RuntimeError, match="is closed"):
                await waiting
            await zk.create("/closed", acl=[Acl("world", "anyone", "r")])
            async with LeaderLatch(zk, "/closed") as refused:
                with pytest.raises(NoAuthError):
                    await refused.wait()

    run(main())


def test_latch_of_a_closed_client(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk:
            async with LeaderLatch(zk, "/leader") as latch:
                journal = Journal(latch)
                held = await latch.wait()
                await zk.close()
                assert not latch.is_leader
                await held.lost()
                with pytest.raises(ClientClosedError):
                    await latch.wait()
            assert journal.told == [True, False]

    run(main())


def test_listener_that_fails_is_reported(zookeeper_shared: Address) -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        async with connect(zookeeper_shared) as zk:
            latch = LeaderLatch(zk, "/leader")
            latch.on_change(lambda _: 1 / 0)
            told: list[bool] = []
            latch.on_change(told.append)
            async with latch:
                await latch.wait()
                latch.off_change(told.append)
                latch.off_change(told.append)
        assert [type(context["exception"]) for context in reported] == [ZeroDivisionError] * 2
        assert told == [True]

    run(main())


# What happened to others


def test_curator_3_latch_closed_while_it_is_looking_leaves_nothing(zookeeper_shared: Address) -> None:
    """Closed at the moment at which its watch ran, a latch made another znode, for ever."""

    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as other:
            for steps in range(12):
                leader = await Lock(zk, "/leader").acquire()
                latch = await LeaderLatch(other, "/leader").start()
                await standing(zk, 2)
                await leader.release()
                for _ in range(steps):
                    await other.sync()
                await latch.close()
                await standing(zk, 0)
                assert not latch.is_leader

    run(main())


def test_curator_498_latch_without_a_znode(zookeeper_shared: Address) -> None:
    """The znode of a leader was deleted behind its back: it led on, beside the next one."""

    async def main() -> None:
        async with (
            connect(zookeeper_shared) as zk,
            connect(zookeeper_shared) as other,
            leader_and_follower(zk, other) as (one, two),
        ):
            journal = Journal(one)
            held = await one.wait()
            await standing(zk, 2)
            await other.delete(held.path)
            await journal.reaches(False)
            await two.wait()
            assert not one.is_leader
            await standing(zk, 2)

    run(main())


def test_curator_537_latch_gives_a_fencing_number(zookeeper_shared: Address) -> None:
    """A leader had nothing by which others could tell it from a former one."""

    async def main() -> None:
        async def write(held: Held) -> None:
            async with other.transaction() as transaction:
                transaction.check(held.path)
                transaction.set("/fenced", b"%d" % held.token)

        async with (
            connect(zookeeper_shared) as zk,
            connect(zookeeper_shared) as other,
            leader_and_follower(zk, other) as (one, two),
        ):
            await other.create("/fenced")
            former = await one.wait()
            stat = await other.exists(former.path)
            assert stat is not None
            assert former.token == stat.czxid
            await write(former)
            zookeeper_shared.server.expire_session(former.session.id)
            present = await two.wait()
            assert present.token > former.token
            await write(present)
            with pytest.raises(TransactionError):
                await write(former)
            assert (await other.get("/fenced")).data == b"%d" % present.token

    run(main())


def test_curator_620_two_reconnections_in_quick_succession(zookeeper_server: Any) -> None:
    """Two handlers of reconnections interleaved, and the leader deleted its own znode."""

    async def main() -> None:
        address = zookeeper_server.address
        async with (
            connect(address) as zk,
            connect(address) as other,
            connect(address) as observer,
            leader_and_follower(zk, other) as (one, two),
        ):
            held = await one.wait()
            before = await standing(observer, 2)
            for _ in range(2):
                zookeeper_server.drop_connections()
                await zk.suspended()
                await zk.connected()
            await other.connected()
            await zk.sync()
            await other.sync()
            assert one.held is held
            assert not two.is_leader
            assert sorted(await observer.get_children("/leader")) == sorted(before)

    run(main())


def test_curator_644_reconnection_makes_no_new_znode(zookeeper_server: Any) -> None:
    """Latches that came back reset themselves, lost sight of their znodes and left some behind."""

    async def main() -> None:
        address = zookeeper_server.address
        clients = [await connect(address).start() for _ in range(4)]
        latches = [await LeaderLatch(clients[0], "/leader").start()]
        await latches[0].wait()
        latches += [await LeaderLatch(client, "/leader").start() for client in clients[1:]]
        before = await standing(clients[0], 4)
        for _ in range(3):
            await asyncio.to_thread(zookeeper_server.restart)
            for client in clients:
                await client.connected()
                await client.sync()
        assert sorted(await clients[0].get_children("/leader")) == sorted(before)
        assert [latch.is_leader for latch in latches] == [True, False, False, False]
        for client in clients:
            await client.close()
        for latch in latches:
            await latch.close()

    run(main())


def test_curator_645_two_latches_do_not_chase_each_other(zookeeper_shared: Address) -> None:
    """When the leader left, the others made themselves new znodes again and again, each because of the other."""

    async def main() -> None:
        async with connect(zookeeper_shared) as zk, connect(zookeeper_shared) as one, connect(zookeeper_shared) as two:
            leader = await LeaderLatch(zk, "/leader").start()
            await leader.wait()
            async with LeaderLatch(one, "/leader") as first, LeaderLatch(two, "/leader") as second:
                await standing(zk, 3)
                await leader.close()
                await asyncio.wait(
                    [asyncio.create_task(latch.wait(timeout=10)) for latch in (first, second)],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                await one.sync()
                await two.sync()
                assert first.is_leader != second.is_leader
                stat = await zk.exists("/leader")
                assert stat is not None
                assert stat.cversion == 4, "three came and one went"

    run(main())


@pytest.mark.parametrize("name", ["curator_652", "curator_653"])
def test_two_leaders_after_the_ensemble_was_away(zookeeper_server: Any, name: str) -> None:
    """CURATOR-652 and -653: all were suspended, the leader came back, and so did another one, as leaders both."""

    async def main() -> None:
        address = zookeeper_server.address
        async with (
            connect(address) as zk,
            connect(address) as other,
            leader_and_follower(zk, other) as (leader, follower),
        ):
            held = await leader.wait()
            journals = Journal(leader), Journal(follower)
            claims = await standing(zk, 2)
            await asyncio.to_thread(zookeeper_server.stop if name == "curator_652" else zookeeper_server.kill)
            await zk.suspended()
            await other.suspended()
            assert (leader.is_leader, leader.is_certain, follower.is_leader) == (True, False, False)
            await asyncio.to_thread(zookeeper_server.start)
            for client in (zk, other):
                await client.connected()
                await client.sync()
            assert leader.held is held
            assert (leader.is_certain, follower.is_leader) == (True, False)
            assert [journal.told for journal in journals] == [[], []]
            assert sorted(await zk.get_children("/leader")) == sorted(claims)

    run(main())


@pytest.mark.slow
def test_curator_696_old_znode_makes_no_leader(zookeeper_server: Any) -> None:
    """A client came back with a new session while the znode of the old one was still there, and led by that."""

    async def main() -> None:
        address = zookeeper_server.address
        async with (
            connect(address, session_timeout=0.4) as zk,
            connect(address) as other,
            LeaderLatch(zk, "/leader") as latch,
        ):
            journal = Journal(latch)
            former = await latch.wait()
            # The service keeps the session and its znode, while the client knows that it has ended.
            await asyncio.to_thread(zookeeper_server.stop)
            await journal.reaches(True, False)
            await asyncio.to_thread(zookeeper_server.start)
            present = await latch.wait()
            assert present.path != former.path
            assert present.session is zk.session
            assert present.token > former.token
            assert [f"/leader/{name}" for name in await other.get_children("/leader")] == [present.path]

    run(main())


def test_curator_724_latch_recovers_when_its_path_is_gone(zookeeper_shared: Address) -> None:
    """The service came back without any data: no latch ever made its path and znode again."""

    async def main() -> None:
        async with (
            connect(zookeeper_shared) as zk,
            connect(zookeeper_shared) as other,
            leader_and_follower(zk, other, "/app/leader") as (one, two),
        ):
            former = await one.wait()
            await until_children(other, "/app/leader", lambda names: len(names) == 2)
            await asyncio.to_thread(zookeeper_shared.server.clear)
            await former.lost()
            async with connect(zookeeper_shared) as observer:
                await until_children(observer, "/app/leader", lambda names: len(names) == 2)
            waiting = [asyncio.create_task(latch.wait()) for latch in (one, two)]
            done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            assert len(done) == len(pending) == 1
            assert one.is_leader != two.is_leader
            for each in pending:
                each.cancel()

    run(main())


def test_latch_in_the_dialect_of_curator(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with connect(zookeeper_shared) as zk, LeaderLatch(zk, "/leader", dialect=CURATOR) as latch:
            held = await latch.wait()
            assert "-latch-00000000" in held.path
            assert await Lock(zk, "/leader").try_acquire() is None

    run(main())
