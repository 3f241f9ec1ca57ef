"""What operations return."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from corral.jute import records
from corral.jute.owner import OwnerKind
from corral.jute.primitives import JuteError, Reader, decode_text, write_int

if TYPE_CHECKING:
    from collections.abc import Sequence

_STAT: Final = struct.Struct(">qqqqiiiqiiq")
STAT_BYTES: Final = _STAT.size
_INT: Final = struct.Struct(">i")


class _Null(bytes):
    __slots__ = ()

    def __repr__(self) -> str:
        return "NULL"


NULL: Final[bytes] = _Null()
"""The data of a znode that has none at all (``null``, as other clients make them): empty, and told by ``is NULL``."""


class Stat(NamedTuple):
    """A znode's metadata. zxids number transactions; times are in ms since the epoch, by the leader's clock."""

    czxid: int
    """Of the transaction that created the znode."""
    mzxid: int
    """Of the one that last set its data."""
    ctime: int
    mtime: int
    version: int
    """How often the data has been set."""
    cversion: int
    """How often children have come or gone."""
    aversion: int
    """How often the ACL has been set."""
    ephemeral_owner: int
    """The session that an ephemeral znode ends with; 0 for all others. The service does not say which of those are
    containers or have a time to live."""
    data_length: int
    num_children: int
    pzxid: int
    """Of the transaction that last created or deleted a child."""

    @property
    def kind(self) -> OwnerKind:
        """EPHEMERAL or PERSISTENT, for that is what the service tells."""
        return OwnerKind.EPHEMERAL if self.ephemeral_owner else OwnerKind.PERSISTENT

    @property
    def created(self) -> datetime:
        return datetime.fromtimestamp(self.ctime / 1000, UTC)

    @property
    def modified(self) -> datetime:
        """When the data was last set."""
        return datetime.fromtimestamp(self.mtime / 1000, UTC)


class Znode(NamedTuple):
    """What :meth:`~corral.client.Client.get` finds."""

    data: bytes
    stat: Stat


class Listing(NamedTuple):
    """The children's names, in no order, and the stat of their parent."""

    names: list[str]
    stat: Stat


class Created(str):
    """The path of a new znode, as the service named it, with the znode's ``stat``."""

    __slots__ = ("stat",)
    stat: Stat

    def __new__(cls, path: str, stat: Stat) -> Self:
        created = super().__new__(cls, path)
        created.stat = stat
        return created

    @property
    def zxid(self) -> int:
        """Of the transaction that made it: larger than of any before, so it can serve as a fencing number."""
        return self.stat.czxid


class Acl(NamedTuple):
    """Who may do what. ``permissions`` are the letters of create, delete, read, write, admin: ``"cdrwa"``."""

    scheme: str
    id: str
    permissions: str = "cdrwa"

    @classmethod
    def parse(cls, text: str) -> Acl:
        """From ``scheme:id:permissions``, as the shell writes it. Raises ValueError."""
        scheme, colon, rest = text.partition(":")
        identity, last, permissions = rest.rpartition(":")
        if not colon or not last or not scheme:
            raise ValueError(f"{text!r} does not have the form scheme:id:permissions")
        permission_bits(permissions)
        return cls(scheme, identity, permissions)

    def __str__(self) -> str:
        return f"{self.scheme}:{self.id}:{self.permissions}"


OPEN: Final = (Acl("world", "anyone"),)
"""Everybody may do everything."""
READ_ONLY: Final = (Acl("world", "anyone", "r"),)
CREATOR: Final = (Acl("auth", ""),)
"""Whoever creates it, by all that the connection has proved to be, may do everything."""

_LETTERS: Final = {"r": 1, "w": 2, "c": 4, "d": 8, "a": 16}
_SHOWN: Final = "cdrwa"


def permission_bits(letters: str) -> int:
    """The bits on the wire. Raises ValueError for a letter that means nothing."""
    bits = 0
    for letter in letters:
        if letter not in _LETTERS:
            raise ValueError(f"permissions {letters!r}: {letter!r} is none of c, d, r, w, a")
        bits |= _LETTERS[letter]
    return bits


