"""Quotas: limits a client writes under ``/zookeeper/quota`` and the usage that servers count there (StatsTrack).

The limits of ``/a/b`` are the data of ``/zookeeper/quota/a/b/zookeeper_limits``, its usage that of
``…/zookeeper_stats``. The longest path with limits counts, and only that one; the root cannot carry a quota.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from corral.jute.paths import QUOTA, ZOOKEEPER

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS_NAME: Final = b"zookeeper_limits"
USAGE_NAME: Final = b"zookeeper_stats"


def limits_path(path: bytes) -> bytes:
    return QUOTA + path + b"/" + LIMITS_NAME


def usage_path(path: bytes) -> bytes:
    return QUOTA + path + b"/" + USAGE_NAME


@dataclass(slots=True)
class QuotaText:
    """Limits or usage as written in a znode: numbers of znodes and bytes; -1 is unset."""

    count: int = -1
    size: int = -1
    count_hard_limit: int = -1
    byte_hard_limit: int = -1

    @classmethod
    def parse(cls, data: bytes | None) -> QuotaText:
        """Read ``count=…,bytes=…=;byteHardLimit=…;countHardLimit=…``. ValueError names the pair that is no number."""
        quota = cls()
        names = {
            "count": "count",
            "bytes": "size",
            "countHardLimit": "count_hard_limit",
            "byteHardLimit": "byte_hard_limit",
        }
        for pair in re.split("[,;]+", (data or b"").decode("utf-8", "replace")):
            key, _, value = pair.partition("=")
            if key in names:
                number = value.split("=", 1)[0]
                try:
                    setattr(quota, names[key], int(number or "-1"))
                except ValueError:
                    raise ValueError(f"quota {pair!r} has no number") from None
        return quota

    def encode_usage(self) -> bytes:
        return b"count=%d,bytes=%d" % (self.count, self.size)


class QuotaPaths:
    """The paths that have limits, looked up by the longest prefix."""

    def __init__(self) -> None:
        self._paths: set[bytes] = set()

    def __bool__(self) -> bool:
        return bool(self._paths)

    def __iter__(self) -> Iterator[bytes]:
        return iter(sorted(self._paths))

    def add(self, path: bytes) -> None:
        self._paths.add(path)

    def discard(self, path: bytes) -> None:
        self._paths.discard(path)

    def covering(self, path: bytes) -> bytes | None:
        """The path whose quota counts for ``path``, or None."""
        paths = self._paths
        while path:
            if path in paths:
                return None if path == ZOOKEEPER else path
            path = path[: path.rfind(b"/")] if b"/" in path else b""
        return None
