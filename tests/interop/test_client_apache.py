"""Corral's client against Apache's server and Corral's: operations, watches, sessions, reconnections."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.client_peer import PATIENCE_S
from tests.interop.gate import Gate
from tests.interop.peers import Server

from corral.client import (
    CREATOR,
    NULL,
    OPEN,
    AuthFailedError,
    BadVersionError,
    Client,
    ConnectionLoss,
    EventKind,
    Identity,
    KeeperError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    NoWatcherError,
    State,
    TransactionError,
    UnimplementedError,
    WatcherType,
    WatchEvent,
    connect,
)
from corral.client.states import Session
from corral.jute.ops import OpCode


@pytest.fixture(scope="module")
def server_properties() -> dict[str, str | int]:
    return {
        "zookeeper.extendedTypesEnabled": "true",
        "znode.container.checkIntervalMs": 200,
        "zookeeper.DigestAuthenticationProvider.superDigest": "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=",
    }


@pytest.fixture
def chroot(server: Server, request: pytest.FixtureRequest) -> str:
    """A connect string below which only this test lives."""
    return f"{server.address}/{re.sub(r'[^a-z0-9_]+', '_', request.node.name.lower())}/chroot"


@asynccontextmanager
async def client(address: str, **options: Any) -> AsyncIterator[Client]:
    options.setdefault("backoff_first", 0.01)
    options.setdefault("backoff_max", 0.1)
    async with asyncio.timeout(PATIENCE_S * 2), connect(address, **options) as zk:
        await zk.ensure("/")
        yield zk


def run(chroot: str, scenario: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with client(chroot) as zk:
            await scenario(zk)

    asyncio.run(main())


def kinds(events: list[WatchEvent]) -> list[tuple[EventKind, str]]:
    return [(each.kind, each.path) for each in events]


def test_reading_and_writing(chroot: str) -> None:
    async def scenario(zk: Client) -> None:
        created = await zk.create("/a", b"1")
        assert created == "/a"
        assert await zk.get("/a") == (b"1", created.stat)
        stat = await zk.set("/a", b"22", version=0)
        assert (stat.version, stat.data_length, stat.czxid) == (1, 2, created.zxid)
        assert await zk.exists("/a") == stat
        assert await zk.exists("/b") is None
        await zk.create("/a/x")
        await zk.create("/a/y", NULL)
        assert (await zk.get("/a/y")).data is NULL
        assert (await zk.get("/a/x")).data is not NULL
        names, stat = await zk.get_listing("/a")
        assert (sorted(names), stat.num_children) == (["x", "y"], 2)
        assert sorted(await zk.get_children("/a")) == ["x", "y"]
        assert await zk.count_descendants("/a") == 2
        await zk.sync("/a")
        for call, error in (
            (zk.get("/no"), NoNodeError),
            (zk.create("/a"), NodeExistsError),
            (zk.delete("/a"), NotEmptyError),
            (zk.set("/a", b"", version=7), BadVersionError),
            (zk.remove_watches("/a"), NoWatcherError),
        ):
            with pytest.raises(error):
                await call
        assert [path async for path, _ in zk.walk("/a")] == ["/a", "/a/x", "/a/y"]
        assert await zk.delete_tree("/a") == 3

    run(chroot, scenario)


def test_kinds_of_znodes(chroot: str) -> None:
    async def scenario(zk: Client) -> None:
        assert zk.session is not None
        ephemeral = await zk.create("/e", ephemeral=True)
        assert ephemeral.stat.ephemeral_owner == zk.session.id
        sequential = await zk.create("/es-", ephemeral=True, sequential=True)
        assert sequential == "/es-0000000001"
        assert await zk.create("/d/", sequential=True, parents=True) == "/d/0000000000"
        assert sorted(await zk.get_ephemerals()) == ["/e", "/es-0000000001"]
        protected = await zk.create("/d/p-", sequential=True, ephemeral=True, protected=True)
        assert re.fullmatch(r"/d/_c_[0-9a-f]{32}-p-0000000001", protected)
        # A container goes with its last child, a TTL znode when it has been left alone for so long.
        gone = [asyncio.Event(), asyncio.Event()]
        await zk.create("/c", container=True)
        await zk.create("/c/child")
        await zk.create("/t", ttl=3)
        for path, event in zip(("/c", "/t"), gone, strict=True):
            await zk.exists(path, watch=lambda _, event=event: event.set())  # type: ignore[misc]
        await zk.delete("/c/child")
        await asyncio.gather(*[event.wait() for event in gone])
        assert await zk.exists("/t") is None

    run(chroot, scenario)


def test_identities_and_access(chroot: str) -> None:
    async def scenario(zk: Client) -> None:
        await zk.add_auth("digest", "ada:secret")
        assert Identity("digest", "ada") in await zk.who_am_i()
        await zk.create("/private", b"x", acl=CREATOR)
        (entry,) = (await zk.get_acl("/private")).acl
        assert (entry.scheme, entry.permissions) == ("digest", "cdrwa")
        zk.reconnect()
        assert (await zk.get("/private")).data == b"x"
        async with client(chroot) as stranger:
            with pytest.raises(NoAuthError):
                await stranger.get("/private")
            assert isinstance((await stranger.get_many(["/private"]))[0], NoAuthError)
            with pytest.raises((AuthFailedError, ConnectionLoss)):
                await stranger.add_auth("nonsense", b"")
            await stranger.sync()
        stat = await zk.set_acl("/private", OPEN, version=0)
        assert stat.aversion == 1

    run(chroot, scenario)


def test_many_at_once(chroot: str) -> None:
    async def scenario(zk: Client) -> None:
        async with zk.transaction() as t:
            t.create("/a", b"1")
            t.create("/a/s-", sequential=True)
            t.create("/a/c", container=True)
            t.create("/a/t", ttl=60)
            t.check("/a", version=0)
            t.delete("/a/c")
            t.set("/a", b"2")
        a, sequential, container, ttl, checked, deleted, changed = t.results
        assert (a, sequential, container, ttl) == ("/a", "/a/s-0000000000", "/a/c", "/a/t")
        assert (checked, deleted) == (None, None)
        assert changed is not None
        assert changed == await zk.exists("/a")
        t = zk.transaction()
        t.create("/b")
        t.check("/a", version=77)
        with pytest.raises(TransactionError, match="operation 1 of 2: /a: bad version"):
            await t.commit()
        first, missing = await zk.get_many(["/a", "/b"])
        assert first == await zk.get("/a")
        assert isinstance(missing, NoNodeError)
        assert await zk.get_many([]) == []
        stats = await asyncio.gather(*[zk.set("/a", b"%d" % number) for number in range(3000)])
        assert [stat.version for stat in stats] == list(range(2, 3002))

    run(chroot, scenario)


def test_watches(chroot: str) -> None:
    async def scenario(zk: Client) -> None:
        events: list[WatchEvent] = []
        await zk.exists("/a", watch=events.append)
        created = await zk.create("/a")
        assert events == [WatchEvent(EventKind.CREATED, "/a", created.zxid)]
        async with zk.watch("/a", recursive=True) as below, zk.watch("/a") as alone:
            assert await zk.has_watches("/a", WatcherType.PERSISTENT_RECURSIVE)
            await zk.create("/a/b")
            await zk.set("/a", b"")
            await zk.delete("/a/b")
            expected = [(EventKind.CREATED, "/a/b"), (EventKind.DATA_CHANGED, "/a"), (EventKind.DELETED, "/a/b")]
            assert kinds([await anext(below) for _ in expected]) == expected
            expected = [
                (EventKind.CHILDREN_CHANGED, "/a"),
                (EventKind.DATA_CHANGED, "/a"),
                (EventKind.CHILDREN_CHANGED, "/a"),
            ]
            assert kinds([await anext(alone) for _ in expected]) == expected
        assert not await zk.has_watches("/a")
        first, second = zk.watch("/a"), zk.watch("/a")
        await first.start()
        await asyncio.gather(first.close(), second.start())
        await zk.set("/a", b"")
        assert (await anext(second)).kind is EventKind.DATA_CHANGED
        await zk.get("/a", watch=events.append)
        await zk.remove_watches("/a")
        assert kinds(events[1:]) == [(EventKind.DATA_WATCH_REMOVED, "/a")]
        assert [event.kind async for event in second] == [EventKind.PERSISTENT_WATCH_REMOVED]

    run(chroot, scenario)


def test_a_session_and_its_watches_outlive_reconnections(chroot: str, server: Server) -> None:
    async def main() -> None:
        with Gate(server.port) as gate:
            below = chroot.removeprefix(server.address)
            async with client(gate.address + below) as zk, client(chroot) as other:
                session, states = zk.session, list[State]()
                zk.on_state(states.append)
                await zk.create("/mine", ephemeral=True)
                events: list[WatchEvent] = []
                for name in ("changed", "deleted", "quiet"):
                    await zk.create(f"/{name}")
                    await zk.get(f"/{name}", watch=events.append)
                await zk.exists("/missing", watch=events.append)
                await zk.get_children("/quiet", watch=events.append)
                watch = await zk.watch("/", recursive=True).start()
                suspended = asyncio.create_task(zk.suspended())
                await asyncio.sleep(0)
                gate.close()
                await suspended
                await other.set("/changed", b"")
                await other.delete("/deleted")
                await other.create("/missing")
                reading = zk.get("/mine")
                gate.open()
                znode = await reading
                assert session is not None
                assert znode.stat.ephemeral_owner == session.id
                assert zk.session is session
                assert states == [State.SUSPENDED, State.CONNECTED]
                await zk.sync()
                assert sorted(kinds(events)) == [
                    (EventKind.CREATED, "/missing"),
                    (EventKind.DELETED, "/deleted"),
                    (EventKind.DATA_CHANGED, "/changed"),
                ]
                assert (await anext(watch)).kind is EventKind.MISSED
                events.clear()
                await other.create("/quiet/child")
                await other.set("/quiet", b"")
                await zk.sync()
                assert kinds(events) == [(EventKind.CHILDREN_CHANGED, "/quiet"), (EventKind.DATA_CHANGED, "/quiet")]
                # What the server told anew for the others comes here too, without a zxid.
                told = [await anext(watch) for _ in range(5)]
                assert kinds([each for each in told if each.zxid > 0]) == [
                    (EventKind.CREATED, "/quiet/child"),
                    (EventKind.DATA_CHANGED, "/quiet"),
                ]

    asyncio.run(main())


def test_a_session_ends_and_another_one_begins(chroot: str, server: Server) -> None:
    async def main() -> None:
        with Gate(server.port) as gate:
            below = chroot.removeprefix(server.address)
            async with client(gate.address + below, session_timeout=3.0) as zk, client(chroot) as other:
                await zk.create("/mine", ephemeral=True)
                events: list[WatchEvent] = []
                await zk.get("/mine", watch=events.append)
                first = zk.session
                gone, lost = asyncio.Event(), asyncio.create_task(zk.lost())
                await other.exists("/mine", watch=lambda _: gone.set())
                gate.close()
                await lost
                assert events == [WatchEvent(EventKind.LOST, "/mine")]
                assert first is not None
                assert first.has_ended
                # We knew before the service let others have what was ours.
                await gone.wait()
                gate.open()
                assert await zk.exists("/mine") is None
                assert zk.session is not first
                # The service ends a session that closes it, at once.
                await zk.create("/mine", ephemeral=True)
                gone.clear()
                await other.exists("/mine", watch=lambda _: gone.set())
                await zk.close()
                await gone.wait()

    asyncio.run(main())


def test_a_session_that_the_server_has_ended_is_refused(chroot: str, server: Server) -> None:
    async def main() -> None:
        with Gate(server.port) as gate:
            below = chroot.removeprefix(server.address)
            async with client(gate.address + below) as zk:
                await zk.create("/mine", ephemeral=True)
                first = zk.session
                assert first is not None
                # Somebody else with the same session closes it, and cannot lose it again to its owner meanwhile.
                gate.close()
                await zk.suspended()
                thief = connect(server.address)
                thief._keeper.session = Session(first.id, first.password, first.timeout, read_only=False)
                async with thief:
                    pass
                assert not first.has_ended
                gate.open()
                await first.ended()
                await zk.connected()
                assert zk.session is not first
                assert await zk.exists("/mine") is None

    asyncio.run(main())


def test_requests_under_way_when_connections_break(chroot: str, server: Server) -> None:
    async def main() -> None:
        with Gate(server.port) as gate:
            below = chroot.removeprefix(server.address)
            async with client(gate.address + below) as zk:
                await zk.create("/counter")
                done = lost = 0
                for _ in range(5):
                    calls = [asyncio.ensure_future(zk.create("/counter/n-", sequential=True)) for _ in range(200)]
                    reads = [asyncio.ensure_future(zk.get("/counter")) for _ in range(50)]
                    protected = asyncio.ensure_future(zk.create("/p-", sequential=True, ephemeral=True, protected=True))
                    # It may be lost: the break before may be noticed only now.
                    await asyncio.wait([calls[20]])
                    gate.cut()
                    outcomes = await asyncio.gather(*calls, return_exceptions=True)
                    await asyncio.gather(*reads)
                    await protected
                    done += sum(isinstance(each, str) for each in outcomes)
                    lost += sum(isinstance(each, ConnectionLoss) for each in outcomes)
                assert done + lost == 1000
                await zk.sync()
                there = len(await zk.get_children("/counter"))
                assert done <= there <= done + lost
                assert len([name for name in await zk.get_children("/") if name.startswith("_c_")]) == 5

    asyncio.run(main())


def test_the_ensemble_s_configuration(chroot: str) -> None:
    async def scenario(zk: Client) -> None:
        config = await zk.get_config()
        assert isinstance(config.data, bytes)
        with pytest.raises(KeeperError):
            await zk.reconfig(leaving=["3"])

    run(chroot, scenario)


def test_unknown_operations_are_refused_and_the_client_goes_on(chroot: str) -> None:
    async def scenario(zk: Client) -> None:
        with pytest.raises(UnimplementedError, match="nonsense: unimplemented"):
            await zk.submit(OpCode.DELETE_CONTAINER + 900, b"", lambda *_: None, "nonsense", repeatable=False)
        # Thereupon the server has closed the connection.
        await zk.ensure("/a")

    run(chroot, scenario)


def test_the_cache_and_the_follower(chroot: str, server: Server) -> None:
    async def main() -> None:
        with Gate(server.port) as gate:
            below = chroot.removeprefix(server.address)
            async with client(gate.address + below) as zk, client(chroot) as other:
                await other.create("/top/a", b"1", parents=True)
                async with zk.cache("/top") as cache, zk.follow("/top") as changes:
                    assert cache["/top/a"].data == b"1"
                    assert [(await anext(changes)).path for _ in range(2)] == ["/top", "/top/a"]
                    suspended = asyncio.create_task(zk.suspended())
                    await asyncio.sleep(0)
                    gate.close()
                    await suspended
                    await other.set("/top/a", b"2")
                    await other.create("/top/b")
                    gate.open()
                    await zk.connected()
                    await cache.sync()
                    assert cache["/top/a"].data == b"2"
                    assert "/top/b" in cache
                    kinds = [(await anext(changes)).kind.name for _ in range(3)]
                    assert kinds == ["RESYNCHRONISED", "UPDATE", "PUT"]

    asyncio.run(main())
