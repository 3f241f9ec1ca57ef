"""The command line: `python -m bench [MEASUREMENT]`."""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import (
    children,
    clients,
    ensemble,
    ensemble_memory,
    failover,
    failures,
    handover,
    idle,
    machine,
    memory,
    restart,
    resync,
    snapshot,
    startup,
    throughput,
    watchers,
)
from bench.bench import PLACEMENTS, Bench, say
from bench.errors import BenchError
from bench.million import Million
from bench.processes import lift_file_limit
from bench.report import Section
from bench.sides import REPOSITORY, sides_named

_MEASUREMENTS: dict[str, Callable[[Bench, Million], list[Section]]] = {
    "throughput": lambda bench, _: throughput.measure(bench),
    "startup": lambda bench, _: startup.measure(bench),
    "memory": memory.measure,
    "restart": restart.measure,
    "watchers": lambda bench, _: watchers.measure(bench),
    "idle": lambda bench, _: idle.measure(bench),
    "handover": lambda bench, _: handover.measure(bench),
    "clients": lambda bench, _: clients.measure(bench),
    "children": lambda bench, _: children.measure(bench),
    "snapshot": snapshot.measure,
    "ensemble": lambda bench, _: ensemble.measure(bench),
    "ensemble-memory": lambda bench, _: ensemble_memory.measure(bench),
    "failover": lambda bench, _: failover.measure(bench),
    "resync": lambda bench, _: resync.measure(bench),
    "failures": lambda bench, _: failures.measure(bench),
}
_SPARE_FILES = 200


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Compares Corral with Apache's server on this machine. What is measured and how: bench/README.md.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("measurements", nargs="*", metavar="MEASUREMENT", help=f"{', '.join(_MEASUREMENTS)} or all; else throughput")
    add("--rounds", type=_positive, default=3, help="how often each side has its turn")
    add("-t", "--seconds", type=_positive, default=5, help="measured seconds of each load")
    add("--warm-up", type=_positive, default=5, help="seconds of the same load before")
    add("--works", default="", help=f"only these of {','.join(work.name for work in throughput.WORKS)}")
    add("--znodes", type=_positive, default=1_000_000, help="for memory, restart, children, snapshot")
    add("--connections", type=_positive, default=10_000, help="for watchers and idle")
    add("--idle-seconds", type=_positive, default=30, help="for idle")
    add("--kills", type=_positive, default=20, help="for failover: how often each side's leader is killed")
    add("--missed-writes", type=_positive, default=100_000, help="for resync")
    add("--failure-seconds", type=_positive, default=120, help="for failures")
    add(
        "--plot", type=Path, default=REPOSITORY / "bench" / "failures.svg", help="for failures: data goes to a .csv too"
    )
    add("--heap", type=_positive, default=2048, help="Apache's heap in MiB")
    add("--million-heap", type=_positive, help="the same for memory and restart; else fitted to what is alive in it")
    add("--sides", default="corral,apache", help="the pair to compare; a pair of equals shows the machine's noise")
    add("--placement", choices=PLACEMENTS, default="free", help="server and load on one core, on two, or anywhere")
    add("--apache-lib", type=Path, default=REPOSITORY / ".peers" / "apache", help="directory of Apache's jars")
    add("--base-dir", type=Path, default=REPOSITORY.parent, help="where a directory for the servers' data is made")
    add("--markdown", type=Path, metavar="FILE", help="write the results to FILE too")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"at least 1, not {value}")
    return value


def main() -> int:
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers end with this process
    try:
        return _run(arguments)
    except BenchError as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _run(arguments: argparse.Namespace) -> int:
    wanted = _wanted(arguments.measurements)
    sides = sides_named(arguments.sides, arguments.apache_lib.resolve())
    lift_file_limit(arguments.connections + _SPARE_FILES)
    if not arguments.base_dir.is_dir():
        raise BenchError(f"--base-dir {arguments.base_dir} is no directory")
    machine.file_system(arguments.base_dir)
    base = Path(tempfile.mkdtemp(prefix="corral-bench-", dir=arguments.base_dir.resolve()))
    try:
        bench = Bench(
            sides=sides,
            base=base,
            rounds=arguments.rounds,
            measure_s=arguments.seconds,
            warm_up_s=arguments.warm_up,
            heap_mib=arguments.heap,
            fitted_heap_mib=arguments.million_heap,
            znodes=arguments.znodes,
            connections=arguments.connections,
            idle_s=arguments.idle_seconds,
            kills=arguments.kills,
            missed_writes=arguments.missed_writes,
            failure_s=arguments.failure_seconds,
            plot=arguments.plot,
            placement=arguments.placement,
            works=tuple(filter(None, arguments.works.split(","))),
        )
        return _measure(bench, wanted, arguments.markdown)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _wanted(names: list[str]) -> list[str]:
    if "all" in names:
        return list(_MEASUREMENTS)
    unknown = [name for name in names if name not in _MEASUREMENTS]
    if unknown:
        raise BenchError(f"no such measurement: {', '.join(unknown)}; there are {', '.join(_MEASUREMENTS)} and all")
    return names or ["throughput"]


def _measure(bench: Bench, wanted: list[str], markdown: Path | None) -> int:
    """Measures one after the other; what fails is told in its place and does not stop the rest."""
    million = Million(bench)
    text = machine.description(bench.base, bench.sides) + f"- placement of server and load: {bench.placement}\n"
    print(text, flush=True)
    failed = False
    for name in wanted:
        say(f"== {name}")
        try:
            sections = _MEASUREMENTS[name](bench, million)
        except BenchError as error:
            failed = True
            say(f"bench: {name}: {error}")
            sections = [Section(name.capitalize(), f"Not measured: {str(error).splitlines()[0]}")]
        for section in sections:
            print(section.markdown(), flush=True)
            text += f"\n{section.markdown()}"
        if markdown:
            markdown.write_text(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
