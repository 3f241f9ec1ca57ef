"""The tree of znodes and the one place where transactions change it (source: DataTree.processTxn).

``apply`` takes a transaction's record as encoded in the log and returns the body of the reply to whoever asked for
it. What watchers must be told is left in ``changes``. Applying the same transaction again is harmless, which lets a
snapshot be taken while the tree goes on changing: recovery replays everything after the snapshot's zxid.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from corral.jute.checksums import crc32
from corral.jute.errors import ErrorCode, KeeperError, NodeExistsError, NoNodeError
from corral.jute.ops import (
    CLOSE_SESSION,
    CREATE,
    CREATE2,
    CREATE_CONTAINER,
    CREATE_SESSION,
    CREATE_TTL,
    DELETE,
    DELETE_CONTAINER,
    ERROR,
    MULTI,
    RECONFIG,
    SET_ACL,
    SET_DATA,
    EventType,
    OpCode,
)
from corral.jute.owner import CONTAINER_OWNER, OwnerKind, OwnerRules, ttl_owner
from corral.jute.paths import CONFIG, QUOTA, ROOT, ZOOKEEPER, path_units
from corral.jute.primitives import JuteError, Reader
from corral.jute.records import Acl, CloseSessionTxn, CreateSessionTxn, ErrorTxn, MultiTxn
from corral.tree.acl import OPEN_ACL, OPEN_ACL_BYTES, OPEN_ACL_ID, READ_ONLY_ACL, AclTable, decode_acl, encode_acl
from corral.tree.digest import DIGEST_MASK, STAT_FOR_DIGEST, content_crc, counts_for_digest
from corral.tree.quota import LIMITS_NAME, USAGE_NAME, QuotaPaths, QuotaText, usage_path
from corral.tree.znode import LENGTH, STAT, STAT_SIZE, Children, Znode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Change = tuple[EventType, bytes, tuple[Acl, ...], bytes, tuple[Acl, ...]]
"""What happened, to which path, under which ACL; the parent (``/`` for the root) and the parent's ACL."""

DIGEST_LOG_INTERVAL: Final = 128
DIGEST_LOG_LENGTH: Final = 1024
_read_length: Final = LENGTH.unpack_from
_read_stat: Final = STAT.unpack_from
_pack_stat: Final = STAT.pack
_pack_for_digest: Final = STAT_FOR_DIGEST.pack
_MULTI_HEADER = struct.Struct(">i?i")
_MULTI_END: Final = _MULTI_HEADER.pack(-1, True, -1)
_STAT_HEAD = struct.Struct(">qqqqi")
_RESULT_TYPE: Final = {
    OpCode.CREATE: OpCode.CREATE,
    OpCode.CREATE2: OpCode.CREATE2,
    OpCode.CREATE_TTL: OpCode.CREATE2,
    OpCode.CREATE_CONTAINER: OpCode.CREATE2,
    OpCode.DELETE: OpCode.DELETE,
    OpCode.DELETE_CONTAINER: OpCode.DELETE,
    OpCode.SET_DATA: OpCode.SET_DATA,
    OpCode.CHECK: OpCode.CHECK,
}


