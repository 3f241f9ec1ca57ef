"""Memory of three servers as one, with ten thousand znodes."""

from statistics import median

from bench import report
from bench.bench import Bench, say
from bench.ensemble import MEMBERS
from bench.errors import BenchError
from bench.members import Members
from bench.million import VALUE_BYTES, fitted_heap_mib, live_heap_mib, wait_until_quiet
from bench.processes import Memory, memory_of
from bench.programs import run
from bench.report import Section, Table
from bench.sides import Apache, Side

_ZNODES = 10_000
_SHARE_MOST = 0.25
_FIGURES = {
    "resident": "resident_mib",
    "resident, shared pages counted once": "proportional_mib",
    "pages of their own": "own_mib",
}


def measure(bench: Bench) -> list[Section]:
    heaps_mib = [bench.heap_mib]
    words = f"Apache's heap: {bench.heap_mib} MiB at most, as in the other measurements"
    apache = next((side for side in bench.sides if isinstance(side, Apache)), None)
    if apache is not None:
        live_mib = _live_mib(bench, apache)
        heaps_mib.append(fitted_heap_mib(live_mib))
        words += f"; or {heaps_mib[1]} MiB, fitted to the {live_mib:.0f} MiB alive in it after a full collection"
    names = (f"{side.name} MiB" for side in bench.sides)
    table = Table(("three servers together", "heap", *names, "share", "at most", "verdict"))
    for heap_mib in heaps_mib:
        seen: tuple[list[Memory], list[Memory]] = ([], [])
        for round_number, index, side in bench.turns():
            with bench.ensemble(side, MEMBERS, heap_mib) as members:
                _fill(members)
                seen[index].append(memory_of(members.pids))
            say(f"round {round_number}, heap {heap_mib} MiB, {side.name}: {seen[index][-1].resident_mib:.0f} MiB")
        for title, figure in _FIGURES.items():
            pairs = [[getattr(memory, figure) for memory in side] for side in seen]
            share = report.ratio(median(pairs[0]), median(pairs[1]))
            verdict = report.at_most(share, _SHARE_MOST)
            cells = (*map(report.spread, pairs), f"{share:.2f}", f"{_SHARE_MOST:g}", verdict)
            table.rows.append((title, f"{heap_mib} MiB", *cells))
    how = (
        f"{_ZNODES:,} znodes of {VALUE_BYTES} bytes through pipelined creates, all quiet afterwards; median (smallest "
        f"to largest) of {bench.rounds} rounds in turn. {words}."
    )
    return [Section("Memory of an ensemble", how, [table])]


def _live_mib(bench: Bench, side: Side) -> float:
    with bench.ensemble(side, MEMBERS) as members:
        _fill(members)
        return max(map(live_heap_mib, members.pids))


def _fill(members: Members) -> None:
    leader = members.servers[members.leader()]
    figures = run("zkfill", leader.address, "/ensemble", "-n", _ZNODES, "-b", VALUE_BYTES, "-f", 1000)[-1]
    if figures["errors"]:
        raise BenchError(f"{figures['errors']:.0f} of {_ZNODES} creates failed")
    members.leader()
    wait_until_quiet(leader.data_directory)
