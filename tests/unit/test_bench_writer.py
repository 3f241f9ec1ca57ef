"""The benchmarks' client that never pauses, against servers of canned answers."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from bench.errors import BenchError
from bench.probe import framed
from bench.writer import Acknowledged, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT_S = 20.0
SESSION = struct.pack(">iiqi16s?", 0, 10_000, 7, 16, bytes(16), False)
NO_SESSION = struct.pack(">iiqi16s?", 0, 0, 0, 16, bytes(16), False)


def written(error: int = 0) -> bytes:
    """A reply to setData; the stat behind the header does not matter here."""
    return struct.pack(">iqi", 1, 5, error) + bytes(68)


class Canned:
    """Takes connections one after the other; each gets the next of the scripts, and is closed at its end."""

    def __init__(self, *scripts: list[bytes]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.taken = 0
        self._thread = threading.Thread(target=self._run, args=(scripts,), daemon=True)
        self._thread.start()

    def _run(self, scripts: tuple[list[bytes], ...]) -> None:
        for script in scripts:
            connection, _ = self._listener.accept()
            with closing(connection):
                self.taken += 1
                for answer in script:
                    connection.recv(4096)
                    connection.sendall(framed(answer))

    def close(self) -> None:
        self._thread.join(LIMIT_S)
        self._listener.close()


@pytest.fixture
def canned() -> Iterator[Callable[..., Canned]]:
    made: list[Canned] = []

    def make(*scripts: list[bytes]) -> Canned:
        made.append(Canned(*scripts))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_it_comes_back_until_a_write_is_acknowledged(canned: Callable[..., Canned]) -> None:
    server = canned([], [NO_SESSION], [SESSION, written(error=-4)], [SESSION, written()])
    before_s = time.monotonic()
    with Writer([server.port]) as writer:
        acknowledged = writer.run(lambda _: True, LIMIT_S)
    assert server.taken == 4
    assert acknowledged.port == server.port
    assert before_s <= acknowledged.sent_s <= acknowledged.answered_s


def test_writes_that_are_not_enough_are_followed_by_more(canned: Callable[..., Canned]) -> None:
    server = canned([SESSION, written(), written(), written()])
    seen: list[float] = []

    def is_third(acknowledged: Acknowledged) -> bool:
        seen.append(acknowledged.sent_s)
        return len(seen) == 3

    with Writer([server.port]) as writer:
        assert writer.run(is_third, LIMIT_S).sent_s == seen[2]
    assert seen == sorted(seen)


def test_one_server_that_is_gone_does_not_keep_it_from_the_other(canned: Callable[..., Canned]) -> None:
    gone = socket.create_server(("127.0.0.1", 0))
    gone_port = gone.getsockname()[1]
    gone.close()
    server = canned([SESSION, written()])
    with Writer([gone_port, server.port]) as writer:
        assert writer.run(lambda _: True, LIMIT_S).port == server.port


def test_that_nobody_answers_is_told() -> None:
    with Writer([]) as writer, pytest.raises(BenchError, match="no write was acknowledged"):
        writer.run(lambda _: True, 0.0)
