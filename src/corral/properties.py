"""Files of Java properties, in which ``zoo.cfg`` is written (source: the documentation of java.util.Properties.load).

Lines end with LF, CR or both. Blanks before a line's content mean nothing; ``#`` or ``!`` first makes it a comment. A
line that ends with a backslash (an odd number of them) goes on in the next one. A key ends at the first ``=``, ``:`` or
blank that has no backslash before it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["InvalidEscapeError", "LogicalLine", "parse", "settings"]

_BLANKS: Final = " \t\f"
_LINE: Final = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_ESCAPE: Final = re.compile(r"\\(u.{0,4}|.)")
_UNIT: Final = re.compile(r"u[0-9A-Fa-f]{4}")
_SURROGATES: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_ESCAPED: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


class InvalidEscapeError(ValueError):
    """``\\u`` without four hexadecimal digits; ``escape`` is what stands there."""

    def __init__(self, escape: str) -> None:
        super().__init__(f"{escape} is not an escape of a character")
        self.escape = escape


class LogicalLine(NamedTuple):
    """A line with those that it goes on in."""

    source: str
    """As it stands in the file, its line ends included."""
    content: str
    """Without leading blanks, line ends and what makes it go on; empty for comments and empty lines."""

    def setting(self) -> tuple[str, str] | None:
        """Key and value; None of a line that is no setting. Raises InvalidEscapeError."""
        content = self.content
        if not content:
            return None
        at = 0
        while at < len(content) and content[at] not in "=: \t\f":
            at += 2 if content[at] == "\\" else 1
        value = content[at:].lstrip(_BLANKS)
        if value.startswith(("=", ":")):
            value = value[1:].lstrip(_BLANKS)
        return _unescaped(content[:at]), _unescaped(value)


def parse(text: str) -> Iterator[LogicalLine]:
    """All lines of a file, in order: their sources joined are the file."""
    lines = iter(_LINE.findall(text))
    for source in lines:
        content = _stripped(source)
        if content.startswith(("#", "!")):
            content = ""
        while _goes_on(content):
            following = next(lines, "")
            source += following
            content = content[:-1] + _stripped(following)
        yield LogicalLine(source, content)


def settings(text: str) -> dict[str, str]:
    """The settings of a file; of those with the same key the last one. Raises InvalidEscapeError."""
    return dict(setting for line in parse(text) if (setting := line.setting()) is not None)


def _stripped(line: str) -> str:
    return line.lstrip(_BLANKS).rstrip("\r\n")


def _goes_on(content: str) -> bool:
    return content.endswith("\\") and (len(content) - len(content.rstrip("\\"))) % 2 == 1


def _unescaped(text: str) -> str:
    if "\\" in text:
        text = _ESCAPE.sub(_character, text)
    return _SURROGATES.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)


def _character(escape: re.Match[str]) -> str:
    name = escape[1]
    if not name.startswith("u"):
        return _ESCAPED.get(name, name)
    if not _UNIT.fullmatch(name):
        raise InvalidEscapeError(escape[0])
    return chr(int(name[1:], 16))
