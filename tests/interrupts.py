"""Ctrl-C for tests: an interrupt of the main thread that is sure to be noticed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_AGAIN_S: Final = 0.02


@contextmanager
def interrupts() -> Iterator[Callable[[], None]]:
    """Gives a function, for any other thread, that raises one KeyboardInterrupt in the main thread.

    It signals until it is heard: a signal between the interpreter's last look and the sleep in a lock is noticed only
    with the next one.
    """
    main = threading.main_thread().ident
    assert main == threading.get_ident()
    heard = threading.Event()
    sending = threading.Lock()

    def hear(number: int, frame: object) -> None:
        if not heard.is_set():
            heard.set()
            raise KeyboardInterrupt

    def interrupt() -> None:
        while True:
            with sending:
                if heard.is_set():
                    return
                signal.pthread_kill(main, signal.SIGINT)
            heard.wait(_AGAIN_S)

    former = signal.signal(signal.SIGINT, hear)
    try:
        yield interrupt
    finally:
        heard.set()
        with sending:
            signal.signal(signal.SIGINT, former)
