"""How a log ends, and what that says: in order, cut short by a crash, or damaged.

A log is only ever written at its end, and a crash can only spoil what was not yet synced. What is lost then is a
stretch of the last write: the file ends early, or blocks that were never written read as zeros. So behind the last
good record of the newest log

- zeros to the end are its padding: the end is *clean*;
- a record whose own end is missing is *torn*: nobody was told that it is on disk, and it is dropped;
- a record with a hole of zeros in it or behind it, exactly where a block of the disk would be, is torn as well. If
  readable records follow, the hole must be a whole page, and everything behind it no more than is ever written
  without a sync;
- anything else no crash can leave: a complete record whose checksum is wrong, a wrong length, a wrong end mark. It is
  *corrupt* and refused, for what it held may have been acknowledged.

A natural run of zeros could pass for a hole. So a record that differs from its checksum by a single byte is corrupt.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import Enum
from typing import Final

from corral.jute.checksums import adler32
from corral.storage.txnlog.format import (
    FRAME,
    FRAME_AND_ZXID,
    HEADER,
    LARGEST_UNSYNCED_BYTES,
    MAGIC,
    MARK,
    SMALLEST_ENTRY,
    SMALLEST_RECORD,
)

SECTOR_BYTES: Final = 512
"""The least that a device writes or loses."""

PAGE_BYTES: Final = 4096
"""What a kernel writes back as one."""


LARGEST_TAIL_BYTES: Final = 1 << 30
"""More than this behind a bad record is not looked through."""

_CHUNK_BYTES: Final = 1 << 20
_ADLER_MODULUS: Final = 65521


class EndKind(Enum):
    """What stands behind the last good record."""

    CLEAN = "clean"
    """Padding, or the end of the file."""
    TORN = "torn"
    """What a crash left of a write that never finished."""
    CORRUPT = "corrupt"
    """Damage that no crash explains."""


@dataclass(frozen=True, slots=True)
class Ending:
    """``offset`` is where the last good record ends, ``bytes_lost`` how much stands there that is no padding.

    ``resumes_at`` is the offset of the next readable record behind the damage, if there is one.
    """

    kind: EndKind
    offset: int
    reason: str
    bytes_lost: int = 0
    resumes_at: int | None = None


def examine_ending(descriptor: int, offset: int, file_size: int, last_zxid: int) -> Ending:
    """What the file holds from ``offset`` on, where reading record after record came to its end."""
    end = end_of_data(descriptor, offset, file_size)
    if end == offset:
        return Ending(EndKind.CLEAN, offset, "padding" if file_size > offset else "end of file")
    size = end - offset
    if size > LARGEST_TAIL_BYTES:
        return Ending(EndKind.CORRUPT, offset, "no record, and too much behind it to look through", size)
    tail = read_range(descriptor, offset, end)
    if offset < len(HEADER):
        return _judge_header(tail)
    return judge_tail(tail, offset, file_size, last_zxid)


def judge_tail(tail: bytes, offset: int, file_size: int, last_zxid: int) -> Ending:
    """Judge a bad record at ``offset``; ``tail`` is the file from there to its last byte that is not zero."""
    stored, length = FRAME.unpack(tail[: FRAME.size].ljust(FRAME.size, b"\0"))
    available = file_size - offset
    record_size = FRAME.size + length + len(MARK)
    mark_at = record_size - len(MARK)
    fits = record_size <= available
    computed = adler32(tail[FRAME.size : mark_at].ljust(length, b"\0")) if fits else None
    # A single changed byte is no lost block, unless what follows the record is lost as well.
    near_miss = computed is not None and length >= SMALLEST_ENTRY and _differs_by_a_byte(stored, computed, length)
    beyond = record_size if near_miss else 0

    def ending(kind: EndKind, reason: str, resumes_at: int | None = None) -> Ending:
        return Ending(kind, offset, reason, len(tail), resumes_at)

    following = find_record(tail, offset, 1, last_zxid, record_size)
    if following is not None:
        if has_hole(tail, offset, following, PAGE_BYTES, beyond) and len(tail) <= LARGEST_UNSYNCED_BYTES:
            return ending(EndKind.TORN, "a page was never written, records behind it are unusable", offset + following)
        return ending(EndKind.CORRUPT, _describe(tail, stored, length, computed, fits), offset + following)
    body = tail[FRAME.size : -len(MARK)]
    if tail.endswith(MARK) and len(body) >= SMALLEST_ENTRY and adler32(body) == stored:
        return ending(EndKind.CORRUPT, f"record length {_signed(length)} is wrong, {len(body)} bytes are there")
    if length >= 1 << 31:
        return ending(EndKind.CORRUPT, f"unreasonable record length {_signed(length)}")
    if not fits or record_size > len(tail):
        return ending(EndKind.TORN, "the last record is incomplete")
    if computed != stored and has_hole(tail, offset, len(tail), SECTOR_BYTES, beyond):
        return ending(EndKind.TORN, "a block of the last record was never written")
    return ending(EndKind.CORRUPT, _describe(tail, stored, length, computed, fits))


def find_record(tail: bytes, offset: int, start: int, last_zxid: int, likely: int) -> int | None:
    """Where in ``tail``, from ``start`` on, the next readable record with a zxid beyond ``last_zxid`` begins.

    A record begins behind the mark of another one, or, where the other was lost, at the start of a block, or at the
    ``likely`` place where the bad record ends by its length. ``offset`` is the position of ``tail`` in its file.
    """
    found = likely if _is_record(tail, likely, last_zxid) else None
    last_start = len(tail) - SMALLEST_RECORD
    after_mark = tail.find(MARK, start - 1) + 1
    block = start + -(offset + start) % SECTOR_BYTES
    while True:
        if after_mark and (after_mark <= block or block > last_start):
            candidate = after_mark
            after_mark = tail.find(MARK, after_mark) + 1
        else:
            candidate = block
            block += SECTOR_BYTES
        if candidate > last_start or (found is not None and candidate >= found):
            return found
        if _is_record(tail, candidate, last_zxid):
            return candidate


def has_hole(tail: bytes, offset: int, stop: int, block_size: int, beyond: int = 0) -> bool:
    """Whether a block of the disk that begins before ``stop`` was never written, as far as ``tail`` belongs to it.

    Only blocks that end after ``beyond`` are looked at.
    """
    block = -(offset % block_size)
    while block < stop:
        end = block + block_size
        # Of the block that the bad record begins in, only the rest is known to have been written anew.
        start = max(block, 0)
        if beyond < end <= len(tail) and end - start >= FRAME.size and not tail[start:end].strip(b"\0"):
            return True
        block = end
    return False


def end_of_data(descriptor: int, offset: int, file_size: int) -> int:
    """The position behind the last byte, from ``offset`` on, that is not zero; ``offset`` if there is none."""
    for start, stop in reversed(_data_extents(descriptor, offset, file_size)):
        while stop > start:
            chunk_start = max(start, stop - _CHUNK_BYTES)
            data = read_range(descriptor, chunk_start, stop).rstrip(b"\0")
            if data:
                return chunk_start + len(data)
            stop = chunk_start
    return offset


def read_range(descriptor: int, start: int, stop: int) -> bytes:
    """The bytes from ``start`` to ``stop``, fewer if the file ends first."""
    pieces = []
    while start < stop and (piece := os.pread(descriptor, stop - start, start)):
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _judge_header(tail: bytes) -> Ending:
    if len(tail) < len(HEADER) and HEADER.startswith(tail[:4]):
        return Ending(EndKind.TORN, 0, "the file's header is incomplete", len(tail))
    if has_hole(tail, 0, 1, SECTOR_BYTES) and len(tail) <= LARGEST_UNSYNCED_BYTES:
        return Ending(EndKind.TORN, 0, "the file's first block was never written", len(tail))
    magic = int.from_bytes(tail[:4].ljust(4, b"\0"), "big")
    reason = f"not a transaction log: it begins with {magic:#010x}, a log begins with {MAGIC:#010x}"
    return Ending(EndKind.CORRUPT, 0, reason, len(tail), find_record(tail, 0, 1, -1, len(HEADER)))


def _is_record(tail: bytes, position: int, last_zxid: int) -> bool:
    if position + SMALLEST_RECORD > len(tail):
        return False
    stored, length, zxid = FRAME_AND_ZXID.unpack_from(tail, position)
    start = position + FRAME.size
    end = start + length
    if length < SMALLEST_ENTRY or end >= len(tail) or tail[end] != MARK[0] or zxid <= last_zxid:
        return False
    return adler32(tail[start:end]) == int(stored)


def restore_entry(entry: bytes, stored: int) -> bytes | None:
    """The entry as it was written, if a single changed byte explains why its checksum is not ``stored``.

    If that byte is one of the checksum, the entry is as it was.
    """
    computed = adler32(entry)
    if _differs_in_one_place(stored, computed):
        return entry
    found = _changed_byte(stored, computed, len(entry))
    if found is None:
        return None
    position, change = found
    value = entry[position] + change
    if not 0 <= value <= 255:
        return None
    return entry[:position] + bytes([value]) + entry[position + 1 :]


def _differs_by_a_byte(stored: int, computed: int, length: int) -> bool:
    """Whether one changed byte, of the checksum or of the ``length`` bytes summed up, explains the difference."""
    return _differs_in_one_place(stored, computed) or _changed_byte(stored, computed, length) is not None


def _differs_in_one_place(stored: int, computed: int) -> bool:
    difference = stored ^ computed
    return any(difference & ~(0xFF << shift) == 0 for shift in range(0, 64, 8))


def _changed_byte(stored: int, computed: int, length: int) -> tuple[int, int] | None:
    """Which of ``length`` bytes would have to grow by how much to get from one Adler-32 to the other.

    An Adler-32 is two sums: of all bytes (low half), and of all those sums on the way (high half). A byte that grows
    by d changes the first by d, and the second by d for each place from its own to the end.
    """
    if stored > 0xFFFFFFFF:
        return None
    low = ((stored & 0xFFFF) - (computed & 0xFFFF)) % _ADLER_MODULUS
    high = ((stored >> 16) - (computed >> 16)) % _ADLER_MODULUS
    change = low if low < 256 else low - _ADLER_MODULUS
    if change == 0 or change < -255:
        return None
    places = high * pow(low, -1, _ADLER_MODULUS) % _ADLER_MODULUS
    return (length - places, change) if 1 <= places <= length else None


def _describe(tail: bytes, stored: int, length: int, computed: int | None, fits: bool) -> str:
    if not fits or length < SMALLEST_ENTRY:
        return f"unreasonable record length {_signed(length)}"
    if computed != stored:
        return f"checksum {computed:#010x} does not match the stored {stored:#010x}"
    mark_at = FRAME.size + length
    found = tail[mark_at] if mark_at < len(tail) else 0
    return f"a record of {length} bytes ends with byte {found:#04x} instead of {MARK[0]:#04x}"


def _signed(length: int) -> int:
    return length - (1 << 32) if length >= 1 << 31 else length


def _data_extents(descriptor: int, offset: int, file_size: int) -> list[tuple[int, int]]:
    """The stretches of the file that are not holes; the whole of it where the system cannot tell."""
    extents: list[tuple[int, int]] = []
    position = offset
    while position < file_size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            # ENXIO: only a hole is left. Anything else: the system cannot tell.
            return extents if error.errno == errno.ENXIO else [(offset, file_size)]
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        extents.append((start, min(position, file_size)))
    return extents
