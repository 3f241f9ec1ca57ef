"""Runs the client programs in other languages that sit beside the tests.

Such a program gets a server's address, runs its named checks and prints one line for each: ``ok NAME`` or
``failed NAME: REASON``. With a line ``? WISH`` it asks for something that only the test can do, and waits for ``done``.
"""

from __future__ import annotations

import re
import subprocess
import threading
from typing import TYPE_CHECKING, Final

from tests.interop.gate import Gate
from tests.interop.kazoo_clients import ClientFactory, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.interop.peers import Server

PROGRAM_LIMIT_S: Final = 100.0


def declared_checks(source: Path) -> list[str]:
    """The names of all checks in a program's source, in any of the languages: ``check("NAME", ...)``."""
    names = re.findall(r'\bcheck\("([^"]+)"', source.read_text(encoding="utf-8"))
    assert names, f"no checks in {source}"
    return names


class Wishes:
    """What a program may ask for while it runs."""

    def __init__(self, server: Server, gate: Gate) -> None:
        self._server = server
        self._gate = gate

    def grant(self, wish: str) -> None:
        name, *arguments = wish.split()
        granting: dict[str, Callable[..., None]] = {
            "close": self._gate.close,
            "open": self._gate.open,
            "cut": self._gate.cut,
            "restart": self._restart,
            "change": self._change,
            "expire": self._expire,
        }
        granting[name](*arguments)

    def _restart(self) -> None:
        self._gate.close()
        self._server.restart()
        self._gate.open()

    def _change(self, root: str) -> None:
        """Changes what the checks of re-set watches expect to find changed."""
        with ClientFactory(self._server.address) as clients:
            client = clients()
            client.set(f"{root}/data", b"changed")
            client.create(f"{root}/child/new", b"")
            client.delete(f"{root}/gone")
            client.create(f"{root}/made", b"")

    def _expire(self, session: str) -> None:
        wait_until(lambda: session not in self._server.four_letter_word("dump"), f"session {session} expires")


def run_checks(command: Sequence[str], server: Server) -> dict[str, str]:
    """Runs a program against the server, through a gate; returns ``ok`` or the reason by the name of each check."""
    with Gate(server.port) as gate:
        return run_checks_at([*command, gate.address], Wishes(server, gate).grant)


def run_checks_at(command: Sequence[str], grant: Callable[[str], None]) -> dict[str, str]:
    """Runs a program whose wishes are for ``grant``; returns ``ok`` or the reason by the name of each check."""
    results: dict[str, str] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        watchdog = threading.Timer(PROGRAM_LIMIT_S, program.kill)
        watchdog.start()
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            for line in program.stdout:
                kind, _, rest = line.rstrip("\n").partition(" ")
                if kind == "?":
                    grant(rest)
                    program.stdin.write("done\n")
                    program.stdin.flush()
                elif kind == "ok":
                    results[rest] = "ok"
                elif kind == "failed":
                    name, _, reason = rest.partition(": ")
                    results[name] = reason
            program.stdin.close()
            status = program.wait()
        finally:
            watchdog.cancel()
            program.kill()
    assert status == 0, f"{command[0]} ended with {status} after {results}"
    return results
