"""How much was answered over time: samples of zkseries, and what is read out of them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bench.programs import figures_of


class Sample(NamedTuple):
    """One interval."""

    begin_s: float
    end_s: float
    reads: int
    writes: int
    clients: int
    """Connections with a session at its end."""

    @property
    def operations_per_s(self) -> float:
        return (self.reads + self.writes) / (self.end_s - self.begin_s)


class Event(NamedTuple):
    """Something that was done to a server meanwhile."""

    at_s: float
    text: str
    is_recovery: bool


def samples_of(lines: Iterable[str], start_s: float, shift_s: float) -> list[Sample]:
    """The samples in what zkseries printed; the first one begins at `start_s`, and `shift_s` is taken off all times."""
    samples = []
    begin_s = start_s
    for line in lines:
        figures = figures_of(line)
        end_s = figures["at_us"] / 1e6
        sample = Sample(
            begin_s - shift_s,
            end_s - shift_s,
            int(figures["reads"]),
            int(figures["writes"]),
            int(figures["standing"]),
        )
        samples.append(sample)
        begin_s = end_s
    return samples


def mean_rate(samples: Sequence[Sample], begin_s: float, end_s: float) -> float:
    """Operations a second in the intervals that lie wholly between two moments; nan if there are none."""
    inside = [sample for sample in samples if sample.begin_s >= begin_s and sample.end_s <= end_s]
    took_s = sum(sample.end_s - sample.begin_s for sample in inside)
    return sum(sample.reads + sample.writes for sample in inside) / took_s if inside else float("nan")


def longest_without(samples: Sequence[Sample], begin_s: float, end_s: float) -> float:
    """Seconds of the longest run of intervals without an acknowledged write, of those that touch the given time."""
    longest = run = 0.0
    for sample in samples:
        if sample.end_s <= begin_s or sample.begin_s >= end_s:
            continue
        run = 0.0 if sample.writes else run + sample.end_s - sample.begin_s
        longest = max(longest, run)
    return longest


def as_csv(runs: Sequence[tuple[str, Sequence[Sample], Sequence[Event]]]) -> str:
    """A line for each interval of each server's run; what was done in it stands at its end."""
    lines = ["server,begin_s,end_s,reads,writes,clients,event"]
    for name, samples, events in runs:
        for sample in samples:
            done = "; ".join(event.text for event in events if sample.begin_s <= event.at_s < sample.end_s)
            numbers = f"{sample.begin_s:.3f},{sample.end_s:.3f},{sample.reads},{sample.writes},{sample.clients}"
            lines.append(f"{name},{numbers},{done}")
    return "\n".join(lines) + "\n"
