"""Watches on a real server, while connections break and others write."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.client_peer import PATIENCE_S, Peer, connected, event, reply, znode_body
from tests.interop.gate import Gate

from corral.client import (
    Client,
    ConnectionLoss,
    EventKind,
    NoNodeError,
    State,
    WatcherType,
    WatchEvent,
    connect,
)
from corral.client import watch as watch_module
from corral.jute.ops import OpCode, Xid
from corral.jute.records import SetWatches
from corral.testing import Address, Server

CREATED, DELETED, CHANGED, CHILDREN = (
    EventKind.CREATED,
    EventKind.DELETED,
    EventKind.DATA_CHANGED,
    EventKind.CHILDREN_CHANGED,
)


@pytest.fixture
def shared(zookeeper_shared: Address) -> Server:
    """The run's one server, empty."""
    return zookeeper_shared.server


@asynccontextmanager
async def client(address: str, *, patience: float = PATIENCE_S, **options: Any) -> AsyncIterator[Client]:
    options.setdefault("backoff_first", 0.001)
    options.setdefault("backoff_max", 0.02)
    options.setdefault("session_timeout", 10)
    async with asyncio.timeout(patience), connect(address, **options) as zk:
        yield zk


def kinds(events: list[WatchEvent]) -> list[tuple[EventKind, str]]:
    return [(each.kind, each.path) for each in events]


async def settle(zk: Client) -> None:
    """Return when everything that the server has sent so far has been told."""
    await zk.exists("/")


def test_one_shot_watches_of_every_kind(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address) as zk:
            events: list[WatchEvent] = []
            await zk.exists("/a", watch=events.append)
            with pytest.raises(NoNodeError):
                await zk.get("/a", watch=events.append)
            created = await zk.create("/a")
            assert events == [WatchEvent(CREATED, "/a", created.zxid)]
            await zk.get("/a", watch=events.append)
            stat = await zk.set("/a", b"")
            await zk.set("/a", b"")
            assert events[1:] == [WatchEvent(CHANGED, "/a", stat.mzxid)]
            await zk.get_children("/a", watch=events.append)
            await zk.create("/a/b")
            assert kinds(events[2:]) == [(CHILDREN, "/a")]
            await zk.get_listing("/a/b", watch=events.append)
            await zk.exists("/a/b", watch=events.append)
            await zk.delete("/a/b")
            assert kinds(events[3:]) == [(DELETED, "/a/b")]

    asyncio.run(main())


def test_every_event_comes_before_the_answer_that_may_show_it(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address) as zk, client(shared.address) as other:
            await other.create("/a", b"0")
            events: list[WatchEvent] = []
            versions: list[int] = []
            told_before: list[bool] = []

            def again(event: WatchEvent) -> None:
                events.append(event)
                read()

            def read() -> None:
                answer = asyncio.ensure_future(zk.get("/a", watch=again))
                answer.add_done_callback(note)

            def note(answer: asyncio.Future[Any]) -> None:
                versions.append(answer.result().stat.version)

            async def look() -> None:
                while True:
                    if (await zk.get("/a")).stat.version > versions[-1]:
                        told_before.append(len(events) >= len(versions))

            read()
            while not versions:
                await settle(zk)
            looking = asyncio.create_task(look())
            await asyncio.gather(*[other.set("/a", b"%d" % number) for number in range(200)])
            await zk.sync()
            while versions[-1] != 200:
                await settle(zk)
            looking.cancel()
            assert len(events) == len(versions) - 1
            assert all(told_before)
            assert versions == sorted(set(versions))

    asyncio.run(main())


def test_kazoo_29_151_218_rust_zookeeper_97_watches_outlive_a_reconnection(shared: Server) -> None:
    async def main() -> None:
        with Gate(shared.port) as gate:
            async with client(gate.address + "/chroot") as zk, client(shared.address) as other:
                await zk.ensure("/")
                for each in ("changed", "deleted", "quiet", "parent", "quiet_parent"):
                    await zk.create(f"/{each}")
                events: list[WatchEvent] = []
                for each in ("changed", "deleted", "quiet"):
                    await zk.get(f"/{each}", watch=events.append)
                for each in ("parent", "quiet_parent"):
                    await zk.get_children(f"/{each}", watch=events.append)
                for each in ("missing", "never"):
                    assert await zk.exists(f"/{each}", watch=events.append) is None
                suspended = asyncio.create_task(zk.suspended())
                await asyncio.sleep(0)
                gate.close()
                await suspended
                await other.set("/chroot/changed", b"1")
                await other.delete("/chroot/deleted")
                await other.create("/chroot/parent/child")
                await other.create("/chroot/missing")
                gate.open()
                await zk.connected()
                await settle(zk)
                assert sorted(kinds(events)) == sorted(
                    [(CHANGED, "/changed"), (DELETED, "/deleted"), (CHILDREN, "/parent"), (CREATED, "/missing")]
                )
                events.clear()
                # Those have fired and are gone, the others still wait.
                await other.set("/chroot/changed", b"2")
                await other.set("/chroot/quiet", b"2")
                await other.create("/chroot/quiet_parent/child")
                await other.create("/chroot/never")
                await zk.sync()
                assert kinds(events) == [(CHANGED, "/quiet"), (CHILDREN, "/quiet_parent"), (CREATED, "/never")]

    asyncio.run(main())


