"""One shell: a client, an output, and the commands that come in."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import corral
from corral.cli.shell.arguments import parse, split
from corral.cli.shell.command import DRY_RUN, CommandError, UsageError
from corral.cli.shell.events import EventPrinter
from corral.cli.shell.registry import COMMANDS
from corral.cli.shell.sentences import sentence
from corral.client import ClientClosedError, KeeperError, State
from corral.client.errors import ReplyTooLargeError, RequestTooLargeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.cli.shell.arguments import Arguments
    from corral.cli.shell.command import Command
    from corral.cli.shell.output import Output
    from corral.client import Client

__all__ = ["HISTORY_MAX", "NOT_FOUND", "Connecting", "Shell"]

NOT_FOUND: Final = 127
"""The exit status of a command that does not exist, as in a Unix shell."""

HISTORY_MAX: Final = 10_000
"""Lines that ``redo`` knows: a script may have millions."""

_UNTIL_GIVEN_UP_S: Final = 10 * 365 * 86400.0
"""An interactive shell goes on connecting until its user leaves."""


@dataclass(frozen=True, slots=True)
class Connecting:
    """How a shell connects, to whatever server."""

    session_timeout: float
    """Seconds."""
    connect_timeout: float
    """Seconds for the first connection, when something waits for it."""
    read_only: bool = False


class Shell:
    """What a command works with."""

    def __init__(self, output: Output, connecting: Connecting, *, dry_run: bool = False) -> None:
        self.output = output
        self.events = EventPrinter(output)
        self.hosts = ""
        """The connect string in use."""
        self.status = 0
        """What the last command ended with."""
        self.is_over = False
        """Set by ``quit``."""
        self.history: dict[int, str] = {}
        self.count = 0
        """The number of the current line, or of the next one."""
        self._connecting = connecting
        self._dry_run = dry_run
        self._client: Client | None = None
        self._start: asyncio.Task[Client] | None = None
        self._redoing = False

    @property
    def client(self) -> Client:
        """The client. Raises CommandError after ``close``."""
        if self._client is None or self._client.state is State.CLOSED:
            raise CommandError("Not connected")
        return self._client

    @property
    def state(self) -> State:
        """Of the client; CLOSED if there is none."""
        return self._client.state if self._client is not None else State.CLOSED

    def is_dry(self, arguments: Arguments) -> bool:
        """Whether the command is only to say what it would delete."""
        return self._dry_run or arguments.has(DRY_RUN.name)

    # Connecting

    def open(self, hosts: str) -> Client:
        """Another client, not started, with the timeouts of this shell. Raises CommandError for no connect string."""
        return self._open(hosts, self._connecting.connect_timeout)

    def _open(self, hosts: str, connect_timeout: float) -> Client:
        try:
            return corral.connect(
                hosts,
                session_timeout=self._connecting.session_timeout,
                connect_timeout=connect_timeout,
                read_only=self._connecting.read_only,
            )
        except ValueError as error:
            raise CommandError(str(error)) from None

    async def connect(self, hosts: str, *, quietly: bool = False) -> None:
        """Connect to another service, leaving the one there is; ``quietly`` does not print that it is connected.

        Raises CommandError if no server answers.
        """
        client = self.open(hosts)
        await self.close()
        self._client, self.hosts = client, hosts
        if not quietly:
            client.on_state(self.events.state_changed)
        try:
            await client.start()
        except corral.ConnectionLoss as error:
            raise CommandError(str(error)) from None
        if quietly:
            client.on_state(self.events.state_changed)

    async def connect_in_background(self, hosts: str, patience: float) -> None:
        """The same, but go on trying; return when it is connected, at the latest after so many seconds."""
        client = self._open(hosts, _UNTIL_GIVEN_UP_S)
        await self.close()
        self._client, self.hosts = client, hosts
        client.on_state(self.events.state_changed)
        self._start = asyncio.create_task(client.start())
        await asyncio.wait({self._start}, timeout=patience)

    async def close(self) -> None:
        """End the session, if there is one."""
        if self._client is not None:
            await self._client.close()
        if self._start is not None:
            start, self._start = self._start, None
            with suppress(ClientClosedError, corral.ConnectionLoss):
                await start

    async def leave(self) -> None:
        """End the session at the end of the shell, without a word."""
        if self._client is not None:
            self._client.off_state(self.events.state_changed)
        await self.close()

    # Commands

    async def execute_line(self, line: str) -> None:
        """Run a line that was typed or read, and keep it in the history; the status is in :attr:`status`."""
        if not line.strip():
            return
        self.history[self.count] = line
        self.history.pop(self.count - HISTORY_MAX, None)
        await self._execute_text(line)
        self.count += 1

    async def _execute_text(self, line: str) -> None:
        try:
            words = split(line)
        except CommandError as error:
            self.output.error(str(error))
            self.status = error.status
        else:
            await self.execute(words)

    async def redo(self, number: int) -> None:
        """Run a line of the history again. Raises CommandError if there is none such."""
        line = self.history.get(number)
        if line is None or not 0 <= number < self.count:
            raise CommandError("Command index out of range")
        if split(line)[0] == "redo":
            raise CommandError("No redoing redos")
        self.history[self.count] = line
        await self._execute_text(line)

    async def execute(self, words: Sequence[str]) -> int:
        """Run one command; returns its exit status, and keeps it."""
        name, *rest = words
        command = COMMANDS.get(name)
        if command is None:
            for line in _usage_lines():
                self.output.message(line)
            self.output.error(f"Command not found: Command not found {name}")
            self.status = NOT_FOUND
        elif command.needs_connection and self.state is State.CLOSED:
            self.output.result({"error": "Not connected"}, "Not connected")
            self.status = 1
        else:
            self.status = await self._run(command, rest)
        self.output.flush()
        return self.status

    async def _run(self, command: Command, words: Sequence[str]) -> int:
        operand = ""
        try:
            arguments = parse(words, command.options)
            operand = arguments.operand(0)
            at_least, at_most = command.operands
            if not at_least <= len(arguments.operands) <= at_most:
                raise UsageError
            self.status = 0
            await command.run(self, arguments)
        except CommandError as error:
            text = str(error) or (command.usage_text if isinstance(error, UsageError) else "")
            if text:
                self.output.error(text)
            return error.status
        except corral.ConnectionLoss as error:
            self.output.error(f"{sentence(error, operand)} ({error})")
            return 1
        except KeeperError as error:
            self.output.error(sentence(error, operand))
            return 1
        except UnicodeEncodeError as error:
            self.output.error(f"{error.object!r} is no text: it cannot be sent")
            return 1
        except (ClientClosedError, RequestTooLargeError, ReplyTooLargeError) as error:
            self.output.error(str(error))
            return 1
        return self.status

    def help_lines(self, name: str = "") -> list[str]:
        """All commands, or what one does. Raises CommandError if there is none of that name."""
        if not name:
            return _usage_lines()
        if name not in COMMANDS:
            raise CommandError(f"There is no command {name}.")
        command = COMMANDS[name]
        return [command.usage_line, *([command.summary] if command.summary else []), *command.option_lines]


def _usage_lines() -> list[str]:
    lines = [f"\t{COMMANDS[name].usage_line}" for name in sorted(COMMANDS)]
    return ["corral shell --server host:port [command]", *lines]
