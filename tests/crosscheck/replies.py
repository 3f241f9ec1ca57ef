"""Decoding of what a server sends, written from the protocol's description and apart from Corral's own codec.

Numbers that mean something to a comparison keep their meaning: a zxid is a `Zxid`, a time a `Moment` with the zxid of
the transaction that set it, a session id a `SessionId`. Strings stay bytes. Lists whose order the protocol leaves open
(children, ephemerals, whoAmI) are sorted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from corral.jute.ops import OpCode


@dataclass(frozen=True, slots=True)
class Zxid:
    value: int


@dataclass(frozen=True, slots=True)
class Moment:
    """Milliseconds since the epoch, set by the transaction `zxid`."""

    ms: int
    zxid: int


@dataclass(frozen=True, slots=True)
class SessionId:
    value: int


class UndecodableError(Exception):
    """A reply body that is not what its operation answers."""


class Cursor:
    """Reads primitives off the front of bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, size: int) -> bytes:
        start, self.position = self.position, self.position + size
        if size < 0 or self.position > len(self.data):
            raise UndecodableError(f"{size} bytes wanted at byte {start} of {len(self.data)}")
        return self.data[start : self.position]

    def int32(self) -> int:
        return int.from_bytes(self.take(4), "big", signed=True)

    def int64(self) -> int:
        return int.from_bytes(self.take(8), "big", signed=True)

    def string(self) -> bytes | None:
        length = self.int32()
        return None if length == -1 else self.take(length)

    def strings(self) -> list[bytes | None]:
        return [self.string() for _ in range(self.int32())]

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.position)


STAT: Final = struct.Struct(">qqqqiiiqiiq")


def stat(cursor: Cursor) -> dict[str, Any]:
    czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, length, children, pzxid = STAT.unpack(
        cursor.take(STAT.size)
    )
    return {
        "czxid": Zxid(czxid),
        "mzxid": Zxid(mzxid),
        "ctime": Moment(ctime, czxid),
        "mtime": Moment(mtime, mzxid),
        "version": version,
        "cversion": cversion,
        "aversion": aversion,
        "ephemeralOwner": SessionId(owner),
        "dataLength": length,
        "numChildren": children,
        "pzxid": Zxid(pzxid),
    }


def acl(cursor: Cursor) -> list[tuple[int, bytes | None, bytes | None]]:
    """Entries in their order, but for neighbours with the same permissions and scheme: in what ``auth`` stands for, the
    order of a connection's ids is open."""
    entries = [(cursor.int32(), cursor.string(), cursor.string()) for _ in range(cursor.int32())]
    runs = groupby(entries, key=itemgetter(0, 1))
    return [entry for _, run in runs for entry in sorted(run, key=lambda entry: entry[2] or b"")]


def _sorted(values: list[bytes | None]) -> list[bytes | None]:
    return sorted(values, key=lambda value: value or b"")


def _nothing(cursor: Cursor) -> dict[str, Any]:
    return {}


def _path(cursor: Cursor) -> dict[str, Any]:
    return {"path": cursor.string()}


def _path_stat(cursor: Cursor) -> dict[str, Any]:
    return {"path": cursor.string(), "stat": stat(cursor)}


def _stat(cursor: Cursor) -> dict[str, Any]:
    return {"stat": stat(cursor)}


def _data_stat(cursor: Cursor) -> dict[str, Any]:
    return {"data": cursor.string(), "stat": stat(cursor)}


def _acl_stat(cursor: Cursor) -> dict[str, Any]:
    return {"acl": acl(cursor), "stat": stat(cursor)}


def _children(cursor: Cursor) -> dict[str, Any]:
    return {"children": _sorted(cursor.strings())}


def _children_stat(cursor: Cursor) -> dict[str, Any]:
    return {"children": _sorted(cursor.strings()), "stat": stat(cursor)}


def _number(cursor: Cursor) -> dict[str, Any]:
    return {"number": cursor.int32()}


def _error(cursor: Cursor) -> dict[str, Any]:
    return {"err": cursor.int32()}


def _token(cursor: Cursor) -> dict[str, Any]:
    return {"token": cursor.string()}


