"""Requests become transactions or are refused, in the documented order of checks."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from tests.trees import ANYONE, EXTENDED, SESSION, Grower

from corral.jute.errors import (
    BadArgumentsError,
    BadVersionError,
    InvalidAclError,
    KeeperError,
    MarshallingError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    QuotaExceededError,
    ReconfigDisabledError,
    SessionExpired,
    UnimplementedError,
)
from corral.jute.ops import OpCode
from corral.jute.record import Record
from corral.jute.records import (
    Acl,
    CheckVersionTxn,
    CloseSessionTxn,
    CreateContainerTxn,
    CreateRequest,
    CreateTtlRequest,
    CreateTtlTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    Id,
    MultiHeader,
    MultiTxn,
    PathVersionRequest,
    ReconfigRequest,
    SetAclRequest,
    SetAclTxn,
    SetDataRequest,
    SetDataTxn,
)
from corral.tree.acl import DIGEST, IP, AccessControl
from corral.tree.datatree import DataTree
from corral.tree.prepare import Preparer, error_record

OPEN = [ANYONE]
NOBODY = [Acl(31, Id("digest", "nobody:x"))]
DEAD_SESSION = 0x666
ME = (("ip", "10.0.0.1"), ("digest", "me:h"))


class Bench:
    """A preparer over a small tree: /a, /a/b, /e (ephemeral), /closed (for nobody) with /closed/x."""

    def __init__(self, *, extended: bool = True, **options: Any) -> None:
        grower = Grower(DataTree(EXTENDED) if extended else DataTree())
        grower.open_session()
        grower.create(b"/a", b"1234")
        grower.create(b"/a/b")
        grower.create(b"/e", ephemeral=True)
        grower.create(b"/closed", b"", *NOBODY)
        grower.create(b"/closed/x")
        self.tree = grower.tree
        self.preparer = Preparer(self.tree, AccessControl((DIGEST, IP)), **options)
        self.zxid = self.tree.last_zxid

    def prepare(self, op: int, body: Record | bytes, session: int = SESSION) -> bytes:
        """The transaction's record."""
        self.zxid += 1
        encoded = body if isinstance(body, bytes) else body.to_bytes()
        return self.preparer.prepare(op, session, encoded, ME, self.zxid, 1000)[0]

    def refusal(self, op: int, body: Record | bytes, session: int = SESSION) -> type[KeeperError]:
        """What it is refused with; nothing may have changed."""
        digest = self.preparer.digest
        with pytest.raises(KeeperError) as caught:
            self.prepare(op, body, session)
        assert self.preparer.digest == digest
        return next(each for each in type(caught.value).mro() if each in KeeperError.__subclasses__())


def create(path: bytes | None, flags: int = 0, acl: list[Acl] | None = OPEN, data: bytes = b"") -> CreateRequest:
    return CreateRequest(path, data, acl, flags)


# Each list: requests of which every one would be refused for all reasons that follow its own as well.

CREATE_ORDER = [
    (create(b"no", 7, [], b"12345"), DEAD_SESSION, BadArgumentsError),
    (create(b"no", 5, [], b"12345"), DEAD_SESSION, BadArgumentsError),
    (create(b"no", 1, [], b"12345"), DEAD_SESSION, SessionExpired),
    (create(b"no", 1, [], b"12345"), SESSION, BadArgumentsError),
    (create(b"/no\0/..", 1, [], b"12345"), SESSION, BadArgumentsError),
    (create(b"/no/..", 1, [], b"12345"), SESSION, InvalidAclError),
    (create(b"/no/..", 1, NOBODY, b"12345"), SESSION, NoNodeError),
    (create(b"/closed/..", 1, NOBODY), SESSION, NoAuthError),
    (create(b"/closed/x", 1, NOBODY), SESSION, NoAuthError),
    (create(b"/a/..", 1, NOBODY), SESSION, BadArgumentsError),
    (create(b"/e/", 1), SESSION, BadArgumentsError),
    (create(b"/a/b", 1), SESSION, NodeExistsError),
    (create(b"/e/c", 1), SESSION, NoChildrenForEphemeralsError),
]


