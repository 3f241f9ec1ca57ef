"""``python -m tests.crosscheck``: compare two servers by hand."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.crosscheck.crosscheck import Crosscheck, parse_atoms
from tests.crosscheck.servers import PROFILES, Place, launched, running
from tests.interop.peers import SERVERS


def _place(text: str, profile: str) -> Place:
    return launched(text, profile) if text in SERVERS else running(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.crosscheck",
        description="Sends the same seeded random requests to two ZooKeeper servers and compares every answer.",
    )
    server = f"HOST:PORT of a fresh server, or {' or '.join(sorted(SERVERS))} to start one"
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, counting up from --seed")
    parser.add_argument("--corners", action="store_true", help="the fixed plan of corner cases instead of random ones")
    parser.add_argument("--count", type=int, default=2000, help="requests per seed")
    parser.add_argument("--left", default="apache", help=server)
    parser.add_argument("--right", default="corral", help=server)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="full", help="configuration of started servers")
    parser.add_argument("--keep", type=parse_atoms, help="only these steps, as a reproduction names them")
    parser.add_argument("--show", type=int, default=20, help="differences shown in full")
    parser.add_argument("--minimise", type=float, default=0.0, metavar="SECONDS", help="shorten the first difference")
    parser.add_argument("--output", type=Path, default=Path("crosscheck.txt"), help="where a reproduction is written")
    return parser.parse_args()


def _checks(arguments: argparse.Namespace) -> Iterator[Crosscheck]:
    left, right = (_place(text, arguments.profile) for text in (arguments.left, arguments.right))
    if arguments.corners:
        yield Crosscheck.corners(arguments.profile, left, right)
        return
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        yield Crosscheck.seeded(seed, arguments.count, arguments.profile, left, right)


def main() -> int:
    arguments = _arguments()
    failed = False
    for check in _checks(arguments):
        started = time.monotonic()
        differences = check.differences(arguments.keep)
        print(f"{check.name}: {len(differences)} differences, {time.monotonic() - started:.1f} s", flush=True)
        failed = failed or bool(differences)
        shown: Counter[tuple[str, ...]] = Counter()
        for difference in differences:
            shown[difference.signature] += 1
            if shown[difference.signature] == 1 and len(shown) <= arguments.show:
                print(difference, end="\n\n")
        for signature, times in shown.most_common():
            print(f"{times:6} x {' / '.join(signature)}")
        if differences and arguments.minimise:
            kept = check.minimised(differences[0], arguments.minimise)
            text = check.reproduction(kept, differences[0])
            arguments.output.write_text(text, encoding="utf-8")
            print(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
