"""The page of known failures names tests: they exist, and bear the numbers of what they keep out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "known-failures.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/\S+\.py)::(\w+)`", PAGE)))
ROWS = [
    (numbers.split(", "), tests) for numbers, tests in re.findall(r"^\| ([\d, ]+) \|.*\| (.+) \|$", PAGE, re.MULTILINE)
]


def test_the_page_names_tests() -> None:
    assert len(NAMED) > 60
    assert len({number for numbers, _ in ROWS for number in numbers}) >= 56


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_the_page_names_exists(file: str, name: str) -> None:
    assert re.search(rf"^def {name}\(", (REPOSITORY / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize(("numbers", "tests"), ROWS, ids=["-".join(numbers) for numbers, _ in ROWS])
def test_each_number_is_in_the_name_of_a_test_of_its_row(numbers: list[str], tests: str) -> None:
    borne = {number for name in re.findall(r"::test_zookeeper((?:_\d+)+)_", tests) for number in name[1:].split("_")}
    assert set(numbers) <= borne
