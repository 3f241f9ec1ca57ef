"""What ``find`` looks for: conditions on a znode, as the command line has them."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING, Final

from corral.cli.shell.subtree.errors import SubtreeError
from corral.jute.owner import OwnerKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.cli.shell.subtree.reading import Node

__all__ = ["Bound", "Conditions", "parse_age", "parse_bytes_pattern", "parse_kind", "parse_owner", "parse_pattern"]
__all__ += ["parse_glob", "parse_size"]

_AMOUNT: Final = re.compile(r"([+-]?)(\d+(?:\.\d+)?)([a-zA-Z]*)", re.ASCII)
_COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {"+": operator.gt, "-": operator.lt, "": operator.eq}
_BYTES: Final = {"": 1, "b": 1, "k": 1024, "m": 1024**2}
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_MASK_64: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Bound:
    """``+n``: more than n. ``-n``: less. ``n``: just so much."""

    sign: str
    amount: float

    def holds(self, value: float) -> bool:
        """Whether ``value`` is as wanted."""
        return _COMPARISONS[self.sign](value, self.amount)


@dataclass(frozen=True, slots=True)
class Conditions:
    """All of them must hold; None asks for nothing."""

    name: re.Pattern[str] | None = None
    """On the last part of the path, from its beginning to its end."""
    path: re.Pattern[str] | None = None
    """Somewhere in the whole path."""
    data: re.Pattern[bytes] | None = None
    """Somewhere in the data."""
    kind: OwnerKind | None = None
    size: Bound | None = None
    """Bytes of data."""
    modified: Bound | None = None
    """Seconds since the data was set."""
    created: Bound | None = None
    """Seconds since the creation."""
    children: Bound | None = None
    owner: int | None = None
    """The session of an ephemeral, as an unsigned number."""

    def hold(self, node: Node, now: float) -> bool:
        """Whether ``node`` is looked for; ``now`` in seconds since the epoch."""
        stat = node.stat
        return (
            (self.name is None or self.name.match(node.path.rpartition("/")[2]) is not None)
            and (self.path is None or self.path.search(node.path) is not None)
            and (self.kind is None or stat.kind is self.kind)
            and (self.size is None or self.size.holds(stat.data_length))
            and (self.modified is None or self.modified.holds(now - stat.mtime / 1000))
            and (self.created is None or self.created.holds(now - stat.ctime / 1000))
            and (self.children is None or self.children.holds(stat.num_children))
            and (self.owner is None or self._is_owned(node))
            and (self.data is None or (node.data is not None and self.data.search(node.data) is not None))
        )

    def _is_owned(self, node: Node) -> bool:
        return node.stat.kind is OwnerKind.EPHEMERAL and node.stat.ephemeral_owner & _MASK_64 == self.owner


def parse_glob(text: str) -> re.Pattern[str]:
    """``*``, ``?`` and ``[...]`` as in file names."""
    return re.compile(translate(text))


def parse_pattern(text: str) -> re.Pattern[str]:
    """A regular expression. Raises SubtreeError."""
    try:
        return re.compile(text)
    except re.error as error:
        raise SubtreeError(f"{text!r} is no regular expression: {error}") from None


def parse_bytes_pattern(text: str) -> re.Pattern[bytes]:
    """A regular expression over UTF-8, or other bytes by ``\\xff``. Raises SubtreeError."""
    try:
        return re.compile(text.encode(), re.DOTALL)
    except re.error as error:
        raise SubtreeError(f"{text!r} is no regular expression: {error}") from None


def parse_kind(text: str) -> OwnerKind:
    """One of the kinds that can be told apart. Raises SubtreeError."""
    known = (OwnerKind.PERSISTENT, OwnerKind.EPHEMERAL)
    for kind in known:
        if text == kind.value:
            return kind
    names = " or ".join(kind.value for kind in known)
    raise SubtreeError(f"kind {text!r} is not {names}: servers do not tell clients of other kinds")


def parse_owner(text: str) -> int:
    """A session id, hexadecimal with or without 0x, as servers print it. Raises SubtreeError."""
    try:
        return int(text, 16) & _MASK_64
    except ValueError:
        raise SubtreeError(f"{text!r} is no session id: give it as 0x...") from None


def parse_size(text: str) -> Bound:
    """``+100k``: more than 100 KiB; also b, m. Raises SubtreeError."""
    return _bound(text, _BYTES, "a size such as +100k, -10 or 0")


def parse_age(text: str) -> Bound:
    """``+2d``: longer ago than two days; also s, m, h, w. Raises SubtreeError."""
    return _bound(text, _SECONDS, "an age such as +2d or -30m")


def _bound(text: str, units: dict[str, int], what: str) -> Bound:
    match = _AMOUNT.fullmatch(text)
    if match is None or match[3].lower() not in units:
        raise SubtreeError(f"{text!r} is not {what} (units: {', '.join(filter(None, units))})")
    return Bound(match[1], float(match[2]) * units[match[3].lower()])
