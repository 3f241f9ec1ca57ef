"""Snapshots put together by hand."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from pathlib import Path
from zlib import adler32

from corral.jute.records import StatPersisted

ROOT_MARK = b"\0\0\0\1/"
ACL_TABLE = struct.pack(">iqii", 1, 1, 1, 31) + b"\0\0\0\5world\0\0\0\6anyone"


def stat(zxid: int = 1, version: int = 0, owner: int = 0) -> StatPersisted:
    return StatPersisted(zxid, zxid, 1_700_000_000_000, 1_700_000_001_000, version, 0, 0, owner, zxid)


def snapshot_bytes(
    nodes: Mapping[str, tuple[bytes | None, StatPersisted]], sessions: Mapping[int, int], last_zxid: int
) -> bytes:
    """A whole snapshot; ``nodes`` by path, the root's is empty."""
    out = bytearray(struct.pack(">iiqi", 0x5A4B534E, 2, -1, len(sessions)))
    for session_id, timeout_ms in sessions.items():
        out += struct.pack(">qi", session_id, timeout_ms)
    out += ACL_TABLE
    for path, (data, node_stat) in nodes.items():
        name = path.encode()
        out += struct.pack(">i", len(name)) + name
        out += struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data
        out += struct.pack(">q", 1) + node_stat.to_bytes()
    for section in (ROOT_MARK, struct.pack(">qiq", last_zxid, 2, 77), struct.pack(">q", last_zxid)):
        out += section
        out += struct.pack(">q", adler32(out)) + ROOT_MARK
    return bytes(out)


def write_snapshot(
    path: Path,
    nodes: Mapping[str, tuple[bytes | None, StatPersisted]],
    sessions: Mapping[int, int] | None = None,
    last_zxid: int = 5,
) -> Path:
    content = snapshot_bytes(nodes, sessions or {}, last_zxid)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
