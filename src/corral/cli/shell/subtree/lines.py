"""The format of an exported subtree: one JSON object a line.

::

    {"corral_export": 1, "root": "/a", "zxid": "0x1f", "time": "2026-11-22T08:00:00+00:00"}
    {"path": "/a", "data": "text", "acl": ["world:anyone:cdrwa"], "kind": "persistent", "stat": {...}}
    {"path": "/a/b", "data": {"base64": "/wA="}, "acl": [...], "kind": "persistent", "stat": {...}}
    {"path": "/a/c", "data": null, "acl": [...], "kind": "ephemeral", "stat": {...}}
    {"end": 3}

Data is text if it is UTF-8, else base64, and null if there is none at all. Parents stand before their children. The
last line has the number of znodes: a file that was cut short is recognised.

``acl``, ``kind`` and ``stat`` may be missing in what somebody writes by hand: open to everybody, persistent. There the
kind may also be ``container``, or ``ttl`` with ``"ttl": 30.0`` in seconds. No export has these, for servers do not tell
clients which znodes they are.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corral.cli.shell.formats import stat_object
from corral.cli.shell.subtree.errors import SubtreeError
from corral.cli.shell.subtree.paths import is_within, parent_of
from corral.cli.shell.subtree.reading import Entry
from corral.client import NULL, OPEN, Acl
from corral.jute.errors import BadArgumentsError
from corral.jute.owner import TTL_MAX_MS, OwnerKind
from corral.jute.paths import validate_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from typing import BinaryIO

    from corral.cli.shell.subtree.reading import Node

__all__ = [
    "FORMAT",
    "TURN",
    "Header",
    "encode",
    "ended_line",
    "header_line",
    "node_line",
    "read_entries",
    "read_header",
]

FORMAT: Final = 1
TURN: Final = 1000
"""Lines between which a reader gives others their turn on the event loop."""
_KEYS: Final = frozenset({"path", "data", "acl", "kind", "ttl", "stat"})


class Header(NamedTuple):
    """The first line."""

    root: str
    zxid: int
    time: str


def header_line(root: str, zxid: int, time: datetime) -> dict[str, Any]:
    """The first line. ``zxid`` is of the newest transaction that may be in it wholly; later ones may be in parts."""
    return {"corral_export": FORMAT, "root": root, "zxid": hex(zxid), "time": time.isoformat("T", "seconds")}


def node_line(node: Node) -> dict[str, Any]:
    """The line of one znode, whose data and ACL have been read."""
    assert node.data is not None
    assert node.acl is not None
    return {
        "path": node.path,
        "data": data_object(node.data),
        "acl": [str(entry) for entry in node.acl],
        "kind": node.stat.kind.value,
        "stat": stat_object(node.stat),
    }


def ended_line(znodes: int) -> dict[str, Any]:
    """The last line."""
    return {"end": znodes}


def encode(line: dict[str, Any]) -> str:
    """The text of a line, without its end."""
    return json.dumps(line, ensure_ascii=False)


def data_object(data: bytes) -> str | dict[str, str] | None:
    """Data as JSON can have it, and nothing lost."""
    if data is NULL:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def read_header(file: BinaryIO, name: str) -> Header:
    """The first line. Raises SubtreeError with file and line number."""
    value = _decode(file.readline(), f"{name}, line 1")
    if value.get("corral_export") != FORMAT:
        if "corral_export" in value:
            raise SubtreeError(f"{name}, line 1: format {value['corral_export']!r}; this version knows {FORMAT}")
        raise SubtreeError(f"{name}, line 1: not the header of an export: there is no corral_export in it")
    root, zxid, time = value.get("root"), value.get("zxid"), value.get("time", "")
    if not isinstance(root, str):
        raise SubtreeError(f"{name}, line 1: the root is missing")
    _check_path(root, f"{name}, line 1")
    try:
        number = int(str(zxid), 16) if zxid is not None else 0
    except ValueError:
        raise SubtreeError(f"{name}, line 1: {zxid!r} is no zxid") from None
    return Header(root, number, str(time))


def read_entries(file: BinaryIO, name: str, root: str, *, incomplete: bool = False) -> Iterator[tuple[int, Entry]]:
    """The znodes after the header, each with its line's number.

    Args:
        file: where to read; lines end with ``\\n`` alone.
        name: what errors call it.
        root: of the header.
        incomplete: whether the last line may be missing, or may count more znodes than there are.

    Raises:
        SubtreeError: a line is wrong; names file, line and what is wrong.
    """
    seen: set[str] = set()
    ended: int | None = None
    for number, line in enumerate(file, 2):
        place = f"{name}, line {number}"
        if not line.strip():
            continue
        if ended is not None:
            raise SubtreeError(f"{place}: more after the last line of an export")
        value = _decode(line, place)
        if "end" in value:
            ended = value["end"]
            if not incomplete and ended != len(seen):
                raise SubtreeError(
                    f"{place}: there were {ended} znodes, and there are {len(seen)}: the file was changed; "
                    "--incomplete takes it as it is"
                )
            continue
        entry = _entry(value, place)
        if not is_within(root, entry.path):
            raise SubtreeError(f"{place}: {entry.path} is not within the root {root}")
        if entry.path in seen:
            raise SubtreeError(f"{place}: {entry.path} is there twice")
        if entry.path != root and parent_of(entry.path) not in seen:
            raise SubtreeError(f"{place}: {entry.path} comes before its parent, or has none")
        seen.add(entry.path)
        yield number, entry
    if ended is None and not incomplete:
        raise SubtreeError(f"{name}: the last line is missing: it was cut short; --incomplete takes what is there")


def _decode(line: bytes, place: str) -> dict[str, Any]:
    try:
        value = json.loads(line.rstrip(b"\r\n"))
    except UnicodeDecodeError as error:
        raise SubtreeError(f"{place}: not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise SubtreeError(f"{place}, column {error.colno}: {error.msg}") from None
    if not isinstance(value, dict):
        raise SubtreeError(f"{place}: not a JSON object")
    return value


def _entry(value: dict[str, Any], place: str) -> Entry:
    if unknown := value.keys() - _KEYS:
        raise SubtreeError(f"{place}: unknown {', '.join(map(repr, sorted(unknown)))}")
    for name in ("path", "data"):
        if name not in value:
            raise SubtreeError(f"{place}: no {name!r}")
    path = value["path"]
    _check_path(path, place)
    kind = _kind(value.get("kind", OwnerKind.PERSISTENT.value), place)
    return Entry(path, _data(value["data"], place), _acl(value.get("acl"), place), kind, _ttl(value, kind, place))


def _check_path(path: object, place: str) -> None:
    if not isinstance(path, str):
        raise SubtreeError(f"{place}: the path {path!r} is no text")
    try:
        validate_path(path.encode())
    except BadArgumentsError as error:
        raise SubtreeError(f"{place}: {error}") from None
    except UnicodeEncodeError as error:
        raise SubtreeError(f"{place}: path {path!r} has a character that is not allowed at {error.start}") from None


def _data(value: object, place: str) -> bytes:
    match value:
        case None:
            return NULL
        case str():
            try:
                return value.encode()
            except UnicodeEncodeError as error:
                raise SubtreeError(f"{place}: the data is no text at {error.start}: write it as base64") from None
        case {"base64": str(text), **rest} if not rest:
            try:
                return base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:
                raise SubtreeError(f"{place}: the data is no base64: {error}") from None
        case _:
            raise SubtreeError(f'{place}: the data is neither text, nor {{"base64": ...}}, nor null')


def _acl(value: object, place: str) -> tuple[Acl, ...]:
    if value is None:
        return OPEN
    if not isinstance(value, list) or not value:
        raise SubtreeError(f"{place}: the acl is not a list of scheme:id:permissions")
    entries: list[Acl] = []
    for text in value:
        try:
            entries.append(Acl.parse(text if isinstance(text, str) else repr(text)))
        except ValueError as error:
            raise SubtreeError(f"{place}: acl: {error}") from None
    return tuple(entries)


def _kind(value: object, place: str) -> OwnerKind:
    try:
        return OwnerKind(value)
    except ValueError:
        known = ", ".join(kind.value for kind in OwnerKind)
        raise SubtreeError(f"{place}: kind {value!r} is none of {known}") from None


def _ttl(value: dict[str, Any], kind: OwnerKind, place: str) -> float | None:
    ttl = value.get("ttl")
    if kind is not OwnerKind.TTL:
        if ttl is not None:
            raise SubtreeError(f"{place}: a ttl, but the kind is {kind.value}")
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0.001 <= ttl <= TTL_MAX_MS / 1000:
        raise SubtreeError(f"{place}: ttl {ttl!r} is not between 0.001 and {TTL_MAX_MS / 1000} seconds")
    return float(ttl)
