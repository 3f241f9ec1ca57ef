"""What the handles of servers for tests have in common."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable


def close_unless_forked(pid: int, resources: contextlib.ExitStack) -> None:
    """Close, but not in a process that has been forked from the one the server belongs to."""
    if os.getpid() == pid:
        resources.close()


async def aside(work: Callable[[], object]) -> None:
    """Run ``work`` in a thread of its own, for the loop's executor would outlive it. It is over when this returns."""
    done: Future[None] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    thread = threading.Thread(target=run, name="corral-server-control")
    thread.start()
    try:
        await asyncio.wrap_future(done)
    finally:
        thread.join()
