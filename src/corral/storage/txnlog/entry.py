"""The content of a log entry, as records: for tools. Recovery applies entries without building these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from corral.jute.ops import OpCode
from corral.jute.primitives import JuteError, Reader
from corral.jute.record import Record
from corral.jute.records import (
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
    TxnDigest,
    TxnHeader,
)

TXN_RECORDS: Final[dict[int, type[Record]]] = {
    OpCode.ERROR: ErrorTxn,
    OpCode.CREATE_SESSION: CreateSessionTxn,
    OpCode.CLOSE_SESSION: CloseSessionTxn,
    OpCode.CREATE: CreateTxn,
    OpCode.CREATE2: CreateTxn,
    OpCode.CREATE_TTL: CreateTtlTxn,
    OpCode.CREATE_CONTAINER: CreateContainerTxn,
    OpCode.DELETE: DeleteTxn,
    OpCode.DELETE_CONTAINER: DeleteTxn,
    OpCode.SET_DATA: SetDataTxn,
    OpCode.RECONFIG: SetDataTxn,
    OpCode.SET_ACL: SetAclTxn,
    OpCode.CHECK: CheckVersionTxn,
    OpCode.MULTI: MultiTxn,
}
"""The record of each type of transaction."""

_DIGEST_SIZE: Final = 12


@dataclass(frozen=True, slots=True)
class Transaction:
    """A decoded entry. ``record`` is None where servers before 3.6 wrote none (closeSession)."""

    header: TxnHeader
    record: Record | None
    digest: TxnDigest | None


def decode_entry(entry: bytes) -> Transaction:
    """Decode one entry of a log. Raises :class:`~corral.jute.primitives.JuteError` if it is none."""
    reader = Reader(entry)
    header = TxnHeader.decode(reader)
    start = reader.position
    record: Record | None = None
    try:
        record = _decode(header.type, reader)
    except JuteError:
        reader.position = start
        if header.type == OpCode.CREATE:
            record = CreateTxnV0.decode(reader)
        elif header.type != OpCode.CLOSE_SESSION:
            raise
    digest = TxnDigest.decode(reader) if reader.remaining >= _DIGEST_SIZE else None
    return Transaction(header, record, digest)


def decode_parts(multi: MultiTxn) -> list[tuple[int, Record]]:
    """Type and record of each operation of a multi."""
    return [(part.type, _decode(part.type, Reader(part.data or b""))) for part in multi.txns or []]


def _decode(txn_type: int, reader: Reader) -> Record:
    record = TXN_RECORDS.get(txn_type)
    if record is None:
        raise JuteError(f"unknown transaction type {txn_type}")
    return record.decode(reader)
