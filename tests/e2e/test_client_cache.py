"""The subtree cache and the lossless watcher, while others write and connections and sessions go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest

from corral.client import (
    Cache,
    Change,
    ChangeKind,
    Client,
    ClientClosedError,
    EventKind,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    SessionExpired,
    WatchEvent,
    connect,
)
from corral.client.errors import NoAuthError
from corral.client.results import Acl
from corral.testing import Address, Server, SessionNotFoundError

PATIENCE_S = 20
"""Nothing here takes long; a test that hangs says so."""


@pytest.fixture
def shared(zookeeper_shared: Address) -> Server:
    """The run's one server, empty."""
    return zookeeper_shared.server


@asynccontextmanager
async def clients(server: Server, number: int = 2) -> AsyncIterator[list[Client]]:
    made = [connect(str(server.address), session_timeout=5, backoff_first=0.001) for _ in range(number)]
    async with asyncio.timeout(PATIENCE_S):
        for each in made:
            await each.start()
        try:
            yield made
        finally:
            for each in made:
                await each.close()


async def synced(zk: Client, cache: Cache) -> None:
    """Wait until the cache is, although the client may only now hear that its session has ended."""
    while True:
        with suppress(SessionExpired):
            return await zk.persist(cache.sync)


def by_path(changes: list[Change]) -> list[tuple[ChangeKind, str]]:
    return [(change.kind, change.path) for change in changes]


def test_cache_holds_the_subtree_and_tells_what_changes(shared: Server) -> None:
    async def main() -> None:
        async with clients(shared) as (zk, other):
            await other.create("/top/a/b", b"1", parents=True)
            await other.create("/topmost", b"not below /top")
            async with zk.cache("/top") as cache:
                assert sorted(cache) == ["/top", "/top/a", "/top/a/b"]
                assert cache["/top/a/b"].data == b"1"
                assert cache.children("/top") == ["a"]
                assert cache.get("/top/no") is None
                assert "/topmost" not in cache
                assert cache.is_current
                seen: list[Change] = []
                cache.on_change(seen.append)
                async with other.transaction() as t:
                    t.set("/top/a/b", b"2")
                    t.create("/top/a/c", b"3")
                await other.delete("/top/a/b")
                await cache.sync()
                # The znode was gone before it could be read again.
                assert by_path(seen) in (
                    [(ChangeKind.UPDATE, "/top/a/b"), (ChangeKind.PUT, "/top/a/c"), (ChangeKind.REMOVE, "/top/a/b")],
                    [(ChangeKind.PUT, "/top/a/c"), (ChangeKind.REMOVE, "/top/a/b")],
                )
                assert seen[-1].previous is not None
                assert cache.children("/top/a") == ["c"]
                assert cache.snapshot().keys() == {"/top", "/top/a", "/top/a/c"}
                cache.off_change(seen.append)
                await other.delete_tree("/top")
                await cache.sync()
                assert len(cache) == 0
                assert len(seen) <= 3
            assert not cache.is_current

    asyncio.run(main())


def test_top_need_not_exist(shared: Server) -> None:
    async def main() -> None:
        async with clients(shared) as (zk, other), zk.cache("/later") as cache, zk.follow("/later") as changes:
            assert len(cache) == 0
            await other.create("/later/x", b"y", parents=True)
            assert [by_path([await anext(changes)]), by_path([await anext(changes)])] == [
                [(ChangeKind.PUT, "/later")],
                [(ChangeKind.PUT, "/later/x")],
            ]
            await cache.sync()
            assert cache["/later/x"].data == b"y"

    asyncio.run(main())


def test_root_and_chroot(shared: Server) -> None:
    async def main() -> None:
        async with clients(shared, 1) as (zk,):
            await zk.ensure("/app/one")
            async with connect(f"{shared.address}/app") as below, below.cache("/") as cache:
                await zk.create("/app/two")
                await cache.sync()
                assert sorted(cache) == ["/", "/one", "/two"]
                assert cache.children("/") == ["one", "two"]

    asyncio.run(main())


