"""Turning requests into transactions: every check, against the tree and the changes still on their way into it.

Source: PrepRequestProcessor. A transaction is idempotent and carries its results (new versions, the final path of a
sequential znode, the completed ACL), so that applying it decides nothing. Because several requests are prepared
before the first is applied, what they will change is kept as :class:`Pending` states in two generations: the batch
that is being gathered and the one whose log write is under way. When a batch has been applied its generation is
dropped whole.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final
from zlib import crc32

from corral.jute.errors import (
    BadArgumentsError,
    BadVersionError,
    ErrorCode,
    KeeperError,
    MarshallingError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    QuotaExceededError,
    ReconfigDisabledError,
    SessionExpiredError,
    UnimplementedError,
)
from corral.jute.ops import CreateMode, OpCode, Permission
from corral.jute.primitives import JuteError, Reader, write_int
from corral.jute.records import (
    Acl,
    CloseSessionTxn,
    ErrorTxn,
    MultiHeader,
    MultiTxn,
    ReconfigRequest,
    SetAclRequest,
    SubTxn,
)
from corral.tree.acl import OPEN_ACL, OPEN_ACL_BYTES, AccessControl, Identity, encode_acl
from corral.tree.digest import DIGEST_MASK, STAT_FOR_DIGEST, content_crc, counts_for_digest
from corral.tree.owner import CONTAINER_OWNER, TTL_MAX_MS, OwnerKind, ttl_owner
from corral.tree.paths import RESERVED, ROOT, parent_of, validate_path
from corral.tree.quota import QuotaText, limits_path, usage_path
from corral.tree.znode import LENGTH, STAT_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.tree.datatree import DataTree

_CREATE_TAIL = struct.Struct(">?i")
_TTL_TAIL = struct.Struct(">iq")
_VERSION_MAX: Final = 2**31 - 1
_CREATE_MODES: Final = {int(mode): mode for mode in CreateMode}
_CREATES: Final = frozenset({OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_TTL, OpCode.CREATE_CONTAINER})


class Pending:
    """What a znode will be once the transactions prepared so far are applied."""

    __slots__ = (
        "acl",
        "aversion",
        "child_count",
        "crc",
        "ctime",
        "cversion",
        "czxid",
        "data_length",
        "digest",
        "exists",
        "mtime",
        "mzxid",
        "owner",
        "pzxid",
        "version",
    )

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    owner: int
    pzxid: int
    child_count: int
    acl: tuple[Acl, ...]
    data_length: int
    crc: int
    digest: int
    exists: bool

    def copy(self) -> Pending:
        other = Pending()
        other.czxid = self.czxid
        other.mzxid = self.mzxid
        other.ctime = self.ctime
        other.mtime = self.mtime
        other.version = self.version
        other.cversion = self.cversion
        other.aversion = self.aversion
        other.owner = self.owner
        other.pzxid = self.pzxid
        other.child_count = self.child_count
        other.acl = self.acl
        other.data_length = self.data_length
        other.crc = self.crc
        other.digest = self.digest
        other.exists = self.exists
        return other


def _next_version(current: int, expected: int) -> int:
    if expected not in (-1, current):
        raise BadVersionError
    # -1 would match anything when a client sends it back: it is left out.
    return -(2**31) if current == _VERSION_MAX else 0 if current == -2 else current + 1


class Preparer:
    """Checks requests and makes transactions of them, in the order in which they are to be applied.

    ``digest`` is the tree's digest after everything prepared so far. ``session_exists`` is asked for each write.
    """

    def __init__(
        self,
        tree: DataTree,
        access: AccessControl,
        *,
        digests: bool = True,
        enforce_quota: bool = False,
        close_session_lists_paths: bool = True,
        reconfig_enabled: bool = False,
    ) -> None:
        self.tree = tree
        self.access = access
        self.digests = digests
        self.enforce_quota = enforce_quota
        self.close_session_lists_paths = close_session_lists_paths
        self.reconfig_enabled = reconfig_enabled
        self.digest = tree.digest
        self.closing: set[int] = set()
        self._gathered: dict[bytes, Pending] = {}
        self._under_way: dict[bytes, Pending] = {}
        # While a multi is prepared, what was gathered before it; the multi's own changes may yet be thrown away.
        self._before_multi: dict[bytes, Pending] = {}
        self._new_ephemerals: dict[int, dict[bytes, None]] = {}
        self._new_ephemerals_under_way: dict[int, dict[bytes, None]] = {}
        self._new_sessions: dict[int, int] = {}

    # Generations

    def hand_over(self) -> None:
        """The gathered batch goes to the log; a new one begins. The previous one must have been applied."""
        assert not self._under_way
        self._under_way = self._gathered
        self._gathered = {}
        self._new_ephemerals_under_way = self._new_ephemerals
        self._new_ephemerals = {}

    def applied(self) -> None:
        """The batch that was under way is in the tree."""
        nodes = self.tree.nodes
        for path, state in self._under_way.items():
            node = nodes.get(path)
            if node is not None:
                node.crc = state.crc
        self._under_way = {}
        self._new_ephemerals_under_way = {}

    # Looking at what will be

    def find(self, path: bytes) -> Pending | None:
        """The state ``path`` will have, or None if it will not exist."""
        if path == b"/":
            path = ROOT
        state = self._gathered.get(path) or self._before_multi.get(path) or self._under_way.get(path)
        if state is None:
            return self._load(path)
        return state if state.exists else None

    def _own(self, path: bytes, state: Pending) -> Pending:
        """``state`` itself if it may be changed in place, else a copy: older generations keep theirs."""
        if path == b"/":
            path = ROOT
        return state.copy() if path in self._under_way or path in self._before_multi else state

    def _load(self, path: bytes) -> Pending | None:
        tree = self.tree
        node = tree.nodes.get(path)
        if node is None:
            return None
        state = Pending()
        (
            state.czxid,
            state.mzxid,
            state.ctime,
            state.mtime,
            state.version,
            state.cversion,
            state.aversion,
            state.owner,
            state.pzxid,
        ) = tree.persisted(path, node)
        state.child_count = node.child_count
        state.acl = tree.acls.entries(node.acl)
        state.data_length = node.data_length
        state.exists = True
        if self.digests:
            if node.crc is None:
                node.crc = content_crc(path, node.body[4:-STAT_SIZE])
            state.crc = node.crc
            state.digest = self._digest_of(path, state)
        else:
            state.crc = state.digest = 0
        return state

    def _digest_of(self, path: bytes, state: Pending) -> int:
        if not counts_for_digest(path):
            return 0
        return crc32(
            STAT_FOR_DIGEST.pack(
                state.czxid,
                state.mzxid,
                state.pzxid,
                state.ctime,
                state.mtime,
                state.version,
                state.cversion,
                state.aversion,
                state.owner,
            ),
            state.crc,
        )

    def _store(self, path: bytes, state: Pending) -> None:
        """Let ``state``, which differs from the last one in what the digest covers, be what comes of ``path``."""
        if self.digests:
            digest = self._digest_of(path, state)
            self.digest = self.digest + digest - state.digest & DIGEST_MASK
            state.digest = digest
        self._gathered[ROOT if path == b"/" else path] = state

    def _store_gone(self, path: bytes, state: Pending) -> None:
        gone = state.copy()
        gone.exists = False
        self.digest = self.digest - state.digest & DIGEST_MASK
        self._gathered[path] = gone

    # Requests

    def prepare(
        self,
        op: int,
        session_id: int,
        body: bytes,
        identities: Sequence[Identity],
        zxid: int,
        time_ms: int,
    ) -> bytes:
        """The record of the transaction that does what the request asks, whose type is the request's ``op``.

        Raises a KeeperError if the request is refused, and MarshallingError if it cannot be decoded; ``zxid`` is then
        used up by an error transaction in the first case only.
        """
        if op == OpCode.SET_DATA:
            return self._set_data(session_id, body, identities, zxid, time_ms)
        if op in _CREATES:
            return self._create(op, session_id, body, identities, zxid, time_ms)
        if op == OpCode.DELETE:
            return self._delete(session_id, body, identities, zxid)
        if op == OpCode.MULTI:
            return self._multi(session_id, body, identities, zxid, time_ms)
        if op == OpCode.SET_ACL:
            return self._set_acl(session_id, body, identities)
        if op == OpCode.CREATE_SESSION:
            return body
        if op == OpCode.CLOSE_SESSION:
            return self._close_session(session_id, zxid)
        if op == OpCode.DELETE_CONTAINER:
            return self._delete_container(body, zxid)
        if op == OpCode.CHECK:
            return self._check(session_id, body, identities)
        if op == OpCode.RECONFIG:
            self._refuse_reconfig(session_id, body)
        raise UnimplementedError

    def open_session(self, session_id: int, timeout_ms: int) -> None:
        """Writes of this session are valid from now on, before its own transaction is applied."""
        self._new_sessions[session_id] = timeout_ms

    def session_applied(self, session_id: int) -> None:
        """The session's opening or end is in the tree."""
        self._new_sessions.pop(session_id, None)
        if session_id not in self.tree.sessions:
            self.closing.discard(session_id)

    def check_session(self, session_id: int) -> None:
        """SessionExpiredError unless the session lives."""
        if session_id in self.closing or (
            session_id not in self.tree.sessions and session_id not in self._new_sessions
        ):
            raise SessionExpiredError

    def _set_data(self, session_id: int, body: bytes, identities: Sequence[Identity], zxid: int, time_ms: int) -> bytes:
        try:
            path_length: int = LENGTH.unpack_from(body, 0)[0]
            at = 4 + path_length
            length: int = LENGTH.unpack_from(body, at)[0]
            end = at + 4 + (length if length > 0 else 0)
            expected: int = LENGTH.unpack_from(body, end)[0]
        except struct.error:
            raise MarshallingError from None
        if path_length < 0 or length < -1:
            if path_length < 0 and path_length == -1:
                raise BadArgumentsError("a path is missing")
            raise MarshallingError
        self.check_session(session_id)
        path = body[4:at]
        state = self._gathered.get(path)
        if state is None or not state.exists or not path:
            if not path:
                validate_path(path)
            found = self.find(path)
            if found is None:
                validate_path(path)
                raise NoNodeError
            state = self._own(path, found)
        if state.acl is not OPEN_ACL:
            self.access.check(state.acl, Permission.WRITE, identities)
        if self.enforce_quota:
            self._check_quota(path, max(length, 0) - state.data_length, 0)
        if expected == -1 and 0 <= state.version < _VERSION_MAX:
            version = state.version + 1
        else:
            version = _next_version(state.version, expected)
        state.version = version
        state.mzxid = zxid
        state.mtime = time_ms
        state.data_length = length if length > 0 else 0
        if self.digests:
            # Inlined _store: this is the most frequent write.
            state.crc = crc32(body[at + 4 : end], 0 if path == b"/" else crc32(path))
            digest = self._digest_of(path, state)
            self.digest = self.digest + digest - state.digest & DIGEST_MASK
            state.digest = digest
        self._gathered[ROOT if path == b"/" else path] = state
        return body[:end] + LENGTH.pack(version)

    def _create(
        self, op: int, session_id: int, body: bytes, identities: Sequence[Identity], zxid: int, time_ms: int
    ) -> bytes:
        try:
            path_length: int = LENGTH.unpack_from(body, 0)[0]
            at = 4 + path_length
            length: int = LENGTH.unpack_from(body, at)[0]
            data_end = at + 4 + (length if length > 0 else 0)
            acl_end = data_end + len(OPEN_ACL_BYTES)
            requested: Sequence[Acl] | None
            if body[data_end:acl_end] == OPEN_ACL_BYTES:
                requested = OPEN_ACL
            else:
                reader = Reader(body, data_end)
                requested = _read_acl(reader)
                acl_end = reader.position
            ttl_ms = -1
            flags: int
            if op == OpCode.CREATE_TTL:
                flags, ttl_ms = _TTL_TAIL.unpack_from(body, acl_end)
            else:
                flags = LENGTH.unpack_from(body, acl_end)[0]
        except (struct.error, JuteError):
            raise MarshallingError from None
        if path_length < -1 or length < -1:
            raise MarshallingError
        mode = _CREATE_MODES.get(flags)
        if mode is None:
            raise BadArgumentsError(f"create flags {flags} are not known")
        if mode is not CreateMode.PERSISTENT and mode is not CreateMode.EPHEMERAL:
            self._check_ttl(op, mode, ttl_ms)
        elif ttl_ms != -1 or op == OpCode.CREATE_TTL:
            raise BadArgumentsError("a time to live needs one of the TTL modes")
        self.check_session(session_id)
        if path_length == -1:
            raise MarshallingError
        given = body[4:at]
        if b"/" not in given or b"\0" in given or given in RESERVED:
            raise BadArgumentsError(f"{given[:200]!r} cannot be created")
        acl = OPEN_ACL if requested is OPEN_ACL else tuple(self.access.complete(requested, identities))
        parent_path = parent_of(given)
        parent = self.find(parent_path)
        if parent is None:
            raise NoNodeError
        if parent.acl is not OPEN_ACL:
            self.access.check(parent.acl, Permission.CREATE, identities)
        path = given
        if mode.is_sequential:
            path = given + b"%010d" % parent.cversion
        validate_path(path)
        if self.find(path) is not None:
            raise NodeExistsError
        if parent.owner and self.tree.owner_rules.kind(parent.owner) is OwnerKind.EPHEMERAL:
            raise NoChildrenForEphemeralsError
        data_length = length if length > 0 else 0
        if self.enforce_quota:
            self._check_quota(path, data_length, 1)

        cversion = parent.cversion + 1
        if cversion > _VERSION_MAX:
            cversion = -(2**31)
        # What cannot be told from the operation follows from the flags, and the other way round: see facts 1.7.
        if op == OpCode.CREATE_CONTAINER:
            owner = CONTAINER_OWNER
        elif op == OpCode.CREATE_TTL:
            owner = ttl_owner(ttl_ms)
        else:
            owner = session_id if mode.is_ephemeral else 0
        self._store_parent_of_new(parent_path, parent, cversion, zxid)
        state = Pending()
        state.czxid = state.mzxid = state.pzxid = zxid
        state.ctime = state.mtime = time_ms
        state.version = state.cversion = state.aversion = state.child_count = state.digest = 0
        state.owner = owner
        state.acl = acl
        state.data_length = data_length
        state.exists = True
        state.crc = content_crc(path, body[at + 4 : data_end]) if self.digests else 0
        self._store(path, state)
        if owner == session_id:
            self._new_ephemerals.setdefault(session_id, {})[path] = None

        head = body[:acl_end] if path is given and acl is OPEN_ACL else None
        if head is None:
            encoded = OPEN_ACL_BYTES if acl is OPEN_ACL else encode_acl(acl)
            head = LENGTH.pack(len(path)) + path + body[at:data_end] + encoded
        if op == OpCode.CREATE_TTL:
            return head + _TTL_TAIL.pack(cversion, ttl_ms)
        if op == OpCode.CREATE_CONTAINER:
            return head + LENGTH.pack(cversion)
        return head + _CREATE_TAIL.pack(mode.is_ephemeral, cversion)

    def _check_ttl(self, op: int, mode: CreateMode, ttl_ms: int) -> None:
        if mode.has_ttl:
            if not self.tree.owner_rules.extended_types:
                raise UnimplementedError
            if not 0 < ttl_ms <= TTL_MAX_MS:
                raise BadArgumentsError(f"a time to live is 1 to {TTL_MAX_MS} ms, not {ttl_ms}")
        elif ttl_ms != -1 or op == OpCode.CREATE_TTL:
            raise BadArgumentsError("a time to live needs one of the TTL modes")

    def _store_parent_of_new(self, parent_path: bytes, parent: Pending, cversion: int, zxid: int) -> None:
        parent = self._own(parent_path, parent)
        parent.child_count += 1
        parent.cversion = cversion
        parent.pzxid = zxid
        self._store(parent_path, parent)

    def _remove(self, path: bytes, state: Pending, zxid: int) -> None:
        """Take ``path`` out of what will be, its parent noting it."""
        parent_path = parent_of(path)
        found = self.find(parent_path)
        assert found is not None
        parent = self._own(parent_path, found)
        parent.child_count -= 1
        parent.pzxid = zxid
        self._store(parent_path, parent)
        self._store_gone(path, state)

    def _delete(self, session_id: int, body: bytes, identities: Sequence[Identity], zxid: int) -> bytes:
        path, expected = _path_and_int(body)
        self.check_session(session_id)
        if path is None:
            raise MarshallingError
        if b"/" not in path or b"\0" in path or path in RESERVED:
            raise BadArgumentsError(f"{path[:200]!r} cannot be deleted")
        parent = self.find(parent_of(path))
        if parent is None:
            raise NoNodeError
        if parent.acl is not OPEN_ACL:
            self.access.check(parent.acl, Permission.DELETE, identities)
        state = self.find(path)
        if state is None:
            raise NoNodeError
        if expected not in (-1, state.version):
            raise BadVersionError
        if state.child_count > 0:
            raise NotEmptyError
        self._remove(path, state, zxid)
        return body[: 4 + len(path)]

    def _delete_container(self, path: bytes, zxid: int) -> bytes:
        state = self.find(path)
        if state is None:
            raise NoNodeError
        if state.child_count > 0:
            raise NotEmptyError
        if self.tree.owner_rules.kind(state.owner) is OwnerKind.EPHEMERAL:
            raise BadVersionError
        self._remove(path, state, zxid)
        return LENGTH.pack(len(path)) + path

    def _set_acl(self, session_id: int, body: bytes, identities: Sequence[Identity]) -> bytes:
        try:
            request = SetAclRequest.from_bytes(body)
        except JuteError:
            raise MarshallingError from None
        self.check_session(session_id)
        path = validate_path(request.path)
        acl = self.access.complete(_checked_acl(request.acl), identities)
        state = self.find(path)
        if state is None:
            raise NoNodeError
        self.access.check(state.acl, Permission.ADMIN, identities)
        state = self._own(path, state)
        state.aversion = _next_version(state.aversion, request.version)
        encoded = encode_acl(acl)
        state.acl = OPEN_ACL if encoded == OPEN_ACL_BYTES else tuple(acl)
        self._store(path, state)
        return LENGTH.pack(len(path)) + path + encoded + LENGTH.pack(state.aversion)

    def _refuse_reconfig(self, session_id: int, body: bytes) -> None:
        """A standalone server has no members to change."""
        try:
            ReconfigRequest.from_bytes(body)
        except JuteError:
            raise MarshallingError from None
        if not self.reconfig_enabled:
            raise ReconfigDisabledError
        self.check_session(session_id)

    def _check(self, session_id: int, body: bytes, identities: Sequence[Identity]) -> bytes:
        given, expected = _path_and_int(body)
        self.check_session(session_id)
        path = validate_path(given)
        state = self.find(path)
        if state is None:
            raise NoNodeError
        self.access.check(state.acl, Permission.READ, identities)
        return body[: 4 + len(path)] + LENGTH.pack(_next_version(state.version, expected))

    def _close_session(self, session_id: int, zxid: int) -> bytes:
        candidates = dict(self.tree.ephemerals.get(session_id, ()))
        candidates.update(self._new_ephemerals_under_way.get(session_id, ()))
        candidates.update(self._new_ephemerals.get(session_id, ()))
        doomed: list[bytes | None] = []
        for path in candidates:
            state = self.find(path)
            if state is not None and state.owner == session_id:
                self._remove(path, state, zxid)
                doomed.append(path)
        self.closing.add(session_id)
        return CloseSessionTxn(doomed).to_bytes() if self.close_session_lists_paths else b""

    def _multi(self, session_id: int, body: bytes, identities: Sequence[Identity], zxid: int, time_ms: int) -> bytes:
        operations = _split_multi(body)
        digest = self.digest
        self._before_multi, self._gathered = self._gathered, {}
        txns: list[SubTxn] = []
        failed = False
        for op, request in operations:
            if failed:
                txns.append(SubTxn(OpCode.ERROR, ErrorTxn(ErrorCode.RUNTIME_INCONSISTENCY).to_bytes()))
                continue
            try:
                txns.append(SubTxn(op, self.prepare(op, session_id, request, identities, zxid, time_ms)))
            except KeeperError as error:
                txns.append(SubTxn(OpCode.ERROR, ErrorTxn(error.code).to_bytes()))
                self._gathered.clear()
                self.digest = digest
                failed = True
        self._before_multi.update(self._gathered)
        self._gathered, self._before_multi = self._before_multi, {}
        return MultiTxn(txns).to_bytes()

    # Quotas

    def _check_quota(self, path: bytes, byte_difference: int, count_difference: int) -> None:
        """Hard limits refuse what would exceed them; usage is that of the tree as applied."""
        limited = self.tree.quotas.covering(path)
        if limited is None:
            return
        limits_node = self.tree.nodes.get(limits_path(limited))
        usage_node = self.tree.nodes.get(usage_path(limited))
        if limits_node is None or usage_node is None:
            return
        try:
            limits = QuotaText.parse(limits_node.data)
            usage = QuotaText.parse(usage_node.data)
        except ValueError:
            raise MarshallingError from None
        if count_difference and -1 < limits.count_hard_limit < usage.count + count_difference:
            raise QuotaExceededError(f"{limited!r} may have {limits.count_hard_limit} znodes")
        if byte_difference and -1 < limits.byte_hard_limit < usage.size + byte_difference:
            raise QuotaExceededError(f"{limited!r} may hold {limits.byte_hard_limit} bytes")


