"""How connections prove who they are, and what it gets them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.in_process import Client, create, serving

from corral.jute.errors import ErrorCode
from corral.jute.ops import OpCode
from corral.jute.records import Acl, AuthPacket, Id, PathWatchRequest
from corral.server.authentication import digest_id
from corral.server.config import AuthConfig


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (b"u:p", "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="),
        (b"super:test", "super:D/InIHSb7yEEbrWz8b9l71RjZJU="),
    ],
)
def test_digest_ids(given: bytes, expected: str) -> None:
    assert digest_id(given) == expected


def test_digest_ids_of_odd_input_and_other_algorithms() -> None:
    assert digest_id(b"a:b:c").startswith("a:")
    assert digest_id(b"nocolon").startswith("nocolon:")
    assert digest_id("é:x".encode()).startswith("é:")
    assert len(digest_id(b"u:p", "sha256")) == 2 + 44
    assert digest_id(b"u:p", "sha256") != digest_id(b"u:q", "sha256")


async def authenticate(client: Client, scheme: str | None, auth: bytes | None) -> int:
    reply = await client.ask(OpCode.AUTH, AuthPacket(0, scheme, auth), xid=-4)
    assert (reply.zxid, reply.body) == (0, b"")
    return reply.error


def test_identities_gather(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.connect()
            for auth in (b"u:p", b"v:q", b"u:p"):
                assert await authenticate(client, "digest", auth) == 0
            assert await authenticate(client, "ip", b"ignored") == 0
            assert client.connection.identities == [
                ("ip", "127.0.0.1"),
                ("digest", digest_id(b"u:p")),
                ("digest", digest_id(b"v:q")),
            ]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("scheme", "auth"),
    [
        ("nobody", b"knows"),
        ("", b""),
        (None, b""),
        ("world", b"anyone"),
        ("super", b""),
        ("sasl", b""),
        ("x509", b""),
        ("digest", None),
        ("ensemble", b"x"),
    ],
)
def test_a_failure_is_answered_and_ends_the_connection(tmp_path: Path, scheme: str | None, auth: bytes | None) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.connect()
            assert await authenticate(client, scheme, auth) == ErrorCode.AUTH_FAILED
            assert client.closed
            assert server.stats.auth_failed == 1
            assert client.connection.identities == [("ip", "127.0.0.1")]

    asyncio.run(scenario())


def test_a_packet_that_is_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.connect()
            assert (await client.ask(OpCode.AUTH, b"\0", xid=-4)).error == ErrorCode.AUTH_FAILED
            assert client.closed

    asyncio.run(scenario())


def test_auth_overtakes_writes_that_wait(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.connect()
            replies = await client.ask_all(
                [(1, OpCode.CREATE, create(b"/a")), (-4, OpCode.AUTH, AuthPacket(0, "digest", b"u:p"))]
            )
            assert [reply.xid for reply in replies] == [-4, 1]

    asyncio.run(scenario())


def test_the_super_user_may_do_everything(tmp_path: Path) -> None:
    async def scenario() -> None:
        auth = AuthConfig(super_digest=digest_id(b"super:test"))
        async with serving(tmp_path, auth=auth) as server:
            client = Client(server)
            await client.connect()
            nobody = [Acl(0, Id("world", "anyone"))]
            await client.ask(OpCode.CREATE, create(b"/closed", acl=nobody))
            read = PathWatchRequest(b"/closed", False)
            assert (await client.ask(OpCode.GET_DATA, read)).error == ErrorCode.NO_AUTH
            assert await authenticate(client, "digest", b"super:wrong") == 0
            assert (await client.ask(OpCode.GET_DATA, read)).error == ErrorCode.NO_AUTH
            assert await authenticate(client, "digest", b"super:test") == 0
            assert (await client.ask(OpCode.GET_DATA, read)).error == 0
            assert ("super", "") in client.connection.identities

    asyncio.run(scenario())


def test_checks_can_be_switched_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, auth=AuthConfig(skip_acl=True)) as server:
            client = Client(server)
            await client.connect()
            await client.ask(OpCode.CREATE, create(b"/closed", acl=[Acl(0, Id("world", "anyone"))]))
            assert (await client.ask(OpCode.GET_DATA, PathWatchRequest(b"/closed", False))).error == 0

    asyncio.run(scenario())


def test_digest_can_be_switched_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, auth=AuthConfig(digest_auth_enabled=False)) as server:
            client = Client(server)
            await client.connect()
            acl = [Acl(31, Id("digest", "u:x"))]
            assert (await client.ask(OpCode.CREATE, create(b"/a", acl=acl))).error == ErrorCode.INVALID_ACL
            assert await authenticate(client, "digest", b"u:p") == ErrorCode.AUTH_FAILED

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("names", "expected", "admitted"),
    [({"one", "two"}, b"two", True), ({"one"}, b"two", False), ({"one"}, b"", True), (set(), b"any", True)],
)
def test_the_name_of_the_ensemble(tmp_path: Path, names: set[str], expected: bytes, admitted: bool) -> None:
    async def scenario() -> None:
        auth = AuthConfig(ensemble_auth_names=frozenset(names), extra_schemes=frozenset({"ensemble"}))
        async with serving(tmp_path, auth=auth) as server:
            client = Client(server)
            await client.connect()
            if admitted:
                assert await authenticate(client, "ensemble", expected) == 0
            else:
                await client.ask_all([(-4, OpCode.AUTH, AuthPacket(0, "ensemble", expected))])
            assert client.closed is not admitted
            assert client.connection.identities == [("ip", "127.0.0.1")]

    asyncio.run(scenario())


def test_whoever_must_authenticate_is_told_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        auth = AuthConfig(enforce_auth_enabled=True, enforce_auth_schemes=frozenset({"digest"}))
        async with serving(tmp_path, auth=auth) as server:
            for op in (OpCode.GET_DATA, OpCode.PING, OpCode.CREATE, OpCode.CLOSE_SESSION):
                client = Client(server)
                await client.connect()
                reply = await client.ask(op, PathWatchRequest(b"/", False), xid=5)
                assert (reply.zxid, reply.error) == (0, ErrorCode.SESSION_CLOSED_REQUIRE_SASL_AUTH)
                assert client.closed
            client = Client(server)
            await client.connect()
            assert await authenticate(client, "digest", b"u:p") == 0
            assert (await client.ask(OpCode.GET_DATA, PathWatchRequest(b"/", False))).error == 0
            assert (await client.ask(OpCode.CREATE, create(b"/a"))).error == 0

    asyncio.run(scenario())


def test_sasl_without_a_login_on_the_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = Client(server)
            await client.connect()
            reply = await client.ask(OpCode.SASL, b"\0\0\0\1x", xid=3)
            assert (reply.zxid, reply.error, reply.body) == (0, 0, b"\xff\xff\xff\xff")
            assert not client.closed

    asyncio.run(scenario())