@pytest.mark.parametrize(("request_", "session", "expected"), CREATE_ORDER)
@pytest.mark.parametrize("op", [OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER])
def test_create_is_checked_in_order(
    op: OpCode, request_: CreateRequest, session: int, expected: type[KeeperError]
) -> None:
    assert Bench().refusal(op, request_, session) is expected


@pytest.mark.parametrize(
    ("flags", "ttl_ms", "extended", "expected"),
    [
        (7, 1, True, BadArgumentsError),
        (-1, 1, True, BadArgumentsError),
        (5, 0, False, UnimplementedError),
        (6, 1000, False, UnimplementedError),
        (5, 0, True, BadArgumentsError),
        (5, -1, True, BadArgumentsError),
        (6, 0xFFFFFFFFFF + 1, True, BadArgumentsError),
        (0, 1, True, BadArgumentsError),
        (0, -1, True, BadArgumentsError),
        (4, -1, True, BadArgumentsError),
        (5, 0xFFFFFFFFFF, True, SessionExpired),
        (6, 1, True, SessionExpired),
    ],
)
def test_ttl_is_checked_before_the_session(
    flags: int, ttl_ms: int, extended: bool, expected: type[KeeperError]
) -> None:
    request = CreateTtlRequest(b"no", b"", [], flags, ttl_ms)
    assert Bench(extended=extended).refusal(OpCode.CREATE_TTL, request, DEAD_SESSION) is expected


def test_flags_of_a_ttl_znode_need_its_operation() -> None:
    for op in (OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER):
        assert Bench().refusal(op, create(b"/x", 5)) is BadArgumentsError
        assert Bench(extended=False).refusal(op, create(b"/x", 6)) is UnimplementedError


@pytest.mark.parametrize(
    ("path", "version", "session", "expected"),
    [
        (b"/", 9, DEAD_SESSION, SessionExpired),
        (b"/", 9, SESSION, BadArgumentsError),
        (b"/zookeeper", 9, SESSION, BadArgumentsError),
        (b"/zookeeper/quota", 9, SESSION, BadArgumentsError),
        (b"/zookeeper/config", 9, SESSION, BadArgumentsError),
        (b"", 9, SESSION, BadArgumentsError),
        (b"no", 9, SESSION, BadArgumentsError),
        (b"/no\0", 9, SESSION, BadArgumentsError),
        (b"/no/no", 9, SESSION, NoNodeError),
        (b"/closed/no", 9, SESSION, NoAuthError),
        (b"/no", 9, SESSION, NoNodeError),
        (b"/a", 9, SESSION, BadVersionError),
        (b"/a", 0, SESSION, NotEmptyError),
    ],
)
def test_delete_is_checked_in_order(path: bytes, version: int, session: int, expected: type[KeeperError]) -> None:
    assert Bench().refusal(OpCode.DELETE, PathVersionRequest(path, version), session) is expected


@pytest.mark.parametrize(
    ("path", "session", "expected"),
    [
        (b"/no//", DEAD_SESSION, SessionExpired),
        (b"/no//", SESSION, BadArgumentsError),
        (b"", SESSION, BadArgumentsError),
        (b"/no", SESSION, NoNodeError),
        (b"/closed", SESSION, NoAuthError),
        (b"/zookeeper/config", SESSION, NoAuthError),
        (b"/a", SESSION, BadVersionError),
    ],
)
def test_set_data_and_check_are_checked_in_order(path: bytes, session: int, expected: type[KeeperError]) -> None:
    assert Bench().refusal(OpCode.SET_DATA, SetDataRequest(path, b"12345", 9), session) is expected
    if path != b"/zookeeper/config":
        assert Bench().refusal(OpCode.CHECK, PathVersionRequest(path, 9), session) is expected


@pytest.mark.parametrize(
    ("path", "acl", "session", "expected"),
    [
        (b"/no//", [], DEAD_SESSION, SessionExpired),
        (b"/no//", [], SESSION, BadArgumentsError),
        (b"/no", [], SESSION, InvalidAclError),
        (b"/no", OPEN, SESSION, NoNodeError),
        (b"/closed", OPEN, SESSION, NoAuthError),
        (b"/a", OPEN, SESSION, BadVersionError),
    ],
)
def test_set_acl_is_checked_in_order(path: bytes, acl: list[Acl], session: int, expected: type[KeeperError]) -> None:
    assert Bench().refusal(OpCode.SET_ACL, SetAclRequest(path, acl, 9), session) is expected


