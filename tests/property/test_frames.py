"""Whatever bytes a client sends, in whatever pieces: the same answers, or that connection's end and nothing more."""

from __future__ import annotations

import asyncio
import itertools
import struct
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.in_process import OPEN_ACL, Client, Reply, create, frame, parse_reply, request, serving, split_frames

from corral.jute.ops import OpCode
from corral.jute.record import Record
from corral.jute.records import (
    Acl,
    AuthPacket,
    ConnectRequest,
    CreateRequest,
    CreateTtlRequest,
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
)
from corral.server import connection
from corral.server.authentication import digest_id
from corral.server.config import AuthConfig, Limits
from corral.server.words import WORDS

HELLO = frame(ConnectRequest(0, 0, 30_000, 0, bytes(16)).to_bytes() + b"\0")
MAX_FRAME = 4096
SUPER = b"super:secret"
OVERTAKES = {-2, -4, 1000}
"""xids of replies that do not wait for their turn: ping, auth, and the one that we give sasl."""
Places = list[int] | int
"""Where a stream is cut: at these offsets (modulo its length), or every so many bytes."""
QUICK = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
DEEP = settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

paths = st.sampled_from([b"/a", b"/a/b", b"/b", b"/", b"", b"/a/b/c", b"/zookeeper/config", b"/x\0", b"/a/", b"no"])
data = st.one_of(st.none(), st.binary(max_size=30), st.integers(0, 900).map(bytes))
path_lists = st.lists(paths, max_size=3)
acls = st.sampled_from([OPEN_ACL, OPEN_ACL, [Acl(1, Id("world", "anyone"))], [Acl(31, Id("auth", ""))], []])
versions = st.sampled_from([-1, -1, 0, 1])
flags = st.integers(-1, 7)
creates = st.builds(CreateRequest, paths, data, acls, flags)
watched = st.builds(PathWatchRequest, paths, st.booleans())


def multi(parts: list[tuple[int, Record]]) -> bytes:
    out = b"".join(MultiHeader(op, False, -1).to_bytes() + part.to_bytes() for op, part in parts)
    return out + MultiHeader(-1, True, -1).to_bytes()


def requests_of(op: int, bodies: st.SearchStrategy[Record]) -> st.SearchStrategy[tuple[int, bytes]]:
    return bodies.map(lambda body: (op, body.to_bytes()))


sub_operations = st.one_of(
    st.tuples(st.sampled_from([OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER]), creates),
    st.tuples(st.just(OpCode.DELETE), st.builds(PathVersionRequest, paths, versions)),
    st.tuples(st.just(OpCode.CHECK), st.builds(PathVersionRequest, paths, versions)),
    st.tuples(st.just(OpCode.SET_DATA), st.builds(SetDataRequest, paths, data, versions)),
)
sub_reads = st.tuples(st.sampled_from([OpCode.GET_DATA, OpCode.GET_CHILDREN]), watched)
sound_operations: st.SearchStrategy[tuple[int, bytes]] = st.one_of(
    requests_of(OpCode.GET_DATA, watched),
    requests_of(OpCode.GET_DATA, watched),
    requests_of(OpCode.SET_DATA, st.builds(SetDataRequest, paths, data, versions)),
    requests_of(OpCode.CREATE, creates),
    requests_of(OpCode.CREATE2, creates),
    requests_of(OpCode.CREATE_CONTAINER, creates),
    requests_of(OpCode.CREATE_TTL, st.builds(CreateTtlRequest, paths, data, acls, flags, st.integers(-1, 5))),
    requests_of(OpCode.DELETE, st.builds(PathVersionRequest, paths, versions)),
    requests_of(OpCode.SET_ACL, st.builds(SetAclRequest, paths, acls, versions)),
    requests_of(OpCode.EXISTS, watched),
    requests_of(OpCode.GET_CHILDREN, watched),
    requests_of(OpCode.GET_CHILDREN2, watched),
    st.builds(
        lambda op, path: (op, PathRequest(path).to_bytes()),
        st.sampled_from([OpCode.GET_ACL, OpCode.SYNC, OpCode.GET_EPHEMERALS, OpCode.GET_ALL_CHILDREN_NUMBER]),
        paths,
    ),
    st.builds(
        lambda op, path, kind: (op, PathTypeRequest(path, kind).to_bytes()),
        st.sampled_from([OpCode.ADD_WATCH, OpCode.CHECK_WATCHES, OpCode.REMOVE_WATCHES]),
        paths,
        st.integers(-1, 6),
    ),
    requests_of(OpCode.SET_WATCHES, st.builds(SetWatches, st.integers(0, 5), *[path_lists] * 3)),
    requests_of(OpCode.SET_WATCHES2, st.builds(SetWatches2, st.integers(0, 5), *[path_lists] * 5)),
    st.lists(sub_operations, max_size=4).map(lambda parts: (OpCode.MULTI, multi(list(parts)))),
    st.lists(sub_reads | sub_operations, max_size=3).map(lambda parts: (OpCode.MULTI_READ, multi(list(parts)))),
    requests_of(OpCode.RECONFIG, st.builds(ReconfigRequest, st.none(), st.just("2"), st.none(), st.just(-1))),
    st.sampled_from([(OpCode.PING, b""), (OpCode.WHO_AM_I, b""), (OpCode.SASL, b"\0\0\0\0")]),
)
operations = st.one_of(
    sound_operations,
    sound_operations,
    sound_operations,
    st.builds(lambda asked, size: (asked[0], asked[1][:size]), sound_operations, st.integers(0, 30)),
    st.tuples(st.integers(-12, 110).filter(lambda op: op not in (OpCode.AUTH, OpCode.SASL)), st.binary(max_size=40)),
)


