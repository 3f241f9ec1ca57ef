"""Snapshot files: compression, checksums, and appearing whole or not at all.

A snapshot is written under a temporary name, synced, and only then given its own: half a snapshot can never be taken
for a whole one, which has happened elsewhere.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import TYPE_CHECKING, Final, Protocol

from corral.jute.checksums import adler32
from corral.storage.errors import DiskError
from corral.storage.files import SnapshotFile, snapshot_name
from corral.storage.filesystem import REAL, FileSystem, remove_if_present, write_fully
from corral.storage.snapshot import SnapshotEncoder, SnapshotError, SnapshotReader, load_tree, seal

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from corral.jute.owner import OwnerRules
    from corral.tree.datatree import DataTree

SYNC_EVERY_BYTES: Final = 1 << 20
"""Synced piece by piece: the log's syncs wait behind each of these on the device."""
_SNAPPY_MAGIC: Final = b"\x82SNAPPY\x00"
_SNAPPY_HEADER: Final = _SNAPPY_MAGIC + struct.pack(">ii", 1, 1)
_SNAPPY_BLOCK: Final = 32 * 1024
_BLOCK_LENGTH = struct.Struct(">i")
ENCODED_AT_ONCE: Final = 2000
"""Znodes encoded in one piece when nobody else is to be served meanwhile."""


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class _Snappy:
    """The framing of xerial's SnappyOutputStream: a header, then blocks of 32 KiB, each with its length."""

    def __init__(self) -> None:
        self._snappy = _snappy_module()
        self._pending = bytearray()
        self._started = False

    def compress(self, data: bytes, /) -> bytes:
        self._pending += data
        return self._blocks(final=False)

    def flush(self) -> bytes:
        return self._blocks(final=True)

    def _blocks(self, *, final: bool) -> bytes:
        out = bytearray()
        if not self._started:
            out += _SNAPPY_HEADER
            self._started = True
        while len(self._pending) >= _SNAPPY_BLOCK or (final and self._pending):
            block = bytes(self._snappy.compress_raw(bytes(self._pending[:_SNAPPY_BLOCK])))
            del self._pending[:_SNAPPY_BLOCK]
            out += _BLOCK_LENGTH.pack(len(block)) + block
        return bytes(out)


def _snappy_module() -> ModuleType:
    try:
        from cramjam import snappy
    except ImportError:
        raise RuntimeError("snappy snapshots need the extra: pip install 'corral[snappy]'") from None
    return snappy


def _compressor(compression: str) -> _Compressor:
    if compression == "gz":
        return zlib.compressobj(wbits=31)
    return _Snappy() if compression == "snappy" else _Plain()


class SnapshotWriter:
    """Writes one snapshot file from the pieces of a SnapshotEncoder; every method may take as long as the disk does.

    Raises DiskError; :meth:`discard` then removes what was written.
    """

    def __init__(self, directory: Path, zxid: int, compression: str = "", filesystem: FileSystem = REAL) -> None:
        self.path = directory / snapshot_name(zxid, compression)
        self._temporary = self.path.with_name(self.path.name + ".tmp")
        self._filesystem = filesystem
        self._compressor = _compressor(compression)
        self._checksum = 1
        self._offset = self._synced = 0
        try:
            remove_if_present(self._temporary, filesystem)
            self._descriptor = filesystem.create(self._temporary)
        except OSError as error:
            raise DiskError("create the snapshot", error, self._temporary) from error

    def write(self, piece: bytes) -> None:
        """Append the next piece."""
        self._checksum = adler32(piece, self._checksum)
        self._put(self._compressor.compress(piece))

    def finish(self, sections: list[bytes]) -> Path:
        """Write the sections with their seals, sync, and give the file its name, which is returned."""
        for section in sections:
            self.write(section)
            self.write(seal(self._checksum))
        self._put(self._compressor.flush())
        filesystem = self._filesystem
        try:
            filesystem.sync_data(self._descriptor)
            descriptor, self._descriptor = self._descriptor, -1
            filesystem.close(descriptor)
            filesystem.rename(self._temporary, self.path)
            filesystem.sync_directory(self.path.parent)
        except OSError as error:
            raise DiskError("finish the snapshot", error, self.path) from error
        return self.path

    def discard(self) -> None:
        """Remove an unfinished snapshot, as far as the disk lets us."""
        if self._descriptor >= 0:
            self._filesystem.close(self._descriptor)
            self._descriptor = -1
        try:
            remove_if_present(self._temporary, self._filesystem)
        except OSError:
            return

    def _put(self, data: bytes) -> None:
        if not data:
            return
        try:
            write_fully(self._filesystem, self._descriptor, data, self._offset)
            self._offset += len(data)
            if self._offset - self._synced >= SYNC_EVERY_BYTES:
                self._filesystem.sync_data(self._descriptor)
                self._synced = self._offset
        except OSError as error:
            raise DiskError("write the snapshot", error, self._temporary, self._offset) from error


def write_snapshot(
    directory: Path, encoder: SnapshotEncoder, compression: str = "", filesystem: FileSystem = REAL
) -> Path:
    """Write a whole snapshot in one go."""
    writer = SnapshotWriter(directory, encoder.zxid, compression, filesystem)
    try:
        writer.write(encoder.head())
        while (piece := encoder.nodes(ENCODED_AT_ONCE)) is not None:
            writer.write(piece)
        return writer.finish(encoder.sections())
    except BaseException:
        writer.discard()
        raise


def read_snapshot_bytes(snapshot: SnapshotFile) -> bytes:
    """The file's content, decompressed. SnapshotError if it cannot be."""
    try:
        raw = snapshot.path.read_bytes()
    except OSError as error:
        raise DiskError("read the snapshot", error, snapshot.path) from error
    try:
        if snapshot.compression == "gz":
            return gzip.decompress(raw)
        if snapshot.compression == "snappy":
            return _unsnap(raw)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise SnapshotError(f"cannot be decompressed: {error}", snapshot.path) from None
    return raw


def _unsnap(raw: bytes) -> bytes:
    if not raw.startswith(_SNAPPY_MAGIC):
        raise ValueError("it does not begin as a snappy stream does")
    snappy = _snappy_module()
    at = len(_SNAPPY_HEADER)
    blocks: list[bytes] = []
    while at < len(raw):
        if at + 4 > len(raw):
            raise ValueError(f"it ends within the length of a block at {at}")
        length: int = _BLOCK_LENGTH.unpack_from(raw, at)[0]
        if length < 0 or at + 4 + length > len(raw):
            raise ValueError(f"a block of {length} bytes at {at}")
        try:
            blocks.append(bytes(snappy.decompress_raw(raw[at + 4 : at + 4 + length])))
        except Exception as error:
            raise ValueError(f"the block at {at} is damaged: {error}") from None
        at += 4 + length
    return b"".join(blocks)


def load_snapshot(snapshot: SnapshotFile, owner_rules: OwnerRules, *, digests: bool) -> DataTree:
    """The tree in a snapshot file. SnapshotError says what is wrong with it."""
    return load_tree(
        SnapshotReader(read_snapshot_bytes(snapshot), snapshot.path), snapshot.zxid, owner_rules, digests=digests
    )
