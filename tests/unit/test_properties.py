"""Java's properties files: by rule, and beside another reader of them."""

from __future__ import annotations

import javaproperties
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.properties import InvalidEscapeError, parse, settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1\nb:2\r\nc 3\rd\n", {"a": "1", "b": "2", "c": "3", "d": ""}),
        (" \t a \t = \f 1 2 \n", {"a": "1 2 "}),
        ("a==b\nc = = d\n", {"a": "=b", "c": "= d"}),
        ("# a=1\n  ! b=2\n\n \t\nc=3 # not a comment\n", {"c": "3 # not a comment"}),
        ("# goes not on \\\na=1\n", {"a": "1"}),
        ("a=1\\\n   2\\\r\n\t3\n", {"a": "123"}),
        ("a=1\\\\\nb=2\\\n", {"a": "1\\", "b": "2"}),
        ("a=1\\\n#2\n", {"a": "1#2"}),
        ("\\\n \\\n\na=1\n", {"a": "1"}),
        ("a\\=b\\ c\\:=1\n", {"a=b c:": "1"}),
        (r"a=\t\n\r\f\q\\\u0041", {"a": "\t\n\r\fq\\A"}),
        (r"a=\ud83d\ude00 \ud83d", {"a": "\U0001f600 \ud83d"}),
        ("a=1\na=2\n", {"a": "2"}),
        ("=1\n", {"": "1"}),
        ("", {}),
    ],
)
def test_rules(text: str, expected: dict[str, str]) -> None:
    assert settings(text) == expected


@pytest.mark.parametrize(("text", "escape"), [(r"a=\u12", r"\u12"), (r"\u00g0=1", r"\u00g0"), ("a=\\u", "\\u")])
def test_half_an_escape_is_refused(text: str, escape: str) -> None:
    with pytest.raises(InvalidEscapeError) as caught:
        settings(text)
    assert caught.value.escape == escape


@given(st.text(st.sampled_from("ab=: \t\f\r\n\\#!u0041d8"), max_size=40) | st.text(max_size=20))
def test_it_reads_what_another_reader_does(text: str) -> None:
    try:
        expected = [
            ((each.key, each.value) if isinstance(each, javaproperties.KeyValue) else None, each.source)
            for each in javaproperties.parse(text)
        ]
    except javaproperties.InvalidUEscapeError:
        with pytest.raises(InvalidEscapeError):
            settings(text)
        return
    assert [(line.setting(), line.source) for line in parse(text)] == expected