def _read_acl(reader: Reader) -> list[Acl] | None:
    count = reader.read_int()
    if count < 0:
        return None
    return _checked_acl([Acl.decode(reader) for _ in range(count)])


def _checked_acl(acl: list[Acl] | None) -> list[Acl] | None:
    for entry in acl or ():
        if entry.id.scheme is not None and entry.id.id is None:
            raise MarshallingError
    return acl


def _path_and_int(body: bytes) -> tuple[bytes | None, int]:
    reader = Reader(body)
    try:
        return reader.read_buffer(), reader.read_int()
    except JuteError:
        raise MarshallingError from None


_MULTI_WRITES: Final = frozenset({*_CREATES, OpCode.DELETE, OpCode.SET_DATA, OpCode.CHECK})


def _split_multi(body: bytes) -> list[tuple[int, bytes]]:
    """The operations of a multi with their encoded requests; the kind of create follows from its flags."""
    reader = Reader(body)
    operations: list[tuple[int, bytes]] = []
    try:
        while True:
            header = MultiHeader.decode(reader)
            if header.done:
                return operations
            if header.type not in _MULTI_WRITES:
                raise MarshallingError(f"operation {header.type} cannot stand in a multi")
            start = reader.position
            op = header.type
            if reader.read_buffer() is None:
                raise MarshallingError
            if op in _CREATES:
                reader.read_buffer()
                acl = _read_acl(reader)
                if acl is None:
                    raise MarshallingError
                mode = _CREATE_MODES.get(reader.read_int())
                if mode is None:
                    raise MarshallingError
                if op == OpCode.CREATE_TTL:
                    reader.read_long()
                elif mode is CreateMode.CONTAINER:
                    op = OpCode.CREATE_CONTAINER
            else:
                if op == OpCode.SET_DATA:
                    reader.read_buffer()
                reader.read_int()
            operations.append((op, body[start : reader.position]))
    except JuteError:
        raise MarshallingError from None


def error_record(code: int) -> bytes:
    """The record of the transaction that stands for a refused request."""
    out = bytearray()
    write_int(out, code)
    return bytes(out)
