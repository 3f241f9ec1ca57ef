"""Time from process start to the first answered request on a directory with a million znodes."""

from statistics import median

from bench import report
from bench.bench import Bench, say
from bench.memory import heap_words
from bench.million import Million
from bench.processes import resident_mib
from bench.report import Section, Table

_RATIO_MOST = 1.5


def measure(bench: Bench, million: Million) -> list[Section]:
    times = Table(("directory", *(f"{side.name} s" for side in bench.sides), "ratio", "at most", "verdict"))
    memory = Table(("directory", *(f"{side.name} MiB resident then" for side in bench.sides)))
    writers: list[tuple[str, tuple[int, int]]] = [
        ("written by itself", (0, 1)),
        *((f"written by {side.name}", (index, index)) for index, side in enumerate(bench.sides)),
    ]
    for title, images in writers:
        took_s: tuple[list[float], list[float]] = ([], [])
        resident: tuple[list[float], list[float]] = ([], [])
        for round_number, index, side in bench.turns():
            with (
                million.copy(images[index]) as directory,
                bench.running(side, directory, million.heap_mib()) as server,
            ):
                took_s[index].append(server.ready_after_s)
                resident[index].append(resident_mib(server.pid))
            say(f"restart {round_number}, {title}, {side.name}: {took_s[index][-1]:.2f} s")
        share = report.ratio(median(took_s[0]), median(took_s[1]))
        verdict = report.at_most(share, _RATIO_MOST)
        cells = (*map(report.spread, took_s), report.to_one(share), f"{_RATIO_MOST:g} : 1", verdict)
        times.rows.append((title, *cells))
        memory.rows.append((title, *map(report.spread, resident)))
    how = (
        f"Process start to first answered request with {bench.znodes:,} znodes: the newest snapshot and the log after "
        f"it, in the page cache; median (smallest to largest) of {bench.rounds} starts each, in turn. How much log "
        "follows the snapshot is left to chance by snapCount: only one directory for both compares like with like. "
        f"{heap_words(million)}"
    )
    return [Section("Restart", how, [times, memory])]
