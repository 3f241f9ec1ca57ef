"""What a cross-check does, as data: arguments, calls, steps.

Nothing here depends on a server's answers. An argument that has to (the current version of a znode, the path that a
sequential create made) is a symbol, resolved when the step runs from what that one server has answered so far.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from corral.jute.ops import OpCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHOWN_BYTES: Final = 48
"""Longer values are shown by their beginning and length."""


class Memory(Protocol):
    """What one server has answered so far, for the arguments that refer to it."""

    @property
    def zxid(self) -> int:
        """The highest zxid seen."""

    def version(self, path: bytes) -> int:
        """The data version in the last stat seen of a path, 0 if none was."""

    def acl_version(self, path: bytes) -> int:
        """The ACL version in the last stat seen of a path, 0 if none was."""

    def created(self, back: int) -> bytes | None:
        """The path that the last create but `back` answered, ``None`` if there were fewer."""


class Argument(Protocol):
    """One field of a request body."""

    def encode(self, memory: Memory) -> bytes: ...


def shown(value: bytes | None) -> str:
    """A value for people: short, unambiguous."""
    if value is None:
        return "null"
    if len(value) <= SHOWN_BYTES:
        return repr(value)[1:]
    return f"{value[:SHOWN_BYTES]!r}..({len(value)} bytes)"[1:]


def string(value: bytes | None) -> bytes:
    """A jute ustring or buffer."""
    return b"\xff\xff\xff\xff" if value is None else struct.pack(">i", len(value)) + value


@dataclass(frozen=True, slots=True)
class Bytes:
    """A ustring or a buffer."""

    value: bytes | None

    def encode(self, memory: Memory) -> bytes:
        return string(self.value)

    def __str__(self) -> str:
        return shown(self.value)


@dataclass(frozen=True, slots=True)
class Int:
    value: int

    def encode(self, memory: Memory) -> bytes:
        return struct.pack(">i", self.value)

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Long:
    value: int

    def encode(self, memory: Memory) -> bytes:
        return struct.pack(">q", self.value)

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Bool:
    value: bool

    def encode(self, memory: Memory) -> bytes:
        return b"\x01" if self.value else b"\x00"

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class AclEntry:
    perms: int
    scheme: bytes | None
    id: bytes | None

    def __str__(self) -> str:
        return f"{shown(self.scheme)}:{shown(self.id)}:{self.perms}"


@dataclass(frozen=True, slots=True)
class Acls:
    """A vector of ACL entries, ``None`` for the null vector."""

    entries: tuple[AclEntry, ...] | None

    def encode(self, memory: Memory) -> bytes:
        if self.entries is None:
            return b"\xff\xff\xff\xff"
        entries = (struct.pack(">i", each.perms) + string(each.scheme) + string(each.id) for each in self.entries)
        return struct.pack(">i", len(self.entries)) + b"".join(entries)

    def __str__(self) -> str:
        return "null" if self.entries is None else "[" + ", ".join(map(str, self.entries)) + "]"


@dataclass(frozen=True, slots=True)
class Paths:
    """A vector of ustrings, ``None`` for the null vector."""

    values: tuple[bytes | None, ...] | None

    def encode(self, memory: Memory) -> bytes:
        if self.values is None:
            return b"\xff\xff\xff\xff"
        return struct.pack(">i", len(self.values)) + b"".join(map(string, self.values))

    def __str__(self) -> str:
        return "null" if self.values is None else "[" + ", ".join(map(shown, self.values)) + "]"


@dataclass(frozen=True, slots=True)
class VersionOf:
    """The data version that was last seen of a path, plus something."""

    path: bytes
    plus: int = 0

    def encode(self, memory: Memory) -> bytes:
        return _wrapped_int(memory.version(self.path) + self.plus)

    def __str__(self) -> str:
        return f"<version last seen of {shown(self.path)} {self.plus:+}>"


@dataclass(frozen=True, slots=True)
class AclVersionOf:
    """The ACL version that was last seen of a path, plus something."""

    path: bytes
    plus: int = 0

    def encode(self, memory: Memory) -> bytes:
        return _wrapped_int(memory.acl_version(self.path) + self.plus)

    def __str__(self) -> str:
        return f"<ACL version last seen of {shown(self.path)} {self.plus:+}>"


@dataclass(frozen=True, slots=True)
class CreatedPath:
    """The path that the last create but `back` made, with a suffix; or a fixed path if there was none."""

    back: int
    suffix: bytes
    otherwise: bytes

    def encode(self, memory: Memory) -> bytes:
        created = memory.created(self.back)
        return string(self.otherwise if created is None else created + self.suffix)

    def __str__(self) -> str:
        return f"<path of the last create but {self.back}>{shown(self.suffix)} or {shown(self.otherwise)}"


@dataclass(frozen=True, slots=True)
class SeenZxid:
    """The highest zxid seen, plus something."""

    plus: int = 0

    def encode(self, memory: Memory) -> bytes:
        return struct.pack(">q", memory.zxid + self.plus)

    def __str__(self) -> str:
        return f"<zxid last seen {self.plus:+}>"


@dataclass(frozen=True, slots=True)
class SubHeader:
    """A MultiHeader: what the next operation of a multi is, or the end."""

    type: int
    done: bool = False
    err: int = -1

    def encode(self, memory: Memory) -> bytes:
        return struct.pack(">i?i", self.type, self.done, self.err)

    def __str__(self) -> str:
        return "end" if self.done else f"| {operation_name(self.type)}"


def _wrapped_int(value: int) -> bytes:
    return struct.pack(">I", value & 0xFFFFFFFF)


def operation_name(code: int) -> str:
    """An operation code's name, or the number if it has none."""
    return OpCode(code).name.lower() if code in set(OpCode) else f"op {code}"


