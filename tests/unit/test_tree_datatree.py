"""Transactions applied to the tree: what they change, field by field, and what they leave alone."""

from __future__ import annotations

import struct
from zlib import crc32

import pytest
from tests.trees import ANN, ANYONE, EXTENDED, NOW_MS, SESSION, Grower, facts, varied_tree

from corral.jute.errors import NodeExistsError, NoNodeError
from corral.jute.ops import EventType, OpCode
from corral.jute.owner import CONTAINER_OWNER, OwnerRules
from corral.jute.records import (
    CheckVersionTxn,
    CloseSessionTxn,
    CreateTxn,
    CreateTxnV0,
    DeleteTxn,
    ErrorTxn,
    MultiTxn,
    SetDataTxn,
    Stat,
    SubTxn,
)
from corral.tree.acl import OPEN_ACL
from corral.tree.datatree import DataTree
from corral.tree.znode import Children, Znode


def stat(tree: DataTree, path: bytes) -> Stat:
    return Stat.from_bytes(tree.stat(path))


def digest(tree: DataTree) -> int:
    """By the definition, from what clients see."""
    total = 0
    for path, node in tree.walk():
        if path.startswith(b"/zookeeper/"):
            continue
        czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid = tree.persisted(path, node)
        fields = struct.pack(">qqqqqiiiq", czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion, owner)
        total += crc32(path + (node.data or b"") + fields)
    return total % 2**64


