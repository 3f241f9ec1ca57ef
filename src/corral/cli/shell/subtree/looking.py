"""The commands that only look: ``tree``, ``find``, ``du``, ``diff``."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any, Final

from corral.cli.shell.command import Command, CommandError, Option
from corral.cli.shell.formats import data_object, stat_object
from corral.cli.shell.paths import check_path
from corral.cli.shell.subtree.comparing import (
    Change,
    compare,
    data_difference,
    entries_of_file,
    entries_of_subtree,
)
from corral.cli.shell.subtree.drawing import Drawing
from corral.cli.shell.subtree.exporting import opened_export
from corral.cli.shell.subtree.finding import (
    Conditions,
    parse_age,
    parse_bytes_pattern,
    parse_glob,
    parse_kind,
    parse_owner,
    parse_pattern,
    parse_size,
)
from corral.cli.shell.subtree.paths import join
from corral.cli.shell.subtree.places import AUTH, complaining, counted, opened_place
from corral.cli.shell.subtree.preview import preview
from corral.cli.shell.subtree.reading import Node, read_subtree
from corral.cli.shell.subtree.sizes import Sizes, human

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from corral.cli.shell.arguments import Arguments
    from corral.cli.shell.shell import Shell
    from corral.cli.shell.subtree.comparing import Difference
    from corral.cli.shell.subtree.reading import Entry
    from corral.client import KeeperError

__all__ = ["COMMANDS"]

_DEPTH: Final = Option("d", "levels below the path", value="levels", long="depth")


def _depth(arguments: Arguments) -> int | None:
    depth = arguments.integer("d", -1, f"depth {arguments.value('d')!r} is no number")
    if "d" in arguments.values and depth < 0:
        raise CommandError(f"depth {depth} is negative")
    return depth if "d" in arguments.values else None


class _Unreadable:
    """Tells of what may not be read; the work goes on, and the command ends with status 1."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def __call__(self, path: str, error: KeeperError) -> None:
        self._shell.output.error(str(error))
        self._shell.status = 1


async def _tree(shell: Shell, arguments: Arguments) -> None:
    path, depth = check_path(arguments.operand(0, "/")), _depth(arguments)
    drawing = Drawing(path)
    values: dict[str, dict[str, Any]] = {}
    levels = path.rstrip("/").count("/")
    with complaining():
        async with counted(shell, "tree", shell.client, path) as advance:
            nodes = read_subtree(
                shell.client,
                path,
                data=arguments.has("data"),
                depth=depth,
                on_unreadable=_Unreadable(shell),
            )
            async with aclosing(nodes):
                async for node in nodes:
                    drawing.add(node, is_cut=depth is not None and node.path.rstrip("/").count("/") - levels == depth)
                    if shell.output.as_json:
                        values[node.path] = _node_object(node)
                    advance(1)
    if shell.output.as_json:
        for at, _ in drawing.paths():
            shell.output.result(values[at])
        return
    shell.output.result(None, *drawing.lines(), "", f"{len(drawing.labels)} znodes")


def _node_object(node: Node) -> dict[str, Any]:
    value: dict[str, Any] = {"path": node.path, "stat": stat_object(node.stat)}
    return value if node.data is None else {**value, **data_object(node.data)}


TREE: Final = Command(
    "tree",
    "[-d levels] [--data] [path]",
    _tree,
    "Draw a subtree.",
    options=(_DEPTH, Option("data", "show the beginning of the data", long="data")),
    operands=(0, 1),
    explains_options=True,
)


def _conditions(arguments: Arguments) -> Conditions:
    def given(name: str, parse: Callable[[str], Any]) -> Any:
        text = arguments.value(name)
        return None if text is None else parse(text)

    return Conditions(
        name=given("name", parse_glob),
        path=given("regex", parse_pattern),
        data=given("data", parse_bytes_pattern),
        kind=given("kind", parse_kind),
        size=given("size", parse_size),
        modified=given("modified", parse_age),
        created=given("created", parse_age),
        children=given("children", parse_size),
        owner=given("owner", parse_owner),
    )


async def _find(shell: Shell, arguments: Arguments) -> None:
    path, depth = check_path(arguments.operand(0, "/")), _depth(arguments)
    with complaining():
        conditions = _conditions(arguments)
        now = time.time()
        async with counted(shell, "find", shell.client, path, prints=True) as advance:
            nodes = read_subtree(
                shell.client,
                path,
                data=conditions.data is not None,
                depth=depth,
                on_unreadable=_Unreadable(shell),
            )
            async with aclosing(nodes):
                async for node in nodes:
                    if conditions.hold(node, now):
                        shell.output.result(_node_object(node), node.path)
                    advance(1)


FIND: Final = Command(
    "find",
    "[conditions] [path]",
    _find,
    "Print the paths of a subtree's znodes that meet all conditions.",
    options=(
        _DEPTH,
        Option("name", "the last part of the path, as in file names: 'lock-*'", value="glob", long="name"),
        Option("regex", "found in the path", value="regex", long="regex"),
        Option("data", "found in the data", value="regex", long="data"),
        Option("kind", "persistent or ephemeral", value="kind", long="kind"),
        Option("size", "bytes of data: +100k more, -10 less, 0 exactly", value="size", long="size"),
        Option("modified", "since the data was set: +2d longer, -30m shorter", value="age", long="modified"),
        Option("created", "since the creation", value="age", long="created"),
        Option("children", "how many: +1000 more, 0 none", value="number", long="children"),
        Option("owner", "ephemerals of that session", value="session", long="owner"),
    ),
    operands=(0, 1),
    explains_options=True,
)

