"""The examples of queues, barriers, counters and names, as real processes."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.testing import Address

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE_S = 60.0

pytestmark = pytest.mark.slow


@contextmanager
def processes(program: str, number: int, address: Address) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, str(EXAMPLES / program), str(address)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
    try:
        yield started
    finally:
        for each in started:
            each.kill()
            each.communicate()


def finish(started: list[subprocess.Popen[str]]) -> str:
    """What all of them print."""
    output = "".join(each.communicate(timeout=PATIENCE_S)[0] for each in started)
    assert [each.returncode for each in started] == [0] * len(started)
    return output


def test_queue(zookeeper_shared: Address) -> None:
    """One worker dies in the middle of a job, and another one does it."""
    with processes("queue.py", 3, zookeeper_shared) as started:
        dying, *others = started
        assert dying.stdout is not None
        assert re.match(r"worker \d+ begins", dying.stdout.readline())
        dying.kill()
        output = finish(others)
        done = re.findall(r"has done (.*)\n", output)
        assert len(set(done)) == len(done)
        # On a slow machine it may have come further before it died.
        by_the_dead = re.findall(r"has done (.*)\n", dying.stdout.read())
        assert set(done + by_the_dead) == {
            f"job {number} of worker {each.pid}" for number in range(5) for each in started
        }


def test_barrier(zookeeper_shared: Address) -> None:
    with processes("barrier.py", 2, zookeeper_shared) as early:
        for each in early:
            assert each.stdout is not None
            assert "is ready" in each.stdout.readline()
        # They wait for the third one, which comes late.
        with processes("barrier.py", 1, zookeeper_shared) as late:
            output = finish(early + late)
    assert len(re.findall("begins", output)) == 3
    assert len(re.findall("knows that all have done theirs", output)) == 3


def test_counter(zookeeper_shared: Address) -> None:
    with processes("counter.py", 3, zookeeper_shared) as started:
        output = finish(started)
    counted = re.findall(r"counted from (\d+) to (\d+)", output)
    assert sorted((int(before), int(after)) for before, after in counted) == [(each, each + 1) for each in range(30)]
    assert "left 3.0 s" in output


def test_naming(zookeeper_shared: Address) -> None:
    with processes("naming.py", 3, zookeeper_shared) as started:
        output = finish(started)
    taken = re.findall(r"(worker-\d{10}) takes (type2-job-\d{10})\n", output)
    assert len({job for _, job in taken}) == 15
    assert {worker for worker, _ in taken} == {f"worker-{number:010d}" for number in range(3)}
    for worker in {worker for worker, _ in taken}:
        assert f"{worker} sees workers/{worker}: process" in output
