"""What leader and learners say to each other, byte for byte (source: QuorumPacket, LearnerInfo, Leader).

A packet has no length in front of it: type, zxid, data and identities follow each other, and so do packets.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from corral.jute.primitives import JuteError, encode_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from corral.server.config import ServerConfig

PROTOCOL_VERSION: Final = 0x10000
_HEAD: Final = struct.Struct(">iqi")
_INT: Final = struct.Struct(">i")
_LEARNER_INFO: Final = struct.Struct(">qiq")
_REQUEST: Final = struct.Struct(">qii")
_REQUEST_HEAD: Final = struct.Struct(">iqiqii")
"""Of the packet, and of the data in it."""
_SESSION: Final = struct.Struct(">qi")
_BARE: Final = struct.Struct(">iqii")
"""A packet without data and identities."""
_NULL: Final = b"\xff\xff\xff\xff"
DATA_MAX_BYTES: Final = 64 << 20
"""A packet that announces more is none."""
_IDENTITIES_MAX: Final = 1000
_IDENTITIES_MAX_BYTES: Final = 1 << 20
_REMEMBERED_MAX_BYTES: Final = 4096
_TRANSACTIONS_PER_PIECE: Final = 500


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
COMMIT_AND_ACTIVATE: Final = int(PacketType.COMMIT_AND_ACTIVATE)
INFORM: Final = int(PacketType.INFORM)
INFORM_AND_ACTIVATE: Final = int(PacketType.INFORM_AND_ACTIVATE)
NEW_LEADER: Final = int(PacketType.NEW_LEADER)
REQUEST: Final = int(PacketType.REQUEST)

RawPacket = tuple[int, int, bytes | None, "Sequence[tuple[str, str]] | None"]
"""The parts of a :class:`Packet`, where packets are so many that no object is made of each."""


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
    tail = _NULL if identities is None else _encode_identities(tuple(identities))
    if data is None:
        return _HEAD.pack(kind, zxid, -1) + tail
    return b"".join((_HEAD.pack(kind, zxid, len(data)), data, tail))


@lru_cache(maxsize=256)
def _encode_identities(identities: tuple[tuple[str, str], ...]) -> bytes:
    """As they stand at the end of a packet. Each client's are asked for with each of its writes."""
    parts = [_INT.pack(len(identities))]
    for scheme, name in identities:
        for text in (scheme, name):
            encoded = encode_text(text)
            parts += (_INT.pack(len(encoded)), encoded)
    return b"".join(parts)


def pack_request(
    session_id: int, xid: int, operation: int, body: bytes, identities: Sequence[tuple[str, str]] | None = None
) -> bytes:
    """The REQUEST that asks the leader for what a client has asked for."""
    tail = _NULL if identities is None else _encode_identities(tuple(identities))
    head = _REQUEST_HEAD.pack(REQUEST, -1, _REQUEST.size + len(body), session_id, xid, operation)
    return b"".join((head, body, tail))


def pack_bare(kind: int, zxids: Iterable[int]) -> bytes:
    """Packets of one type that carry zxids and nothing else."""
    encode = _BARE.pack
    return b"".join([encode(kind, zxid, -1, -1) for zxid in zxids])


def pack_transactions(kind: int, transactions: Iterable[tuple[int, bytes]]) -> bytes:
    """Packets of one type, each with a transaction."""
    encode = _HEAD.pack
    return b"".join([part for zxid, entry in transactions for part in (encode(kind, zxid, len(entry)), entry, _NULL)])


def pack_committed(transactions: Sequence[tuple[int, bytes]]) -> Iterator[bytes]:
    """A PROPOSAL and a COMMIT for each transaction; in pieces, that many of them keep nobody waiting."""
    encode, encode_bare = _HEAD.pack, _BARE.pack
    for start in range(0, len(transactions), _TRANSACTIONS_PER_PIECE):
        yield b"".join(
            [
                part
                for zxid, entry in transactions[start : start + _TRANSACTIONS_PER_PIECE]
                for part in (
                    encode(PROPOSAL, zxid, len(entry)),
                    entry,
                    _NULL,
                    encode_bare(COMMIT, zxid, -1, -1),
                )
            ]
        )


