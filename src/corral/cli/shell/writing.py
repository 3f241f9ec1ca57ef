"""Commands that write: ``create``, ``set``, ``setAcl``, ``delete`` and ``deleteall``."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final

from corral.cli.shell.acls import parse_acl
from corral.cli.shell.command import DRY_RUN, Command, CommandError, Option, UsageError
from corral.cli.shell.formats import raw_bytes, stat_lines, stat_object
from corral.cli.shell.paths import check_path
from corral.cli.shell.progress import progress
from corral.cli.shell.sentences import sentence
from corral.cli.shell.walking import walk
from corral.client import NULL, OPEN, KeeperError
from corral.client.errors import ConnectionLoss, NoNodeError, NotEmptyError, TransactionError
from corral.jute.owner import TTL_MAX_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.cli.shell.arguments import Arguments
    from corral.cli.shell.shell import Shell
    from corral.client import Client, Stat

__all__ = ["COMMANDS"]

_BATCH: Final = 1000
_BATCH_BYTES: Final = 256 * 1024
"""Paths in one transaction: far below what servers refuse."""


async def _create(shell: Shell, arguments: Arguments) -> None:
    ephemeral, sequential, container = (arguments.has(name) for name in "esc")
    timed = arguments.has("t")
    if container and (ephemeral or sequential):
        raise CommandError("-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.")
    ttl_ms = arguments.integer("t", 0, bits=64)
    if timed and ephemeral:
        raise CommandError("TTLs cannot be used with Ephemeral znodes")
    if timed and container:
        raise CommandError("TTLs cannot be used with Container znodes")
    if timed and not 0 < ttl_ms <= TTL_MAX_MS:
        raise CommandError(f"ttl must be positive and cannot be larger than: {TTL_MAX_MS}")
    acl = parse_acl(arguments.operand(2)) if len(arguments.operands) > 2 else OPEN
    created = await shell.client.create(
        check_path(arguments.operand(0), sequential=sequential),
        raw_bytes(arguments.operand(1)) if len(arguments.operands) > 1 else NULL,
        acl=acl,
        ephemeral=ephemeral,
        sequential=sequential,
        container=container,
        ttl=ttl_ms / 1000 if timed else None,
    )
    shell.output.done({"created": str(created), "stat": stat_object(created.stat)}, f"Created {created}")


async def _set(shell: Shell, arguments: Arguments) -> None:
    version = _version(
        shell,
        arguments,
        2,
        "'set path data [version]' has been deprecated. Please use 'set [-s] [-v version] path data' instead.",
    )
    path, text = check_path(arguments.operand(0)), arguments.operand(1)
    try:
        data = base64.b64decode(text, validate=True) if arguments.has("b") else raw_bytes(text)
    except binascii.Error as error:
        raise CommandError(f"{text!r} is no base64: {error}") from None
    _show_stat(shell, arguments, path, await shell.client.set(path, data, version=version))


async def _set_acl(shell: Shell, arguments: Arguments) -> None:
    path = check_path(arguments.operand(0))
    acl = parse_acl(arguments.operand(1))
    version = _version(shell, arguments, 2)
    if not arguments.has("R"):
        _show_stat(shell, arguments, path, await shell.client.set_acl(path, acl, version=version))
        return
    async for each in walk(shell.client, path):
        try:
            stat = await shell.client.set_acl(each, acl, version=version)
        except NoNodeError:
            continue
        except KeeperError as error:
            shell.output.error(sentence(error, each))
            shell.status = 1
        else:
            if shell.output.as_json:
                shell.output.result({"path": each, "stat": stat_object(stat)})


async def _delete(shell: Shell, arguments: Arguments) -> None:
    version = _version(
        shell,
        arguments,
        1,
        "'delete path [version]' has been deprecated. Please use 'delete [-v version] path' instead.",
    )
    path = check_path(arguments.operand(0))
    if shell.is_dry(arguments):
        stat = await shell.client.exists(path)
        if stat is None:
            raise CommandError(f"Node does not exist: {path}")
        if stat.num_children:
            raise CommandError(f"Node not empty: {path}")
        if version not in (None, stat.version):
            raise CommandError(f"version No is not valid : {path}")
        shell.output.result({"would_delete": path}, path)
        return
    await shell.client.delete(path, version=version)
    if shell.output.as_json:
        shell.output.result({"deleted": path})


async def _delete_all(shell: Shell, arguments: Arguments) -> None:
    batch = arguments.integer("b", _BATCH)
    path = check_path(arguments.operand(0))
    found = []
    with progress(shell.output, f"finding what is below {path}") as advance:
        async for each in walk(shell.client, path):
            found.append(each)
            advance(1)
    if shell.is_dry(arguments):
        for each in found:
            shell.output.result({"would_delete": each}, each)
        return
    if path == "/":
        raise CommandError("The root and /zookeeper cannot be deleted: name what is below the root.")
    try:
        deleted = await _delete_found(shell, path, found, max(batch, 1))
    except KeeperError as error:
        raise _incomplete(error, path) from error
    if shell.output.as_json:
        shell.output.result({"deleted": path, "znodes": deleted})


async def _delete_found(shell: Shell, top: str, found: Sequence[str], batch: int) -> int:
    """Delete the deepest first, a transaction for each batch; what others change meanwhile is gone after again."""
    client = shell.client
    # The order of the walk has every znode after its parent.
    left = list(found)
    deleted = 0
    with progress(shell.output, f"deleting {top}", len(found)) as advance:
        while left:
            size = _fitting(left, batch)
            try:
                await _delete_batch(client, left[-size:])
            except ConnectionLoss:
                return deleted + await _delete_rest(client, top)
            except TransactionError as error:
                if not isinstance(error.__cause__, (NoNodeError, NotEmptyError)):
                    cause = error.__cause__
                    assert isinstance(cause, KeeperError)
                    raise _incomplete(cause, left[-1 - error.index]) from cause
                return deleted + await _delete_rest(client, top)
            del left[-size:]
            deleted += size
            advance(size)
    return deleted


def _incomplete(error: KeeperError, path: str) -> CommandError:
    return CommandError(f"Failed to delete some node(s) in the subtree!\n{sentence(error, path)}")


async def _delete_rest(client: Client, top: str) -> int:
    """What others change at the same time, or was under way when the connection broke."""
    try:
        return await client.delete_tree(top)
    except NoNodeError:
        return 0


def _fitting(paths: Sequence[str], batch: int) -> int:
    """How many paths from the end make one transaction."""
    size = total = 0
    while size < min(batch, len(paths)):
        total += len(paths[-1 - size].encode())
        if size and total > _BATCH_BYTES:
            break
        size += 1
    return size


async def _delete_batch(client: Client, paths: Sequence[str]) -> None:
    async with client.transaction() as transaction:
        for path in reversed(paths):
            transaction.delete(path)


async def _rmr(shell: Shell, arguments: Arguments) -> None:
    shell.output.message("The command 'rmr' has been deprecated. Please use 'deleteall' instead.")
    await _delete_all(shell, arguments)


def _version(shell: Shell, arguments: Arguments, position: int, better: str = "") -> int | None:
    """What ``-v`` says, or the word at the end, which is how it was spelled before 3.5. None: any version."""
    if len(arguments.operands) > position:
        text = arguments.operand(position)
        if not re.fullmatch(r"-?[0-9]{1,9}", text):
            raise UsageError(f"{text!r} is no version; data with spaces needs quotes" if position > 1 else "")
        shell.output.message(better)
        version = int(text)
    else:
        version = arguments.integer("v", -1)
    return None if version == -1 else version


def _show_stat(shell: Shell, arguments: Arguments, path: str, stat: Stat) -> None:
    lines = stat_lines(stat) if arguments.has("s") else []
    shell.output.result({"path": path, "stat": stat_object(stat)}, *lines)


_STAT: Final = Option("s", "stats")
_VERSION: Final = Option("v", "version", value="arg")

COMMANDS: Final = (
    Command(
        "create",
        "[-s] [-e] [-c] [-t ttl] path [data] [acl]",
        _create,
        "Create a znode.",
        options=(
            Option("e", "ephemeral"),
            Option("s", "sequential"),
            Option("c", "container"),
            Option("t", "ttl", value="arg"),
        ),
        operands=(1, 3),
    ),
    Command(
        "set",
        "path data [-s] [-v version] [-b]",
        _set,
        "Replace the data of a znode.",
        options=(
            Option("s", "Print znode stats additionally"),
            Option("v", "Set with an expected version", value="arg"),
            Option("b", "Supply data in base64 format"),
        ),
        operands=(2, 3),
        explains_options=True,
    ),
    Command(
        "setAcl",
        "[-s] [-v version] [-R] path acl",
        _set_acl,
        "Replace the ACL of a znode.",
        options=(_STAT, _VERSION, Option("R", "recursive")),
        operands=(2, 2),
    ),
    Command(
        "delete",
        "[-v version] path",
        _delete,
        "Delete a znode.",
        options=(_VERSION, DRY_RUN),
        operands=(1, 2),
    ),
    Command(
        "deleteall",
        "path [-b batch size]",
        _delete_all,
        "Delete a znode and all below it.",
        options=(Option("b", "batch size", value="arg"), DRY_RUN),
        operands=(1, 1),
    ),
    Command(
        "rmr",
        "path",
        _rmr,
        "The old spelling of deleteall.",
        options=(DRY_RUN,),
        operands=(1, 1),
    ),
)
