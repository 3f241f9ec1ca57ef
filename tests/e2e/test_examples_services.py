"""The examples of configuration, membership, standby and messages, as real processes."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING

import pytest

import corral

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from corral.testing import Address

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE_S = 30.0

pytestmark = pytest.mark.slow


class Program:
    """An example that runs in a process of its own, until the ``with`` block ends."""

    def __init__(self, *command: str) -> None:
        name, *arguments = command
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / name), *arguments], stdout=subprocess.PIPE, text=True
        )
        self._lines: Queue[str | None] = Queue()
        """What it printed; None is its end."""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def find(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches, and pass over those before."""
        passed: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE_S)
            except Empty:
                line = None
            assert line is not None, f"no line matches {pattern!r}; there were {passed}"
            if match := re.fullmatch(pattern, line):
                return match
            passed.append(line)

    def end(self) -> list[str]:
        """Wait for its end, and return the rest of what it printed."""
        assert self.process.wait(PATIENCE_S) == 0
        rest = []
        while (line := self._lines.get(timeout=PATIENCE_S)) is not None:
            rest.append(line)
        return rest

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(PATIENCE_S) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_configuration(zookeeper_shared: Address) -> None:
    def run(*command: str) -> list[str]:
        with Program("configuration.py", zookeeper_shared, *command) as program:
            return program.end()

    with Program("configuration.py", zookeeper_shared) as one, Program("configuration.py", zookeeper_shared) as two:
        for each in (one, two):
            each.find(r"in force: Limits\(requests_per_second=10, burst=1\.5\)")
        assert run("publish", "50") == ["published version 0"]
        for each in (one, two):
            each.find(r"published, in force: Limits\(requests_per_second=50, burst=1\.5\)")
        assert run("publish", "60") == ["published version 1"]
        assert run("rollback", "0") == [
            "published version 2",
            "0: Limits(requests_per_second=50, burst=1.5) ",
            "1: Limits(requests_per_second=60, burst=1.5) ",
            "2: Limits(requests_per_second=50, burst=1.5) rollback to 0",
        ]
        for each in (one, two):
            each.find(r"published, in force: Limits\(requests_per_second=60, burst=1\.5\)")
            each.find(r"published, in force: Limits\(requests_per_second=50, burst=1\.5\)")
            each.stop()


def test_membership(zookeeper_shared: Address) -> None:
    with Program("membership.py", zookeeper_shared) as watcher:
        watcher.find("there are: none")
        with Program("membership.py", zookeeper_shared, "web-1", "10.0.0.1:8080") as first:
            watcher.find(r"web-1 joined: 10\.0\.0\.1:8080")
            with Program("membership.py", zookeeper_shared, "web-2", "10.0.0.2:8080") as second:
                watcher.find(r"web-2 joined: 10\.0\.0\.2:8080")
                with Program("membership.py", zookeeper_shared) as other:
                    other.find("there are: web-1, web-2")
                first.stop()
                watcher.find(r"web-1 left: 10\.0\.0\.1:8080")
                # Killed, it says nothing: its session has to end.
                second.kill()
                watcher.find(r"web-2 left: 10\.0\.0\.2:8080")


def test_balancing(zookeeper_shared: Address) -> None:
    with ExitStack() as stack:
        for name in ("web-1", "web-2"):
            server = stack.enter_context(Program("membership.py", zookeeper_shared, name, "10.0.0.1:80"))
            server.find(f"{name} is registered")
        clients = [stack.enter_context(Program("balancing.py", zookeeper_shared)) for _ in range(3)]
        outputs = [client.end() for client in clients]
    sent = [int(count) for output in outputs for count in re.findall(r"web-\d: (\d+)", output[0])]
    assert sum(sent) == 60
    assert "all clients web-1: 30 web-2: 30" in [output[1] for output in outputs]


