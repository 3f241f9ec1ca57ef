"""The commands that change subtrees: ``cp``, ``mv``, ``import``; and ``export``, which belongs to them."""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from corral.cli.shell.acls import parse_acl
from corral.cli.shell.command import DRY_RUN, Command, CommandError, Option
from corral.cli.shell.paths import check_path
from corral.cli.shell.subtree.copying import HIDDEN, Policy, copy, move
from corral.cli.shell.subtree.exporting import (
    STANDARD,
    export_subtree,
    import_file,
    opened_export,
    replacing,
)
from corral.cli.shell.subtree.lines import encode
from corral.cli.shell.subtree.places import AUTH, complaining, counted, opened_place, shown, typed_place
from corral.cli.shell.subtree.writing import Existing, Outcome, Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from corral.cli.shell.arguments import Arguments
    from corral.cli.shell.shell import Shell
    from corral.cli.shell.subtree.copying import Place

__all__ = ["COMMANDS"]

_COMPLAINTS_MAX: Final = 20
_VERBS: Final = {
    Outcome.CREATED: "create",
    Outcome.OVERWRITTEN: "overwrite",
    Outcome.UNCHANGED: "leave, for it is the same,",
    Outcome.KEPT: "keep",
    Outcome.DELETED: "delete",
}
_WRITING: Final = (
    Option("m", "add what is missing, keep what exists", long="merge"),
    Option("o", "add what is missing, replace data and ACL of what exists", long="overwrite"),
    Option("p", "create what is missing above the target", long="parents"),
    Option("a", "for all that is written, instead of the ACLs of the source", value="acl", long="acl"),
    Option("v", "name every znode", long="verbose"),
)
_DELETE: Final = Option("delete", "delete what only the target has (with --overwrite)", long="delete")


def _policy(shell: Shell, arguments: Arguments) -> Policy:
    if arguments.has("m") and arguments.has("o"):
        raise CommandError("--merge and --overwrite exclude each other")
    if arguments.has("delete") and not arguments.has("o"):
        raise CommandError("--delete goes with --overwrite only")
    existing = Existing.MERGE if arguments.has("m") else Existing.OVERWRITE if arguments.has("o") else Existing.REFUSE
    acl = arguments.value("a")
    return Policy(
        existing,
        None if acl is None else parse_acl(acl),
        delete=arguments.has("delete"),
        parents=arguments.has("p"),
        dry_run=shell.is_dry(arguments),
    )


class _Report:
    """Says what is done, or would be."""

    def __init__(self, shell: Shell, arguments: Arguments, policy: Policy, advance: Callable[[int], None]) -> None:
        self._shell = shell
        self._is_dry = policy.dry_run
        self._names_each = policy.dry_run or arguments.has("v")
        self._advance = advance

    def __call__(self, outcome: Outcome, path: str) -> None:
        self._advance(1)
        if self._names_each:
            text = f"would {_VERBS[outcome]} {path}" if self._is_dry else f"{outcome.value} {path}"
            self._shell.output.result({"outcome": outcome.value, "path": path, "dry_run": self._is_dry}, text)


@contextmanager
def _telling(shell: Shell, policy: Policy, tally: Tally) -> Iterator[None]:
    """At the end say what was done, also if it is the end before its time."""
    try:
        with complaining():
            yield
    except CommandError as error:
        text = f"{error}\ndone until then: {tally}" if tally and not policy.dry_run else str(error)
        raise CommandError(text, error.status) from error
    except BaseException:
        shell.output.error(f"interrupted; done until then: {tally}")
        raise
    output = shell.output
    if not shell.output.as_json:
        for text in _shortened([f"{path}: ephemeral, left out" for path in tally.ephemerals]):
            output.message(text)
        for text in _shortened(tally.complaints):
            output.message(text)
    output.done({"dry_run": policy.dry_run, **tally.as_object()}, f"{'dry run: ' if policy.dry_run else ''}{tally}")
    if tally.complaints:
        shell.status = 1


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= _COMPLAINTS_MAX:
        return lines
    return [*lines[:_COMPLAINTS_MAX], f"... and {len(lines) - _COMPLAINTS_MAX} more; --json names all"]


_Work: TypeAlias = "Callable[[Place, Place, Policy, Tally, Callable[[Outcome, str], None]], Awaitable[None]]"


