"""Draws a subtree as the Unix ``tree`` does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corral.cli.shell.subtree.paths import parent_of
from corral.cli.shell.subtree.preview import preview
from corral.jute.owner import OwnerKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.cli.shell.subtree.reading import Node

__all__ = ["Drawing"]


@dataclass(slots=True)
class Drawing:
    """Takes the nodes of a walk, which come level by level, and gives them back as lines, child after parent."""

    root: str
    children: dict[str, list[str]] = field(default_factory=dict)
    """The paths below each path, sorted."""
    labels: dict[str, str] = field(default_factory=dict)

    def add(self, node: Node, *, is_cut: bool) -> None:
        """Take a node; of one that ``is_cut`` the children are not drawn, only counted."""
        if node.path != self.root:
            self.children.setdefault(parent_of(node.path), []).append(node.path)
        self.labels[node.path] = label(node, is_cut=is_cut)

    def paths(self) -> Iterator[tuple[str, str]]:
        """Each path, with what is drawn in front of it."""
        # A tree may be deeper than Python's stack.
        stack: list[tuple[str, str, str]] = [(self.root, "", "")]
        while stack:
            path, front, below = stack.pop()
            yield path, front
            children = self.children.get(path, [])
            for position in range(len(children) - 1, -1, -1):
                is_last = position == len(children) - 1
                branch, rest = ("└── ", "    ") if is_last else ("├── ", "│   ")
                stack.append((children[position], below + branch, below + rest))

    def lines(self) -> Iterator[str]:
        """The drawing."""
        for path, front in self.paths():
            name = path if path == self.root else path.rpartition("/")[2]
            yield f"{front}{name}{self.labels[path]}"


def label(node: Node, *, is_cut: bool) -> str:
    """What stands behind a name."""
    parts: list[str] = []
    stat = node.stat
    if stat.kind is OwnerKind.EPHEMERAL:
        parts.append(f"(ephemeral {stat.ephemeral_owner & (2**64 - 1):#x})")
    if node.data is not None and node.data:
        parts.append(preview(node.data))
    if is_cut and stat.num_children:
        parts.append("[1 child]" if stat.num_children == 1 else f"[{stat.num_children} children]")
    return "".join(f"  {part}" for part in parts)
