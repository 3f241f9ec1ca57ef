"""What leader and learners say to each other, byte for byte (source: QuorumPacket, LearnerInfo, Leader).

A packet has no length in front of it: type, zxid, data and identities follow each other, and so do packets.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from corral.jute.primitives import JuteError, encode_text

if TYPE_CHECKING:
    from collections.abc import Sequence

PROTOCOL_VERSION: Final = 0x10000
_HEAD: Final = struct.Struct(">iqi")
_INT: Final = struct.Struct(">i")
_LEARNER_INFO: Final = struct.Struct(">qiq")
_REQUEST: Final = struct.Struct(">qii")
_SESSION: Final = struct.Struct(">qi")
_NULL: Final = b"\xff\xff\xff\xff"
DATA_MAX_BYTES: Final = 64 << 20
"""A packet that announces more is none."""
_IDENTITIES_MAX: Final = 1000


class PacketType(IntEnum):
    """What a packet says."""

    REQUEST = 1
    PROPOSAL = 2
    ACK = 3
    COMMIT = 4
    PING = 5
    REVALIDATE = 6
    SYNC = 7
    INFORM = 8
    COMMIT_AND_ACTIVATE = 9
    NEW_LEADER = 10
    FOLLOWER_INFO = 11
    UP_TO_DATE = 12
    DIFF = 13
    TRUNC = 14
    SNAP = 15
    OBSERVER_INFO = 16
    LEADER_INFO = 17
    ACK_EPOCH = 18
    INFORM_AND_ACTIVATE = 19


PROPOSAL: Final = int(PacketType.PROPOSAL)
ACK: Final = int(PacketType.ACK)
COMMIT: Final = int(PacketType.COMMIT)
INFORM: Final = int(PacketType.INFORM)


class Packet(NamedTuple):
    """One packet. ``identities`` are those of the client for whom a request is made."""

    type: int
    zxid: int
    data: bytes | None = None
    identities: Sequence[tuple[str, str]] | None = None

    def __repr__(self) -> str:
        name = PacketType(self.type).name if self.type in PacketType._value2member_map_ else str(self.type)
        size = "" if self.data is None else f", {len(self.data)} bytes"
        return f"<{name} {self.zxid & (2**64 - 1):#x}{size}>"


def pack(kind: int, zxid: int, data: bytes | None = None, identities: Sequence[tuple[str, str]] | None = None) -> bytes:
    """One packet's bytes."""
    if identities is None:
        tail = _NULL
    else:
        parts = [_INT.pack(len(identities))]
        for scheme, name in identities:
            for text in (scheme, name):
                encoded = encode_text(text)
                parts += (_INT.pack(len(encoded)), encoded)
        tail = b"".join(parts)
    if data is None:
        return _HEAD.pack(kind, zxid, -1) + tail
    return b"".join((_HEAD.pack(kind, zxid, len(data)), data, tail))


def read_packet(data: bytes, position: int) -> tuple[Packet, int] | None:
    """The packet at ``position``, and where it ends; None if it is not all there."""
    end = len(data)
    if end - position < 20:
        return None
    kind, zxid, length = _HEAD.unpack_from(data, position)
    position += _HEAD.size
    body: bytes | None = None
    if length >= 0:
        if length > DATA_MAX_BYTES:
            raise JuteError(f"a packet of type {kind} with {length} bytes of data")
        if end - position < length + 4:
            return None
        body = data[position : position + length]
        position += length
    elif length != -1:
        raise JuteError(f"a packet of type {kind} with {length} bytes of data")
    count: int = _INT.unpack_from(data, position)[0]
    position += 4
    if count == -1:
        return Packet(kind, zxid, body), position
    if not 0 <= count <= _IDENTITIES_MAX:
        raise JuteError(f"a packet of type {kind} with {count} identities")
    identities: list[tuple[str, str]] = []
    for _ in range(count):
        texts: list[str] = []
        for _ in range(2):
            if end - position < 4:
                return None
            size: int = _INT.unpack_from(data, position)[0]
            position += 4
            if size > DATA_MAX_BYTES:
                raise JuteError(f"an identity of {size} bytes")
            size = max(size, 0)
            if end - position < size:
                return None
            texts.append(data[position : position + size].decode("utf-8", "replace"))
            position += size
        identities.append((texts[0], texts[1]))
    return Packet(kind, zxid, body, identities), position


class LearnerInfo(NamedTuple):
    """Who a learner is, in its first packet."""

    server_id: int
    protocol_version: int
    config_version: int

    def encode(self) -> bytes:
        return _LEARNER_INFO.pack(*self)


def decode_learner_info(data: bytes | None) -> LearnerInfo:
    """From the data of the first packet; older learners say less. Raises JuteError."""
    if data is None or len(data) < 8:
        raise JuteError("a learner that does not say who it is")
    padded = data[:20] if len(data) >= 20 else data + bytes(20 - len(data))
    server_id, version, config_version = _LEARNER_INFO.unpack(padded)
    return LearnerInfo(server_id, version if len(data) >= 12 else 1, config_version if len(data) >= 20 else 0)


class ForwardedRequest(NamedTuple):
    """A client's request as its server hands it to the leader."""

    session_id: int
    xid: int
    operation: int
    body: bytes

    def encode(self) -> bytes:
        return _REQUEST.pack(self.session_id, self.xid, self.operation) + self.body


def decode_request(data: bytes | None) -> ForwardedRequest:
    """From the data of a REQUEST. Raises JuteError."""
    if data is None or len(data) < _REQUEST.size:
        raise JuteError("a request that is too short")
    session_id, xid, operation = _REQUEST.unpack_from(data)
    return ForwardedRequest(session_id, xid, operation, data[_REQUEST.size :])


def encode_sessions(sessions: Sequence[tuple[int, int]]) -> bytes:
    """Ids and timeouts in ms, as they stand in the answer to a PING and in a REVALIDATE."""
    return b"".join(_SESSION.pack(*each) for each in sessions)


def decode_sessions(data: bytes | None) -> list[tuple[int, int]]:
    """The same, read. Raises JuteError."""
    if data is None or len(data) % _SESSION.size:
        raise JuteError("a list of sessions that is cut off")
    return list(_SESSION.iter_unpack(data))
