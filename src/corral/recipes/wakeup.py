"""What a watch wakes: any number of waiters, none of which is missed."""

from __future__ import annotations

import asyncio


class Wakeup:
    """Ask for :attr:`next` first, then look at the service with :meth:`fire` as the watch, then wait for it.

    One object that lives as long as its recipe is registered once however often it is set, so that waits which are
    cancelled again and again do not pile up callbacks.
    """

    def __init__(self) -> None:
        self.next = asyncio.Event()
        """Is set by the next call of :meth:`fire`, and stays so for whoever holds it."""

    def __repr__(self) -> str:
        return f"<Wakeup {id(self):#x}>"

    def fire(self, _event: object = None) -> None:
        """Wake all who wait: fit to be the callback of a watch."""
        self.next.set()
        self.next = asyncio.Event()