async def _cp(shell: Shell, arguments: Arguments) -> None:
    await _transfer(shell, arguments, copy, "cp")


async def _mv(shell: Shell, arguments: Arguments) -> None:
    await _transfer(shell, arguments, move, "mv")


async def _transfer(shell: Shell, arguments: Arguments, work: _Work, doing: str) -> None:
    policy = _policy(shell, arguments)
    for operand in arguments.operands:
        typed_place(operand)
    tally = Tally()
    with _telling(shell, policy, tally):
        async with AsyncExitStack() as stack:
            source = await stack.enter_async_context(opened_place(shell, arguments.operand(0), arguments))
            target = await stack.enter_async_context(opened_place(shell, arguments.operand(1), arguments))
            advance = await stack.enter_async_context(
                counted(
                    shell,
                    doing,
                    source.client,
                    source.path,
                    steps=2 if work is move else 1,
                    prints=policy.dry_run or arguments.has("v"),
                )
            )
            await work(source, target, policy, tally, _Report(shell, arguments, policy, advance))


CP: Final = Command(
    "cp",
    "[-m | -o [--delete]] [-p] [-a acl] [-v] [--dry-run] source target",
    _cp,
    "Copy a subtree so that it stands at target; either may be host:port/path of another service.",
    options=(*_WRITING, _DELETE, AUTH, DRY_RUN),
    operands=(2, 2),
    explains_options=True,
)
MV: Final = Command(
    "mv",
    "[-m | -o] [-p] [-a acl] [-v] [--dry-run] source target",
    _mv,
    "Copy a subtree, read it again, and delete from the source just what was copied.",
    options=(*_WRITING, AUTH, DRY_RUN),
    operands=(2, 2),
    explains_options=True,
)


async def _export(shell: Shell, arguments: Arguments) -> None:
    path, name = check_path(arguments.operand(0)), arguments.operand(1, STANDARD)

    def hidden(at: str) -> None:
        shell.output.error(f"{at}: {HIDDEN}: this ACL cannot be imported")
        shell.status = 1

    with complaining():
        if name == STANDARD:
            async with (
                counted(shell, "export", shell.client, path, prints=True) as advance,
                aclosing(export_subtree(shell.client, path, hidden)) as lines,
            ):
                async for line in lines:
                    shell.output.result(line, encode(line))
                    advance(1)
            return
        with replacing(Path(name), overwrite=arguments.has("o")) as file:
            async with (
                counted(shell, "export", shell.client, path) as advance,
                aclosing(export_subtree(shell.client, path, hidden)) as lines,
            ):
                count = -2
                # Neither the first line nor the last is a znode's.
                async for line in lines:
                    file.write(f"{encode(line)}\n")
                    count += 1
                    advance(1)
    shell.output.done({"file": name, "znodes": count}, f"{name}: {count} znodes")


EXPORT: Final = Command(
    "export",
    "[-o] path [file]",
    _export,
    "Write a subtree as JSON lines into a file, or to standard output.",
    options=(Option("o", "replace the file if it exists", long="overwrite"),),
    operands=(1, 2),
    explains_options=True,
)


async def _import(shell: Shell, arguments: Arguments) -> None:
    policy = _policy(shell, arguments)
    name = arguments.operand(0)
    path = check_path(arguments.operand(1)) if len(arguments.operands) > 1 else None
    tally = Tally()
    prints = policy.dry_run or arguments.has("v")
    with _telling(shell, policy, tally), opened_export(name) as file, shown(shell, "import", prints=prints) as advance:
        await import_file(
            file,
            name,
            shell.client,
            path,
            policy,
            tally,
            _Report(shell, arguments, policy, advance),
            incomplete=arguments.has("incomplete"),
            plain=arguments.has("plain"),
        )


IMPORT: Final = Command(
    "import",
    "[-m | -o [--delete]] [-p] [-a acl] [--plain] [--incomplete] [-v] [--dry-run] file [path]",
    _import,
    "Create what an export has, at its old place or at path; every line is checked first.",
    options=(
        *_WRITING,
        _DELETE,
        Option("incomplete", "take a file that was cut or edited", long="incomplete"),
        Option("plain", "containers and TTL znodes become persistent", long="plain"),
        DRY_RUN,
    ),
    operands=(1, 2),
    explains_options=True,
)

COMMANDS: Final = (CP, MV, EXPORT, IMPORT)
