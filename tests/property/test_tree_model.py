"""The tree, driven by the write pipeline, against the obvious model of :mod:`tests.property.tree_model`.

Requests are prepared in batches while earlier batches wait for the disk, snapshots are encoded between the applies,
and in the end what was logged so far must give the same tree again: from nothing, and from every fuzzy snapshot.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from zlib import adler32

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from tests.property.tree_model import ModelTree, ModelWatches, Result, Who, entries, parent

from corral.jute.errors import ErrorCode, KeeperError
from corral.jute.ops import OpCode, WatcherType
from corral.jute.owner import OwnerRules
from corral.jute.records import (
    Acl,
    CloseSessionTxn,
    CreateRequest,
    CreateTtlRequest,
    Id,
    MultiHeader,
    PathVersionRequest,
    SetAclRequest,
    SetDataRequest,
)
from corral.server.pipeline import WritePipeline
from corral.storage.snapshot import SnapshotEncoder, SnapshotReader, load_tree, seal
from corral.tree.acl import DIGEST, IP, AccessControl
from corral.tree.datatree import DataTree
from corral.tree.prepare import Preparer
from corral.tree.watches import WatchTables

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.jute.ops import EventType

TXN_HEADER = struct.Struct(">qiqqi")
OPS = {
    "create": OpCode.CREATE,
    "create2": OpCode.CREATE2,
    "createContainer": OpCode.CREATE_CONTAINER,
    "createTTL": OpCode.CREATE_TTL,
    "delete": OpCode.DELETE,
    "setData": OpCode.SET_DATA,
    "setACL": OpCode.SET_ACL,
    "check": OpCode.CHECK,
    "deleteContainer": OpCode.DELETE_CONTAINER,
    "multi": OpCode.MULTI,
    "closeSession": OpCode.CLOSE_SESSION,
}
SESSIONS = (0x100000000000001, 0x100000000000002, 0x7E00000000000003)
WATCHERS = ("red", "green", "blue")

names = st.sampled_from([b"a", b"b", b"c", "é".encode()])
plain_paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: b"/" + b"/".join(parts))
odd_bytes = [b"", b"a", b"a/b", b"/a/", b"/a//b", b"/.", b"/a/../b", b"/a/./b", b"/a\0b", b"/a/\x01", b"/\xff", b"//"]
odd_texts = ["/\x7f", "/\ue000", "/a\uffff", "/\U0001f600", "/..a", "/a..", "/ "]
odd_paths = st.sampled_from([*odd_bytes, *(text.encode() for text in odd_texts)])
likely_sessions = st.sampled_from(SESSIONS[:1] * 6 + SESSIONS)
versions = st.sampled_from([-1, -1, -1, 0, 1, 2, 7, -2])
values = st.one_of(st.none(), st.binary(max_size=12))
acl_entries = st.tuples(
    st.sampled_from([31, 31, 1, 2, 4, 8, 16, 15, 30]),
    st.sampled_from(
        [("world", "anyone")] * 3
        + [("digest", "ann:x"), ("digest", "bob:y"), ("auth", ""), ("ip", "10.0.0.0/8"), ("ip", "10.0.0.1")]
    ),
).map(lambda pair: (pair[0], *pair[1]))
bad_acl_entries = st.sampled_from(
    [(31, "world", "other"), (31, "digest", "nobody"), (31, "ip", "10.0.0.0/33"), (31, "super", ""), (31, "x", "y")]
)
acls = st.one_of(
    st.just([(31, "world", "anyone")]),
    st.lists(acl_entries, min_size=1, max_size=3),
    st.lists(acl_entries | bad_acl_entries, max_size=3),
)
identities = st.sampled_from(
    [
        (("ip", "10.0.0.1"),),
        (("ip", "10.9.9.9"), ("digest", "ann:x")),
        (("ip", "127.0.0.1"), ("digest", "bob:y"), ("digest", "ann:x")),
        (("ip", "127.0.0.1"), ("super", "")),
    ]
)
ttls = st.sampled_from([100_000, 1, 0xFFFFFFFFFF, 0, -1, 1 << 40])
limits = st.builds(
    lambda count, size, hard_count, hard_size: (
        b"count=%d,bytes=%d=;byteHardLimit=%d;countHardLimit=%d" % (count, size, hard_size, hard_count)
    ),
    *[st.sampled_from([-1, 0, 2, 4, 20])] * 4,
)


def records_of(acl: list[tuple[int, str, str]]) -> list[Acl]:
    return [Acl(perms, Id(scheme, name)) for perms, scheme, name in acl]


def body_of(op: str, given: dict[str, Any]) -> bytes:
    """The request's encoded body."""
    if op in ("create", "create2", "createContainer"):
        return CreateRequest(given["path"], given["data"], records_of(given["acl"]), given["flags"]).to_bytes()
    if op == "createTTL":
        acl = records_of(given["acl"])
        return CreateTtlRequest(given["path"], given["data"], acl, given["flags"], given["ttl"]).to_bytes()
    if op in ("delete", "check"):
        return PathVersionRequest(given["path"], given["version"]).to_bytes()
    if op == "setData":
        return SetDataRequest(given["path"], given["data"], given["version"]).to_bytes()
    if op == "setACL":
        return SetAclRequest(given["path"], records_of(given["acl"]), given["version"]).to_bytes()
    if op == "deleteContainer":
        path: bytes = given["path"]
        return path
    if op == "multi":
        out = b""
        for number, (part, part_given) in enumerate(given["parts"]):
            code = OPS[part]
            # A client may as well say create and tell the container by its flags.
            if part == "createContainer" and number % 2:
                code = OpCode.CREATE
            out += MultiHeader(code, False, -1).to_bytes() + body_of(part, part_given)
        return out + MultiHeader(-1, True, -1).to_bytes()
    return b""


