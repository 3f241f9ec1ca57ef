"""Workers that share jobs; what a worker that dies has begun, another one does. Start a few, kill one:

for i in 1 2 3; do python examples/queue.py 127.0.0.1:2181 & done; wait
"""

import asyncio
import os
import sys
from contextlib import suppress

import corral
from corral.recipes import LockingQueue


async def main(hosts: str) -> None:
    name = f"worker {os.getpid()}"
    # What a dead worker has begun goes to others when its session ends: after 2 s, if the server allows it.
    async with (
        corral.connect(hosts, session_timeout=2) as zk,
        LockingQueue(zk, "/examples/queue", name=name) as queue,
    ):
        await queue.put_many([f"job {number} of {name}".encode() for number in range(5)])
        with suppress(TimeoutError):
            while True:
                # Nothing to do for a while, also for those that may yet die: then it is over.
                async with asyncio.timeout(4):
                    item = await queue.take()
                async with item:
                    print(f"{name} begins {item.data.decode()}", flush=True)
                    await asyncio.sleep(0.1)
                    print(f"{name} has done {item.data.decode()}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181"))
