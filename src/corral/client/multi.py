"""The encoding of requests that consist of several operations: transactions, and reads of many znodes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from corral.client.errors import RuntimeInconsistencyError
from corral.client.results import STAT_BYTES, Created, decode_stat, decode_znode
from corral.jute.errors import error_of
from corral.jute.ops import OpCode
from corral.jute.primitives import JuteError, Reader, decode_text
from corral.jute.records import MultiHeader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HEADER: Final = struct.Struct(">i?i")
_END: Final = _HEADER.pack(-1, True, -1)
_OTHERS: Final = (0, -2)
"""What the results of a failed transaction's other operations carry: before the one that failed, and after it."""


def add_operation(out: bytearray, code: int, body: bytes) -> None:
    """Append one operation to a request's body."""
    out += _HEADER.pack(code, False, -1)
    out += body


def finish(out: bytearray) -> bytes:
    """The whole body."""
    return bytes(out) + _END


def decode_results(frame: bytes, start: int, end: int, paths: Sequence[str], shown: Callable[[str], str]) -> list[Any]:
    """Each operation's result: a value, None, or an exception. ``shown`` turns the service's paths into the program's.

    Raises JuteError when the bytes are not the results of as many operations as there are ``paths``.
    """
    reader = Reader(frame, start, end)
    results: list[Any] = []
    for path in paths:
        header = MultiHeader.decode(reader)
        if header.done:
            raise JuteError(f"{len(results)} results for {len(paths)} operations")
        results.append(_decode_result(reader, header, path, shown))
    if not MultiHeader.decode(reader).done:
        raise JuteError(f"more than {len(paths)} results")
    return results


def _decode_result(reader: Reader, header: MultiHeader, path: str, shown: Callable[[str], str]) -> Any:
    at, end = reader.position, reader.end
    match header.type:
        case OpCode.ERROR:
            reader.read_int()
            if header.err in _OTHERS:
                return RuntimeInconsistencyError(f"{path}: not done, for another operation failed")
            return error_of(header.err, path)
        case OpCode.CREATE:
            return shown(decode_text(reader.read_buffer() or b""))
        case OpCode.CREATE2:
            created = decode_text(reader.read_buffer() or b"")
            stat = decode_stat(reader.data, reader.position, end)
            reader.position += STAT_BYTES
            return Created(shown(created), stat)
        case OpCode.SET_DATA:
            reader.position += STAT_BYTES
            return decode_stat(reader.data, at, end)
        case OpCode.DELETE | OpCode.CHECK:
            return None
        case OpCode.GET_DATA:
            znode = decode_znode(reader.data, at, end)
            reader.read_buffer()
            reader.position += STAT_BYTES
            return znode
        case _:
            raise JuteError(f"a result of the unknown type {header.type}")
