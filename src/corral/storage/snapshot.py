"""Snapshots of the tree: the format, written piece by piece and read in one go (sources: FileSnap, DataTree).

    int "ZKSN" | int 2 | long -1                                              header
    int count | count x (long session id, int timeout in ms)                  sessions
    int count | count x (long number, vector of ACL)                          ACL table
    (ustring path, buffer data, long ACL number, StatPersisted)*  "/"         znodes, parents first; the root is ""
    seal                                                                      long Adler-32 of all before | "/"
    [long zxid, int digest version, long digest  seal]                        if digests are kept
    [long last zxid  seal]                                                    since 3.9

A snapshot is fuzzy: the tree goes on changing while its znodes are written, and replaying the log from the zxid in
the file's name makes up for it. The last two sections say where the tree was when the last znode had been written:
only a replay up to there gives a tree that ever was, so only there can the digest be compared.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from corral.jute.checksums import adler32, crc32
from corral.jute.paths import path_units
from corral.jute.primitives import JuteError, Reader
from corral.storage.errors import StorageError
from corral.tree.acl import decode_acl, encode_acl
from corral.tree.datatree import DataTree
from corral.tree.digest import DIGEST_MASK, DIGEST_VERSION
from corral.tree.znode import LENGTH, STAT, STAT_SIZE, Children, Znode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from corral.jute.owner import OwnerRules

MAGIC: Final = 0x5A4B534E
VERSION: Final = 2
DBID: Final = -1
HEADER: Final = struct.Struct(">iiq")
UNKNOWN_ACL_ID: Final = 0
"""A number that no ACL has: grants nothing to anyone."""
ROOT_MARK: Final = b"\x00\x00\x00\x01/"
"""The ustring ``/``: ends the znodes, and each seal."""
SEAL_SIZE: Final = 8 + len(ROOT_MARK)
SMALLEST: Final = HEADER.size + 8 + len(ROOT_MARK) + SEAL_SIZE
_SESSION = struct.Struct(">qi")
_LONG = struct.Struct(">q")
_DIGEST = struct.Struct(">qiq")
_NODE_TAIL = struct.Struct(">qqqqqiiiqq")
_COUNTS = struct.Struct(">ii")
_CVERSION_AND_OWNER = struct.Struct(">iiq")


class SnapshotError(StorageError):
    """A file that is no whole, undamaged snapshot."""


def seal(checksum: int) -> bytes:
    """What stands after each section: the Adler-32 of every byte before it."""
    return _LONG.pack(checksum) + ROOT_MARK


class SnapshotEncoder:
    """Serialises a tree in pieces, between which the tree may change.

    Znodes created after the start are left out: the log brings them back, and their ACLs need not be in the table.
    ``zxid`` is that of the start, the one for the file's name.
    """

    def __init__(self, tree: DataTree, *, digests: bool, last_zxid_section: bool) -> None:
        self.tree = tree
        self.zxid = tree.last_zxid
        self.digests = digests
        self.last_zxid_section = last_zxid_section
        self._end = (self.zxid, tree.digest)
        self._paths = list(tree.nodes)
        self._next = 0

    def head(self) -> bytes:
        """Header, sessions and ACL table: the first piece, to be taken before the tree changes."""
        tree = self.tree
        parts = [HEADER.pack(MAGIC, VERSION, DBID), LENGTH.pack(len(tree.sessions))]
        parts.extend(_SESSION.pack(session_id, timeout_ms) for session_id, timeout_ms in tree.sessions.items())
        acls = tree.acls.items()
        parts.append(LENGTH.pack(len(acls)))
        for acl_id, encoded in acls:
            parts.append(_LONG.pack(acl_id))
            parts.append(encoded)
        return b"".join(parts)

    def nodes(self, count: int) -> bytes | None:
        """The next znodes, at most ``count`` of them; None when all are written."""
        start = self._next
        paths = self._paths[start : start + count]
        if not paths:
            self._end = (self.tree.last_zxid, self.tree.digest)
            return None
        self._next = start + count
        tree = self.tree
        find = tree.nodes.get
        special = tree.special_owners
        zxid = self.zxid
        pack_length = LENGTH.pack
        pack_long = _LONG.pack
        read_czxid = _LONG.unpack_from
        parts: list[bytes] = []
        add = parts.append
        for path in paths:
            node = find(path)
            if node is None or path == b"/":
                continue
            body = node.body
            at = len(body) - STAT_SIZE
            if read_czxid(body, at)[0] > zxid:
                continue
            add(pack_length(len(path)))
            add(path)
            add(body[:at])
            add(pack_long(node.acl))
            children = node.children
            if children is None and not special:
                add(body[at:-16])
                add(body[-8:])
                continue
            czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid = tree.persisted(path, node)
            add(_NODE_TAIL.pack(0, czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid)[8:])
        return b"".join(parts)

    def sections(self) -> list[bytes]:
        """What follows the znodes, each section to be sealed; the first is the end mark of the znodes.

        To be called when ``nodes`` has come to its end. It does not look at the tree, which may be changing.
        """
        zxid, digest = self._end
        sections = [ROOT_MARK]
        if self.digests:
            sections.append(_DIGEST.pack(zxid, DIGEST_VERSION, _signed(digest)))
        if self.last_zxid_section:
            sections.append(_LONG.pack(zxid))
        return sections

    @property
    def total(self) -> int:
        """How many znodes there were at the start."""
        return len(self._paths) - 1


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


@dataclass(slots=True)
class Trailer:
    """What a snapshot says of itself after its znodes. ``digest`` is that of the tree at ``digest_zxid``."""

    digest_zxid: int | None = None
    digest_version: int | None = None
    digest: int | None = None
    last_zxid: int | None = None
    seals: int = 0


@dataclass(slots=True)
class SnapshotReader:
    """A parsed view of a snapshot's (uncompressed) bytes. Every damage raises SnapshotError naming file and offset."""

    data: bytes
    path: Path
    sessions: dict[int, int] = field(default_factory=dict)
    acls: dict[int, bytes] = field(default_factory=dict)
    trailer: Trailer = field(default_factory=Trailer)
    _nodes_start: int = 0
    _nodes_end: int = 0

    def __post_init__(self) -> None:
        data = self.data
        if len(data) < SMALLEST:
            raise SnapshotError(f"a snapshot is at least {SMALLEST} bytes long, this file has {len(data)}", self.path)
        magic, version, _ = HEADER.unpack_from(data)
        if magic != MAGIC or version != VERSION:
            raise SnapshotError(f"no snapshot of version {VERSION}: it begins with {data[:8].hex()}", self.path, 0)
        reader = Reader(data, HEADER.size)
        try:
            for _ in range(reader.read_int()):
                session_id, timeout_ms = reader.read_struct(_SESSION)
                self.sessions[session_id] = timeout_ms
            for _ in range(reader.read_int()):
                acl_id = reader.read_long()
                self.acls[acl_id] = encode_acl(decode_acl(reader))
        except JuteError as error:
            raise SnapshotError(f"damaged before its znodes: {error}", self.path, reader.position) from None
        self._nodes_start = reader.position

    def nodes(self) -> Iterator[tuple[bytes, int, int]]:
        """For each znode its path, where its data field (length and bytes) begins, and where that ends.

        The ACL number (8 bytes) and the StatPersisted (60 bytes) follow the data. The root comes first, as ``b""``.
        """
        data = self.data
        at = self._nodes_start
        end = len(data)
        length_at = LENGTH.unpack_from
        try:
            while True:
                size: int = length_at(data, at)[0]
                start = at + 4
                data_at = start + size
                if size < 0 or data_at > end:
                    raise SnapshotError(f"a path of {size} bytes", self.path, at)
                path = data[start:data_at]
                if path == b"/":
                    self._nodes_end = data_at
                    return
                size = length_at(data, data_at)[0]
                data_end = data_at + 4 + (size if size > 0 else 0)
                if size < -1 or data_end + 68 > end:
                    raise SnapshotError(f"data of {size} bytes", self.path, data_at)
                yield path, data_at, data_end
                at = data_end + 68
        except struct.error:
            raise SnapshotError("it ends among its znodes", self.path, at) from None

    def check(self) -> None:
        """Verify the seals and read the sections; to be called when ``nodes`` has come to its end."""
        at = self._check_seal(self._nodes_end, 1)
        data = self.data
        left = len(data) - at
        if left >= _DIGEST.size + SEAL_SIZE:
            zxid, version, digest = _DIGEST.unpack_from(data, at)
            self.trailer.digest_zxid, self.trailer.digest_version = zxid, version
            self.trailer.digest = digest & DIGEST_MASK
            if version < DIGEST_VERSION:
                reader = Reader(data, at + 12)
                try:
                    reader.read_buffer()
                except JuteError:
                    raise SnapshotError("its digest section is cut short", self.path, at) from None
                self.trailer.digest = None
                at = self._check_seal(reader.position, 2)
            else:
                at = self._check_seal(at + _DIGEST.size, 2)
            left = len(data) - at
        if left >= 8 + SEAL_SIZE:
            self.trailer.last_zxid = _LONG.unpack_from(data, at)[0]
            at = self._check_seal(at + 8, self.trailer.seals + 1)
        if at != len(data):
            raise SnapshotError(f"{len(data) - at} bytes after its end", self.path, at)

    def _check_seal(self, at: int, number: int) -> int:
        data = self.data
        if len(data) < at + SEAL_SIZE or data[at + 8 : at + SEAL_SIZE] != ROOT_MARK:
            raise SnapshotError(f"seal {number} is missing", self.path, at)
        written: int = _LONG.unpack_from(data, at)[0]
        computed = adler32(memoryview(data)[:at])
        if written != computed:
            raise SnapshotError(
                f"checksum {written:#x} is wrong, the bytes before it give {computed:#x}", self.path, at
            )
        self.trailer.seals = number
        return at + SEAL_SIZE