def test_zookeeper_4475_a_recursive_watch_is_not_told_what_a_watch_of_children_is(shared: Server) -> None:
    """Both are the same client's: the server tells it, and the client must know whom to tell."""

    async def main() -> None:
        async with client(shared.address) as zk, client(shared.address) as other:
            await zk.create("/a")
            below: list[WatchEvent] = []
            children: list[WatchEvent] = []
            lasting: list[WatchEvent] = []
            await zk.add_watch("/", below.append, recursive=True)
            await zk.add_watch("/a", lasting.append)
            await zk.get_children("/a", watch=children.append)
            await other.create("/a/b")
            await other.create("/a/b/c")
            await other.delete("/a/b/c")
            await zk.sync()
            assert kinds(children) == [(CHILDREN, "/a")]
            assert kinds(lasting) == [(CHILDREN, "/a")]
            assert kinds(below) == [(CREATED, "/a/b"), (CREATED, "/a/b/c"), (DELETED, "/a/b/c")]

    asyncio.run(main())


def test_what_changed_while_the_answer_was_on_its_way_is_not_lost(shared: Server) -> None:
    # The connection breaks between the server's answer and the client's: the read is asked again, with its watch.
    async def main() -> None:
        async with client(shared.address) as zk, client(shared.address) as other:
            await other.create("/a", b"old")
            events: list[WatchEvent] = []
            reading = zk.get("/a", watch=events.append)
            zk.reconnect()
            await other.set("/a", b"new")
            assert (await reading).data == b"new"
            assert events == []
            await other.set("/a", b"newest")
            await zk.sync()
            assert kinds(events) == [(CHANGED, "/a")]

    asyncio.run(main())


def test_watches_that_a_server_refuses_to_set_anew_are_not_lost_in_silence() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            reading = zk.get("/a", watch=lambda _: None)
            await visit.answer(OpCode.GET_DATA, znode_body(), zxid=30)
            await reading
            for _ in range(2):
                visit.reset()
                visit = await peer.visit()
                await visit.accept()
                request = await visit.expect(OpCode.SET_WATCHES)
                assert SetWatches.from_bytes(request.body) == SetWatches(30, [b"/a"], [], [])
                visit.send(reply(Xid.SET_WATCHES, error=-6, zxid=-1))
            visit = await peer.visit()
            await visit.accept()
            await visit.expect(OpCode.SET_WATCHES)
            visit.send(reply(Xid.SET_WATCHES))
            peer.look_after(visit)

    asyncio.run(main())


def test_lasting_watches_tell_everything(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address + "/chroot") as zk, client(shared.address + "/chroot") as other:
            await zk.ensure("/a")
            every: list[WatchEvent] = []
            async with (
                zk.watch("/a", recursive=True) as below,
                zk.watch("/a") as alone,
                zk.watch("/", recursive=True, callback=every.append),
            ):
                await other.create("/a/b")
                await other.set("/a/b", b"1")
                await other.set("/a", b"1")
                await other.delete("/a/b")
                await other.delete("/a")
                await other.create("/a")
                expected = [
                    (CREATED, "/a/b"),
                    (CHANGED, "/a/b"),
                    (CHANGED, "/a"),
                    (DELETED, "/a/b"),
                    (DELETED, "/a"),
                    (CREATED, "/a"),
                ]
                assert kinds([await anext(below) for _ in expected]) == expected
                assert kinds([await anext(alone) for _ in range(5)]) == [
                    (CHILDREN, "/a"),
                    (CHANGED, "/a"),
                    (CHILDREN, "/a"),
                    (DELETED, "/a"),
                    (CREATED, "/a"),
                ]
                await zk.sync()
                assert kinds(every) == expected
                assert [each.zxid for each in every] == sorted(each.zxid for each in every)
            assert not await zk.has_watches("/a")
            assert not await zk.has_watches("/")

    asyncio.run(main())


