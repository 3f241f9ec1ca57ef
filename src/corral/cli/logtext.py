"""Transactions as text, as zkTxnLogToolkit prints them, and as JSON objects."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from corral.jute.ops import OpCode
from corral.jute.primitives import JuteError, decode_text
from corral.jute.record import Record
from corral.jute.records import (
    Acl,
    CheckVersionTxn,
    CloseSessionTxn,
    CreateContainerTxn,
    CreateSessionTxn,
    CreateTtlTxn,
    CreateTxn,
    CreateTxnV0,
    DeleteTxn,
    ErrorTxn,
    MultiTxn,
    SetAclTxn,
    SetDataTxn,
)
from corral.storage.txnlog import Transaction
from corral.storage.txnlog.entry import decode_parts

OP_NAMES: Final[dict[int, str]] = {
    OpCode.ERROR: "error",
    OpCode.CREATE_SESSION: "createSession",
    OpCode.CLOSE_SESSION: "closeSession",
    OpCode.CREATE: "create",
    OpCode.CREATE2: "create2",
    OpCode.CREATE_TTL: "createTTL",
    OpCode.CREATE_CONTAINER: "createContainer",
    OpCode.DELETE: "delete",
    OpCode.DELETE_CONTAINER: "deleteContainer",
    OpCode.SET_DATA: "setData",
    OpCode.SET_ACL: "setACL",
    OpCode.RECONFIG: "reconfig",
    OpCode.CHECK: "check",
    OpCode.MULTI: "multi",
}
"""How the tools of both sides call the types of transactions."""

_MASK_64: Final = (1 << 64) - 1
_ESCAPES: Final = str.maketrans({"\0": "%00", "\n": "%0A", "\r": "%0D", ",": "%2C", "}": "%7D", "%": "%25"})
"""What jute's text form writes instead of characters with a meaning of their own."""

_PATH_FIELDS: Final = frozenset({"path", "paths_to_delete"})


def transaction_line(transaction: Transaction) -> str:
    """One transaction as zkTxnLogToolkit prints it, in local time, without the line end."""
    header = transaction.header
    words = (
        f"{_java_date(header.time_ms)} session 0x{header.client_id & _MASK_64:x} cxid 0x{header.cxid & _MASK_64:x}"
        f" zxid 0x{header.zxid & _MASK_64:x} {op_name(header.type)} {_record_text(transaction.record)}"
    )
    return words.removesuffix("\n")


def transaction_object(transaction: Transaction) -> dict[str, Any]:
    """One transaction as a JSON object: 64-bit ids as hexadecimal text, data as base64, paths as text."""
    header = transaction.header
    found: dict[str, Any] = {
        "zxid": f"0x{header.zxid & _MASK_64:x}",
        "time": datetime.fromtimestamp(header.time_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "session": f"0x{header.client_id & _MASK_64:x}",
        "cxid": header.cxid,
        "op": op_name(header.type),
        **_record_object(transaction.record),
    }
    if transaction.digest is not None:
        found["digest"] = f"0x{transaction.digest.tree_digest & _MASK_64:x}"
    return found


def op_name(txn_type: int) -> str:
    return OP_NAMES.get(txn_type, f"unknown {txn_type}")


def _java_date(time_ms: int) -> str:
    """Java's short date with a long time, as in the US: ``1/31/26, 5:04:03 PM UTC``."""
    try:
        local = time.localtime(time_ms // 1000)
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms"
    hour = local.tm_hour % 12 or 12
    half = "AM" if local.tm_hour < 12 else "PM"
    return (
        f"{local.tm_mon}/{local.tm_mday}/{local.tm_year % 100:02},"
        f" {hour}:{local.tm_min:02}:{local.tm_sec:02} {half} {local.tm_zone}"
    )


def _record_text(record: Record | None) -> str:
    match record:
        case None:
            return ""
        case CreateTxn():
            return f"{_create_text(record)},{str(record.ephemeral).lower()},{record.parent_cversion}"
        case CreateTxnV0():
            return f"{_create_text(record)},{str(record.ephemeral).lower()},-1"
        case CreateContainerTxn():
            return f"{_create_text(record)},{record.parent_cversion}"
        case CreateTtlTxn():
            return f"{_create_text(record)},{record.parent_cversion},{record.ttl_ms}"
        case SetDataTxn():
            return f"{_path(record.path)},{_data(record.data)},{record.version}"
        case DeleteTxn():
            return _path(record.path)
        case CheckVersionTxn():
            return f"{_path(record.path)},{record.version}"
        case SetAclTxn():
            acls = ",".join(f"s{{{_acl(entry)}}}" for entry in record.acl or [])
            return f"{_escaped(record.path)},v{{{acls}}},{record.version}\n"
        case CreateSessionTxn():
            return f"{record.timeout_ms}\n"
        case CloseSessionTxn():
            return f"v{{{','.join(_escaped(path) for path in record.paths_to_delete or [])}}}\n"
        case ErrorTxn():
            return f"{record.err}\n"
        case MultiTxn():
            return ";".join(
                f"{op_name(txn_type)}:{part.err if isinstance(part, ErrorTxn) else _record_text(part)}"
                for txn_type, part in decode_parts(record)
            )
        case _:
            raise JuteError(f"no text form of {record!r}")


def _create_text(record: CreateTxn | CreateTxnV0 | CreateContainerTxn | CreateTtlTxn) -> str:
    return f"{_path(record.path)},{_data(record.data)},{_acls(record.acl)}"


def _record_object(record: Record | None) -> dict[str, Any]:
    if record is None:
        return {}
    if isinstance(record, MultiTxn):
        return {"txns": [{"op": op_name(kind), **_record_object(part)} for kind, part in decode_parts(record)]}
    return {name: _json_value(name, getattr(record, name)) for name in record.__slots__}


def _json_value(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return decode_text(value) if name in _PATH_FIELDS else base64.b64encode(value).decode("ascii")
    if isinstance(value, list):
        return [acl_object(item) if isinstance(item, Acl) else _json_value(name, item) for item in value]
    return value


def acl_object(acl: Acl) -> dict[str, Any]:
    return {"perms": acl.perms, "scheme": acl.id.scheme, "id": acl.id.id}


def _path(path: bytes | None) -> str:
    return "null" if path is None else decode_text(path)


def _data(data: bytes | None) -> str:
    return "" if data is None else decode_text(data)


def _acls(acls: Sequence[Acl] | None) -> str:
    return "null" if acls is None else f"[{', '.join(_acl(acl) + chr(10) for acl in acls)}]"


def _acl(acl: Acl) -> str:
    return f"{acl.perms},s{{{_escaped(acl.id.scheme)},{_escaped(acl.id.id)}}}"


def _escaped(text: str | bytes | None) -> str:
    """A string in jute's text form: a quote in front, none behind."""
    if text is None:
        return ""
    if isinstance(text, bytes):
        text = decode_text(text)
    return "'" + text.translate(_ESCAPES)
