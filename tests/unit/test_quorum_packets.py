"""Packets between leader and learners."""

from __future__ import annotations

import struct

import pytest

from corral.jute.primitives import JuteError
from corral.quorum.packets import (
    COMMIT,
    PROPOSAL,
    LearnerInfo,
    Packet,
    PacketReader,
    PacketType,
    decode_learner_info,
    decode_request,
    decode_sessions,
    encode_sessions,
    pack,
    pack_bare,
    pack_committed,
    pack_request,
    pack_transactions,
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
        at_once, one_by_one = PacketReader(), PacketReader()
        found, singly = [], []
        for part in (data[:cut], data[cut:]):
            at_once.feed(part)
            one_by_one.feed(part)
            found += at_once.packets()
            while (packet := one_by_one.packet()) is not None:
                singly.append(packet)
        assert [Packet(*each) for each in found] == singly == PACKETS
        assert at_once.unread_bytes == one_by_one.unread_bytes == 0


def test_a_packet_may_come_byte_by_byte_between_others() -> None:
    data = b"".join(pack(*each) for each in PACKETS * 2)
    reader, found = PacketReader(), []
    for position in range(len(data)):
        reader.feed(data[position : position + 1])
        found += reader.packets()
    assert [Packet(*each) for each in found] == PACKETS * 2


def test_bytes_that_are_no_packets_can_be_taken_out_and_put_back() -> None:
    reader = PacketReader()
    reader.feed(pack(*PACKETS[0]) + b"a tree")
    assert reader.packet() == PACKETS[0]
    assert reader.take_rest() == b"a tree"
    reader.feed(pack(*PACKETS[2]))
    reader.put_back(pack(*PACKETS[1]))
    assert [Packet(*each) for each in reader.packets()] == PACKETS[1:3]


def test_many_packets_of_one_kind_are_what_each_would_be() -> None:
    assert pack_bare(PacketType.ACK, [1, 2**40]) == pack(PacketType.ACK, 1) + pack(PacketType.ACK, 2**40)
    both = pack_transactions(PacketType.PROPOSAL, [(1, b"one"), (2, b"")])
    assert both == pack(PacketType.PROPOSAL, 1, b"one") + pack(PacketType.PROPOSAL, 2, b"")


@pytest.mark.parametrize(
    "data",
    [
        "000000040000000000000003fffffffeffffffff",
        "0000000400000000000000037fffffffffffffff",
        "000000040000000000000003ffffffff7fffffff",
        "000000010000000000000003ffffffff000000017fffffff",
        "00000001000000000000000300000000000000010000000000100000",
    ],
)
def test_what_is_no_packet_is_refused(data: str) -> None:
    reader = PacketReader()
    reader.feed(bytes.fromhex(data))
    with pytest.raises(JuteError):
        reader.packets()
    reader = PacketReader()
    reader.feed(bytes.fromhex(data))
    with pytest.raises(JuteError):
        reader.packet()


@pytest.mark.parametrize("length", [-2, -(1 << 31), 64 * 2**20 + 1, (1 << 31) - 1])
def test_a_length_that_cannot_be_is_refused_before_anything_is_kept_for_it(length: int) -> None:
    reader = PacketReader()
    reader.feed(pack(*PACKETS[0]) + struct.pack(">iqi", 1, 3, length))
    with pytest.raises(JuteError, match=f"a packet of type 1 with {length} bytes"):
        reader.packets()


def test_how_long_a_packet_may_be_is_the_readers_to_say() -> None:
    for limit, fits in ((9, False), (10, True)):
        reader = PacketReader()
        reader.data_max_bytes = limit
        reader.feed(pack(PacketType.PROPOSAL, 1, b"ten bytes."))
        if fits:
            assert len(reader.packets()) == 1
        else:
            with pytest.raises(JuteError):
                reader.packets()


def test_a_packet_that_is_put_back_does_not_wait_for_the_long_one_behind_it() -> None:
    reader = PacketReader()
    reader.feed(pack(*PACKETS[0]) + pack(PacketType.PROPOSAL, 1, bytes(10_000))[:5000])
    assert len(reader.packets()) == 1
    reader.put_back(pack(*PACKETS[1]))
    assert reader.packet() == PACKETS[1]


def test_learners_of_all_ages_are_known() -> None:
    info = LearnerInfo(3, 0x10000, 1 << 32)
    assert decode_learner_info(info.encode()) == info
    assert decode_learner_info(info.encode()[:12]) == LearnerInfo(3, 0x10000, 0)
    assert decode_learner_info(info.encode()[:8]) == LearnerInfo(3, 1, 0)
    for data in (None, b"1234567"):
        with pytest.raises(JuteError):
            decode_learner_info(data)


def test_requests_and_sessions() -> None:
    reader = PacketReader()
    for identities in (None, [("ip", "::1"), ("digest", "é")]):
        reader.feed(pack_request(-5, 7, 1, b"body", identities))
        packet = reader.packet()
        assert packet is not None
        assert (packet.type, packet.zxid, packet.identities) == (PacketType.REQUEST, -1, identities)
        assert decode_request(packet.data) == (-5, 7, 1, b"body")
    sessions = [(1, 4000), (-1, 6000)]
    assert decode_sessions(encode_sessions(sessions)) == sessions
    with pytest.raises(JuteError):
        decode_request(b"short")
    with pytest.raises(JuteError):
        decode_sessions(b"13 bytes long")


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1700])
def test_committed_transactions_are_proposals_each_with_its_commit(count: int) -> None:
    transactions = [(7 << 32 | number, b"%d" % number) for number in range(1, count + 1)]
    pieces = list(pack_committed(transactions))
    assert len(pieces) == -(-count // 500)
    expected = b"".join(pack(PROPOSAL, *each) + pack(COMMIT, each[0]) for each in transactions)
    assert b"".join(pieces) == expected
