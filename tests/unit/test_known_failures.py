"""The page of known failures names tests: they exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NAMED = sorted(set(re.findall(r"`(tests/\S+\.py)::(\w+)`", (REPOSITORY / "docs" / "known-failures.md").read_text())))


def test_the_page_names_tests() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_the_page_names_exists(file: str, name: str) -> None:
    assert re.search(rf"^def {name}\(", (REPOSITORY / file).read_text(), re.MULTILINE)