def test_delete_container_is_checked_in_order() -> None:
    bench = Bench()
    assert bench.refusal(OpCode.DELETE_CONTAINER, b"/no", 0) is NoNodeError
    assert bench.refusal(OpCode.DELETE_CONTAINER, b"/a", 0) is NotEmptyError
    assert bench.refusal(OpCode.DELETE_CONTAINER, b"/e", 0) is BadVersionError
    assert bench.prepare(OpCode.DELETE_CONTAINER, b"/a/b", 0) == DeleteTxn(b"/a/b").to_bytes()


@pytest.mark.parametrize("enabled", [True, False])
def test_a_standalone_server_has_no_members_to_change(enabled: bool) -> None:
    request = ReconfigRequest("server.1=x", None, None, -1)
    expected = UnimplementedError if enabled else ReconfigDisabledError
    assert Bench(reconfig_enabled=enabled).refusal(OpCode.RECONFIG, request) is expected


# What becomes of those that pass


def test_records_carry_results() -> None:
    bench = Bench()
    record = bench.prepare(OpCode.CREATE, create(b"/a/s", 2))
    assert CreateTxn.from_bytes(record) == CreateTxn(b"/a/s0000000001", b"", OPEN, False, 2)
    record = bench.prepare(OpCode.CREATE2, create(b"/a/", 3))
    assert CreateTxn.from_bytes(record) == CreateTxn(b"/a/0000000002", b"", OPEN, True, 3)
    record = bench.prepare(OpCode.CREATE_CONTAINER, create(b"/a/c", 4))
    assert CreateContainerTxn.from_bytes(record) == CreateContainerTxn(b"/a/c", b"", OPEN, 4)
    record = bench.prepare(OpCode.CREATE_TTL, CreateTtlRequest(b"/a/t", b"", OPEN, 6, 77))
    assert CreateTtlTxn.from_bytes(record) == CreateTtlTxn(b"/a/t0000000004", b"", OPEN, 5, 77)
    record = bench.prepare(OpCode.SET_DATA, SetDataRequest(b"/a", None, 0))
    assert SetDataTxn.from_bytes(record) == SetDataTxn(b"/a", None, 1)
    record = bench.prepare(OpCode.SET_ACL, SetAclRequest(b"/a", [Acl(1, Id("auth", "whatever"))], -1))
    assert SetAclTxn.from_bytes(record) == SetAclTxn(b"/a", [Acl(1, Id("digest", "me:h"))], 1)
    record = bench.prepare(OpCode.CHECK, PathVersionRequest(b"/a/b", -1))
    assert CheckVersionTxn.from_bytes(record) == CheckVersionTxn(b"/a/b", 1)
    assert bench.refusal(OpCode.SET_DATA, SetDataRequest(b"/a", None, 0)) is NoAuthError


@pytest.mark.parametrize("path", [b"/", b"/zookeeper", b"/zookeeper/quota", b"/zookeeper/config"])
def test_what_every_tree_has_exists(path: bytes) -> None:
    assert Bench().refusal(OpCode.CREATE, create(path)) is NodeExistsError


def test_a_sequential_znode_may_have_no_name_of_its_own() -> None:
    record = Bench().prepare(OpCode.CREATE, create(b"/", 2))
    assert CreateTxn.from_bytes(record).path == b"/0000000003"


@pytest.mark.parametrize("path", [b"//x", b"//", b"/a//x", b"/a/./x"])
@pytest.mark.parametrize("flags", [0, 2])
def test_no_znode_gets_an_invalid_path(path: bytes, flags: int) -> None:
    """``//x`` lies below ``/``, which is a name of the root."""
    assert Bench().refusal(OpCode.CREATE, create(path, flags)) in (BadArgumentsError, NoNodeError)


