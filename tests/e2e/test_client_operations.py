"""Every operation of the client, with and without a chroot, against a real server."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from tests.client_peer import PATIENCE_S, REFUSAL, Peer, connected, created_body, names_body, reply, stat_body

from corral.client import (
    CREATOR,
    NULL,
    OPEN,
    READ_ONLY,
    Acl,
    BadArgumentsError,
    BadVersionError,
    Client,
    Identity,
    InvalidAclError,
    KeeperError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    NotSent,
    NoWatcherError,
    RequestTooLargeError,
    RuntimeInconsistencyError,
    SessionExpired,
    TransactionError,
    WatcherType,
    connect,
)
from corral.jute.errors import ERRORS_BY_CODE, ErrorCode, error_of
from corral.jute.ops import OpCode
from corral.jute.owner import OwnerKind
from corral.server.pipeline import WritePipeline
from corral.server.standalone import Server as RealServer
from corral.testing import Address, Server


@pytest.fixture
def shared(zookeeper_shared: Address) -> Server:
    """The run's one server, empty."""
    return zookeeper_shared.server


@pytest.fixture(params=["", "/some/chroot"], ids=["root", "chroot"])
def address(shared: Server, request: pytest.FixtureRequest) -> str:
    """A connect string; what is below it is the same."""
    return shared.address + str(request.param)


@asynccontextmanager
async def client(address: str, **options: Any) -> AsyncIterator[Client]:
    options.setdefault("backoff_first", 0.001)
    async with asyncio.timeout(PATIENCE_S), connect(address, **options) as zk:
        await zk.ensure("/")
        yield zk


