"""The jute encoding, by the byte."""

from __future__ import annotations

import struct

import pytest

from corral.jute.primitives import (
    DEFAULT_MAX_BUFFER,
    JuteError,
    Reader,
    decode_text,
    encode_text,
    write_boolean,
    write_buffer,
    write_int,
    write_long,
    write_text,
)


def test_numbers_are_big_endian_and_signed() -> None:
    out = bytearray()
    write_int(out, -2)
    write_int(out, 0x01020304)
    write_long(out, -(2**63))
    write_boolean(out, True)
    write_boolean(out, False)
    assert out.hex() == "fffffffe" + "01020304" + "8000000000000000" + "01" + "00"
    reader = Reader(bytes(out))
    assert (reader.read_int(), reader.read_int(), reader.read_long()) == (-2, 0x01020304, -(2**63))
    assert (reader.read_boolean(), reader.read_boolean(), reader.remaining) == (True, False, 0)


@pytest.mark.parametrize("byte", [1, 2, 0x80, 0xFF])
def test_any_byte_but_zero_is_true(byte: int) -> None:
    assert Reader(bytes([byte])).read_boolean() is True


def test_buffers_and_texts() -> None:
    out = bytearray()
    write_buffer(out, b"ab")
    write_buffer(out, b"")
    write_buffer(out, None)
    write_text(out, "é")
    write_text(out, None)
    assert out.hex() == "00000002" + "6162" + "00000000" + "ffffffff" + "00000002" + "c3a9" + "ffffffff"
    reader = Reader(bytes(out))
    assert [reader.read_buffer() for _ in range(3)] == [b"ab", b"", None]
    assert [reader.read_text() for _ in range(2)] == ["é", None]


@pytest.mark.parametrize("length", [-2, -(2**31), 5])
def test_a_length_that_makes_no_sense_is_named(length: int) -> None:
    with pytest.raises(JuteError, match=str(length)):
        Reader(b"\0\0" + struct.pack(">i", length) + b"abcd", 2).read_buffer()


def test_a_limit_bounds_one_buffer() -> None:
    content = b"\0\0\0\3abc\0\0\0\3abc"
    reader = Reader(content, limit=3)
    assert (reader.read_buffer(), reader.read_buffer()) == (b"abc", b"abc")
    with pytest.raises(JuteError, match="Unreasonable length = 3 at byte 0"):
        Reader(content, limit=2).read_buffer()


def test_the_end_bounds_every_read() -> None:
    reader = Reader(bytes(20), position=2, end=5)
    assert reader.remaining == 3
    for read in (reader.read_int, reader.read_long, lambda: reader.read_struct(struct.Struct(">i"))):
        with pytest.raises(JuteError, match="ends at byte 5"):
            read()
    assert reader.read_rest() == bytes(3)
    with pytest.raises(JuteError):
        reader.read_boolean()
    assert reader.read_rest() == b""
    assert repr(reader) == "Reader(position=5, end=5)"


def test_characters_beyond_the_basic_plane_are_written_as_two() -> None:
    assert encode_text("\U0001f600") == b"\xed\xa0\xbd\xed\xb8\x80"
    assert encode_text("a\U0001f600é") == b"a\xed\xa0\xbd\xed\xb8\x80\xc3\xa9"
    assert encode_text("\ud83d") == b"\xed\xa0\xbd"
    assert encode_text("ascii") == b"ascii"
    assert encode_text("\uffff") == b"\xef\xbf\xbf"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xf0\x9f\x98\x80", "\U0001f600"),
        (b"\xed\xa0\xbd\xed\xb8\x80", "\ufffd\ufffd"),
        (b"a\xed\xa0\xbdb", "a\ufffdb"),
        (b"\xff", "\ufffd"),
        (b"\xc3", "\ufffd"),
        (b"a\x80b", "a\ufffdb"),
    ],
)
def test_what_is_not_utf_8_is_read_as_java_reads_it(content: bytes, text: str) -> None:
    assert decode_text(content) == text


def test_the_longest_frame() -> None:
    assert DEFAULT_MAX_BUFFER == 1_048_575