@pytest.mark.parametrize(("version", "following"), [(2**31 - 1, -(2**31)), (-2, 0), (-3, -2), (7, 8)])
def test_versions_wrap_and_leave_out_minus_one(version: int, following: int) -> None:
    bench = Bench()
    bench.tree.apply(OpCode.SET_DATA, 100, 0, SESSION, SetDataTxn(b"/a", b"", version).to_bytes())
    bench.tree.apply(OpCode.SET_ACL, 101, 0, SESSION, SetAclTxn(b"/a", OPEN, version).to_bytes())
    for expected in (version, -1):
        bench = Bench()
        bench.tree.apply(OpCode.SET_DATA, 100, 0, SESSION, SetDataTxn(b"/a", b"", version).to_bytes())
        bench.tree.apply(OpCode.SET_ACL, 101, 0, SESSION, SetAclTxn(b"/a", OPEN, version).to_bytes())
        record = bench.prepare(OpCode.SET_DATA, SetDataRequest(b"/a", b"", expected))
        assert SetDataTxn.from_bytes(record).version == following
        record = bench.prepare(OpCode.SET_ACL, SetAclRequest(b"/a", OPEN, expected))
        assert SetAclTxn.from_bytes(record).version == following


def test_the_counter_of_children_sticks_at_its_end() -> None:
    """Prepared together, creations count on into the negative; applied, the counter stays at the largest number."""
    bench = Bench()
    last = CreateTxn(b"/a/last", b"", OPEN, False, 2**31 - 1)
    bench.tree.apply(OpCode.CREATE, 100, 0, SESSION, last.to_bytes())
    records = [CreateTxn.from_bytes(bench.prepare(OpCode.CREATE, create(b"/a/s", 2))) for _ in range(2)]
    assert [(txn.path, txn.parent_cversion) for txn in records] == [
        (b"/a/s2147483647", -(2**31)),
        (b"/a/s-2147483648", -(2**31) + 1),
    ]
    bench.preparer.hand_over()
    for number, txn in enumerate(records):
        bench.tree.apply(OpCode.CREATE, 101 + number, 0, SESSION, txn.to_bytes())
    bench.preparer.applied()
    assert bench.refusal(OpCode.CREATE, create(b"/a/s", 2)) is NodeExistsError


# What cannot be decoded

DECODABLE: list[tuple[int, Record]] = [
    (OpCode.CREATE, CreateRequest(b"/x", b"data", OPEN, 0)),
    (OpCode.CREATE, CreateRequest(b"/x", b"data", NOBODY, 0)),
    (OpCode.CREATE2, CreateRequest(b"/x", None, OPEN, 2)),
    (OpCode.CREATE_CONTAINER, CreateRequest(b"/x", b"", OPEN, 4)),
    (OpCode.CREATE_TTL, CreateTtlRequest(b"/x", b"", OPEN, 5, 10)),
    (OpCode.DELETE, PathVersionRequest(b"/a/b", -1)),
    (OpCode.SET_DATA, SetDataRequest(b"/a", b"data", -1)),
    (OpCode.SET_DATA, SetDataRequest(b"/a", None, -1)),
    (OpCode.SET_ACL, SetAclRequest(b"/a", OPEN, -1)),
    (OpCode.CHECK, PathVersionRequest(b"/a", -1)),
    (OpCode.RECONFIG, ReconfigRequest("x", None, None, -1)),
]


@pytest.mark.parametrize(("op", "request_"), DECODABLE)
def test_a_request_cut_short_cannot_be_decoded(op: int, request_: Record) -> None:
    bench = Bench()
    body = request_.to_bytes()
    for size in range(len(body)):
        assert bench.refusal(op, body[:size]) is MarshallingError, size
    for size in range(0, len(body), 3):
        # Whoever asks: the session is not even looked at.
        assert bench.refusal(op, body[:size], DEAD_SESSION) is MarshallingError, size


@pytest.mark.parametrize("length", [-2, -(2**31), 2**31 - 1])
def test_lengths_that_make_no_sense(length: int) -> None:
    bench = Bench()
    wrong = struct.pack(">i", length)
    rest = struct.pack(">i", 0) + bytes(60)
    for op in (OpCode.CREATE, OpCode.SET_DATA, OpCode.DELETE, OpCode.SET_ACL, OpCode.CREATE_TTL):
        assert bench.refusal(op, wrong + rest) is MarshallingError
    assert bench.refusal(OpCode.SET_DATA, b"\0\0\0\2/a" + wrong + rest) is MarshallingError
    assert bench.refusal(OpCode.CREATE, b"\0\0\0\2/x" + wrong + rest) is MarshallingError