class Watching:
    """Stands for a connection that watches: writes down what it is told, with the zxid in front."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, bytes, tuple[tuple[int, str, str], ...]]] = []

    def deliver(self, event: EventType, path: bytes, zxid: int, acl: tuple[Acl, ...] | None) -> None:
        assert acl is not None
        self.told.append((zxid, int(event), path, entries(acl)))


class Requesting:
    """Stands for the connection that a write came from: takes its reply."""

    closed = False
    writes_answered = write_latency_ms = 0

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.waiting: deque[None] = deque([None])

    def write_answered(self, arrived_ms: int) -> None:
        self.waiting.popleft()

    def serve_waiting(self) -> None:
        raise AssertionError("nothing waits here")

    def flush(self) -> None:
        assert not self.waiting


class Log(list[tuple[int, bytes]]):
    """Stands for the transaction log."""

    def append(self, zxid: int, entry: bytes) -> None:  # type: ignore[override]
        super().append((zxid, entry))


@dataclass
class Proposed:
    """A write on its way: who waits for the reply, and what the model says will come of it."""

    connection: Requesting | None
    xid: int
    op: str
    zxid: int
    expected: Result
    quotas: tuple[Any, Any]


@dataclass
class RunningSnapshot:
    """A snapshot under way: the encoder and what it gave so far."""

    encoder: SnapshotEncoder
    content: bytearray
    zxid: int


class TreeMachine(RuleBasedStateMachine):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__()
        self.gathered: list[Proposed] = []
        self.under_way: deque[tuple[list[Proposed], Callable[[], None]]] = deque()
        self.log = Log()
        self.snapshot: RunningSnapshot | None = None
        self.now_ms = 1_700_000_000_000
        self.sound = True
        self.had_quotas = False
        self.kicks: list[Callable[[], None]] = []

    @initialize(
        extended=st.booleans(),
        enforce=st.booleans(),
        lists_paths=st.booleans(),
        digests=st.sampled_from([True, True, True, False]),
        batches_max=st.integers(1, 4),
    )
    def begin(self, extended: bool, enforce: bool, lists_paths: bool, digests: bool, batches_max: int) -> None:
        self.digests = digests
        self.owner_rules = OwnerRules(extended_types=extended)
        self.tree = DataTree(self.owner_rules)
        self.tree.keeps_digest = False
        self.preparer = Preparer(
            self.tree,
            AccessControl((DIGEST, IP)),
            digests=digests,
            enforce_quota=enforce,
            close_session_lists_paths=lists_paths,
        )
        self.watches = WatchTables()
        self.pipeline = WritePipeline(
            tree=self.tree,
            preparer=self.preparer,
            watches=self.watches,
            log=cast("Any", self.log),
            clock=cast("Any", self),
            sync=self._sync,
            soon=self.kicks.append,
            logged=lambda count: None,
            session_opened=lambda connection, session: None,
            session_ended=lambda connection, session, xid: None,
        )
        self.pipeline.batches_max = batches_max
        self.lists_paths = lists_paths
        self.model = ModelTree(extended=extended, enforce=enforce)
        self.watchers = {name: Watching() for name in WATCHERS}
        self.model_watches = ModelWatches()
        self._open(SESSIONS[0])
        for path in (b"/a", b"/b", b"/a/b"):
            self._request(
                "create", Who(SESSIONS[0], ()), path=path, data=b"begin", acl=[(31, "world", "anyone")], flags=0
            )

    def wall_ms(self) -> int:
        """The pipeline's clock."""
        return self.now_ms

    def _sync(self, synced: Callable[[], None]) -> None:
        assert len(self.under_way) < self.pipeline.batches_max
        self.under_way.append((self.gathered, synced))
        self.gathered = []

    # Requests

    def _open(self, session: int) -> None:
        self.preparer.open_session(session, 30_000)
        self.model.sessions[session] = 30_000
        self._submit("createSession", Who(session, ()), OpCode.CREATE_SESSION, struct.pack(">i", 30_000), Result())

    def _request(self, op: str, who: Who, **given: Any) -> None:
        zxid = len(self.log) + 1
        expected = self.model.execute(who, op, zxid, self.now_ms, **given)
        self._submit(op, who, OPS[op], body_of(op, given), expected)

    def _submit(self, op: str, who: Who, code: int, body: bytes, expected: Result) -> None:
        connection = None if op in ("deleteContainer", "createSession", "closeSession") else Requesting()
        xid = len(self.log) % 5
        asked = cast("Any", connection)
        self.sound = False
        assert self.pipeline.submit(asked, who.session, xid, code, body, who.ids) is None
        zxid, entry = self.log[-1]
        assert zxid == len(self.log)
        header = TXN_HEADER.unpack_from(entry)
        if header[-1] == OpCode.ERROR:
            (refusal,) = struct.unpack(">i", entry[TXN_HEADER.size :])
            assert refusal == expected.code, f"{op} is refused with {refusal}, not {expected.code}"
        else:
            assert expected.code == 0, f"{op} is not refused with {expected.code}"
            assert header == (who.session, xid, zxid, self.now_ms, code)
            if self.digests:
                assert entry[-12:] == struct.pack(">iQ", 2, self.model.digest())
        if op == "closeSession" and self.lists_paths:
            doomed = CloseSessionTxn.from_bytes(entry[TXN_HEADER.size :]).paths_to_delete
            assert doomed is not None
            assert len(doomed) == len(expected.doomed)
            assert set(doomed) == expected.doomed
        self.gathered.append(Proposed(connection, xid, op, zxid, expected, self.model.quota_view()))
        self.sound = True

    def _path(self, data: st.DataObject, *, new: bool) -> bytes:
        """Mostly a path that exists (or a child of one, if ``new``), sometimes any, sometimes none at all."""
        known = sorted(path for path in self.model.nodes if b"/zookeeper_" not in path)
        above = st.sampled_from(known)
        likely = st.builds(lambda one, name: one.rstrip(b"/") + b"/" + name, above, names) if new else above
        path: bytes = data.draw(st.one_of(*[likely] * 6, plain_paths, odd_paths), label="path")
        return path

    def _operation(self, data: st.DataObject, op: str, *, in_multi: bool) -> dict[str, Any]:
        given: dict[str, Any] = {"path": self._path(data, new=op.startswith("create"))}
        if op.startswith("create"):
            own = {"createContainer": [4], "createTTL": [5, 6]}.get(op, [0, 0, 1, 2, 3])
            flags = st.sampled_from(own)
            given["flags"] = data.draw(
                flags if in_multi else st.one_of(flags, flags, st.integers(-1, 8)), label="flags"
            )
            if given["flags"] in (2, 3, 6) and data.draw(st.booleans(), label="unnamed"):
                given["path"] = parent(given["path"]).rstrip(b"/") + b"/"
            given["data"] = data.draw(values, label="data")
            given["acl"] = data.draw(acls, label="acl")
            if op == "createTTL":
                given["ttl"] = data.draw(ttls, label="ttl")
        elif op == "setACL":
            given["acl"] = data.draw(acls, label="acl")
            given["version"] = data.draw(versions, label="version")
        elif op in ("setData", "delete", "check"):
            given["version"] = data.draw(versions, label="version")
            if op == "setData":
                given["data"] = data.draw(values, label="data")
        return given

    @rule(
        data=st.data(),
        op=st.sampled_from(
            ["create"] * 4
            + ["create2", "create2", "createContainer", "createTTL"]
            + ["delete", "setData", "setACL"] * 2
        ),
        session=likely_sessions,
        ids=identities,
        time_passes=st.integers(0, 1000),
    )
    def request(self, data: st.DataObject, op: str, session: int, ids: Any, time_passes: int) -> None:
        self.now_ms += time_passes
        self._request(op, Who(session, ids), **self._operation(data, op, in_multi=False))

    @rule(data=st.data(), session=likely_sessions, ids=identities)
    def multi(self, data: st.DataObject, session: int, ids: Any) -> None:
        ops = st.sampled_from(
            ["create", "create", "create2", "createContainer", "createTTL", "delete", "setData", "check"]
        )
        chosen = data.draw(st.lists(ops, max_size=4), label="operations")
        parts = [(op, self._operation(data, op, in_multi=True)) for op in chosen]
        self._request("multi", Who(session, ids), parts=parts)

    @precondition(lambda self: any(node.owner for node in self.model.nodes.values()))
    @rule(data=st.data())
    def delete_container(self, data: st.DataObject) -> None:
        special = [path for path, node in self.model.nodes.items() if node.owner]
        # Only what the reaper may choose: never one of the four that every tree has.
        path = data.draw(st.sampled_from(sorted(special)), label="path")
        self._request("deleteContainer", Who(0, ()), path=path)

    @rule(path=st.sampled_from([b"/a", b"/b", b"/a/b"]), text=limits)
    def limit(self, path: bytes, text: bytes) -> None:
        """Set a quota as zkCli does; or change one."""
        self.had_quotas = True
        who = Who(SESSIONS[0], (("super", ""),))
        limits_node = b"/zookeeper/quota" + path + b"/zookeeper_limits"
        if limits_node in self.model.nodes:
            self._request("setData", who, path=limits_node, data=text, version=-1)
            return
        acl = [(31, "world", "anyone")]
        at = b"/zookeeper/quota"
        for name in path[1:].split(b"/"):
            at += b"/" + name
            self._request("create", who, path=at, data=b"", acl=acl, flags=0)
        usage_node = at + b"/zookeeper_stats"
        self._request("create", who, path=usage_node, data=b"count=0,bytes=0", acl=acl, flags=0)
        self._request("create", who, path=limits_node, data=text, acl=acl, flags=0)

    @rule(path=st.sampled_from([b"/a", b"/b", b"/a/b"]))
    def unlimit(self, path: bytes) -> None:
        who = Who(SESSIONS[0], (("super", ""),))
        self._request("delete", who, path=b"/zookeeper/quota" + path + b"/zookeeper_limits", version=-1)
        self._request("delete", who, path=b"/zookeeper/quota" + path + b"/zookeeper_stats", version=-1)

    @rule(session=st.sampled_from(SESSIONS))
    def open_session(self, session: int) -> None:
        if session not in self.model.sessions:
            self._settle()
            self._open(session)

    @rule(session=st.sampled_from(SESSIONS[1:] * 3 + SESSIONS))
    def close_session(self, session: int) -> None:
        self._request("closeSession", Who(session, ()))

    @rule(
        data=st.data(),
        op=st.sampled_from(["create", "create2", "createContainer", "createTTL", "delete", "setData", "setACL"]),
        session=st.sampled_from(SESSIONS),
    )
    def truncated(self, data: st.DataObject, op: str, session: int) -> None:
        body = body_of(op, self._operation(data, op, in_multi=False))
        cut = data.draw(st.integers(0, len(body) - 1), label="cut")
        logged = len(self.log)
        code = self.pipeline.submit(cast("Any", Requesting()), session, 1, OPS[op], body[:cut], ())
        assert code == ErrorCode.MARSHALLING_ERROR
        assert len(self.log) == logged

    # Watches

    @rule(
        data=st.data(),
        watcher=st.sampled_from(WATCHERS),
        how=st.sampled_from(["data", "children", "persistent", "recursive"]),
    )
    def watch(self, data: st.DataObject, watcher: str, how: str) -> None:
        path = self._path(data, new=data.draw(st.booleans()))
        if how == "data":
            self.watches.watch_data(path, self.watchers[watcher])
            self.model_watches.data.add((path, watcher, "once"))
        elif how == "children":
            self.watches.watch_children(path, self.watchers[watcher])
            self.model_watches.child.add((path, watcher, "once"))
        elif how == "persistent":
            self.watches.watch_persistently(path, self.watchers[watcher], recursive=False)
            self.model_watches.data.add((path, watcher, "persistent"))
            self.model_watches.child.add((path, watcher, "persistent"))
        else:
            self.watches.watch_persistently(path, self.watchers[watcher], recursive=True)
            self.model_watches.data.add((path, watcher, "recursive"))

    @rule(data=st.data(), watcher=st.sampled_from(WATCHERS), kind=st.sampled_from(WatcherType))
    def unwatch(self, data: st.DataObject, watcher: str, kind: WatcherType) -> None:
        known = sorted({path for path, _, _ in self.model_watches.data | self.model_watches.child})
        path = data.draw(st.sampled_from([*known, b"/never"]), label="path")
        had = self.model_watches.has(watcher, path, kind)
        assert self.watches.has(path, self.watchers[watcher], kind) == had
        assert self.watches.remove(path, self.watchers[watcher], kind) == had
        assert self.model_watches.remove(watcher, path, kind) == had
        assert not self.watches.has(path, self.watchers[watcher], kind)

    @rule(watcher=st.sampled_from(WATCHERS))
    def forget_watcher(self, watcher: str) -> None:
        self.watches.forget(self.watchers[watcher])
        self.model_watches.forget(watcher)

    # The pipeline

    @precondition(lambda self: self.kicks)
    @rule()
    def hand_over(self) -> None:
        """The event loop comes round: what has gathered goes to the disk, unless enough is on its way."""
        kicks = list(self.kicks)
        self.kicks.clear()
        for kick in kicks:
            kick()

    @precondition(lambda self: self.under_way)
    @rule()
    def apply(self) -> None:
        """The oldest batch is on disk."""
        batch, synced = self.under_way.popleft()
        self.sound = False
        synced()
        self.model.applied, self.model.applied_limited = batch[-1].quotas
        for proposed in batch:
            for event in proposed.expected.events:
                self.model_watches.trigger(proposed.zxid, *event)
            if proposed.connection is not None:
                reply = b"".join(proposed.connection.out)
                expected = proposed.expected
                assert reply == (
                    struct.pack(">iiqi", 16 + len(expected.body), proposed.xid, proposed.zxid, expected.code)
                    + expected.body
                ), proposed.op
        closings = {proposed.zxid for proposed in batch if proposed.op == "closeSession"}
        for name, watcher in self.watchers.items():
            told = self.model_watches.told.get(name, [])
            assert _settled(watcher.told, closings) == _settled(told, closings)
            # Compared once is enough.
            watcher.told.clear()
            told.clear()
        assert self.watches.count == self.model_watches.count
        if self.digests:
            claimed = self.tree.digest
            self.tree.recompute_digest()
            assert self.tree.digest == claimed
        if not self.gathered and not self.under_way:
            self._compare_with_model()
        self.sound = True

    def _settle(self) -> None:
        while self.gathered or self.under_way:
            while not self.under_way:
                self.hand_over()
            self.apply()

    def _compare_with_model(self) -> None:
        tree, model = self.tree, self.model
        assert {path or b"/" for path, _ in tree.walk()} == set(model.nodes)
        for path, node in model.nodes.items():
            found = tree.nodes[path]
            assert found.data == node.data, path
            assert tree.stat(path) == model.stat(path), path
            assert entries(tree.acls.entries(found.acl)) == node.acl, path
            assert tree.raw_owner(path, found) == node.owner, path
            assert tree.descendants(path) == sum(
                1 for other in model.nodes if other != path and other.startswith(path.rstrip(b"/") + b"/")
            )
            encoded = b"".join(struct.pack(">i", len(name)) + name for name in _listed(tree, path))
            key_length = 0 if path == b"/" else len(path)
            assert found.child_names(key_length) == struct.pack(">i", len(model.children(path))) + encoded
        assert tree.sessions == model.sessions
        kinds = {path: model.kind(node.owner) for path, node in model.nodes.items() if node.owner}
        assert {(owner, path) for owner, paths in tree.ephemerals.items() for path in paths} == {
            (model.nodes[path].owner, path) for path, kind in kinds.items() if kind == "ephemeral"
        }
        assert tree.special_owners == {
            path: model.nodes[path].owner for path, kind in kinds.items() if kind != "ephemeral"
        }
        # As Apache's, it loses count of usage znodes.
        if not self.had_quotas:
            size = 1 + sum(len(path.decode()) + node.data_length for path, node in tree.walk())
            assert tree.data_size == size
        assert {number for number, _ in tree.acls.items()} == {node.acl for _, node in tree.walk()} - {-1}

    # Replay and snapshots

    @precondition(lambda self: self.snapshot is None)
    @rule(digests=st.booleans(), last_zxid=st.booleans())
    def begin_snapshot(self, digests: bool, last_zxid: bool) -> None:
        encoder = SnapshotEncoder(self.tree, digests=digests, last_zxid_section=last_zxid)
        self.snapshot = RunningSnapshot(encoder, bytearray(encoder.head()), self.tree.last_zxid)

    def _write_nodes(self, count: int) -> bool:
        if self.snapshot is None:
            return True
        piece = self.snapshot.encoder.nodes(count)
        self.snapshot.content += piece or b""
        return piece is None

    @precondition(lambda self: self.snapshot is not None)
    @rule(count=st.integers(1, 10))
    def go_on_with_snapshot(self, count: int) -> None:
        self._write_nodes(count)

    @precondition(lambda self: self.snapshot is not None)
    @rule()
    def finish_snapshot(self) -> None:
        snapshot = self.snapshot
        assert snapshot is not None
        while not self._write_nodes(5):
            pass
        self.snapshot = None
        for section in snapshot.encoder.sections():
            snapshot.content += section
            snapshot.content += seal(adler32(snapshot.content))
        reader = SnapshotReader(bytes(snapshot.content), Path(f"snapshot.{snapshot.zxid:x}"))
        tree = load_tree(reader, snapshot.zxid, self.owner_rules, digests=True)
        self._replay(tree)
        trailer = reader.trailer
        if snapshot.encoder.digests and self.digests:
            assert (trailer.digest_zxid, trailer.digest) == (tree.last_zxid, tree.digest)
        assert trailer.last_zxid == (tree.last_zxid if snapshot.encoder.last_zxid_section else None)

    def _replay(self, tree: DataTree) -> None:
        """Apply what was logged after the tree's zxid; it must then be the tree that lived through it."""
        tree.keeps_digest = False
        for zxid, entry in self.log:
            if not tree.last_zxid < zxid <= self.tree.last_zxid:
                continue
            session, _, _, now, txn_type = TXN_HEADER.unpack_from(entry)
            if txn_type == OpCode.ERROR:
                tree.last_zxid = zxid
                continue
            try:
                tree.apply(txn_type, zxid, now, session, entry, TXN_HEADER.size)
            except KeeperError:
                continue
        tree.changes.clear()
        tree.rebuild_quotas()
        tree.recompute_digest()
        if not self.digests:
            tree.digest = self.tree.digest
        assert _facts(tree) == _facts(self.tree)
        for limited in tree.quotas:
            usage = tree.nodes.get(b"/zookeeper/quota" + limited + b"/zookeeper_stats")
            inside = [node for path, node in tree.walk() if path == limited or path.startswith(limited + b"/")]
            if usage is not None:
                assert usage.data == b"count=%d,bytes=%d" % (len(inside), sum(node.data_length for node in inside))

    def teardown(self) -> None:
        if self.sound and hasattr(self, "tree"):
            self._settle()
            if self.snapshot is not None:
                self.finish_snapshot()
            self._replay(DataTree(self.owner_rules))