def test_hot_standby(zookeeper_shared: Address) -> None:
    with ExitStack() as stack:
        workers = [stack.enter_context(Program("hot_standby.py", zookeeper_shared)) for _ in range(3)]
        for worker in workers:
            worker.find(r"\d+ is standby")
        running: Queue[Program] = Queue()

        def report(worker: Program) -> None:
            worker.find(r"\d+ is running")
            running.put(worker)

        watchers = [threading.Thread(target=report, args=(worker,)) for worker in workers]
        for watcher in watchers:
            watcher.start()
        first = running.get(timeout=PATIENCE_S)
        assert first.find(r"\d+ goes on after (\d+), .*")[1] == "0"
        first.find(r"\d+ counts 3")
        first.stop()
        counted = [line.split()[-1] for line in first.end() if "counts" in line]
        second = running.get(timeout=PATIENCE_S)
        # Stopped, it has stored its last number; killed, at most half a second is lost.
        goes_on = int(second.find(r"\d+ goes on after (\d+), .*")[1])
        assert goes_on == int(counted[-1] if counted else 3)
        second.find(rf"\d+ counts {goes_on + 10}")
        second.kill()
        third = running.get(timeout=PATIENCE_S)
        again = int(third.find(r"\d+ goes on after (\d+), .*")[1])
        assert again > goes_on
        third.stop()
        for watcher in watchers:
            watcher.join(PATIENCE_S)


def test_cold_standby(zookeeper_shared: Address) -> None:
    with ExitStack() as stack:
        first, second = (stack.enter_context(Program("cold_standby.py", zookeeper_shared)) for _ in range(2))
        names = set()
        for worker in (first, second):
            # Each has room for two of the four tasks.
            names |= {worker.find(r"\d+ takes (\w+) after step 0 of 20")[1] for _ in range(2)}
        assert names == {"customers", "invoices", "orders", "payments"}
        for _ in range(2):
            first.find(r"\d+ has done step 2 of \w+")
        first.kill()
        third = stack.enter_context(Program("cold_standby.py", zookeeper_shared))
        asyncio.run(all_finished(zookeeper_shared, "/examples/tables", names))
        rest = []
        for worker in (second, third):
            worker.process.send_signal(signal.SIGINT)
            rest += worker.end()
    # Whatever the killed one ran was taken by another, which went on where it was.
    taken = [re.fullmatch(r"\d+ takes (\w+) after step (\d+) of 20", line) for line in rest]
    again = {match[1]: int(match[2]) for match in taken if match}
    assert set(again) < names
    assert len(again) == 2
    assert all(step >= 2 for step in again.values())


async def all_finished(address: str, group: str, names: set[str]) -> None:
    async with corral.connect(address) as zk, asyncio.timeout(PATIENCE_S), zk.cache(group) as cache:
        changes = cache.changes()
        while not all(f"{group}/{name}/finished" in cache for name in names):
            await anext(changes)


def test_dispatch(zookeeper_shared: Address) -> None:
    def run(*command: str) -> list[str]:
        with Program("dispatch.py", zookeeper_shared, *command) as program:
            return program.end()

    with ExitStack() as stack:
        for name in ("worker-1", "worker-2"):
            worker = stack.enter_context(Program("dispatch.py", zookeeper_shared, "work", name))
            worker.find(f"{name} works")
        assert run("send", "faster") == [
            "worker-1 done a step takes 0.050 s now",
            "worker-2 done a step takes 0.050 s now",
        ]
        assert run("send", "slower", "worker-1", "worker-3") == [
            "worker-1 done a step takes 0.100 s now",
            "worker-3 absent ",
        ]
        assert run("send", "dance", "worker-2") == ["worker-2 failed ValueError: dance: no such command"]
        board = run("board")
        assert [line.split()[0] for line in board] == ["worker-1", "worker-2"]


def test_pubsub(zookeeper_shared: Address) -> None:
    def publish(*texts: str) -> None:
        with Program("pubsub.py", zookeeper_shared, "publish", *texts) as publisher:
            assert len(publisher.end()) == len(texts)

    with Program("pubsub.py", zookeeper_shared, "subscribe") as plain:
        plain.find("subscribed")
        with Program("pubsub.py", zookeeper_shared, "subscribe", "billing") as named:
            named.find("subscribed")
            publish("one", "two")
            named.find("1: two")
            named.stop()
        publish("three")
        with Program("pubsub.py", zookeeper_shared, "subscribe", "billing") as named:
            assert named.find(r"\d: (.*)")[1] in ("two", "three")
        plain.find("2: three")