_SORTS: Final = ("bytes", "znodes", "path")


async def _du(shell: Shell, arguments: Arguments) -> None:
    path, depth = check_path(arguments.operand(0, "/")), _depth(arguments)
    by = arguments.value("sort") or "bytes"
    if by not in _SORTS:
        raise CommandError(f"sort {by!r} is none of {', '.join(_SORTS)}")
    sizes = Sizes(path, 1 if depth is None else depth)
    with complaining():
        async with counted(shell, "du", shell.client, path) as advance:
            nodes = read_subtree(shell.client, path, on_unreadable=_Unreadable(shell))
            async with aclosing(nodes):
                async for node in nodes:
                    sizes.add(node)
                    advance(1)
    for at, usage in [*sizes.ranked(by), (path, sizes.sums[path])]:
        value = {
            "path": at,
            "znodes": usage.znodes,
            "data_bytes": usage.data_bytes,
            "ephemerals": usage.ephemerals,
        }
        size = human(usage.data_bytes) if arguments.has("h") else str(usage.data_bytes)
        shell.output.result(value, f"{size:>12} {usage.znodes:>9}  {at}")


DU: Final = Command(
    "du",
    "[-d levels] [-h] [--sort bytes|znodes|path] [path]",
    _du,
    "Bytes of data and number of znodes of each child's subtree, the largest first, and of all.",
    options=(
        Option("d", "levels below the path [1]", value="levels", long="depth"),
        Option("h", "bytes with a unit", long="human"),
        Option("sort", "bytes, znodes or path", value="key", long="sort"),
    ),
    operands=(0, 1),
    explains_options=True,
)

_TROUBLE: Final = 2
"""The status of ``diff`` when it cannot say whether there is a difference, as of Unix's."""
_FILE_MARK: Final = "@"


async def _diff(shell: Shell, arguments: Arguments) -> None:
    found = 0
    with complaining(_TROUBLE):
        try:
            async with AsyncExitStack() as stack:
                left = await _side(shell, arguments.operand(0), arguments, stack, is_left=True)
                right = await _side(shell, arguments.operand(1), arguments, stack, is_left=False)
                async for difference in compare(left, right, acl=arguments.has("acl")):
                    found += 1
                    shell.output.result(_difference_object(difference), *_difference_lines(difference))
        except CommandError as error:
            raise CommandError(str(error), _TROUBLE) from error
    if found:
        shell.status = 1


async def _side(
    shell: Shell, text: str, arguments: Arguments, stack: AsyncExitStack, *, is_left: bool
) -> AsyncIterator[Entry]:
    ephemerals = not arguments.has("skip-ephemerals")
    if text.startswith(_FILE_MARK):
        name = text.removeprefix(_FILE_MARK)
        return entries_of_file(stack.enter_context(opened_export(name)), name, ephemerals=ephemerals)
    place = await stack.enter_async_context(opened_place(shell, text, arguments))
    entries = entries_of_subtree(place.client, place.path, acl=arguments.has("acl"), ephemerals=ephemerals)
    await stack.enter_async_context(aclosing(entries))
    if is_left:
        advance = await stack.enter_async_context(counted(shell, "diff", place.client, place.path, prints=True))
        return _advancing(entries, advance)
    return entries


async def _advancing(entries: AsyncIterator[Entry], advance: Callable[[int], None]) -> AsyncIterator[Entry]:
    async for entry in entries:
        advance(1)
        yield entry


def _difference_object(difference: Difference) -> dict[str, Any]:
    value: dict[str, Any] = {"change": difference.change.value, "path": join("/", difference.path)}
    if difference.what:
        value["what"] = list(difference.what)
    for name, entry in (("left", difference.left), ("right", difference.right)):
        if entry is not None:
            value[name] = {**data_object(entry.data), "kind": entry.kind.value}
            if entry.acl:
                value[name]["acl"] = [each._asdict() for each in entry.acl]
    return value


def _difference_lines(difference: Difference) -> list[str]:
    path = join("/", difference.path)
    match difference.change:
        case Change.REMOVED:
            assert difference.left is not None
            return [f"- {path}  {preview(difference.left.data)}"]
        case Change.ADDED:
            assert difference.right is not None
            return [f"+ {path}  {preview(difference.right.data)}"]
        case Change.CHANGED:
            left, right = difference.left, difference.right
            assert left is not None
            assert right is not None
    lines = [f"~ {path}  {', '.join(difference.what)}"]
    for what in difference.what:
        match what:
            case "data":
                lines += data_difference(left.data, right.data)
            case "acl":
                lines += [f"- {' '.join(map(str, left.acl))}", f"+ {' '.join(map(str, right.acl))}"]
            case _:
                lines += [f"- {left.kind.value}", f"+ {right.kind.value}"]
    return [lines[0], *(f"    {line}" for line in lines[1:])]


DIFF: Final = Command(
    "diff",
    "[--acl] [--skip-ephemerals] [--auth scheme:credential] left right",
    _diff,
    "Compare two subtrees: paths, host:port/path of other services, @FILE of exports. Status 1 if they differ.",
    options=(
        Option("acl", "compare ACLs too", long="acl"),
        Option("skip-ephemerals", "leave ephemerals out on both sides", long="skip-ephemerals"),
        AUTH,
    ),
    operands=(2, 2),
    explains_options=True,
)

COMMANDS: Final = (TREE, FIND, DU, DIFF)
