"""The transaction log: written by groups, read back after a crash."""

from corral.storage.txnlog.directory import LogReplay, Truncation, plan_truncation, read_from, truncate
from corral.storage.txnlog.ending import Ending, EndKind
from corral.storage.txnlog.entry import Transaction, decode_entry
from corral.storage.txnlog.format import entry_age_ms
from corral.storage.txnlog.reader import LogReader
from corral.storage.txnlog.scan import Damage, GoodRecord, scan_log
from corral.storage.txnlog.wholeness import is_whole
from corral.storage.txnlog.writer import DEFAULT_PREALLOCATION_BYTES, Batch, TxnLogWriter

__all__ = [
    "DEFAULT_PREALLOCATION_BYTES",
    "Batch",
    "Damage",
    "EndKind",
    "Ending",
    "GoodRecord",
    "LogReader",
    "LogReplay",
    "Transaction",
    "Truncation",
    "TxnLogWriter",
    "decode_entry",
    "entry_age_ms",
    "is_whole",
    "plan_truncation",
    "read_from",
    "scan_log",
    "truncate",
]
