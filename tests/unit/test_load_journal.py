"""What the journal of a load finds wrong."""

from __future__ import annotations

import pytest
from tests.interop.journal import Journal


def journal(*lines: str) -> Journal:
    made = Journal()
    for line in lines:
        made.read(line + "\n")
    return made


FINE = (
    "created /load/a/0",
    "perhaps-created /load/a/1",
    "counted",
    "perhaps-counted",
    "held l one 5 100 200",
    "held l two 6 200 300",
    "held m one 4 150 250",
    "ended one",
)
FOUND = {"/load/a/0": b"/load/a/0"}


def test_nothing_wrong() -> None:
    made = journal(*FINE)
    assert made.faults(FOUND, 1) == []
    assert made.faults({**FOUND, "/load/a/1": b"/load/a/1"}, 2) == []
    assert made.ended_sessions == ["one"]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("created /load/a/2", "1 acknowledged creates are lost, one of them /load/a/2"),
        ("held l three 7 299 400", "two holders at once"),
        ("held l three 5 300 400", "out of turn"),
        ("wrong so it is", "so it is"),
        ("anything else", "a client prints"),
    ],
)
def test_wrong(line: str, word: str) -> None:
    (fault,) = journal(*FINE, line).faults(FOUND, 1)
    assert word in fault


@pytest.mark.parametrize(
    ("found", "counter", "word"),
    [
        ({**FOUND, "/load/a/7": b"/load/a/7"}, 1, "nobody has created"),
        ({"/load/a/0": b"other"}, 1, "with other data"),
        (FOUND, 0, "the counter is 0 after 1 acknowledged"),
        (FOUND, 3, "the counter is 3 after 1 acknowledged"),
    ],
)
def test_something_else_is_found(found: dict[str, bytes], counter: int, word: str) -> None:
    (fault,) = journal(*FINE).faults(found, counter)
    assert word in fault


def test_longest_gap() -> None:
    made = Journal()
    assert made.longest_gap_s(0, 2_000_000_000) == pytest.approx(2)
    assert not made.wait_for_writes(1, 0)
