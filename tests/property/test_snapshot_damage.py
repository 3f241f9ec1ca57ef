"""Whatever happens to a snapshot file, it is refused as damaged or gives the tree that was written."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trees import EXTENDED, facts, snapshot_of, varied_tree

from corral.storage.files import SnapshotFile, snapshot_name
from corral.storage.snapshot import SEAL_SIZE, SnapshotEncoder, SnapshotError, SnapshotReader, load_tree
from corral.storage.snapshot_file import load_snapshot, read_snapshot_bytes, write_snapshot

COMPRESSIONS = ("", "gz", "snappy")
BITS_OF_A_BYTE = (1, pytest.param(8, marks=pytest.mark.slow))


@cache
def plain() -> bytes:
    return snapshot_of(SnapshotEncoder(varied_tree(), digests=True, last_zxid_section=True))


def load(content: bytes) -> dict[str, object]:
    reader = SnapshotReader(content, Path("snapshot.8"))
    return facts(load_tree(reader, varied_zxid(), EXTENDED, digests=True))


@cache
def varied_zxid() -> int:
    return varied_tree().last_zxid


@cache
def expected() -> dict[str, object]:
    return facts(varied_tree())


def changes(size: int, bits: int) -> Iterator[tuple[int, int]]:
    """A place and a bit there, so many of each byte."""
    for position in range(size):
        for bit in range(bits):
            yield position, (position + bit) % 8


def is_refused(content: bytes) -> bool:
    """Whether it is; if not, the tree must be the right one."""
    try:
        found = load(content)
    except SnapshotError:
        return True
    assert found == expected()
    return False


def test_a_truncated_snapshot_is_refused_but_at_the_end_of_a_section() -> None:
    """Every section after the first seal is optional, so its absence is no damage."""
    content = plain()
    accepted = [size for size in range(len(content) + 1) if not is_refused(content[:size])]
    last_section = len(content) - 8 - SEAL_SIZE
    digest_section = last_section - 20 - SEAL_SIZE
    assert accepted == [digest_section, last_section, len(content)]


@pytest.mark.parametrize("bits", BITS_OF_A_BYTE)
def test_every_changed_bit_is_noticed(bits: int) -> None:
    content = bytearray(plain())
    for position, bit in changes(len(content), bits):
        content[position] ^= 1 << bit
        assert is_refused(bytes(content)), f"bit {bit} of byte {position}"
        content[position] ^= 1 << bit
    assert not is_refused(bytes(content))


@given(
    edits=st.lists(
        st.tuples(st.sampled_from(["change", "delete", "insert", "double"]), st.integers(0), st.binary(max_size=9)),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_an_edited_snapshot_is_refused_or_right(edits: list[tuple[str, int, bytes]]) -> None:
    content = bytearray(plain())
    for how, place, new in edits:
        at = place % (len(content) + 1)
        if how == "change":
            content[at : at + len(new)] = new
        elif how == "delete":
            del content[at : at + len(new)]
        elif how == "insert":
            content[at:at] = new
        else:
            content[at:at] = content[at : at + 10 * len(new)]
    is_refused(bytes(content))


@given(content=st.binary(max_size=200), header=st.booleans())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_random_bytes_are_refused(content: bytes, header: bool) -> None:
    assert is_refused(plain()[:16] + content if header else content)


def written(directory: Path, compression: str) -> SnapshotFile:
    tree = varied_tree()
    path = write_snapshot(directory, SnapshotEncoder(tree, digests=True, last_zxid_section=True), compression)
    assert path.name == snapshot_name(tree.last_zxid, compression)
    return SnapshotFile(tree.last_zxid, path, compression)


def file_is_refused(snapshot: SnapshotFile, content: bytes) -> bool:
    snapshot.path.write_bytes(content)
    try:
        tree = load_snapshot(snapshot, EXTENDED, digests=True)
    except SnapshotError as error:
        return error.path == snapshot.path
    assert facts(tree) == expected()
    return False


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_truncated_file_is_refused_or_right(tmp_path: Path, compression: str) -> None:
    snapshot = written(tmp_path, compression)
    content = snapshot.path.read_bytes()
    accepted = [size for size in range(len(content) + 1) if not file_is_refused(snapshot, content[:size])]
    assert accepted[-1] == len(content)
    if compression:
        assert accepted == [len(content)]


@pytest.mark.parametrize("bits", BITS_OF_A_BYTE)
@pytest.mark.parametrize("compression", ["gz", "snappy"])
def test_a_changed_bit_of_a_compressed_file_is_noticed_or_changes_nothing(
    tmp_path: Path, compression: str, bits: int
) -> None:
    """Times in a header may change, and a repetition may be copied from another place: the content is the same."""
    snapshot = written(tmp_path, compression)
    original = read_snapshot_bytes(snapshot)
    content = bytearray(snapshot.path.read_bytes())
    refused = 0
    for position, bit in changes(len(content), bits):
        content[position] ^= 1 << bit
        if file_is_refused(snapshot, bytes(content)):
            refused += 1
        else:
            assert read_snapshot_bytes(snapshot) == original
        content[position] ^= 1 << bit
    assert refused > bits * 7 / 8 * len(content)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_much_damage_is_refused_or_the_tree_is_right(tmp_path: Path, compression: str) -> None:
    snapshot = written(tmp_path, compression)
    content = snapshot.path.read_bytes()
    for seed in range(5_000):
        random = Random(seed)
        damaged = bytearray(content)
        for _ in range(random.randint(1, 6)):
            at = random.randrange(len(damaged))
            damaged[at : at + random.randrange(4)] = random.randbytes(random.randrange(4))
        file_is_refused(snapshot, bytes(damaged))
