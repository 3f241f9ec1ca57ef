"""What may follow on a line: commands, options, and paths, for which the server is asked."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from prompt_toolkit.completion import Completer, Completion

from corral.cli.shell.registry import COMMANDS
from corral.client import ClientClosedError, KeeperError
from corral.client.errors import ReplyTooLargeError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from corral.cli.shell.command import Command
    from corral.cli.shell.shell import Shell

__all__ = ["ShellCompleter"]

_PATIENCE_S: Final = 2.0
"""A server that does not answer must not hold the line up."""
_CURRENT: Final = re.compile(r"""(?:^|\s)(?:(?P<quote>["'])(?P<quoted>[^"']*)|(?P<plain>\S*))$""")
_SPECIAL: Final = re.compile(r"""[\s"']""")
_WORDS: Final = {"printwatches": ("on", "off"), "help": tuple(sorted(COMMANDS))}


class ShellCompleter(Completer):
    """Completes the word before the cursor."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """None: a server can be asked by :meth:`get_completions_async` only."""
        return ()

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        """Whatever begins like the word before the cursor."""
        before = document.text_before_cursor
        current = _CURRENT.search(before)
        if current is None:
            return
        quote = current["quote"] or ""
        word = current["quoted"] if quote else current["plain"]
        name = before.split(maxsplit=1)[0] if before.strip() else ""
        if not before[: current.start()].strip() and not quote:
            found = [each for each in sorted(COMMANDS) if each.startswith(word)]
        elif word.startswith("/"):
            found = await self._paths(word)
        elif word.startswith("-"):
            found = [each for each in _options(COMMANDS.get(name)) if each.startswith(word)]
        else:
            found = [each for each in _WORDS.get(name, ()) if each.startswith(word)]
        for each in found:
            text = each if quote else _quoted(each)
            yield Completion(text, start_position=-len(word), display=each)

    async def _paths(self, word: str) -> list[str]:
        parent, _, begun = word.rpartition("/")
        if "//" in word or not self._shell.state.is_connected:
            return []
        try:
            async with asyncio.timeout(_PATIENCE_S):
                names = await self._shell.client.get_children(parent or "/")
        except (KeeperError, ClientClosedError, ReplyTooLargeError, TimeoutError):
            return []
        return [f"{parent}/{name}" for name in sorted(names) if name.startswith(begun)]


def _options(command: Command | None) -> list[str]:
    if command is None:
        return []
    options = sorted(command.options, key=lambda option: option.name.lower())
    return [f"-{option.name}" if option.long is None else f"--{option.long}" for option in options]


def _quoted(text: str) -> str:
    """With an opening quote if it needs one; the closing one is left to whoever goes on typing."""
    if not _SPECIAL.search(text):
        return text
    return f"'{text}" if '"' in text else f'"{text}'