def test_follower_hands_out_what_is_there_and_the_newest_of_what_changes(shared: Server) -> None:
    async def main() -> None:
        async with clients(shared) as (zk, other):
            await other.create("/top/a", b"1", parents=True)
            async with zk.follow("/top") as changes:
                for number in range(100):
                    await other.set("/top/a", b"%d" % number)
                await other.create("/top/end")
                await zk.sync()
                got = []
                async for change in changes:
                    got.append(change)
                    if change.path == "/top/end":
                        break
                assert by_path(got)[0] == (ChangeKind.PUT, "/top")
                states = [change.znode.data for change in got if change.path == "/top/a" and change.znode]
                assert states[-1] == b"99"
                assert [change.zxid for change in got] == sorted(change.zxid for change in got)
            with pytest.raises(StopAsyncIteration):
                await anext(changes)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["connection", "session"])
def test_nothing_is_lost_while_the_connection_is_away(shared: Server, how: str) -> None:
    async def main() -> None:
        async with clients(shared) as (zk, other):
            for name in "abcd":
                await other.create(f"/top/{name}", b"1", parents=True)
            async with zk.cache("/top") as cache:
                seen: list[Change] = []
                cache.on_change(seen.append)
                away = asyncio.ensure_future(zk.suspended() if how == "connection" else zk.lost())
                await asyncio.sleep(0)
                if how == "connection":
                    zk.reconnect()
                else:
                    assert zk.session is not None
                    shared.expire_session(zk.session.id)
                await away
                assert not cache.is_current
                async with other.transaction() as t:
                    t.set("/top/a", b"2")
                    t.delete("/top/b")
                    t.delete("/top/c")
                    t.create("/top/c", b"again")
                    t.create("/top/e", b"new")
                    t.create("/top/e/f", b"new")
                await zk.connected()
                await cache.sync()
                # Unless it was back before the transaction was done.
                resynchronised = (ChangeKind.RESYNCHRONISED, "/top")
                assert seen[0].kind is ChangeKind.RESYNCHRONISED or resynchronised not in by_path(seen)
                assert set(by_path(seen)) - {resynchronised} == {
                    (ChangeKind.UPDATE, "/top/a"),
                    (ChangeKind.REMOVE, "/top/b"),
                    (ChangeKind.UPDATE, "/top/c"),
                    (ChangeKind.PUT, "/top/e"),
                    (ChangeKind.PUT, "/top/e/f"),
                }
                assert sorted(cache) == [f"/top{each}" for each in ("", "/a", "/c", "/d", "/e", "/e/f")]
                assert cache["/top/c"].data == b"again"

    asyncio.run(main())


def test_a_connection_that_was_away_while_nothing_changed_tells_nothing(shared: Server) -> None:
    async def main() -> None:
        async with clients(shared) as (zk, other):
            await other.create("/top/a", parents=True)
            async with zk.cache("/top") as cache:
                seen: list[Change] = []
                cache.on_change(seen.append)
                zk.reconnect()
                await zk.connected()
                await cache.sync()
                assert seen == []

    asyncio.run(main())


async def _write(zk: Client, random: Random, number: int) -> None:
    paths = [f"/top/{a}{b}" for a in "abc" for b in ("", "/x", "/y", "/x/z")]
    for step in range(number):
        path = random.choice(paths)
        try:
            match random.randrange(4):
                case 0:
                    await zk.delete(path)
                case 1:
                    await zk.set(path, b"%d" % step)
                case _:
                    await zk.create(path, b"%d" % step)
        except (NoNodeError, NodeExistsError, NotEmptyError):
            continue


def test_what_was_told_before_a_connection_broke_is_older_than_what_is_found_after(shared: Server) -> None:
    """A removal that had been told, and a creation that waited for its turn, undid what the walk had found."""

    async def main() -> None:
        async with clients(shared) as (zk, other):
            await other.create("/top/again", b"new", parents=True)
            gone = await other.create("/top/gone")
            znode = await other.get("/top/gone")
            await other.delete("/top/gone")
            async with zk.cache("/top") as cache:
                reader = cache._reader
                reader._ready["/top/gone"] = Change(ChangeKind.PUT, "/top/gone", znode, gone.zxid)
                reader._take(WatchEvent(EventKind.DELETED, "/top/again", 1))
                reader._take(WatchEvent(EventKind.MISSED, "/top"))
                await cache.sync()
                assert {path: cache[path].data for path in cache} == {"/top": b"", "/top/again": b"new"}

    asyncio.run(main())