def test_a_new_tree() -> None:
    tree = DataTree()
    assert [path for path, _ in tree.walk()] == [b"", b"/zookeeper", b"/zookeeper/config", b"/zookeeper/quota"]
    assert tree.nodes[b""] is tree.nodes[b"/"]
    assert stat(tree, b"/") == Stat(0, 0, 0, 0, 0, -1, 0, 0, 0, 1, 0)
    assert stat(tree, b"/zookeeper") == Stat(0, 0, 0, 0, 0, -2, 0, 0, 0, 2, 0)
    assert stat(tree, b"/zookeeper/quota") == Stat(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert stat(tree, b"/zookeeper/config") == Stat(0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0)
    assert tree.acls.entries(tree.nodes[b"/zookeeper/config"].acl)[0].perms == 1
    assert tree.digest == 1371985504
    assert tree.descendants(b"/") == 3
    assert repr(tree) == "DataTree(last_zxid=0x0, 4 znodes)"


def test_the_digest_is_the_sum_of_two() -> None:
    nothing = bytes(56)
    assert (crc32(nothing + bytes(4)), crc32(b"/zookeeper" + nothing + bytes(4))) == (68323592, 1303661912)


def test_create_and_its_parent() -> None:
    grower = Grower()
    reply = grower.create(b"/p", b"data")
    assert stat(grower.tree, b"/p") == Stat(1, 1, NOW_MS + 1, NOW_MS + 1, 0, 0, 0, 0, 4, 0, 1)
    assert reply == b"\0\0\0\2/p" + grower.tree.stat(b"/p")
    grower.create(b"/p/c", None)
    assert stat(grower.tree, b"/p") == Stat(1, 1, NOW_MS + 1, NOW_MS + 1, 0, 1, 0, 0, 4, 1, 2)
    assert grower.tree.nodes[b"/p/c"].data is None
    assert stat(grower.tree, b"/p/c").data_length == 0
    assert grower.apply(OpCode.CREATE, CreateTxn(b"/q", b"", [ANYONE], False, 2)) == b"\0\0\0\2/q"


def test_delete_and_its_parent() -> None:
    grower = Grower()
    grower.create(b"/p")
    grower.create(b"/p/a")
    grower.create(b"/p/b")
    assert grower.apply(OpCode.DELETE, DeleteTxn(b"/p/a")) == b""
    # Two created, one deleted: three changes; the stored counter is still two.
    assert stat(grower.tree, b"/p") == Stat(1, 1, NOW_MS + 1, NOW_MS + 1, 0, 3, 0, 0, 0, 1, 4)
    assert grower.tree.persisted(b"/p", grower.tree.nodes[b"/p"])[5] == 2


def test_set_data() -> None:
    grower = Grower()
    grower.create(b"/p", b"old")
    grower.create(b"/p/c")
    reply = grower.set_data(b"/p", b"newer", 7)
    expected = Stat(1, 3, NOW_MS + 1, NOW_MS + 3, 7, 1, 0, 0, 5, 1, 2)
    assert Stat.from_bytes(reply) == stat(grower.tree, b"/p") == expected
    for data in (None, b""):
        grower.set_data(b"/p", data, 8)
        assert grower.tree.nodes[b"/p"].data == data
    grower.set_data(b"/", b"root", 1)
    assert stat(grower.tree, b"/").mzxid == 6
    assert grower.tree.nodes[b""].data == b"root"


def test_set_acl_moves_no_zxid() -> None:
    grower = Grower()
    grower.create(b"/p", b"x")
    before = stat(grower.tree, b"/p")
    reply = grower.set_acl(b"/p", ANN, version=3)
    before.aversion = 3
    assert Stat.from_bytes(reply) == stat(grower.tree, b"/p") == before
    assert grower.tree.acls.entries(grower.tree.nodes[b"/p"].acl) == (ANN,)
    grower.set_acl(b"/p", ANYONE, version=4)
    assert len(grower.tree.acls) == 1


def test_kinds_of_owners() -> None:
    tree = varied_tree()
    assert stat(tree, b"/e").ephemeral_owner == SESSION
    assert (stat(tree, b"/c").ephemeral_owner, stat(tree, b"/t").ephemeral_owner) == (0, 0)
    assert tree.special_owners == {b"/c": CONTAINER_OWNER, b"/t": 0xFF000000000186A0 - 2**64}
    assert tree.ephemerals == {SESSION: {b"/e": None}}
    assert tree.ephemeral_count() == 1


def test_without_extended_types_a_time_to_live_is_an_owner_like_any() -> None:
    grower = Grower(DataTree(OwnerRules()))
    grower.create_ttl(b"/t", 100_000)
    assert stat(grower.tree, b"/t").ephemeral_owner == 0xFF000000000186A0 - 2**64


def test_close_session_takes_the_listed_ephemerals() -> None:
    grower = Grower()
    grower.open_session()
    grower.create(b"/p")
    for path in (b"/p/1", b"/p/2", b"/p/3"):
        grower.create(path, ephemeral=True)
    grower.apply(OpCode.CLOSE_SESSION, CloseSessionTxn([b"/p/1", None, b"/p/missing", b"/p/2", b"/p/3"]))
    assert grower.tree.sessions == {}
    assert grower.tree.ephemerals == {}
    assert stat(grower.tree, b"/p") == Stat(2, 2, NOW_MS + 2, NOW_MS + 2, 0, 6, 0, 0, 0, 0, 6)


def test_close_session_of_an_old_log_takes_everything_owned() -> None:
    grower = Grower()
    grower.open_session()
    grower.create(b"/e", ephemeral=True)
    grower.create(b"/f", ephemeral=True, session=7)
    grower.apply(OpCode.CLOSE_SESSION, b"")
    assert b"/e" not in grower.tree.nodes
    assert grower.tree.ephemerals == {7: {b"/f": None}}


def test_close_session_takes_what_is_owned_and_not_listed() -> None:
    """As Apache's server does: whatever its leader has overlooked must not stay for ever."""
    grower = Grower()
    grower.open_session()
    for path in (b"/1", b"/2", b"/3"):
        grower.create(path, ephemeral=True)
    grower.apply(OpCode.CLOSE_SESSION, CloseSessionTxn([b"/2"]))
    assert not {b"/1", b"/2", b"/3"} & grower.tree.nodes.keys()
    assert grower.tree.ephemerals == {}


def test_a_create_of_an_old_log_counts_on_by_itself() -> None:
    grower = Grower()
    grower.create(b"/p")
    grower.apply(OpCode.CREATE, CreateTxnV0(b"/p/a", b"", [ANYONE], False))
    grower.apply(OpCode.CREATE, CreateTxnV0(b"/p/b", b"", [ANYONE], False))
    assert stat(grower.tree, b"/p").cversion == 2


def multi(*parts: tuple[int, CreateTxn | DeleteTxn | SetDataTxn | CheckVersionTxn | ErrorTxn]) -> MultiTxn:
    return MultiTxn([SubTxn(kind, record.to_bytes()) for kind, record in parts])


def test_a_multi_answers_with_each_result() -> None:
    grower = Grower()
    grower.create(b"/a")
    reply = grower.apply(
        OpCode.MULTI,
        multi(
            (OpCode.CREATE, CreateTxn(b"/b", b"", [ANYONE], False, 2)),
            (OpCode.CREATE2, CreateTxn(b"/b/c", b"", [ANYONE], False, 1)),
            (OpCode.SET_DATA, SetDataTxn(b"/a", b"x", 1)),
            (OpCode.CHECK, CheckVersionTxn(b"/a", 2)),
            (OpCode.DELETE, DeleteTxn(b"/b/c")),
        ),
    )
    created = struct.pack(">qqqqiiiqiiq", 2, 2, NOW_MS + 2, NOW_MS + 2, 0, 0, 0, 0, 0, 0, 2)
    assert reply == (
        bytes.fromhex("00000001 00 00000000")
        + b"\0\0\0\2/b"
        + bytes.fromhex("0000000f 00 00000000")
        + b"\0\0\0\4/b/c"
        + created
        + bytes.fromhex("00000005 00 00000000")
        + grower.tree.stat(b"/a")
        + bytes.fromhex("0000000d 00 00000000")
        + bytes.fromhex("00000002 00 00000000")
        + bytes.fromhex("ffffffff 01 ffffffff")
    )
    assert [change[:2] for change in grower.tree.changes[1:]] == [
        (EventType.NODE_CREATED, b"/b"),
        (EventType.NODE_CREATED, b"/b/c"),
        (EventType.NODE_DATA_CHANGED, b"/a"),
        (EventType.NODE_DELETED, b"/b/c"),
    ]


def test_a_failed_multi_changes_nothing() -> None:
    grower = Grower()
    grower.create(b"/a")
    before = facts(grower.tree)
    reply = grower.apply(
        OpCode.MULTI,
        multi(
            (OpCode.DELETE, DeleteTxn(b"/a")),
            (OpCode.ERROR, ErrorTxn(-101)),
            (OpCode.ERROR, ErrorTxn(-2)),
        ),
    )
    codes = [struct.pack(">i", code) for code in (0, -101, -2)]
    assert reply == b"".join(b"\xff\xff\xff\xff\0" + code + code for code in codes) + bytes.fromhex(
        "ffffffff01ffffffff"
    )
    before["zxid"] = 2
    assert facts(grower.tree) == before


# Again: replaying what the tree shows already


def test_a_create_again_raises_the_counter_and_takes_the_acl() -> None:
    grower = Grower()
    grower.create(b"/p")
    grower.create(b"/p/c", b"first")
    with pytest.raises(NodeExistsError):
        grower.apply(OpCode.CREATE, CreateTxn(b"/p/c", b"second", [ANN], False, 9))
    assert grower.tree.nodes[b"/p/c"].data == b"first"
    assert grower.tree.acls.entries(grower.tree.nodes[b"/p/c"].acl) == (ANN,)
    assert stat(grower.tree, b"/p").cversion == 2 * 9 - 1
    assert stat(grower.tree, b"/p").pzxid == 3
    with pytest.raises(NodeExistsError):
        grower.apply(OpCode.CREATE, CreateTxn(b"/p/c", b"", [ANN], False, 5))
    assert stat(grower.tree, b"/p").pzxid == 3
    assert grower.tree.last_zxid == 4


def test_a_delete_again_moves_the_parent_only_forward() -> None:
    grower = Grower()
    grower.create(b"/p")
    grower.create(b"/p/c")
    with pytest.raises(NoNodeError):
        grower.tree.apply(OpCode.DELETE, 1, NOW_MS, SESSION, DeleteTxn(b"/p/x").to_bytes())
    assert stat(grower.tree, b"/p").pzxid == 2
    with pytest.raises(NoNodeError):
        grower.tree.apply(OpCode.DELETE, 9, NOW_MS, SESSION, DeleteTxn(b"/p/x").to_bytes())
    assert stat(grower.tree, b"/p").pzxid == 9
    assert grower.tree.last_zxid == 9


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        (OpCode.CREATE, CreateTxn(b"/no/x", b"", [ANYONE], False, 1)),
        (OpCode.DELETE, DeleteTxn(b"/no/x")),
        (OpCode.SET_DATA, SetDataTxn(b"/no", b"", 1)),
    ],
)
def test_what_is_not_there(kind: int, record: CreateTxn | DeleteTxn | SetDataTxn) -> None:
    grower = Grower()
    before = facts(grower.tree)
    with pytest.raises(NoNodeError):
        grower.apply(kind, record)
    before["zxid"] = 1
    assert facts(grower.tree) == before
    assert grower.tree.changes == []


