"""Log entries to test with."""

from __future__ import annotations

from pathlib import Path

from corral.jute.ops import OpCode
from corral.jute.records import SetDataTxn, TxnHeader
from corral.storage.txnlog import TxnLogWriter

VECTOR_ENTRY = bytes.fromhex(
    "03000022105a0000 00000000 0000000100000001 000001a1ff96c23b fffffff6 00002710 00000002 0000000051c6d660"
)
"""A createSession transaction as Apache's server wrote it, zxid 0x100000001."""
VECTOR_RECORD = bytes.fromhex("00000000b5510a3f 00000030") + VECTOR_ENTRY + b"\x42"


def set_data(zxid: int, data: bytes = b"value") -> bytes:
    header = TxnHeader(0x1000, zxid & 0xFFFF, zxid, 1_700_000_000_000 + zxid, OpCode.SET_DATA)
    return header.to_bytes() + SetDataTxn(b"/node", data, zxid & 0xFFFF).to_bytes()


def write_log(directory: Path, zxids: range, data: bytes = b"value", preallocation_bytes: int = 0) -> Path:
    """One log of set_data entries, one batch each."""
    writer = TxnLogWriter(directory, preallocation_bytes=preallocation_bytes)
    for zxid in zxids:
        append(writer, zxid, data)
    writer.close()
    return directory / f"log.{zxids.start:x}"


def append(writer: TxnLogWriter, zxid: int, data: bytes = b"value") -> None:
    """Append one entry and return once it is durable."""
    writer.append(zxid, set_data(zxid, data))
    batch = writer.take()
    assert batch is not None
    writer.write(batch)
