"""Where settings are written: a properties file, the options of a JVM, the command line.

Each reader yields :class:`Entry` values, which keep the place for messages.
"""

import enum
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from corral.properties import InvalidEscapeError, parse
from corral.server.config.errors import ConfigError

__all__ = ["FLAG_VARIABLES", "PREFIX", "Entry", "Layer", "entries_of_file", "entries_of_flags", "wrong_value"]

PREFIX: Final = "zookeeper."
"""What Apache's server puts in front of a key of zoo.cfg to make it a system property."""

FLAG_VARIABLES: Final = ("SERVER_JVMFLAGS", "JVMFLAGS")
"""The variables in which zkServer.sh takes options for the JVM; of two like options the later one holds."""


class Layer(enum.IntEnum):
    """The kinds of places, the stronger ones later."""

    DEFAULT = 0
    FLAG = 1
    """An option of the JVM, from the environment."""
    FILE = 2
    ARGUMENT = 3
    """An option or argument of the command."""


class Entry(NamedTuple):
    """One setting as it is written at one place."""

    name: str
    """The name as written."""
    text: str
    place: str
    """Where that is, as in "zoo.cfg, line 3"."""
    layer: Layer

    @property
    def key(self) -> str:
        """The name as ``zoo.cfg`` has it."""
        return self.name.removeprefix(PREFIX)


def wrong_value(entry: Entry, accepts: str) -> ConfigError:
    """The error for an entry whose text is not of the right kind."""
    return ConfigError(f"{entry.place}: {entry.key}={entry.text} is refused; accepted is {accepts}", entry.key)


def entries_of_file(path: Path) -> Iterator[Entry]:
    """The entries of a properties file, with Java's rules: ISO 8859-1, escapes, lines that go on after a backslash.

    Raises:
        ConfigError: the file cannot be read, or has a malformed escape.
    """
    try:
        content = path.read_bytes().decode("iso-8859-1")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    line = 1
    try:
        for each in parse(content):
            if (setting := each.setting()) is not None:
                key, value = setting
                yield Entry(key.strip(), value.strip(), f"{path}, line {line}", Layer.FILE)
            line += count_lines(each.source)
    except InvalidEscapeError as error:
        raise ConfigError(f"{path}, line {line}: {error}") from error


def count_lines(source: str) -> int:
    """How many line ends (any of the three kinds) a piece of a file has."""
    return source.replace("\r\n", "\n").replace("\r", "\n").count("\n")


def entries_of_flags(environment: Mapping[str, str]) -> Iterator[Entry]:
    """The options in the variables of the JVM: ``-DNAME=VALUE`` as NAME and VALUE, others with the name as it is.

    The words are split as zkServer.sh does it: at blanks, quotes mean nothing.
    """
    for variable in FLAG_VARIABLES:
        for word in environment.get(variable, "").split():
            if word.startswith("-D"):
                name, _, text = word.removeprefix("-D").partition("=")
                yield Entry(name, text, variable, Layer.FLAG)
            else:
                yield Entry(word, "", variable, Layer.FLAG)
