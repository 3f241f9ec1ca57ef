"""The ``corral`` command."""

import click

from corral import __version__
from corral.cli.control import restart, start, status, stop
from corral.cli.server import server

__all__ = ["corral", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="corral")
def corral() -> None:
    """A coordination service that speaks Apache ZooKeeper's protocol and disk formats."""


for command in (server, start, stop, restart, status):
    corral.add_command(command)


def main() -> None:
    """Run the command with the arguments of this process, and exit."""
    corral(prog_name="corral")
