"""The examples of locks and elections, as real processes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.testing import Address

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE_S = 30.0


@contextmanager
def processes(program: str, number: int, address: str) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, str(EXAMPLES / program), str(address)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
    try:
        yield started
    finally:
        for each in started:
            each.kill()
            each.wait()
            assert each.stdout is not None
            each.stdout.close()


@pytest.mark.slow
def test_lock(zookeeper_shared: Address) -> None:
    with processes("lock.py", 3, zookeeper_shared) as started:
        outputs = [each.communicate(timeout=PATIENCE_S)[0] for each in started]
        assert [each.returncode for each in started] == [0, 0, 0]
    turns = re.findall(r"(\S+) took turn (\d+), fencing number (\d+)", "".join(outputs))
    assert sorted(int(turn) for _, turn, _ in turns) == list(range(1, 16))
    assert len({who for who, _, _ in turns}) == 3
    by_turn = [int(token) for _, _, token in sorted(turns, key=lambda each: int(each[1]))]
    assert by_turn == sorted(by_turn)


@pytest.mark.slow
def test_election(zookeeper_shared: Address) -> None:
    with processes("election.py", 3, zookeeper_shared) as started:
        lines: Queue[tuple[subprocess.Popen[str], str]] = Queue()

        def read(process: subprocess.Popen[str]) -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put((process, line))

        readers = [threading.Thread(target=read, args=(each,)) for each in started]
        for reader in readers:
            reader.start()

        def next_leader() -> tuple[subprocess.Popen[str], int]:
            while True:
                process, line = lines.get(timeout=PATIENCE_S)
                if match := re.search(r"leads, fencing number (\d+)", line):
                    return process, int(match[1])

        first, first_token = next_leader()
        # Stopped, it says good-bye; killed, it does not.
        first.send_signal(signal.SIGINT)
        second, second_token = next_leader()
        assert first.wait(PATIENCE_S) == 0
        second.kill()
        third, third_token = next_leader()
        assert first_token < second_token < third_token
        assert len({first, second, third}) == 3
        third.send_signal(signal.SIGINT)
        assert third.wait(PATIENCE_S) == 0
        for reader in readers:
            reader.join(PATIENCE_S)
