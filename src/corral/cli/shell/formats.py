"""How zkCli writes what it has found, and the objects that ``--json`` has instead."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any, Final

from corral.client import NULL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corral.client import Acl, Stat

__all__ = ["acl_lines", "bracketed", "data_object", "hex_dump", "raw_bytes", "shown_data", "stat_lines", "stat_object"]

_MASK_64: Final = (1 << 64) - 1
_ROW: Final = 16
_RULE: Final = f"+--------+{'-' * 49}+----------------+"
_CSV: Final = str.maketrans({"\0": "%00", "\n": "%0A", "\r": "%0D", ",": "%2C", "}": "%7D", "%": "%25"})


def stat_lines(stat: Stat) -> list[str]:
    """The eleven lines of a znode's metadata."""
    return [
        f"cZxid = {_hexadecimal(stat.czxid)}",
        f"ctime = {_java_date(stat.ctime)}",
        f"mZxid = {_hexadecimal(stat.mzxid)}",
        f"mtime = {_java_date(stat.mtime)}",
        f"pZxid = {_hexadecimal(stat.pzxid)}",
        f"cversion = {stat.cversion}",
        f"dataVersion = {stat.version}",
        f"aclVersion = {stat.aversion}",
        f"ephemeralOwner = {_hexadecimal(stat.ephemeral_owner)}",
        f"dataLength = {stat.data_length}",
        f"numChildren = {stat.num_children}",
    ]


def stat_object(stat: Stat) -> dict[str, Any]:
    """The metadata as numbers, times in ms since the epoch, and the kind of the znode in a word."""
    return {**stat._asdict(), "kind": stat.kind.name.lower()}


def shown_data(data: bytes) -> str:
    """Data as text; what is no UTF-8 is replaced."""
    return "null" if data is NULL else data.decode("utf-8", "replace")


def raw_bytes(text: str) -> bytes:
    """Data as it was typed: bytes that were no text come back as they were."""
    return text.encode("utf-8", "surrogateescape")


def data_object(data: bytes) -> dict[str, Any]:
    """``data`` as text where it is UTF-8 (null where there is none at all), else ``data_base64``."""
    if data is NULL:
        return {"data": None}
    try:
        return {"data": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"data_base64": base64.b64encode(data).decode("ascii")}


def hex_dump(data: bytes) -> list[str]:
    """Data as a table of bytes and characters; nothing for no data."""
    if not data:
        return []
    rows = [data[start : start + _ROW] for start in range(0, len(data), _ROW)]
    return [
        f"         +{'-' * 49}+",
        f"         |{''.join(f'  {column:x}' for column in range(_ROW))} |",
        _RULE,
        *(
            f"|{number * _ROW:08x}| {row.hex(' '):<{3 * _ROW - 1}} |{_printable(row):<{_ROW}}|"
            for number, row in enumerate(rows)
        ),
        _RULE,
    ]


def acl_lines(acl: Iterable[Acl]) -> list[str]:
    """Two lines for each entry."""
    return [
        line
        for entry in acl
        for line in (f"'{entry.scheme.translate(_CSV)},'{entry.id.translate(_CSV)}", f": {entry.permissions}")
    ]


def bracketed(items: Iterable[str]) -> str:
    """A list in one line."""
    return f"[{', '.join(items)}]"


def _printable(row: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)


def _hexadecimal(number: int) -> str:
    return f"0x{number & _MASK_64:x}"


def _java_date(time_ms: int) -> str:
    """As java.util.Date prints it, in local time."""
    return time.strftime("%a %b %d %H:%M:%S %Z %Y", time.localtime(time_ms // 1000))