def test_lasting_watches_outlive_a_reconnection_and_a_session(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address) as zk, client(shared.address) as other:
            watches = zk.watch("/a"), zk.watch("/", recursive=True)
            async with watches[0] as one, watches[1] as all_of_them:
                for way in ("connection", "session"):
                    reached = asyncio.create_task(zk.lost() if way == "session" else zk.suspended())
                    await asyncio.sleep(0)
                    if way == "session":
                        assert zk.session is not None
                        shared.expire_session(zk.session.id)
                    else:
                        zk.reconnect()
                    await reached
                    assert await anext(one) == WatchEvent(EventKind.MISSED, "/a")
                    assert await anext(all_of_them) == WatchEvent(EventKind.MISSED, "/")
                    await settle(zk)
                    created = await other.create("/a")
                    assert await anext(one) == WatchEvent(CREATED, "/a", created.zxid)
                    assert await anext(all_of_them) == WatchEvent(CREATED, "/a", created.zxid)
                    await other.delete("/a")
                    assert (await anext(one)).kind is DELETED
                    assert (await anext(all_of_them)).kind is DELETED

    asyncio.run(main())


def test_a_watch_that_ends_does_not_end_another_one_that_begins(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address) as zk, client(shared.address) as other:
            for recursive in (False, True):
                for first_ends_first in (True, False):
                    first = await zk.watch("/a", recursive=recursive).start()
                    second = zk.watch("/a", recursive=recursive)
                    steps = [first.close(), second.start()]
                    await asyncio.gather(*(steps if first_ends_first else reversed(steps)))
                    await other.create("/a")
                    assert kinds([await anext(second)]) == [(CREATED, "/a")]
                    await second.close()
                    assert not await zk.has_watches("/a")
                    await other.delete("/a")

    asyncio.run(main())


def test_a_watch_that_is_cancelled_or_closed_while_it_is_set_leaves_nothing(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address) as zk:

            async def cancel(task: asyncio.Task[Any], turns: int) -> None:
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()

            for turns in range(30):
                watch = zk.watch("/a")
                starting = asyncio.create_task(watch.start())
                await cancel(starting, turns)
                await asyncio.wait([starting])
                if not starting.cancelled():
                    await watch.close()
                await settle(zk)
                assert not await zk.has_watches("/a"), f"cancelled after {turns} turns"
                assert list(zk._keeper.watches.restore(0)) == []
            watch = zk.watch("/a")
            starting = asyncio.create_task(watch.start())
            await asyncio.sleep(0)
            await watch.close()
            with pytest.raises(RuntimeError, match="closed while it was set"):
                await starting
            assert not await zk.has_watches("/a")
            with pytest.raises(RuntimeError, match="closed; make another one"):
                await watch.start()
            assert zk._keeper.feed.listeners == []

    asyncio.run(main())


def test_who_has_given_up_is_not_called(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address) as zk:
            await zk.create("/a")
            events: list[WatchEvent] = []
            asked: list[Callable[[], Any]] = [
                lambda: zk.get("/a", watch=events.append),
                lambda: zk.exists("/a", watch=events.append),
                lambda: zk.exists("/b", watch=events.append),
                lambda: zk.get_children("/a", watch=events.append),
            ]
            for ask in asked:
                ask().cancel()
            await settle(zk)
            assert list(zk._keeper.watches.restore(0)) == []
            await zk.delete("/a")
            await zk.create("/b")
            assert events == []

    asyncio.run(main())


def test_two_readers_of_one_watch_share_its_events(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address) as zk:
            watch = zk.watch("/a")

            async def read() -> list[EventKind]:
                return [event.kind async for event in watch]

            readers = [asyncio.create_task(read()) for _ in range(3)]
            while not await zk.has_watches("/a"):
                pass
            await zk.create("/a")
            await zk.set("/a", b"")
            await zk.delete("/a")
            await settle(zk)
            await watch.close()
            found = await asyncio.gather(*readers)
            assert sorted(itertools.chain(*found)) == sorted([CREATED, CHANGED, DELETED])
            with pytest.raises(RuntimeError, match="callback"):
                aiter(zk.watch("/a", callback=lambda _: None))

    asyncio.run(main())


def test_removed_watches_are_told_so_and_iterators_end(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address) as zk:
            await zk.create("/a")
            events: list[WatchEvent] = []
            watch = await zk.watch("/a").start()
            await zk.get("/a", watch=events.append)
            await zk.get_children("/a", watch=events.append)
            await zk.remove_watches("/a", WatcherType.CHILDREN)
            assert kinds(events) == [(EventKind.CHILD_WATCH_REMOVED, "/a")]
            await zk.remove_watches("/a")
            assert kinds(events[1:]) == [(EventKind.DATA_WATCH_REMOVED, "/a")]
            assert [event.kind async for event in watch] == [EventKind.PERSISTENT_WATCH_REMOVED]
            await zk.set("/a", b"")
            assert len(events) == 2
            await zk.get("/a", watch=events.append)
            zk.forget_watches("/a")
            assert kinds(events[2:]) == [(EventKind.DATA_WATCH_REMOVED, "/a")]
            await watch.close()

    asyncio.run(main())


