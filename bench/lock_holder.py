"""One contender for a lock: `python -m bench.lock_holder CLIENT HOST:PORT SESSION_TIMEOUT_S`.

Prints a line when it waits and one when it holds the lock, and then holds it until it is killed.
"""

import asyncio
import logging
import sys
import threading

PATH = "/bench-lock"


async def _corral(address: str, timeout_s: float) -> None:
    import corral
    from corral.recipes import Lock

    async with corral.connect(address, session_timeout=timeout_s) as zk:
        print("waiting", flush=True)
        async with Lock(zk, PATH):
            print("holding", flush=True)
            await asyncio.Event().wait()


def _kazoo(address: str, timeout_s: float) -> None:
    from kazoo.client import KazooClient

    zk = KazooClient(address, timeout=timeout_s)
    zk.start()
    print("waiting", flush=True)
    with zk.Lock(PATH):
        print("holding", flush=True)
        threading.Event().wait()


def main() -> None:
    client, address, timeout_s = sys.argv[1:]
    logging.disable()
    if client == "corral":
        asyncio.run(_corral(address, float(timeout_s)))
    else:
        _kazoo(address, float(timeout_s))


if __name__ == "__main__":
    main()