Answers = tuple[bytes, list[Reply], bool]
"""The server's first frame, the others, and whether it closes."""
TIGHT = {"REPLY_BUDGET_BYTES": 150, "WAITING_READS_MAX_BYTES": 60, "LARGE_CHUNK_BYTES": 64}
ALONE = (OpCode.PING, OpCode.SASL)
"""Their replies have xids of their own."""


def stream_of(asked: list[tuple[int, bytes]], *, ends: bool) -> bytes:
    """A handshake and requests; at the end, if so, closeSession."""
    special = {int(OpCode.PING): -2, int(OpCode.SASL): 1000}
    frames = [request(special.get(op, number), op, body) for number, (op, body) in enumerate(asked, 1)]
    return HELLO + b"".join(frames) + (request(900, OpCode.CLOSE_SESSION) if ends else b"")


def cut(stream: bytes, places: Places) -> list[bytes]:
    if isinstance(places, int):
        places = list(range(0, len(stream), places))
    edges = [0, *sorted({place % len(stream) for place in places} - {0}), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


async def _replies(chunks: list[bytes], turns: int, directory: Path) -> Answers:
    limits = Limits(jute_max_buffer=MAX_FRAME, global_outstanding_limit=3)
    async with serving(directory, limits=limits, auth=AuthConfig(super_digest=digest_id(SUPER))) as server:
        bystander = Client(server)
        await bystander.connect()
        # Whatever the client does to ACLs, the bystander may.
        await bystander.ask(OpCode.AUTH, AuthPacket(0, "digest", SUPER), xid=-4)
        await bystander.ask(OpCode.CREATE, create(b"/a", b"hello"))
        client = Client(server)
        await client.feed(chunks, turns)
        frames = split_frames(bytes(client.transport.written))
        closed = client.closed
        # Others are served as ever.
        read = await bystander.ask(OpCode.GET_DATA, PathWatchRequest(b"/zookeeper", False))
        assert read.error == 0
        written = await bystander.ask(OpCode.CREATE, create(b"/bystander"))
        assert written.error == 0
        return frames[0] if frames else b"", [parse_reply(payload) for payload in frames[1:]], closed


def replies_to(chunks: list[bytes], turns: int = 0, *, tight: bool = False) -> Answers:
    """What the server answers to a stream in these pieces.

    ``tight``: what a connection may have served in one turn, and what may wait, is next to nothing.
    """
    with tempfile.TemporaryDirectory() as name, ExitStack() as limits:
        for limit, value in TIGHT.items() if tight else ():
            limits.enter_context(patch.object(connection, limit, value))
        return asyncio.run(_replies(chunks, turns, Path(name)))


def in_turn(replies: list[Reply]) -> list[Reply]:
    return [reply for reply in replies if reply.xid not in OVERTAKES]


def overtaking(replies: list[Reply]) -> list[int]:
    return sorted(reply.xid for reply in replies if reply.xid in OVERTAKES)


def check_same_answers(asked: list[tuple[int, bytes]], ends: bool, places: Places, turns: int, tight: bool) -> None:
    stream = stream_of(asked, ends=ends)
    hello, replies, closed = replies_to([stream])
    assert closed == ends
    answered = [reply.xid for reply in in_turn(replies) if reply.xid != -1]
    assert answered == [number for number, (op, _) in enumerate(asked, 1) if op not in ALONE] + [900] * ends
    again = replies_to(cut(stream, places), turns, tight=tight)
    assert again[0] == hello
    assert in_turn(again[1]) == in_turn(replies)
    assert overtaking(again[1]) == overtaking(replies)
    assert again[2] == closed


splits: st.SearchStrategy[Places] = st.one_of(st.lists(st.integers(0), max_size=8), st.integers(1, 40))
valid_streams = st.lists(operations.filter(lambda each: each[0] != OpCode.CLOSE_SESSION), max_size=14)


@given(asked=valid_streams, ends=st.booleans(), places=splits, turns=st.integers(0, 3), tight=st.booleans())
@QUICK
def test_how_a_stream_is_cut_makes_no_difference(
    asked: list[tuple[int, bytes]], ends: bool, places: Places, turns: int, tight: bool
) -> None:
    check_same_answers(asked, ends, places, turns, tight)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(asked=valid_streams, ends=st.booleans(), places=splits, turns=st.integers(0, 3), tight=st.booleans())
@DEEP
def test_how_a_stream_is_cut_makes_no_difference_ever(
    asked: list[tuple[int, bytes]], ends: bool, places: Places, turns: int, tight: bool
) -> None:
    check_same_answers(asked, ends, places, turns, tight)


def mutated(stream: bytes, seed: int) -> bytes:
    """The stream with a few bytes changed, left out, put in, doubled or cut off."""
    random = Random(seed)
    content = bytearray(stream)
    start = random.choice([0, len(HELLO)])
    for _ in range(random.randint(1, 3)):
        at = random.randrange(min(start, len(content)), len(content) + 1)
        match random.randrange(6):
            case 0:
                content[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                del content[at : at + random.randrange(1, 9)]
            case 2:
                content[at:at] = random.randbytes(random.randrange(1, 9))
            case 3:
                content[at:at] = content[at : at + random.randrange(1, 60)]
            case 4:
                del content[at:]
            case _:
                content[at : at + 4] = struct.pack(">i", random.choice([-1, 0, 7, MAX_FRAME, MAX_FRAME + 1, 2**31 - 1]))
    return bytes(content)


def check_garbage(stream: bytes, places: Places, turns: int) -> None:
    """However it arrives, what is answered before the end is the beginning of the same answers."""
    began = time.monotonic()
    whole = replies_to([stream])
    pieces = replies_to(cut(stream, places), turns, tight=turns % 2 == 1) if stream else whole
    assert time.monotonic() - began < 10
    assert whole[0] == pieces[0]
    first, second = in_turn(whole[1]), in_turn(pieces[1])
    shorter = min(len(first), len(second))
    assert first[:shorter] == second[:shorter]
    assert whole[2] == pieces[2]
    if not whole[2]:
        assert first == second


seeds = st.integers(0, 2**32)


@given(asked=st.lists(operations, max_size=8), seed=seeds, places=splits, turns=st.integers(0, 2))
@QUICK
def test_a_damaged_stream_harms_nobody_else(
    asked: list[tuple[int, bytes]], seed: int, places: Places, turns: int
) -> None:
    check_garbage(mutated(stream_of(asked, ends=False), seed), places, turns)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(asked=st.lists(operations, max_size=8), seed=seeds, places=splits, turns=st.integers(0, 2))
@DEEP
def test_a_damaged_stream_never_harms_anybody_else(
    asked: list[tuple[int, bytes]], seed: int, places: Places, turns: int
) -> None:
    check_garbage(mutated(stream_of(asked, ends=False), seed), places, turns)


@given(content=st.binary(min_size=1, max_size=200), after_hello=st.booleans(), places=splits)
@QUICK
def test_random_bytes_harm_nobody_else(content: bytes, after_hello: bool, places: Places) -> None:
    # What answers a word is no frame.
    assume(after_hello or content[:4] not in WORDS)
    check_garbage(HELLO + content if after_hello else content, places, 0)


@pytest.mark.parametrize("length", [-(2**31), -1, 0, 7, MAX_FRAME + 1, 2**31 - 1])
@pytest.mark.parametrize("whole", [False, True])
def test_a_length_that_no_frame_has_ends_the_connection(length: int, whole: bool) -> None:
    """Requests before it are answered, nothing behind it is looked at."""
    rest = bytes(MAX_FRAME + 100) if whole else b""
    before = request(1, OpCode.GET_DATA, PathWatchRequest(b"/a", False))
    hello, replies, closed = replies_to([HELLO, before + struct.pack(">i", length) + rest + before])
    assert hello
    assert [(reply.xid, reply.error) for reply in replies] == [(1, 0)]
    assert closed


def test_the_longest_frame_is_served_and_a_longer_one_is_not() -> None:
    longest = request(1, OpCode.SET_DATA, SetDataRequest(b"/a", bytes(MAX_FRAME - 22), -1))
    assert len(longest) == 4 + MAX_FRAME
    for chunks in ([HELLO, longest], [HELLO + longest], [HELLO, longest[:100], longest[100:]]):
        _, replies, closed = replies_to(chunks)
        assert [(reply.xid, reply.error) for reply in replies] == [(1, 0)]
        assert not closed
    longer = request(1, OpCode.SET_DATA, SetDataRequest(b"/a", bytes(MAX_FRAME - 21), -1))
    for chunks in ([HELLO, longer], [HELLO + longer], [HELLO, longer[:100], longer[100:]]):
        _, replies, closed = replies_to(chunks)
        assert replies == []
        assert closed
