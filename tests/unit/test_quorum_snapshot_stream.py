"""A tree on its way to a learner."""

from __future__ import annotations

import pytest
from tests.trees import EXTENDED, facts, varied_tree

from corral.jute.primitives import JuteError
from corral.quorum.snapshot_stream import SnapshotStream, encode_stream
from corral.storage.snapshot import SnapshotEncoder
from corral.tree.datatree import DataTree

TREE = varied_tree()
STREAM = b"".join(encode_stream(SnapshotEncoder(TREE, digests=False, last_zxid_section=False)))


def received(stream: SnapshotStream) -> DataTree:
    tree = stream.tree(TREE.last_zxid, EXTENDED, digests=True)
    tree.rebuild_quotas()
    return tree


def test_what_is_sent_is_received_however_it_is_cut() -> None:
    for cut in range(len(STREAM)):
        stream = SnapshotStream()
        assert not stream.feed(STREAM[:cut])
        assert stream.feed(STREAM[cut:] + b"a packet")
        assert stream.rest == b"a packet"
        if cut % 50 == 0:
            assert facts(received(stream)) == facts(TREE)


def test_byte_by_byte() -> None:
    stream = SnapshotStream()
    whole = [stream.feed(STREAM[at : at + 1]) for at in range(len(STREAM))]
    assert whole == [False] * (len(STREAM) - 1) + [True]
    assert facts(received(stream)) == facts(TREE)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xfe",
        STREAM[:-1] + b"?",
        b"\0\0\0\0" + b"\0\0\0\0" + b"\xff\xff\xff\xf0",
        b"\0\0\0\0" + b"\0\0\0\0" + b"\0\0\0\0" + b"\xff\xff\xff\xf0",
    ],
)
def test_what_is_no_tree_is_refused(data: bytes) -> None:
    with pytest.raises(JuteError):
        SnapshotStream().feed(data)
