"""How long nobody writes when the leader of an ensemble is killed."""

import os
import signal
import time
from statistics import median

from bench import report
from bench.bench import Bench, say
from bench.ensemble import MEMBERS
from bench.members import Members
from bench.programs import run
from bench.report import Section, Table
from bench.writer import Acknowledged, Writer

_MEDIAN_MOST_MS = 200.0
_MAX_MOST_MS = 1000.0
_STEADY_S = 1.0
_LIMIT_S = 60.0


def measure(bench: Bench) -> list[Section]:
    kills_each = -(-bench.kills // bench.rounds)
    times_ms: tuple[list[float], list[float]] = ([], [])
    for round_number, index, side in bench.turns():
        with bench.ensemble(side, MEMBERS) as members:
            run("zkload", members.addresses, "-c", 30, "-r", 0, "-t", bench.warm_up_s)
            for _ in range(kills_each):
                times_ms[index].append(_fail_over(members) * 1000)
                say(f"round {round_number}, {side.name}: next write after {times_ms[index][-1]:.0f} ms")
    ours, theirs = (side.name for side in bench.sides)
    table = Table(("from the kill to the next write", f"{ours} ms", f"{theirs} ms", "ratio", "at most ms", "verdict"))
    for title, figure, most in (("median", median, _MEDIAN_MOST_MS), ("longest", max, _MAX_MOST_MS)):
        our_ms, their_ms = (figure(times) for times in times_ms)
        table.rows.append(
            (
                *(title, report.number(our_ms), report.number(their_ms), report.to_one(report.ratio(our_ms, their_ms))),
                *(report.number(most), report.at_most(our_ms, most)),
            )
        )
    each = Table(("server", "each time, ms"))
    for side, times in zip(bench.sides, times_ms, strict=True):
        each.rows.append((side.name, "; ".join(map(report.number, times))))
    how = (
        f"The leader of {MEMBERS} servers is killed (SIGKILL) {bench.rounds * kills_each} times, {kills_each} a round, "
        f"{bench.rounds} rounds in turn; time to the acknowledgement of the first write sent after it. A client writes "
        "to both survivors all the time, one write in flight to each, and comes back every few milliseconds. Before "
        f"each kill all three are in step and have been written to for {_STEADY_S:g} s; before the first, "
        f"{bench.warm_up_s + 1} s of writes on 30 connections."
    )
    return [Section("Death of the leader", how, [table, each])]


def _fail_over(members: Members) -> float:
    """Seconds from the death of the leader to the next write; then it is back and in step."""
    leader = members.leader()
    survivors = [members.servers[number].port for number in members.followers()]
    with Writer(survivors) as writer:
        steady_s = time.monotonic() + _STEADY_S
        writer.run(lambda acknowledged: acknowledged.sent_s > steady_s, _LIMIT_S)
        server = members.servers[leader]
        killed_s = time.monotonic()
        os.kill(server.pid, signal.SIGKILL)
        first = writer.run(lambda acknowledged: _is_after(acknowledged, killed_s), _LIMIT_S)
    server.kill()  # it is dead, and must be waited for
    members.start(leader)
    members.leader()
    return first.answered_s - killed_s


def _is_after(acknowledged: Acknowledged, moment_s: float) -> bool:
    return acknowledged.sent_s > moment_s
