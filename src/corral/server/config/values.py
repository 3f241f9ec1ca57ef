"""What the value of a setting may be: how its text is read and which values are admitted.

Numbers of ``zoo.cfg``'s own keys are decimal (Java's ``Integer.parseInt``); numbers of system properties are
read as Java's ``Integer.getInteger`` reads them: decimal, ``0x`` or ``#`` for hexadecimal, a leading ``0`` for
octal. Java silently falls back to the default when it cannot read a number or a switch; here that is an error.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

__all__ = [
    "LONG_MAX",
    "Algorithm",
    "Directory",
    "Fraction",
    "Interval",
    "Names",
    "OneOf",
    "Switch",
    "Text",
    "Value",
    "Whole",
]

T = TypeVar("T")

INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1


class Value(ABC, Generic[T]):
    """One kind of value."""

    __slots__ = ()

    @property
    @abstractmethod
    def accepts(self) -> str:
        """What is accepted, as the end of the sentence "accepted is ..."."""

    @abstractmethod
    def parse(self, text: str) -> T:
        """The value written as ``text``. Raises ValueError if it cannot be read."""

    def admit(self, value: T) -> T:
        """The value to use for ``value``, mostly itself. Raises ValueError if it is out of range."""
        return value


@dataclass(slots=True)
class Whole(Value[int]):
    """A whole number between two bounds. With ``below``, a number under ``minimum`` is taken as that one."""

    minimum: int
    maximum: int = INT_MAX
    below: int | None = None
    decimal_only: bool = False

    @property
    def accepts(self) -> str:
        if self.below is not None or self.minimum == -LONG_MAX:
            return "a whole number"
        if self.maximum in (INT_MAX, LONG_MAX):
            return f"a whole number, {self.minimum} or more"
        if self.minimum == self.maximum:
            return str(self.minimum)
        return f"a whole number from {self.minimum} to {self.maximum}"

    def parse(self, text: str) -> int:
        if self.decimal_only:
            matched = re.fullmatch(r"[+-]?[0-9]+", text)
            if matched is None:
                raise ValueError("not a decimal number")
            return int(text)
        matched = re.fullmatch(r"([+-]?)(?:(?:0[xX]|#)([0-9a-fA-F]+)|(0[0-7]+)|(0|[1-9][0-9]*))", text)
        if matched is None:
            raise ValueError("not a number")
        sign, hexadecimal, octal, decimal = matched.groups()
        size = int(hexadecimal, 16) if hexadecimal else int(octal, 8) if octal else int(decimal)
        return -size if sign == "-" else size

    def admit(self, value: int) -> int:
        if value < self.minimum and self.below is not None:
            return self.below
        if not self.minimum <= value <= self.maximum:
            raise ValueError("out of range")
        return value


@dataclass(slots=True)
class Fraction(Value[float]):
    """A decimal fraction between two bounds."""

    minimum: float
    maximum: float

    @property
    def accepts(self) -> str:
        return f"a number from {self.minimum:g} to {self.maximum:g}"

    def parse(self, text: str) -> float:
        return float(text)

    def admit(self, value: float) -> float:
        if not self.minimum <= value <= self.maximum:
            raise ValueError("out of range")
        return value


@dataclass(slots=True)
class Switch(Value[bool]):
    """One of two words: Apache spells some switches ``true``/``false`` and others ``yes``/``no``."""

    on: str = "true"
    off: str = "false"

    @property
    def accepts(self) -> str:
        return f"{self.on} or {self.off}"

    def parse(self, text: str) -> bool:
        word = text.lower()
        if word not in (self.on, self.off):
            raise ValueError("neither of the two words")
        return word == self.on


@dataclass(slots=True)
class OneOf(Value[str | None]):
    """One of a few words, whatever their case, or None, which is written as nothing."""

    words: tuple[str, ...]

    @property
    def accepts(self) -> str:
        return f"one of {', '.join(self.words)}, or nothing"

    def parse(self, text: str) -> str | None:
        return text.lower() or None

    def admit(self, value: str | None) -> str | None:
        if value is not None and value not in self.words:
            raise ValueError("not one of the words")
        return value


@dataclass(slots=True)
class Text(Value[str | None]):
    """Any text that is not empty. It has no default: None stands for a setting that is not set."""

    what: str

    @property
    def accepts(self) -> str:
        return self.what

    def parse(self, text: str) -> str | None:
        return text

    def admit(self, value: str | None) -> str | None:
        if value == "":
            raise ValueError("empty")
        return value


@dataclass(slots=True)
class Names(Value[frozenset[str]]):
    """Names with commas between them; blanks around a name do not count."""

    @property
    def accepts(self) -> str:
        return "names with commas between them"

    def parse(self, text: str) -> frozenset[str]:
        return frozenset(name.strip() for name in text.split(",") if name.strip())


@dataclass(slots=True)
class Directory(Value[Path]):
    """The path of a directory."""

    @property
    def accepts(self) -> str:
        return "the path of a directory"

    def parse(self, text: str) -> Path:
        if not text or "\0" in text:
            raise ValueError("not a path")
        return Path(text)


@dataclass(slots=True)
class Interval(Value[int]):
    """A time in milliseconds, written as a number of hours or with a suffix: ``ms``, ``s``, ``m``, ``h``, ``d``."""

    @property
    def accepts(self) -> str:
        return "a number of hours, or a number followed by ms, s, m, h or d"

    def parse(self, text: str) -> int:
        matched = re.fullmatch(r"([+-]?[0-9]+)(ms|s|m|h|d)?", text, re.IGNORECASE)
        if matched is None:
            raise ValueError("not a time")
        number, suffix = matched.groups()
        return int(number) * MILLISECONDS[(suffix or "h").lower()]


MILLISECONDS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(slots=True)
class Algorithm(Value[str]):
    """A digest algorithm, written in Java's spelling (``SHA-256``) and kept in hashlib's (``sha256``)."""

    @property
    def accepts(self) -> str:
        return "the name of a digest algorithm, as SHA1, SHA-256, SHA-512 or SHA3-256"

    def parse(self, text: str) -> str:
        name = text.lower().replace("/", "_")
        if name.startswith("sha-"):
            name = "sha" + name.removeprefix("sha-")
        return name.replace("-", "_")

    def admit(self, value: str) -> str:
        # The variable-length ones have no digest of their own size.
        if value not in hashlib.algorithms_available or hashlib.new(value).digest_size == 0:
            raise ValueError("no such algorithm")
        return value
