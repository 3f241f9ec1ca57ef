"""How fast clients are against one and the same server: this repository's beside kazoo and aiozk."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from statistics import median

from bench import report
from bench.bench import Bench, say
from bench.client_load import IN_FLIGHT, VALUE
from bench.errors import BenchError
from bench.report import Section, Table
from bench.sides import REPOSITORY

_LIMIT_S = 120


@dataclass(frozen=True, slots=True)
class _Contest:
    """What is compared, and what is wanted of it."""

    title: str
    work: str
    ours: str
    theirs: str
    least: float


_CONTESTS = (
    _Contest("get, pipelined: ours : kazoo's asynchronous calls", "get", "corral", "kazoo-async", 10),
    _Contest("set, pipelined: ours : kazoo's asynchronous calls", "set", "corral", "kazoo-async", 10),
    _Contest("get, pipelined: ours : aiozk", "get", "corral", "aiozk", 10),
    _Contest("get, blocking: ours : kazoo", "get", "corral-blocking", "kazoo", 2),
    _Contest("set, blocking: ours : kazoo", "set", "corral-blocking", "kazoo", 2),
)
_CACHED_READS_LEAST = 1_000_000


def measure(bench: Bench) -> list[Section]:
    side = next((side for side in bench.sides if side.name.startswith("Corral")), bench.sides[0])
    wanted = {(each.work, client) for each in _CONTESTS for client in (each.ours, each.theirs)}
    wanted.add(("get", "corral-cache"))
    rates: dict[tuple[str, str], list[float]] = {each: [] for each in wanted}
    cpu: dict[tuple[str, str], list[float]] = {each: [] for each in wanted}
    with bench.server(side) as server:
        _run(server.address, "corral-create", "set", 0, 0)
        for round_number in range(1, bench.rounds + 1):
            for work, client in sorted(wanted):
                figures = _run(server.address, client, work, bench.warm_up_s, bench.measure_s)
                rates[work, client].append(figures["operations"] / figures["seconds"])
                cpu[work, client].append(figures["cpu"] / figures["operations"] * 1e6)
                say(f"round {round_number}, {client} {work}: {rates[work, client][-1]:,.0f} operations a second")
    table = Table(("what", "ours/s", "theirs/s", "ratio", "at least", "our CPU us", "their CPU us", "verdict"))
    for each in _CONTESTS:
        ours, theirs = (each.work, each.ours), (each.work, each.theirs)
        share = report.ratio(median(rates[ours]), median(rates[theirs]))
        table.rows.append(
            (
                each.title,
                report.spread(rates[ours]),
                report.spread(rates[theirs]),
                report.to_one(share),
                report.to_one(each.least),
                report.number(median(cpu[ours])),
                report.number(median(cpu[theirs])),
                report.at_least(share, each.least),
            )
        )
    cached = median(rates["get", "corral-cache"])
    verdict = report.at_least(cached, _CACHED_READS_LEAST)
    remark = f"Reads of the cache: {cached:,.0f} a second, {_CACHED_READS_LEAST:,} wanted: {verdict}."
    how = (
        f"One client in a process of its own, against one {side.name} server with fsync on; {len(VALUE)} bytes in one "
        f"znode; pipelined: {IN_FLIGHT} requests in flight, blocking: one. CPU is the client's, per operation. "
        f"{bench.rounds} rounds in turn of {bench.measure_s} s after {bench.warm_up_s} s; median (smallest to largest)."
    )
    return [Section("Clients", how, [table], [remark])]


def _run(address: str, client: str, work: str, warm_up_s: float, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.client_load", client, work, address, str(warm_up_s), str(seconds)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    if done.returncode:
        raise BenchError(f"client {client}: {done.stderr.strip()[-500:]}")
    figures: dict[str, float] = json.loads(done.stdout or "{}")
    return figures