# Multi


def multi(*parts: tuple[int, Record], end: bytes = MultiHeader(-1, True, -1).to_bytes()) -> bytes:
    return b"".join(MultiHeader(op, False, -1).to_bytes() + part.to_bytes() for op, part in parts) + end


def parts_of(record: bytes) -> list[tuple[int, bytes | None]]:
    return [(txn.type, txn.data) for txn in MultiTxn.from_bytes(record).txns or []]


def test_an_empty_multi() -> None:
    assert parts_of(Bench().prepare(OpCode.MULTI, multi())) == []


def test_each_operation_of_a_multi_sees_those_before_it() -> None:
    bench = Bench()
    parts = parts_of(
        bench.prepare(
            OpCode.MULTI,
            multi(
                (OpCode.CREATE, create(b"/x")),
                (OpCode.CREATE2, create(b"/x/s", 2)),
                (OpCode.SET_DATA, SetDataRequest(b"/x", b"1", 0)),
                (OpCode.SET_DATA, SetDataRequest(b"/x", b"2", 1)),
                (OpCode.CHECK, PathVersionRequest(b"/x", 2)),
                (OpCode.DELETE, PathVersionRequest(b"/x/s0000000000", 0)),
                (OpCode.DELETE, PathVersionRequest(b"/x", 2)),
                (OpCode.CREATE, create(b"/x")),
            ),
        )
    )
    assert [kind for kind, _ in parts] == [1, 15, 5, 5, 13, 2, 2, 1]
    assert bench.refusal(OpCode.CREATE, create(b"/x")) is NodeExistsError


def test_a_failing_multi_leaves_nothing_behind() -> None:
    bench = Bench()
    bench.prepare(OpCode.CREATE, create(b"/before"))
    digest = bench.preparer.digest
    parts = parts_of(
        bench.prepare(
            OpCode.MULTI,
            multi(
                (OpCode.CREATE, create(b"/x", 1)),
                (OpCode.DELETE, PathVersionRequest(b"/before", -1)),
                (OpCode.SET_DATA, SetDataRequest(b"/a", b"new", -1)),
                (OpCode.CHECK, PathVersionRequest(b"/a", 0)),
                (OpCode.CREATE, create(b"/y")),
            ),
        )
    )
    assert [kind for kind, _ in parts] == [1, 2, 5, -1, -1]
    assert [data for kind, data in parts if kind == -1] == [
        ErrorTxn(BadVersionError.code).to_bytes(),
        ErrorTxn(-2).to_bytes(),
    ]
    assert bench.preparer.digest == digest
    assert bench.refusal(OpCode.CREATE, create(b"/before")) is NodeExistsError
    assert bench.refusal(OpCode.SET_DATA, SetDataRequest(b"/a", b"", 1)) is BadVersionError
    closing = CloseSessionTxn.from_bytes(bench.prepare(OpCode.CLOSE_SESSION, b""))
    assert closing.paths_to_delete == [b"/e"]


def test_a_multi_of_an_expired_session_fails_inside() -> None:
    parts = parts_of(Bench().prepare(OpCode.MULTI, multi((OpCode.CREATE, create(b"/x"))), DEAD_SESSION))
    assert parts == [(-1, ErrorTxn(SessionExpired.code).to_bytes())]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        multi(end=b""),
        multi((OpCode.GET_DATA, PathVersionRequest(b"/a", 0))),
        multi((OpCode.CREATE, create(b"/x")), (OpCode.SET_ACL, SetAclRequest(b"/a", OPEN, -1))),
        multi((OpCode.MULTI, PathVersionRequest(b"/a", 0))),
        multi((OpCode.CREATE, create(b"/x", 7))),
        multi((OpCode.CREATE, create(b"/x")), end=b""),
        multi((OpCode.CREATE, create(b"/x")), end=MultiHeader(-1, True, -1).to_bytes()[:8]),
    ],
)
def test_a_multi_that_is_none_fails_as_a_whole(body: bytes) -> None:
    bench = Bench()
    assert bench.refusal(OpCode.MULTI, body) is MarshallingError
    bench.prepare(OpCode.CREATE, create(b"/x"))


