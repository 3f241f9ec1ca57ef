"""The snapshot format: what Apache's server writes, what a changing tree leaves in it, what is refused."""

from __future__ import annotations

import struct
from pathlib import Path
from zlib import adler32

import pytest
from tests.trees import ANN, ANYONE, EXTENDED, SESSION, Grower, facts, sealed, snapshot_of, varied_tree

from corral.jute.errors import KeeperError
from corral.jute.ops import OpCode
from corral.jute.owner import OwnerRules
from corral.jute.records import Acl, DeleteTxn, Id
from corral.storage.snapshot import SnapshotEncoder, SnapshotError, SnapshotReader, load_tree
from corral.tree.datatree import DataTree

NAME = Path("snapshot.0")
SEAL_1 = bytes.fromhex("00000000b8a23b49 00000001 2f")
DIGEST_SECTION = bytes.fromhex("0000000000000000 00000002 0000000000000000")
SEAL_2 = bytes.fromhex("0000000095b93d59 00000001 2f")
LAST_ZXID_SECTION = bytes.fromhex("0000000000000000")
SEAL_3 = bytes.fromhex("00000000bde83f6d 00000001 2f")


def encode(tree: DataTree, *, digests: bool = True, last_zxid: bool = True) -> bytes:
    return snapshot_of(SnapshotEncoder(tree, digests=digests, last_zxid_section=last_zxid))


def load(content: bytes, zxid: int = 0) -> DataTree:
    return load_tree(SnapshotReader(content, NAME), zxid, EXTENDED, digests=True)


def apaches_empty_snapshot() -> bytes:
    """snapshot.0 as Apache's standalone server writes it, put together from its parts."""
    tree = DataTree()
    before_seals = encode(tree, digests=False, last_zxid=False)[:-13]
    return before_seals + SEAL_1 + DIGEST_SECTION + SEAL_2 + LAST_ZXID_SECTION + SEAL_3


def test_an_empty_tree_is_written_as_apache_writes_it() -> None:
    content = encode(DataTree())
    assert content[:16] == bytes.fromhex("5a4b534e 00000002 ffffffffffffffff")
    assert content[16:20] == bytes(4)
    acl_map = bytes.fromhex("00000001 0000000000000001 00000001 00000001 00000005") + b"world\0\0\0\6anyone"
    assert content[20 : 20 + len(acl_map)] == acl_map
    assert content[406:411] == b"\0\0\0\1/"
    assert content[411:424] == SEAL_1
    assert len(content) == 478


def test_apaches_empty_snapshot_is_read() -> None:
    content = apaches_empty_snapshot()
    assert len(content) == 478
    assert (content.index(SEAL_1), content.index(SEAL_2), content.index(SEAL_3)) == (411, 444, 465)
    reader = SnapshotReader(content, NAME)
    tree = load_tree(reader, 0, OwnerRules(), digests=True)
    assert facts(tree) == facts(DataTree())
    assert tree.digest == 1371985504
    trailer = reader.trailer
    assert (trailer.digest_zxid, trailer.digest_version, trailer.digest, trailer.last_zxid) == (0, 2, 0, 0)
    assert trailer.seals == 3


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize("last_zxid", [True, False])
def test_every_kind_of_znode_survives(digests: bool, last_zxid: bool) -> None:
    tree = varied_tree()
    content = encode(tree, digests=digests, last_zxid=last_zxid)
    reader = SnapshotReader(content, NAME)
    loaded = load_tree(reader, tree.last_zxid, EXTENDED, digests=True)
    assert facts(loaded) == facts(tree)
    assert loaded.digest == tree.digest
    assert loaded.data_size == tree.data_size
    assert reader.trailer.digest == (tree.digest if digests else None)
    assert reader.trailer.last_zxid == (tree.last_zxid if last_zxid else None)
    assert reader.trailer.seals == 1 + digests + last_zxid
    assert encode(loaded, digests=digests, last_zxid=last_zxid) == content


def test_pieces_of_any_size_make_the_same_snapshot() -> None:
    tree = varied_tree()
    for size in range(1, 14):
        assert snapshot_of(SnapshotEncoder(tree, digests=True, last_zxid_section=True), size) == encode(tree)


def test_a_digest_of_an_older_version_is_skipped() -> None:
    """Digest versions below 2 are a string in hexadecimal."""
    content = bytearray(encode(DataTree(), digests=False, last_zxid=False))
    content += struct.pack(">qii", 7, 1, 8) + b"0a0b0c0d"
    content += struct.pack(">q", adler32(content)) + b"\0\0\0\1/"
    reader = SnapshotReader(bytes(content), NAME)
    load_tree(reader, 7, EXTENDED, digests=True)
    assert (reader.trailer.digest_version, reader.trailer.digest, reader.trailer.seals) == (1, None, 2)