def _who(cursor: Cursor) -> dict[str, Any]:
    infos = [(cursor.string(), cursor.string()) for _ in range(cursor.int32())]
    return {"clientInfo": sorted(infos, key=repr)}


RESULTS: Final[dict[int, Callable[[Cursor], dict[str, Any]]]] = {
    OpCode.CREATE: _path,
    OpCode.CREATE2: _path_stat,
    OpCode.DELETE: _nothing,
    OpCode.SET_DATA: _stat,
    OpCode.CHECK: _nothing,
    OpCode.GET_DATA: _data_stat,
    OpCode.GET_CHILDREN: _children,
    OpCode.ERROR: _error,
}
"""The results that a multi may carry, by the type in their header."""


def _multi(cursor: Cursor) -> dict[str, Any]:
    results: list[dict[str, Any]] = []
    while True:
        kind, done, err = cursor.int32(), cursor.take(1) != b"\x00", cursor.int32()
        if done:
            return {"results": results, "end": (kind, err)}
        decode = RESULTS.get(kind)
        if decode is None:
            raise UndecodableError(f"result {len(results)} of a multi has type {kind}")
        results.append({"type": kind, "header err": err, **decode(cursor)})


BODIES: Final[dict[int, Callable[[Cursor], dict[str, Any]]]] = {
    OpCode.CREATE: _path,
    OpCode.DELETE: _nothing,
    OpCode.EXISTS: _stat,
    OpCode.GET_DATA: _data_stat,
    OpCode.SET_DATA: _stat,
    OpCode.GET_ACL: _acl_stat,
    OpCode.SET_ACL: _stat,
    OpCode.GET_CHILDREN: _children,
    OpCode.SYNC: _path,
    OpCode.GET_CHILDREN2: _children_stat,
    OpCode.MULTI: _multi,
    OpCode.CREATE2: _path_stat,
    OpCode.RECONFIG: _data_stat,
    OpCode.CREATE_CONTAINER: _path_stat,
    OpCode.CREATE_TTL: _path_stat,
    OpCode.MULTI_READ: _multi,
    OpCode.SASL: _token,
    OpCode.GET_EPHEMERALS: _children,
    OpCode.GET_ALL_CHILDREN_NUMBER: _number,
    OpCode.ADD_WATCH: _error,
    OpCode.WHO_AM_I: _who,
}
"""What follows the reply header when its ``err`` is 0; nothing for operations that are not here."""


def decode_body(op: int, err: int, payload: bytes) -> dict[str, Any]:
    """A reply's body. What does not decode, or is left over, is part of the result, never lost.

    Errors have none, but for one oddity of Apache's: a multiRead that fails half-way carries the results so far.
    """
    cursor = Cursor(payload)
    try:
        body = BODIES.get(op, _nothing)(cursor) if err == 0 or payload else {}
    except (UndecodableError, struct.error) as error:
        return {"undecodable": str(error), "bytes": payload}
    left = cursor.rest()
    return {**body, "bytes left over": left} if left else body


def decode_event(payload: bytes) -> dict[str, Any]:
    """A WatcherEvent."""
    cursor = Cursor(payload)
    try:
        event: dict[str, Any] = {"type": cursor.int32(), "state": cursor.int32(), "path": cursor.string()}
    except UndecodableError as error:
        return {"undecodable": str(error), "bytes": payload}
    left = cursor.rest()
    return {**event, "bytes left over": left} if left else event


@dataclass(frozen=True, slots=True)
class Handshake:
    """A ConnectResponse."""

    protocol_version: int
    timeout_ms: int
    session_id: int
    password: bytes | None
    rest: bytes


def decode_handshake(payload: bytes) -> Handshake:
    cursor = Cursor(payload)
    return Handshake(cursor.int32(), cursor.int32(), cursor.int64(), cursor.string(), cursor.rest())


def session_password(session_id: int) -> bytes:
    """The password that belongs to a session id: Java's ``Random(id ^ 0xB3415C00).nextBytes(16)``."""
    seed = (session_id ^ 0xB3415C00 ^ 0x5DEECE66D) & 0xFFFFFFFFFFFF
    password = b""
    for _ in range(4):
        seed = (seed * 0x5DEECE66D + 0xB) & 0xFFFFFFFFFFFF
        password += struct.pack("<I", seed >> 16)
    return password
