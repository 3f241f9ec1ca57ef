"""One declaration per record: a class whose field types say how each field is encoded.

    @record
    class DeleteRequest(Record):
        path: Path
        version: Int

gives both directions of the codec, equality and a repr. Runs of fixed-size fields are packed by one ``struct`` call.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, NamedTuple, Self, TypeVar, cast, dataclass_transform, get_args, get_origin

from corral.jute.primitives import Reader, write_buffer, write_int, write_text


class FieldCodec(NamedTuple):
    """How one field is encoded: a ``struct`` code if its size is fixed, or a pair of functions."""

    code: str = ""
    read: Callable[[Reader], Any] | None = None
    write: Callable[[bytearray, Any], None] | None = None


Int = Annotated[int, FieldCodec(code="i")]
Long = Annotated[int, FieldCodec(code="q")]
Bool = Annotated[bool, FieldCodec(code="?")]
Buffer = Annotated[bytes | None, FieldCodec(read=Reader.read_buffer, write=write_buffer)]
Text = Annotated[str | None, FieldCodec(read=Reader.read_text, write=write_text)]
Path = Annotated[bytes | None, FieldCodec(read=Reader.read_buffer, write=write_buffer)]
"""A ustring kept as its UTF-8 bytes: paths are looked up by their raw bytes."""

_T = TypeVar("_T")


class _FixedRun(NamedTuple):
    names: tuple[str, ...]
    layout: struct.Struct


class _Variable(NamedTuple):
    name: str
    read: Callable[[Reader], Any]
    write: Callable[[bytearray, Any], None]


class Record:
    """Base of all records. Subclasses are made with :func:`record`, which adds the slots.

    Compared by type and values. The constructor takes the fields in order or by name, all of them.
    """

    __slots__: ClassVar[tuple[str, ...]] = ()
    _layout: ClassVar[tuple[_FixedRun | _Variable, ...]] = ()

    # Written out by hand rather than generated: sixty generated classes would be half of a server's start-up time.
    def __init__(self, *values: Any, **named: Any) -> None:
        slots = self.__slots__
        if named:
            values += tuple(named.pop(name) for name in slots[len(values) :] if name in named)
        if named or len(values) != len(slots):
            raise TypeError(f"{type(self).__name__} takes {', '.join(slots)}")
        for name, value in zip(slots, values, strict=True):
            setattr(self, name, value)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({shown})"

    __hash__ = None  # type: ignore[assignment]

    def items(self) -> list[tuple[str, Any]]:
        """Name and value of each field, in order."""
        return [(name, getattr(self, name)) for name in self.__slots__]

    def encode(self, out: bytearray) -> None:
        """Append this record's bytes."""
        for part in self._layout:
            if isinstance(part, _FixedRun):
                out += part.layout.pack(*[getattr(self, name) for name in part.names])
            else:
                part.write(out, getattr(self, part.name))

    def to_bytes(self) -> bytes:
        out = bytearray()
        self.encode(out)
        return bytes(out)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one record. Raises :class:`~corral.jute.primitives.JuteError` when the bytes are not one."""
        values: list[Any] = []
        for part in cls._layout:
            if isinstance(part, _FixedRun):
                values.extend(reader.read_struct(part.layout))
            else:
                values.append(part.read(reader))
        return cls(*values)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The record at the start of ``data``; bytes behind it are ignored, as Java peers do."""
        return cls.decode(Reader(data))


def _vector_codec(element: FieldCodec) -> FieldCodec:
    read_element, write_element = element.read, element.write
    assert read_element is not None
    assert write_element is not None

    def read(reader: Reader) -> list[Any] | None:
        count = reader.read_int()
        if count < 0:
            return None if count == -1 else []
        return [read_element(reader) for _ in range(count)]

    def write(out: bytearray, value: list[Any] | None) -> None:
        if value is None:
            write_int(out, -1)
            return
        write_int(out, len(value))
        for item in value:
            write_element(out, item)

    return FieldCodec(read=read, write=write)


def _codec_of(hint: Any) -> FieldCodec:
    if get_origin(hint) is Annotated:
        codec = get_args(hint)[1]
        assert isinstance(codec, FieldCodec)
        return codec
    if isinstance(hint, type) and issubclass(hint, Record):
        return FieldCodec(read=hint.decode, write=lambda out, value: value.encode(out))
    for option in get_args(hint):
        if get_origin(option) is list:
            return _vector_codec(_codec_of(get_args(option)[0]))
    raise TypeError(f"no jute encoding for {hint!r}")


@dataclass_transform(eq_default=True)
def record(cls: type[_T]) -> type[_T]:
    """Turn a class body of annotated fields into a record with its codec.

    A vector field is annotated ``list[Element] | None`` (null is a value of its own on the wire). The annotations
    must be real objects, not strings: leave out ``from __future__ import annotations``.
    """
    fields = cls.__annotations__
    layout: list[_FixedRun | _Variable] = []
    names: list[str] = []
    codes = ""

    def close_run() -> None:
        nonlocal codes
        if names:
            layout.append(_FixedRun(tuple(names), struct.Struct(">" + codes)))
            names.clear()
            codes = ""

    for name, hint in fields.items():
        codec = _codec_of(hint)
        if codec.code:
            names.append(name)
            codes += codec.code
            continue
        close_run()
        assert codec.read is not None
        assert codec.write is not None
        layout.append(_Variable(name, codec.read, codec.write))
    close_run()
    body = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    body["__slots__"] = tuple(fields)
    body["_layout"] = tuple(layout)
    return cast("type[_T]", type(cls.__name__, cls.__bases__, body))
