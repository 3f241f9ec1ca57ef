"""Workers that take whichever task of their group nobody runs. Start a few, stop or kill some:

for i in 1 2 3; do python examples/cold_standby.py 127.0.0.1:2181 & done; wait
"""

import asyncio
import os
import sys
from contextlib import suppress

import corral
from corral.recipes import ColdStandby, Execution, register_task

GROUP = "/examples/tables"
STEPS = 20


async def copy(execution: Execution) -> None:
    done = int(execution.last_commit or b"0")
    print(f"{os.getpid()} takes {execution.name} after step {done} of {STEPS}", flush=True)
    for step in range(done + 1, STEPS + 1):
        await asyncio.sleep(0.1)
        await execution.commit(b"%d" % step)
        print(f"{os.getpid()} has done step {step} of {execution.name}", flush=True)
    # Returning finishes the task: nobody takes it again.
    print(f"{os.getpid()} has finished {execution.name}", flush=True)


async def main(hosts: str) -> None:
    async with corral.connect(hosts, session_timeout=2) as zk:
        for name in ("customers", "invoices", "orders", "payments"):
            await register_task(zk, f"{GROUP}/{name}", b"SELECT * FROM " + name.encode())
        await ColdStandby(zk, GROUP, copy, capacity=2).run()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181"))
