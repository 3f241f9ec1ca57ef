"""Quotas: their texts, whose they are, what is counted."""

from __future__ import annotations

import pytest
from tests.trees import Grower

from corral.jute.ops import OpCode
from corral.jute.records import DeleteTxn
from corral.tree.quota import QuotaPaths, QuotaText, limits_path, usage_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"count=3,bytes=4", QuotaText(3, 4)),
        (b"count=-1,bytes=10=;byteHardLimit=7;countHardLimit=5", QuotaText(-1, 10, 5, 7)),
        (b"bytes=4,count=3", QuotaText(3, 4)),
        (b"count=1;bytes=2", QuotaText(1, 2)),
        (b"", QuotaText()),
        (None, QuotaText()),
        (b"something=else,count=9", QuotaText(9)),
        (b"count=,bytes=2", QuotaText(-1, 2)),
    ],
)
def test_texts(text: bytes | None, expected: QuotaText) -> None:
    assert QuotaText.parse(text) == expected


def test_a_text_that_is_no_number_is_named() -> None:
    with pytest.raises(ValueError, match="'count=many' has no number"):
        QuotaText.parse(b"count=many,bytes=1")


def test_usage_is_written_as_clients_read_it() -> None:
    assert QuotaText(2, 30).encode_usage() == b"count=2,bytes=30"


def test_the_longest_path_counts() -> None:
    paths = QuotaPaths()
    assert not paths
    for path in (b"/a", b"/a/b", b"/c"):
        paths.add(path)
    assert paths
    assert list(paths) == [b"/a", b"/a/b", b"/c"]
    covering = {
        b"/a": b"/a",
        b"/a/x": b"/a",
        b"/a/b": b"/a/b",
        b"/a/b/c/d": b"/a/b",
        b"/ab": None,
        b"/": None,
        b"": None,
    }
    assert {path: paths.covering(path) for path in covering} == covering
    paths.discard(b"/a/b")
    assert paths.covering(b"/a/b/c") == b"/a"


def limited(grower: Grower, path: bytes) -> None:
    at = b"/zookeeper/quota"
    for name in path[1:].split(b"/"):
        at += b"/" + name
        if at not in grower.tree.nodes:
            grower.create(at)
    grower.create(usage_path(path), b"count=0,bytes=0")
    grower.create(limits_path(path), b"count=-1,bytes=-1")


def usage(grower: Grower, path: bytes) -> bytes | None:
    return grower.tree.nodes[usage_path(path)].data


def test_usage_is_counted_without_touching_any_stat() -> None:
    grower = Grower()
    grower.create(b"/a", b"123")
    grower.create(b"/a/b", b"45")
    limited(grower, b"/a")
    assert usage(grower, b"/a") == b"count=2,bytes=5"
    stat = grower.tree.stat(usage_path(b"/a"))
    grower.create(b"/a/c", b"6789")
    grower.create(b"/other", b"never counted")
    grower.set_data(b"/a", b"1")
    grower.set_data(b"/a/b", None)
    grower.apply(OpCode.DELETE, DeleteTxn(b"/a/b"))
    assert usage(grower, b"/a") == b"count=2,bytes=5"
    grower.apply(OpCode.DELETE, DeleteTxn(b"/a/c"))
    assert usage(grower, b"/a") == b"count=1,bytes=1"
    changed = grower.tree.stat(usage_path(b"/a"))
    # Only the length of the data may differ.
    assert changed[:52] + changed[56:] == stat[:52] + stat[56:]


def test_the_inner_quota_counts_for_itself() -> None:
    grower = Grower()
    grower.create(b"/a")
    grower.create(b"/a/b")
    limited(grower, b"/a")
    limited(grower, b"/a/b")
    grower.create(b"/a/b/c", b"xx")
    grower.create(b"/a/d", b"yyy")
    assert usage(grower, b"/a/b") == b"count=2,bytes=2"
    assert usage(grower, b"/a") == b"count=3,bytes=3"


def test_without_limits_nothing_is_counted() -> None:
    grower = Grower()
    grower.create(b"/a")
    limited(grower, b"/a")
    grower.apply(OpCode.DELETE, DeleteTxn(limits_path(b"/a")))
    grower.create(b"/a/b", b"xx")
    assert usage(grower, b"/a") == b"count=1,bytes=0"
    assert not grower.tree.quotas


def test_usage_is_counted_anew_after_loading() -> None:
    grower = Grower()
    grower.create(b"/a", b"123")
    limited(grower, b"/a")
    grower.set_data(usage_path(b"/a"), b"nonsense")
    grower.create(b"/a/b", b"4")
    grower.tree.rebuild_quotas()
    assert usage(grower, b"/a") == b"count=2,bytes=4"
    assert list(grower.tree.quotas) == [b"/a"]


def test_a_quota_of_what_is_not_there() -> None:
    grower = Grower()
    limited(grower, b"/missing/child")
    grower.tree.rebuild_quotas()
    assert usage(grower, b"/missing/child") == b"count=0,bytes=0"
    grower.create(b"/missing")
    grower.create(b"/missing/child", b"x")
    assert usage(grower, b"/missing/child") == b"count=1,bytes=1"
