"""The tool that writes the blocking twins: types, docstrings, and what it refuses."""

from __future__ import annotations

import ast

import pytest
from tools import blocking


@pytest.fixture(scope="module")
def twins() -> blocking.Twins:
    return blocking.Twins()


@pytest.fixture
def module(twins: blocking.Twins) -> blocking.Module:
    return blocking.Module("corral.sync.recipes", twins)


@pytest.fixture(scope="module")
def source() -> blocking.Source:
    text = """
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Self, TypeVar
from corral.client import Client, Session, Znode
_T = TypeVar("_T")
"""
    tree = ast.parse(text)
    source = blocking.Source("corral.recipes", "example.py", tree, own={"_T"}, statements=tree.body)
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom):
            source.imports.update({each.name: (str(statement.module), each.name) for each in statement.names})
    source.imports["asyncio"] = ("asyncio", None)
    return source


def annotation(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@pytest.mark.parametrize(
    ("asynchronous", "written", "to_original", "to_twin", "kind"),
    [
        ("str | None", "str | None", None, None, "plain"),
        ("Awaitable[Znode]", "Znode", None, None, "awaitable"),
        ("asyncio.Future[Session]", "Session", None, "Session._of(self._portal, {})", "awaitable"),
        ("AsyncIterator[bytes]", "Iterator[bytes]", None, None, "iterator"),
        ("AbstractAsyncContextManager[str]", "AbstractContextManager[str]", None, None, "context"),
        ("Client", "Client", "{}._original", "Client._of(self._portal, {})", "plain"),
        (
            "Session | None",
            "Session | None",
            "({}._original if {} is not None else None)",
            "(Session._of(self._portal, found) if (found := {}) is not None else None)",
            "plain",
        ),
        (
            "Sequence[Session]",
            "Sequence[Session]",
            "[each._original for each in {}]",
            "[Session._of(self._portal, each) for each in {}]",
            "plain",
        ),
        ("Callable[[Client], object]", "Callable[[Client], object]", "self._portal.callback({})", None, "plain"),
        ("Callable[[], Awaitable[_T]]", "Callable[[], _T]", "self._portal.body({})", None, "plain"),
        ("Callable[[str], bool]", "Callable[[str], bool]", None, None, "plain"),
        ("Callable[[Client], bool]", "Callable[[Client], bool]", "self._portal.in_place({})", None, "plain"),
        ("'Awaitable[int]'", "int", None, None, "awaitable"),
    ],
)
def test_types(
    module: blocking.Module,
    source: blocking.Source,
    asynchronous: str,
    written: str,
    to_original: str | None,
    to_twin: str | None,
    kind: str,
) -> None:
    translation = module.translate(source, annotation(asynchronous))
    assert (translation.text, translation.kind) == (written, kind)
    assert (translation.to_original, translation.to_twin) == (to_original, to_twin)


@pytest.mark.parametrize(
    ("asynchronous", "why"),
    [
        ("asyncio.Event", "no blocking form"),
        ("Awaitable", "without what it gives"),
        ("Awaitable[int] | None", "may have to be waited for, or not"),
        ("Session | str", "cross over in different ways"),
        ("Callable[[], AsyncIterator[int]]", "a function that returns"),
        ("tuple[Session, int]", "cannot cross over"),
        ("Unheard", "Unheard is not known"),
    ],
)
def test_what_has_no_blocking_form_is_named(
    module: blocking.Module, source: blocking.Source, asynchronous: str, why: str
) -> None:
    with pytest.raises(blocking.Untranslatable, match=why):
        module.translate(source, annotation(asynchronous))


def test_two_things_of_one_name_are_told_apart(module: blocking.Module) -> None:
    assert module.use("corral.recipes.dispatch", "KEPT") == "KEPT"
    assert module.use("corral.recipes.dispatch", "KEPT", running=True) == "KEPT"
    assert module.use("corral.recipes.pubsub", "KEPT") == "PUBSUB_KEPT"


@pytest.mark.parametrize(
    ("asynchronous", "written"),
    [
        ("async with zk as t:", "with zk as t:"),
        ("the ``async with`` block", "the ``with`` block"),
        ("an ``async with`` block", "a ``with`` block"),
        ("await zk.get(path)", "zk.get(path)"),
        ("print((await zk.get(path(1))).data)", "print(zk.get(path(1)).data)"),
        ("an async iterator", "an iterator"),
        ("corral.connect(...)", "corral.sync.connect(...)"),
        (":class:`~corral.recipes.standby.HotStandby`", ":class:`~corral.sync.recipes.HotStandby`"),
        (":mod:`corral.recipes.codecs`", ":mod:`corral.recipes.codecs`"),
    ],
)
def test_docstrings(asynchronous: str, written: str) -> None:
    assert blocking.translate_docstring(asynchronous) == written


def test_lines_that_grow_too_long_are_filled_anew() -> None:
    text = "    " + "corral.connect " * 7 + "end\n    of it"
    first, second = blocking.translate_docstring(text).splitlines()
    assert first == "    " + ("corral.sync.connect " * 5).rstrip()
    assert second == "    corral.sync.connect corral.sync.connect end of it"


def test_a_generic_base_is_written_with_its_types() -> None:
    from corral.recipes import Counter

    members = blocking.members_of(Counter)
    compare = members["compare_and_set"].node
    assert compare is not None
    assert [ast.unparse(each.annotation) for each in compare.args.args[1:] if each.annotation] == ["int", "int"]
