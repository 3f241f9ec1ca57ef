"""Memory and CPU that many idle connections cost, each with a session and its pings."""

import subprocess
import time
from dataclasses import dataclass
from statistics import median

from bench import report
from bench.bench import Bench, say
from bench.errors import BenchError
from bench.processes import cpu_seconds, resident_mib
from bench.programs import Figures, figures_of, program
from bench.report import Section, Table
from bench.server import Server


@dataclass(frozen=True)
class _Idle:
    """What one server needed."""

    alone_mib: float
    loaded_mib: float
    cpu_percent: float
    pings: Figures


def measure(bench: Bench) -> list[Section]:
    seen: tuple[list[_Idle], list[_Idle]] = ([], [])
    for round_number, index, side in bench.turns():
        with bench.server(side) as server:
            idle = _measure_one(bench, server)
        seen[index].append(idle)
        say(
            f"round {round_number}, {side.name}: {idle.loaded_mib:.0f} MiB, {idle.cpu_percent:.1f} % of a core, "
            f"{idle.pings['lost']:.0f} connections lost"
        )
    table = Table(("", *(side.name for side in bench.sides), "ratio", "at most", "verdict"))
    for title, pairs, judged in (
        ("resident MiB", [[idle.loaded_mib for idle in side] for side in seen], True),
        ("resident MiB before the connections", [[idle.alone_mib for idle in side] for side in seen], False),
        ("CPU, % of one core", [[idle.cpu_percent for idle in side] for side in seen], True),
        ("ping answered, p99.9 ms", [[idle.pings["p999_us"] / 1000 for idle in side] for side in seen], False),
        ("ping answered, max ms", [[idle.pings["max_us"] / 1000 for idle in side] for side in seen], False),
    ):
        share = report.ratio(median(pairs[0]), median(pairs[1]))
        wanted = ("1 : 1", report.at_most(share, 1.0)) if judged else ("", "")
        table.rows.append((title, *map(report.spread, pairs), report.to_one(share), *wanted))
    how = (
        f"{bench.connections:,} connections with a session each, pinging every 10 s, over {bench.idle_s} s; "
        f"median (smallest to largest) of {bench.rounds} rounds in turn. Apache's heap: {bench.heap_mib} MiB at most."
    )
    remarks = []
    for index, side in enumerate(bench.sides):
        lost = sum(idle.pings["lost"] for idle in seen[index])
        if lost:
            remarks.append(f"{side.name} closed {lost:.0f} connections")
    return [Section(f"{bench.connections:,} idle connections", how, [table], remarks)]


def _measure_one(bench: Bench, server: Server) -> _Idle:
    command = [str(program("zkwatch")), server.address, "-c", str(bench.connections), "-i", str(bench.idle_s)]
    alone_mib = resident_mib(server.pid)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as clients:
        try:
            assert clients.stdout is not None
            assert clients.stderr is not None
            ready = clients.stdout.readline().strip()
            begin = time.monotonic()
            before_s = cpu_seconds(server.pid)
            last = clients.stdout.readline()
            used_s = cpu_seconds(server.pid) - before_s
            took_s = time.monotonic() - begin
            loaded_mib = resident_mib(server.pid)
            if ready != "ready" or not last:
                raise BenchError(f"zkwatch did not get its idle connections: {clients.stderr.read().strip()}")
        finally:
            clients.terminate()
    return _Idle(alone_mib, loaded_mib, 100 * used_s / took_s, figures_of(last))