def test_a_snapshot_is_as_of_its_beginning() -> None:
    grower = Grower()
    grower.create(b"/old")
    encoder = SnapshotEncoder(grower.tree, digests=True, last_zxid_section=True)
    content = bytearray(encoder.head())
    grower.create(b"/new")
    while (piece := encoder.nodes(2)) is not None:
        content += piece
    loaded = load(sealed(content, encoder), encoder.zxid)
    assert b"/old" in loaded.nodes
    assert b"/new" not in loaded.nodes
    assert loaded.last_zxid == 1


def replay(tree: DataTree, grower: Grower, until: int | None = None) -> None:
    for zxid, txn_type, session, record in grower.log[:until]:
        if zxid > tree.last_zxid:
            try:
                tree.apply(txn_type, zxid, 1_700_000_000_000 + zxid, session, record)
            except KeeperError:
                continue


def test_the_digest_is_that_of_the_tree_when_the_last_znode_is_written() -> None:
    """Before that no state of the tree is what the file shows: Apache's server would report a mismatch there."""
    grower = Grower()
    for path in (b"/a", b"/b", b"/c"):
        grower.create(path)
    encoder = SnapshotEncoder(grower.tree, digests=True, last_zxid_section=True)
    content = bytearray(encoder.head())
    content += encoder.nodes(2) or b""
    grower.set_data(b"/c", b"seen")
    grower.create(b"/d")
    while (piece := encoder.nodes(2)) is not None:
        content += piece
    end, digest = grower.tree.last_zxid, grower.tree.digest
    grower.set_data(b"/c", b"too late to be seen")
    reader = SnapshotReader(sealed(content, encoder), NAME)
    loaded = load_tree(reader, encoder.zxid, EXTENDED, digests=True)
    trailer = reader.trailer
    assert encoder.zxid < end
    assert (trailer.digest_zxid, trailer.digest, trailer.last_zxid) == (end, digest, end)
    replay(loaded, grower, until=end)
    assert loaded.digest == digest


@pytest.mark.parametrize("between", [0, 1, 2])
def test_acls_set_while_a_snapshot_is_written_survive(between: int) -> None:
    """A znode may show an ACL that the table at the head has not; replay must not take its number for another's."""
    bob, eve = Acl(31, Id("digest", "bob:y")), Acl(1, Id("digest", "eve:z"))
    grower = Grower()
    grower.create(b"/a", b"", ANN)
    grower.create(b"/b")
    grower.create(b"/c")
    encoder = SnapshotEncoder(grower.tree, digests=False, last_zxid_section=True)
    content = bytearray(encoder.head())
    if between == 1:
        grower.apply(OpCode.DELETE, DeleteTxn(b"/a"))
    elif between == 2:
        grower.create(b"/d", b"", eve)
    grower.create(b"/e", b"", bob)
    grower.set_acl(b"/b", bob)
    grower.set_acl(b"/c", ANN)
    while (piece := encoder.nodes(2)) is not None:
        content += piece
    loaded = load(sealed(content, encoder), encoder.zxid)
    replay(loaded, grower)
    assert facts(loaded) == facts(grower.tree)
    # Nor may the ACL be dropped from the table once another znode that has it is gone.
    grower.apply(OpCode.DELETE, DeleteTxn(b"/e"))
    replay(loaded, grower)
    assert loaded.acls.entries(loaded.nodes[b"/b"].acl) == (bob,)


def test_an_ephemeral_whose_session_ends_while_a_snapshot_is_written_stays_gone() -> None:
    grower = Grower()
    grower.open_session()
    grower.create(b"/e", ephemeral=True)
    encoder = SnapshotEncoder(grower.tree, digests=False, last_zxid_section=True)
    content = bytearray(encoder.head())
    content += encoder.nodes(100) or b""
    grower.apply(OpCode.CLOSE_SESSION, b"\0\0\0\1\0\0\0\2/e")
    loaded = load(sealed(content, encoder), encoder.zxid)
    assert loaded.ephemerals == {SESSION: {b"/e": None}}
    replay(loaded, grower)
    assert facts(loaded) == facts(grower.tree)


def test_the_encoder_tells_how_many_znodes_there_were() -> None:
    tree = varied_tree()
    assert SnapshotEncoder(tree, digests=True, last_zxid_section=True).total == len(list(tree.walk()))


# What is refused


def refusal(content: bytes) -> SnapshotError:
    with pytest.raises(SnapshotError) as caught:
        load(content)
    assert caught.value.path == NAME
    return caught.value


def reseal(content: bytes) -> bytes:
    """One seal behind header and znodes, right whatever they say."""
    return content + struct.pack(">q", adler32(content)) + b"\0\0\0\1/"


def body_of(tree: DataTree) -> bytes:
    """Header and znodes without any seal."""
    return encode(tree, digests=False, last_zxid=False)[:-13]


