"""One shell: a client, an output, and the commands that come in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corral.cli.shell.arguments import parse
from corral.cli.shell.command import CommandError, UsageError
from corral.cli.shell.registry import COMMANDS
from corral.cli.shell.sentences import sentence
from corral.client.errors import KeeperError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.cli.shell.output import Output
    from corral.client import Client

__all__ = ["NOT_FOUND", "Shell"]

NOT_FOUND = 127
"""The exit status of a command that does not exist, as in a Unix shell."""


class Shell:
    """What a command works with."""

    def __init__(self, client: Client, output: Output, *, dry_run: bool = False) -> None:
        self.client = client
        self.output = output
        self.dry_run = dry_run
        """Whether commands that delete only say what they would do."""

    @property
    def as_json(self) -> bool:
        """Whether results are printed as JSON."""
        return self.output.as_json

    async def execute(self, words: Sequence[str]) -> int:
        """Run one command; the exit status that it would give a non-interactive shell."""
        name, *rest = words
        command = COMMANDS.get(name)
        if command is None:
            self.output.message(f"Command not found: Command not found {name}")
            return NOT_FOUND
        operand = ""
        try:
            arguments = parse(rest, command.options)
            operand = arguments.operand(0)
            at_least, at_most = command.operands
            if len(arguments.operands) < at_least or (at_most is not None and len(arguments.operands) > at_most):
                raise UsageError
            await command.run(self, arguments)
        except CommandError as error:
            self.output.message(str(error) or command.usage_line)
            return error.status
        except KeeperError as error:
            self.output.message(sentence(error, operand))
            return 1
        return 0
