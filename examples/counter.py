"""Processes that count together. Start a few at once:

for i in 1 2 3; do python examples/counter.py 127.0.0.1:2181 & done; wait
"""

import asyncio
import os
import sys

import corral
from corral.recipes import AtomicFloat, Counter


async def main(hosts: str) -> None:
    name = f"process {os.getpid()}"
    async with (
        corral.connect(hosts) as zk,
        Counter(zk, "/examples/visits") as visits,
        AtomicFloat(zk, "/examples/longest") as longest,
    ):
        for _ in range(10):
            change = await visits.add()
            print(f"{name} counted from {change.before} to {change.after}", flush=True)
        record = await longest.update(lambda seconds: max(seconds, change.after / 10))
        print(f"{name} found {record.before} s as the record and left {record.after} s", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181"))
