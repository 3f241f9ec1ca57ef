"""Quotas as ``mntr`` shows them: limits and usage, summed up for each top-level znode (source: QuotaMetricsUtils)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corral.tree.quota import QuotaText, limits_path, usage_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.tree.datatree import DataTree


def namespace(path: bytes) -> str:
    """The name of the top-level znode that ``path`` is or lies under; empty for the root."""
    return path.split(b"/", 2)[1].decode("utf-8", "replace")


def quota_figures(tree: DataTree) -> Iterator[tuple[str, object]]:
    """Names and values. A hard limit counts where there is one, the soft one otherwise; -1 is no limit."""
    sums: dict[tuple[str, str], int] = {}

    def add(path: bytes, what: str, value: int) -> None:
        key = (namespace(path), what)
        sums[key] = sums.get(key, 0) + value

    for path in tree.quotas:
        limits = _read(tree, limits_path(path))
        usage = _read(tree, usage_path(path))
        if limits is not None:
            add(path, "count_limit", limits.count_hard_limit if limits.count_hard_limit > -1 else limits.count)
            add(path, "bytes_limit", limits.byte_hard_limit if limits.byte_hard_limit > -1 else limits.size)
        if usage is not None:
            add(path, "count_usage", usage.count)
            add(path, "bytes_usage", usage.size)
    for (name, what), value in sums.items():
        yield f"{name}_quota_{what}_per_namespace", value


def _read(tree: DataTree, path: bytes) -> QuotaText | None:
    node = tree.nodes.get(path)
    if node is None:
        return None
    try:
        return QuotaText.parse(node.data)
    except ValueError:
        # Clients may write anything there; it limits nothing.
        return None
