"""Records against the bytes of the protocol's description."""

from __future__ import annotations

import pytest

from corral.jute.errors import ERRORS_BY_CODE, ErrorCode, KeeperError
from corral.jute.ops import CreateMode, EventType, OpCode, Permission
from corral.jute.owner import ttl_owner
from corral.jute.primitives import Reader
from corral.jute.record import Record
from corral.jute.records import (
    Acl,
    ConnectRequest,
    ConnectResponse,
    CreateRequest,
    CreateSessionTxn,
    CreateTxn,
    CreateTxnV0,
    GetChildrenResponse,
    Id,
    MultiHeader,
    PathResponse,
    PathVersionRequest,
    ReplyHeader,
    RequestHeader,
    SetWatches,
    Stat,
    StatPersisted,
    TxnDigest,
    TxnHeader,
    WatcherEvent,
)

VECTORS: list[tuple[Record, str]] = [
    (MultiHeader(-1, True, -1), "ffffffff 01 ffffffff"),
    (ConnectResponse(0, 0, 0, bytes(16)), "00000000 00000000 0000000000000000 00000010" + "00" * 16),
    (ReplyHeader(5, 3, 0), "00000005 0000000000000003 00000000"),
    (PathResponse(b"/a"), "00000002 2f61"),
    (ReplyHeader(-1, 33, 0), "ffffffff 0000000000000021 00000000"),
    (WatcherEvent(EventType.NODE_DATA_CHANGED, 3, b"/w"), "00000003 00000003 00000002 2f77"),
    (
        TxnHeader(0x3000022105A0000, 0, 0x100000001, 0x1A1FF96C23B, OpCode.CREATE_SESSION),
        "03000022105a0000 00000000 0000000100000001 000001a1ff96c23b fffffff6",
    ),
    (CreateSessionTxn(10_000), "00002710"),
    (TxnDigest(2, 1371985504), "00000002 0000000051c6d660"),
    (Acl(31, Id("world", "anyone")), "0000001f 00000005 776f726c64 00000006 616e796f6e65"),
    (
        CreateRequest(b"/a", None, [Acl(1, Id("ip", "::1"))], 3),
        "00000002 2f61 ffffffff 00000001 00000001 00000002 6970 00000003 3a3a31 00000003",
    ),
    (RequestHeader(-2, OpCode.PING), "fffffffe 0000000b"),
]


@pytest.mark.parametrize(("record", "hexadecimal"), VECTORS)
def test_a_record_is_those_bytes(record: Record, hexadecimal: str) -> None:
    content = bytes.fromhex(hexadecimal)
    assert record.to_bytes() == content
    assert type(record).from_bytes(content) == record
    out = bytearray(b"x")
    record.encode(out)
    assert out == b"x" + content


@pytest.mark.parametrize(("record", "size"), [(Stat, 68), (StatPersisted, 60), (TxnHeader, 32), (TxnDigest, 12)])
def test_sizes(record: type[Record], size: int) -> None:
    decoded = record.from_bytes(bytes(size))
    assert len(decoded.to_bytes()) == size


def test_the_handshake_of_old_and_of_newer_clients() -> None:
    request = ConnectRequest(0, 0, 30_000, 0, bytes(16)).to_bytes()
    assert len(request) == 44
    for rest, remaining in ((b"", 0), (b"\0", 1)):
        reader = Reader(request + rest)
        ConnectRequest.decode(reader)
        assert reader.remaining == remaining


def test_the_owner_of_a_znode_with_a_time_to_live() -> None:
    assert (ttl_owner(100_000) & (2**64 - 1)).to_bytes(8, "big").hex() == "ff000000000186a0"


def test_vectors_may_be_null_empty_or_of_a_negative_length() -> None:
    assert GetChildrenResponse(None).to_bytes() == b"\xff\xff\xff\xff"
    assert GetChildrenResponse([]).to_bytes() == b"\0\0\0\0"
    assert GetChildrenResponse.from_bytes(b"\xff\xff\xff\xff").children is None
    assert GetChildrenResponse.from_bytes(b"\xff\xff\xff\xfe").children == []
    watches = SetWatches(1, None, [], [b"/a", None])
    assert SetWatches.from_bytes(watches.to_bytes()) == watches


def test_bytes_behind_a_record_are_ignored() -> None:
    assert PathVersionRequest.from_bytes(b"\0\0\0\1/\0\0\0\5more") == PathVersionRequest(b"/", 5)


def test_the_old_form_of_a_create_is_the_beginning_of_the_new() -> None:
    new = CreateTxn(b"/a", b"x", [], True, 7)
    old = CreateTxnV0.from_bytes(new.to_bytes())
    assert old == CreateTxnV0(b"/a", b"x", [], True)
    assert new.to_bytes() == old.to_bytes() + b"\0\0\0\7"


def test_records_compare_by_type_and_value() -> None:
    assert PathVersionRequest(b"/a", 1) == PathVersionRequest(b"/a", 1)
    assert PathVersionRequest(b"/a", 1) != PathVersionRequest(b"/a", 2)
    assert Id("a", "b") != RequestHeader(1, 2)
    assert repr(PathVersionRequest(b"/a", 1)) == "PathVersionRequest(path=b'/a', version=1)"
    with pytest.raises(TypeError):
        PathVersionRequest(b"/a")  # type: ignore[call-arg]


def test_error_codes() -> None:
    assert {int(code) for code in ErrorCode} == {
        *(0, -1, -2, -3, -4, -5, -6, -7, -8, -12, -13, -14, -100, -101, -102, -103, -108, -110, -111, -112, -113),
        *(-114, -115, -118, -119, -120, -121, -122, -123, -124, -125, -127),
    }
    for code, error in ERRORS_BY_CODE.items():
        assert issubclass(error, KeeperError)
        assert error().code == code
    assert str(ERRORS_BY_CODE[-101]()) == "no node"
    assert str(ERRORS_BY_CODE[-101]("/a")) == "/a"


def test_operation_codes() -> None:
    assert {int(op) for op in OpCode} == {
        *(-11, -10, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22),
        *(100, 101, 102, 103, 104, 105, 106, 107),
    }


@pytest.mark.parametrize(
    ("mode", "ephemeral", "sequential", "ttl"),
    [
        (CreateMode.PERSISTENT, False, False, False),
        (CreateMode.EPHEMERAL, True, False, False),
        (CreateMode.PERSISTENT_SEQUENTIAL, False, True, False),
        (CreateMode.EPHEMERAL_SEQUENTIAL, True, True, False),
        (CreateMode.CONTAINER, False, False, False),
        (CreateMode.PERSISTENT_WITH_TTL, False, False, True),
        (CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, False, True, True),
    ],
)
def test_create_modes(mode: CreateMode, ephemeral: bool, sequential: bool, ttl: bool) -> None:
    assert (mode.is_ephemeral, mode.is_sequential, mode.has_ttl) == (ephemeral, sequential, ttl)


def test_permissions() -> None:
    assert Permission.ALL == Permission.READ | Permission.WRITE | Permission.CREATE | Permission.DELETE | (
        Permission.ADMIN
    )
    assert [int(each) for each in Permission if each != Permission.ALL] == [1, 2, 4, 8, 16]
