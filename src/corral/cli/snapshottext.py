"""Snapshots as plain znodes, in the order of a walk through the tree, for the tools that print and compare them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.jute.primitives import Reader, decode_text
from corral.jute.records import Acl, StatPersisted
from corral.storage.errors import StorageError
from corral.storage.files import SnapshotFile, parse_snapshot
from corral.storage.snapshot import SnapshotReader, Trailer
from corral.storage.snapshot_file import read_snapshot_bytes
from corral.tree.acl import OPEN_ACL, OPEN_ACL_ID, decode_acl

MASK_64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Node:
    """A znode as the file has it; ``data`` is None for null."""

    data: bytes | None
    acl: tuple[Acl, ...]
    stat: StatPersisted

    @property
    def data_length(self) -> int:
        return len(self.data or b"")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole snapshot. ``nodes`` are by path, the root's is ``/``; a znode comes before its children."""

    file: SnapshotFile
    nodes: dict[str, Node]
    sessions: dict[int, int]
    trailer: Trailer


@dataclass(slots=True)
class Subtree:
    """Sums over a znode and all below it."""

    nodes: int = 0
    data_bytes: int = 0


def read_snapshot(path: Path) -> Snapshot:
    """Read a file to its end. Raises :class:`~corral.storage.errors.StorageError` if it is no undamaged snapshot."""
    file = snapshot_file(path)
    reader = SnapshotReader(read_snapshot_bytes(file), path)
    acls = {acl_id: tuple(decode_acl(Reader(encoded))) for acl_id, encoded in reader.acls.items()}
    acls[OPEN_ACL_ID] = OPEN_ACL
    found: list[tuple[list[bytes], Node]] = []
    data = reader.data
    for name, data_at, data_end in reader.nodes():
        tail = Reader(data, data_end)
        acl_id = tail.read_long()
        if acl_id not in acls:
            raise StorageError(f"{decode_text(name)} has ACL {acl_id}, which is not in the table", path, data_end)
        node = Node(Reader(data, data_at).read_buffer(), acls[acl_id], StatPersisted.decode(tail))
        found.append((name.split(b"/"), node))
    reader.check()
    found.sort(key=lambda item: item[0])
    nodes = {decode_text(b"/".join(parts)) or "/": node for parts, node in found}
    for node_path in nodes:
        if node_path != "/" and parent_of(node_path) not in nodes:
            raise StorageError(f"znode {node_path} has no parent", path)
    return Snapshot(file, nodes, reader.sessions, reader.trailer)


def snapshot_file(path: Path) -> SnapshotFile:
    """The file with the zxid of its name. StorageError if it is not named as snapshots are."""
    file = parse_snapshot(path)
    if file is None:
        raise StorageError("not a snapshot's name, which is snapshot.<zxid>, with .gz or .snappy if compressed", path)
    return file


def depth_of(path: str) -> int:
    """0 for the root, 1 for its children."""
    return 0 if path == "/" else path.count("/")


def parent_of(path: str) -> str:
    """The path above; the root has none and must not be asked."""
    return path[: path.rindex("/")] or "/"


def sum_subtrees(nodes: dict[str, Node]) -> dict[str, Subtree]:
    """For each znode how many there are from it on down, itself included, and how much data they hold."""
    sums = {path: Subtree(1, node.data_length) for path, node in nodes.items()}
    for path in reversed(nodes):
        if path != "/":
            above = sums[parent_of(path)]
            above.nodes += sums[path].nodes
            above.data_bytes += sums[path].data_bytes
    return sums


def node_lines(path: str, node: Node, with_data: bytes | None) -> list[str]:
    """One znode as zkSnapShotToolkit prints it: ``with_data`` is its data in base64, None prints the length."""
    stat = node.stat
    last = f"  dataLength = {node.data_length}" if with_data is None else f"  data = {with_data.decode('ascii')}"
    return [
        "----",
        path,
        f"  cZxid = {padded_hex(stat.czxid)}",
        f"  ctime = {java_time(stat.ctime)}",
        f"  mZxid = {padded_hex(stat.mzxid)}",
        f"  mtime = {java_time(stat.mtime)}",
        f"  pZxid = {padded_hex(stat.pzxid)}",
        f"  cversion = {stat.cversion}",
        f"  dataVersion = {stat.version}",
        f"  aclVersion = {stat.aversion}",
        f"  ephemeralOwner = {padded_hex(stat.ephemeral_owner)}",
        last,
    ]


def padded_hex(value: int) -> str:
    """16 characters, ``0x`` included, or as many as needed."""
    return f"0x{value & MASK_64:014x}"


def java_time(time_ms: int) -> str:
    """A time as Java's ``Date`` prints it, in local time: ``Sat Nov 22 05:01:02 UTC 2025``."""
    try:
        local = time.localtime(time_ms // 1000)
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms"
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[local.tm_wday]
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    clock = f"{local.tm_hour:02}:{local.tm_min:02}:{local.tm_sec:02}"
    return f"{day} {months[local.tm_mon - 1]} {local.tm_mday:02} {clock} {local.tm_zone} {local.tm_year}"