def test_a_larger_zxid_is_never_taken_back() -> None:
    grower = Grower()
    grower.create(b"/a")
    grower.tree.apply(OpCode.CREATE, 1, NOW_MS, SESSION, CreateTxn(b"/b", b"", [ANYONE], False, 2).to_bytes())
    assert grower.tree.last_zxid == 1
    with pytest.raises(NodeExistsError):
        grower.tree.apply(OpCode.CREATE, 0, NOW_MS, SESSION, CreateTxn(b"/b", b"", [ANYONE], False, 2).to_bytes())
    assert grower.tree.last_zxid == 1


# The rest


def test_the_digest_follows_every_change() -> None:
    grower = Grower()
    grower.open_session()
    for change in (
        lambda: grower.create(b"/a", b"1"),
        lambda: grower.create(b"/a/b", None, ANN),
        lambda: grower.create(b"/e", ephemeral=True),
        lambda: grower.create_container(b"/c"),
        lambda: grower.create_ttl(b"/t", 5),
        lambda: grower.set_data(b"/a", b"22"),
        lambda: grower.set_data(b"/", b"root"),
        lambda: grower.set_acl(b"/a", ANN),
        lambda: grower.create(b"/zookeeper/mine"),
        lambda: grower.set_data(b"/zookeeper/mine", b"uncounted"),
        lambda: grower.apply(OpCode.DELETE, DeleteTxn(b"/a/b")),
        lambda: grower.apply(OpCode.CLOSE_SESSION, CloseSessionTxn([b"/e"])),
    ):
        change()
        assert grower.tree.digest == digest(grower.tree)
        kept = grower.tree.digest
        grower.tree.recompute_digest()
        assert grower.tree.digest == kept


