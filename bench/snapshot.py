"""Latency while snapshots of a million znodes are being written, and without any."""

from collections import defaultdict
from statistics import median

from bench import report
from bench.bench import Bench, say
from bench.million import Million, snapshots_in
from bench.programs import Figures, run
from bench.report import Section, Table

_LOAD = ("-c", 30, "-p", 8, "-r", 70, "-n", 1000, "-b", 1024)
_MEASURE_LEAST_S = 15
_NEVER = 2_000_000_000
# Fewer writes than come in while one snapshot is written: the next one begins as soon as it may.
_OFTEN = 10_000


def measure(bench: Bench, million: Million) -> list[Section]:
    measure_s = max(bench.measure_s, _MEASURE_LEAST_S)
    results: dict[tuple[int, int], list[Figures]] = defaultdict(list)
    for round_number, index, side in bench.turns():
        for snap_count in (_NEVER, _OFTEN):
            settings = {"snapCount": str(snap_count)}
            with million.copy(index) as directory, bench.running(side, directory, bench.heap_mib, settings) as server:
                run("zkload", server.address, *_LOAD, "-t", bench.warm_up_s)
                before = len(snapshots_in(server.data_directory))
                figures = run("zkload", server.address, *_LOAD, "-k", "-t", measure_s, "-P", server.pid)[-1]
                figures["snapshots"] = len(snapshots_in(server.data_directory)) - before
            results[snap_count, index].append(figures)
            say(
                f"round {round_number}, {side.name}, snapCount {snap_count}: {figures['snapshots']:.0f} snapshots, "
                f"{figures['ops_s']:,.0f} ops/s, p99.9 {figures['p999_us'] / 1000:.1f} ms, "
                f"max {figures['max_us'] / 1000:.1f} ms"
            )
    table = Table(("", "figure", *(side.name for side in bench.sides), "ratio", "at most", "verdict"))
    for snap_count, title in ((_OFTEN, "while snapshots are written"), (_NEVER, "no snapshots")):
        _add_rows(table, title, results[snap_count, 0], results[snap_count, 1])
    how = (
        f"`zkload`, 70 % reads, 30 connections x 8, 1 KiB, for {measure_s} s beside {bench.znodes:,} other znodes; "
        f"snapCount {_OFTEN:,} so that one snapshot follows another, or so large that none is written; medians of "
        f"{bench.rounds} rounds in turn. The longest stall is the max. Apache's heap: {bench.heap_mib} MiB at most."
    )
    return [Section("While a snapshot is written", how, [table])]


def _add_rows(table: Table, title: str, ours: list[Figures], theirs: list[Figures]) -> None:
    for figure, name in (("p999_us", "p99.9 ms"), ("max_us", "max ms")):
        our_time, their_time = (median(figures[figure] for figures in side) for side in (ours, theirs))
        share = report.ratio(our_time, their_time)
        cells = (report.milliseconds(our_time), report.milliseconds(their_time), report.to_one(share))
        table.rows.append((title, name, *cells, "1 : 1", report.at_most(share, 1.0)))
    for figure, name in (("ops_s", "ops/s"), ("snapshots", "snapshots")):
        each = (report.number(median(figures[figure] for figures in side)) for side in (ours, theirs))
        table.rows.append((title, name, *each, "", "", ""))
