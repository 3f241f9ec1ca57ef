"""Turning requests into transactions: every check, against the tree and the changes still on their way into it.

Source: PrepRequestProcessor. A transaction is idempotent and carries its results (new versions, the final path of a
sequential znode, the completed ACL), so that applying it decides nothing.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from corral.jute.checksums import crc32
from corral.jute.errors import (
    BadArgumentsError,
    BadVersionError,
    EphemeralOnLocalSessionError,
    ErrorCode,
    KeeperError,
    MarshallingError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    QuotaExceededError,
    ReconfigDisabledError,
    SessionExpired,
    UndecodableError,
    UnimplementedError,
)
from corral.jute.ops import (
    CHECK,
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
    CreateMode,
    Permission,
)
from corral.jute.owner import CONTAINER_OWNER, TTL_MAX_MS, OwnerKind, ttl_owner
from corral.jute.paths import CONFIG, RESERVED, ROOT, is_plain_name, parent_of, validate_path
from corral.jute.primitives import JuteError, Reader, write_int
from corral.jute.records import (
    Acl,
    CloseSessionTxn,
    CreateRequest,
    ErrorTxn,
    MultiHeader,
    MultiTxn,
    ReconfigRequest,
    SetAclRequest,
    SetDataTxn,
    SubTxn,
)
from corral.tree.acl import OPEN_ACL, OPEN_ACL_BYTES, AccessControl, Identity, encode_acl
from corral.tree.digest import DIGEST_MASK, STAT_FOR_DIGEST
from corral.tree.pending import Pending, PendingStates
from corral.tree.quota import QuotaText, limits_path, usage_path
from corral.tree.znode import LENGTH, STAT, STAT_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.tree.datatree import DataTree

_read_length: Final = LENGTH.unpack_from
_pack_length: Final = LENGTH.pack
_read_stat: Final = STAT.unpack_from
_pack_stat: Final = STAT.pack
_pack_for_digest: Final = STAT_FOR_DIGEST.pack
_CREATE_TAIL = struct.Struct(">?i")
_TTL_TAIL = struct.Struct(">iq")
_VERSION_MAX: Final = 2**31 - 1
_CREATE_MODES: Final = {int(mode): (mode, mode.is_ephemeral, mode.is_sequential) for mode in CreateMode}
_READ, _WRITE, _CREATE_CHILD, _DELETE_CHILD, _ADMIN = (
    int(each) for each in (Permission.READ, Permission.WRITE, Permission.CREATE, Permission.DELETE, Permission.ADMIN)
)
Effect = tuple[Any, ...] | None
"""What the transaction does, worked out: the arguments of ``DataTree.put``, ``add`` or ``remove``."""
_CREATES: Final = frozenset({CREATE, CREATE2, CREATE_TTL, CREATE_CONTAINER})


def _next_version(current: int, expected: int) -> int:
    if expected not in (-1, current):
        raise BadVersionError
    # -1 would match anything when a client sends it back: it is left out.
    return -(2**31) if current == _VERSION_MAX else 0 if current == -2 else current + 1


class Preparer:
    """Checks requests and makes transactions of them, in the order in which they are to be applied."""

    def __init__(
        self,
        tree: DataTree,
        access: AccessControl,
        *,
        digests: bool = True,
        enforce_quota: bool = False,
        close_session_lists_paths: bool = True,
        reconfig_enabled: bool = False,
        reconfigure: Callable[[ReconfigRequest, int], str] | None = None,
        quota_exceeded: Callable[[bytes], None] | None = None,
        is_local: Callable[[int], bool] = lambda _: False,
    ) -> None:
        """``quota_exceeded`` learns the path of each request that a hard quota refuses.

        ``reconfigure`` gives the text of the configuration that a request asks for, in the transaction with that zxid,
        or raises a KeeperError; None where there are no members to change.

        ``is_local`` tells whether a session that is not in the tree lives all the same, by one server's word.
        """
        self.tree = tree
        self.access = access
        self.digests = digests
        self.enforce_quota = enforce_quota
        self.close_session_lists_paths = close_session_lists_paths
        self.reconfig_enabled = reconfig_enabled
        self._reconfigure = reconfigure
        self._quota_exceeded = quota_exceeded
        self._is_local = is_local
        self.closing: set[int] = set()
        self.states = PendingStates(tree, digests=digests)
        self._new_ephemerals: dict[int, dict[bytes, None]] = {}
        self._new_ephemerals_under_way: deque[dict[int, dict[bytes, None]]] = deque()
        self._new_sessions: dict[int, int] = {}

    @property
    def digest(self) -> int:
        """The tree's digest after everything prepared so far."""
        return self.states.digest

    def hand_over(self) -> None:
        """The gathered batch goes to the log; a new one begins."""
        self.states.hand_over()
        self._new_ephemerals_under_way.append(self._new_ephemerals)
        self._new_ephemerals = {}

    def applied(self) -> None:
        """The oldest batch that was under way is in the tree."""
        self.states.applied()
        self._new_ephemerals_under_way.popleft()

    # Requests

    def prepare(
        self,
        op: int,
        session_id: int,
        body: bytes,
        identities: Sequence[Identity],
        zxid: int,
        time_ms: int,
    ) -> tuple[bytes, Effect]:
        """The record of the transaction that does what the request asks, whose type is the request's ``op``.

        With it comes the effect worked out already, for ``DataTree.put``, ``add`` or ``remove``; None if the record
        is to be applied. Raises a KeeperError if the request is refused, and MarshallingError if it cannot be
        decoded; ``zxid`` is then used up by an error transaction in the first case only.
        """
        if op == SET_DATA:
            return self._set_data(session_id, body, identities, zxid, time_ms)
        if op in _CREATES:
            return self._create(op, session_id, body, identities, zxid, time_ms)
        if op == DELETE:
            return self._delete(session_id, body, identities, zxid)
        if op == MULTI:
            return self._multi(session_id, body, identities, zxid, time_ms), None
        if op == SET_ACL:
            return self._set_acl(session_id, body, identities), None
        if op == CREATE_SESSION:
            return body, None
        if op == CLOSE_SESSION:
            return self._close_session(session_id, zxid), None
        if op == DELETE_CONTAINER:
            return self._delete_container(body, zxid), None
        if op == CHECK:
            return self._check(session_id, body, identities), None
        if op == RECONFIG:
            return self._reconfig(session_id, body, identities, zxid), None
        raise UnimplementedError

    def open_session(self, session_id: int, timeout_ms: int) -> None:
        """Writes of this session are valid from now on, before its own transaction is applied."""
        self._new_sessions[session_id] = timeout_ms

    def session_applied(self, session_id: int) -> None:
        """The session's opening or end is in the tree."""
        self._new_sessions.pop(session_id, None)
        if session_id not in self.tree.sessions:
            self.closing.discard(session_id)

    def check_session(self, session_id: int, *, for_ephemeral: bool = False) -> None:
        """SessionExpired unless the session lives; a local one can own nothing: EphemeralOnLocalSessionError."""
        if session_id not in self.closing:
            if session_id in self.tree.sessions or session_id in self._new_sessions:
                return
            if self._is_local(session_id):
                if for_ephemeral:
                    raise EphemeralOnLocalSessionError
                return
        raise SessionExpired

    def _set_data(
        self, session_id: int, body: bytes, identities: Sequence[Identity], zxid: int, time_ms: int
    ) -> tuple[bytes, Effect]:
        try:
            path_length: int = _read_length(body, 0)[0]
            at = 4 + path_length if path_length > 0 else 4
            length: int = _read_length(body, at)[0]
            end = at + 4 + (length if length > 0 else 0)
            expected: int = _read_length(body, end)[0]
        except struct.error:
            raise UndecodableError from None
        if path_length < 0 or length < -1:
            if path_length == -1:
                raise BadArgumentsError("a path is missing")
            raise UndecodableError
        if session_id not in self.tree.sessions or session_id in self.closing:
            self.check_session(session_id)
        path = body[4:at]
        key = ROOT if path == b"/" else path
        states = self.states
        state = states.gathered.get(key)
        if state is None or state.body is None or not path:
            if not path:
                validate_path(path)
            state = states.take(key)
            if state is None:
                validate_path(path)
                raise NoNodeError
        if state.acl is not OPEN_ACL:
            self.access.check(state.acl, _WRITE, identities)
        old = state.body
        assert old is not None
        if self.enforce_quota:
            self._check_quota(path, max(length, 0) - state.data_length, 0)
        czxid, _, ctime, _, version, shown_cversion, aversion, owner, _, count, pzxid = _read_stat(
            old, len(old) - STAT_SIZE
        )
        if expected == -1 and 0 <= version < _VERSION_MAX:
            version += 1
        else:
            version = _next_version(version, expected)
        new = body[at:end] + _pack_stat(
            czxid, zxid, ctime, time_ms, version, shown_cversion, aversion, owner, end - at - 4, count, pzxid
        )
        if states.digests and not path.startswith(b"/zookeeper/"):
            # What PendingStates.store does, without unpacking again: this is the most frequent write.
            state.crc = crc = crc32(body[at + 4 : end], crc32(key))
            digest = crc32(
                _pack_for_digest(
                    czxid, zxid, state.pzxid, ctime, time_ms, version, state.cversion, aversion, state.owner
                ),
                crc,
            )
            states.digest = states.digest + digest - state.digest & DIGEST_MASK
            state.digest = digest
        state.body = new
        states.gathered[key] = state
        return body[:end] + _pack_length(version), (path, new)

    def _create(
        self, op: int, session_id: int, body: bytes, identities: Sequence[Identity], zxid: int, time_ms: int
    ) -> tuple[bytes, Effect]:
        try:
            path_length: int = LENGTH.unpack_from(body, 0)[0]
            at = 4 + path_length if path_length > 0 else 4
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
            if op == CREATE_TTL:
                flags, ttl_ms = _TTL_TAIL.unpack_from(body, acl_end)
            else:
                flags = LENGTH.unpack_from(body, acl_end)[0]
        except (struct.error, JuteError):
            raise UndecodableError from None
        if path_length < -1 or length < -1:
            raise UndecodableError
        known = _CREATE_MODES.get(flags)
        if known is None:
            raise BadArgumentsError(f"create flags {flags} are not known")
        mode, is_ephemeral, is_sequential = known
        if flags > 3 or op == CREATE_TTL:
            self._check_ttl(op, mode, ttl_ms)
        if session_id not in self.tree.sessions or session_id in self.closing:
            self.check_session(session_id, for_ephemeral=is_ephemeral)
        if path_length == -1:
            raise MarshallingError
        given = body[4:at]
        slash = given.rfind(b"/")
        if slash < 0 or b"\0" in given:
            raise BadArgumentsError(f"{given[:200]!r} cannot be created")
        acl = OPEN_ACL if requested is OPEN_ACL else tuple(self.access.complete(requested, identities))
        parent_path = given[:slash]
        parent = self.states.find(parent_path)
        if parent is None:
            raise NoNodeError
        if parent.acl is not OPEN_ACL:
            self.access.check(parent.acl, _CREATE_CHILD, identities)
        path = given
        if is_sequential:
            path = given + b"%010d" % parent.cversion
        # The parent exists, so that only the name can be wrong; the usual ones are told at a glance.
        if not is_plain_name(path[slash + 1 :]) or parent_path == b"/":
            validate_path(path)
        if self.states.find(path) is not None:
            raise NodeExistsError
        if parent.owner and self.tree.owner_rules.kind(parent.owner) is OwnerKind.EPHEMERAL:
            raise NoChildrenForEphemeralsError
        data_length = length if length > 0 else 0
        if self.enforce_quota:
            self._check_quota(path, data_length, 1)

        cversion = parent.cversion + 1
        if cversion > _VERSION_MAX:
            cversion = -(2**31)
            self.states.unlike.add(parent_path)
        # The operation, not the flags, tells the kind of znode: see docs/divergence.md.
        if op == CREATE_CONTAINER:
            owner = CONTAINER_OWNER
        elif op == CREATE_TTL:
            owner = ttl_owner(ttl_ms)
        else:
            owner = session_id if is_ephemeral else 0
        states = self.states
        parent = states.own(parent_path, parent)
        parent.child_count += 1
        parent.cversion = cversion
        parent.pzxid = zxid
        states.store(parent_path, parent)
        state = Pending()
        shown_owner = owner if owner == session_id else 0
        stat = STAT.pack(zxid, zxid, time_ms, time_ms, 0, 0, 0, shown_owner, data_length, 0, zxid)
        state.body = new = body[at:data_end] + stat
        state.owner = owner
        state.acl = acl
        state.cversion = state.child_count = state.digest = 0
        state.pzxid = zxid
        if states.digests and not path.startswith(b"/zookeeper/"):
            # What PendingStates.store does, without unpacking again.
            state.crc = crc = crc32(body[at + 4 : data_end], crc32(path))
            state.digest = digest = crc32(STAT_FOR_DIGEST.pack(zxid, zxid, zxid, time_ms, time_ms, 0, 0, 0, owner), crc)
            states.digest = states.digest + digest & DIGEST_MASK
        else:
            state.crc = 0
        states.gathered[path] = state
        if owner == session_id:
            self._new_ephemerals.setdefault(session_id, {})[path] = None

        if acl is OPEN_ACL:
            encoded = OPEN_ACL_BYTES
            head = body[:acl_end] if path is given else LENGTH.pack(len(path)) + path + body[at:acl_end]
        else:
            encoded = encode_acl(acl)
            head = LENGTH.pack(len(path)) + path + body[at:data_end] + encoded
        if op == CREATE_TTL:
            record = head + _TTL_TAIL.pack(cversion, ttl_ms)
        elif op == CREATE_CONTAINER:
            record = head + LENGTH.pack(cversion)
        else:
            record = head + _CREATE_TAIL.pack(is_ephemeral, cversion)
        return record, (path, parent_path, new, encoded, owner, cversion, zxid)

    def _check_ttl(self, op: int, mode: CreateMode, ttl_ms: int) -> None:
        if mode.has_ttl:
            if not self.tree.owner_rules.extended_types:
                raise UnimplementedError
            if not 0 < ttl_ms <= TTL_MAX_MS:
                raise BadArgumentsError(f"a time to live is 1 to {TTL_MAX_MS} ms, not {ttl_ms}")
        elif ttl_ms != -1 or op == CREATE_TTL:
            raise BadArgumentsError("a time to live needs one of the TTL modes")

    def _remove(self, path: bytes, parent_path: bytes, state: Pending, zxid: int) -> None:
        """Take ``path`` out of what will be, its parent noting it."""
        states = self.states
        found = states.find(parent_path)
        assert found is not None
        parent = states.own(parent_path, found)
        parent.child_count -= 1
        parent.pzxid = zxid
        states.store(parent_path, parent)
        states.store_gone(path, state)

    def _delete(self, session_id: int, body: bytes, identities: Sequence[Identity], zxid: int) -> tuple[bytes, Effect]:
        path, expected = _path_and_int(body)
        if session_id not in self.tree.sessions or session_id in self.closing:
            self.check_session(session_id)
        if path is None:
            raise MarshallingError
        slash = path.rfind(b"/")
        if slash < 0 or b"\0" in path or path in RESERVED:
            raise BadArgumentsError(f"{path[:200]!r} cannot be deleted")
        parent_path = path[:slash]
        parent = self.states.find(parent_path)
        if parent is None:
            raise NoNodeError
        if parent.acl is not OPEN_ACL:
            self.access.check(parent.acl, _DELETE_CHILD, identities)
        state = self.states.find(path)
        if state is None:
            raise NoNodeError
        if expected != -1 and expected != state.version:
            raise BadVersionError
        if state.child_count > 0:
            raise NotEmptyError
        self._remove(path, parent_path, state, zxid)
        return body[: 4 + len(path)], (path, parent_path, zxid)

    def _delete_container(self, path: bytes, zxid: int) -> bytes:
        state = self.states.find(path)
        if state is None:
            raise NoNodeError
        if state.child_count > 0:
            raise NotEmptyError
        if self.tree.owner_rules.kind(state.owner) is OwnerKind.EPHEMERAL:
            raise BadVersionError
        self._remove(path, parent_of(path), state, zxid)
        return LENGTH.pack(len(path)) + path

    def _set_acl(self, session_id: int, body: bytes, identities: Sequence[Identity]) -> bytes:
        try:
            request = SetAclRequest.from_bytes(body)
        except JuteError:
            raise UndecodableError from None
        self.check_session(session_id)
        path = validate_path(request.path)
        acl = self.access.complete(request.acl, identities)
        state = self.states.find(path)
        if state is None:
            raise NoNodeError
        self.access.check(state.acl, _ADMIN, identities)
        aversion = LENGTH.pack(_next_version(state.aversion, request.version))
        state = self.states.own(path, state)
        old = state.body
        assert old is not None
        state.body = old[:-28] + aversion + old[-24:]
        encoded = encode_acl(acl)
        state.acl = OPEN_ACL if encoded == OPEN_ACL_BYTES else tuple(acl)
        self.states.store(path, state)
        return LENGTH.pack(len(path)) + path + encoded + aversion

    def _reconfig(self, session_id: int, body: bytes, identities: Sequence[Identity], zxid: int) -> bytes:
        """The new members become the content of the configuration's znode; a standalone server has none to change."""
        try:
            request = ReconfigRequest.from_bytes(body)
        except JuteError:
            raise UndecodableError from None
        if not self.reconfig_enabled:
            raise ReconfigDisabledError
        self.check_session(session_id)
        if self._reconfigure is None:
            raise UnimplementedError
        text = self._reconfigure(request, zxid)
        state = self.states.find(CONFIG)
        if state is None:
            raise NoNodeError
        self.access.check(state.acl, _WRITE, identities)
        return SetDataTxn(CONFIG, text.encode(), -1).to_bytes()

    def _check(self, session_id: int, body: bytes, identities: Sequence[Identity]) -> bytes:
        given, expected = _path_and_int(body)
        self.check_session(session_id)
        path = validate_path(given)
        state = self.states.find(path)
        if state is None:
            raise NoNodeError
        self.access.check(state.acl, _READ, identities)
        return body[: 4 + len(path)] + LENGTH.pack(_next_version(state.version, expected))

    def _close_session(self, session_id: int, zxid: int) -> bytes:
        candidates = dict(self.tree.ephemerals.get(session_id, ()))
        for new_ephemerals in (*self._new_ephemerals_under_way, self._new_ephemerals):
            candidates.update(new_ephemerals.get(session_id, ()))
        doomed: list[bytes | None] = []
        for path in candidates:
            state = self.states.find(path)
            if state is not None and state.owner == session_id:
                self._remove(path, parent_of(path), state, zxid)
                doomed.append(path)
        self.closing.add(session_id)
        return CloseSessionTxn(doomed).to_bytes() if self.close_session_lists_paths else b""

    def _multi(self, session_id: int, body: bytes, identities: Sequence[Identity], zxid: int, time_ms: int) -> bytes:
        operations = _split_multi(body)
        states = self.states
        states.begin_multi()
        txns: list[SubTxn] = []
        failed = False
        for op, request in operations:
            if failed:
                txns.append(SubTxn(ERROR, ErrorTxn(ErrorCode.RUNTIME_INCONSISTENCY).to_bytes()))
                continue
            try:
                record, _ = self.prepare(op, session_id, request, identities, zxid, time_ms)
                txns.append(SubTxn(op, record))
            except MarshallingError:
                states.roll_back_multi()
                states.end_multi()
                raise
            except KeeperError as error:
                txns.append(SubTxn(ERROR, ErrorTxn(error.code).to_bytes()))
                states.roll_back_multi()
                failed = True
        states.end_multi()
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
            self._note_excess(path)
            raise QuotaExceededError(f"{limited!r} may have {limits.count_hard_limit} znodes")
        if byte_difference and -1 < limits.byte_hard_limit < usage.size + byte_difference:
            self._note_excess(path)
            raise QuotaExceededError(f"{limited!r} may hold {limits.byte_hard_limit} bytes")

    def _note_excess(self, path: bytes) -> None:
        if self._quota_exceeded is not None:
            self._quota_exceeded(path)


