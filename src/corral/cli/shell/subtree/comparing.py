"""Compares two subtrees, one breadth-first walk beside the other."""

from __future__ import annotations

import asyncio
import difflib
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Final

from corral.cli.shell.subtree.lines import TURN, read_entries, read_header
from corral.cli.shell.subtree.paths import order, relative_to
from corral.cli.shell.subtree.preview import preview
from corral.cli.shell.subtree.reading import Entry, read_subtree, reserved_below
from corral.cli.shell.subtree.writing import is_same_acl, is_same_data
from corral.jute.owner import OwnerKind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator
    from typing import BinaryIO

    from corral.client import Client

__all__ = ["Change", "Difference", "compare", "data_difference", "entries_of_file", "entries_of_subtree"]

_LINES_MAX: Final = 12
"""Lines of a difference of texts that are shown."""


class Change(Enum):
    """In what two subtrees differ."""

    REMOVED = "removed"
    """Only the left one has it."""
    ADDED = "added"
    """Only the right one has it."""
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """One znode that is not the same. Its entries have paths relative to the roots."""

    change: Change
    path: str
    """Relative to the roots."""
    left: Entry | None
    right: Entry | None
    what: tuple[str, ...] = ()
    """Of a changed one: ``data``, ``kind``, ``acl``."""


async def compare(
    left: AsyncIterator[Entry], right: AsyncIterator[Entry], *, acl: bool = False
) -> AsyncIterator[Difference]:
    """What differs between two walks, in their order; both are sorted by :func:`~.paths.order`.

    Read side by side: neither is held in memory.
    """
    one, other = await anext(left, None), await anext(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and order(one.path) < order(other.path)):
            assert one is not None
            yield Difference(Change.REMOVED, one.path, one, None)
            one = await anext(left, None)
        elif one is None or order(other.path) < order(one.path):
            yield Difference(Change.ADDED, other.path, None, other)
            other = await anext(right, None)
        else:
            what = tuple(_what_differs(one, other, acl=acl))
            if what:
                yield Difference(Change.CHANGED, one.path, one, other, what)
            one, other = await anext(left, None), await anext(right, None)


def _what_differs(one: Entry, other: Entry, *, acl: bool) -> Iterator[str]:
    if not is_same_data(one.data, other.data):
        yield "data"
    if (one.kind is OwnerKind.EPHEMERAL) is not (other.kind is OwnerKind.EPHEMERAL):
        # Of the other kinds nothing is known.
        yield "kind"
    if acl and not is_same_acl(one.acl, other.acl):
        yield "acl"


async def entries_of_subtree(client: Client, path: str, *, acl: bool, ephemerals: bool) -> AsyncGenerator[Entry, None]:
    """A subtree of a service, with relative paths. Raises NoNodeError, NoAuthError."""
    nodes = read_subtree(client, path, data=True, acl=acl, without=reserved_below(client, path))
    async with aclosing(nodes):
        async for node in nodes:
            assert node.data is not None
            if ephemerals or node.stat.kind is not OwnerKind.EPHEMERAL:
                yield Entry(relative_to(path, node.path), node.data, node.acl or (), node.stat.kind)


async def entries_of_file(file: BinaryIO, name: str, *, ephemerals: bool) -> AsyncIterator[Entry]:
    """An exported subtree, with relative paths. Every line is checked before the first is handed out.

    A file whose lines stand in another order than an export's is read into memory.
    """
    root = read_header(file, name).root
    start = file.tell()
    last = order("")
    is_sorted = True
    for number, entry in read_entries(file, name, root):
        key = order(relative_to(root, entry.path))
        is_sorted = is_sorted and last <= key
        last = key
        if number % TURN == 0:
            await asyncio.sleep(0)
    file.seek(start)
    relative = (
        entry._replace(path=relative_to(root, entry.path))
        for _, entry in read_entries(file, name, root)
        if ephemerals or entry.kind is not OwnerKind.EPHEMERAL
    )
    for entry in relative if is_sorted else sorted(relative, key=lambda entry: order(entry.path)):
        yield entry


def data_difference(left: bytes, right: bytes) -> list[str]:
    """A few lines that show how two values differ."""
    texts = [_text_lines(data) for data in (left, right)]
    old, new = texts
    if old is None or new is None or (len(old) < 2 and len(new) < 2):
        at = _first_difference(left, right)
        # The piece around the first difference: the rest is alike up to there.
        start = max(0, at - 16)
        mark = "..." if start else ""
        return [f"- {mark}{preview(left, start)}", f"+ {mark}{preview(right, start)}"]
    lines = difflib.unified_diff(old, new, lineterm="", n=1)
    shown = list(islice(lines, 2, 2 + _LINES_MAX + 1))
    return shown if len(shown) <= _LINES_MAX else [*shown[:_LINES_MAX], "..."]


def _first_difference(left: bytes, right: bytes) -> int:
    for at, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return at
    return min(len(left), len(right))


def _text_lines(data: bytes) -> list[str] | None:
    """Lines of printable text; None for what is none."""
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        return None
    return lines if all(line.expandtabs().isprintable() for line in lines) else None