class PacketReader:
    """Takes bytes as they come, and gives the packets in them."""

    def __init__(self) -> None:
        self._data = b""
        self._position = 0
        self._more: list[bytes] = []
        """What came after ``_data``."""
        self.unread_bytes = 0
        self.data_max_bytes = DATA_MAX_BYTES
        """A packet with more data is none."""
        self._needed = 0
        """There is no packet before so many bytes are unread."""
        self._reach = 0
        """How far a packet goes at least that is not all there."""
        self._identities_as_sent = b""
        self._identities: Sequence[tuple[str, str]] = ()

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        self._more.append(data)
        self.unread_bytes += len(data)

    def put_back(self, data: bytes) -> None:
        """Take bytes that are to be read before all others."""
        self._data = data + self.take_rest()
        self.unread_bytes = len(self._data)
        self._needed = 0

    def take_rest(self) -> bytes:
        """All bytes that were not given as packets."""
        self._join()
        rest, self._data = self._data, b""
        self.unread_bytes = 0
        return rest

    def packet(self) -> Packet | None:
        """One packet, if it is all there. Raises JuteError at what is none."""
        if self.unread_bytes < self._needed or self.unread_bytes < _BARE.size:
            return None
        if self._more:
            self._join()
        end = self._read(self._data, self._position)
        if end is None:
            self._needed = self._reach - self._position
            return None
        self._advance(end)
        return Packet(*self._found)

    def packets(self) -> list[RawPacket]:
        """All packets that are there. Raises JuteError at what is none."""
        if self.unread_bytes < self._needed:
            return []
        self._join()
        packets: list[RawPacket] = []
        data = self._data
        position, end = 0, len(data)
        read_bare = _BARE.unpack_from
        sent = self._identities_as_sent
        longest = self.data_max_bytes
        while end - position >= 20:
            kind, zxid, length, count = read_bare(data, position)
            if length == -1 and count == -1:
                packets.append((kind, zxid, None, None))
                position += 20
                continue
            tail = position + 16 + length
            if 0 < length <= longest and end - tail >= 4:
                if data.startswith(_NULL, tail):
                    packets.append((kind, zxid, data[position + 16 : tail], None))
                    position = tail + 4
                    continue
                # Requests of one client often follow each other.
                if sent and data.startswith(sent, tail):
                    packets.append((kind, zxid, data[position + 16 : tail], self._identities))
                    position = tail + len(sent)
                    continue
            found = self._read(data, position)
            if found is None:
                break
            position = found
            packets.append(self._found)
            sent = self._identities_as_sent
        self._advance(position)
        self._need()
        return packets

    def _join(self) -> None:
        """Let ``_data`` be all that is unread."""
        if self._position or self._more:
            rest = self._data[self._position :]
            self._data = b"".join([rest, *self._more]) if rest or len(self._more) > 1 else b"".join(self._more)
            self._position = 0
            self._more.clear()

    def _advance(self, position: int) -> None:
        self.unread_bytes -= position - self._position
        self._position = position
        self._needed = 0

    def _need(self) -> None:
        """Not to look again at a long packet each time that some of it comes. Raises JuteError at what is none."""
        self._needed = _BARE.size
        position = self._position
        if len(self._data) - position >= _HEAD.size and self._read(self._data, position) is None:
            self._needed = self._reach - position

    def _read(self, data: bytes, position: int) -> int | None:
        """Any packet, into ``_found``; where it ends, None if it is not all there. Raises JuteError at what is none."""
        end = len(data)
        kind, zxid, length = _HEAD.unpack_from(data, position)
        begin = position + _HEAD.size
        if not -1 <= length <= self.data_max_bytes:
            raise JuteError(f"a packet of type {kind} with {length} bytes of data")
        tail = position = begin + max(length, 0)
        self._reach = position = position + _INT.size
        if end < position:
            return None
        count: int = _INT.unpack_from(data, tail)[0]
        if not -1 <= count <= _IDENTITIES_MAX:
            raise JuteError(f"a packet of type {kind} with {count} identities")
        texts: list[str] = []
        for _ in range(2 * count):
            self._reach = position + _INT.size
            if end < self._reach:
                return None
            size: int = max(_INT.unpack_from(data, position)[0], 0)
            position += _INT.size
            self._reach = position + size
            if self._reach - tail > _IDENTITIES_MAX_BYTES:
                raise JuteError(f"a packet of type {kind} with more than {_IDENTITIES_MAX_BYTES} bytes of identities")
            if end < self._reach:
                return None
            texts.append(data[position : position + size].decode("utf-8", "replace"))
            position += size
        body = data[begin:tail] if length >= 0 else None
        identities = list(zip(texts[::2], texts[1::2], strict=True)) if count >= 0 else None
        self._found: RawPacket = (kind, zxid, body, identities)
        if identities is not None and position - tail <= _REMEMBERED_MAX_BYTES:
            self._identities_as_sent, self._identities = data[tail:position], identities
        return position


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


def decode_request(data: bytes | None) -> tuple[int, int, int, bytes]:
    """Session, xid, operation and body, from the data of a REQUEST. Raises JuteError."""
    if data is None or len(data) < _REQUEST.size:
        raise JuteError("a request that is too short")
    session_id, xid, operation = _REQUEST.unpack_from(data)
    return session_id, xid, operation, data[_REQUEST.size :]


def encode_sessions(sessions: Sequence[tuple[int, int]]) -> bytes:
    """Ids and timeouts in ms, as they stand in the answer to a PING and in a REVALIDATE."""
    return b"".join(_SESSION.pack(*each) for each in sessions)


def decode_sessions(data: bytes | None) -> list[tuple[int, int]]:
    """The same, read. Raises JuteError."""
    if data is None or len(data) % _SESSION.size:
        raise JuteError("a list of sessions that is cut off")
    return list(_SESSION.iter_unpack(data))


def decode_session(data: bytes | None) -> tuple[int, int]:
    """The one in a REVALIDATE. Raises JuteError."""
    sessions = decode_sessions(data)
    if len(sessions) != 1:
        raise JuteError(f"{len(sessions)} sessions where there should be one")
    return sessions[0]


def packet_max_bytes(config: ServerConfig) -> int:
    """The most data of a packet: a transaction, or a request, may be about as large as ``jute.maxbuffer``."""
    return max(DATA_MAX_BYTES, 2 * config.limits.jute_max_buffer)
