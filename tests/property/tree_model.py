"""The tree as a reader of the manual would write it: one dictionary, one request at a time, nothing in flight.

It is slow and obvious on purpose. Every request is carried out at once, so what the real tree makes of requests that
are prepared in batches must come to the same. Only hard quotas look at what has been *applied*; the caller says how
far that is (:attr:`ModelTree.applied`).
"""

from __future__ import annotations

import ipaddress
import struct
from copy import deepcopy
from dataclasses import dataclass, field
from zlib import crc32

from corral.jute.records import Acl

ANYONE = (31, "world", "anyone")
Entry = tuple[int, str, str]
Event = tuple[int, int, bytes, tuple[Entry, ...]]
"""zxid, type, path, and the ACL that must grant READ."""

READ, WRITE, CREATE, DELETE, ADMIN = 1, 2, 4, 8, 16
CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4
BAD_ARGUMENTS, UNIMPLEMENTED, INCONSISTENT = -8, -6, -2
NO_NODE, NO_AUTH, BAD_VERSION, EPHEMERAL_PARENT, EXISTS, NOT_EMPTY = -101, -102, -103, -108, -110, -111
EXPIRED, INVALID_ACL, QUOTA_EXCEEDED = -112, -114, -125
CONTAINER = -(2**63)
SPECIAL = (b"/", b"/zookeeper", b"/zookeeper/quota", b"/zookeeper/config")


class RefusedError(Exception):
    """The request is answered by an error code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Node:
    """A znode. ``cversion`` counts creations of children, ``owner`` is as stored on disk."""

    data: bytes | None = b""
    acl: tuple[Entry, ...] = (ANYONE,)
    czxid: int = 0
    mzxid: int = 0
    pzxid: int = 0
    ctime: int = 0
    mtime: int = 0
    version: int = 0
    cversion: int = 0
    aversion: int = 0
    owner: int = 0


@dataclass(frozen=True)
class Result:
    """What comes of one request: an error code or a reply's body, and what watchers are told of."""

    code: int = 0
    body: bytes = b""
    events: tuple[tuple[int, bytes, tuple[Entry, ...], bytes, tuple[Entry, ...]], ...] = ()
    doomed: frozenset[bytes] = frozenset()


@dataclass
class Who:
    """Who asks: a session and what its connection has proved."""

    session: int
    ids: tuple[tuple[str, str], ...]


