"""The jute binary encoding: big-endian integers, length-prefixed buffers, strings, vectors.

Source of the rules: Apache ZooKeeper's BinaryInputArchive and BinaryOutputArchive.

=========  ==========================================================
type       bytes
=========  ==========================================================
boolean    1 byte, any non-zero byte reads as true
int        4 bytes, signed
long       8 bytes, signed
buffer     int length, then the bytes; length -1 is null
ustring    int length in bytes, then UTF-8; length -1 is null
vector     int count, then the elements; a negative count reads as null
record     its fields in order, nothing around them
=========  ==========================================================

A Java writer encodes a character beyond the basic plane as its two surrogates of three bytes each, and a Java
reader replaces what is not UTF-8 by U+FFFD. Both habits are kept, so that bytes agree with those of a Java peer.
"""

from __future__ import annotations

import struct
from typing import Final

DEFAULT_MAX_BUFFER: Final = 0xFFFFF
"""``jute.maxbuffer``: the largest frame in bytes that a peer accepts unless configured otherwise."""

_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")


class JuteError(ValueError):
    """Bytes that are no valid encoding: too short, or a length that makes no sense."""


def encode_text(text: str) -> bytes:
    """UTF-8 as Java's jute writer emits it (supplementary characters as surrogate pairs, CESU-8)."""
    if text.isascii():
        return text.encode("ascii")
    if max(text) <= "\uffff":
        return text.encode("utf-8", "surrogatepass")
    units = text.encode("utf-16-be", "surrogatepass")
    return b"".join(chr(units[i] << 8 | units[i + 1]).encode("utf-8", "surrogatepass") for i in range(0, len(units), 2))


def decode_text(data: bytes) -> str:
    """Decode as Java does: malformed input becomes U+FFFD, an encoded surrogate a single one."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        lenient = data.decode("utf-8", "surrogatepass_or_replace")
        return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in lenient)


def _surrogatepass_or_replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    start = error.start
    triple = error.object[start : start + 3]
    if len(triple) == 3 and triple[0] == 0xED and 0xA0 <= triple[1] <= 0xBF and 0x80 <= triple[2] <= 0xBF:
        return "\ufffd", start + 3
    return "\ufffd", error.end


def _register_error_handler() -> None:
    import codecs

    codecs.register_error("surrogatepass_or_replace", _surrogatepass_or_replace)


_register_error_handler()


class Reader:
    """A cursor over encoded bytes.

    ``limit`` bounds the length of one buffer or string, in bytes; ``None`` leaves only the data's own end as bound.
    Every read raises :class:`JuteError` when the data ends first.
    """

    __slots__ = ("data", "end", "limit", "position")

    def __init__(self, data: bytes, position: int = 0, end: int | None = None, limit: int | None = None) -> None:
        self.data = data
        self.position = position
        self.end = len(data) if end is None else end
        self.limit = limit

    def __repr__(self) -> str:
        return f"Reader(position={self.position}, end={self.end})"

    @property
    def remaining(self) -> int:
        """Bytes not yet read."""
        return self.end - self.position

    def _advance(self, size: int) -> int:
        start = self.position
        if start + size > self.end:
            raise JuteError(f"record ends at byte {self.end}, {size} bytes wanted at {start}")
        self.position = start + size
        return start

    def read_boolean(self) -> bool:
        return self.data[self._advance(1)] != 0

    def read_int(self) -> int:
        value: int = _INT.unpack_from(self.data, self._advance(4))[0]
        return value

    def read_long(self) -> int:
        value: int = _LONG.unpack_from(self.data, self._advance(8))[0]
        return value

    def read_struct(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack_from(self.data, self._advance(layout.size))

    def read_buffer(self) -> bytes | None:
        length = self.read_int()
        if length == -1:
            return None
        if length < 0 or (self.limit is not None and length > self.limit):
            raise JuteError(f"Unreasonable length = {length} at byte {self.position - 4}")
        start = self._advance(length)
        return self.data[start : start + length]

    def read_text(self) -> str | None:
        raw = self.read_buffer()
        return None if raw is None else decode_text(raw)

    def read_rest(self) -> bytes:
        """Everything up to the end."""
        start = self.position
        self.position = self.end
        return self.data[start : self.end]


def write_boolean(out: bytearray, value: bool) -> None:
    out.append(1 if value else 0)


def write_int(out: bytearray, value: int) -> None:
    out += _INT.pack(value)


def write_long(out: bytearray, value: int) -> None:
    out += _LONG.pack(value)


def write_buffer(out: bytearray, value: bytes | None) -> None:
    if value is None:
        out += b"\xff\xff\xff\xff"
    else:
        out += _INT.pack(len(value))
        out += value


def write_text(out: bytearray, value: str | None) -> None:
    write_buffer(out, None if value is None else encode_text(value))
