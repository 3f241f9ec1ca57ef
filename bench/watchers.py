"""The time in which one change reaches many watchers, each a connection of its own."""

from statistics import median

from bench import report
from bench.bench import Bench, say
from bench.programs import Figures, run
from bench.report import Section, Table

_CHANGES = 5
_UNCOUNTED = 2
_FIGURES = {
    "reply_us": "setData answered",
    "first_us": "first watcher told",
    "median_us": "half of them told",
    "last_us": "all told",
}


def measure(bench: Bench) -> list[Section]:
    seen: tuple[list[Figures], list[Figures]] = ([], [])
    for round_number, index, side in bench.turns():
        with bench.server(side) as server:
            changes = run("zkwatch", server.address, "-c", bench.connections, "-n", _UNCOUNTED + _CHANGES)
        seen[index].extend(changes[_UNCOUNTED:])
        times = ", ".join(report.milliseconds(change["last_us"]) for change in changes)
        say(f"round {round_number}, {side.name}: all told after {times} ms")
    table = Table(
        ("from the sending of setData", *(f"{side.name} ms" for side in bench.sides), "ratio", "at most", "verdict")
    )
    for figure, title in _FIGURES.items():
        ours, theirs = ([change[figure] / 1000 for change in changes] for changes in seen)
        share = report.ratio(median(ours), median(theirs))
        wanted = ("1 : 1", report.at_most(share, 1.0)) if figure == "last_us" else ("", "")
        table.rows.append((title, report.spread(ours), report.spread(theirs), report.to_one(share), *wanted))
    how = (
        f"{bench.connections:,} connections, each with a data watch on one znode; {_CHANGES} changes a round, after "
        f"{_UNCOUNTED} not counted, {bench.rounds} rounds in turn; median (smallest to largest) of all changes."
    )
    return [Section(f"One change, {bench.connections:,} watchers", how, [table])]