@dataclass
class ModelTree:
    """See the module's text. ``extended``: TTL znodes may be made; ``enforce``: hard quotas refuse."""

    extended: bool = False
    enforce: bool = False
    nodes: dict[bytes, Node] = field(default_factory=dict)
    sessions: dict[int, int] = field(default_factory=dict)
    applied: dict[bytes, tuple[bytes | None, bytes | None]] = field(default_factory=dict)
    limited: set[bytes] = field(default_factory=set)
    applied_limited: set[bytes] = field(default_factory=set)
    events: list[tuple[int, bytes, tuple[Entry, ...], bytes, tuple[Entry, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for path in SPECIAL:
            self.nodes[path] = Node()
        self.nodes[b"/zookeeper/config"] = Node(aversion=-1, acl=((READ, "world", "anyone"),))

    # What there is

    def children(self, path: bytes) -> list[bytes]:
        return [other for other in self.nodes if other != b"/" and parent(other) == path]

    def kind(self, owner: int) -> str:
        if owner == 0:
            return "persistent"
        if owner == CONTAINER:
            return "container"
        if self.extended and owner < 0 and (owner >> 56) & 0xFF == 0xFF:
            return "ttl"
        return "ephemeral"

    def stat(self, path: bytes) -> bytes:
        """The eleven fields as a client sees them."""
        node = self.nodes[path]
        count = len(self.children(path))
        return struct.pack(
            ">qqqqiiiqiiq",
            node.czxid,
            node.mzxid,
            node.ctime,
            node.mtime,
            node.version,
            2 * node.cversion - count,
            node.aversion,
            node.owner if self.kind(node.owner) == "ephemeral" else 0,
            len(node.data or b""),
            count,
            node.pzxid,
        )

    def digest(self) -> int:
        """The sum over all znodes but those below /zookeeper."""
        total = 0
        for path, node in self.nodes.items():
            if path.startswith(b"/zookeeper/"):
                continue
            stat = struct.pack(
                ">qqqqqiiiq",
                node.czxid,
                node.mzxid,
                node.pzxid,
                node.ctime,
                node.mtime,
                node.version,
                node.cversion,
                node.aversion,
                node.owner,
            )
            total += crc32((b"" if path == b"/" else path) + (node.data or b"") + stat)
        return total % 2**64

    def ephemerals(self, session: int) -> set[bytes]:
        return {path for path, node in self.nodes.items() if node.owner == session != 0}

    # One request

    def execute(self, who: Who, op: str, zxid: int, now: int, **given: object) -> Result:
        """Carry out one request; a refused one changes nothing."""
        self.events = []
        before = deepcopy((self.nodes, self.sessions, self.limited))
        doomed: frozenset[bytes] = frozenset()
        try:
            if op == "multi":
                parts = given["parts"]
                assert isinstance(parts, list)
                body = self._multi(who, parts, zxid, now, before)
            elif op == "closeSession":
                doomed = frozenset(self.ephemerals(who.session))
                self.sessions.pop(who.session, None)
                for path in sorted(doomed):
                    self._remove(path, zxid)
                body = b""
            else:
                body = self._one(who, op, zxid, now, given)
        except RefusedError as error:
            self.nodes, self.sessions, self.limited = before
            return Result(error.code)
        return Result(0, body, tuple(self.events), doomed)

    def _multi(
        self, who: Who, parts: list[tuple[str, dict[str, object]]], zxid: int, now: int, before: tuple[object, ...]
    ) -> bytes:
        done: list[bytes] = []
        for number, (op, given) in enumerate(parts):
            try:
                body = self._one(who, op, zxid, now, given)
            except RefusedError as error:
                self.nodes, self.sessions, self.limited = deepcopy(before)  # type: ignore[assignment]
                self.events = []
                codes = [0] * number + [error.code] + [INCONSISTENT] * (len(parts) - number - 1)
                return b"".join(struct.pack(">i?ii", -1, False, code, code) for code in codes) + END_OF_MULTI
            kind = {"create": 1, "delete": 2, "setData": 5, "check": 13}.get(op, 15)
            done.append(struct.pack(">i?i", kind, False, 0) + body)
        return b"".join(done) + END_OF_MULTI

    def _one(self, who: Who, op: str, zxid: int, now: int, given: dict[str, object]) -> bytes:
        if op in ("create", "create2", "createContainer", "createTTL"):
            return self._create(who, op, zxid, now, **given)  # type: ignore[arg-type]
        if op == "delete":
            return self._delete(who, zxid, **given)  # type: ignore[arg-type]
        if op == "setData":
            return self._set_data(who, zxid, now, **given)  # type: ignore[arg-type]
        if op == "setACL":
            return self._set_acl(who, **given)  # type: ignore[arg-type]
        if op == "check":
            return self._check(who, **given)  # type: ignore[arg-type]
        assert op == "deleteContainer"
        return self._delete_container(zxid, **given)  # type: ignore[arg-type]

    def _create(
        self,
        who: Who,
        op: str,
        zxid: int,
        now: int,
        path: bytes,
        data: bytes | None,
        acl: list[Entry] | None,
        flags: int,
        ttl: int = -1,
    ) -> bytes:
        if not 0 <= flags <= 6:
            raise RefusedError(BAD_ARGUMENTS)
        wants_ttl = flags in (5, 6)
        if wants_ttl and not self.extended:
            raise RefusedError(UNIMPLEMENTED)
        if wants_ttl and not 1 <= ttl <= 0xFFFFFFFFFF:
            raise RefusedError(BAD_ARGUMENTS)
        if op == "createTTL" and not wants_ttl:
            raise RefusedError(BAD_ARGUMENTS)
        self._check_session(who)
        if b"/" not in path or b"\0" in path:
            raise RefusedError(BAD_ARGUMENTS)
        stored = self._complete_acl(who, acl)
        above = self.nodes.get(parent(path))
        if above is None:
            raise RefusedError(NO_NODE)
        self._check_acl(who, above.acl, CREATE)
        if flags in (2, 3, 6):
            path += b"%010d" % above.cversion
        check_path(path)
        if path in self.nodes:
            raise RefusedError(EXISTS)
        if self.kind(above.owner) == "ephemeral":
            raise RefusedError(EPHEMERAL_PARENT)
        self._check_quota(path, len(data or b""), 1)
        owner = 0
        if op == "createContainer":
            owner = CONTAINER
        elif op == "createTTL":
            owner = (0xFF << 56 | ttl) - 2**64
        elif flags in (1, 3):
            owner = who.session
        above.cversion += 1
        above.pzxid = zxid
        self.nodes[path] = Node(data, stored, zxid, zxid, zxid, now, now, owner=owner)
        stat = self.stat(path)
        self._note_quota_node(path, present=True)
        self._use(path, len(data or b""), 1)
        self.events.append((CREATED, path, stored, parent(path), above.acl))
        answer = struct.pack(">i", len(path)) + path
        return answer if op == "create" else answer + stat

    def _delete(self, who: Who, zxid: int, path: bytes, version: int) -> bytes:
        self._check_session(who)
        if b"/" not in path or b"\0" in path or path in SPECIAL:
            raise RefusedError(BAD_ARGUMENTS)
        above = self.nodes.get(parent(path))
        if above is None:
            raise RefusedError(NO_NODE)
        self._check_acl(who, above.acl, DELETE)
        node = self._node(path)
        check_version(node.version, version)
        if self.children(path):
            raise RefusedError(NOT_EMPTY)
        self._remove(path, zxid)
        return b""

    def _delete_container(self, zxid: int, path: bytes) -> bytes:
        node = self._node(path)
        if self.children(path):
            raise RefusedError(NOT_EMPTY)
        if self.kind(node.owner) == "ephemeral":
            raise RefusedError(BAD_VERSION)
        self._remove(path, zxid)
        return b""

    def _remove(self, path: bytes, zxid: int) -> None:
        node = self.nodes.pop(path)
        above = self.nodes[parent(path)]
        above.pzxid = zxid
        self._note_quota_node(path, present=False)
        self._use(path, -len(node.data or b""), -1)
        self.events.append((DELETED, path, node.acl, parent(path), above.acl))

    def _set_data(self, who: Who, zxid: int, now: int, path: bytes, data: bytes | None, version: int) -> bytes:
        self._check_session(who)
        check_path(path)
        node = self._node(path)
        self._check_acl(who, node.acl, WRITE)
        difference = len(data or b"") - len(node.data or b"")
        self._check_quota(path, difference, 0)
        check_version(node.version, version)
        node.data, node.mzxid, node.mtime = data, zxid, now
        node.version += 1
        stat = self.stat(path)
        self._use(path, difference, 0)
        self.events.append((CHANGED, path, node.acl, b"", ()))
        return stat

    def _set_acl(self, who: Who, path: bytes, acl: list[Entry] | None, version: int) -> bytes:
        self._check_session(who)
        check_path(path)
        stored = self._complete_acl(who, acl)
        node = self._node(path)
        self._check_acl(who, node.acl, ADMIN)
        check_version(node.aversion, version)
        node.acl = stored
        node.aversion += 1
        return self.stat(path)

    def _check(self, who: Who, path: bytes, version: int) -> bytes:
        self._check_session(who)
        check_path(path)
        node = self._node(path)
        self._check_acl(who, node.acl, READ)
        check_version(node.version, version)
        return b""

    # Rules

    def _check_session(self, who: Who) -> None:
        if who.session not in self.sessions:
            raise RefusedError(EXPIRED)

    def _node(self, path: bytes) -> Node:
        node = self.nodes.get(path)
        if node is None:
            raise RefusedError(NO_NODE)
        return node

    def _check_acl(self, who: Who, acl: tuple[Entry, ...], wanted: int) -> None:
        if not permits(acl, wanted, who.ids):
            raise RefusedError(NO_AUTH)

    def _complete_acl(self, who: Who, acl: list[Entry] | None) -> tuple[Entry, ...]:
        if not acl:
            raise RefusedError(INVALID_ACL)
        stored: list[Entry] = []
        for entry in dict.fromkeys(acl):
            perms, scheme, name = entry
            if scheme == "auth":
                own = [(perms, *one) for one in who.ids if one[0] == "digest"]
                if not own:
                    raise RefusedError(INVALID_ACL)
                stored.extend(own)
            elif may_stand_in_acl(scheme, name):
                stored.append(entry)
            else:
                raise RefusedError(INVALID_ACL)
        return tuple(stored)

    # Quotas

    def _note_quota_node(self, path: bytes, *, present: bool) -> None:
        above, name = parent(path), path.rsplit(b"/", 1)[1]
        if not above.startswith(b"/zookeeper/quota/"):
            return
        limited = above[len(b"/zookeeper/quota") :]
        if name == b"zookeeper_limits":
            (self.limited.add if present else self.limited.discard)(limited)
        elif name == b"zookeeper_stats" and present:
            self.nodes[path].data = usage_text(*self.usage(limited))

    def usage(self, limited: bytes) -> tuple[int, int]:
        """How many znodes are in the subtree, and the bytes of data they hold."""
        inside = [node for path, node in self.nodes.items() if path == limited or path.startswith(limited + b"/")]
        return len(inside), sum(len(node.data or b"") for node in inside)

    def _use(self, path: bytes, size: int, count: int) -> None:
        limited = covering(self.limited, path)
        node = self.nodes.get(usage_path(limited)) if limited else None
        if node is not None:
            numbers = quota_numbers(node.data)
            node.data = usage_text(numbers.get("count", -1) + count, numbers.get("bytes", -1) + size)

    def quota_view(self) -> tuple[dict[bytes, tuple[bytes | None, bytes | None]], set[bytes]]:
        """Limits and usage of each path that has a quota, to be compared with later."""
        view: dict[bytes, tuple[bytes | None, bytes | None]] = {}
        for limited in self.limited:
            limits = self.nodes.get(b"/zookeeper/quota" + limited + b"/zookeeper_limits")
            usage = self.nodes.get(usage_path(limited))
            if limits is not None and usage is not None:
                view[limited] = (limits.data, usage.data)
        return view, set(self.limited)

    def _check_quota(self, path: bytes, size: int, count: int) -> None:
        limited = covering(self.applied_limited, path)
        if not self.enforce or limited is None or limited not in self.applied:
            return
        limits, usage = (quota_numbers(text) for text in self.applied[limited])
        most_znodes, most_bytes = limits.get("countHardLimit", -1), limits.get("byteHardLimit", -1)
        if count and most_znodes >= 0 and usage.get("count", -1) + count > most_znodes:
            raise RefusedError(QUOTA_EXCEEDED)
        if size and most_bytes >= 0 and usage.get("bytes", -1) + size > most_bytes:
            raise RefusedError(QUOTA_EXCEEDED)


END_OF_MULTI = struct.pack(">i?i", -1, True, -1)


def parent(path: bytes) -> bytes:
    return path.rsplit(b"/", 1)[0] or b"/"


def check_version(current: int, expected: int) -> None:
    if expected not in (-1, current):
        raise RefusedError(BAD_VERSION)


def check_path(path: bytes) -> None:
    """What PathUtils.validatePath says, character by character."""
    if path == b"/":
        return
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        raise RefusedError(BAD_ARGUMENTS) from None
    elements = text.split("/")
    if elements[0] != "" or len(elements) < 2 or any(element in ("", ".", "..") for element in elements[1:]):
        raise RefusedError(BAD_ARGUMENTS)
    for char in text:
        number = ord(char)
        if number <= 0x1F or 0x7F <= number <= 0x9F or 0xD800 <= number <= 0xF8FF or number >= 0xFFF0:
            raise RefusedError(BAD_ARGUMENTS)


def may_stand_in_acl(scheme: str, name: str) -> bool:
    if scheme == "ip":
        return is_network(name)
    return (scheme, name) == ("world", "anyone") or (scheme == "digest" and name.count(":") == 1)


def is_network(name: str) -> bool:
    try:
        ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False
    return True


def permits(acl: tuple[Entry, ...], wanted: int, ids: tuple[tuple[str, str], ...]) -> bool:
    """Whether somebody with these ids may do it."""
    if any(scheme == "super" for scheme, _ in ids):
        return True
    for perms, scheme, name in acl:
        if not perms & wanted:
            continue
        if (scheme, name) == ("world", "anyone"):
            return True
        for own_scheme, own in ids:
            if own_scheme != scheme:
                continue
            if scheme == "ip":
                if ipaddress.ip_address(own) in ipaddress.ip_network(name, strict=False):
                    return True
            elif own == name:
                return True
    return False


def usage_path(limited: bytes) -> bytes:
    return b"/zookeeper/quota" + limited + b"/zookeeper_stats"


def usage_text(count: int, size: int) -> bytes:
    return f"count={count},bytes={size}".encode()


def quota_numbers(text: bytes | None) -> dict[str, int]:
    numbers = {}
    for pair in (text or b"").decode().replace(";", ",").split(","):
        key, _, value = pair.partition("=")
        if value.strip("="):
            numbers[key] = int(value.strip("="))
    return numbers


def covering(limited: set[bytes], path: bytes) -> bytes | None:
    """The longest of the limited paths that is ``path`` or above it."""
    above = [each for each in limited if path == each or path.startswith(each + b"/")]
    return max(above, key=len, default=None)


def entries(acl: tuple[Acl, ...] | list[Acl]) -> tuple[Entry, ...]:
    """ACL records as the plain tuples of this model."""
    return tuple((each.perms, each.id.scheme or "", each.id.id or "") for each in acl)


@dataclass
class ModelWatches:
    """Watches as three-part facts in two sets; events are handed out by looking at every one of them."""

    data: set[tuple[bytes, str, str]] = field(default_factory=set)
    child: set[tuple[bytes, str, str]] = field(default_factory=set)
    told: dict[str, list[Event]] = field(default_factory=dict)

    def trigger(
        self,
        zxid: int,
        event: int,
        path: bytes,
        acl: tuple[Entry, ...],
        above: bytes,
        above_acl: tuple[Entry, ...],
    ) -> None:
        """Tell everybody whom a change concerns."""
        already = self._tell(self.data, (zxid, event, path, acl), set())
        if event == CHANGED:
            return
        if event == DELETED:
            self._tell(self.child, (zxid, event, path, acl), already)
        self._tell(self.child, (zxid, CHILDREN, above, above_acl), set())

    def _tell(self, table: set[tuple[bytes, str, str]], event: Event, but: set[str]) -> set[str]:
        path = event[2]
        recipients: set[str] = set()
        for watched, watcher, mode in list(table):
            if watched == path:
                recipients.add(watcher)
                if mode == "once":
                    table.discard((watched, watcher, mode))
            elif mode == "recursive" and watched and (watched == b"/" or path.startswith(watched + b"/")):
                recipients.add(watcher)
        for watcher in recipients - but:
            self.told.setdefault(watcher, []).append(event)
        return recipients

    def remove(self, watcher: str, path: bytes, kind: int) -> bool:
        data = {1: (), 2: ("once",), 3: ("once", "persistent", "recursive"), 4: ("persistent",), 5: ("recursive",)}
        child = {1: ("once",), 2: (), 3: ("once", "persistent"), 4: ("persistent",), 5: ()}
        gone_data = {(path, watcher, mode) for mode in data[kind]} & self.data
        gone_child = {(path, watcher, mode) for mode in child[kind]} & self.child
        self.data -= gone_data
        self.child -= gone_child
        return bool(gone_data or gone_child)

    def has(self, watcher: str, path: bytes, kind: int) -> bool:
        return deepcopy(self).remove(watcher, path, kind)

    @property
    def count(self) -> int:
        """A watcher counts once for each path and table, in however many modes it watches."""
        return sum(len({(path, watcher) for path, watcher, _ in table}) for table in (self.data, self.child))

    def forget(self, watcher: str) -> None:
        self.data = {each for each in self.data if each[1] != watcher}
        self.child = {each for each in self.child if each[1] != watcher}
