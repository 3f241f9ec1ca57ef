"""The words of a command line: split as zkCli splits them, options told from operands as commons-cli does."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from corral.cli.shell.command import CommandError, Option, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Arguments", "parse", "split"]

_WORD: Final = re.compile(r"""\s*([^"']\S*|"[^"]*"|'[^']*')\s*""", re.ASCII)
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,20}")
_NUMBER: Final = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?[dDfF]?", re.ASCII)


def split(line: str) -> list[str]:
    """The words of a line. Quotes count at the beginning of a word only; there is no escape.

    Raises UsageError for a quote that is not closed.
    """
    words = []
    end = 0
    for match in _WORD.finditer(line):
        if match.start() != end:
            break
        end = match.end()
        words.append(_unquoted(match[1]))
    if end != len(line):
        raise UsageError(f"a quote is not closed: {line[end:]}")
    return words


def _unquoted(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] in "\"'" and word[-1] == word[0] else word


@dataclass(slots=True)
class Arguments:
    """The words after the name of a command."""

    operands: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    """The options that were given, by :attr:`Option.name`; ``""`` for those that take no value."""

    def has(self, name: str) -> bool:
        """Whether the option was given."""
        return name in self.values

    def value(self, name: str) -> str | None:
        """The value of an option, None if it was not given."""
        return self.values.get(name)

    def integer(self, name: str, default: int, complaint: str = "", *, bits: int = 32) -> int:
        """The value of an option as a number of so many bits. Raises CommandError, by default naming the option."""
        text = self.values.get(name)
        if text is None:
            return default
        if not _INTEGER.fullmatch(text) or not -(1 << bits - 1) <= int(text) < 1 << bits - 1:
            raise CommandError(complaint or f"-{name} argument must be {'an int' if bits == 32 else 'a long'} value")
        return int(text)

    def operand(self, index: int, default: str = "") -> str:
        """An operand, or ``default`` if there are fewer."""
        return self.operands[index] if index < len(self.operands) else default


class _Parser:
    """Follows commons-cli's DefaultParser, which decides what a zkCli command line means."""

    def __init__(self, options: Iterable[Option]) -> None:
        self._options = tuple(options)
        self._short = {option.name: option for option in self._options}
        self._long = {option.long: option for option in self._options if option.long}
        self._found = Arguments()
        self._waiting: Option | None = None

    def parse(self, words: Sequence[str]) -> Arguments:
        rest: Iterator[str] = iter(words)
        for word in rest:
            if word == "--":
                self._found.operands.extend(rest)
            elif self._waiting is not None and not self._is_option(word):
                self._give(word)
            elif word.startswith("-") and word != "-":
                self._take(word)
            else:
                self._found.operands.append(word)
        self._check_waiting()
        return self._found

    def _is_option(self, word: str) -> bool:
        if not word.startswith("-") or word == "-" or _NUMBER.fullmatch(word):
            return False
        name = word.lstrip("-").partition("=")[0]
        return bool(self._matching(name)) or (
            not word.startswith("--") and (name in self._short or name[:1] in self._short)
        )

    def _matching(self, name: str) -> list[Option]:
        """The options whose long name begins so; the exact one alone if there is one."""
        if name in self._long:
            return [self._long[name]]
        return [option for long, option in self._long.items() if name and long.startswith(name)]

    def _take(self, word: str) -> None:
        name, equals, value = word.lstrip("-").partition("=")
        option = None if word.startswith("--") else self._short.get(name)
        if option is None and (len(name) > 1 or word.startswith("--")):
            matching = self._matching(name)
            if len(matching) > 1:
                names = ", ".join(f"'{each.long}'" for each in matching)
                raise UsageError(f"Ambiguous option: '{word}'  (could be: {names})")
            option = matching[0] if matching else None
        if option is None:
            if word.startswith("--") or equals or len(name) < 2:
                raise UsageError(f"Unrecognized option: {word}")
            self._take_letters(word)
            return
        if not equals:
            self._set(option)
        elif option.value is None:
            raise UsageError(f"Unrecognized option: {word}")
        else:
            self._set(option)
            self._give(value)

    def _take_letters(self, word: str) -> None:
        """Several letters after one hyphen; the rest after one that takes a value is its value."""
        for position, letter in enumerate(word[1:], 2):
            option = self._short.get(letter)
            if option is None:
                raise UsageError(f"Unrecognized option: {word}")
            self._set(option)
            if option.value is not None and position < len(word):
                self._give(word[position:])
                return

    def _set(self, option: Option) -> None:
        self._check_waiting()
        if option.value is None:
            self._found.values[option.name] = ""
        else:
            self._waiting = option

    def _give(self, value: str) -> None:
        assert self._waiting is not None
        self._found.values.setdefault(self._waiting.name, value)
        self._waiting = None

    def _check_waiting(self) -> None:
        if self._waiting is not None:
            raise UsageError(f"Missing argument for option: {self._waiting.name}")


def parse(words: Sequence[str], options: Iterable[Option]) -> Arguments:
    """Tell options from operands, in any order. Raises UsageError, naming the word that is wrong."""
    return _Parser(options).parse(words)
