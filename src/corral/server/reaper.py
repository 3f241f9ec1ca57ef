"""Deleting what has outlived its use: empty containers and TTL znodes (source: ContainerManager)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corral.jute.ops import OpCode
from corral.jute.owner import CONTAINER_OWNER
from corral.tree.znode import STAT, STAT_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.server.config import TreeConfig
    from corral.server.writes import Writes
    from corral.tree.datatree import DataTree


class Reaper:
    """Looks for znodes that are due and deletes them by transactions, ``container_max_per_minute`` at most."""

    def __init__(self, tree: DataTree, pipeline: Writes, config: TreeConfig) -> None:
        self.tree = tree
        self.pipeline = pipeline
        self.config = config

    @property
    def most_per_check(self) -> int:
        """How many may go at each check, so that a minute's checks stay within the limit."""
        config = self.config
        return max(1, config.container_max_per_minute * config.container_check_interval_ms // 60_000)

    def due(self, wall_ms: int) -> Iterator[bytes]:
        """The znodes that have outlived their use."""
        never_used_ms = self.config.container_max_never_used_interval_ms
        rules = self.tree.owner_rules
        for path, owner in self.tree.special_owners.items():
            node = self.tree.nodes.get(path)
            if node is None or node.child_count:
                continue
            mtime: int = STAT.unpack_from(node.body, len(node.body) - STAT_SIZE)[3]
            if owner == CONTAINER_OWNER:
                was_used = node.children is not None and node.children.cversion > 0
                if was_used or (never_used_ms and wall_ms - mtime > never_used_ms):
                    yield path
            elif wall_ms - mtime > rules.ttl_ms(owner):
                yield path

    def reap(self, wall_ms: int) -> int:
        """Submit the deletions that are due; returns how many."""
        found: list[bytes] = []
        for path in self.due(wall_ms):
            found.append(path)
            if len(found) >= self.most_per_check:
                break
        for path in found:
            self.pipeline.submit(None, 0, 0, OpCode.DELETE_CONTAINER, path, ())
        return len(found)
