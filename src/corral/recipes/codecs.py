"""Typed objects as the data of a znode."""

from __future__ import annotations

import dataclasses
import json
import types
from enum import Enum
from functools import cache
from typing import Any, Generic, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

_T = TypeVar("_T")


class Codec(Protocol[_T]):
    """Turns objects into data and back."""

    def encode(self, value: _T, /) -> bytes:
        """Raises ValueError or TypeError for what cannot be written."""

    def decode(self, data: bytes, /) -> _T:
        """Raises ValueError for what is no such object."""


class JsonCodec:
    """Whatever JSON can say: dict, list, str, int, float, bool, None."""

    def encode(self, value: Any, /) -> bytes:
        """Raises TypeError, ValueError (NaN, cycles)."""
        return json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1).encode()

    def decode(self, data: bytes, /) -> Any:
        """Raises ValueError for what is no JSON in UTF-8."""
        return json.loads(data.decode())


class DataclassCodec(Generic[_T]):
    """A dataclass as a JSON object, its fields checked by their annotations.

    Fields may be bool, int, float, str, None, Any, an Enum (by value), Literal, Optional or a union, list, tuple, set,
    frozenset, dict with keys of str, and dataclasses. Fields that are missing take their defaults; keys that are no
    fields are refused, for they are mostly misspelt.

    Raises TypeError if a field's type is none of these.
    """

    def __init__(self, kind: type[_T]) -> None:
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise TypeError(f"{kind!r} is no dataclass")
        self.kind: type[_T] = kind
        _check_kind(kind, kind.__name__, set())

    def __repr__(self) -> str:
        return f"DataclassCodec({self.kind.__name__})"

    def encode(self, value: _T, /) -> bytes:
        """Raises TypeError if it is another class, ValueError if a field has not the type that it declares."""
        if type(value) is not self.kind:
            raise TypeError(f"{value!r} is no {self.kind.__name__}")
        data = json.dumps(_plain(value), allow_nan=False, ensure_ascii=False, indent=1).encode()
        # What is written can be read: a wrong type is noticed here rather than by everybody else.
        self.decode(data)
        return data

    def decode(self, data: bytes, /) -> _T:
        """Raises ValueError, which names the field."""
        value: _T = _build(self.kind, json.loads(data.decode()), "")
        return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    try:
        return get_type_hints(kind)
    except NameError as error:
        # Of a class in a function: its annotations are looked up in the module.
        raise TypeError(f"{kind.__name__}: its annotations cannot be resolved: {error}") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(each) for each in value)
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value


_SIMPLE = (bool, int, float, str, type(None))


def _check_kind(kind: Any, where: str, seen: set[Any]) -> None:
    """Refuse types that JSON cannot hold, before any data is met."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _SIMPLE or kind is Any or origin is Literal or kind in seen:
        return
    if isinstance(kind, type) and issubclass(kind, Enum):
        return
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        seen.add(kind)
        for name, hint in _hints(kind).items():
            _check_kind(hint, f"{where}.{name}", seen)
    elif origin in (list, tuple, set, frozenset, Union, types.UnionType) and arguments:
        for argument in arguments:
            if argument is not Ellipsis:
                _check_kind(argument, where, seen)
    elif origin is dict and arguments[0] is str:
        _check_kind(arguments[1], where, seen)
    else:
        raise TypeError(f"{where}: a field of type {kind!r} cannot be kept as JSON")


def _build(kind: Any, value: Any, where: str) -> Any:
    """The object of type ``kind`` that ``value``, read from JSON, stands for."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if kind in _SIMPLE:
        if type(value) is not kind:
            raise _refused(kind, value, where)
        return value
    if origin is Literal:
        if not any(value == each and type(value) is type(each) for each in arguments):
            raise _refused(kind, value, where)
        return value
    if origin in (Union, types.UnionType):
        return _build_union(arguments, kind, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise _refused(kind, value, where)
        return {key: _build(arguments[1], each, f"{where}[{key!r}]") for key, each in value.items()}
    if origin in (list, set, frozenset, tuple):
        return _build_sequence(kind, origin, arguments, value, where)
    if issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            raise _refused(kind, value, where) from None
    return _build_dataclass(kind, value, where)


def _build_union(arguments: tuple[Any, ...], kind: Any, value: Any, where: str) -> Any:
    errors = []
    for argument in arguments:
        try:
            return _build(argument, value, where)
        except ValueError as error:
            errors.append(error)
    if len(arguments) == 2 and type(None) in arguments and value is not None:
        # Optional: what the other type says is the clearer message.
        raise errors[arguments.index(type(None)) - 1]
    raise _refused(kind, value, where)


def _build_sequence(kind: Any, origin: Any, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, list):
        raise _refused(kind, value, where)
    if origin is tuple and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise ValueError(f"{_shown(where)} has {len(value)} items, not {len(arguments)}")
        return tuple(
            _build(each, item, f"{where}[{i}]") for i, (each, item) in enumerate(zip(arguments, value, strict=True))
        )
    return origin(_build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _refused(kind, value, where)
    hints = _hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    unknown = sorted(value.keys() - fields.keys())
    if unknown:
        raise ValueError(f"{_shown(where)} has no field {unknown[0]!r}; the fields are {', '.join(fields)}")
    prefix = f"{where}." if where else ""
    arguments = {name: _build(hints[name], each, prefix + name) for name, each in value.items()}
    for name, field in fields.items():
        if name not in value and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{prefix}{name} is missing")
    try:
        return kind(**arguments)
    except (TypeError, AttributeError) as error:
        # A __post_init__ may check in its own way.
        raise ValueError(f"{_shown(where)}: {error}") from error


def _refused(kind: Any, value: Any, where: str) -> ValueError:
    name = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
    return ValueError(f"{_shown(where)} is {value!r}, not of type {name}")


def _shown(where: str) -> str:
    return where or "the value"
