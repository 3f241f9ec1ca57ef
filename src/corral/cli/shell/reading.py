"""Commands that read: ``ls``, ``get``, ``stat``, ``getAcl`` and the counts."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

from corral.cli.shell.arguments import Arguments
from corral.cli.shell.command import Command, CommandError, Option
from corral.cli.shell.formats import (
    acl_lines,
    bracketed,
    data_object,
    hex_dump,
    shown_data,
    stat_lines,
    stat_object,
)
from corral.cli.shell.paths import check_path
from corral.cli.shell.walking import walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.cli.shell.shell import Shell
    from corral.client import Stat, WatchEvent

__all__ = ["COMMANDS"]


def _operand(arguments: Arguments) -> str:
    return check_path(arguments.operand(0))


def _watch(shell: Shell, arguments: Arguments, better: str) -> Callable[[WatchEvent], object] | None:
    """What ``-w`` asks for; a word after the path is how it was spelled before 3.5."""
    if len(arguments.operands) > 1:
        shell.output.message(better)
        return shell.events.watched
    return shell.events.watched if arguments.has("w") else None


def _with_stat(arguments: Arguments, value: dict[str, Any], stat: Stat) -> tuple[dict[str, Any], list[str]]:
    if not arguments.has("s"):
        return value, []
    return {**value, "stat": stat_object(stat)}, stat_lines(stat)


async def _ls(shell: Shell, arguments: Arguments) -> None:
    watch = _watch(shell, arguments, "'ls path [watch]' has been deprecated. Please use 'ls [-w] path' instead.")
    path = _operand(arguments)
    if arguments.has("R"):
        if arguments.has("l"):
            await shell.client.sync(path, quorum=True)
        async for each in walk(shell.client, path, watch):
            shell.output.result({"path": each}, each)
        return
    names, stat = await shell.client.get_listing(path, watch=watch, linearizable=arguments.has("l"))
    names.sort()
    value, lines = _with_stat(arguments, {"path": path, "children": names}, stat)
    shell.output.result(value, bracketed(names), *lines)


async def _ls2(shell: Shell, arguments: Arguments) -> None:
    shell.output.message("'ls2 path [watch]' has been deprecated. Please use 'ls -s [-w] path' instead.")
    watched = {"w": ""} if len(arguments.operands) > 1 else {}
    await _ls(shell, Arguments(arguments.operands[:1], {"s": ""} | watched))


async def _get(shell: Shell, arguments: Arguments) -> None:
    watch = _watch(shell, arguments, "'get path [watch]' has been deprecated. Please use 'get [-s] [-w] path' instead.")
    path = _operand(arguments)
    data, stat = await shell.client.get(path, watch=watch, linearizable=arguments.has("l"))
    shown = data or shown_data(data).encode()
    if arguments.has("x"):
        value, lines = {"data_hex": data.hex()}, hex_dump(shown) or [""]
    elif arguments.has("b"):
        text = base64.b64encode(shown).decode("ascii")
        value, lines = {"data_base64": base64.b64encode(data).decode("ascii")}, [text]
    else:
        value, lines = data_object(data), [shown_data(data)]
    value, more = _with_stat(arguments, {"path": path, **value}, stat)
    shell.output.result(value, *lines, *more)


async def _stat(shell: Shell, arguments: Arguments) -> None:
    watch = _watch(shell, arguments, "'stat path [watch]' has been deprecated. Please use 'stat [-w] path' instead.")
    path = _operand(arguments)
    stat = await shell.client.exists(path, watch=watch, linearizable=arguments.has("l"))
    if stat is None:
        raise CommandError(f"Node does not exist: {path}")
    shell.output.result({"path": path, "stat": stat_object(stat)}, *stat_lines(stat))


async def _get_acl(shell: Shell, arguments: Arguments) -> None:
    path = _operand(arguments)
    acl, stat = await shell.client.get_acl(path)
    value, lines = _with_stat(arguments, {"path": path, "acl": [entry._asdict() for entry in acl]}, stat)
    shell.output.result(value, *acl_lines(acl), *lines)


async def _count(shell: Shell, arguments: Arguments) -> None:
    path = _operand(arguments)
    number = await shell.client.count_descendants(path)
    shell.output.result({"path": path, "descendants": number}, str(number))


async def _ephemerals(shell: Shell, arguments: Arguments) -> None:
    path = check_path(arguments.operand(0, "/"))
    paths = await shell.client.get_ephemerals(path)
    shell.output.result({"ephemerals": paths}, bracketed(paths))


_STAT: Final = Option("s", "stat")
_WATCH: Final = Option("w", "watch")
_LINEARIZABLE: Final = Option("l", "See all that anybody has written until now", is_zkclis=False)

COMMANDS: Final = (
    Command(
        "ls",
        "[-s] [-w] [-R] path",
        _ls,
        "List the children of a znode.",
        options=(_STAT, _WATCH, _LINEARIZABLE, Option("R", "recurse")),
        operands=(1, 2),
    ),
    Command("ls2", "path [watch]", _ls2, "The old spelling of ls -s.", operands=(1, 2)),
    Command(
        "get",
        "[-s] [-w] [-b] [-x] path",
        _get,
        "Print the data of a znode.",
        options=(
            Option("s", "Print znode stats additionally"),
            Option("w", "Watch for changes on the znode"),
            _LINEARIZABLE,
            Option("b", "Output data in base64 format"),
            Option("x", "Output data in hexdump format"),
        ),
        operands=(1, 2),
        explains_options=True,
    ),
    Command(
        "stat",
        "[-w] path",
        _stat,
        "Print the metadata of a znode.",
        options=(_WATCH, _LINEARIZABLE),
        operands=(1, 2),
    ),
    Command("getAcl", "[-s] path", _get_acl, "Print who may do what.", options=(_STAT,), operands=(1, 1)),
    Command("getAllChildrenNumber", "path", _count, "Count the znodes below a path.", operands=(1, 1)),
    Command("getEphemerals", "path", _ephemerals, "List the ephemeral znodes of this session.", operands=(0, 1)),
)
