"""What a command of the shell is, and how it is declared.

A command is a value::

    async def run_tree(shell: Shell, arguments: Arguments) -> None:
        path = arguments.operand(0, "/")
        ...
        shell.output.result({"path": path, "znodes": 3}, f"{path}: 3 znodes")

    TREE = Command(
        "tree",
        "[-d depth] path",
        run_tree,
        "Draw a subtree.",
        options=(Option("d", "levels below the path", value="depth", long="depth"),),
        operands=(1, 1),
    )

The shell parses the words by the options, checks the number of operands, and calls ``run``. ``run`` says what it found
by ``shell.output``, and ends with an exception if it cannot do what it is asked: :class:`UsageError` for words that
make no sense (exit status 1, and the usage unless there is a message), :class:`CommandError` for whatever else it wants
to say, or any KeeperError, of which the shell makes zkCli's sentence about the first operand; ``with about(path):``
names another path. Nothing else is needed: history, completion and help come from the declaration. The commands of a
module become the shell's by a line in :mod:`corral.cli.shell.registry`.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from corral.cli.shell.sentences import sentence
from corral.client.errors import KeeperError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from corral.cli.shell.arguments import Arguments
    from corral.cli.shell.shell import Shell

__all__ = ["DRY_RUN", "Command", "CommandError", "Option", "UsageError", "about"]


class CommandError(Exception):
    """A command could not do what it was asked; the text goes to standard error.

    ``status`` is what a shell that runs one command exits with.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class UsageError(CommandError):
    """The words make no sense as this command; without a message, its usage is shown."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Option:
    """One option: ``-s``, or with a ``long`` name also ``--stat``."""

    name: str
    """Without the hyphen; mostly one letter. ``Arguments`` know the option by it."""
    description: str
    value: str | None = None
    """What the value is called in the help; None for an option that takes none."""
    long: str | None = None
    """Without the hyphens."""
    is_zkclis: bool = True
    """Whether zkCli has it, too: the usage of its commands is what zkCli says, and only ``help`` tells of more."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command; its module's docstring shows how to declare it."""

    name: str
    usage: str
    """What follows the name in the usage line."""
    run: Callable[[Shell, Arguments], Awaitable[None]]
    summary: str = ""
    """One sentence, for the help of commands beyond zkCli."""
    options: tuple[Option, ...] = ()
    operands: tuple[int, int] = (0, 0)
    """How many words there may be besides the options: at least, at most."""
    needs_connection: bool = True
    """Whether it is refused with ``Not connected`` after ``close``."""
    explains_options: bool = False
    """Whether its usage has a line for each option."""

    @property
    def usage_line(self) -> str:
        """Name and usage, as the list of all commands shows them."""
        return f"{self.name} {self.usage}"

    @property
    def usage_text(self) -> str:
        """What a UsageError shows."""
        explained = [option for option in self.options if option.is_zkclis] if self.explains_options else []
        return "\n".join([self.usage_line, *_lines(explained)])

    @property
    def option_lines(self) -> list[str]:
        """A line for each option, by name."""
        return _lines(self.options)


def _lines(options: Iterable[Option]) -> list[str]:
    heads = {option: _head(option) for option in sorted(options, key=lambda option: option.name.lower())}
    width = max(map(len, heads.values()), default=0)
    return [f" {head:<{width}}   {option.description}" for option, head in heads.items()]


def _head(option: Option) -> str:
    names = f"-{option.name},--{option.long}" if option.long else f"-{option.name}"
    return names if option.value is None else f"{names} <{option.value}>"


DRY_RUN: Final = Option("dry-run", "only say what would be deleted", long="dry-run")
"""For commands that delete; :meth:`Shell.is_dry` asks for it."""


@contextmanager
def about(path: str) -> Iterator[None]:
    """Report any KeeperError inside as one about ``path``."""
    try:
        yield
    except KeeperError as error:
        raise CommandError(sentence(error, path)) from error
