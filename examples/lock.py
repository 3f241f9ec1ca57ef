"""Processes that take turns. Start a few of them at once:

for i in 1 2 3; do python examples/lock.py 127.0.0.1:2181 & done; wait
"""

import asyncio
import sys

import corral
from corral.recipes import Lock

COUNTER = "/examples/turns"


async def main(hosts: str) -> None:
    async with corral.connect(hosts) as zk:
        await zk.ensure(COUNTER)
        lock = Lock(zk, "/examples/lock")
        for _ in range(5):
            async with lock.hold(cancel_when_lost=True) as held:
                turn = int((await zk.get(COUNTER)).data or b"0") + 1
                async with zk.transaction() as transaction:
                    # Whatever happens to this process: nothing is written unless it still has the lock.
                    transaction.check(held.path)
                    transaction.set(COUNTER, b"%d" % turn)
                print(f"{lock.identifier} took turn {turn}, fencing number {held.token}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181"))