def _settled(told: list[Any], closings: set[int]) -> list[Any]:
    """Events in order; but in which order a closing session's ephemerals go is nobody's business."""
    fixed = [event for event in told if event[0] not in closings]
    return fixed + sorted(event for event in told if event[0] in closings)


def _listed(tree: DataTree, path: bytes) -> list[bytes]:
    children = tree.nodes[path].children
    return [] if children is None else [child.rsplit(b"/", 1)[1] for child in children.paths]


def _facts(tree: DataTree) -> dict[str, object]:
    """Everything about a tree that must survive; the data of usage znodes is counted anew after each loading."""
    nodes = {}
    for path, node in tree.walk():
        data, stat = node.data, tree.stat(path)
        if path.endswith(b"/zookeeper_stats"):
            data, stat = None, stat[:52] + stat[56:]
        nodes[path] = (data, stat, entries(tree.acls.entries(node.acl)), tree.raw_owner(path, node))
    return {
        "nodes": nodes,
        "sessions": tree.sessions,
        "ephemerals": {owner: set(paths) for owner, paths in tree.ephemerals.items() if paths},
        "special": tree.special_owners,
        "quotas": list(tree.quotas),
        "zxid": tree.last_zxid,
        "digest": tree.digest,
    }


_QUICK = settings(
    max_examples=90,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
_DEEP = settings(
    max_examples=400,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def test_the_tree_does_what_the_model_does() -> None:
    run_state_machine_as_test(TreeMachine, settings=_QUICK)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_tree_does_what_the_model_does_for_long() -> None:
    run_state_machine_as_test(TreeMachine, settings=_DEEP)
