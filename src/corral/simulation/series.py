"""One seed after another, on as many cores as wanted."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from typing import TYPE_CHECKING

from corral.simulation.run import simulate
from corral.simulation.scenarios import draw_scenario

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corral.simulation.run import Verdict
    from corral.simulation.scenarios import Given


@dataclass(frozen=True, slots=True)
class Series:
    """Simulations that have in common what is given, as :func:`corral.simulation.scenarios.draw_scenario` takes it."""

    given: Given

    def run(self, seed: int) -> Verdict:
        """One of them, without its trace."""
        verdict = simulate(seed, draw_scenario(seed, **self.given))
        verdict.trace.clear()
        return verdict

    def run_all(self, seeds: Iterable[int], jobs: int) -> Iterator[Verdict]:
        """So many of them at once, each in its process; in the order in which they end.

        Raises BrokenProcessPool if one of the processes is killed.
        """
        waiting = iter(seeds)
        # Not by fork: what this process holds is no business of theirs.
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            running = {pool.submit(self.run, seed) for seed in islice(waiting, jobs)}
            while running:
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for each in ended:
                    yield each.result()
                running |= {pool.submit(self.run, seed) for seed in islice(waiting, len(ended))}
