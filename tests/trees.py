"""Small trees to test with, made by transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import adler32

from corral.jute.ops import OpCode
from corral.jute.owner import OwnerRules
from corral.jute.records import (
    Acl,
    CreateContainerTxn,
    CreateSessionTxn,
    CreateTtlTxn,
    CreateTxn,
    Id,
    SetAclTxn,
    SetDataTxn,
    TxnDigest,
    TxnHeader,
)
from corral.storage.snapshot import SnapshotEncoder, seal
from corral.tree.datatree import DataTree

if TYPE_CHECKING:
    from corral.jute.record import Record

NOW_MS = 1_700_000_000_000
SESSION = 0x100001F126E0000
ANYONE = Acl(31, Id("world", "anyone"))
ANN = Acl(31, Id("digest", "ann:x"))
EXTENDED = OwnerRules(extended_types=True)


class Grower:
    """Applies transactions to a tree, one zxid each."""

    def __init__(self, tree: DataTree | None = None) -> None:
        self.tree = DataTree(EXTENDED) if tree is None else tree
        self.log: list[tuple[int, int, int, bytes]] = []
        """zxid, type, session and record of everything applied."""

    def apply(self, txn_type: int, record: Record | bytes, session: int = SESSION) -> bytes:
        encoded = record if isinstance(record, bytes) else record.to_bytes()
        zxid = self.tree.last_zxid + 1
        self.log.append((zxid, txn_type, session, encoded))
        return self.tree.apply(txn_type, zxid, NOW_MS + zxid, session, encoded)

    def open_session(self, session: int = SESSION, timeout_ms: int = 30_000) -> None:
        self.apply(OpCode.CREATE_SESSION, CreateSessionTxn(timeout_ms), session)

    def create(
        self, path: bytes, data: bytes | None = b"", *acl: Acl, ephemeral: bool = False, session: int = SESSION
    ) -> bytes:
        children = self.tree.nodes[path.rpartition(b"/")[0]].children
        cversion = 1 if children is None else children.cversion + 1
        record = CreateTxn(path, data, list(acl) or [ANYONE], ephemeral, cversion)
        return self.apply(OpCode.CREATE2, record, session)

    def create_container(self, path: bytes) -> None:
        self.apply(OpCode.CREATE_CONTAINER, CreateContainerTxn(path, b"", [ANYONE], 100))

    def create_ttl(self, path: bytes, ttl_ms: int) -> None:
        self.apply(OpCode.CREATE_TTL, CreateTtlTxn(path, b"", [ANYONE], 100, ttl_ms))

    def set_data(self, path: bytes, data: bytes | None, version: int = 1) -> bytes:
        return self.apply(OpCode.SET_DATA, SetDataTxn(path, data, version))

    def set_acl(self, path: bytes, *acl: Acl, version: int = 1) -> bytes:
        return self.apply(OpCode.SET_ACL, SetAclTxn(path, list(acl), version))


def varied_tree() -> DataTree:
    """A few znodes of every kind."""
    grower = Grower()
    grower.open_session()
    grower.create(b"/a", b"some data")
    grower.create(b"/a/null", None, ANN, Acl(1, Id("world", "anyone")))
    grower.create(b"/a/empty", b"", ANN)
    grower.create("/é".encode(), b"\x00\xff")
    grower.create(b"/e", b"mine", ephemeral=True)
    grower.create_container(b"/c")
    grower.create_ttl(b"/t", 100_000)
    grower.set_data(b"/a", b"changed")
    grower.tree.changes.clear()
    return grower.tree


def snapshot_of(encoder: SnapshotEncoder, pieces: int = 1000) -> bytes:
    """What is left to encode of a snapshot, with its seals."""
    content = bytearray(encoder.head())
    while (piece := encoder.nodes(pieces)) is not None:
        content += piece
    return sealed(content, encoder)


def sealed(content: bytearray, encoder: SnapshotEncoder) -> bytes:
    """The sections added to header and znodes, a seal behind each."""
    for section in encoder.sections():
        content += section
        content += seal(adler32(content))
    return bytes(content)


def facts(tree: DataTree) -> dict[str, object]:
    """Everything that must be equal in equal trees."""
    return {
        "nodes": {
            path: (node.data, tree.stat(path), tree.acls.entries(node.acl), tree.raw_owner(path, node))
            for path, node in tree.walk()
        },
        "sessions": dict(tree.sessions),
        "ephemerals": {owner: set(paths) for owner, paths in tree.ephemerals.items() if paths},
        "special": dict(tree.special_owners),
        "quotas": list(tree.quotas),
        "zxid": tree.last_zxid,
    }


def log_entry(zxid: int, txn_type: int, session: int, record: bytes, digest: int | None = None) -> bytes:
    """A log's entry as :meth:`Grower.apply` would have it."""
    header = TxnHeader(session, 1, zxid, NOW_MS + zxid, txn_type).to_bytes()
    return header + record + (b"" if digest is None else TxnDigest(2, digest - (digest >> 63 << 64)).to_bytes())
