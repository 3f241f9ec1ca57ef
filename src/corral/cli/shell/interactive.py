"""The shell at a terminal: line editing, history, completion, events between the lines."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory
from prompt_toolkit.patch_stdout import patch_stdout

from corral.cli.shell.command import CommandError
from corral.cli.shell.completion import ShellCompleter
from corral.client import State

if TYPE_CHECKING:
    from corral.cli.shell.shell import Shell

__all__ = ["history_file", "interact", "prompt"]

_STATES: Final = {State.CONNECTED: "CONNECTED", State.CONNECTED_READ_ONLY: "CONNECTEDREADONLY", State.CLOSED: "CLOSED"}


class _History(FileHistory):
    """The lines of earlier shells too; those with a password are not written down."""

    def store_string(self, string: str) -> None:
        if not string.lstrip().startswith("addauth"):
            super().store_string(string)


def history_file() -> Path:
    """Where the history is kept, readable for its owner only; the directory exists afterwards."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # A relative path in that variable is to be ignored.
    home = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    path = home / "corral" / "shell_history"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    return path


def prompt(shell: Shell) -> str:
    """What stands before a line."""
    return f"[zk: {shell.hosts}({_STATES.get(shell.state, 'CONNECTING')}) {shell.count}] "


async def interact(shell: Shell, hosts: str, patience: float) -> None:
    """Read lines and run them until ``quit`` or the end of the input; Ctrl-C ends the line or the command."""
    session: PromptSession[str] = PromptSession(
        history=_open_history(shell), completer=ShellCompleter(shell), complete_while_typing=False
    )
    runner = _Runner(shell)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, runner.interrupt)
    try:
        shell.output.message(f"Connecting to {hosts}")
        try:
            await shell.connect_in_background(hosts, patience)
        except CommandError as error:
            shell.output.error(str(error))
        shell.output.message("Welcome to ZooKeeper!")
        while not shell.is_over:
            try:
                # Events that come while a line is edited are printed above it.
                with patch_stdout(raw=True):
                    line = await session.prompt_async(lambda: prompt(shell), handle_sigint=False)
            except KeyboardInterrupt:
                continue
            except EOFError:
                break
            await runner.run(line)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        await shell.leave()


class _Runner:
    """Runs a line at a time; Ctrl-C cancels what runs, rather than the whole shell."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._running: asyncio.Task[None] | None = None

    async def run(self, line: str) -> None:
        shell = self._shell
        self._running = asyncio.create_task(shell.execute_line(line))
        try:
            await self._running
        except asyncio.CancelledError:
            if not self._running.cancelled():
                raise
            shell.status = 1
            shell.count += 1
            shell.output.error("Cancelled; what was sent may have been done.")
        finally:
            self._running = None

    def interrupt(self) -> None:
        if self._running is not None:
            self._running.cancel()


def _open_history(shell: Shell) -> FileHistory | None:
    try:
        return _History(str(history_file()))
    except OSError as error:
        shell.output.message(f"No history is kept: {error}")
        return None
