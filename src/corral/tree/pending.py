"""What znodes will be once the transactions prepared so far are applied.

Requests are prepared before those ahead of them are applied. The states they lead to are kept in generations: the
batch that is being gathered and those that are under way to the log. When a batch has been applied its generation is
dropped whole. Within its generation a state is changed in place; an older generation's is copied first.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from corral.jute.checksums import crc32
from corral.jute.paths import QUOTA, ROOT
from corral.tree.digest import DIGEST_MASK, STAT_FOR_DIGEST, content_crc, counts_for_digest
from corral.tree.znode import LENGTH, STAT, STAT_SIZE

if TYPE_CHECKING:
    from corral.jute.records import Acl
    from corral.tree.datatree import DataTree


SETTLED_MAX: Final = 10_000
"""States that are kept after they were applied."""
_OWNER_TO_PZXID = struct.Struct(">qiiq").unpack_from


class Pending:
    """A znode's coming state.

    ``body`` is as in :class:`~corral.tree.znode.Znode`, None if the znode will be gone; what children change stands
    beside it. ``owner`` is the stored form. ``crc`` is that of path and data, ``digest`` the znode's whole share.
    """

    __slots__ = ("acl", "body", "child_count", "crc", "cversion", "digest", "owner", "pzxid")

    body: bytes | None
    acl: tuple[Acl, ...]
    owner: int
    cversion: int
    pzxid: int
    child_count: int
    crc: int
    digest: int

    def copy(self) -> Pending:
        other = Pending()
        other.body = self.body
        other.acl = self.acl
        other.owner = self.owner
        other.cversion = self.cversion
        other.pzxid = self.pzxid
        other.child_count = self.child_count
        other.crc = self.crc
        other.digest = self.digest
        return other

    @property
    def version(self) -> int:
        assert self.body is not None
        version: int = LENGTH.unpack_from(self.body, len(self.body) - 36)[0]
        return version

    @property
    def aversion(self) -> int:
        assert self.body is not None
        aversion: int = LENGTH.unpack_from(self.body, len(self.body) - 28)[0]
        return aversion

    @property
    def data_length(self) -> int:
        assert self.body is not None
        return len(self.body) - 4 - STAT_SIZE


class PendingStates:
    """The generations over a tree. ``digest`` is the tree's digest after everything prepared so far."""

    def __init__(self, tree: DataTree, *, digests: bool) -> None:
        self.tree = tree
        self.digests = digests
        self.digest = tree.digest
        self.settled: dict[bytes, Pending] = {}
        """States as applied that were changed lately and may well be again; only ever a copy of what the tree says."""
        self.unlike: set[bytes] = set()
        """Paths whose states differ from what the tree will say: counters of children that have run over."""
        self.gathered: dict[bytes, Pending] = {}
        self.under_way: deque[dict[bytes, Pending]] = deque()
        """Newest first."""
        self.before_multi: dict[bytes, Pending] = {}
        """While a multi is prepared, what was gathered before it: its own changes may yet be thrown away."""
        self._digest_before_multi = 0

    def hand_over(self) -> None:
        """The gathered batch goes to the log; a new one begins."""
        self.under_way.appendleft(self.gathered)
        self.gathered = {}

    def applied(self) -> None:
        """The oldest batch that was under way is in the tree."""
        settled = self.settled
        settled.update(self.under_way.pop())
        if len(settled) > SETTLED_MAX:
            settled.clear()
        for path in self.unlike:
            settled.pop(path, None)

    def begin_multi(self) -> None:
        self.before_multi, self.gathered = self.gathered, {}
        self._digest_before_multi = self.digest

    def roll_back_multi(self) -> None:
        """Forget what the multi has changed so far."""
        self.gathered.clear()
        self.digest = self._digest_before_multi

    def end_multi(self) -> None:
        self.before_multi.update(self.gathered)
        self.gathered, self.before_multi = self.before_multi, {}

    def find(self, path: bytes) -> Pending | None:
        """The state ``path`` will have, or None if it will not exist."""
        if path == b"/":
            path = ROOT
        state = self.gathered.get(path) or self.before_multi.get(path)
        if state is None:
            for generation in self.under_way:
                state = generation.get(path)
                if state is not None:
                    return state if state.body is not None else None
            state = self.settled.get(path)
            # Usage znodes of quotas change without any transaction: theirs may be out of date.
            if state is None or path.startswith(QUOTA):
                return self.load(path)
        return state if state.body is not None else None

    def own(self, path: bytes, state: Pending) -> Pending:
        """``state`` itself if it may be changed in place, else a copy."""
        if path == b"/":
            path = ROOT
        if path in self.before_multi:
            return state.copy()
        for generation in self.under_way:
            if path in generation:
                return state.copy()
        self.settled.pop(path, None)
        return state

    def take(self, path: bytes) -> Pending | None:
        """What :meth:`find` and :meth:`own` give, one after the other: most writes ask for just that."""
        if self.before_multi or path in self.gathered:
            state = self.find(path)
            return None if state is None else self.own(path, state)
        for generation in self.under_way:
            state = generation.get(path)
            if state is not None:
                return state.copy() if state.body is not None else None
        state = self.settled.pop(path, None)
        if state is None or path.startswith(QUOTA):
            return self.load(path)
        return state if state.body is not None else None

    def load(self, path: bytes) -> Pending | None:
        """The state as applied."""
        tree = self.tree
        node = tree.nodes.get(path)
        if node is None:
            return None
        state = Pending()
        state.body = body = node.body
        acl = node.acl
        state.acl = tree.acls.entries(acl)
        children = node.children
        if children is None:
            owner, _, _, pzxid = _OWNER_TO_PZXID(body, len(body) - 24)
            state.owner = tree.special_owners.get(path, owner) if tree.special_owners else owner
            state.cversion = state.child_count = 0
            state.pzxid = pzxid
        else:
            state.owner = tree.raw_owner(path, node)
            state.cversion = children.cversion
            state.pzxid = children.pzxid
            state.child_count = len(children.paths)
        if not self.digests:
            state.crc = state.digest = 0
            return state
        crc, digest = node.crc, node.digest
        if crc is None:
            node.crc = crc = content_crc(path, body[4:-STAT_SIZE])
            digest = None
        state.crc = crc
        state.digest = self.digest_of(path, state) if digest is None else digest
        return state

    def digest_of(self, path: bytes, state: Pending) -> int:
        """The share of the znode in the tree's digest."""
        if not counts_for_digest(path):
            return 0
        body = state.body
        assert body is not None
        czxid, mzxid, ctime, mtime, version, _, aversion, _, _, _, _ = STAT.unpack_from(body, len(body) - STAT_SIZE)
        return crc32(
            STAT_FOR_DIGEST.pack(
                czxid, mzxid, state.pzxid, ctime, mtime, version, state.cversion, aversion, state.owner
            ),
            state.crc,
        )

    def store(self, path: bytes, state: Pending) -> None:
        """Let ``state``, changed since it was found, be what comes of ``path``."""
        if self.digests:
            digest = self.digest_of(path, state)
            self.digest = self.digest + digest - state.digest & DIGEST_MASK
            state.digest = digest
        self.gathered[ROOT if path == b"/" else path] = state

    def store_gone(self, path: bytes, state: Pending) -> None:
        """``path`` will not exist."""
        gone = Pending()
        gone.body = None
        gone.crc = gone.digest = 0
        self.digest = self.digest - state.digest & DIGEST_MASK
        self.gathered[path] = gone
