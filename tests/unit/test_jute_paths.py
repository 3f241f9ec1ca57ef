"""Which paths may name a znode."""

from __future__ import annotations

import pytest

from corral.jute.errors import BadArgumentsError
from corral.jute.paths import is_plain_name, parent_of, path_units, validate_path

VALID = ["/", "/a", "/a/b", "/zookeeper/config", "/a b", "/..a", "/a..", "/.a", "/a.b", "/é", "/\u00a0", "/\ud7ff"]
VALID += ["/\uf900", "/\uffef", "/~!@#$%^&*()"]
INVALID = {
    "": "does not start with /",
    "a": "does not start with /",
    "a/b": "does not start with /",
    "/a/": "ends with /",
    "//": "ends with /",
    "/a//b": "empty element",
    "//a": "empty element",
    "/.": "relative element",
    "/..": "relative element",
    "/./a": "relative element",
    "/a/..": "relative element",
    "/a/../b": "relative element",
    "/\0": "not allowed at 1",
    "/a\x1f": "not allowed at 2",
    "/\x7f": "not allowed at 1",
    "/\x9f": "not allowed at 1",
    "/\ue000": "not allowed at 1",
    "/\uf8ff": "not allowed at 1",
    "/\ufff0": "not allowed at 1",
    "/\uffff": "not allowed at 1",
    "/a\U0001f600": "not allowed at 2",
}


@pytest.mark.parametrize("path", VALID)
def test_valid(path: str) -> None:
    assert validate_path(path.encode()) == path.encode()


@pytest.mark.parametrize("path", INVALID)
def test_invalid_and_why(path: str) -> None:
    with pytest.raises(BadArgumentsError, match=INVALID[path]):
        validate_path(path.encode())


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(BadArgumentsError, match="not UTF-8 at byte 2"):
        validate_path(b"/a\xff")
    with pytest.raises(BadArgumentsError, match="not UTF-8"):
        validate_path(b"/\xed\xa0\xbd")
    with pytest.raises(BadArgumentsError, match="missing"):
        validate_path(None)


def test_a_long_path_is_looked_at_quickly() -> None:
    path = b"/" + b"a" * 1_000_000
    assert validate_path(path) is path
    with pytest.raises(BadArgumentsError) as caught:
        validate_path(path + b"\x01")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("path", "parent"),
    [(b"/a", b""), (b"/a/b", b"/a"), (b"/", b""), (b"/a/b/c", b"/a/b")],
)
def test_parents(path: bytes, parent: bytes) -> None:
    assert parent_of(path) == parent


def test_plain_names() -> None:
    assert all(map(is_plain_name, [b"a", b"a.b", b"x-y_~", b"0000000001"]))
    assert not any(map(is_plain_name, [b"", b".", b"..", b"a/b", "é".encode(), b"\x7f", b"a\x00", b"a\n", b".a"]))


def test_length_as_java_counts() -> None:
    assert [path_units(path.encode()) for path in ("/abc", "/é", "/\uffef")] == [4, 2, 2]
