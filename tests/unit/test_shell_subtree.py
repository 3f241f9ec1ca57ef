"""Work on subtrees: what needs no server."""

from __future__ import annotations

import asyncio
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.cli.shell.command import CommandError
from corral.cli.shell.subtree.comparing import Change, compare, data_difference, entries_of_file
from corral.cli.shell.subtree.drawing import Drawing
from corral.cli.shell.subtree.errors import SubtreeError
from corral.cli.shell.subtree.exporting import replacing
from corral.cli.shell.subtree.finding import (
    Conditions,
    parse_age,
    parse_bytes_pattern,
    parse_glob,
    parse_kind,
    parse_owner,
    parse_pattern,
    parse_size,
)
from corral.cli.shell.subtree.lines import (
    data_object,
    encode,
    ended_line,
    header_line,
    node_line,
    read_entries,
    read_header,
)
from corral.cli.shell.subtree.paths import is_within, join, order, parent_of, relative_to
from corral.cli.shell.subtree.places import typed_place
from corral.cli.shell.subtree.preview import preview
from corral.cli.shell.subtree.reading import Entry, Node
from corral.cli.shell.subtree.sizes import Sizes, human
from corral.cli.shell.subtree.writing import batches, is_same_data
from corral.client import NULL, OPEN, Acl, Stat
from corral.jute.owner import OwnerKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

STAT = Stat(1, 2, 1_000_000, 2_000_000, 3, 4, 5, 0, 6, 7, 8)
EPHEMERAL = STAT._replace(ephemeral_owner=-0x7EDCBA9876543210)
HEADER = {"corral_export": 1, "root": "/a", "zxid": "0x1f", "time": "2026-11-22T08:00:00+00:00"}


def file_of(*lines: dict[str, Any] | str) -> io.BytesIO:
    return io.BytesIO("".join(f"{line if isinstance(line, str) else encode(line)}\n" for line in lines).encode())


def entries_in(*lines: dict[str, Any] | str, incomplete: bool = False) -> list[Entry]:
    file = file_of(*lines)
    header = read_header(file, "x.jsonl")
    return [entry for _, entry in read_entries(file, "x.jsonl", header.root, incomplete=incomplete)]


# Paths


@pytest.mark.parametrize(
    ("root", "relative", "path"),
    [("/", "", "/"), ("/", "a/b", "/a/b"), ("/a", "", "/a"), ("/a", "b", "/a/b"), ("/a/b", "c/d", "/a/b/c/d")],
)
def test_paths_are_joined_and_taken_apart(root: str, relative: str, path: str) -> None:
    assert join(root, relative) == path
    assert relative_to(root, path) == relative
    assert is_within(root, path)


def test_a_name_that_begins_alike_is_not_within() -> None:
    assert not is_within("/a", "/ab")
    assert not is_within("/a/b", "/a")
    assert parent_of("/a") == "/"
    assert parent_of("/a/b") == "/a"


def test_the_order_is_by_level_and_then_by_the_names_of_all_levels() -> None:
    walk = ["", "a", "a!", "b", "a/z", "a!/a", "b/a", "a/z/1"]
    assert sorted(walk, key=order) == walk


@pytest.mark.parametrize("text", ["a", "host:2181", "//", "/a/", "/a//b", "host:2181/a/"])
def test_operands_that_name_no_place(text: str) -> None:
    with pytest.raises(CommandError):
        typed_place(text)


def test_operands_that_name_a_place() -> None:
    assert typed_place("/a/b") == ("", "/a/b")
    assert typed_place("one:2181,two:2181/a/b") == ("one:2181,two:2181", "/a/b")
    assert typed_place("one/") == ("one", "/")


# The format of exports


def test_an_exported_znode_is_read_as_it_was() -> None:
    acl = (Acl("world", "anyone", "r"), Acl("digest", "bob:hash=", "cdrwa"))
    for data in (b"", NULL, b"text \xe2\x82\xac\n\x00\xe2\x80\xa8", b"\xff\x00", b"x" * 100_000):
        node = Node("/a", STAT, data, acl)
        (entry,) = entries_in(HEADER, node_line(node), ended_line(1))
        assert entry == Entry("/a", data, acl)
        assert is_same_data(entry.data, data)


