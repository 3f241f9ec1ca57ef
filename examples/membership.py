"""Servers that come and go, and somebody who sees it at once:

python examples/membership.py 127.0.0.1:2181 &
python examples/membership.py 127.0.0.1:2181 web-1 10.0.0.1:8080 &
python examples/membership.py 127.0.0.1:2181 web-2 10.0.0.2:8080 &
"""

import asyncio
import sys
from contextlib import suppress

import corral
from corral.recipes import Members, Registration

GROUP = "/examples/web"


async def serve(zk: corral.Client, name: str, address: str) -> None:
    # It stays registered over lost sessions. Killed, it is gone when its session ends: 2 s later, if the server allows.
    async with Registration(zk, GROUP, name, address.encode()):
        print(f"{name} is registered", flush=True)
        await asyncio.Event().wait()


async def look(zk: corral.Client) -> None:
    async with Members(zk, GROUP) as members:
        changes = members.changes()
        print(f"there are: {', '.join(member.name for member in members) or 'none'}", flush=True)
        async for kind, member in changes:
            if member is not None:
                print(f"{member.name} {kind.value}: {member.data.decode()}", flush=True)


async def main(hosts: str, name: str = "", address: str = "") -> None:
    async with corral.connect(hosts, session_timeout=2) as zk:
        await (serve(zk, name, address) if name else look(zk))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:] or ["127.0.0.1:2181"]))
