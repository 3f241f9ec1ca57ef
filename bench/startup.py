"""Time from the start of a server's process, on an empty directory, to its first answered request."""

from statistics import median

from bench import report
from bench.bench import Bench, say
from bench.report import Section, Table

_SHARE_MOST = 0.25
_ROUNDS_LEAST = 5


def measure(bench: Bench) -> list[Section]:
    rounds = max(bench.rounds, _ROUNDS_LEAST)
    took_ms: tuple[list[float], list[float]] = ([], [])
    for round_number in range(rounds + 1):
        for index, side in enumerate(bench.sides):
            with bench.server(side) as server:
                say(f"start {round_number}, {side.name}: {server.ready_after_s * 1000:.0f} ms")
                if round_number:
                    took_ms[index].append(server.ready_after_s * 1000)
    share = report.ratio(median(took_ms[0]), median(took_ms[1]))
    table = Table(("", *(f"{side.name} ms" for side in bench.sides), "share", "at most", "verdict"))
    table.rows.append(
        (
            "process start to first answered request",
            *map(report.spread, took_ms),
            f"{share:.2f}",
            f"{_SHARE_MOST:g}",
            report.at_most(share, _SHARE_MOST),
        )
    )
    how = f"An empty directory; median (smallest to largest) of {rounds} starts each, in turn, after one not counted."
    return [Section("Start", how, [table])]