def run(address: str, scenario: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with client(address) as zk:
            await scenario(zk)

    asyncio.run(main())


def test_reading_and_writing(address: str) -> None:
    async def scenario(zk: Client) -> None:
        created = await zk.create("/a", b"1")
        assert created == "/a"
        assert created.stat.data_length == 1
        assert created.zxid == created.stat.czxid == zk.last_zxid
        assert await zk.get("/a") == (b"1", created.stat)
        stat = await zk.set("/a", b"22", version=0)
        assert (stat.version, stat.data_length, stat.czxid) == (1, 2, created.zxid)
        assert await zk.exists("/a") == stat
        assert await zk.exists("/b") is None
        await zk.create("/a/x")
        await zk.create("/a/y", NULL)
        assert (await zk.get("/a/x")).data == b""
        assert (await zk.get("/a/x")).data is not NULL
        assert (await zk.get("/a/y")).data is NULL
        assert sorted(await zk.get_children("/a")) == ["x", "y"]
        names, stat = await zk.get_listing("/a")
        assert sorted(names) == ["x", "y"]
        assert stat.num_children == 2
        assert await zk.count_descendants("/a") == 2
        await zk.sync("/a")
        await zk.delete("/a/x", version=0)
        assert await zk.get_children("/a") == ["y"]
        assert "a" in await zk.get_children("/")

    run(address, scenario)


def test_kinds_of_znodes(address: str) -> None:
    async def scenario(zk: Client) -> None:
        assert zk.session is not None
        await zk.create("/dir")
        ephemeral = await zk.create("/dir/e", ephemeral=True)
        assert ephemeral.stat.ephemeral_owner == zk.session.id
        assert ephemeral.stat.kind is OwnerKind.EPHEMERAL
        assert await zk.create("/dir/s-", sequential=True) == "/dir/s-0000000001"
        assert await zk.create("/dir/", sequential=True) == "/dir/0000000002"
        assert await zk.create("/dir/es-", sequential=True, ephemeral=True) == "/dir/es-0000000003"
        assert (await zk.create("/dir/c", container=True)).stat.kind is OwnerKind.PERSISTENT
        assert (await zk.create("/dir/t", ttl=12.5)).stat.kind is OwnerKind.PERSISTENT
        assert await zk.create("/dir/ts-", ttl=60, sequential=True) == "/dir/ts-0000000006"
        assert await zk.create("/deep/er/yet", b"x", parents=True, ephemeral=True) == "/deep/er/yet"
        assert sorted(await zk.get_ephemerals()) == ["/deep/er/yet", "/dir/e", "/dir/es-0000000003"]
        assert sorted(await zk.get_ephemerals("/dir")) == ["/dir/e", "/dir/es-0000000003"]
        protected = await zk.create("/new/p-", sequential=True, protected=True, parents=True)
        assert protected.startswith("/new/_c_")
        assert protected.endswith("-p-0000000000")

    run(address, scenario)


def test_ephemerals_beside_the_chroot_are_not_shown(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address + "/app") as zk:
            await zk.create("/in", ephemeral=True)
            # Another client's path, were it of this session: only the service can say.
            body = zk.encode_create("/x", b"", acl=OPEN, ephemeral=True, sequential=False, container=False, ttl=None)[1]
            await zk.submit(
                OpCode.CREATE2,
                body.replace(b"\0\0\0\6/app/x", b"\0\0\0\6/apple"),
                lambda *_: None,
                "",
                repeatable=False,
            )
            assert await zk.get_ephemerals() == ["/in"]

    asyncio.run(main())


def test_bad_input_is_named_before_anything_is_sent(address: str) -> None:
    async def scenario(zk: Client) -> None:
        bad: list[tuple[Callable[[], object], type[Exception], str]] = [
            (lambda: zk.get("a"), BadArgumentsError, "does not start with /"),
            (lambda: zk.get(""), BadArgumentsError, "does not start with /"),
            (lambda: zk.get("/a/"), BadArgumentsError, "ends with /"),
            (lambda: zk.get("/a//b"), BadArgumentsError, "empty element"),
            (lambda: zk.get("/a/../b"), BadArgumentsError, "relative element"),
            (lambda: zk.get("/\0"), BadArgumentsError, "not allowed at 1"),
            (lambda: zk.get("/\ud800"), BadArgumentsError, "not allowed at 1"),
            (lambda: zk.get(b"/a"), TypeError, "a path is a str, not b'/a'"),  # type: ignore[arg-type]
            (lambda: zk.create(None, sequential=True), TypeError, "a path is a str"),  # type: ignore[arg-type]
            (lambda: zk.set("/a", "text"), TypeError, "/a: data is bytes, not str"),  # type: ignore[arg-type]
            (lambda: zk.set("/a", bytes(1 << 20)), RequestTooLargeError, "servers accept 1048575"),
            (lambda: zk.set("/a", b"", version=1 << 31), BadArgumentsError, "version 2147483648"),
            (lambda: zk.delete("/a", version=-(1 << 40)), BadArgumentsError, "version"),
            (lambda: zk.create("/a", container=True, ephemeral=True), BadArgumentsError, "container"),
            (lambda: zk.create("/a", ttl=1, ephemeral=True), BadArgumentsError, "no ttl"),
            (lambda: zk.create("/a", ttl=0), BadArgumentsError, "not between 0.001"),
            (lambda: zk.create("/a", ttl=float("nan")), BadArgumentsError, "not between 0.001"),
            (lambda: zk.create("/a", ttl=float("inf")), BadArgumentsError, "not between 0.001"),
            (lambda: zk.create("/a", protected=True), BadArgumentsError, "protected is for sequential"),
            (lambda: zk.create("a", protected=True, sequential=True), BadArgumentsError, "does not start"),
            (lambda: zk.create("/a/", parents=True), BadArgumentsError, "ends with /"),
            (lambda: zk.create("/a", acl=()), ValueError, "lets nobody in"),
            (lambda: zk.create("/a", acl=["world"]), TypeError, "Acl entries"),  # type: ignore[list-item]
            (lambda: zk.create("/a", acl=[Acl("world", "anyone", "rx")]), ValueError, "'x' is none of"),
            (zk.reconfig, BadArgumentsError, "either members, or"),
            (lambda: zk.watch("a"), BadArgumentsError, "does not start with /"),
        ]
        for call, kind, text in bad:
            with pytest.raises(kind, match=text):
                call()
        assert await zk.exists("/a") is None

    run(address, scenario)


def test_the_service_s_refusals_name_the_path(address: str) -> None:
    async def scenario(zk: Client) -> None:
        await zk.create("/a")
        await zk.create("/a/b")
        await zk.create("/e", ephemeral=True)
        await zk.create("/closed", acl=READ_ONLY)
        refused: list[tuple[Awaitable[object], type[KeeperError]]] = [
            (zk.get("/no"), NoNodeError),
            (zk.get_children("/no"), NoNodeError),
            (zk.get_listing("/no"), NoNodeError),
            (zk.get_acl("/no"), NoNodeError),
            (zk.set("/no", b""), NoNodeError),
            (zk.delete("/no"), NoNodeError),
            (zk.create("/no/no"), NoNodeError),
            (zk.create("/a"), NodeExistsError),
            (zk.set("/a", b"", version=9), BadVersionError),
            (zk.delete("/a", version=9), BadVersionError),
            (zk.delete("/a"), NotEmptyError),
            (zk.create("/e/x"), NoChildrenForEphemeralsError),
            (zk.create("/closed/x"), NoAuthError),
            (zk.set("/closed", b""), NoAuthError),
            (zk.set_acl("/a", [Acl("auth", "")]), InvalidAclError),
            (zk.remove_watches("/a"), NoWatcherError),
        ]
        for answer, kind in refused:
            with pytest.raises(kind, match=r"/(a|no|e|closed)(/no|/x)?: "):
                await answer

    run(address, scenario)


def test_access_lists_and_identities(address: str) -> None:
    async def scenario(zk: Client) -> None:
        await zk.create("/a")
        assert (await zk.get_acl("/a")).acl == list(OPEN)
        await zk.add_auth("digest", "ada:secret")
        assert Identity("digest", "ada") in await zk.who_am_i()
        stat = await zk.set_acl("/a", CREATOR, version=0)
        assert stat.aversion == 1
        (entry,) = (await zk.get_acl("/a")).acl
        assert (entry.scheme, entry.id.partition(":")[0], entry.permissions) == ("digest", "ada", "cdrwa")
        assert Acl.parse(str(entry)) == entry
        async with connect(address) as stranger:
            with pytest.raises(NoAuthError):
                await stranger.get("/a")
            await stranger.add_auth("digest", b"ada:secret")
            await stranger.get("/a")
            stranger.reconnect()
            await stranger.get("/a")

    run(address, scenario)


def test_watches_can_be_asked_for_and_removed(address: str) -> None:
    async def scenario(zk: Client) -> None:
        assert not await zk.has_watches("/a")
        await zk.exists("/a", watch=lambda _: None)
        assert await zk.has_watches("/a")
        assert await zk.has_watches("/a", WatcherType.DATA)
        assert not await zk.has_watches("/a", WatcherType.CHILDREN)
        await zk.remove_watches("/a", WatcherType.DATA)
        assert not await zk.has_watches("/a")

    run(address, scenario)


def test_many_znodes_are_read_at_once(address: str) -> None:
    async def scenario(zk: Client) -> None:
        await zk.create("/a", b"1")
        await zk.create("/b", NULL)
        await zk.create("/closed", acl=[Acl("digest", "x:y")])
        a, b, missing, closed = await zk.get_many(["/a", "/b", "/no", "/closed"])
        assert a == await zk.get("/a")
        assert not isinstance(b, KeeperError)
        assert b.data is NULL
        assert isinstance(missing, NoNodeError)
        assert "/no" in str(missing)
        assert isinstance(closed, NoAuthError)
        assert await zk.get_many([]) == []

    run(address, scenario)


def test_transactions(address: str) -> None:
    async def scenario(zk: Client) -> None:
        await zk.create("/a", b"0")
        async with zk.transaction() as t:
            t.check("/a", version=0)
            t.set("/a", b"1")
            t.create("/a/s-", sequential=True)
            t.create("/a/e", ephemeral=True)
            t.create("/a/c", container=True)
            t.create("/a/t", ttl=5)
            t.delete("/a/e")
            assert len(t) == 7
        check, changed, sequential, ephemeral, container, ttl, deleted = t.results
        assert (check, deleted) == (None, None)
        assert (sequential, ephemeral, container, ttl) == ("/a/s-0000000000", "/a/e", "/a/c", "/a/t")
        assert not isinstance(changed, str)
        assert changed is not None
        assert changed.version == 1
        zxids = {each.stat.czxid for each in t.results if isinstance(each, str) and hasattr(each, "stat")}
        assert zxids == {changed.mzxid}
        t = zk.transaction()
        t.create("/b")
        t.delete("/no")
        t.set("/a", b"2")
        with pytest.raises(TransactionError, match="operation 1 of 3: /no: no node") as failed:
            await t.commit()
        assert failed.value.index == 1
        assert isinstance(failed.value.__cause__, NoNodeError)
        assert [type(each) for each in failed.value.results] == [
            RuntimeInconsistencyError,
            NoNodeError,
            RuntimeInconsistencyError,
        ]
        assert await zk.exists("/b") is None
        with suppress(LookupError):
            async with zk.transaction() as t:
                t.create("/b")
                raise LookupError
        assert await zk.exists("/b") is None
        with pytest.raises(RuntimeError, match="over"):
            t.create("/b")
        with pytest.raises(RuntimeError, match="over"):
            await t.commit()
        async with zk.transaction() as t:
            pass
        assert t.results == []
        async with zk.transaction() as t:
            t.create("/b")
            assert await t.commit() == ["/b"]
        assert t.results == ["/b"]

    run(address, scenario)


def test_ensure_creates_what_is_missing_and_no_more(address: str) -> None:
    async def scenario(zk: Client) -> None:
        await zk.ensure("/a/b/c")
        await zk.set("/a/b", b"kept")
        await zk.ensure("/a/b/c")
        await zk.ensure("/a/b/d")
        await zk.ensure("/")
        assert (await zk.get("/a/b")).data == b"kept"
        assert sorted(await zk.get_children("/a/b")) == ["c", "d"]
        # Who may not create in it may still find that it is there.
        await zk.create("/closed")
        await zk.create("/closed/there")
        await zk.set_acl("/closed", READ_ONLY)
        await zk.ensure("/closed/there")
        with pytest.raises(NoAuthError):
            await zk.ensure("/closed/not/there")

    run(address, scenario)


@pytest.mark.slow
def test_ensure_goes_deeper_than_calls_can_nest(shared: Server) -> None:
    async def scenario(zk: Client) -> None:
        depth = 1050
        await zk.ensure("/d" * depth)
        assert await zk.delete_tree("/d") == depth

    run(shared.address, scenario)


def test_a_subtree_is_walked_breadth_first(address: str) -> None:
    async def scenario(zk: Client) -> None:
        for path in ("/t/b/y", "/t/a/x", "/t/a/w", "/t/c"):
            await zk.ensure(path)
        walked = [path async for path, _ in zk.walk("/t")]
        assert walked == ["/t", "/t/a", "/t/b", "/t/c", "/t/a/w", "/t/a/x", "/t/b/y"]
        listings = [listing.names async for _, listing in zk.walk("/t")]
        assert listings[:2] == [["a", "b", "c"], ["w", "x"]]
        assert {"/", "/t", "/t/a/w"} <= {path async for path, _ in zk.walk()}
        with pytest.raises(NoNodeError):
            await anext(zk.walk("/no"))
        gone = []
        async for path, _ in zk.walk("/t"):
            gone.append(path)
            if path == "/t":
                await zk.delete("/t/c")
        assert "/t/a" in gone

    run(address, scenario)


def test_a_walk_that_is_left_early_leaves_nothing(shared: Server) -> None:
    async def main() -> None:
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        async with client(shared.address) as zk:
            await asyncio.gather(*[zk.create(f"/{number}") for number in range(100)])
            walk = zk.walk()
            async for path, _ in walk:
                if path == "/10":
                    await asyncio.gather(*[zk.delete(f"/{number}") for number in range(100)])
                    break
            await walk.aclose()  # type: ignore[attr-defined]
            await zk.sync()
        gc.collect()
        assert reports == []

    asyncio.run(main())


def test_subtrees_are_deleted_and_nothing_else(address: str, shared: Server) -> None:
    async def scenario(zk: Client) -> None:
        for path in ("/t/a/x", "/t/b", "/zookeeper2/x", "/u"):
            await zk.ensure(path)
        assert await zk.delete_tree("/t") == 4
        with pytest.raises(NoNodeError):
            await zk.delete_tree("/t")
        assert await zk.delete_tree("/") == 3
        assert await zk.get_children("/") in ([], ["zookeeper"])
        assert "/zookeeper2" not in shared.tree()

    run(address, scenario)


def test_a_subtree_in_which_others_create_is_deleted_all_the_same(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address) as zk, client(shared.address) as other:
            await zk.ensure("/t")
            await asyncio.gather(*[zk.create(f"/t/{number}") for number in range(300)])
            created = 0

            async def create() -> None:
                nonlocal created
                try:
                    while True:
                        await other.create(f"/t/{created % 300}/new-", sequential=True)
                        created += 1
                except NoNodeError:
                    pass

            creating = asyncio.create_task(create())
            while created < 20:
                await asyncio.sleep(0)
            deleted = await zk.delete_tree("/t")
            await creating
            assert await zk.exists("/t") is None
            assert deleted == 301 + created

    asyncio.run(main())


def test_a_subtree_whose_last_answer_is_lost_is_deleted() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            deleting = asyncio.create_task(zk.delete_tree("/t"))
            await visit.answer(OpCode.GET_CHILDREN2, names_body() + stat_body())
            await visit.expect(OpCode.DELETE)
            visit.reset()
            visit = await peer.visit()
            await visit.accept()
            await visit.answer(OpCode.GET_CHILDREN2, error=-101)
            assert await deleting == 0
            peer.look_after(visit)

    asyncio.run(main())


# Protected creation


def marker_of(path: str) -> str:
    return path.rpartition("/")[2].rpartition("-")[0]


async def lose_the_answer(
    zk: Client, peer: Peer, visit: Any, refusal: ErrorCode = ErrorCode.NO_NODE, **kind: Any
) -> tuple[asyncio.Task[Any], str, Any]:
    """A protected creation whose answer is lost, the name that it asked for, and the next connection."""
    creating = asyncio.ensure_future(zk.create("/q/n-", sequential=True, protected=True, **kind))
    request = await visit.expect(OpCode.CREATE2)
    visit.reset()
    visit = await peer.visit()
    await visit.accept()
    # Behind whatever of the lost request is still on its way.
    await visit.answer(OpCode.DELETE, error=refusal)
    return creating, request.path, visit


@pytest.mark.parametrize("refusal", [ErrorCode.NO_NODE, ErrorCode.NO_AUTH])
def test_a_protected_creation_that_was_done_is_found(refusal: ErrorCode) -> None:
    # Who may create in a znode need not be allowed to delete there.
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            assert zk.session is not None
            creating, name, visit = await lose_the_answer(zk, peer, visit, refusal, ephemeral=True)
            found = name + "0000000007"
            await visit.answer(OpCode.GET_CHILDREN, names_body("n-0000000001", found.rpartition("/")[2]))
            request = await visit.answer(OpCode.EXISTS, stat_body(owner=zk.session.id))
            assert request.path == found
            assert await creating == found
            peer.look_after(visit)

    asyncio.run(main())


def test_a_protected_creation_that_was_not_done_is_done_again() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            creating, name, visit = await lose_the_answer(zk, peer, visit)
            await visit.answer(OpCode.GET_CHILDREN, names_body("n-0000000001"))
            request = await visit.expect(OpCode.CREATE2)
            assert request.path == name
            visit.send(reply(request.xid, created_body(name + "0000000002")))
            assert await creating == name + "0000000002"
            peer.look_after(visit)

    asyncio.run(main())


def test_a_protected_creation_that_is_still_on_its_way_is_waited_for(zookeeper_server: Server) -> None:
    """The connection breaks while the service writes the creation down, and the client tries to be back before."""
    held: list[Callable[[], None]] = []

    async def hold_log(real: RealServer) -> None:
        pipeline = real.pipeline
        assert isinstance(pipeline, WritePipeline)
        write = pipeline._sync
        held.append(lambda: setattr(pipeline, "_sync", write))
        pipeline._sync = lambda done: write(lambda: held.append(done))

    async def let_go(real: RealServer) -> None:
        while len(held) < 2:
            await asyncio.sleep(0)
        for step in held:
            step()

    async def count_writes(real: RealServer) -> int:
        return real.pipeline.outstanding

    async def main() -> None:
        async with client(zookeeper_server.address) as zk:
            await zk.create("/q")

            def at_server(function: Callable[[RealServer], Coroutine[None, None, Any]]) -> Awaitable[Any]:
                return asyncio.to_thread(zookeeper_server._backend.call, function)

            await at_server(hold_log)
            creating = asyncio.ensure_future(zk.create("/q/n-", sequential=True, protected=True))
            while await at_server(count_writes) < 1:
                assert not creating.done()
            zk.reconnect()
            await zk.suspended()
            # The service takes it back only when what it has asked is done.
            assert await at_server(count_writes) == 1
            assert not creating.done()
            await at_server(let_go)
            created = await creating
            assert await zk.get_children("/q") == [created.removeprefix("/q/")]

    asyncio.run(main())


def test_curator_498_a_protected_creation_does_not_take_what_a_dying_session_owns() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            creating, name, visit = await lose_the_answer(zk, peer, visit, ephemeral=True)
            await visit.answer(OpCode.GET_CHILDREN, names_body(name.rpartition("/")[2] + "0000000007"))
            await visit.answer(OpCode.EXISTS, stat_body(owner=0x999))
            request = await visit.expect(OpCode.CREATE2)
            visit.send(reply(request.xid, created_body(name + "0000000008")))
            assert await creating == name + "0000000008"
            peer.look_after(visit)

    asyncio.run(main())


def test_curator_498_a_session_that_ends_ends_a_protected_creation(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address) as zk:
            await zk.create("/q")
            creating = asyncio.ensure_future(zk.create("/q/n-", sequential=True, ephemeral=True, protected=True))
            await asyncio.sleep(0)
            assert zk.session is not None
            shared.expire_session(zk.session.id)
            zk.reconnect()
            with pytest.raises(SessionExpired):
                await creating
            await zk.connected()
            assert await zk.get_children("/q") == []

    asyncio.run(main())


@pytest.mark.parametrize("is_ephemeral", [True, False])
def test_a_protected_creation_that_is_cancelled_leaves_nothing(shared: Server, is_ephemeral: bool) -> None:
    async def main() -> None:
        async with client(shared.address) as zk:
            await zk.create("/q")
            for turns in range(25):
                creating = asyncio.ensure_future(
                    zk.create("/q/n-", sequential=True, ephemeral=is_ephemeral, protected=True)
                )
                for _ in range(turns):
                    await asyncio.sleep(0)
                if turns % 5 == 4:
                    zk.reconnect()
                creating.cancel()
                await asyncio.wait([creating])
                if not creating.cancelled():
                    await zk.delete(creating.result())
                while [task for task in asyncio.all_tasks() if "removal" in task.get_name()]:
                    await asyncio.sleep(0.001)
                assert await zk.get_children("/q") == [], f"cancelled after {turns} turns"

    asyncio.run(main())


def test_a_protected_creation_without_a_connection_is_not_sent() -> None:
    async def main() -> None:
        async with Peer() as peer:
            options: dict[str, Any] = {"session_timeout": 0.1, "backoff_max": 0.01}
            async with connected(peer, **options) as (zk, _):
                suspended = asyncio.create_task(zk.suspended())
                await asyncio.sleep(0)
                await peer.stop()
                await suspended
                assert zk.session is not None
                zk.session.timeout = 0.1
                with pytest.raises(NotSent):
                    await zk.create("/n-", sequential=True, protected=True)

    asyncio.run(main())


def test_persist_goes_on_until_it_is_done_or_the_session_has_ended() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            deleting = asyncio.create_task(zk.persist(lambda: zk.delete("/a")))
            for _ in range(7):
                await visit.expect(OpCode.DELETE)
                visit.reset()
                visit = await peer.visit()
                await visit.accept()
            await visit.answer(OpCode.DELETE)
            await deleting
            deleting = asyncio.create_task(zk.persist(lambda: zk.delete("/a")))
            await visit.expect(OpCode.DELETE)
            visit.reset()
            visit = await peer.visit()
            await visit.handshake()
            visit.send(REFUSAL)
            visit = await peer.visit()
            await visit.accept()
            with pytest.raises(SessionExpired):
                await deleting
            peer.look_after(visit)

    asyncio.run(main())


# Errors


def test_every_error_code_is_an_exception_that_says_which() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            for code in filter(None, ErrorCode):
                deleting = asyncio.ensure_future(zk.delete("/a"))
                await visit.answer(OpCode.DELETE, error=code)
                with pytest.raises(KeeperError) as caught:
                    await deleting
                assert type(caught.value) is type(error_of(code, ""))
                assert str(caught.value).startswith("/a: ")
                if code in ERRORS_BY_CODE:
                    assert caught.value.code is code
                else:
                    assert str(int(code)) in str(caught.value)

    asyncio.run(main())


def test_an_unknown_error_is_named_by_its_number() -> None:
    async def main() -> None:
        async with Peer() as peer, connected(peer) as (zk, visit):
            deleting = asyncio.ensure_future(zk.delete("/a"))
            await visit.answer(OpCode.DELETE, error=-999)
            with pytest.raises(KeeperError, match="/a: error -999"):
                await deleting

    asyncio.run(main())


def test_thousands_in_flight_are_answered_in_order(shared: Server) -> None:
    async def main() -> None:
        async with client(shared.address) as zk:
            await zk.create("/n", b"")
            order: list[int] = []
            calls = [asyncio.ensure_future(zk.set("/n", b"%d" % number)) for number in range(5000)]
            numbers = {call: number for number, call in enumerate(calls)}
            for call in calls:
                call.add_done_callback(lambda call: order.append(numbers[call]))
            reads = [asyncio.ensure_future(zk.get("/n")) for _ in range(5000)]
            stats = await asyncio.gather(*calls)
            assert [stat.version for stat in stats] == list(range(1, 5001))
            assert {read.data for read in await asyncio.gather(*reads)} == {b"4999"}
            assert order == list(range(5000))

    asyncio.run(main())
