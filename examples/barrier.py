"""Three processes that begin together and end together. Start three:

for i in 1 2 3; do python examples/barrier.py 127.0.0.1:2181 & done; wait
"""

import asyncio
import os
import sys

import corral
from corral.recipes import DoubleBarrier


async def main(hosts: str) -> None:
    name = f"process {os.getpid()}"
    async with corral.connect(hosts) as zk:
        print(f"{name} is ready", flush=True)
        async with DoubleBarrier(zk, "/examples/barrier", 3, name=name):
            print(f"{name} begins", flush=True)
            await asyncio.sleep(0.1)
            print(f"{name} has done its part", flush=True)
        print(f"{name} knows that all have done theirs", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181"))
