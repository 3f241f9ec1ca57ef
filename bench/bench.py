"""What every measurement needs to know: the two sides, where their files go, how long and how often."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from bench.members import Members
from bench.server import Server
from bench.sides import Side

PLACEMENTS: dict[str, tuple[set[int] | None, set[int] | None]] = {
    "free": (None, None),
    "together": ({0}, {0}),
    "apart": ({0}, {1}),
}
"""The cores of the servers and those of their load, by name of the placement; None: as the system likes."""


@dataclass(frozen=True)
class Bench:
    """The settings of one run of the benchmark."""

    sides: tuple[Side, Side]
    base: Path
    """Directory under which every server gets a directory of its own; on a real disk."""
    rounds: int
    """How often each figure is taken from each side, A B A B."""
    measure_s: int
    warm_up_s: int
    """Seconds of the same load before a measured one: a JVM compiles what is hot first."""
    heap_mib: int
    """Apache's heap, except where it is fitted to a million znodes."""
    fitted_heap_mib: int | None
    """Apache's heap for the figures on memory and restart; None: found by measuring."""
    znodes: int
    connections: int
    idle_s: int
    kills: int
    """How often the leader of an ensemble is killed, of each side, in all rounds together."""
    missed_writes: int
    """How much is written while a follower is away."""
    failure_s: int
    """How long the run with failing servers takes."""
    plot: Path
    """The SVG file that it is drawn in; its data goes to a CSV file beside it."""
    placement: str
    """A name from PLACEMENTS."""
    works: tuple[str, ...]
    """Names of the works to measure; empty: all."""

    def turns(self) -> Iterator[tuple[int, int, Side]]:
        """Round number, side number and side of each turn, A B A B."""
        for round_number in range(1, self.rounds + 1):
            for index, side in enumerate(self.sides):
                yield round_number, index, side

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """A new directory for one run of one server, removed afterwards."""
        path = Path(tempfile.mkdtemp(prefix="server-", dir=self.base))
        try:
            yield path
        finally:
            shutil.rmtree(path)

    @contextmanager
    def server(self, side: Side, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
        """The side's server, answering, on an empty directory."""
        with self.directory() as directory, self.running(side, directory, self.heap_mib, settings) as server:
            yield server

    @contextmanager
    def ensemble(self, side: Side, count: int, heap_mib: int | None = None) -> Iterator[Members]:
        """So many of the side's servers as one ensemble, all answering, on empty directories."""
        server_cores, load_cores = PLACEMENTS[self.placement]
        with self.directory() as directory:
            members = Members(side, directory, count, heap_mib or self.heap_mib, lambda: _on_cores(server_cores))
            with members, _on_cores(load_cores):
                yield members

    @contextmanager
    def running(
        self, side: Side, directory: Path, heap_mib: int, settings: Mapping[str, str] | None = None
    ) -> Iterator[Server]:
        """The side's server, answering, on a directory that may hold data; programs run meanwhile are placed."""
        server_cores, load_cores = PLACEMENTS[self.placement]
        server = Server(side, directory, heap_mib, settings)
        with _on_cores(server_cores):
            server.start()
        with server, _on_cores(load_cores):
            yield server


def _on_cores(cores: set[int] | None) -> AbstractContextManager[None]:
    """While open, what this process starts runs on these cores only."""
    return nullcontext() if cores is None else _bound_to(cores)


@contextmanager
def _bound_to(cores: set[int]) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def say(message: str) -> None:
    """Tells how far the benchmark has come; the results are what stands on standard output."""
    print(message, file=sys.stderr, flush=True)
