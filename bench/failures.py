"""Throughput of seven servers over time while some of them fail and come back, as ZooKeeper's authors drew it."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from bench import report
from bench.bench import Bench, say
from bench.errors import BenchError
from bench.members import Members
from bench.plot import Line, Mark, Plot, svg
from bench.programs import program, run
from bench.report import Section, Table
from bench.series import Event, Sample, as_csv, longest_without, mean_rate, samples_of
from bench.sides import Side

_SERVERS = 7
_CONNECTIONS, _IN_FLIGHT, _READ_PERCENT = 35, 8, 70
_INTERVAL_MS = 200
_END_LIMIT_S = 30.0


class _Casualties:
    """Kills members and brings them back."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._away: list[int] = []

    def kill_followers(self, count: int) -> None:
        leader = self._members.leader_now()
        running = [number for number, server in self._members.servers.items() if server.is_running and number != leader]
        self._kill(running[-count:])

    def kill_leader(self) -> None:
        self._kill([self._members.leader_now()])

    def recover(self) -> None:
        """Starts all that are away; when they serve is what the samples show."""
        away, self._away = self._away, []
        for number in away:
            self._members.begin(number)

    def _kill(self, numbers: list[int]) -> None:
        for number in numbers:
            self._members.servers[number].kill()
        self._away += numbers


class _Step(NamedTuple):
    at: float
    """As a share of the whole time."""
    text: str
    do: Callable[[_Casualties], None]

    @property
    def is_recovery(self) -> bool:
        return self.do is _Casualties.recover


_STEPS = (
    _Step(0.08, "a follower fails", lambda casualties: casualties.kill_followers(1)),
    _Step(0.17, "it is started again", _Casualties.recover),
    _Step(0.26, "another follower fails", lambda casualties: casualties.kill_followers(1)),
    _Step(0.35, "it is started again", _Casualties.recover),
    _Step(0.44, "the leader fails", _Casualties.kill_leader),
    _Step(0.53, "it is started again", _Casualties.recover),
    _Step(0.62, "two followers fail", lambda casualties: casualties.kill_followers(2)),
    _Step(0.71, "they are started again", _Casualties.recover),
    _Step(0.80, "another leader fails", _Casualties.kill_leader),
    _Step(0.90, "it is started again", _Casualties.recover),
)


class _Run(NamedTuple):
    name: str
    samples: list[Sample]
    events: list[Event]


def measure(bench: Bench) -> list[Section]:
    runs = [_measure_one(bench, side) for side in bench.sides]
    bench.plot.write_text(svg(_plot(runs)))
    data = bench.plot.with_suffix(".csv")
    data.write_text(as_csv(runs))
    table = Table(
        (
            "from",
            "until",
            *(f"{each.name} ops/s" for each in runs),
            *(f"{each.name} s without a write" for each in runs),
        )
    )
    titles = ["the beginning", *(step.text for step in _STEPS), "the end"]
    for number, (title, next_title) in enumerate(pairwise(titles)):
        spans = [_span(each, number, bench.failure_s) for each in runs]
        rates = [mean_rate(each.samples, *span) for each, span in zip(runs, spans, strict=True)]
        silences = [longest_without(each.samples, *span) for each, span in zip(runs, spans, strict=True)]
        table.rows.append((title, next_title, *map(report.number, rates), *map(report.number, silences)))
    how = (
        f"{_SERVERS} servers as one ensemble, {_CONNECTIONS} connections x {_IN_FLIGHT} over all of them, "
        f"{100 - _READ_PERCENT} % writes, 1 KiB, for {bench.failure_s} s after {bench.warm_up_s} s of the same load. "
        "Servers fail by SIGKILL. Mean operations a second of each stretch, and the longest time in it without an "
        f"acknowledged write, in steps of {_INTERVAL_MS} ms. One run each. Drawn in `{bench.plot.name}`, samples in "
        f"`{data.name}`."
    )
    return [Section("While servers fail", how, [table])]


def _span(one: _Run, number: int, end_s: float) -> tuple[float, float]:
    """From the event before the stretch of that number to the one after it."""
    moments = [0.0, *(event.at_s for event in one.events), end_s]
    return moments[number], moments[number + 1]


def _plot(runs: list[_Run]) -> Plot:
    return Plot(
        f"{_SERVERS} servers on one machine, {100 - _READ_PERCENT} % writes, while servers fail",
        "seconds",
        "operations a second",
        [Line(one.name, [(each.end_s, each.operations_per_s) for each in one.samples]) for one in runs],
        [Mark(event.at_s, event.text, event.is_recovery) for event in runs[0].events],
    )


def _measure_one(bench: Bench, side: Side) -> _Run:
    load = ("-c", _CONNECTIONS, "-p", _IN_FLIGHT, "-r", _READ_PERCENT)
    with bench.ensemble(side, _SERVERS) as members:
        run("zkload", members.addresses, *load, "-t", bench.warm_up_s)
        output = bench.base / "series"
        program("zkseries")  # compiled before the time begins
        start_s = time.monotonic()
        with _running(
            [members.addresses, *load, "-t", bench.failure_s, "-i", _INTERVAL_MS], output, _END_LIMIT_S
        ) as series:
            events = list(_take_steps(_Casualties(members), start_s, bench.failure_s, side.name))
            if series.wait(bench.failure_s + _END_LIMIT_S):
                raise BenchError("zkseries failed")
        return _Run(side.name, samples_of(output.read_text().splitlines(), start_s, start_s), events)


def _take_steps(casualties: _Casualties, start_s: float, whole_s: float, name: str) -> Iterator[Event]:
    for step in _STEPS:
        time.sleep(max(0.0, start_s + step.at * whole_s - time.monotonic()))
        at_s = time.monotonic() - start_s
        step.do(casualties)
        say(f"{name}, {at_s:.1f} s: {step.text}")
        yield Event(at_s, step.text, step.is_recovery)


@contextmanager
def _running(arguments: list[str | int], output: Path, limit_s: float) -> Iterator[subprocess.Popen[bytes]]:
    """zkseries, its lines going to a file; ended with the context."""
    with output.open("wb") as file:
        process = subprocess.Popen([str(program("zkseries")), *map(str, arguments)], stdout=file)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(limit_s)
