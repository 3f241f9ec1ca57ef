"""Processes of which one works and the others stand by. Start a few, stop or kill the one that leads:

for i in 1 2 3; do python examples/election.py 127.0.0.1:2181 & done; wait
"""

import asyncio
import sys
from contextlib import suppress

import corral
from corral.recipes import Election, Held


async def main(hosts: str) -> None:
    # The others learn of a leader that dies without a word when its session ends: 2 s later, if the server allows it.
    async with corral.connect(hosts, session_timeout=2) as zk:
        election = Election(zk, "/examples/leader")

        async def lead(held: Held) -> None:
            print(f"{election.identifier} leads, fencing number {held.token}", flush=True)
            try:
                while True:
                    await asyncio.sleep(1)
                    print(f"{election.identifier} works", flush=True)
            finally:
                # Also when the leadership is lost: that cancels this function at once.
                print(f"{election.identifier} stops", flush=True)

        await election.run(lead)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181"))
