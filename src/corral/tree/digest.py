"""The digest of the tree, version 2: a sum of per-znode CRC-32 values (source: DigestCalculator).

    znode digest = CRC-32 of path | data | czxid mzxid pzxid ctime mtime version cversion aversion ephemeralOwner
    tree digest  = sum of the digests of all znodes but those below /zookeeper, modulo 2**64

``cversion`` and ``ephemeralOwner`` are the stored forms. The root's path counts as empty.
"""

from __future__ import annotations

import struct
from typing import Final

from corral.jute.checksums import crc32

DIGEST_VERSION: Final = 2
DIGEST_MASK: Final = 2**64 - 1
STAT_FOR_DIGEST: Final = struct.Struct(">qqqqqiiiq")


def counts_for_digest(path: bytes) -> bool:
    """Whether the znode takes part: what is below ``/zookeeper`` differs from server to server."""
    return not path.startswith(b"/zookeeper/")


def content_crc(path: bytes, data: bytes | None) -> int:
    """CRC-32 of path and data, to be continued with the stat."""
    return crc32(data, crc32(path)) if data else crc32(path)