def test_digests_are_noted_now_and_then() -> None:
    tree = DataTree()
    for zxid in range(1, 128 * 1100):
        tree.note_digest(zxid)
    assert len(tree.digest_log) == 1024
    assert tree.digest_log[-1] == (128 * 1099, tree.digest)
    assert all(zxid % 128 == 0 for zxid, _ in tree.digest_log)


def test_ephemerals_without_a_session_can_be_dropped() -> None:
    grower = Grower()
    grower.create(b"/p")
    grower.create(b"/p/e", ephemeral=True)
    grower.tree.changes.clear()
    grower.tree.drop_ephemerals(SESSION)
    grower.tree.drop_ephemerals(99)
    assert b"/p/e" not in grower.tree.nodes
    assert grower.tree.ephemerals == {}
    assert grower.tree.changes == []
    assert stat(grower.tree, b"/p").num_children == 0


def test_descendants_of_all_generations_are_counted() -> None:
    tree = varied_tree()
    assert tree.descendants(b"/") == 10
    assert tree.descendants(b"/a") == 2
    assert tree.descendants(b"/a/null") == 0


def test_changes_carry_the_acls_that_must_grant_reading() -> None:
    grower = Grower()
    grower.create(b"/p", b"", ANN)
    grower.create(b"/p/c")
    grower.apply(OpCode.DELETE, DeleteTxn(b"/p/c"))
    assert grower.tree.changes == [
        (EventType.NODE_CREATED, b"/p", (ANN,), b"/", OPEN_ACL),
        (EventType.NODE_CREATED, b"/p/c", OPEN_ACL, b"/p", (ANN,)),
        (EventType.NODE_DELETED, b"/p/c", OPEN_ACL, b"/p", (ANN,)),
    ]


def test_names_of_children_are_encoded_once_and_anew_after_a_change() -> None:
    grower = Grower()
    grower.create(b"/p")
    node = grower.tree.nodes[b"/p"]
    assert node.child_names(2) == b"\0\0\0\0"
    grower.create(b"/p/a")
    assert node.child_names(2) == b"\0\0\0\1" + b"\0\0\0\1a"
    assert node.child_names(2) is node.child_names(2)
    grower.create(b"/p/bc")
    assert node.child_names(2) == b"\0\0\0\2" + b"\0\0\0\1a" + b"\0\0\0\2bc"
    grower.apply(OpCode.DELETE, DeleteTxn(b"/p/a"))
    assert node.child_names(2) == b"\0\0\0\1" + b"\0\0\0\2bc"
    assert grower.tree.nodes[b"/"].child_names(0) == b"\0\0\0\2" + b"\0\0\0\tzookeeper" + b"\0\0\0\1p"


def test_a_znode_shows_what_its_children_changed_when_it_is_read() -> None:
    body = b"\0\0\0\2hi" + Stat(1, 1, 5, 5, 0, 0, 0, 0, 2, 0, 1).to_bytes()
    node = Znode(body, -1)
    assert (node.data, node.data_length, node.child_count) == (b"hi", 2, 0)
    assert node.refreshed() is body
    node.children = Children(2**30 + 1, 9)
    node.children.paths[b"/x"] = None
    shown = Stat.from_bytes(node.refreshed()[-68:])
    # Twice the counter less one child, in 32 bits.
    assert (shown.cversion, shown.num_children, shown.pzxid) == (-(2**31) + 1, 1, 9)
    assert node.refreshed() is node.refreshed()


def test_the_tree_can_be_emptied() -> None:
    tree = varied_tree()
    tree.clear()
    assert (tree.nodes, tree.sessions, tree.ephemerals, tree.special_owners, tree.digest) == ({}, {}, {}, {}, 0)
    assert len(tree.acls) == 0


def test_a_znode_needs_its_parent() -> None:
    with pytest.raises(NoNodeError, match="/no/x has no parent"):
        DataTree(EXTENDED).insert(b"/no/x", Znode(b"\0\0\0\0" + bytes(68), -1))
