"""The words of a command line: how they are split, what are options, what can be a path or an ACL."""

from __future__ import annotations

import re

import pytest

from corral.cli.shell.acls import parse_acl
from corral.cli.shell.arguments import parse, split
from corral.cli.shell.command import Command, CommandError, Option, UsageError
from corral.cli.shell.paths import check_path
from corral.cli.shell.registry import COMMANDS
from corral.client import Acl

OPTIONS = (
    Option("s", "stat"),
    Option("w", "watch"),
    Option("v", "version", value="version"),
    Option("file", "a file", value="path"),
    Option("n", "dry run", long="dry-run"),
    Option("d", "depth", value="levels", long="depth"),
    Option("data", "data too", long="data"),
)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ls /", ["ls", "/"]),
        ("  get\t-s   /a  ", ["get", "-s", "/a"]),
        ('create /a "two words"', ["create", "/a", "two words"]),
        ("create '/a b' 'it is \"so\"'", ["create", "/a b", 'it is "so"']),
        ('create /a ""', ["create", "/a", ""]),
        ('set /a {"k":"v"}', ["set", "/a", '{"k":"v"}']),
        ("create /a'b c", ["create", "/a'b", "c"]),
        ("create /ä ö", ["create", "/ä", "ö"]),
    ],
)
def test_splits_as_zkcli(line: str, words: list[str]) -> None:
    assert split(line) == words


@pytest.mark.parametrize("line", ['create /a "b c', "'", 'set /a "x" \'y z'])
def test_a_quote_that_is_not_closed_is_an_error(line: str) -> None:
    with pytest.raises(UsageError, match="quote is not closed"):
        split(line)


@pytest.mark.parametrize(
    ("words", "operands", "values"),
    [
        ("-s /a", ["/a"], {"s": ""}),
        ("/a -s", ["/a"], {"s": ""}),
        ("-sw /a", ["/a"], {"s": "", "w": ""}),
        ("-v 3 /a", ["/a"], {"v": "3"}),
        ("-v3 /a", ["/a"], {"v": "3"}),
        ("-v=3 /a", ["/a"], {"v": "3"}),
        ("-v -3 /a", ["/a"], {"v": "-3"}),
        ("-sv3 /a", ["/a"], {"s": "", "v": "3"}),
        ("-v 3 -v 4", [], {"v": "3"}),
        ("-file x", [], {"file": "x"}),
        ("-- -s", ["-s"], {}),
        ("-", ["-"], {}),
        ("--dry-run /a", ["/a"], {"n": ""}),
        ("-dry-run /a", ["/a"], {"n": ""}),
        ("--dry /a", ["/a"], {"n": ""}),
        ("-n /a", ["/a"], {"n": ""}),
        ("--depth 2", [], {"d": "2"}),
        ("--depth=2", [], {"d": "2"}),
        ("--data", [], {"data": ""}),
    ],
)
def test_tells_options_from_operands(words: str, operands: list[str], values: dict[str, str]) -> None:
    found = parse(words.split(), OPTIONS)
    assert (found.operands, found.values) == (operands, values)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("-q", "Unrecognized option: -q"),
        ("-sq", "Unrecognized option: -sq"),
        ("-5", "Unrecognized option: -5"),
        ("--s", "Unrecognized option: --s"),
        ("-s=1", "Unrecognized option: -s=1"),
        ("--data=1", "Unrecognized option: --data=1"),
        ("-v", "Missing argument for option: v"),
        ("-v -s", "Missing argument for option: v"),
        ("--d", "Ambiguous option: '--d'  (could be: 'dry-run', 'depth', 'data')"),
    ],
)
def test_names_the_option_that_is_wrong(words: str, complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(words.split(), OPTIONS)
    assert str(raised.value) == complaint


@pytest.mark.parametrize("text", ["", "x", "1.5", "2147483648", "-2147483649", "1_000", "٣"])
def test_a_number_is_one_that_fits(text: str) -> None:
    with pytest.raises(CommandError, match="-v argument must be an int value"):
        parse(["-v", text], OPTIONS).integer("v", 0)


def test_numbers() -> None:
    assert parse(["-v", "-2147483648"], OPTIONS).integer("v", 0) == -(2**31)
    assert parse(["-v", "+9223372036854775807"], OPTIONS).integer("v", 0, bits=64) == 2**63 - 1
    assert parse([], OPTIONS).integer("v", 7) == 7


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("", "Path length must be > 0"),
        ("a", "Path must start with / character"),
        ("/a/", "Path must not end with / character"),
        ("/a//b", 'Invalid path string "/a//b" caused by empty node name specified @3'),
        ("/./b", 'Invalid path string "/./b" caused by relative paths not allowed @1'),
        ("/a/..", 'Invalid path string "/a/.." caused by relative paths not allowed @4'),
        ("/a\0b", 'Invalid path string "/a\0b" caused by null character not allowed @2'),
        ("/a\n//", "Path must not end with / character"),
        ("/a\n//b", 'Invalid path string "/a\n//b" caused by invalid character @2'),
        ("/\udcff", 'Invalid path string "/\udcff" caused by invalid character @1'),
        ("/😀", 'Invalid path string "/😀" caused by invalid character @1'),
    ],
)
def test_a_bad_path_is_refused_in_zkclis_words(path: str, complaint: str) -> None:
    with pytest.raises(CommandError, match=f"^{re.escape(complaint)}$"):
        check_path(path)


@pytest.mark.parametrize("path", ["/", "/a", "/a.b/..c/...", "/ä €/x y"])
def test_a_good_path_passes(path: str) -> None:
    assert check_path(path) == path


def test_a_sequential_path_may_end_with_a_slash() -> None:
    assert check_path("/a/", sequential=True) == "/a/"


def test_acl() -> None:
    assert parse_acl("world:anyone:cdrwa,ip:fe80::1:r,auth::") == [
        Acl("world", "anyone", "cdrwa"),
        Acl("ip", "fe80::1", "r"),
        Acl("auth", "", ""),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("world:anyone", "world:anyone does not have the form scheme:id:perm"),
        ("world:anyone:r,", " does not have the form scheme:id:perm"),
        ("world:anyone:rx", "Unknown perm type: x"),
    ],
)
def test_a_bad_acl_is_refused_as_a_whole(text: str, complaint: str) -> None:
    with pytest.raises(CommandError, match=f"^{re.escape(complaint)}$"):
        parse_acl(text)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_is_declared_in_full(command: Command) -> None:
    assert command.summary.endswith(".")
    at_least, at_most = command.operands
    assert 0 <= at_least <= at_most
    assert len({option.name for option in command.options}) == len(command.options)
    assert all(option.description for option in command.options)
