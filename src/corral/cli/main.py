"""The ``corral`` command.

Each subcommand is imported when it is used: a server that starts need not wait for the tools, nor they for it.
"""

import importlib
from typing import Final

import click

from corral import __version__

__all__ = ["corral", "main"]

COMMANDS: Final = {
    "ensemble": "corral.cli.ensemble",
    "initialize": "corral.cli.initialize",
    "log": "corral.cli.log",
    "purge": "corral.cli.purge",
    "restart": "corral.cli.control",
    "server": "corral.cli.server",
    "shell": "corral.cli.shell.entry",
    "simulate": "corral.cli.simulate",
    "snapshot": "corral.cli.snapshot",
    "start": "corral.cli.control",
    "status": "corral.cli.control",
    "stop": "corral.cli.control",
}
"""The subcommands, and the modules that have them under the same name."""


class Subcommands(click.Group):
    """A group that imports its commands one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, if there is one."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Subcommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="corral")
def corral() -> None:
    """A coordination service that speaks Apache ZooKeeper's protocol and disk formats."""


def main() -> None:
    """Run the command with the arguments of this process, and exit."""
    corral(prog_name="corral")