NODE_TAIL = struct.pack(">qqqqqiiiqq", -1, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def node(path: bytes, tail: bytes = NODE_TAIL) -> bytes:
    return struct.pack(">i", len(path)) + path + struct.pack(">i", 0) + tail


HEAD = bytes.fromhex("5a4b534e 00000002 ffffffffffffffff 00000000 00000000")


@pytest.mark.parametrize("size", [0, 1, 15, 41])
def test_too_short(size: int) -> None:
    error = refusal(encode(DataTree())[:size])
    assert f"this file has {size}" in str(error)


def test_not_a_snapshot() -> None:
    assert "it begins with 5a4b4c47" in str(refusal(b"ZKLG" + encode(DataTree())[4:]))
    assert refusal(b"ZKSN\0\0\0\3" + encode(DataTree())[8:]).offset == 0


def test_no_root() -> None:
    assert "no root" in str(refusal(reseal(HEAD + b"\0\0\0\1/")))


def test_a_child_before_its_parent() -> None:
    error = refusal(reseal(HEAD + node(b"") + node(b"/a/b") + b"\0\0\0\1/"))
    assert "/a/b comes before its parent" in str(error)


@pytest.mark.parametrize("path", [b"a", b"no slash"])
def test_a_path_that_is_none(path: bytes) -> None:
    error = refusal(reseal(HEAD + node(b"") + node(path) + b"\0\0\0\1/"))
    assert path.decode() in str(error)
    assert error.offset == len(HEAD) + len(node(b""))


def test_an_extended_type_that_nobody_knows() -> None:
    strange = struct.pack(">qqqqqiiiqq", -1, 0, 0, 0, 0, 0, 0, 0, -(1 << 56) + (1 << 40), 0)
    error = refusal(reseal(HEAD + node(b"") + node(b"/x", strange) + b"\0\0\0\1/"))
    assert "unknown extended type 1" in str(error)


@pytest.mark.parametrize("size", [-1, -2, 1 << 30])
def test_a_path_of_impossible_length(size: int) -> None:
    error = refusal(reseal(HEAD + node(b"") + struct.pack(">i", size) + bytes(80)))
    assert f"a path of {size} bytes" in str(error)


@pytest.mark.parametrize("size", [-2, 1 << 30])
def test_data_of_impossible_length(size: int) -> None:
    error = refusal(reseal(HEAD + b"\0\0\0\0" + struct.pack(">i", size) + bytes(80)))
    assert f"data of {size} bytes" in str(error)


def test_a_wrong_checksum_names_both() -> None:
    content = bytearray(encode(DataTree()))
    content[418] ^= 1
    error = refusal(bytes(content))
    assert error.offset == 411
    assert "0xb8a23b49" in str(error)


def test_bytes_after_the_end() -> None:
    assert "1 bytes after its end" in str(refusal(encode(DataTree()) + b"\0"))


def test_damage_in_the_acl_table_is_named() -> None:
    content = bytearray(encode(DataTree()))
    content[32:36] = b"\x7f\xff\xff\xff"
    assert "before its znodes" in str(refusal(bytes(content)))


def test_zookeeper_4846_an_acl_that_is_not_in_the_table_grants_nothing_and_stops_nothing() -> None:
    unknown = struct.pack(">qqqqqiiiqq", 5, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    tree = load(reseal(HEAD + node(b"", unknown) + node(b"/a", unknown) + b"\0\0\0\1/"))
    assert [tree.acls.entries(tree.nodes[path].acl) for path in (b"", b"/a")] == [(), ()]
    # Watchers of the parent are told by its ACL.
    grower = Grower(tree)
    grower.create(b"/a/below", b"", ANN)
    grower.apply(OpCode.DELETE, DeleteTxn(b"/a/below"))
    assert [change[4] for change in tree.changes] == [(), ()]
    grower.apply(OpCode.DELETE, DeleteTxn(b"/a"))
    assert encode(tree)


def test_unused_acls_are_dropped_and_their_numbers_not_given_again() -> None:
    grower = Grower()
    grower.create(b"/a", b"", ANN)
    encoder = SnapshotEncoder(grower.tree, digests=False, last_zxid_section=False)
    content = bytearray(encoder.head())
    grower.apply(OpCode.DELETE, DeleteTxn(b"/a"))
    content += encoder.nodes(100) or b""
    loaded = load(sealed(content, encoder), 1)
    assert [number for number, _ in loaded.acls.items()] == [1]
    assert loaded.acls.intern(ACL_OF_ANN) == 3


ACL_OF_ANN = struct.pack(">i", 1) + ANN.to_bytes()


def test_the_open_acl_needs_no_entry() -> None:
    grower = Grower()
    grower.create(b"/a", b"", ANYONE)
    assert load(encode(grower.tree), 1).nodes[b"/a"].acl == -1
