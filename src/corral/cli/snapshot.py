"""``corral snapshot``: print, verify, sum up and compare snapshots (what Apache's snapshot toolkits do)."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click

from corral.cli.logtext import acl_object
from corral.cli.options import complain, existing_files, print_json, report_storage_errors, write_line
from corral.cli.snapshottext import (
    MASK_64,
    Node,
    Snapshot,
    Subtree,
    depth_of,
    node_lines,
    padded_hex,
    parent_of,
    read_snapshot,
    sum_subtrees,
)
from corral.storage.errors import StorageError

__all__ = ["snapshot"]


@click.group()
def snapshot() -> None:
    """Print, verify, sum up and compare snapshots."""


@snapshot.command()
@click.argument("file", type=existing_files)
@click.option("-d", "--data", "with_data", is_flag=True, help="Print the data of each znode, as base64.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: znodes, sessions, and what closes it.")
@click.option(
    "--ncdu", is_flag=True, help="One JSON document for ncdu, to browse sizes with (zkSnapShotToolkit -json)."
)
def dump(file: Path, with_data: bool, as_json: bool, ncdu: bool) -> None:
    """Print every znode and session of a snapshot."""
    if as_json and ncdu:
        raise click.UsageError("--json and --ncdu exclude each other")
    with report_storage_errors():
        found = read_snapshot(file)
    if as_json:
        _dump_json(found, with_data)
    elif ncdu:
        _dump_ncdu(found)
    else:
        _dump_text(found, with_data)


@snapshot.command()
@click.argument("files", nargs=-1, required=True, type=existing_files)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def verify(files: tuple[Path, ...], as_json: bool) -> None:
    """Read FILES to the end; check their checksums and that every znode has a parent. Exit status 1 if one fails."""
    sound = True
    for path in files:
        try:
            found = read_snapshot(path)
        except StorageError as error:
            sound = False
            if as_json:
                print_json({"file": str(path), "sound": False, "problem": str(error)})
            else:
                complain(str(error))
            continue
        facts = _facts(found)
        if as_json:
            print_json({"file": str(path), "sound": True, **facts})
        else:
            write_line(
                f"{path}: {facts['znodes']} znodes, {facts['data_bytes']} bytes of data, {facts['sessions']} sessions,"
                f" last zxid {facts['last_zxid']}"
            )
    if not sound:
        raise SystemExit(1)


@snapshot.command()
@click.argument("file", type=existing_files)
@click.argument("path", default="/")
@click.argument("max_depth", default=0, type=click.IntRange(min=0))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def summary(file: Path, path: str, max_depth: int, as_json: bool) -> None:
    """Count znodes and bytes below PATH [/] and below each znode with children, down to MAX_DEPTH [0: all]."""
    with report_storage_errors():
        found = read_snapshot(file)
        if path not in found.nodes:
            raise StorageError(f"there is no znode {path} in it", file)
    sums = sum_subtrees(found.nodes)
    top = depth_of(path)
    below = "/" if path == "/" else f"{path}/"
    for name in found.nodes:
        if name != path and not name.startswith(below):
            continue
        level = depth_of(name) - top
        subtree = sums[name]
        if (max_depth and level > max_depth) or (subtree.nodes == 1 and name != path):
            continue
        if as_json:
            print_json({"path": name, "descendants": subtree.nodes - 1, "data_bytes": subtree.data_bytes})
        else:
            indent = "--" * level
            write_line(f"{indent} {name}")
            write_line(f"{indent}   children: {subtree.nodes - 1}")
            write_line(f"{indent}   data: {subtree.data_bytes}")


@snapshot.command()
@click.argument("left", type=existing_files)
@click.argument("right", type=existing_files)
@click.option("-b", "--bytes", "byte_threshold", type=int, help="Show subtrees whose data differs by more bytes.")
@click.option("-n", "--nodes", "node_threshold", type=int, help="Show subtrees that differ by more descendants.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def compare(left: Path, right: Path, byte_threshold: int | None, node_threshold: int | None, as_json: bool) -> None:
    """Show how two snapshots differ. Exit status 1 if they do.

    Every znode that is only in one of them, or whose data, ACL or stat differs, and every session. With -b or -n
    instead, by depth, the subtrees whose sizes differ by more than that (zkSnapshotComparer).
    """
    with report_storage_errors():
        first, second = read_snapshot(left), read_snapshot(right)
    if byte_threshold is None and node_threshold is None:
        differences = _compare_nodes(first, second) + _compare_sessions(first, second)
        for difference in differences:
            if as_json:
                print_json(difference)
            else:
                write_line(_difference_line(difference))
        if differences:
            raise SystemExit(1)
        return
    _compare_sizes(first, second, byte_threshold or 0, node_threshold or 0, as_json)


def _dump_text(found: Snapshot, with_data: bool) -> None:
    write_line(f"ZNode Details (count={len(found.nodes)}):")
    for path, node in found.nodes.items():
        data = base64.b64encode(node.data or b"") if with_data else None
        write_line("\n".join(node_lines(path, node, data)))
    write_line("----")
    write_line("Session Details (sid, timeout, ephemeralCount):")
    owned = Counter(node.stat.ephemeral_owner for node in found.nodes.values())
    for session_id, timeout_ms in sorted(found.sessions.items()):
        write_line(f"{padded_hex(session_id)}, {timeout_ms}, {owned[session_id]}")
    write_line("----")
    write_line(f"Last zxid: 0x{_last_zxid(found):x}")


def _dump_json(found: Snapshot, with_data: bool) -> None:
    for path, node in found.nodes.items():
        print_json({"path": path, **_node_object(node, with_data)})
    for session_id, timeout_ms in sorted(found.sessions.items()):
        print_json({"session": f"0x{session_id & MASK_64:x}", "timeout_ms": timeout_ms})
    print_json({"file": str(found.file.path), **_facts(found)})


def _dump_ncdu(found: Snapshot) -> None:
    children: dict[str, list[str]] = {}
    for name in found.nodes:
        if name != "/":
            children.setdefault(parent_of(name), []).append(name)
    head = {"progname": "corral", "progver": "1", "timestamp": int(time.time() * 1000)}
    sys.stdout.write(f"[1,0,{json.dumps(head, separators=(',', ':'))}")
    number = 1000
    # Ends of lists are put on the same stack as the znodes still to be written: trees may be deep.
    pending: list[str | None] = ["/"]
    while pending:
        path = pending.pop()
        if path is None:
            sys.stdout.write("]")
            continue
        number += 1
        size = found.nodes[path].data_length
        label = path[path.rindex("/") + 1 :] or "/"
        entry = {"name": label, "asize": size, "dsize": size, "dev": 0, "ino": number}
        below = children.get(path)
        sys.stdout.write(f",{'[' if below else ''}{json.dumps(entry, separators=(',', ':'))}")
        if below:
            pending.append(None)
            pending.extend(reversed(below))
    write_line("]")


def _node_object(node: Node, with_data: bool) -> dict[str, Any]:
    stat: dict[str, Any] = {name: getattr(node.stat, name) for name in node.stat.__slots__}
    for name in ("czxid", "mzxid", "pzxid", "ephemeral_owner"):
        stat[name] = f"0x{stat[name] & MASK_64:x}"
    found: dict[str, Any] = {"data_length": node.data_length, "acl": [acl_object(acl) for acl in node.acl], **stat}
    if with_data:
        found["data"] = None if node.data is None else base64.b64encode(node.data).decode("ascii")
    return found


def _facts(found: Snapshot) -> dict[str, Any]:
    trailer = found.trailer
    return {
        "zxid": f"0x{found.file.zxid:x}",
        "znodes": len(found.nodes),
        "data_bytes": sum(node.data_length for node in found.nodes.values()),
        "sessions": len(found.sessions),
        "digest": None if trailer.digest is None else f"0x{trailer.digest:x}",
        "digest_zxid": None if trailer.digest_zxid is None else f"0x{trailer.digest_zxid:x}",
        "last_zxid": f"0x{_last_zxid(found):x}",
    }


def _last_zxid(found: Snapshot) -> int:
    """The newest change in it: a snapshot may hold later ones than its name says."""
    changes = (max(node.stat.mzxid, node.stat.pzxid) for node in found.nodes.values())
    return max(found.file.zxid, max(changes, default=0))


def _compare_nodes(left: Snapshot, right: Snapshot) -> list[dict[str, Any]]:
    differences: list[dict[str, Any]] = []
    for path in sorted(left.nodes.keys() | right.nodes.keys(), key=lambda name: name.split("/")):
        one, other = left.nodes.get(path), right.nodes.get(path)
        if one is None or other is None:
            differences.append({"path": path, "only_in": "right" if one is None else "left"})
            continue
        if one == other:
            continue
        left_fields, right_fields = _node_object(one, True), _node_object(other, True)
        changed = {
            name: [value, right_fields[name]] for name, value in left_fields.items() if value != right_fields[name]
        }
        differences.append({"path": path, "differs": changed})
    return differences


def _compare_sessions(left: Snapshot, right: Snapshot) -> list[dict[str, Any]]:
    differences: list[dict[str, Any]] = []
    for session_id in sorted(left.sessions.keys() | right.sessions.keys()):
        one, other = left.sessions.get(session_id), right.sessions.get(session_id)
        name = f"0x{session_id & MASK_64:x}"
        if one is None or other is None:
            differences.append({"session": name, "only_in": "right" if one is None else "left"})
        elif one != other:
            differences.append({"session": name, "differs": {"timeout_ms": [one, other]}})
    return differences


def _difference_line(difference: dict[str, Any]) -> str:
    what = f"Node {difference['path']}" if "path" in difference else f"Session {difference['session']}"
    if "only_in" in difference:
        return f"{what} found only in {difference['only_in']} tree."
    changes = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in difference["differs"].items())
    return f"{what} differs: {changes}"


def _compare_sizes(left: Snapshot, right: Snapshot, byte_threshold: int, node_threshold: int, as_json: bool) -> None:
    sums = sum_subtrees(left.nodes), sum_subtrees(right.nodes)
    by_depth: dict[int, list[str]] = {}
    for path in sorted(sums[0].keys() | sums[1].keys()):
        by_depth.setdefault(depth_of(path), []).append(path)
    if not as_json:
        for subtrees in sums:
            write_line(_tree_facts(subtrees))
        write_line(
            f"Printing analysis for nodes difference larger than {byte_threshold} bytes or node count difference larger"
            f" than {node_threshold}."
        )
    differs = False
    for depth, paths in sorted(by_depth.items()):
        if not as_json:
            write_line(f"Analysis for depth {depth}")
        for path in paths:
            one, other = sums[0].get(path), sums[1].get(path)
            delta_bytes = (other or Subtree()).data_bytes - (one or Subtree()).data_bytes
            delta_nodes = (other or Subtree(1)).nodes - (one or Subtree(1)).nodes
            if abs(delta_bytes) <= byte_threshold and abs(delta_nodes) <= node_threshold:
                continue
            differs = True
            if as_json:
                where = "both" if one and other else "left" if one else "right"
                print_json({"path": path, "in": where, "delta_bytes": delta_bytes, "delta_descendants": delta_nodes})
            else:
                write_line(_size_line(path, one, other))
    if not as_json:
        write_line("All layers compared.")
    if differs:
        raise SystemExit(1)


def _tree_facts(sums: dict[str, Subtree]) -> str:
    depths = Counter(depth_of(path) for path in sums)
    lines = [f"Node count: {len(sums)}", f"Total size: {sums['/'].data_bytes}", f"Max depth: {len(depths)}"]
    lines += [f"Count of nodes at depth {depth}: {count}" for depth, count in sorted(depths.items())]
    return "\n".join([*lines, ""])


def _size_line(path: str, left: Subtree | None, right: Subtree | None) -> str:
    label = "" if path == "/" else path
    if left is not None and right is not None:
        return (
            f"Node {label} found in both trees. Delta: {right.data_bytes - left.data_bytes} bytes,"
            f" {right.nodes - left.nodes} descendants"
        )
    only = left or right
    assert only is not None
    return (
        f"Node {label} found only in {'left' if left is not None else 'right'} tree."
        f" Descendant size: {only.data_bytes}. Descendant count: {only.nodes - 1}"
    )
