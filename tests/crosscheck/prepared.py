"""A data directory whose counters stand shortly before they overflow, for the rules that no run would live to see.

It is one snapshot, written here byte by byte from the description of the format, so that neither server's own writer
is believed.

No version comes near -1 in it: Apache's releases up to 3.9.5 count through it, later ones leave it out as Corral does.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.crosscheck.plan import AclEntry, Acls, string

if TYPE_CHECKING:
    from pathlib import Path

LAST_ZXID: Final = 0x1000
MADE_MS: Final = 1_600_000_000_000

HIGHEST_INT: Final = 2**31 - 1
LOWEST_LONG: Final = -(2**63)

RECOVERED_SESSION_ID: Final = 0x0100_0000_0000_1234
RECOVERED_SESSION_TIMEOUT_MS: Final = 600_000

OPEN_ACL_NUMBER: Final = -1
READ_ACL_NUMBER: Final = 1


@dataclass(frozen=True, slots=True)
class _Node:
    path: bytes
    data: bytes | None = b""
    acl: int = OPEN_ACL_NUMBER
    version: int = 0
    cversion: int = 0
    aversion: int = 0
    owner: int = 0

    def encode(self, zxid: int) -> bytes:
        made_ms = MADE_MS + zxid if zxid else 0
        counts = (self.version, self.cversion, self.aversion)
        stat = struct.pack(">qqqqiiiqq", zxid, zxid, made_ms, made_ms, *counts, self.owner, zxid)
        return string(self.path) + string(self.data) + struct.pack(">q", self.acl) + stat


INITIAL: Final = (
    _Node(b"", cversion=1),
    _Node(b"/zookeeper"),
    _Node(b"/zookeeper/quota"),
    _Node(b"/zookeeper/quota/edge"),
    _Node(b"/zookeeper/quota/edge/zookeeper_limits", b"count=1,bytes=1"),
    _Node(b"/zookeeper/quota/edge/zookeeper_stats", b"count=7,bytes=-3"),
    _Node(b"/zookeeper/config", acl=READ_ACL_NUMBER, aversion=-1),
)

EDGE: Final = (
    _Node(b"/edge", b"root"),
    _Node(b"/edge/null", None),
    _Node(b"/edge/version", b"v", version=HIGHEST_INT - 1),
    _Node(b"/edge/low", b"l", version=-(2**31), aversion=-(2**31)),
    _Node(b"/edge/acl", aversion=HIGHEST_INT - 1),
    _Node(b"/edge/children", cversion=HIGHEST_INT - 2),
    _Node(b"/edge/container", cversion=5, owner=LOWEST_LONG),
    _Node(b"/edge/ttl", owner=-(1 << 56) + 100_000),
    _Node(b"/edge/mine", b"mine", owner=RECOVERED_SESSION_ID),
    _Node(b"/edge/orphan", owner=RECOVERED_SESSION_ID + 1),
    _Node(b"/edge/read", b"read", acl=READ_ACL_NUMBER),
)


def snapshot() -> bytes:
    """The file's bytes."""
    read_acl = Acls((AclEntry(1, b"world", b"anyone"),)).entries
    assert read_acl is not None
    written = struct.pack(">4siq", b"ZKSN", 2, -1)
    written += struct.pack(">iqi", 1, RECOVERED_SESSION_ID, RECOVERED_SESSION_TIMEOUT_MS)
    written += struct.pack(">iqi", 1, READ_ACL_NUMBER, len(read_acl))
    written += b"".join(struct.pack(">i", e.perms) + string(e.scheme) + string(e.id) for e in read_acl)
    written += b"".join(node.encode(0) for node in INITIAL)
    written += b"".join(node.encode(number) for number, node in enumerate(EDGE, start=1))
    written += string(b"/")
    for section in (b"", struct.pack(">qiq", 0, 2, 0), struct.pack(">q", LAST_ZXID)):
        written += section
        written += struct.pack(">q", zlib.adler32(written)) + string(b"/")
    return written


def prepare(data_dir: Path) -> None:
    """Write the data directory."""
    directory = data_dir / "version-2"
    directory.mkdir(parents=True)
    (directory / f"snapshot.{LAST_ZXID:x}").write_bytes(snapshot())
