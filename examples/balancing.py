"""Requests that go to the least visited server, by counts that all clients share. Start servers, then clients:

python examples/membership.py 127.0.0.1:2181 web-1 10.0.0.1:8080 &
python examples/membership.py 127.0.0.1:2181 web-2 10.0.0.2:8080 &
python examples/balancing.py 127.0.0.1:2181 &
python examples/balancing.py 127.0.0.1:2181 &
"""

import asyncio
import sys
from collections import Counter

import corral
from corral.recipes import Balancer, Members, Policy

REQUESTS = 20


async def main(hosts: str) -> None:
    async with corral.connect(hosts) as zk, Members(zk, "/examples/web") as members:
        await members.wait_for(lambda them: len(them) > 0)
        balancer = Balancer(zk, members, "/examples/web-visits", Policy.LEAST_VISITED)
        sent: Counter[str] = Counter()
        for _ in range(REQUESTS):
            server = await balancer.pick()
            # ... and here goes the request to server.data.decode()
            sent[server.name] += 1
        print("sent", *(f"{name}: {count}" for name, count in sorted(sent.items())))
        print("all clients", *(f"{load.member.name}: {load.visits}" for load in await balancer.loads()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181"))
