"""How long a lock is nobody's when its holder is killed: with this repository's client, and with kazoo's."""

import select
import subprocess
import sys
import time
from statistics import median

from bench import report
from bench.bench import Bench, say
from bench.report import Section, Table
from bench.sides import REPOSITORY

_SESSION_S = 1.0
_SETTINGS = {"tickTime": "50", "minSessionTimeout": "500"}
_CLIENTS = ("corral", "kazoo")


def measure(bench: Bench) -> list[Section]:
    side = next((side for side in bench.sides if side.name.startswith("Corral")), bench.sides[0])
    times: dict[str, list[float]] = {client: [] for client in _CLIENTS}
    with bench.server(side, _SETTINGS) as server:
        for round_number in range(1, 2 * bench.rounds + 1):
            for client in _CLIENTS:
                times[client].append(_hand_over(client, server.address) * 1000)
                say(f"round {round_number}, {client}: handed over after {times[client][-1]:.0f} ms")
    ours, theirs = (times[client] for client in _CLIENTS)
    share = report.ratio(median(ours), median(theirs))
    table = Table(("from the kill to the next holder", "ours ms", "kazoo ms", "ratio"))
    table.rows.append(("", report.spread(ours), report.spread(theirs), report.to_one(share)))
    how = (
        f"The holder of a lock is killed (SIGKILL) while another process waits for it; sessions of {_SESSION_S:g} s, "
        f"so that the service takes about as long to notice; one {side.name} server with a tick of "
        f"{_SETTINGS['tickTime']} ms; {2 * bench.rounds} times each, in turn; median (smallest to largest)."
    )
    return [Section("Handing over a lock", how, [table])]


def _hand_over(client: str, address: str) -> float:
    command = [sys.executable, "-m", "bench.lock_holder", client, address, str(_SESSION_S)]
    with (
        subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, bufsize=0) as holder,
        subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, bufsize=0) as waiter,
    ):
        try:
            first, second = (holder, waiter) if _is_first(holder, waiter) else (waiter, holder)
            first.kill()
            killed = time.monotonic()
            _read(second, "holding")
            return time.monotonic() - killed
        finally:
            holder.kill()
            waiter.kill()


def _read(process: subprocess.Popen[bytes], word: str) -> None:
    assert process.stdout is not None
    line = process.stdout.readline().decode().strip()
    if line != word:
        raise RuntimeError(f"a contender said {line!r} instead of {word!r}")


def _is_first(one: subprocess.Popen[bytes], other: subprocess.Popen[bytes]) -> bool:
    """Whether ``one`` has the lock; returns once the other one waits for it."""
    _read(one, "waiting")
    _read(other, "waiting")
    assert one.stdout is not None
    assert other.stdout is not None
    ready, _, _ = select.select([one.stdout, other.stdout], [], [])
    _read(one if one.stdout in ready else other, "holding")
    # The other one has said that it waits; its claim stands a moment later.
    time.sleep(_SESSION_S / 4)
    return one.stdout in ready