def test_an_ephemeral_is_exported_as_one() -> None:
    line = node_line(Node("/a", EPHEMERAL, b"", OPEN))
    assert line["kind"] == "ephemeral"
    (entry,) = entries_in(HEADER, line, ended_line(1))
    assert entry.kind is OwnerKind.EPHEMERAL


def test_the_header_tells_root_zxid_and_time() -> None:
    line = header_line("/a", 0x1F, datetime(2026, 11, 22, 8, tzinfo=UTC))
    assert line == HEADER
    assert read_header(file_of(line), "x") == ("/a", 0x1F, "2026-11-22T08:00:00+00:00")


def test_a_line_written_by_hand_may_be_short() -> None:
    assert entries_in(
        {"corral_export": 1, "root": "/"},
        {"path": "/", "data": ""},
        "",
        {"path": "/t", "data": None, "kind": "ttl", "ttl": 1.5},
        {"path": "/c", "data": {"base64": "AA=="}, "kind": "container", "acl": ["world:anyone:r"]},
        ended_line(3),
    ) == [
        Entry("/", b"", OPEN),
        Entry("/t", NULL, OPEN, OwnerKind.TTL, 1.5),
        Entry("/c", b"\0", (Acl("world", "anyone", "r"),), OwnerKind.CONTAINER),
    ]


TOP = {"path": "/a", "data": ""}


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([""], "line 1, column 1: Expecting value"),
        (["[]"], "line 1: not a JSON object"),
        ([TOP], "line 1: not the header of an export"),
        ([HEADER | {"corral_export": 2}], "line 1: format 2; this version knows 1"),
        ([HEADER | {"root": 1}], "line 1: the root is missing"),
        ([HEADER | {"root": "a"}], "line 1: path 'a' does not start with /"),
        ([HEADER | {"zxid": "x"}], "line 1: 'x' is no zxid"),
        ([HEADER, "{"], "line 2, column 2: Expecting property name"),
        ([HEADER, {"path": "/a"}], "line 2: no 'data'"),
        ([HEADER, {"data": "/a"}], "line 2: no 'path'"),
        ([HEADER, {"path": 1, "data": ""}], "line 2: the path 1 is no text"),
        ([HEADER, {"path": "/a/../b", "data": ""}], "line 2: path '/a/../b' has a relative element"),
        ([HEADER, '{"path": "/a\\ud800", "data": ""}'], "line 2: path '/a\\ud800' has a character"),
        ([HEADER, {"path": "/b", "data": ""}], "line 2: /b is not within the root /a"),
        ([HEADER, TOP, TOP], "line 3: /a is there twice"),
        ([HEADER, TOP, {"path": "/a/b/c", "data": ""}], "line 3: /a/b/c comes before its parent, or has none"),
        ([HEADER, TOP | {"dat": ""}], "line 2: unknown 'dat'"),
        ([HEADER, TOP | {"data": 1}], "line 2: the data is neither"),
        ([HEADER, TOP | {"data": {"base64": "AA==", "x": 1}}], "line 2: the data is neither"),
        ([HEADER, TOP | {"data": {"base64": "A"}}], "line 2: the data is no base64"),
        ([HEADER, TOP | {"data": {"base64": "ä"}}], "line 2: the data is no base64"),
        ([HEADER, '{"path": "/a", "data": "\\ud800"}'], "line 2: the data is no text at 0"),
        ([HEADER, TOP | {"acl": []}], "line 2: the acl is not a list"),
        ([HEADER, TOP | {"acl": ["world:anyone"]}], "line 2: acl: 'world:anyone' does not have the form"),
        ([HEADER, TOP | {"acl": ["world:anyone:q"]}], "line 2: acl: permissions 'q'"),
        ([HEADER, TOP | {"acl": [7]}], "line 2: acl: '7' does not have the form"),
        ([HEADER, TOP | {"kind": "odd"}], "line 2: kind 'odd' is none of"),
        ([HEADER, TOP | {"kind": ["ttl"]}], "line 2: kind ['ttl'] is none of"),
        ([HEADER, TOP | {"ttl": 1}], "line 2: a ttl, but the kind is persistent"),
        ([HEADER, TOP | {"kind": "ttl"}], "line 2: ttl None is not between"),
        ([HEADER, TOP | {"kind": "ttl", "ttl": True}], "line 2: ttl True is not between"),
        ([HEADER, TOP | {"kind": "ttl", "ttl": 0}], "line 2: ttl 0 is not between"),
        ([HEADER, '{"path": "/a", "data": "", "kind": "ttl", "ttl": NaN}'], "line 2: ttl nan is not between"),
        ([HEADER, TOP, ended_line(2)], "line 3: there were 2 znodes, and there are 1"),
        ([HEADER, TOP, ended_line(1), TOP], "line 4: more after the last line"),
        ([HEADER, TOP], "the last line is missing"),
    ],
)
def test_a_wrong_line_is_named(lines: list[dict[str, Any] | str], complaint: str) -> None:
    with pytest.raises(SubtreeError, match=rf"^x\.jsonl.*{re.escape(complaint)}"):
        entries_in(*lines)


