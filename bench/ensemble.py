"""Operations a second, CPU per operation and latency of three servers as one, the load spread over all of them."""

from bench.bench import Bench
from bench.programs import Figures
from bench.report import Section
from bench.sides import Side
from bench.throughput import Work, compare, load

MEMBERS = 3
_CPU_LEAST = 3.0
WORKS = (
    Work("writes-30x32", "writes, fsynced, 30 connections x 32 in flight", "-c 30 -p 32 -r 0", 3.0, 6.0, _CPU_LEAST),
    Work("writes-30x1", "writes, fsynced, 30 x 1", "-c 30 -p 1 -r 0", 3.0, 6.0, _CPU_LEAST),
    Work("reads-30x32", "reads, 30 x 32", "-c 30 -p 32 -r 100", 3.0, 5.0, _CPU_LEAST),
    Work("mixed-30x8", "70 % reads, 30 x 8", "-c 30 -p 8 -r 70", 3.0, 6.0, _CPU_LEAST),
)


def measure(bench: Bench) -> list[Section]:
    servers = (
        f"each on {MEMBERS} newly started servers as one ensemble and empty directories, the connections spread over "
        "them; CPU is that of all servers together"
    )
    return [compare(bench, "Throughput of an ensemble", servers, WORKS, lambda side, work: _one(bench, side, work))]


def _one(bench: Bench, side: Side, work: Work) -> Figures:
    with bench.ensemble(side, MEMBERS) as members:
        return load(bench, members.addresses, work, members.pids)
