"""``corral simulate``: an ensemble and its clients under virtual time, with everything that can go wrong."""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.simulation.run import Verdict

TELL_EVERY_S: Final = 15.0
"""Between two lines about a long series."""


@click.command()
@click.option("--seed", type=click.IntRange(min=0), required=True, help="Decides everything; the same again replays.")
@click.option("--runs", type=click.IntRange(min=1), help="So many seeds, one after another.  [default: 1]")
@click.option(
    "--for", "real_minutes", type=click.FloatRange(min=0, min_open=True), help="Seeds for so many real minutes."
)
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="So many seeds at once, each with -q."
)
@click.option("--servers", type=click.IntRange(1, 9), help="Members that vote.  [default: drawn, 3 to 5]")
@click.option("--observers", type=click.IntRange(0, 5), help="Members that do not.  [default: drawn, 0 to 2]")
@click.option("--clients", type=click.IntRange(0, 50), help="Clients that work on it.  [default: drawn, 2 to 6]")
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), default=0.25, show_default=True, help="Virtual minutes."
)
@click.option("--faults/--no-faults", default=True, help="Whether anything goes wrong.")
@click.option("--logs", is_flag=True, help="Show also what the servers log.")
@click.option("--keep-going", "-k", is_flag=True, help="When a seed fails go on with the next, if there is one.")
@click.option("--counts", is_flag=True, help="Show at the end how often what has happened.")
@click.option("-q", "--quiet", is_flag=True, help="Show only how it ends.")
def simulate(
    seed: int,
    runs: int | None,
    real_minutes: float | None,
    jobs: int,
    servers: int | None,
    observers: int | None,
    clients: int | None,
    minutes: float,
    faults: bool,
    logs: bool,
    keep_going: bool,
    counts: bool,
    quiet: bool,
) -> None:
    """Simulate an ensemble: real servers and clients, virtual time, network and disks.

    Prints what happens, with the virtual time in seconds, and at the end what is wrong. Stops at the first seed with
    which anything is, tells how to see it again, and ends with status 1. The digest at the end is the same for two
    runs only if all that happened in them was the same.
    """
    from concurrent.futures.process import BrokenProcessPool

    from corral.simulation.run import simulate as run
    from corral.simulation.scenarios import Given, draw_scenario
    from corral.simulation.series import Series

    given: Given = {"seconds": minutes * 60, "faults": faults}
    if servers is not None:
        given["servers"] = servers
    if observers is not None:
        given["observers"] = observers
    if clients is not None:
        given["clients"] = clients
    progress = _Progress(real_minutes, keeps_going=keep_going)
    seeds = progress.limit(seed, runs)
    show = None if quiet or real_minutes else click.echo

    def one_by_one() -> Iterator[Verdict]:
        for each in seeds:
            yield run(each, draw_scenario(each, **given), show=show, with_logs=logs and not quiet)

    def at_once() -> Iterator[Verdict]:
        try:
            yield from Series(given).run_all(seeds, jobs)
        except BrokenProcessPool:
            progress.end(counts=counts)
            told = "one of the processes was killed, or the machine has no memory left: what ended before stands above"
            raise click.ClickException(told) from None

    for verdict in at_once() if jobs > 1 else one_by_one():
        progress.note(verdict)
        if real_minutes is None or verdict.violations:
            click.echo(f"{verdict}\ndigest {verdict.digest}")
        if verdict.violations:
            scenario = verdict.scenario
            click.echo(
                f"seed {verdict.seed} fails, after {progress.seeds} seeds; again: corral simulate --seed {verdict.seed}"
                f" --servers {scenario.servers} --observers {scenario.observers} --clients {scenario.clients}"
                f" --minutes {minutes:g}{'' if faults else ' --no-faults'}",
                err=True,
            )
            if not keep_going:
                break
    progress.end(counts=counts)
    if progress.bad:
        sys.exit(1)


class _Progress:
    """How far a series has come, and what it has reached."""

    def __init__(self, real_minutes: float | None, *, keeps_going: bool) -> None:
        self._started = self._told = time.monotonic()
        self._ends = None if real_minutes is None else self._started + real_minutes * 60
        self._keeps_going = keeps_going
        self.seeds = 0
        self.bad: list[int] = []
        """The seeds with which anything was wrong."""
        self._counts: Counter[str] = Counter()
        self._reached_by: Counter[str] = Counter()

    def limit(self, first: int, runs: int | None) -> Iterator[int]:
        """The seeds, while there is time for one more."""
        if self._ends is None:
            yield from range(first, first + (runs or 1))
            return
        for seed in itertools.count(first) if runs is None else range(first, first + runs):
            if (self.bad and not self._keeps_going) or time.monotonic() > self._ends:
                return
            yield seed

    def note(self, verdict: Verdict) -> None:
        """A simulation has ended."""
        self.seeds += 1
        if verdict.violations:
            self.bad.append(verdict.seed)
        self._counts.update(verdict.counts)
        self._reached_by.update(verdict.counts.keys())
        if self._ends is not None and time.monotonic() - self._told > TELL_EVERY_S:
            self._told = time.monotonic()
            self._tell()

    def end(self, *, counts: bool) -> None:
        """It is over."""
        if self._ends is not None:
            self._tell()
        if counts:
            for what, times in sorted(self._counts.items()):
                click.echo(f"{what:<40} {times:>8} times, with {self._reached_by[what]} of {self.seeds} seeds")

    def _tell(self) -> None:
        minutes = (time.monotonic() - self._started) / 60
        told = f"these have failed: {', '.join(map(str, self.bad))}" if self.bad else "nothing wrong"
        click.echo(f"{minutes:7.1f} min  {self.seeds} seeds, {told}")
