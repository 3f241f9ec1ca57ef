"""How soon a follower that was away while much was written serves again."""

import re
from dataclasses import dataclass, field
from statistics import median

from bench import report
from bench.bench import Bench, say
from bench.ensemble import MEMBERS
from bench.errors import BenchError
from bench.programs import Figures, run
from bench.report import Section, Table
from bench.server import Server
from bench.sides import Side
from bench.words import ask, values_in

_WARM_UP_WRITES = 20_000
_CREATES = "creates of 100 bytes"
_CHANGES = "setData on 1,000 znodes of 1 KiB"


@dataclass
class _Returns:
    """Seconds that returns of a follower took, one of each kind a round."""

    nothing_missed_s: list[float] = field(default_factory=list)
    much_missed_s: list[float] = field(default_factory=list)
    in_step_s: list[float] = field(default_factory=list)
    """What the server itself calls the time of its coming into step, when it had missed much; nan: it does not tell."""


def measure(bench: Bench) -> list[Section]:
    table = Table(
        (
            *("what was written", "time"),
            *(f"{side.name} s" for side in bench.sides),
            *("ratio", "at most", "verdict"),
        )
    )
    for what in (_CHANGES, _CREATES):
        seen = (_Returns(), _Returns())
        for round_number, index, side in bench.turns():
            returns = seen[index]
            _measure_one(bench, side, what, returns)
            say(
                f"round {round_number}, {what}, {side.name}: back after {returns.much_missed_s[-1]:.2f} s, "
                f"{returns.nothing_missed_s[-1]:.2f} s with nothing missed"
            )
        for title, times, is_judged in (
            ("process start to the first answer", [each.much_missed_s for each in seen], True),
            ("the same, with nothing missed", [each.nothing_missed_s for each in seen], False),
            ("coming into step, as the server tells it", [each.in_step_s for each in seen], False),
        ):
            share = report.ratio(median(times[0]), median(times[1]))
            wanted = ("1 : 1", report.at_most(share, 1.0)) if is_judged else ("", "")
            table.rows.append((what, title, *map(report.spread, times), report.to_one(share), *wanted))
    how = (
        f"A follower of an ensemble of {MEMBERS} is stopped, the others take {bench.missed_writes:,} writes, it is "
        "started again and answers a request whose zxid is no older than the leader's was then; before that it was "
        f"stopped and started with nothing missed. {_WARM_UP_WRITES:,} writes of 1 KiB come first. Median (smallest to "
        f"largest) of {bench.rounds} rounds in turn, each on new directories. Apache's heap: {bench.heap_mib} MiB at "
        "most. The coming into step is `follower_sync_time` of `mntr`: from the connection to the leader to the whole "
        "history on disk."
    )
    return [Section("A follower that comes back", how, [table])]


def _measure_one(bench: Bench, side: Side, what: str, returns: _Returns) -> None:
    with bench.ensemble(side, MEMBERS) as members:
        run("zkload", members.addresses, *_CHANGE_OPTIONS, "-o", _WARM_UP_WRITES)
        away = members.followers()[0]
        follower = members.servers[away]
        follower.stop()
        members.leader()
        returns.nothing_missed_s.append(members.start(away).ready_after_s)
        members.leader()
        follower.stop()
        leader = members.servers[members.leader()]
        figures = _write(leader, what, bench.missed_writes)
        if figures["ops"] != bench.missed_writes or figures["errors"]:
            raise BenchError(f"{side.name} did {figures['ops']:.0f} writes, {figures['errors']:.0f} of them failed")
        reached = _zxid(leader)
        members.start(away)
        if follower.answered_zxid < reached:
            raise BenchError(f"{side.name}'s follower answers at zxid {follower.answered_zxid:#x} before {reached:#x}")
        returns.much_missed_s.append(follower.ready_after_s)
        told_ms = values_in(ask(follower.port, "mntr")).get("max_follower_sync_time", "nan")
        returns.in_step_s.append(float(told_ms) / 1000)
        members.leader()


_CHANGE_OPTIONS = ("-c", 30, "-p", 32, "-r", 0)


def _write(leader: Server, what: str, count: int) -> Figures:
    if what == _CREATES:
        return run("zkfill", leader.address, "/missed", "-n", count, "-b", 100, "-f", 1000)[-1]
    return run("zkload", leader.address, *_CHANGE_OPTIONS, "-k", "-o", count)[-1]


def _zxid(server: Server) -> int:
    found = re.search(r"^Zxid: (0x[0-9a-f]+)", ask(server.port, "srvr"), re.MULTILINE)
    if not found:
        raise BenchError("the leader does not tell its zxid")
    return int(found[1], 16)
