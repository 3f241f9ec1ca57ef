"""The layout of a transaction log.

    header (16 bytes)   int magic "ZKLG" | int version 2 | long database id 0
    record, repeated    long Adler-32 of the entry, zero-extended | int length | entry | byte 0x42
    padding             zeros up to the end of the file

An entry is a transaction header (32 bytes), the transaction's record and, if digests are on, a digest (12 bytes); its
zxid is at bytes 12 to 19. The checksum covers the entry alone: neither its length nor the mark behind it. Source:
Apache ZooKeeper's FileTxnLog.
"""

from __future__ import annotations

import struct
from typing import Final

from corral.jute.checksums import adler32
from corral.jute.records import FileHeader

MAGIC: Final = 0x5A4B4C47
VERSION: Final = 2
HEADER: Final = FileHeader(MAGIC, VERSION, 0).to_bytes()
MARK: Final = b"B"

FRAME: Final = struct.Struct(">QI")
"""What stands before each entry: checksum and length."""

FRAME_AND_ZXID: Final = struct.Struct(">QI12xq")
"""A frame and as much of the entry as holds the zxid."""

ENTRY_ZXID: Final = struct.Struct(">12xq")
_ENTRY_TIME: Final = struct.Struct(">20xq")

SMALLEST_ENTRY: Final = 32
"""Bytes of a transaction header: no entry is shorter."""

SMALLEST_RECORD: Final = FRAME.size + SMALLEST_ENTRY + len(MARK)

LARGEST_UNSYNCED_BYTES: Final = 2 << 20
"""A batch larger than this is synced in parts, so that a crash leaves at most so much in doubt (or one record)."""


def entry_zxid(entry: bytes) -> int:
    zxid: int = ENTRY_ZXID.unpack_from(entry)[0]
    return zxid


def entry_age_ms(entry: bytes, now_ms: int) -> int:
    """For how long there has been a transaction, by the wall clock; 0 if its maker's disagrees."""
    made_ms: int = _ENTRY_TIME.unpack_from(entry)[0]
    return max(0, now_ms - made_ms)


def frame_entries(entries: list[bytes]) -> bytes:
    """The entries as they stand in the file, one record each."""
    pack = FRAME.pack
    return b"".join([piece for entry in entries for piece in (pack(adler32(entry), len(entry)), entry, MARK)])


def padded_size(position: int, file_size: int, preallocation_bytes: int) -> int:
    """The length a log should have before a record is written at ``position``.

    A log grows ahead of its records, by ``preallocation_bytes`` as soon as fewer than 4 KiB are left, so that few
    syncs must also store a new length. If the records have outrun the padding, the length becomes a multiple of
    ``preallocation_bytes``. 0 turns padding off. Source: FilePadding.calculateFileSizeWithPadding.
    """
    if preallocation_bytes <= 0 or position + 4096 < file_size:
        return file_size
    if position > file_size:
        wanted = position + preallocation_bytes
        return wanted - wanted % preallocation_bytes
    return file_size + preallocation_bytes
