"""The rules of znode paths. Paths are handled as their UTF-8 bytes; the root's own key is the empty path."""

from __future__ import annotations

import re
from typing import Final

from corral.jute.errors import BadArgumentsError

ROOT: Final = b""
"""The key under which the root is stored; ``/`` names it as well."""
ZOOKEEPER: Final = b"/zookeeper"
QUOTA: Final = b"/zookeeper/quota"
CONFIG: Final = b"/zookeeper/config"
RESERVED: Final = frozenset({b"/", ROOT, ZOOKEEPER, QUOTA, CONFIG})
"""Znodes that cannot be deleted."""

_PLAIN = re.compile(rb"(?:/[!-.0-~ ]+)+", re.DOTALL)
_PLAIN_NAME = re.compile(rb"[!-\-0-~][!-.0-~]*")
_DOTS = re.compile(rb"/\.{1,2}(?:/|\Z)")
_FORBIDDEN = re.compile("[\u0000-\u001f\u007f-\u009f\ud800-\uf8ff\ufff0-\uffff]")


def validate_path(path: bytes | None) -> bytes:
    """Return ``path`` if it may name a znode (source: PathUtils.validatePath); BadArgumentsError says what is wrong."""
    if path is None:
        raise BadArgumentsError("a path is missing")
    if _PLAIN.fullmatch(path) and b"/." not in path:
        return path
    if path == b"/":
        return path
    shown = path[:200].decode("utf-8", "backslashreplace")
    if not path.startswith(b"/"):
        raise BadArgumentsError(f"path {shown!r} does not start with /")
    if path.endswith(b"/"):
        raise BadArgumentsError(f"path {shown!r} ends with /")
    if b"//" in path:
        raise BadArgumentsError(f"path {shown!r} has an empty element")
    if _DOTS.search(path):
        raise BadArgumentsError(f"path {shown!r} has a relative element")
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadArgumentsError(f"path {shown!r} is not UTF-8 at byte {error.start}") from None
    bad = _FORBIDDEN.search(text)
    if bad or any(char > "\uffff" for char in text):
        where = bad.start() if bad else next(i for i, char in enumerate(text) if char > "\uffff")
        raise BadArgumentsError(f"path {shown!r} has a character that is not allowed at {where}")
    return path


def is_plain_name(name: bytes) -> bool:
    """Whether an element is valid beyond doubt: printable ASCII that begins with no dot."""
    return _PLAIN_NAME.fullmatch(name) is not None


def path_units(path: bytes) -> int:
    """The path's length as Java counts it, in UTF-16 units: what ``approximate_data_size`` adds up."""
    return len(path) if path.isascii() else len(path.decode("utf-8", "replace"))


def parent_of(path: bytes) -> bytes:
    """The parent's key. A direct child of the root has the parent ``b""``."""
    return path[: path.rindex(b"/")]
