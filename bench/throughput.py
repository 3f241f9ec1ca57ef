"""Operations a second, CPU per operation and latency under the loads of zkload."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench import report
from bench.bench import Bench, say
from bench.errors import BenchError
from bench.programs import Figures, run
from bench.report import Section, Table
from bench.sides import Side


@dataclass(frozen=True)
class Work:
    """A load and what is wanted under it. Rates are ours for one of theirs, CPU is theirs for one of ours."""

    name: str
    title: str
    options: str
    rate_least: float
    rate_aim: float
    cpu_least: float


WORKS = (
    Work("reads-30x32", "reads, 30 connections x 32 in flight", "-c 30 -p 32 -r 100", 2.5, 4.0, 3.5),
    Work("reads-30x1", "reads, 30 x 1", "-c 30 -p 1 -r 100", 1.0, 1.6, 1.5),
    Work("reads-1x1", "reads, one connection, one in flight", "-c 1 -p 1 -r 100", 1.8, 2.5, 2.5),
    Work("writes-30x32", "writes, fsynced, 30 x 32", "-c 30 -p 32 -r 0", 1.4, 3.0, 2.2),
    Work("writes-30x1", "writes, fsynced, 30 x 1", "-c 30 -p 1 -r 0", 1.0, 1.6, 1.4),
    Work("mixed-30x8", "70 % reads, 30 x 8", "-c 30 -p 8 -r 70", 1.4, 3.0, 2.0),
    Work("ephemerals-30x8", "ephemeral create and delete, 30 x 8", "-c 30 -p 8 -r 0 -w", 1.4, 3.0, 2.0),
)

_SET = ("-n", 1000, "-b", 1024)
Results = dict[tuple[str, int], list[Figures]]
"""What zkload printed in each round, by name of the work and number of the side."""


def measure(bench: Bench) -> list[Section]:
    servers = "each on a newly started server and an empty directory"
    return [compare(bench, "Throughput", servers, WORKS, lambda side, work: _measure_one(bench, side, work))]


def compare(
    bench: Bench, title: str, servers: str, works: Sequence[Work], measure_one: Callable[[Side, Work], Figures]
) -> Section:
    """The section on those of the works that are wanted; `servers` says what each turn is made on."""
    wanted = _wanted(bench.works, works)
    results: Results = defaultdict(list)
    for round_number in range(1, bench.rounds + 1):
        for work in wanted:
            for index, side in enumerate(bench.sides):
                figures = measure_one(side, work)
                if not figures["ops"]:
                    raise BenchError(f"{side.name} answered nothing under the load {work.name}")
                results[work.name, index].append(figures)
                say(
                    f"round {round_number}, {work.title}, {side.name}: {figures['ops_s']:,.0f} ops/s, "
                    f"{figures['cpu_us_per_op']:.1f} us CPU/op, p99.9 {figures['p999_us'] / 1000:.1f} ms"
                )
    return Section(
        title,
        f"`zkload`, 1,000 znodes of 1 KiB, {bench.measure_s} s after {bench.warm_up_s + 2} s of the same load, "
        f"{bench.rounds} rounds in turn, {servers}; medians. Apache's heap: {bench.heap_mib} MiB at most.",
        [_rates(bench, wanted, results), _latencies(bench, wanted, results), _rounds(bench, wanted, results)],
        _errors(bench, wanted, results),
    )


def _wanted(names: tuple[str, ...], works: Sequence[Work]) -> list[Work]:
    unknown = set(names) - {work.name for work in works}
    if unknown:
        raise BenchError(
            f"no such work: {', '.join(sorted(unknown))}; there are {', '.join(work.name for work in works)}"
        )
    return [work for work in works if not names or work.name in names]


def _measure_one(bench: Bench, side: Side, work: Work) -> Figures:
    with bench.server(side) as server:
        return load(bench, server.address, work, [server.pid])


def load(bench: Bench, addresses: str, work: Work, pids: Sequence[int]) -> Figures:
    """What zkload measured, after as much of the same load as warms servers up; their CPU time is counted."""
    options = work.options.split()
    run("zkload", addresses, *options, *_SET, "-t", bench.warm_up_s)
    counted = ",".join(map(str, pids))
    return run("zkload", addresses, *options, *_SET, "-k", "-t", bench.measure_s, "-P", counted)[-1]


def _medians(results: Results, work: Work, figure: str) -> tuple[float, float]:
    ours, theirs = (median(figures[figure] for figures in results[work.name, index]) for index in (0, 1))
    return ours, theirs


def _rates(bench: Bench, works: list[Work], results: Results) -> Table:
    ours, theirs = (side.name for side in bench.sides)
    table = Table(
        (
            *("work", f"{ours} ops/s", f"{theirs} ops/s", "ratio", "at least", "aim", "verdict"),
            *(f"{ours} CPU us/op", f"{theirs} CPU us/op", "ratio", "at most", "verdict"),
        )
    )
    for work in works:
        our_rate, their_rate = _medians(results, work, "ops_s")
        our_cpu, their_cpu = _medians(results, work, "cpu_us_per_op")
        rate, cpu = report.ratio(our_rate, their_rate), report.ratio(their_cpu, our_cpu)
        table.rows.append(
            (
                *(work.title, report.number(our_rate), report.number(their_rate), report.to_one(rate)),
                *(f"{work.rate_least:g} : 1", f"{work.rate_aim:g} : 1"),
                report.at_least(rate, work.rate_least, work.rate_aim),
                *(report.number(our_cpu), report.number(their_cpu), report.one_to(cpu), f"1 : {work.cpu_least:g}"),
                report.at_least(cpu, work.cpu_least),
            )
        )
    return table


def _latencies(bench: Bench, works: list[Work], results: Results) -> Table:
    ours, theirs = (side.name for side in bench.sides)
    header = ["work"]
    figures = {"p50_us": "p50", "p999_us": "p99.9", "max_us": "max"}
    for title in figures.values():
        header += [f"{title} ms {ours}", theirs, *(["no worse"] if title != "p50" else [])]
    table = Table(header)
    for work in works:
        row = [work.title]
        for figure, title in figures.items():
            our_time, their_time = _medians(results, work, figure)
            row += [report.milliseconds(our_time), report.milliseconds(their_time)]
            if title != "p50":
                row.append(report.at_most(our_time, their_time))
        table.rows.append(row)
    return table


def _rounds(bench: Bench, works: list[Work], results: Results) -> Table:
    figures = {"ops_s": "ops/s", "cpu_us_per_op": "CPU us/op"}
    titles = [f"{side.name} {title}, each round" for title in figures.values() for side in bench.sides]
    table = Table(("work", *titles))
    for work in works:
        rounds = [[one[figure] for one in results[work.name, index]] for figure in figures for index in (0, 1)]
        table.rows.append((work.title, *("; ".join(map(report.number, values)) for values in rounds)))
    return table


def _errors(bench: Bench, works: list[Work], results: Results) -> list[str]:
    """Remarks on requests that failed: there should be none."""
    remarks = []
    for work in works:
        for index, side in enumerate(bench.sides):
            errors = sum(figures["errors"] for figures in results[work.name, index])
            if errors:
                remarks.append(f"{side.name}, {work.title}: {errors:.0f} requests or connections failed")
    return remarks