def load_tree(reader: SnapshotReader, zxid: int, owner_rules: OwnerRules, *, digests: bool) -> DataTree:
    """The tree a snapshot holds, as of ``zxid`` (the one in the file's name). SnapshotError if it is damaged."""
    tree = DataTree(owner_rules)
    tree.clear()
    tree.keeps_digest = False
    tree.sessions.update(reader.sessions)
    acls = tree.acls
    for acl_id, encoded in reader.acls.items():
        acls.restore(acl_id, encoded)
    nodes = tree.nodes
    data = reader.data
    count_acl = acls.add_use
    knows_acl = acls.knows
    pack_counts = _COUNTS.pack
    read_tail = _NODE_TAIL.unpack_from
    read_kind = _CVERSION_AND_OWNER.unpack_from
    read_acl = _LONG.unpack_from
    data_size = 1
    digest = 0
    parent_path = b"\0"
    siblings: dict[bytes, None] = {}
    for path, data_at, data_end in reader.nodes():
        acl = read_acl(data, data_end)[0]
        if not knows_acl(acl):
            # Set while the snapshot was written; the log brings it. The number may by then stand for another ACL.
            acl = UNKNOWN_ACL_ID
        cversion, aversion, owner = read_kind(data, data_end + 44)
        length = data_end - data_at - 4
        tail_at = data_end + 8
        if cversion == 0 and owner == 0:
            node = Znode(
                data[data_at:data_end]
                + data[tail_at : tail_at + 52]
                + pack_counts(length, 0)
                + data[tail_at + 52 : tail_at + 60],
                acl,
            )
        else:
            _, czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid = read_tail(data, data_end)
            try:
                shown = tree.index_owner(path, owner)
            except ValueError as error:
                raise SnapshotError(f"{path.decode('utf-8', 'replace')}: {error}", reader.path, data_end) from None
            stat = STAT.pack(
                czxid, mzxid, ctime, mtime, version, 2 * cversion & 0x7FFFFFFF, aversion, shown, length, 0, pzxid
            )
            node = Znode(data[data_at:data_end] + stat, acl, Children(cversion, pzxid))
        if acl > 0:
            count_acl(acl)
        if digests and not path.startswith(b"/zookeeper/"):
            # The stored stat holds the digest's fields, with pzxid in another place.
            digest += crc32(
                data[tail_at : tail_at + 16] + data[tail_at + 52 : tail_at + 60] + data[tail_at + 16 : tail_at + 52],
                crc32(data[data_at + 4 : data_end], crc32(path)),
            )
        if path:
            slash = path.rfind(b"/")
            if slash < 0:
                raise SnapshotError(f"{path[:200]!r} is no path", reader.path, data_at - len(path) - 4)
            above = path[:slash]
            if above != parent_path:
                parent = nodes.get(above)
                if parent is None:
                    raise SnapshotError(
                        f"{path.decode('utf-8', 'replace')} comes before its parent", reader.path, data_at
                    )
                if parent.children is None:
                    pzxid = _LONG.unpack_from(parent.body, len(parent.body) - 8)[0]
                    parent.children = Children(0, pzxid)
                siblings = parent.children.paths
                parent_path = above
            siblings[path] = None
            nodes[path] = node
        else:
            nodes[b""] = nodes[b"/"] = node
        data_size += path_units(path) + length
    if b"" not in nodes:
        raise SnapshotError("it has no root", reader.path)
    reader.check()
    acls.drop_unused()
    tree.data_size = data_size
    tree.last_zxid = zxid
    tree.keeps_digest = digests
    tree.digest = digest & DIGEST_MASK
    return tree
