"""One znode in memory.

The reply to getData is kept ready, because reads are what the service is asked most::

    body = int length | data | Stat (68 bytes)          length -1 is null data

The stat at its end is the znode's only copy of its metadata. What children change (cversion, pzxid, numChildren) is
kept in :class:`Children` and written into the body when it is next read. A znode that never had a child has none.
"""

from __future__ import annotations

import struct
from typing import Final

STAT: Final = struct.Struct(">qqqqiiiqiiq")
"""czxid, mzxid, ctime, mtime, version, cversion, aversion, ephemeralOwner, dataLength, numChildren, pzxid."""
STAT_SIZE: Final = STAT.size
LENGTH: Final = struct.Struct(">i")
_CHILD_FIELDS: Final = struct.Struct(">iiqiiq")


class Children:
    """A parent's own part: the paths of its children, how many there ever were, and the last change among them.

    ``stale``: the parent's body does not show the latest change. ``listing``: the encoded vector of names, if built.
    """

    __slots__ = ("cversion", "listing", "paths", "pzxid", "stale")

    def __init__(self, cversion: int, pzxid: int) -> None:
        self.paths: dict[bytes, None] = {}
        self.cversion = cversion
        self.pzxid = pzxid
        self.stale = True
        self.listing: bytes | None = None


class Znode:
    """``acl`` is a number of the AclTable. ``crc`` (of path and data) and ``digest`` are kept once computed."""

    __slots__ = ("acl", "body", "children", "crc", "digest")

    def __init__(self, body: bytes, acl: int, children: Children | None = None) -> None:
        self.body = body
        self.acl = acl
        self.children = children
        self.crc: int | None = None
        self.digest: int | None = None

    @property
    def data(self) -> bytes | None:
        body = self.body
        return None if body[:4] == b"\xff\xff\xff\xff" else body[4:-STAT_SIZE]

    @property
    def data_length(self) -> int:
        return len(self.body) - 4 - STAT_SIZE

    @property
    def child_count(self) -> int:
        return 0 if self.children is None else len(self.children.paths)

    def refreshed(self) -> bytes:
        """The body with what children changed written into its stat."""
        children = self.children
        body = self.body
        if children is None or not children.stale:
            return body
        children.stale = False
        count = len(children.paths)
        _, aversion, owner, length, _, _ = _CHILD_FIELDS.unpack_from(body, len(body) - 32)
        cversion = (2 * children.cversion - count + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        self.body = body = body[:-32] + _CHILD_FIELDS.pack(cversion, aversion, owner, length, count, children.pzxid)
        return body

    def child_names(self, own_path_length: int) -> bytes:
        """The children's names as an encoded vector. ``own_path_length``: bytes of this znode's key."""
        children = self.children
        if children is None:
            return b"\x00\x00\x00\x00"
        if children.listing is None:
            start = own_path_length + 1
            pack = LENGTH.pack
            parts = [pack(len(children.paths))]
            for path in children.paths:
                parts.append(pack(len(path) - start))
                parts.append(path[start:])
            children.listing = b"".join(parts)
        return children.listing
