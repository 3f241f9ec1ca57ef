"""All commands of the shell, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corral.cli.shell import ensemble, quotas, reading, session, top, watching, writing
from corral.cli.shell.subtree import changing, looking

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corral.cli.shell.command import Command

__all__ = ["COMMANDS"]

_ALL: Final[tuple[Command, ...]] = (
    *reading.COMMANDS,
    *writing.COMMANDS,
    *quotas.COMMANDS,
    *watching.COMMANDS,
    *ensemble.COMMANDS,
    *session.COMMANDS,
    *looking.COMMANDS,
    *changing.COMMANDS,
    *top.COMMANDS,
)

COMMANDS: Final[Mapping[str, Command]] = {command.name: command for command in _ALL}
"""A module that has commands gives them as a tuple of its own, which is added to the one above."""