def permission_letters(bits: int) -> str:
    """The letters, in the shell's order."""
    return "".join(letter for letter in _SHOWN if bits & _LETTERS[letter])


class AccessList(NamedTuple):
    """A znode's ACL, and its stat."""

    acl: list[Acl]
    stat: Stat


class Identity(NamedTuple):
    """What a connection has proved to be."""

    scheme: str
    user: str


# Decoders: each takes a frame, and where its body begins and ends.


def decode_nothing(frame: bytes, start: int, end: int) -> None:
    """A reply without a body."""


def decode_stat(frame: bytes, start: int, end: int) -> Stat:
    if end - start < STAT_BYTES:
        raise JuteError(f"a stat of {end - start} bytes")
    return Stat._make(_STAT.unpack_from(frame, start))


def decode_znode(frame: bytes, start: int, end: int) -> Znode:
    (length,) = _INT.unpack_from(frame, start)
    start += 4
    if length == -1:
        return Znode(NULL, decode_stat(frame, start, end))
    stop = start + length
    if not start <= stop <= end:
        raise JuteError(f"data of {length} bytes where {end - start} are left")
    return Znode(frame[start:stop], decode_stat(frame, stop, end))


def _decode_text(frame: bytes, start: int, end: int) -> tuple[str, int]:
    begin = start + 4
    stop: int = begin + _INT.unpack_from(frame, start)[0]
    if not begin <= stop <= end:
        raise JuteError(f"a text of {stop - begin} bytes where {end - begin} are left")
    return decode_text(frame[begin:stop]), stop


def decode_path(frame: bytes, start: int, end: int) -> str:
    return _decode_text(frame, start, end)[0]


def decode_created(frame: bytes, start: int, end: int) -> Created:
    path, position = _decode_text(frame, start, end)
    return Created(path, decode_stat(frame, position, end))


def decode_number(frame: bytes, start: int, end: int) -> int:
    if end - start < 4:
        raise JuteError(f"a number of {end - start} bytes")
    number: int = _INT.unpack_from(frame, start)[0]
    return number


def _decode_names(frame: bytes, start: int, end: int) -> tuple[list[str], int]:
    (count,) = _INT.unpack_from(frame, start)
    position = start + 4
    names = []
    unpack = _INT.unpack_from
    for _ in range(count):
        begin = position + 4
        position = begin + unpack(frame, position)[0]
        if not begin <= position <= end:
            raise JuteError(f"a name of {position - begin} bytes where {end - begin} are left")
        names.append(decode_text(frame[begin:position]))
    if position > end:
        raise JuteError(f"{end - start} bytes are no list of names")
    return names, position


def decode_names(frame: bytes, start: int, end: int) -> list[str]:
    return _decode_names(frame, start, end)[0]


def decode_listing(frame: bytes, start: int, end: int) -> Listing:
    names, position = _decode_names(frame, start, end)
    return Listing(names, decode_stat(frame, position, end))


def encode_acl(acl: Sequence[Acl]) -> bytes:
    """The vector as it stands in a request. Raises ValueError and TypeError for what is no ACL."""
    if not acl:
        raise ValueError("an ACL with no entry lets nobody in: give OPEN, READ_ONLY, CREATOR or entries of your own")
    out = bytearray()
    write_int(out, len(acl))
    for entry in acl:
        if not isinstance(entry, Acl):
            raise TypeError(f"an ACL consists of Acl entries, not of {entry!r}")
        records.Acl(permission_bits(entry.permissions), records.Id(entry.scheme, entry.id)).encode(out)
    return bytes(out)


def decode_acl(frame: bytes, start: int, end: int) -> AccessList:
    reply = records.GetAclResponse.decode(Reader(frame, start, end))
    acl = [Acl(each.id.scheme or "", each.id.id or "", permission_letters(each.perms)) for each in reply.acl or ()]
    return AccessList(acl, Stat._make(value for _, value in reply.stat.items()))


def decode_identities(frame: bytes, start: int, end: int) -> list[Identity]:
    reply = records.WhoAmIResponse.decode(Reader(frame, start, end))
    return [Identity(each.auth_scheme or "", each.user or "") for each in reply.client_info or ()]