class DataTree:
    """All znodes, sessions and ACLs as of ``last_zxid``.

    ``notes_changes``: leave what watchers must be told in ``changes``; off while nobody watches.
    ``keeps_digest``: recompute the digest with each transaction; a server that has computed it while preparing sets
    ``digest`` itself and switches this off.
    """

    def __init__(self, owner_rules: OwnerRules | None = None) -> None:
        self.owner_rules = owner_rules or OwnerRules()
        self.nodes: dict[bytes, Znode] = {}
        self.sessions: dict[int, int] = {}
        self.acls = AclTable()
        self.ephemerals: dict[int, dict[bytes, None]] = {}
        self.special_owners: dict[bytes, int] = {}
        self.quotas = QuotaPaths()
        self.has_quotas = False
        self.last_zxid = 0
        self.digest = 0
        self.keeps_digest = True
        self.digest_log: deque[tuple[int, int]] = deque(maxlen=DIGEST_LOG_LENGTH)
        self.data_size = 0
        self.changes: list[Change] = []
        self.notes_changes = True
        self._plant()

    def __repr__(self) -> str:
        return f"DataTree(last_zxid={self.last_zxid:#x}, {len(self.nodes) - 1} znodes)"

    def _plant(self) -> None:
        """The four znodes that every tree has."""
        empty = b"\x00\x00\x00\x00"
        root = Znode(empty + STAT.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), OPEN_ACL_ID)
        self.nodes[ROOT] = root
        self.nodes[b"/"] = root
        self.data_size = 1
        self.digest = self._digest_of(ROOT)
        config_acl = self.acls.intern(encode_acl(READ_ONLY_ACL))
        for path, acl, aversion in ((ZOOKEEPER, OPEN_ACL_ID, 0), (CONFIG, config_acl, -1), (QUOTA, OPEN_ACL_ID, 0)):
            body = empty + STAT.pack(0, 0, 0, 0, 0, 0, aversion, 0, 0, 0, 0)
            self.insert(path, Znode(body, acl))

    # What is there

    def stat(self, path: bytes) -> bytes:
        """The encoded Stat of an existing znode."""
        return self.nodes[path].refreshed()[-STAT_SIZE:]

    def raw_owner(self, path: bytes, node: Znode) -> int:
        """The ephemeralOwner as stored, which tells containers and TTL znodes apart."""
        special = self.special_owners.get(path)
        if special is not None:
            return special
        owner: int = STAT.unpack_from(node.body, len(node.body) - STAT_SIZE)[7]
        return owner

    def persisted(self, path: bytes, node: Znode) -> tuple[int, int, int, int, int, int, int, int, int]:
        """czxid, mzxid, ctime, mtime, version, stored cversion, aversion, raw ephemeralOwner, pzxid."""
        body = node.body
        czxid, mzxid, ctime, mtime, version, _, aversion, owner, _, _, pzxid = STAT.unpack_from(
            body, len(body) - STAT_SIZE
        )
        children = node.children
        if self.special_owners:
            owner = self.special_owners.get(path, owner)
        if children is None:
            return czxid, mzxid, ctime, mtime, version, 0, aversion, owner, pzxid
        return czxid, mzxid, ctime, mtime, version, children.cversion, aversion, owner, children.pzxid

    def descendants(self, path: bytes) -> int:
        """How many znodes there are below ``path``."""
        count = 0
        pending = [self.nodes[path]]
        while pending:
            children = pending.pop().children
            if children is not None:
                count += len(children.paths)
                pending.extend(self.nodes[child] for child in children.paths)
        return count

    def ephemeral_count(self) -> int:
        return sum(len(paths) for paths in self.ephemerals.values())

    def walk(self) -> Iterator[tuple[bytes, Znode]]:
        """Every znode once, parents before their children; the root's path is empty."""
        for path, node in self.nodes.items():
            if path != b"/":
                yield path, node

    # Filling from a snapshot

    def clear(self) -> None:
        """Forget all znodes, as before loading a snapshot."""
        self.nodes.clear()
        self.sessions.clear()
        self.acls = AclTable()
        self.ephemerals.clear()
        self.special_owners.clear()
        self.quotas = QuotaPaths()
        self.has_quotas = False
        self.data_size = 0
        self.digest = 0
        self.changes.clear()

    def insert(self, path: bytes, node: Znode) -> None:
        """Add a znode below its parent without any transaction. NoNodeError if the parent is missing."""
        parent = self.nodes.get(path[: path.rindex(b"/")])
        if parent is None:
            raise NoNodeError(f"{path.decode('utf-8', 'replace')} has no parent")
        if parent.children is None:
            parent.children = Children(0, STAT.unpack_from(parent.body, len(parent.body) - STAT_SIZE)[10])
        parent.children.paths[path] = None
        self.nodes[path] = node
        self.data_size += path_units(path) + node.data_length
        if self.keeps_digest:
            self._change_digest(self._digest_of(path))

    def index_owner(self, path: bytes, owner: int) -> int:
        """Take note of a znode's kind by its stored owner; returns the owner that clients see."""
        kind = self.owner_rules.kind(owner)
        if kind is OwnerKind.EPHEMERAL:
            self.ephemerals.setdefault(owner, {})[path] = None
            return owner
        if kind is not OwnerKind.PERSISTENT:
            self.special_owners[path] = owner
        return 0

    def drop_ephemerals(self, session_id: int) -> None:
        """Remove what a session left behind, without a transaction: parents note the last zxid."""
        for path in list(self.ephemerals.get(session_id, ())):
            self._delete(path, self.last_zxid)
        self.ephemerals.pop(session_id, None)
        self.changes.clear()

    def rebuild_quotas(self) -> None:
        """Find the limits and recount usage, as after loading."""
        self.quotas = QuotaPaths()
        prefix = QUOTA + b"/"
        suffix = b"/" + LIMITS_NAME
        for path in [path for path in self.nodes if path.startswith(prefix) and path.endswith(suffix)]:
            limited = path[len(QUOTA) : path.index(suffix)]
            self._recount_usage(limited)
            self.quotas.add(limited)
        self.has_quotas = bool(self.quotas)

    # Transactions

    def apply(self, txn_type: int, zxid: int, time_ms: int, session_id: int, record: bytes, start: int = 0) -> bytes:
        """Apply one transaction whose record begins at ``start``; returns the reply's body.

        Raises a KeeperError only where the tree already has (or has lost) what the transaction brings, which happens
        in replay and is to be ignored there; the record may then have had part of its effect.
        """
        try:
            if txn_type == SET_DATA:
                return self._set_data(zxid, time_ms, record, start)
            if txn_type == MULTI:
                return self._apply_multi(zxid, time_ms, session_id, record, start)
            return self._apply_one(txn_type, zxid, time_ms, session_id, record, start)
        finally:
            # Not before: a snapshot that began meanwhile would claim to have it all (ZOOKEEPER-3127, 3144).
            if zxid > self.last_zxid:
                self.last_zxid = zxid

    def note_digest(self, zxid: int) -> None:
        """Keep the digest for the ``hash`` word if this zxid is one of those that are kept."""
        if zxid % DIGEST_LOG_INTERVAL == 0 and (not self.digest_log or self.digest_log[-1][0] != zxid):
            self.digest_log.append((zxid, self.digest))

    def _apply_one(self, txn_type: int, zxid: int, time_ms: int, session_id: int, record: bytes, start: int) -> bytes:
        if txn_type == SET_DATA:
            return self._set_data(zxid, time_ms, record, start)
        if txn_type in (CREATE, CREATE2):
            return self._create(txn_type, zxid, time_ms, session_id, record, start)
        if txn_type in (DELETE, DELETE_CONTAINER):
            length: int = LENGTH.unpack_from(record, start)[0]
            self._delete(record[start + 4 : start + 4 + length], zxid)
            return b""
        if txn_type in (CREATE_TTL, CREATE_CONTAINER):
            return self._create(txn_type, zxid, time_ms, session_id, record, start)
        if txn_type == SET_ACL:
            return self._set_acl(record, start)
        if txn_type == RECONFIG:
            self._set_data(zxid, time_ms, record, start)
            return self.nodes[CONFIG].refreshed()
        if txn_type == CREATE_SESSION:
            self.sessions[session_id] = CreateSessionTxn.decode(Reader(record, start)).timeout_ms
        elif txn_type == CLOSE_SESSION:
            self._close_session(session_id, zxid, record, start)
        return b""

    def _set_data(self, zxid: int, time_ms: int, record: bytes, start: int) -> bytes:
        at: int = start + 4 + _read_length(record, start)[0]
        path = record[start + 4 : at]
        node = self.nodes.get(path)
        if node is None:
            raise NoNodeError
        length: int = _read_length(record, at)[0]
        data_end = at + 4 + (length if length > 0 else 0)
        version: int = _read_length(record, data_end)[0]
        old = node.body
        czxid, _, ctime, _, _, cversion, aversion, owner, _, count, pzxid = _read_stat(old, len(old) - STAT_SIZE)
        keeps_digest = self.keeps_digest
        before = 0
        if keeps_digest:
            before = node.digest if node.digest is not None else self._digest_of(path)
        stat = self.put(
            path,
            record[at:data_end]
            + _pack_stat(
                czxid, zxid, ctime, time_ms, version, cversion, aversion, owner, data_end - at - 4, count, pzxid
            ),
        )
        if keeps_digest:
            if node.children is None and not self.special_owners and not path.startswith(b"/zookeeper/"):
                # What _digest_of does, without unpacking again: this is the most frequent write.
                node.crc = crc = crc32(record[at + 4 : data_end], crc32(path))
                node.digest = digest = crc32(
                    _pack_for_digest(czxid, zxid, pzxid, ctime, time_ms, version, 0, aversion, owner), crc
                )
            else:
                digest = self._digest_of(path)
            self.digest = self.digest + digest - before & DIGEST_MASK
        return stat

    def put(self, path: bytes, body: bytes) -> bytes:
        """Give a znode that exists a new body; returns its encoded Stat."""
        node = self.nodes[path]
        difference = len(body) - len(node.body)
        self.data_size += difference
        node.body = body
        node.crc = node.digest = None
        children = node.children
        if children is not None:
            children.stale = True
            body = node.refreshed()
        if self.has_quotas:
            self._count_usage(path, difference, 0)
        if self.notes_changes:
            self.changes.append((EventType.NODE_DATA_CHANGED, path, self.acls.entries(node.acl), b"", OPEN_ACL))
        return body[-STAT_SIZE:]

    def _create(self, txn_type: int, zxid: int, time_ms: int, session_id: int, record: bytes, start: int) -> bytes:
        path_length: int = LENGTH.unpack_from(record, start)[0]
        at = start + 4 + path_length
        path = record[start + 4 : at]
        length: int = LENGTH.unpack_from(record, at)[0]
        data_end = at + 4 + (length if length > 0 else 0)
        acl_end = data_end + len(OPEN_ACL_BYTES)
        acl_bytes = record[data_end:acl_end]
        if acl_bytes != OPEN_ACL_BYTES:
            reader = Reader(record, data_end)
            acl = decode_acl(reader)
            acl_end = reader.position
            acl_bytes = encode_acl(acl) if acl else OPEN_ACL_BYTES
        owner = 0
        if txn_type in (CREATE, CREATE2):
            if record[acl_end]:
                owner = session_id
            # A log from before 3.4 ends here: the parent's counter then simply moves on by one.
            has_cversion = len(record) >= acl_end + 5
            parent_cversion: int = LENGTH.unpack_from(record, acl_end + 1)[0] if has_cversion else -1
        else:
            parent_cversion = LENGTH.unpack_from(record, acl_end)[0]
            if txn_type == CREATE_TTL:
                owner = ttl_owner(Reader(record, acl_end + 4).read_long())
            else:
                owner = CONTAINER_OWNER
        parent_path = path[: path.rindex(b"/")]
        if parent_path not in self.nodes:
            raise NoNodeError
        before = self._digest_of(parent_path) if self.keeps_digest else 0
        shown_owner = owner if self.owner_rules.kind(owner) is OwnerKind.EPHEMERAL else 0
        stat = STAT.pack(zxid, zxid, time_ms, time_ms, 0, 0, 0, shown_owner, data_end - at - 4, 0, zxid)
        is_new = self.add(path, parent_path, record[at:data_end] + stat, acl_bytes, owner, parent_cversion, zxid)
        if self.keeps_digest:
            self._change_digest(self._digest_of(parent_path) - before + (self._digest_of(path) if is_new else 0))
        if not is_new:
            raise NodeExistsError
        reply = record[start:at]
        return reply if txn_type == CREATE else reply + stat

    def add(
        self,
        path: bytes,
        parent_path: bytes,
        body: bytes,
        acl_bytes: bytes,
        owner: int,
        parent_cversion: int,
        zxid: int,
    ) -> bool:
        """Add a znode below a parent that exists; False if it is there already, which then only takes the ACL."""
        parent = self.nodes[parent_path]
        acl_id = OPEN_ACL_ID if acl_bytes == OPEN_ACL_BYTES else self.acls.intern(acl_bytes)
        children = parent.children
        if children is None:
            children = parent.children = Children(0, STAT.unpack_from(parent.body, len(parent.body) - STAT_SIZE)[10])
        existing = self.nodes.get(path)
        if parent_cversion == -1 and existing is None:
            parent_cversion = children.cversion + 1
        if parent_cversion > children.cversion:
            children.cversion = parent_cversion
            children.pzxid = zxid
        children.stale = True
        parent.digest = None
        if existing is not None:
            existing.acl = acl_id
            return False
        children.paths[path] = None
        children.listing = None
        if owner:
            self.index_owner(path, owner)
        self.nodes[path] = Znode(body, acl_id)
        data_length = len(body) - 4 - STAT_SIZE
        self.data_size += path_units(path) + data_length
        if parent_path.startswith(QUOTA):
            self._note_quota_created(parent_path, path)
        if self.has_quotas:
            self._count_usage(path, data_length, 1)
        if self.notes_changes:
            entries = self.acls.entries
            self.changes.append(
                (EventType.NODE_CREATED, path, entries(acl_id), parent_path or b"/", entries(parent.acl))
            )
        return True

    def _delete(self, path: bytes, zxid: int) -> None:
        parent_path = path[: path.rindex(b"/")]
        if parent_path not in self.nodes:
            raise NoNodeError
        before = self._digest_of(parent_path) if self.keeps_digest else 0
        gone = self._digest_of(path) if self.keeps_digest and path in self.nodes else 0
        was_there = self.remove(path, parent_path, zxid)
        if self.keeps_digest:
            self._change_digest(self._digest_of(parent_path) - before - gone)
        if not was_there:
            raise NoNodeError

    def remove(self, path: bytes, parent_path: bytes, zxid: int) -> bool:
        """Take a znode out, its parent noting it; False if it is gone already."""
        parent = self.nodes[parent_path]
        children = parent.children
        if children is None:
            children = parent.children = Children(0, STAT.unpack_from(parent.body, len(parent.body) - STAT_SIZE)[10])
        children.paths.pop(path, None)
        if zxid > children.pzxid:
            children.pzxid = zxid
        children.stale = True
        children.listing = None
        parent.digest = None
        node = self.nodes.pop(path, None)
        if node is None:
            return False
        data_length = node.data_length
        self.data_size -= path_units(path) + data_length
        special = self.special_owners.pop(path, None) if self.special_owners else None
        if special is None and self.ephemerals:
            owner: int = STAT.unpack_from(node.body, len(node.body) - STAT_SIZE)[7]
            owned = self.ephemerals.get(owner) if owner else None
            if owned is not None:
                owned.pop(path, None)
                if not owned:
                    del self.ephemerals[owner]
        if self.has_quotas:
            if parent_path.startswith(ZOOKEEPER) and path.endswith(b"/" + LIMITS_NAME):
                self.quotas.discard(parent_path[len(QUOTA) :])
                self.has_quotas = bool(self.quotas)
            self._count_usage(path, -data_length, -1)
        if self.notes_changes:
            entries = self.acls.entries
            self.changes.append(
                (EventType.NODE_DELETED, path, entries(node.acl), parent_path or b"/", entries(parent.acl))
            )
        if node.acl != OPEN_ACL_ID:
            self.acls.release(node.acl)
        return True

    def _set_acl(self, record: bytes, start: int) -> bytes:
        reader = Reader(record, start)
        path = reader.read_buffer() or b""
        acl = decode_acl(reader)
        version = reader.read_int()
        node = self.nodes.get(path)
        if node is None:
            raise NoNodeError
        before = self._digest_of(path) if self.keeps_digest else 0
        old_acl = node.acl
        node.acl = self.acls.intern(encode_acl(acl))
        self.acls.release(old_acl)
        at = len(node.body) - 28
        node.body = node.body[:at] + LENGTH.pack(version) + node.body[at + 4 :]
        node.digest = None
        if self.keeps_digest:
            self._change_digest(self._digest_of(path) - before)
        return node.refreshed()[-STAT_SIZE:]

    def _close_session(self, session_id: int, zxid: int, record: bytes, start: int) -> None:
        self.sessions.pop(session_id, None)
        try:
            listed = CloseSessionTxn.decode(Reader(record, start)).paths_to_delete or []
        except JuteError:
            # Logs from before 3.6 name no paths.
            listed = []
        # What is gone already as well: its parent has to note it (ZOOKEEPER-3145).
        self._delete_all([path for path in listed if path is not None], zxid)
        self._delete_all(list(self.ephemerals.get(session_id, ())), zxid)

    def _delete_all(self, paths: Sequence[bytes], zxid: int) -> None:
        """As far as they, or at least their parents, are there."""
        for path in paths:
            try:
                self._delete(path, zxid)
            except NoNodeError:
                continue

    def _apply_multi(self, zxid: int, time_ms: int, session_id: int, record: bytes, start: int) -> bytes:
        txns = MultiTxn.decode(Reader(record, start)).txns or []
        out: list[bytes] = []
        if any(txn.type == ERROR for txn in txns):
            code = int(ErrorCode.OK)
            for txn in txns:
                if txn.type == ERROR:
                    code = ErrorTxn.from_bytes(txn.data or b"").err
                out.append(_MULTI_HEADER.pack(-1, False, code) + LENGTH.pack(code))
            return b"".join([*out, _MULTI_END])
        for txn in txns:
            try:
                body = self._apply_one(txn.type, zxid, time_ms, session_id, txn.data or b"", 0)
                out.append(_MULTI_HEADER.pack(_RESULT_TYPE.get(OpCode(txn.type), txn.type), False, 0) + body)
            except KeeperError as error:
                out.append(_MULTI_HEADER.pack(-1, False, error.code) + LENGTH.pack(error.code))
        return b"".join([*out, _MULTI_END])

    # Digest

    def _digest_of(self, path: bytes) -> int:
        """A znode's contribution to the digest."""
        if path == b"/":
            path = ROOT
        if not counts_for_digest(path):
            return 0
        node = self.nodes[path]
        if node.digest is not None:
            return node.digest
        if node.crc is None:
            node.crc = content_crc(path, node.body[4:-STAT_SIZE])
        czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid = self.persisted(path, node)
        node.digest = digest = crc32(
            STAT_FOR_DIGEST.pack(czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion, owner), node.crc
        )
        return digest

    def recompute_digest(self) -> None:
        """Take the digest over all znodes anew, as after loading."""
        self.digest = sum(self._digest_of(path) for path, _ in self.walk()) & DIGEST_MASK

    def _change_digest(self, difference: int) -> None:
        self.digest = self.digest + difference & DIGEST_MASK

    # Quotas

    def _note_quota_created(self, parent_path: bytes, path: bytes) -> None:
        limited = parent_path[len(QUOTA) :]
        name = path[len(parent_path) + 1 :]
        if name == LIMITS_NAME:
            self.quotas.add(limited)
            self.has_quotas = True
        elif name == USAGE_NAME:
            self._recount_usage(limited)

    def _count_usage(self, path: bytes, byte_difference: int, count_difference: int) -> None:
        limited = self.quotas.covering(path)
        if limited is None:
            return
        node = self.nodes.get(usage_path(limited))
        if node is None:
            return
        try:
            usage = QuotaText.parse(node.data)
        except ValueError:
            usage = QuotaText()
        usage.count += count_difference
        usage.size += byte_difference
        self._write_usage(node, usage)

    def _recount_usage(self, limited: bytes) -> None:
        node = self.nodes.get(usage_path(limited))
        if node is None:
            return
        count = size = 0
        pending = [limited] if limited in self.nodes else []
        while pending:
            found = self.nodes[pending.pop()]
            count += 1
            size += found.data_length
            if found.children is not None:
                pending.extend(found.children.paths)
        self._write_usage(node, QuotaText(count, size))

    def _write_usage(self, node: Znode, usage: QuotaText) -> None:
        """Replace the data of a usage znode; only its length shows in its stat, not even in the tree's data size."""
        data = usage.encode_usage()
        stat = bytearray(node.body[-STAT_SIZE:])
        stat[52:56] = LENGTH.pack(len(data))
        node.body = LENGTH.pack(len(data)) + data + bytes(stat)
        node.crc = node.digest = None
