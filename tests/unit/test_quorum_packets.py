"""Packets between leader and learners."""

from __future__ import annotations

import pytest

from corral.jute.primitives import JuteError
from corral.quorum.packets import (
    ForwardedRequest,
    LearnerInfo,
    Packet,
    PacketType,
    decode_learner_info,
    decode_request,
    decode_sessions,
    encode_sessions,
    pack,
    read_packet,
)

PACKETS = [
    Packet(PacketType.COMMIT, 0x200000003),
    Packet(PacketType.PING, 5, b""),
    Packet(PacketType.PROPOSAL, 1, b"x" * 1000),
    Packet(PacketType.REQUEST, -1, b"body", []),
    Packet(PacketType.REQUEST, -1, b"body", [("ip", "127.0.0.1"), ("digest", "ann:h\u00e4sh")]),
]


def test_bytes_are_those_of_the_protocol() -> None:
    assert pack(PacketType.COMMIT, 3).hex() == "000000040000000000000003ffffffffffffffff"
    assert (
        pack(PacketType.REQUEST, -1, b"ab", [("ip", "::1")]).hex() == "00000001"
        "ffffffffffffffff"
        "000000026162"
        "00000001"
        "000000026970"
        "000000033a3a31"
    )


def test_what_is_packed_is_read_however_it_arrives() -> None:
    data = b"".join(pack(*each) for each in PACKETS)
    for cut in range(len(data)):
        position, found = 0, []
        while (packet := read_packet(data[:cut], position)) is not None:
            found.append(packet[0])
            position = packet[1]
        assert found == PACKETS[: len(found)]
        while (packet := read_packet(data, position)) is not None:
            found.append(packet[0])
            position = packet[1]
        assert found == PACKETS
        assert position == len(data)


@pytest.mark.parametrize(
    "data",
    [
        "000000040000000000000003fffffffeffffffff",
        "0000000400000000000000037fffffffffffffff",
        "000000040000000000000003ffffffff7fffffff",
        "000000010000000000000003ffffffff000000017fffffff",
    ],
)
def test_what_is_no_packet_is_refused(data: str) -> None:
    with pytest.raises(JuteError):
        read_packet(bytes.fromhex(data), 0)


def test_learners_of_all_ages_are_known() -> None:
    info = LearnerInfo(3, 0x10000, 1 << 32)
    assert decode_learner_info(info.encode()) == info
    assert decode_learner_info(info.encode()[:12]) == LearnerInfo(3, 0x10000, 0)
    assert decode_learner_info(info.encode()[:8]) == LearnerInfo(3, 1, 0)
    for data in (None, b"1234567"):
        with pytest.raises(JuteError):
            decode_learner_info(data)


def test_requests_and_sessions() -> None:
    request = ForwardedRequest(-5, 7, 1, b"body")
    assert decode_request(request.encode()) == request
    sessions = [(1, 4000), (-1, 6000)]
    assert decode_sessions(encode_sessions(sessions)) == sessions
    with pytest.raises(JuteError):
        decode_request(b"short")
    with pytest.raises(JuteError):
        decode_sessions(b"13 bytes long")
