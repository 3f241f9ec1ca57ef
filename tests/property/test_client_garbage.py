"""Whatever a peer sends at whatever moment, a connection goes on or ends cleanly: no exception leaves it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client_peer import SESSION, created_body, event, frame, names_body, reply, stat_body, welcome, znode_body
from tests.client_wire import Wire

from corral.client import connect
from corral.client.addresses import Address
from corral.client.client import Client
from corral.client.connection import Connection
from corral.client.states import State
from corral.jute.ops import Xid
from corral.jute.records import ConnectResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

QUICK = settings(max_examples=15, deadline=None, derandomize=True)
DEEP = settings(max_examples=4000, deadline=None, derandomize=True)

BODIES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([b"", znode_body(), znode_body(None), names_body("a", "bc"), stat_body(), created_body("/a")]),
)
CODES = st.sampled_from([0, 0, 0, -1, -4, -101, -112, -115, -118, 5])
XIDS = st.one_of(st.integers(-9, 12), st.integers(-(1 << 31), (1 << 31) - 1))
FRAMES = st.one_of(
    st.binary(max_size=100),
    st.builds(frame, st.binary(max_size=100)),
    st.builds(lambda xid, body, error: reply(xid, body, error=error), XIDS, BODIES, CODES),
    st.builds(event, st.integers(-3, 8), st.text(max_size=10)),
)
STREAMS = st.lists(FRAMES, max_size=12)


def ask_everything(zk: Client) -> list[asyncio.Future[Any]]:
    """A request of each kind of answer."""

    def ignore(event: object) -> None:
        pass

    transaction = zk.transaction()
    transaction.create("/t")
    transaction.set("/t", b"")
    transaction.delete("/t")
    asked: list[Awaitable[Any]] = [
        zk.get("/a", watch=ignore),
        zk.exists("/b", watch=ignore),
        zk.get_children("/c"),
        zk.get_listing("/d", watch=ignore),
        zk.create("/e"),
        zk.get_acl("/f"),
        zk.get_many(["/g", "/h"]),
        zk.who_am_i(),
        zk.count_descendants("/i"),
        transaction.commit(),
        zk.add_watch("/j", ignore, recursive=True),
        zk.sync(),
    ]
    return [asyncio.ensure_future(each) for each in asked]


async def survive(pieces: list[bytes], *, greeting: bytes) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    zk = connect("server:1", heartbeat=False, max_reply_bytes=5000)
    keeper = zk._keeper
    # In the place of the task that connects: the bytes come from here.
    keeper._loop = asyncio.get_running_loop()
    keeper._runner = keeper.spawn(asyncio.sleep(3600), "nothing")
    connection = Connection(keeper, Address("server", 1), b"", 5000)
    connection.connection_made(Wire())
    connection.data_received(greeting)
    is_established = not connection.has_ended and connection.welcome.done()
    if is_established:
        keeper._establish(connection, ConnectResponse(0, 10_000, SESSION, b"p" * 16), read_only=False)
        assert zk.state is State.CONNECTED
    asked = ask_everything(zk)
    await asyncio.sleep(0)
    for piece in pieces:
        if not connection.has_ended:
            connection.data_received(piece)
    assert (zk.state is State.CONNECTED) == (is_established and not connection.has_ended)
    if not connection.has_ended:
        connection.connection_lost(None)
    assert keeper.connection is None
    keeper._closing = True
    keeper._shut_down()
    results = await asyncio.gather(*asked, return_exceptions=True)
    await keeper._all_over()
    assert len(results) == len(asked)
    assert not failures


@QUICK
@given(STREAMS)
def test_garbage_after_the_handshake_ends_cleanly(pieces: list[bytes]) -> None:
    asyncio.run(survive(pieces, greeting=welcome()))


@QUICK
@given(st.one_of(st.binary(max_size=60), st.builds(frame, st.binary(max_size=60))), STREAMS)
def test_garbage_instead_of_a_handshake_ends_cleanly(greeting: bytes, pieces: list[bytes]) -> None:
    asyncio.run(survive(pieces, greeting=greeting))


@st.composite
def damaged_answers(draw: st.DrawFn) -> list[bytes]:
    """The right answers to the first requests, one byte or length of which is wrong."""
    right = [znode_body(), stat_body(), names_body("x", "y"), names_body("x") + stat_body(), created_body("/e")]
    stream = bytearray(b"".join(reply(xid, body) for xid, body in enumerate(right, 1)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(stream) - 1))
        stream[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    cut = draw(st.integers(0, len(stream)))
    return [bytes(stream[:cut]), bytes(stream[cut:])]


@QUICK
@given(damaged_answers())
def test_damaged_answers_end_cleanly(pieces: list[bytes]) -> None:
    asyncio.run(survive(pieces, greeting=welcome()))


@pytest.mark.slow
@DEEP
@given(st.one_of(STREAMS, damaged_answers()))
def test_garbage_for_long(pieces: list[bytes]) -> None:
    asyncio.run(survive(pieces, greeting=welcome()))


@QUICK
@given(st.lists(st.sampled_from([-4, -8, -2, -1]), min_size=1, max_size=6))
def test_special_replies_that_nobody_asked_for_do_no_harm(xids: list[int]) -> None:
    stream = [reply(xid, event(3, "/x")[20:] if xid == Xid.NOTIFICATION else b"") for xid in xids]
    asyncio.run(survive(stream, greeting=welcome()))
