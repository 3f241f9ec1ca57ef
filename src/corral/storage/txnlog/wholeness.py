"""Whether an entry can be applied to a tree at all: asked of what others send, before it gets into a log.

Recovery refuses a log with an entry that it cannot decode, and rightly so; then none may get there.
"""

from __future__ import annotations

import struct
from typing import Final

from corral.jute.ops import CHECK, CLOSE_SESSION, CREATE_TTL, MULTI, SET_ACL, SET_DATA, OpCode
from corral.jute.owner import TTL_MAX_MS, OwnerRules
from corral.jute.primitives import JuteError, Reader
from corral.jute.records import CloseSessionTxn, MultiTxn, SetAclTxn
from corral.storage.txnlog.format import SMALLEST_ENTRY
from corral.tree.acl import OPEN_ACL_BYTES, decode_acl

_INT: Final = struct.Struct(">i").unpack_from
_LONG: Final = struct.Struct(">q").unpack_from
_SLASH: Final = 0x2F
_SETS: Final = frozenset({int(OpCode.SET_DATA), int(OpCode.RECONFIG)})
_CREATES: Final = {
    int(OpCode.CREATE): 1,
    int(OpCode.CREATE2): 1,
    int(OpCode.CREATE_CONTAINER): 4,
    int(OpCode.CREATE_TTL): 12,
}
"""And how many bytes there are at least behind the ACL; before 3.4 only the one that says whether it is ephemeral."""
_PLAIN_CREATES: Final = frozenset({int(OpCode.CREATE), int(OpCode.CREATE2)})
_DELETES: Final = frozenset({int(OpCode.DELETE), int(OpCode.DELETE_CONTAINER)})
_FOUR_BYTES: Final = frozenset({int(OpCode.ERROR), int(OpCode.CREATE_SESSION)})


def is_whole(kind: int, entry: bytes, owner_rules: OwnerRules) -> bool:
    """Whether there is all of a transaction of that type behind the entry's header.

    ``owner_rules`` are those of the tree that it is for.
    """
    try:
        if kind == SET_DATA:
            return _is_whole_set(entry, SMALLEST_ENTRY)
        if kind in _CREATES:
            return _is_whole_creation(kind, entry, SMALLEST_ENTRY, _LONG(entry)[0], owner_rules)
        if kind == MULTI:
            return _is_whole_multi(entry, owner_rules)
        return _is_whole(kind, entry, SMALLEST_ENTRY)
    except (struct.error, ValueError, IndexError):
        return False


def _is_whole(kind: int, data: bytes, at: int) -> bool:
    if kind in _SETS:
        return _is_whole_set(data, at)
    if kind in _DELETES:
        return _path_end(data, at) <= len(data)
    if kind in _FOUR_BYTES:
        return at + 4 <= len(data)
    if kind == SET_ACL:
        return (SetAclTxn.decode(Reader(data, at)).path or b"").startswith(b"/")
    if kind == CLOSE_SESSION:
        return _is_whole_end(data, at)
    return False


def _is_whole_set(data: bytes, at: int) -> bool:
    # As _path_end: this is asked most.
    size: int = _INT(data, at)[0]
    if size < 1 or data[at + 4] != _SLASH:
        return False
    at += 4 + size
    length: int = _INT(data, at)[0]
    return at + 8 + (length if length > 0 else 0) <= len(data)


def _is_whole_multi(entry: bytes, owner_rules: OwnerRules) -> bool:
    session_id: int = _LONG(entry)[0]
    for part in MultiTxn.decode(Reader(entry, SMALLEST_ENTRY)).txns or []:
        data = part.data or b""
        if part.type in _CREATES:
            is_part = _is_whole_creation(part.type, data, 0, session_id, owner_rules)
        else:
            is_part = part.type == CHECK or _is_whole(part.type, data, 0)
        if not is_part:
            return False
    return True


def _path_end(data: bytes, at: int) -> int:
    size: int = _INT(data, at)[0]
    if size < 1 or data[at + 4] != _SLASH:
        raise ValueError
    return at + 4 + size


def _is_whole_creation(kind: int, data: bytes, at: int, session_id: int, owner_rules: OwnerRules) -> bool:
    at = _path_end(data, at)
    length: int = _INT(data, at)[0]
    at += 4 + (length if length > 0 else 0)
    if data.startswith(OPEN_ACL_BYTES, at):
        at += len(OPEN_ACL_BYTES)
    else:
        reader = Reader(data, at)
        decode_acl(reader)
        at = reader.position
    if kind == CREATE_TTL and not 0 <= _LONG(data, at + 4)[0] <= TTL_MAX_MS:
        return False
    if kind in _PLAIN_CREATES and data[at]:
        owner_rules.kind(session_id)
    return at + _CREATES[kind] <= len(data)


def _is_whole_end(data: bytes, at: int) -> bool:
    try:
        paths = CloseSessionTxn.decode(Reader(data, at)).paths_to_delete or []
    except JuteError:
        # Paths need not be named: before 3.6 none were.
        return True
    return all(path is None or path.startswith(b"/") for path in paths)
