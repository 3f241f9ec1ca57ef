"""Processes that take unique ids and register themselves by name. Start a few at once:

for i in 1 2 3; do python examples/naming.py 127.0.0.1:2181 & done; wait
"""

import asyncio
import os
import sys

import corral
from corral.recipes import Names, UniqueIds


async def main(hosts: str) -> None:
    async with corral.connect(hosts) as zk, Names(zk, "/examples/names") as names:
        # One write for ten ids of this type; one for each of that.
        jobs = UniqueIds(zk, "/examples/ids", "type2", "job-", block=10)
        workers = UniqueIds(zk, "/examples/ids", "worker")
        worker = await workers.next()
        await names.register(f"workers/{worker}", f"process {os.getpid()}".encode(), ephemeral=True)
        for _ in range(5):
            print(f"{worker} takes {await jobs.next()}", flush=True)
        for name in await names.list_names("workers"):
            try:
                print(f"{worker} sees {name}: {(await names.look_up(name)).data.decode()}", flush=True)
            except corral.NoNodeError:
                print(f"{worker} missed {name}, which has just ended", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181"))