@pytest.mark.parametrize("seed", [1, *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 30)]])
def test_ends_equal_to_the_tree_whatever_happens_on_the_way(shared: Server, seed: int) -> None:
    async def main() -> None:
        random = Random(seed)
        async with clients(shared) as (zk, other):
            await other.create("/top")
            async with zk.cache("/top") as cache, zk.follow("/top") as follower:
                mirror: dict[str, bytes] = {}
                order: list[int] = []

                async def collect() -> None:
                    async for change in follower:
                        if change.kind is ChangeKind.RESYNCHRONISED:
                            order.clear()
                            continue
                        if order and change.znode is not None:
                            assert change.zxid >= order[-1]
                        if change.znode is None:
                            mirror.pop(change.path, None)
                        else:
                            order.append(change.zxid)
                            mirror[change.path] = change.znode.data

                collecting = asyncio.ensure_future(collect())
                for _ in range(6):
                    writing = asyncio.ensure_future(_write(other, random, 60))
                    await asyncio.sleep(random.random() / 100)
                    match random.randrange(3):
                        case 0:
                            zk.reconnect()
                        case 1 if zk.session is not None:
                            # It may have been ended a moment ago, and the client does not know yet.
                            with suppress(SessionNotFoundError):
                                shared.expire_session(zk.session.id)
                        case _:
                            pass
                    await writing
                await other.create("/top/end")
                await synced(zk, cache)
                expected = {path: data or b"" for path, data in shared.tree().items() if path.startswith("/top")}
                assert {path: cache[path].data for path in cache} == expected
                while mirror != expected:
                    await asyncio.sleep(0.01)
                    assert not collecting.done()
            await collecting

    asyncio.run(main())


def test_what_may_not_be_read_is_left_out(shared: Server) -> None:
    async def main() -> None:
        async with clients(shared) as (zk, other):
            await other.create("/top/open", parents=True)
            await other.create("/top/secret", acl=[Acl("digest", "nobody:x", "cdrwa")])
            async with zk.cache("/top") as cache:
                assert sorted(cache) == ["/top", "/top/open"]
                with pytest.raises(NoAuthError):
                    await zk.get("/top/secret")

    asyncio.run(main())


def test_iterators_end_with_the_client(shared: Server) -> None:
    async def main() -> None:
        async with clients(shared, 1) as (zk,):
            cache = await zk.cache("/top").start()
            follower = await zk.follow("/top").start()
            changes = cache.changes()
            waiting = [asyncio.ensure_future(anext(each)) for each in (changes, follower)]
            await asyncio.sleep(0)
            await zk.close()
            for each in waiting:
                with pytest.raises(StopAsyncIteration):
                    await each
            with pytest.raises(StopAsyncIteration):
                await anext(cache.changes())
            with pytest.raises(ClientClosedError):
                await cache.sync()
            await cache.close()
            await follower.close()
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            assert left == []

    asyncio.run(main())


@pytest.mark.slow
def test_a_hundred_thousand_children(shared: Server) -> None:
    """CURATOR-690: other caches fail past 64 thousand."""

    async def main() -> None:
        async with connect(str(shared.address), session_timeout=30) as zk:
            await zk.create("/many")
            for first in range(0, 100_000, 5000):
                await asyncio.gather(
                    *[zk.create(f"/many/a-name-of-some-length-{n:06}") for n in range(first, first + 5000)]
                )
            async with zk.cache("/many") as cache:
                assert len(cache) == 100_001
                zk.reconnect()
                await zk.suspended()
                await zk.connected()
                await zk.delete("/many/a-name-of-some-length-000007")
                await cache.sync()
                assert len(cache) == 100_000

    asyncio.run(main())
