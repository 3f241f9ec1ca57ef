"""The shell at a terminal: line editing, history, completion, events between the lines."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory
from prompt_toolkit.patch_stdout import patch_stdout

from corral.cli.shell.command import CommandError
from corral.cli.shell.completion import ShellCompleter
from corral.client import State

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    try:
        with patch_stdout(raw=True):
            shell.output.message(f"Connecting to {hosts}")
            try:
                await shell.connect_in_background(hosts, patience)
            except CommandError as error:
                shell.output.error(str(error))
            shell.output.message("Welcome to ZooKeeper!")
            while not shell.is_over:
                try:
                    line = await session.prompt_async(lambda: prompt(shell))
                except KeyboardInterrupt:
                    continue
                except EOFError:
                    break
                await _run(shell, line)
    finally:
        await shell.leave()


async def _run(shell: Shell, line: str) -> None:
    command = asyncio.ensure_future(shell.execute_line(line))
    with _cancelling(command):
        try:
            await command
        except asyncio.CancelledError:
            if not command.cancelled():
                raise
            shell.status = 1
            shell.count += 1
            shell.output.error("Cancelled; what was sent may have been done.")


@contextmanager
def _cancelling(command: asyncio.Future[None]) -> Iterator[None]:
    """Ctrl-C cancels ``command`` rather than the whole shell."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, command.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _open_history(shell: Shell) -> FileHistory | None:
    try:
        return _History(str(history_file()))
    except OSError as error:
        shell.output.message(f"No history is kept: {error}")
        return None
