"""The rate of creates in a directory with a million children, against an empty one of the same server."""

from statistics import median

from bench import report
from bench.bench import Bench, say
from bench.errors import BenchError
from bench.million import VALUE_BYTES, wait_until_quiet
from bench.programs import run
from bench.report import Section, Table
from bench.server import Server
from bench.sides import Side

_SHARE_LEAST = 0.5
_CREATES = 50_000
# Snapshots would fall into some of the measured times and not into others.
_SETTINGS = {"snapCount": "2000000000"}


def measure(bench: Bench) -> list[Section]:
    full_title = f"with {bench.znodes:,} children"
    table = Table(("server", "empty, creates/s", f"{full_title}, creates/s", "share", "at least", "verdict"))
    for side in bench.sides:
        with bench.server(side, _SETTINGS) as server:
            empty, full = _rates(bench, side, server)
        share = report.ratio(median(full), median(empty))
        verdict = report.at_least(share, _SHARE_LEAST)
        table.rows.append(
            (side.name, report.spread(empty), report.spread(full), f"{share:.2f}", f"{_SHARE_LEAST:g}", verdict)
        )
    how = (
        f"{_CREATES:,} creates of {VALUE_BYTES} bytes, 30 connections x 8, in a new directory and in one "
        f"{full_title}, in turn on one server; median (smallest to largest) of {bench.rounds} rounds. "
        f"No snapshots meanwhile. Apache's heap: {bench.heap_mib} MiB at most."
    )
    return [Section("Creates in a large directory", how, [table])]


def _rates(bench: Bench, side: Side, server: Server) -> tuple[list[float], list[float]]:
    say(f"{side.name}: creating {bench.znodes:,} children")
    _create(server, "/full", 0, bench.znodes)
    wait_until_quiet(server.data_directory)
    empty, full = [], []
    for round_number in range(bench.rounds):
        empty.append(_create(server, f"/empty{round_number}", 0, _CREATES))
        full.append(_create(server, "/full", bench.znodes + round_number * _CREATES, _CREATES))
        say(f"round {round_number + 1}, {side.name}: empty {empty[-1]:,.0f} creates/s, full {full[-1]:,.0f}")
    return empty, full


def _create(server: Server, directory: str, first: int, count: int) -> float:
    figures = run("zkfill", server.address, directory, "-n", count, "-s", first, "-b", VALUE_BYTES)[-1]
    if figures["errors"]:
        raise BenchError(f"{figures['errors']:.0f} of {count} creates in {directory} were answered with errors")
    return figures["ops_s"]