def test_a_watch_set_behind_a_removal_stays(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address) as zk:
            old, new = zk.watch("/a"), zk.watch("/a")
            await old.start()
            removing = asyncio.ensure_future(zk.remove_watches("/a"))
            await asyncio.gather(removing, new.start())
            await zk.create("/a")
            assert (await anext(new)).kind is CREATED
            assert (await anext(old)).kind is EventKind.PERSISTENT_WATCH_REMOVED

    asyncio.run(main())


def test_a_reader_that_is_too_slow_is_told_so(shared: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "QUEUED_MAX", 10)

    async def main() -> None:
        async with client(shared.address) as zk, zk.watch("/a") as watch:
            await zk.create("/a")
            await asyncio.gather(*[zk.set("/a", b"") for _ in range(14)])
            assert [(await anext(watch)).kind for _ in range(5)] == [EventKind.MISSED, *[CHANGED] * 4]

    asyncio.run(main())


def test_callbacks_that_fail_are_reported_and_harm_nobody(shared: Server) -> None:
    async def main() -> None:
        reports: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context["message"]))
        async with client(shared.address) as zk:
            events: list[WatchEvent] = []

            def fail(event: WatchEvent) -> None:
                raise LookupError

            async def fail_later(event: WatchEvent) -> None:
                raise LookupError

            for callback in (fail, fail_later, events.append):
                await zk.exists("/a", watch=callback)
            await zk.create("/a")
            assert kinds(events) == [(CREATED, "/a")]
            await settle(zk)
        assert len(reports) == 2
        assert all("watch callback for WatchEvent(kind=<EventKind.CREATED" in report for report in reports)

    asyncio.run(main())


def test_the_configuration_has_one_path_for_everybody() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer, chroot="/app") as (zk, visit):
            events: list[WatchEvent] = []
            asking = zk.get_config(watch=events.append)
            request = await visit.answer(OpCode.GET_DATA, znode_body())
            assert request.path == "/zookeeper/config"
            await asking
            visit.send(event(3, "/zookeeper/config", zxid=7))
            while not events:
                await asyncio.sleep(0.001)
            assert events == [WatchEvent(CHANGED, "/zookeeper/config", 7)]

    asyncio.run(main())


def test_a_watch_ends_with_its_client(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address) as zk:
            watch = zk.watch("/a")
            reader = asyncio.create_task(anext(watch, None))
            while not await zk.has_watches("/a"):
                pass
        assert await reader is None
        await watch.close()
        assert zk.state is State.CLOSED

    asyncio.run(main())


@pytest.mark.slow
def test_zookeeper_706_100_000_watches_with_long_paths_come_back(shared: Server) -> None:
    number = 100_000

    async def main() -> None:
        with Gate(shared.port) as gate:
            slow: dict[str, Any] = {"patience": 100, "session_timeout": 60}
            async with client(gate.address, **slow) as zk, client(shared.address, **slow) as other:
                events: list[str] = []
                paths = [f"/{index:06d}{'x' * 180}" for index in range(number)]
                for first in range(0, number, 5000):
                    batch = paths[first : first + 5000]
                    await asyncio.gather(*[zk.exists(path, watch=lambda e: events.append(e.path)) for path in batch])
                suspended = asyncio.create_task(zk.suspended())
                await asyncio.sleep(0)
                gate.close()
                await suspended
                missed = paths[::1000]
                for path in missed:
                    await other.create(path)
                gate.open()
                await zk.connected()
                await settle(zk)
                assert sorted(events) == missed, "what happened meanwhile, each once"
                events.clear()
                for path in paths[1::1000]:
                    await other.create(path)
                await zk.sync()
                assert sorted(events) == paths[1::1000]

    asyncio.run(main())


def test_a_watch_that_cannot_be_set_says_why() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            watch = zk.watch("/a")
            starting = asyncio.create_task(watch.start())
            for left in reversed(range(5)):
                await visit.expect(OpCode.ADD_WATCH)
                visit.reset()
                visit = await peer.visit()
                await visit.accept()
                if left:
                    await visit.expect(OpCode.SET_WATCHES2)
                    visit.send(reply(Xid.SET_WATCHES))
            with pytest.raises(ConnectionLoss):
                await starting
            peer.look_after(visit)
            # Nothing is left of the first attempt, and there may be another.
            assert list(zk._keeper.watches.restore(0)) == []
            async with watch:
                assert len(list(zk._keeper.watches.restore(0))) == 1

    asyncio.run(main())