def test_bytes_that_are_no_utf_8_are_named() -> None:
    file = io.BytesIO(file_of(HEADER).getvalue() + b'{"path": "/a\xff"}\n')
    read_header(file, "x")
    with pytest.raises(SubtreeError, match=r"^x, line 2: not UTF-8 at byte 12$"):
        list(read_entries(file, "x", "/a"))


def test_a_file_that_was_cut_is_taken_if_that_is_wanted() -> None:
    assert [entry.path for entry in entries_in(HEADER, TOP, incomplete=True)] == ["/a"]
    assert [entry.path for entry in entries_in(HEADER, TOP, ended_line(9), incomplete=True)] == ["/a"]


@given(st.binary(max_size=40))
def test_any_data_is_one_line_of_json_and_comes_back(data: bytes) -> None:
    line = encode(node_line(Node("/a", STAT, data, OPEN)))
    assert "\n" not in line
    (entry,) = entries_in(HEADER, line, ended_line(1))
    assert entry.data == data
    assert json.loads(line)["data"] == data_object(data)


@given(st.binary(max_size=60) | st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace")))
def test_any_line_is_taken_or_refused_with_its_number(line: bytes) -> None:
    file = io.BytesIO(file_of(HEADER).getvalue() + line.replace(b"\n", b"") + b"\n")
    read_header(file, "x")
    with pytest.raises(SubtreeError, match=r"^x(, line \d+|: the last line is missing)"):
        list(read_entries(file, "x", "/a"))


def test_a_new_file_gets_its_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "export"
    with replacing(path, overwrite=False) as file:
        file.write("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(SubtreeError, match="exists: --overwrite replaces it"), replacing(path, overwrite=False):
        pass
    with pytest.raises(io.UnsupportedOperation), replacing(path, overwrite=True) as file:
        file.read()
    assert path.read_text() == "one"
    with replacing(path, overwrite=True) as file:
        file.write("three")
    assert path.read_text() == "three"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_somebody_made_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "export"
    with pytest.raises(FileExistsError), replacing(path, overwrite=False):
        path.write_text("theirs")
    assert path.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [path]


# Comparing


async def walk_of(entries: Iterable[Entry]) -> AsyncIterator[Entry]:
    for entry in sorted(entries, key=lambda entry: order(entry.path)):
        yield entry


def differences(left: Iterable[Entry], right: Iterable[Entry], *, acl: bool = False) -> list[tuple[Any, ...]]:
    async def run() -> list[tuple[Any, ...]]:
        found = compare(walk_of(left), walk_of(right), acl=acl)
        return [(each.change, each.path, each.what) async for each in found]

    return asyncio.run(run())


def test_what_differs_is_found() -> None:
    top, same = Entry("", b"", OPEN), Entry("same", b"1", OPEN)
    left = [top, same, Entry("gone", b"", OPEN), Entry("data", b"1", OPEN), Entry("kind", b"", OPEN)]
    ephemeral = Entry("kind", b"", OPEN, OwnerKind.EPHEMERAL)
    right = [top, same, Entry("data", b"2", OPEN), Entry("new", b"", OPEN), Entry("same/new", b"", OPEN), ephemeral]
    assert differences(left, right) == [
        (Change.CHANGED, "data", ("data",)),
        (Change.REMOVED, "gone", ()),
        (Change.CHANGED, "kind", ("kind",)),
        (Change.ADDED, "new", ()),
        (Change.ADDED, "same/new", ()),
    ]


def test_no_data_is_not_empty_data() -> None:
    assert differences([Entry("", NULL, OPEN)], [Entry("", b"", OPEN)]) == [(Change.CHANGED, "", ("data",))]


def test_acls_are_compared_if_wanted_and_their_order_means_nothing() -> None:
    one, other = Acl("world", "anyone", "r"), Acl("ip", "127.0.0.1", "cdrwa")
    assert differences([Entry("", b"", (one,))], [Entry("", b"", (other,))]) == []
    assert differences([Entry("", b"", (one,))], [Entry("", b"", (other,))], acl=True) == [
        (Change.CHANGED, "", ("acl",))
    ]
    assert differences([Entry("", b"", (one, other))], [Entry("", b"", (other, one))], acl=True) == []


TREES = st.dictionaries(st.lists(st.sampled_from("ab!"), max_size=3).map("/".join), st.sampled_from([b"1", b"2"]))


@settings(max_examples=40)
@given(TREES, TREES)
def test_comparing_side_by_side_finds_what_comparing_tables_does(
    left: dict[str, bytes], right: dict[str, bytes]
) -> None:
    expected = [
        (Change.CHANGED if path in left and path in right else Change.REMOVED if path in left else Change.ADDED, path)
        for path in sorted(left | right, key=order)
        if left.get(path) != right.get(path)
    ]
    found = differences(
        [Entry(path, data, OPEN) for path, data in left.items()],
        [Entry(path, data, OPEN) for path, data in right.items()],
    )
    assert [each[:2] for each in found] == expected


def test_a_file_in_another_order_is_compared_all_the_same() -> None:
    async def paths() -> list[str]:
        file = file_of(
            HEADER,
            TOP,
            {"path": "/a/b", "data": ""},
            {"path": "/a/b/c", "data": ""},
            {"path": "/a/a", "data": "", "kind": "ephemeral"},
            ended_line(4),
        )
        return [entry.path async for entry in entries_of_file(file, "x", ephemerals=True)]

    assert asyncio.run(paths()) == ["", "a", "b", "b/c"]


def test_how_data_differs() -> None:
    assert data_difference(b"one", b"two") == ['- "one"', '+ "two"']
    assert data_difference(b"a\nb\nc", b"a\nB\nc") == ["@@ -1,3 +1,3 @@", " a", "-b", "+B", " c"]
    assert data_difference(b"\xff", b"") == ["- 0xff (1 bytes)", '+ ""']
    assert data_difference(b"same " * 20 + b"1", b"same " * 20 + b"2") == [
        '- ..." same same same 1"',
        '+ ..." same same same 2"',
    ]
    assert data_difference(b"", NULL) == ['- ""', "+ null"]
    many = data_difference(b"\n".join([b"x"] * 50), b"\n".join([b"y"] * 50))
    assert len(many) == 13
    assert many[-1] == "..."


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"", '""'),
        (NULL, "null"),
        (b'say "hi"\n', '"say \\"hi\\"\\n"'),
        (b"\x00\xff", "0x00ff (2 bytes)"),
        (b"\xff" * 40, f"0x{'ff' * 30}... (40 bytes)"),
        (b"x" * 60, f'"{"x" * 60}"'),
        (b"x" * 61, f'"{"x" * 60}"... (61 bytes)'),
        ("€".encode() * 90, f'"{"€" * 60}"... (270 bytes)'),
        (b"x" + "€".encode() * 90, f'"x{"€" * 59}"... (271 bytes)'),
        (b"cut \xe2\x82", "0x63757420e282 (6 bytes)"),
    ],
)
def test_data_in_a_line(data: bytes, shown: str) -> None:
    assert preview(data) == shown


