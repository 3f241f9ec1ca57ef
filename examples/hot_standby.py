"""A task that one process runs, and that the next one goes on with. Start a few, stop or kill the one that runs:

for i in 1 2 3; do python examples/hot_standby.py 127.0.0.1:2181 & done; wait
"""

import asyncio
import os
import sys
from contextlib import suppress

import corral
from corral.recipes import Execution, HotStandby


async def count(execution: Execution) -> None:
    number = int(execution.last_commit or b"0")
    print(f"{os.getpid()} goes on after {number}, fencing number {execution.held.token}", flush=True)
    while True:
        await asyncio.sleep(0.1)
        number += 1
        # Stored twice a second, and never by a process that has been superseded.
        execution.report(b"%d" % number)
        print(f"{os.getpid()} counts {number}", flush=True)


async def main(hosts: str) -> None:
    async with corral.connect(hosts, session_timeout=2) as zk:
        standby = HotStandby(zk, "/examples/counting", count, commit_interval=0.5)
        standby.on_state(lambda state: print(f"{os.getpid()} is {state.value if state else 'gone'}", flush=True))
        await standby.run()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181"))
