"""One client that works as fast as it can: `python -m bench.client_load CLIENT WORK HOST:PORT WARM_UP_S SECONDS`.

Prints the operations done, the seconds that took and the CPU seconds of this process, as one line of JSON. A client
that can have many requests under way has IN_FLIGHT of them; the others have one.
"""

import asyncio
import json
import logging
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

IN_FLIGHT = 1000
PATH = "/bench-client"
VALUE = b"x" * 100
_CACHE_BATCH = 100_000


class _Meter:
    """Counts from the end of the warm-up to the end of the measurement."""

    def __init__(self, warm_up_s: float, seconds: float) -> None:
        self._begin = time.perf_counter() + warm_up_s
        self._seconds = seconds
        self._started: tuple[float, float] | None = None
        self._operations = 0

    def add(self, operations: int) -> bool:
        """Tells of operations that are done; false when it is time to stop."""
        now = time.perf_counter()
        if self._started is None:
            if now >= self._begin:
                self._started = (now, time.process_time())
            return True
        self._operations += operations
        if now < self._started[0] + self._seconds:
            return True
        cpu = time.process_time() - self._started[1]
        figures = {"operations": self._operations, "seconds": now - self._started[0], "cpu": cpu}
        print(json.dumps(figures))
        return False


async def _pipeline(request: Callable[[], Awaitable[object]], meter: _Meter) -> None:
    """Keeps IN_FLIGHT requests under way."""
    waiting = deque(asyncio.ensure_future(request()) for _ in range(IN_FLIGHT))
    half = IN_FLIGHT // 2
    going_on = True
    while going_on:
        for _ in range(half):
            await waiting.popleft()
        going_on = meter.add(half)
        waiting.extend(asyncio.ensure_future(request()) for _ in range(half))
    await asyncio.gather(*waiting)


async def _corral(address: str, work: str, meter: _Meter) -> None:
    import corral

    async with corral.connect(address) as zk:
        if work == "get":
            await _pipeline(lambda: zk.get(PATH), meter)
        else:
            await _pipeline(lambda: zk.set(PATH, VALUE), meter)


async def _create(address: str) -> None:
    import corral

    async with corral.connect(address) as zk:
        await zk.create(PATH, VALUE)


async def _corral_cache(address: str, work: str, meter: _Meter) -> None:
    import corral

    async with corral.connect(address) as zk, zk.cache(PATH) as cache:
        get = cache.get
        while True:
            for _ in range(_CACHE_BATCH):
                get(PATH)
            if not meter.add(_CACHE_BATCH):
                return
            await asyncio.sleep(0)


async def _aiozk(address: str, work: str, meter: _Meter) -> None:
    import aiozk

    zk = aiozk.ZKClient(address)
    await zk.start()
    if work == "get":
        await _pipeline(lambda: zk.get_data(PATH), meter)
    else:
        await _pipeline(lambda: zk.set_data(PATH, VALUE, force=True), meter)
    await zk.close()


def _corral_blocking(address: str, work: str, meter: _Meter) -> None:
    import corral.sync

    with corral.sync.connect(address) as zk:
        if work == "get":
            while meter.add(1):
                zk.get(PATH)
        else:
            while meter.add(1):
                zk.set(PATH, VALUE)


def _kazoo(address: str, work: str, meter: _Meter, *, is_async: bool) -> None:
    from kazoo.client import KazooClient

    zk = KazooClient(address)
    zk.start()
    if is_async:
        send: Callable[[], Any] = (lambda: zk.get_async(PATH)) if work == "get" else (lambda: zk.set_async(PATH, VALUE))
        waiting = deque(send() for _ in range(IN_FLIGHT))
        half = IN_FLIGHT // 2
        going_on = True
        while going_on:
            for _ in range(half):
                waiting.popleft().get()
            going_on = meter.add(half)
            waiting.extend(send() for _ in range(half))
        for each in waiting:
            each.get()
    elif work == "get":
        while meter.add(1):
            zk.get(PATH)
    else:
        while meter.add(1):
            zk.set(PATH, VALUE)
    zk.stop()
    zk.close()


def _run(loop: str, coroutine: Awaitable[None]) -> None:
    async def main() -> None:
        await coroutine

    if loop == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())


def main() -> None:
    client, work, address, warm_up_s, seconds = sys.argv[1:]
    logging.disable()
    meter = _Meter(float(warm_up_s), float(seconds))
    match client:
        case "corral-create":
            _run("asyncio", _create(address))
        case "corral":
            _run("asyncio", _corral(address, work, meter))
        case "corral-uvloop":
            _run("uvloop", _corral(address, work, meter))
        case "corral-cache":
            _run("asyncio", _corral_cache(address, work, meter))
        case "corral-blocking":
            _corral_blocking(address, work, meter)
        case "aiozk":
            _run("asyncio", _aiozk(address, work, meter))
        case "kazoo":
            _kazoo(address, work, meter, is_async=False)
        case "kazoo-async":
            _kazoo(address, work, meter, is_async=True)
        case _:
            raise SystemExit(f"no client {client!r}")


if __name__ == "__main__":
    main()