def test_a_preview_may_begin_in_the_middle_of_a_character() -> None:
    assert preview("€uro".encode(), 1) == '"uro"'


# Finding


def holds(node: Node, **wanted: Any) -> bool:
    return replace(Conditions(), **wanted).hold(node, now=3000.0)


def test_conditions() -> None:
    node = Node("/jobs/lock-01", STAT, b"owner=\xffme\nhost=h")
    assert holds(node)
    assert holds(node, name=parse_glob("lock-*"))
    assert not holds(node, name=parse_glob("lock"))
    assert not holds(node, name=parse_glob("*jobs*"))
    assert holds(node, path=parse_pattern("^/jobs/.*1$"))
    assert not holds(node, path=parse_pattern("^lock"))
    assert holds(node, data=parse_bytes_pattern(r"\xffme.host"))
    assert not holds(node, data=parse_bytes_pattern("other"))
    assert holds(node, size=parse_size("6"), children=parse_size("-8"))
    assert not holds(node, size=parse_size("+6"))
    assert holds(node, modified=parse_age("-17m"), created=parse_age("+1900s"))
    assert not holds(node, modified=parse_age("+1h"))
    assert holds(node, kind=parse_kind("persistent"))
    assert not holds(node, kind=parse_kind("ephemeral"))
    assert not holds(node, owner=0)


