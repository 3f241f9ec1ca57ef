"""The transaction log: written by groups, read back after a crash."""

from corral.storage.txnlog.directory import LogReplay, Truncation, plan_truncation, read_from, truncate
from corral.storage.txnlog.ending import Ending, EndKind
from corral.storage.txnlog.reader import LogReader
from corral.storage.txnlog.writer import DEFAULT_PREALLOCATION_BYTES, Batch, TxnLogWriter

__all__ = [
    "DEFAULT_PREALLOCATION_BYTES",
    "Batch",
    "EndKind",
    "Ending",
    "LogReader",
    "LogReplay",
    "Truncation",
    "TxnLogWriter",
    "plan_truncation",
    "read_from",
    "truncate",
]
