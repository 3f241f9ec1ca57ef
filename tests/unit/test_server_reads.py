"""Operations that change nothing but watches: what they answer, and to whom."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.in_process import Client, Reply, WatchedServer, create, serving

from corral.jute.errors import ErrorCode
from corral.jute.ops import OpCode, WatcherType
from corral.jute.record import Record
from corral.jute.records import (
    Acl,
    AuthPacket,
    Create2Response,
    GetAclResponse,
    GetChildren2Response,
    GetChildrenResponse,
    GetDataResponse,
    Id,
    MultiHeader,
    PathRequest,
    PathTypeRequest,
    PathVersionRequest,
    PathWatchRequest,
    ReconfigRequest,
    SetAclRequest,
    SetDataRequest,
    SetWatches,
    SetWatches2,
    StatResponse,
    WatcherEvent,
    WhoAmIResponse,
)
from corral.server.authentication import digest_id

ANN = digest_id(b"ann:secret")
CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4
Scenario = Callable[[WatchedServer, Client], Awaitable[None]]


def play(directory: Path, scenario: Scenario) -> None:
    """A server with /a ("data"), /a/b, /a/c, and /secret that only Ann may see; a client that is not Ann."""

    async def run() -> None:
        async with serving(directory) as server:
            ann, client = Client(server), Client(server)
            await ann.connect()
            await ann.ask(OpCode.AUTH, AuthPacket(0, "digest", b"ann:secret"), xid=-4)
            await ann.ask(OpCode.CREATE, create(b"/a", b"data"))
            await ann.ask(OpCode.CREATE, create(b"/a/b"))
            await ann.ask(OpCode.CREATE, create(b"/a/c"))
            await ann.ask(OpCode.CREATE, create(b"/secret", b"x", acl=[Acl(31, Id("auth", ""))]))
            await client.connect()
            await scenario(server, client)

    asyncio.run(run())


def read(path: bytes | None, *, watch: bool = False) -> PathWatchRequest:
    return PathWatchRequest(path, watch)


def events(replies: list[Reply]) -> list[tuple[int, bytes | None]]:
    found = [WatcherEvent.from_bytes(reply.body) for reply in replies if reply.xid == -1]
    assert all(event.state == 3 for event in found)
    return [(event.type, event.path) for event in found]


def test_data_children_and_stats(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        data = GetDataResponse.from_bytes((await client.ask(OpCode.GET_DATA, read(b"/a"))).body)
        assert (data.data, data.stat.num_children, data.stat.cversion, data.stat.data_length) == (b"data", 2, 2, 4)
        assert (await client.ask(OpCode.EXISTS, read(b"/a"))).body == data.stat.to_bytes()
        names = GetChildrenResponse.from_bytes((await client.ask(OpCode.GET_CHILDREN, read(b"/a"))).body)
        assert names.children == [b"b", b"c"]
        both = GetChildren2Response.from_bytes((await client.ask(OpCode.GET_CHILDREN2, read(b"/a"))).body)
        assert (both.children, both.stat) == ([b"b", b"c"], data.stat)
        root = GetChildrenResponse.from_bytes((await client.ask(OpCode.GET_CHILDREN, read(b"/"))).body)
        assert set(root.children or []) == {b"a", b"secret", b"zookeeper"}
        empty = await client.ask(OpCode.GET_CHILDREN, read(b""))
        assert GetChildrenResponse.from_bytes(empty.body) == root
        assert (await client.ask(OpCode.GET_DATA, read(b"/zookeeper/config"))).error == 0

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("op", "body", "error"),
    [
        (OpCode.GET_DATA, read(b"/no"), ErrorCode.NO_NODE),
        (OpCode.GET_DATA, read(b"no//path"), ErrorCode.NO_NODE),
        (OpCode.GET_DATA, read(None), ErrorCode.MARSHALLING_ERROR),
        (OpCode.GET_DATA, read(b"/secret"), ErrorCode.NO_AUTH),
        (OpCode.EXISTS, read(b"/secret"), ErrorCode.NO_AUTH),
        (OpCode.EXISTS, read(b"/no"), ErrorCode.NO_NODE),
        (OpCode.EXISTS, read(b"/a\0"), ErrorCode.BAD_ARGUMENTS),
        (OpCode.EXISTS, read(None), ErrorCode.MARSHALLING_ERROR),
        (OpCode.GET_CHILDREN, read(b"/secret"), ErrorCode.NO_AUTH),
        (OpCode.GET_CHILDREN2, read(b"/secret"), ErrorCode.NO_AUTH),
        (OpCode.GET_CHILDREN2, read(b"/no"), ErrorCode.NO_NODE),
        (OpCode.GET_ACL, PathRequest(b"/secret"), ErrorCode.NO_AUTH),
        (OpCode.GET_ACL, PathRequest(b"/no"), ErrorCode.NO_NODE),
        (OpCode.GET_ALL_CHILDREN_NUMBER, PathRequest(b"/secret"), ErrorCode.NO_AUTH),
        (OpCode.GET_ALL_CHILDREN_NUMBER, PathRequest(b"/no"), ErrorCode.NO_NODE),
        (OpCode.CHECK_WATCHES, PathTypeRequest(b"/a", WatcherType.ANY), ErrorCode.NO_WATCHER),
        (OpCode.CHECK_WATCHES, PathTypeRequest(b"/a", 0), ErrorCode.MARSHALLING_ERROR),
        (OpCode.REMOVE_WATCHES, PathTypeRequest(b"/a", WatcherType.DATA), ErrorCode.NO_WATCHER),
        (OpCode.REMOVE_WATCHES, PathTypeRequest(b"/a", 6), ErrorCode.MARSHALLING_ERROR),
        (OpCode.ADD_WATCH, PathTypeRequest(b"/a", 2), ErrorCode.MARSHALLING_ERROR),
        (OpCode.SET_WATCHES, SetWatches(0, None, [], []), ErrorCode.MARSHALLING_ERROR),
        (OpCode.RECONFIG, ReconfigRequest(None, "1", None, -1), ErrorCode.RECONFIG_DISABLED),
        (OpCode.DELETE_CONTAINER, b"/a", ErrorCode.MARSHALLING_ERROR),
    ],
)
def test_refusals(tmp_path: Path, op: int, body: Record | bytes, error: int) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        reply = await client.ask(op, body)
        assert (reply.error, reply.body) == (error, b"")
        assert server.watches.count == 0
        assert not client.closed

    play(tmp_path, scenario)


@pytest.mark.parametrize("op", [0, 10, 13, 23, 99, 108, -1, -9, -12, 2**31 - 1, -(2**31)])
def test_operations_that_nobody_knows(tmp_path: Path, op: int) -> None:
    """Apache closes the connection after this answer; whoever asked learns as much from the answer."""

    async def scenario(server: WatchedServer, client: Client) -> None:
        reply = await client.ask(op, PathVersionRequest(b"/a", -1))
        assert (reply.error, reply.zxid, reply.body) == (ErrorCode.UNIMPLEMENTED, -1, b"")

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("op", "request_"),
    [
        (OpCode.GET_DATA, read(b"/a")),
        (OpCode.EXISTS, read(b"/a")),
        (OpCode.GET_CHILDREN, read(b"/a")),
        (OpCode.GET_CHILDREN2, read(b"/a")),
        (OpCode.GET_ACL, PathRequest(b"/a")),
        (OpCode.SYNC, PathRequest(b"/a")),
        (OpCode.GET_EPHEMERALS, PathRequest(b"/a")),
        (OpCode.GET_ALL_CHILDREN_NUMBER, PathRequest(b"/a")),
        (OpCode.ADD_WATCH, PathTypeRequest(b"/a", 0)),
        (OpCode.CHECK_WATCHES, PathTypeRequest(b"/a", 1)),
        (OpCode.REMOVE_WATCHES, PathTypeRequest(b"/a", 1)),
        (OpCode.SET_WATCHES, SetWatches(0, [b"/a"], [b"/a"], [b"/a"])),
        (OpCode.SET_WATCHES2, SetWatches2(0, [b"/a"], [b"/a"], [b"/a"], [b"/a"], [b"/a"])),
    ],
)
def test_a_request_cut_short_is_answered_so_at_every_byte(tmp_path: Path, op: int, request_: Record) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        body = request_.to_bytes()
        replies = await client.ask_all([(size + 1, op, body[:size]) for size in range(len(body))])
        assert [(reply.xid, reply.error) for reply in replies if reply.xid != -1] == [
            (size + 1, ErrorCode.MARSHALLING_ERROR) for size in range(len(body))
        ]

    play(tmp_path, scenario)


def test_acls_hide_hashes_from_those_without_admin(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        shared = [Acl(31, Id("digest", ANN)), Acl(1, Id("world", "anyone"))]
        await client.ask(OpCode.CREATE, create(b"/shared", acl=shared))
        found = GetAclResponse.from_bytes((await client.ask(OpCode.GET_ACL, PathRequest(b"/shared"))).body)
        assert found.acl == [Acl(31, Id("digest", "ann:x")), Acl(1, Id("world", "anyone"))]
        await client.ask(OpCode.AUTH, AuthPacket(0, "digest", b"ann:secret"), xid=-4)
        found = GetAclResponse.from_bytes((await client.ask(OpCode.GET_ACL, PathRequest(b"/shared"))).body)
        assert found.acl == shared

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("given", "echoed"),
    [
        (b"/anything//at all", b"/anything//at all"),
        (None, None),
        (b"\xed\xa0\xbd", b"\xef\xbf\xbd"),
        (b"/\xf0\x9f\x98\x80", b"/\xed\xa0\xbd\xed\xb8\x80"),
    ],
)
def test_sync_echoes_its_path(tmp_path: Path, given: bytes | None, echoed: bytes | None) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        reply = await client.ask(OpCode.SYNC, PathRequest(given))
        assert (reply.error, reply.body) == (0, PathRequest(echoed).to_bytes())

    play(tmp_path, scenario)


def test_own_ephemerals_by_prefix(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        other = Client(server)
        await other.connect()
        await other.ask(OpCode.CREATE, create(b"/theirs", flags=1))
        for path in (b"/a/e1", b"/a/e2", b"/e3"):
            await client.ask(OpCode.CREATE, create(path, flags=1))
        expected = {
            b"/": [b"/a/e1", b"/a/e2", b"/e3"],
            b"": [b"/a/e1", b"/a/e2", b"/e3"],
            b" ": [b"/a/e1", b"/a/e2", b"/e3"],
            None: [b"/a/e1", b"/a/e2", b"/e3"],
            b"/a": [b"/a/e1", b"/a/e2"],
            b"/e": [b"/e3"],
            b"/no": [],
        }
        for prefix, paths in expected.items():
            reply = await client.ask(OpCode.GET_EPHEMERALS, PathRequest(prefix))
            assert GetChildrenResponse.from_bytes(reply.body).children == paths

    play(tmp_path, scenario)


def test_descendants_are_counted(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        for path, number in ((b"/", 7), (b"/a", 2), (b"/a/b", 0)):
            reply = await client.ask(OpCode.GET_ALL_CHILDREN_NUMBER, PathRequest(path))
            assert reply.body == struct.pack(">i", number)

    play(tmp_path, scenario)


def test_an_empty_server_has_three(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.connect()
            assert (await client.ask(OpCode.GET_ALL_CHILDREN_NUMBER, PathRequest(b"/"))).body == b"\0\0\0\3"

    asyncio.run(run())


def test_who_am_i(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        await client.ask(OpCode.AUTH, AuthPacket(0, "digest", b"ann:secret"), xid=-4)
        reply = WhoAmIResponse.from_bytes((await client.ask(OpCode.WHO_AM_I)).body)
        assert [(each.auth_scheme, each.user) for each in reply.client_info or []] == [
            ("ip", "127.0.0.1"),
            ("digest", "ann"),
        ]

    play(tmp_path, scenario)


def multi(*parts: tuple[int, Record]) -> bytes:
    out = b"".join(MultiHeader(op, False, -1).to_bytes() + part.to_bytes() for op, part in parts)
    return out + MultiHeader(-1, True, -1).to_bytes()


def test_many_reads_in_one(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        data = (await client.ask(OpCode.GET_DATA, read(b"/a"))).body
        names = (await client.ask(OpCode.GET_CHILDREN, read(b"/a"))).body
        reply = await client.ask(
            OpCode.MULTI_READ,
            multi(
                (OpCode.GET_DATA, read(b"/a", watch=True)),
                (OpCode.GET_DATA, read(b"/no", watch=True)),
                (OpCode.GET_CHILDREN, read(b"/a", watch=True)),
                (OpCode.GET_CHILDREN, read(b"/secret")),
            ),
        )
        assert reply.error == 0
        assert reply.body == (
            MultiHeader(4, False, 0).to_bytes()
            + data
            + MultiHeader(-1, False, -101).to_bytes()
            + struct.pack(">i", -101)
            + MultiHeader(8, False, 0).to_bytes()
            + names
            + MultiHeader(-1, False, -102).to_bytes()
            + struct.pack(">i", -102)
            + MultiHeader(-1, True, -1).to_bytes()
        )
        assert server.watches.count == 0
        assert (await client.ask(OpCode.MULTI_READ, multi())).body == MultiHeader(-1, True, -1).to_bytes()
        for body in (multi((OpCode.EXISTS, read(b"/a"))), multi((OpCode.GET_DATA, read(b"/a")))[:-1], b""):
            assert (await client.ask(OpCode.MULTI_READ, body)).error == ErrorCode.MARSHALLING_ERROR

    play(tmp_path, scenario)


# Watches


def test_watches_of_reads_fire_once(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        for op, path in (
            (OpCode.GET_DATA, b"/a"),
            (OpCode.EXISTS, b"/a"),
            (OpCode.EXISTS, b"/new"),
            (OpCode.GET_CHILDREN, b"/a"),
            (OpCode.GET_CHILDREN2, b"/"),
        ):
            await client.ask(op, read(path, watch=True))
        assert server.watches.count == 4
        asked = [
            (1, OpCode.SET_DATA, SetDataRequest(b"/a", b"x", -1)),
            (2, OpCode.SET_DATA, SetDataRequest(b"/a", b"y", -1)),
            (3, OpCode.CREATE, create(b"/new")),
            (4, OpCode.DELETE, PathVersionRequest(b"/a/b", -1)),
            (5, OpCode.DELETE, PathVersionRequest(b"/new", -1)),
        ]
        replies = await client.ask_all(asked)
        # Each event comes before the reply to what caused it.
        assert [reply.xid for reply in replies] == [-1, 1, 2, -1, -1, 3, -1, 4, 5]
        assert events(replies) == [(CHANGED, b"/a"), (CREATED, b"/new"), (CHILDREN, b"/"), (CHILDREN, b"/a")]
        by_xid = {reply.xid: reply.zxid for reply in replies}
        assert [reply.zxid for reply in replies if reply.xid == -1] == [by_xid[1], by_xid[3], by_xid[3], by_xid[4]]
        assert server.watches.count == 0

    play(tmp_path, scenario)


def test_a_refused_read_sets_no_watch(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        for op in (OpCode.GET_DATA, OpCode.GET_CHILDREN, OpCode.GET_CHILDREN2):
            for path in (b"/no", b"/secret"):
                await client.ask(op, read(path, watch=True))
        await client.ask(OpCode.EXISTS, read(b"/secret", watch=True))
        assert server.watches.count == 0

    play(tmp_path, scenario)


def test_events_of_what_may_not_be_read_are_held_back(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        ann = Client(server)
        await ann.connect()
        await ann.ask(OpCode.AUTH, AuthPacket(0, "digest", b"ann:secret"), xid=-4)
        await client.ask(OpCode.GET_DATA, read(b"/a", watch=True))
        await client.ask(OpCode.ADD_WATCH, PathTypeRequest(b"/", 1))
        await ann.ask(OpCode.ADD_WATCH, PathTypeRequest(b"/", 1))
        await ann.ask(OpCode.SET_ACL, SetAclRequest(b"/a", [Acl(31, Id("auth", ""))], -1))
        replies = await ann.ask_all([(1, OpCode.SET_DATA, SetDataRequest(b"/a", b"secret now", -1))])
        assert events(replies) == [(CHANGED, b"/a")]
        assert client.take_replies() == []
        # The one-shot watch is used up all the same.
        assert not server.watches.has(b"/a", client.connection, WatcherType.DATA)

    play(tmp_path, scenario)


def test_persistent_watches_come_and_go(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        assert (await client.ask(OpCode.ADD_WATCH, PathTypeRequest(b"/a", 0))).body == bytes(4)
        assert (await client.ask(OpCode.ADD_WATCH, PathTypeRequest(b"/later", 1))).body == bytes(4)
        check = PathTypeRequest(b"/a", WatcherType.PERSISTENT)
        assert (await client.ask(OpCode.CHECK_WATCHES, check)).error == 0
        other = Client(server)
        await other.connect()
        assert (await other.ask(OpCode.CHECK_WATCHES, check)).error == ErrorCode.NO_WATCHER
        replies = await client.ask_all(
            [
                (1, OpCode.CREATE, create(b"/a/x")),
                (2, OpCode.DELETE, PathVersionRequest(b"/a/x", -1)),
                (3, OpCode.CREATE, create(b"/later")),
                (4, OpCode.CREATE, create(b"/later/child")),
            ]
        )
        assert events(replies) == [
            (CHILDREN, b"/a"),
            (CHILDREN, b"/a"),
            (CREATED, b"/later"),
            (CREATED, b"/later/child"),
        ]
        assert (await client.ask(OpCode.REMOVE_WATCHES, check)).error == 0
        assert (await client.ask(OpCode.REMOVE_WATCHES, check)).error == ErrorCode.NO_WATCHER
        assert events(await client.ask_all([(1, OpCode.SET_DATA, SetDataRequest(b"/a", b"", -1))])) == []

    play(tmp_path, scenario)


def test_watches_of_a_client_that_comes_back(tmp_path: Path) -> None:
    """What it missed is told at once, the rest is watched again; zxids of the tree: /a 4, /a/b 5, /a/c 6, /secret 7."""

    async def scenario(server: WatchedServer, client: Client) -> None:
        mzxid = StatResponse.from_bytes((await client.ask(OpCode.EXISTS, read(b"/a"))).body).stat.mzxid
        request = SetWatches2(
            mzxid,
            [b"/a", b"/a/b", b"/gone"],
            [b"/a", b"/not yet"],
            [b"/a", b"/a/b", b"/gone", b"/secret"],
            [b"/p", b"/a"],
            [b"/r"],
        )
        replies = await client.ask_all([(-8, OpCode.SET_WATCHES2, request)])
        assert [reply.xid for reply in replies] == [-1] * 7 + [-8]
        assert {reply.zxid for reply in replies if reply.xid == -1} == {-1}
        assert events(replies) == [
            (CHANGED, b"/a/b"),
            (DELETED, b"/gone"),
            (CREATED, b"/a"),
            (CHILDREN, b"/a"),
            (CHILDREN, b"/a/b"),
            (DELETED, b"/gone"),
            (CHILDREN, b"/secret"),
        ]
        has = server.watches.has
        assert has(b"/a", client.connection, WatcherType.DATA)
        assert has(b"/not yet", client.connection, WatcherType.DATA)
        assert not has(b"/gone", client.connection, WatcherType.ANY)
        assert not has(b"/a", client.connection, WatcherType.CHILDREN)
        assert has(b"/a", client.connection, WatcherType.PERSISTENT)
        assert has(b"/p", client.connection, WatcherType.PERSISTENT)
        assert has(b"/r", client.connection, WatcherType.PERSISTENT_RECURSIVE)

    play(tmp_path, scenario)


def test_a_client_that_missed_nothing_is_told_nothing(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        request = SetWatches(server.tree.last_zxid, [b"/a"], [b"/no"], [b"/a"])
        replies = await client.ask_all([(-8, OpCode.SET_WATCHES, request)])
        assert [(reply.xid, reply.error) for reply in replies] == [(-8, 0)]
        assert server.watches.count == 3

    play(tmp_path, scenario)


def test_watches_end_with_their_connection(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        await client.ask(OpCode.ADD_WATCH, PathTypeRequest(b"/", 1))
        await client.ask(OpCode.GET_DATA, read(b"/a", watch=True))
        client.hang_up()
        await asyncio.sleep(0)
        assert server.watches.count == 0

    play(tmp_path, scenario)


def test_replies_carry_the_last_transaction(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer, client: Client) -> None:
        before = server.tree.last_zxid
        assert (await client.ask(OpCode.GET_DATA, read(b"/a"))).zxid == before
        assert (await client.ask(OpCode.EXISTS, read(b"/no"))).zxid == before
        assert (await client.ask(OpCode.PING, xid=-2)).zxid == before
        created = await client.ask(OpCode.CREATE2, create(b"/x"))
        assert created.zxid == before + 1
        assert Create2Response.from_bytes(created.body).stat.czxid == before + 1
        # A refusal takes a number as well, something that cannot be decoded none.
        assert (await client.ask(OpCode.CREATE2, create(b"/x"))).zxid == before + 2
        assert (await client.ask(OpCode.CREATE2, b"")).zxid == before + 2
        assert (await client.ask(OpCode.MULTI, b"")).zxid == before + 3

    play(tmp_path, scenario)