def test_an_owner_is_given_as_servers_print_it() -> None:
    node = Node("/e", EPHEMERAL)
    assert holds(node, owner=parse_owner("0x812345678abcdf0"[:2] + "8123456789abcdf0"))
    assert holds(node, owner=parse_owner("8123456789abcdf0"))
    assert not holds(node, owner=parse_owner("0x1"))


@pytest.mark.parametrize(
    ("text", "amount"), [("0", 0), ("+1k", 1024), ("-2M", 2 * 1024**2), ("1.5k", 1536), ("10b", 10)]
)
def test_sizes(text: str, amount: float) -> None:
    assert parse_size(text).amount == amount
    assert parse_size(text).sign == (text[0] if text[0] in "+-" else "")


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_size, "x"),
        (parse_size, "1d"),
        (parse_size, "++1"),
        (parse_age, "1k"),
        (parse_age, ""),
        (parse_pattern, "("),
        (parse_bytes_pattern, "["),
        (parse_kind, "ttl"),
        (parse_owner, "me"),
    ],
)
def test_conditions_that_make_no_sense(parse: Any, text: str) -> None:
    with pytest.raises(SubtreeError, match=re.escape(repr(text))):
        parse(text)


# Drawing and adding up

NODES = [
    Node("/a", STAT._replace(num_children=2)),
    Node("/a/b", STAT._replace(num_children=1), b"x"),
    Node("/a/c", EPHEMERAL),
    Node("/a/b/d", STAT._replace(num_children=3)),
]


def test_a_drawing() -> None:
    drawing = Drawing("/a")
    for node in NODES:
        drawing.add(node, is_cut=node.path == "/a/b/d")
    assert list(drawing.lines()) == [
        "/a",
        '├── b  "x"',
        "│   └── d  [3 children]",
        "└── c  (ephemeral 0x8123456789abcdf0)",
    ]
    assert [path for path, _ in drawing.paths()] == ["/a", "/a/b", "/a/b/d", "/a/c"]


def test_a_tree_may_be_deeper_than_the_stack() -> None:
    drawing = Drawing("/")
    path = ""
    for _ in range(3000):
        path += "/x"
        drawing.add(Node(path, STAT), is_cut=False)
    drawing.add(Node("/", STAT), is_cut=False)
    assert sum(1 for _ in drawing.lines()) == 3001


def test_sums() -> None:
    sizes = Sizes("/a", 1)
    for node in NODES:
        sizes.add(node)
    assert [(path, usage.znodes, usage.data_bytes) for path, usage in sizes.ranked("bytes")] == [
        ("/a/b", 2, 12),
        ("/a/c", 1, 6),
    ]
    assert [path for path, _ in sizes.ranked("znodes")] == ["/a/b", "/a/c"]
    whole = sizes.sums["/a"]
    assert (whole.znodes, whole.data_bytes, whole.ephemerals) == (4, 24, 1)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 20, "3.0 MiB"), (5 << 40, "5120.0 GiB")]
)
def test_sizes_for_readers(size: int, text: str) -> None:
    assert human(size) == text


# Batches


def test_batches_are_bounded_by_number_and_by_size() -> None:
    async def sizes(entries: list[Entry]) -> list[int]:
        async def given_entries() -> AsyncIterator[Entry]:
            for entry in entries:
                yield entry

        return [len(batch) async for batch in batches(given_entries())]

    assert asyncio.run(sizes([Entry("/a", b"", OPEN)] * 1001)) == [500, 500, 1]
    assert asyncio.run(sizes([Entry("/a", bytes(3 << 20), OPEN)] * 5)) == [2, 2, 1]
    assert asyncio.run(sizes([Entry("/a", bytes(9 << 20), OPEN)] * 2)) == [1, 1]
    assert asyncio.run(sizes([])) == []
