"""Adds up what subtrees take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corral.cli.shell.subtree.paths import join, relative_to
from corral.jute.owner import OwnerKind

if TYPE_CHECKING:
    from corral.cli.shell.subtree.reading import Node

__all__ = ["Sizes", "Usage", "human"]


@dataclass(slots=True)
class Usage:
    """What a znode and all below it take."""

    znodes: int = 0
    data_bytes: int = 0
    ephemerals: int = 0


@dataclass(slots=True)
class Sizes:
    """Takes the nodes of a walk, and keeps one sum for each subtree down to ``depth`` levels below the root."""

    root: str
    depth: int
    sums: dict[str, Usage] = field(default_factory=dict)

    def add(self, node: Node) -> None:
        """Count a node where it belongs."""
        names = relative_to(self.root, node.path).split("/") if node.path != self.root else []
        for level in range(min(len(names), self.depth) + 1):
            usage = self.sums.setdefault(join(self.root, "/".join(names[:level])), Usage())
            usage.znodes += 1
            usage.data_bytes += node.stat.data_length
            usage.ephemerals += node.stat.kind is OwnerKind.EPHEMERAL

    def ranked(self, by: str) -> list[tuple[str, Usage]]:
        """All sums but the root's; the largest first ``by`` ``bytes`` or ``znodes``, else by ``path``."""
        found = [(path, usage) for path, usage in self.sums.items() if path != self.root]
        if by == "path":
            return sorted(found)
        return sorted(found, key=lambda each: (-(each[1].znodes if by == "znodes" else each[1].data_bytes), each[0]))


def human(size: int) -> str:
    """Bytes with a unit."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