def _read_acl(reader: Reader) -> list[Acl] | None:
    count = reader.read_int()
    if count < 0:
        return None
    return [Acl.decode(reader) for _ in range(count)]


def _path_and_int(body: bytes) -> tuple[bytes | None, int]:
    try:
        length: int = LENGTH.unpack_from(body)[0]
        if length >= 0:
            at = 4 + length
            return body[4:at], LENGTH.unpack_from(body, at)[0]
        if length == -1:
            return None, LENGTH.unpack_from(body, 4)[0]
    except struct.error:
        pass
    raise UndecodableError


_MULTI_WRITES: Final = frozenset({*_CREATES, DELETE, SET_DATA, CHECK})


def _split_multi(body: bytes) -> list[tuple[int, bytes]]:
    """The operations of a multi with their encoded requests.

    Here the kind of create follows from its flags, as far as they name one. Raises MarshallingError for what cannot
    stand in a multi, UndecodableError for a create without an ACL.
    """
    reader = Reader(body)
    operations: list[tuple[int, bytes]] = []
    try:
        while True:
            header = MultiHeader.decode(reader)
            if header.done:
                return operations
            op = header.type
            if op not in _MULTI_WRITES:
                raise MarshallingError(f"operation {op} cannot stand in a multi")
            start = reader.position
            if reader.read_buffer() is None:
                raise MarshallingError("a path is missing")
            if op in _CREATES:
                reader.read_buffer()
                acl = _read_acl(reader)
                known = _CREATE_MODES.get(reader.read_int())
                if op == CREATE_TTL:
                    end = reader.position
                    reader.read_long()
                    if known is not None and not known[0].has_ttl:
                        is_container = known[0] is CreateMode.CONTAINER
                        operations.append((CREATE_CONTAINER if is_container else CREATE, body[start:end]))
                        continue
                elif acl is None:
                    raise UndecodableError
                elif known is None or known[0].has_ttl:
                    raise MarshallingError("create flags that are none in a multi")
                elif known[0] is CreateMode.CONTAINER:
                    op = CREATE_CONTAINER
            else:
                if op == SET_DATA:
                    reader.read_buffer()
                reader.read_int()
            operations.append((op, body[start : reader.position]))
    except JuteError:
        raise MarshallingError from None


def creates_ephemeral(op: int, body: bytes) -> bool:
    """Whether a create, or one in a multi, asks for an ephemeral znode; not if the request cannot be read at all."""
    try:
        if op == MULTI:
            return any(creates_ephemeral(*each) for each in _split_multi(body))
        if op not in (CREATE, CREATE2):
            return False
        known = _CREATE_MODES.get(CreateRequest.from_bytes(body).flags)
    except (JuteError, KeeperError):
        return False
    return known is not None and known[0].is_ephemeral


def error_record(code: int) -> bytes:
    """The record of the transaction that stands for a refused request."""
    out = bytearray()
    write_int(out, code)
    return bytes(out)
