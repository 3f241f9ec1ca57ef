"""A whole tree on its way from a leader to a learner: a snapshot's sections without the file around them.

Sessions, ACLs and znodes stand as in a snapshot file; the end mark of the znodes is followed by a signature. Nothing
tells the length beforehand.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corral.jute.checksums import adler32
from corral.jute.primitives import JuteError
from corral.storage.snapshot import DBID, HEADER, MAGIC, ROOT_MARK, VERSION, SnapshotReader, load_tree, seal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.jute.owner import OwnerRules
    from corral.storage.snapshot import SnapshotEncoder
    from corral.tree.datatree import DataTree

_SIGNATURE: Final = b"\0\0\0\x0aBenWasHere"
_INT: Final = struct.Struct(">i")
_SESSION_BYTES: Final = 12
_PERSISTED_BYTES: Final = 60
_ZNODES_PER_PIECE: Final = 500


def encode_stream(encoder: SnapshotEncoder) -> Iterator[bytes]:
    """The stream in pieces, between which the tree may change; the first is to be taken before it does."""
    yield encoder.head()[HEADER.size :]
    while (piece := encoder.nodes(_ZNODES_PER_PIECE)) is not None:
        yield piece
    yield ROOT_MARK + _SIGNATURE


class SnapshotStream:
    """Collects a stream, and finds its end."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0
        self._section = 0
        self._left = -1
        self.rest = b""
        """What came behind the end."""

    def feed(self, data: bytes) -> bool:
        """Take more bytes; returns whether the stream is whole. Raises JuteError for what is none."""
        self._data += data
        while self._step():
            if self._section == 4:
                self.rest = bytes(self._data[self._at :])
                del self._data[self._at :]
                return True
        return False

    def tree(self, zxid: int, owner_rules: OwnerRules, *, digests: bool) -> DataTree:
        """The tree that came, as of ``zxid``. Raises SnapshotError if it is damaged."""
        del self._data[len(self._data) - len(_SIGNATURE) :]
        whole = HEADER.pack(MAGIC, VERSION, DBID) + bytes(self._data)
        whole += seal(adler32(whole))
        return load_tree(SnapshotReader(whole, Path("the leader's snapshot")), zxid, owner_rules, digests=digests)

    def _step(self) -> bool:
        """Read past one element; False if it is not all there."""
        match self._section:
            case 0 | 1 if self._left < 0:
                return self._count()
            case 0:
                return self._sessions()
            case 1:
                return self._acl()
            case 2:
                return self._znode()
            case _:
                return self._signature()

    def _count(self) -> bool:
        if len(self._data) - self._at < 4:
            return False
        self._left = self._length(self._at)
        self._at += 4
        if self._left < 0:
            raise JuteError(f"a section of {self._left} elements")
        self._next_section_when_done()
        return True

    def _next_section_when_done(self) -> None:
        if self._left == 0:
            self._section += 1
            self._left = -1

    def _sessions(self) -> bool:
        size = self._left * _SESSION_BYTES
        if len(self._data) - self._at < size:
            return False
        self._at += size
        self._left = 0
        self._next_section_when_done()
        return True

    def _acl(self) -> bool:
        at, end = self._at + 8, len(self._data)
        if end - at < 4:
            return False
        count = self._length(at)
        at += 4
        for _ in range(count):
            at += 4
            for _ in range(2):
                if end - at < 4:
                    return False
                at += 4 + max(0, self._length(at))
        if at > end:
            return False
        self._at = at
        self._left -= 1
        self._next_section_when_done()
        return True

    def _znode(self) -> bool:
        data, at, end = self._data, self._at, len(self._data)
        if end - at < 4:
            return False
        size = self._length(at)
        if size < 0:
            raise JuteError(f"a path of {size} bytes")
        if end - at < 4 + size:
            return False
        if size == 1 and data[at + 4] == 0x2F:
            self._at = at + 5
            self._section = 3
            return True
        at += 4 + size
        if end - at < 4:
            return False
        size = self._length(at)
        if size < -1:
            raise JuteError(f"data of {size} bytes")
        at += 4 + max(0, size) + 8 + _PERSISTED_BYTES
        if at > end:
            return False
        self._at = at
        return True

    def _signature(self) -> bool:
        stop = self._at + len(_SIGNATURE)
        if len(self._data) < stop:
            return False
        if self._data[self._at : stop] != _SIGNATURE:
            raise JuteError("the signature at the end is wrong")
        self._at = stop
        self._section = 4
        return True

    def _length(self, at: int) -> int:
        length: int = _INT.unpack_from(self._data, at)[0]
        return length