@dataclass(frozen=True, slots=True)
class Call:
    """One request. Without an `xid` it gets the connection's next number.

    `cut` keeps only so many bytes of the body, `extra` is appended: how malformed requests are made.
    """

    op: int
    arguments: tuple[Argument, ...] = ()
    xid: int | None = None
    cut: int | None = None
    extra: bytes = b""

    def body(self, memory: Memory) -> bytes:
        whole = b"".join(argument.encode(memory) for argument in self.arguments)
        return whole[: self.cut] + self.extra

    def path(self, memory: Memory) -> bytes | None:
        """The path that the request is about, if its first field is one."""
        first = self.arguments[0] if self.arguments else None
        if not isinstance(first, Bytes | CreatedPath):
            return None
        return first.encode(memory)[4:]

    def __str__(self) -> str:
        notes = "" if self.xid is None else f" xid={self.xid}"
        notes += "" if self.cut is None else f" body cut to {self.cut} bytes"
        notes += f" extra bytes {shown(self.extra)}" if self.extra else ""
        return f"{operation_name(self.op)}({', '.join(map(str, self.arguments))}){notes}"


class Credentials(Enum):
    """What a connection presents when it opens."""

    NEW = "a new session"
    RIGHT = "the session's id and password"
    WRONG_PASSWORD = "the session's id and a wrong password"
    NULL_PASSWORD = "the session's id and no password"
    UNKNOWN_ID = "an id that no session has"


class Segments(Enum):
    """How the bytes of a batch are cut into sends."""

    ONE = "one segment"
    FRAMES = "a segment per frame"
    BYTES = "byte by byte"
    HALVES = "two segments, cut within a frame"


@dataclass(frozen=True, slots=True)
class Open:
    """A new TCP connection with its handshake, and requests sent right behind it without waiting."""

    connection: str
    session: str
    credentials: Credentials = Credentials.NEW
    timeout_ms: int = 60_000
    zxid_ahead: int | None = None
    read_only_byte: bytes = b"\x00"
    cut: int | None = None
    calls: tuple[Call, ...] = ()

    def __str__(self) -> str:
        notes = f", lastZxidSeen {self.zxid_ahead:+} of ours" if self.zxid_ahead is not None else ""
        notes += "" if self.read_only_byte == b"\x00" else f", readOnly byte {self.read_only_byte!r}"
        notes += "" if self.cut is None else f", request cut to {self.cut} bytes"
        behind = "".join(f"\n    behind it: {call}" for call in self.calls)
        return (
            f"open {self.connection} for {self.session} with {self.credentials.value}, "
            f"timeout {self.timeout_ms} ms{notes}{behind}"
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests sent in one go. `ends` says that the server is expected to close the connection after the last."""

    connection: str
    calls: tuple[Call, ...]
    segments: Segments = Segments.ONE
    ends: bool = False

    def __str__(self) -> str:
        how = "" if self.segments is Segments.ONE else f" ({self.segments.value})"
        return f"on {self.connection}{how}: " + "\n    then ".join(map(str, self.calls))


@dataclass(frozen=True, slots=True)
class Drop:
    """The client goes away without a word; its session lives on."""

    connection: str

    def __str__(self) -> str:
        return f"drop the socket of {self.connection}"


@dataclass(frozen=True, slots=True)
class Expire:
    """Nothing is sent for a session until the server has ended it. `drop`: its socket is closed at once."""

    connection: str
    drop: bool

    def __str__(self) -> str:
        return f"let the session of {self.connection} expire, {'socket closed' if self.drop else 'socket left open'}"


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes that are no request, after which the connection is expected to be closed.

    With no such connection open they are sent on a fresh one, before any handshake.
    """

    connection: str
    data: bytes

    def __str__(self) -> str:
        return f"raw bytes on {self.connection}: {shown(self.data)}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The whole tree is read, and the counts and watch tables that the admin words print."""

    def __str__(self) -> str:
        return "checkpoint: whole tree and admin words"


Step = Open | Batch | Drop | Expire | Raw | Checkpoint

Atom = tuple[int, int]
"""A step's number and a call's number in it; what a minimised plan keeps."""


def atoms(plan: Sequence[Step]) -> Iterator[Atom]:
    """Everything that can be left out of a plan by itself."""
    for number, step in enumerate(plan):
        calls = step.calls if isinstance(step, Batch) else ()
        for position in range(max(1, len(calls))):
            yield number, position


def keep(plan: Sequence[Step], kept: Sequence[Atom]) -> list[tuple[int, Step]]:
    """The steps that remain, with their numbers in the full plan."""
    positions: dict[int, list[int]] = {}
    for number, position in kept:
        positions.setdefault(number, []).append(position)
    remaining: list[tuple[int, Step]] = []
    for number in sorted(positions):
        step = plan[number]
        if isinstance(step, Batch):
            calls = tuple(step.calls[position] for position in sorted(positions[number]))
            step = Batch(step.connection, calls, step.segments, step.ends)
        remaining.append((number, step))
    return remaining
