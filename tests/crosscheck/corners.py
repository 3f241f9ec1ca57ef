"""A fixed plan of corner cases, each of which once told two servers apart or well could.

Random plans come by most of them too, but seldom, and rarely by all variants of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.crosscheck.calls import transaction
from tests.crosscheck.plan import (
    AclEntry,
    Acls,
    Batch,
    Bool,
    Bytes,
    Call,
    Checkpoint,
    Credentials,
    Int,
    Long,
    Open,
    Paths,
    Step,
)
from tests.crosscheck.runner import OPEN_ACL

from corral.jute.ops import OpCode, Xid

if TYPE_CHECKING:
    from collections.abc import Iterator

ANYONE: Final = Acls((OPEN_ACL,))
NULL: Final = Bytes(None)
SCHEMES: Final = (b"world", b"auth", b"digest", b"ip", b"nonsense", None)
LONG_BYTES: Final = 300_000
ALL_FLAGS: Final = (-1, 0, 1, 2, 3, 4, 5, 6, 7)


def corner_cases() -> list[Step]:
    """The plan."""
    return [
        Open("c1", "s1"),
        *_alone(_create(b"/a"), _create(b"/b")),
        *_sessions(),
        *_alone(
            *_reserved_paths(),
            *_flags_in_multi(),
            *_acls(),
            *_null_paths(),
            *_null_vectors(),
            *_odd_bodies(),
            _create("/b/\u00fc\u20ac".encode()),
        ),
        *_long_reads_between_writes(),
        Checkpoint(),
        *(Batch("c1", (Call(OpCode.PING, xid=-2),)) for _ in range(2)),
        Checkpoint(),
        Batch("c1", (Call(OpCode.AUTH, (Int(0), Bytes(b"digest"), NULL), xid=Xid.AUTH),), ends=True),
    ]


def _alone(*calls: Call) -> list[Step]:
    return [Batch("c1", (call,)) for call in calls]


def _create(
    path: bytes | None,
    flags: int = 0,
    acl: Acls = ANYONE,
    op: OpCode = OpCode.CREATE,
    ttl_ms: int | None = None,
) -> Call:
    fields = (Bytes(path), Bytes(b"data"), acl, Int(flags))
    return Call(op, fields if ttl_ms is None else (*fields, Long(ttl_ms)))


def _create_ttl(path: bytes | None, flags: int = 5, acl: Acls = ANYONE, ttl_ms: int = 1000) -> Call:
    return _create(path, flags, acl, OpCode.CREATE_TTL, ttl_ms)


def _multi(*calls: Call) -> Call:
    return transaction(OpCode.MULTI, calls)


def _multi_read(*calls: Call) -> Call:
    return transaction(OpCode.MULTI_READ, calls)


def _with_null_id(scheme: bytes | None) -> Acls:
    return Acls((AclEntry(31, scheme, None),))


def _get_data(path: bytes | None) -> Call:
    return Call(OpCode.GET_DATA, (Bytes(path), Bool(False)))


def _sessions() -> Iterator[Step]:
    """Wrong passwords close what the session has but do not end it; what is in front of a closeSession is served."""
    for credentials in (Credentials.WRONG_PASSWORD, Credentials.NULL_PASSWORD):
        yield Open("c2", "s2")
        yield Batch("c2", (_create(b"/b/mine", 1),))
        yield Open("c3", "s2", credentials)
        yield Batch("c2", (Call(OpCode.SYNC, (Bytes(b"/gone"),)),))
        yield Open("c2", "s2", Credentials.RIGHT)
        yield Batch(
            "c2",
            (
                _create(b"/b/e", 1),
                _get_data(b"/b/e"),
                Call(OpCode.EXISTS, (Bytes(b"/b/e"), Bool(True))),
                Call(OpCode.SET_DATA, (Bytes(b"/b/e"), Bytes(b"x"), Int(-1))),
                _multi_read(_get_data(b"/b/e")),
                Call(OpCode.GET_EPHEMERALS, (Bytes(b"/"),)),
                Call(OpCode.WHO_AM_I),
                Call(OpCode.ADD_WATCH, (Bytes(b"/b"), Int(1))),
                _create(b"/b/s", 3),
                Call(OpCode.CLOSE_SESSION),
            ),
            ends=True,
        )


def _long_reads_between_writes() -> Iterator[Step]:
    """Reads behind a write and in front of another see the one and not the other, however long they take."""
    long, short = Bytes(b"l" * LONG_BYTES), Bytes(b"s")
    read = _get_data(b"/a")
    watch = Call(OpCode.GET_DATA, (Bytes(b"/a"), Bool(True)))
    slow = (
        Call(OpCode.GET_ALL_CHILDREN_NUMBER, (Bytes(b"/"),)),
        Call(OpCode.GET_EPHEMERALS, (Bytes(b"/"),)),
    )
    remove = Call(OpCode.REMOVE_WATCHES, (Bytes(b"/a"), Int(2)))
    for data in (short, long):
        change = Call(OpCode.SET_DATA, (Bytes(b"/a"), data, Int(-1)))
        again = Call(OpCode.SET_DATA, (Bytes(b"/a"), short, Int(-1)))
        yield Batch("c1", (change, *slow, read, watch, *slow, remove, read, again, read, again, *slow, read))
        yield Batch("c1", (change, *[read] * 12, watch, again, *[read] * 3, again, read))


def _reserved_paths() -> Iterator[Call]:
    bad_acl = Acls((AclEntry(31, b"nonsense", b"x"),))
    for path in (b"/", b"/zookeeper", b"/zookeeper/quota", b"/zookeeper/config"):
        yield _create(path)
        yield _create(path, 2)
        yield _create(path, 3, op=OpCode.CREATE2)
        yield _create(path, 4, bad_acl, OpCode.CREATE_CONTAINER)
        yield _create_ttl(path)
        yield _multi(_create(path))
        yield _multi(_create(path, 2))
        yield _multi(_create(b"/a/z"), _create(path))
        yield Call(OpCode.DELETE, (Bytes(path), Int(-1)))
        yield _multi(_create(b"/a/z"), Call(OpCode.DELETE, (Bytes(path), Int(-1))))


def _flags_in_multi() -> Iterator[Call]:
    """In a multi the flags, not the operation, say which kind of znode a create makes."""
    for flags in ALL_FLAGS:
        for op in (OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER):
            yield _multi(_create(b"/b/f%d-%d" % (op, flags), flags, op=op))
        yield _multi(_create_ttl(b"/b/t%d" % flags, flags))
        yield _multi(_create_ttl(b"/b/n%d" % flags, flags, ttl_ms=-1))
    for ttl_ms in (0, 2**40 - 1, 2**40):
        yield _multi(_create_ttl(b"/b/l%d" % ttl_ms, ttl_ms=ttl_ms))


def _acls() -> Iterator[Call]:
    for empty in (Acls(None), Acls(())):
        for op in (OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER):
            yield _create(b"/b/x", 0, empty, op)
            yield _multi(_create(b"/b/x", 0, empty, op))
        yield _create_ttl(b"/b/x", acl=empty)
        yield _multi(_create_ttl(b"/b/x", acl=empty))
        yield Call(OpCode.SET_ACL, (Bytes(b"/b"), empty, Int(-1)))
    for scheme in SCHEMES:
        acl = _with_null_id(scheme)
        yield _create(b"/b/x", 0, acl)
        yield _create(b"/b/x", 100, acl)
        yield _create(b"/nowhere/x", 0, acl)
        yield _create_ttl(b"/b/x", acl=acl)
        yield Call(OpCode.SET_ACL, (Bytes(b"/b"), acl, Int(-1)))
        yield Call(OpCode.SET_ACL, (Bytes(b"/nowhere"), acl, Int(-1)))
        yield _multi(_create(b"/b/y"), _create(b"/b/x", 0, acl), _create(b"/b/z"))


def _null_paths() -> Iterator[Call]:
    for flags in (0, 2, 100):
        yield _create(None, flags)
    yield _create(None, 4, op=OpCode.CREATE_CONTAINER)
    yield _create_ttl(None)
    changes = [
        Call(OpCode.DELETE, (NULL, Int(-1))),
        Call(OpCode.SET_DATA, (NULL, Bytes(b""), Int(-1))),
    ]
    yield from changes
    yield Call(OpCode.SET_ACL, (NULL, ANYONE, Int(-1)))
    for change in (*changes, _create(None), Call(OpCode.CHECK, (NULL, Int(-1)))):
        yield _multi(change)
        yield _multi(_create(b"/b/y"), change)
    for op in (OpCode.EXISTS, OpCode.GET_DATA, OpCode.GET_CHILDREN, OpCode.GET_CHILDREN2):
        yield Call(op, (NULL, Bool(True)))
    for op in (OpCode.GET_ACL, OpCode.SYNC, OpCode.GET_ALL_CHILDREN_NUMBER, OpCode.GET_EPHEMERALS):
        yield Call(op, (NULL,))
    yield _multi_read(_get_data(None))
    yield _multi_read(_get_data(b"/b"), _get_data(None), _get_data(b"/b"))
    yield _multi_read(_get_data(b"/b"), Call(OpCode.GET_CHILDREN, (NULL, Bool(False))))
    for op in (OpCode.ADD_WATCH, OpCode.CHECK_WATCHES, OpCode.REMOVE_WATCHES, OpCode.REMOVE_WATCHES):
        yield Call(op, (NULL, Int(1 if op == OpCode.ADD_WATCH else 3)))


def _null_vectors() -> Iterator[Call]:
    """What stands before the null is done; what stands behind it is not."""
    filled = Paths((b"/nowhere",))
    for bad in (Paths(None), Paths((b"/nowhere", None)), Paths((None, b"/a"))):
        for position in range(3):
            vectors = [bad if i == position else filled for i in range(3)]
            yield Call(OpCode.SET_WATCHES, (Long(0), *vectors), xid=Xid.SET_WATCHES)
        for position in range(5):
            vectors = [bad if i == position else filled for i in range(5)]
            yield Call(OpCode.SET_WATCHES2, (Long(0), *vectors), xid=Xid.SET_WATCHES)


def _odd_bodies() -> Iterator[Call]:
    yield Call(OpCode.SET_WATCHES, (Long(0), Int(-2), Int(-3), Int(-4)), xid=Xid.SET_WATCHES)
    for count in (-1, -2, 2**31 - 1):
        yield Call(OpCode.CREATE, (Bytes(b"/b/v"), Bytes(b""), Int(count), Int(0)))
    yield Call(OpCode.DELETE_CONTAINER)
    yield Call(OpCode.DELETE_CONTAINER, extra=b"/b/y")
    yield Call(OpCode.SASL, (Bytes(b""),))
    for path in (b"/", b"/b", b"/zookeeper"):
        yield Call(OpCode.GET_ALL_CHILDREN_NUMBER, (Bytes(path),))