def test_flags_tell_a_container_inside_a_multi() -> None:
    parts = parts_of(Bench().prepare(OpCode.MULTI, multi((OpCode.CREATE, create(b"/x", 4)))))
    assert [kind for kind, _ in parts] == [OpCode.CREATE_CONTAINER]


# Sessions


def test_a_closing_session_takes_what_it_will_own() -> None:
    bench = Bench()
    bench.prepare(OpCode.CREATE, create(b"/e1", 1))
    bench.preparer.hand_over()
    bench.prepare(OpCode.CREATE, create(b"/e2", 1))
    bench.prepare(OpCode.DELETE, PathVersionRequest(b"/e", -1))
    bench.prepare(OpCode.DELETE, PathVersionRequest(b"/e1", -1))
    bench.prepare(OpCode.CREATE, create(b"/e1", 0))
    record = CloseSessionTxn.from_bytes(bench.prepare(OpCode.CLOSE_SESSION, b""))
    assert record.paths_to_delete == [b"/e2"]
    for op, request in DECODABLE:
        if op != OpCode.RECONFIG:
            assert bench.refusal(op, request) is SessionExpired


def test_an_old_log_is_told_no_paths() -> None:
    assert Bench(close_session_lists_paths=False).prepare(OpCode.CLOSE_SESSION, b"") == b""


def test_a_session_may_write_before_its_opening_is_applied() -> None:
    bench = Bench()
    assert bench.refusal(OpCode.CREATE, create(b"/x"), 5) is SessionExpired
    bench.preparer.open_session(5, 1000)
    bench.prepare(OpCode.CREATE_SESSION, struct.pack(">i", 1000), 5)
    bench.prepare(OpCode.CREATE, create(b"/x"), 5)
    bench.tree.sessions[5] = 1000
    bench.preparer.session_applied(5)
    bench.prepare(OpCode.CREATE, create(b"/y"), 5)


# Quotas


def limited_bench(limits: bytes, *, enforce: bool = True) -> Bench:
    bench = Bench(enforce_quota=enforce)
    grower = Grower(bench.tree)
    grower.create(b"/zookeeper/quota/a")
    grower.create(b"/zookeeper/quota/a/zookeeper_stats", b"count=0,bytes=0")
    grower.create(b"/zookeeper/quota/a/zookeeper_limits", limits)
    return bench


@pytest.mark.parametrize(
    ("limits", "fits"),
    [
        (b"count=0,bytes=0", True),
        (b"count=2,bytes=-1=;byteHardLimit=-1;countHardLimit=2", False),
        (b"count=2,bytes=-1=;byteHardLimit=-1;countHardLimit=3", True),
        (b"count=-1,bytes=-1=;byteHardLimit=6;countHardLimit=-1", False),
        (b"count=-1,bytes=-1=;byteHardLimit=7;countHardLimit=-1", True),
    ],
)
def test_hard_quotas_refuse_what_exceeds_them(limits: bytes, fits: bool) -> None:
    """There are two znodes with four bytes below the limit; one with three more is wanted."""
    request = create(b"/a/c", data=b"567")
    if fits:
        limited_bench(limits).prepare(OpCode.CREATE, request)
    else:
        assert limited_bench(limits).refusal(OpCode.CREATE, request) is QuotaExceededError
        limited_bench(limits, enforce=False).prepare(OpCode.CREATE, request)
    limited_bench(limits).prepare(OpCode.CREATE, create(b"/elsewhere", data=bytes(100)))


def test_hard_quotas_of_bytes_hold_for_changes_before_the_version_is_looked_at() -> None:
    limits = b"count=-1,bytes=-1=;byteHardLimit=5;countHardLimit=-1"
    bench = limited_bench(limits)
    bench.prepare(OpCode.SET_DATA, SetDataRequest(b"/a", b"12345", -1))
    assert limited_bench(limits).refusal(OpCode.SET_DATA, SetDataRequest(b"/a", b"123456", 9)) is QuotaExceededError
    assert limited_bench(limits).refusal(OpCode.SET_DATA, SetDataRequest(b"/a", b"12345", 9)) is BadVersionError


def test_an_error_is_a_transaction() -> None:
    assert error_record(-101) == b"\xff\xff\xff\x9b"
