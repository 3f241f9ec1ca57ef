"""Writes a subtree into a file, and a file into a subtree."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack, aclosing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from corral.cli.shell.subtree.copying import HIDDEN, Place, Policy, delete_extra, hides_passwords, prepare_target
from corral.cli.shell.subtree.errors import SubtreeError
from corral.cli.shell.subtree.lines import TURN, ended_line, header_line, node_line, read_entries, read_header
from corral.cli.shell.subtree.paths import join, relative_to
from corral.cli.shell.subtree.reading import Entry, read_subtree, reserved_below, stat_of
from corral.cli.shell.subtree.writing import Outcome, Tally, Writer
from corral.client.errors import NoNodeError
from corral.jute.owner import OwnerKind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
    from typing import BinaryIO

    from corral.client import Client

__all__ = ["STANDARD", "export_subtree", "import_file", "opened_export", "replacing"]

STANDARD: Final = "-"
"""The name that stands for standard input and output."""
_HEADER_BYTES: Final = 8


async def export_subtree(
    client: Client, path: str, on_hidden: Callable[[str], None]
) -> AsyncGenerator[dict[str, Any], None]:
    """The lines of a subtree, ephemerals included, as :mod:`corral.cli.shell.subtree.lines` has them.

    It is no picture of one moment: what changes meanwhile may be in or not. ``on_hidden`` is called with each path
    whose ACL the service does not show in full.

    Raises NoNodeError, NoAuthError: nothing may be missing.
    """
    if await stat_of(client, path) is None:
        raise NoNodeError(f"{path}: no node")
    yield header_line(path, client.last_zxid, datetime.now(UTC))
    count = 0
    nodes = read_subtree(client, path, data=True, acl=True, without=reserved_below(client, path))
    async with aclosing(nodes):
        async for node in nodes:
            if node.acl is not None and hides_passwords(node.acl):
                on_hidden(node.path)
            yield node_line(node)
            count += 1
    yield ended_line(count)


@contextmanager
def replacing(path: Path, *, overwrite: bool) -> Iterator[TextIO]:
    """A new file that gets its name when all of it is written and on the disk. Raises SubtreeError if it exists."""
    if path.exists() and not overwrite:
        raise SubtreeError(f"{path} exists: --overwrite replaces it")
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="\n") as file:  # noqa: PTH123 - a descriptor, not a path
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            Path(name).replace(path)
        else:
            # Unlike a rename, this fails if somebody else has made it meanwhile.
            path.hardlink_to(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def opened_export(name: str) -> Iterator[BinaryIO]:
    """A file that can be read twice; ``-`` is standard input, which is kept for that."""
    with ExitStack() as stack:
        if name != STANDARD:
            yield stack.enter_context(Path(name).open("rb"))
            return
        kept = stack.enter_context(tempfile.TemporaryFile())
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.seek(0)
        yield cast("BinaryIO", kept)


async def import_file(
    file: BinaryIO,
    name: str,
    client: Client,
    path: str | None,
    policy: Policy,
    tally: Tally,
    on_outcome: Callable[[Outcome, str], None],
    *,
    incomplete: bool = False,
    plain: bool = False,
) -> str:
    """Create what an export has, below ``path`` instead of its root if given; returns the path.

    Every line is checked before the first znode is written. Ephemerals are left out. May be repeated with MERGE or
    OVERWRITE after an interruption. ``plain`` makes containers and TTL znodes persistent ones.

    Raises:
        SubtreeError: a line is wrong (names the line); nothing has been written. Or a znode cannot be written.
        NodeExistsError: ``path`` exists, and ``policy`` says no more; nothing has been written.
        KeeperError: as the service answers.
    """
    header = read_header(file, name)
    start = file.tell()
    to = path or header.root

    def moved(entry: Entry) -> Entry:
        """An entry of the file as it is to be written."""
        acl = entry.acl if policy.acl is None else policy.acl
        moved_path = join(to, relative_to(header.root, entry.path))
        return Entry(moved_path, entry.data, acl) if plain else entry._replace(path=moved_path, acl=acl)

    await _check(file, name, header.root, client, moved, incomplete=incomplete)
    target = Place(client, to)
    await prepare_target(target, policy)
    until_zxid = client.last_zxid
    written: set[str] = set()

    async def entries() -> AsyncIterator[Entry]:
        file.seek(start)
        for _, entry in read_entries(file, name, header.root, incomplete=incomplete):
            if entry.kind is OwnerKind.EPHEMERAL:
                tally.ephemerals.append(entry.path)
            else:
                yield moved(entry)

    def settle(entry: Entry, outcome: Outcome) -> None:
        if policy.delete:
            written.add(entry.path)
        on_outcome(outcome, entry.path)

    await Writer(client, policy.existing, tally, dry_run=policy.dry_run, on_outcome=settle).write(entries())
    if policy.delete:
        await delete_extra(target, written, until_zxid, tally, on_outcome, dry_run=policy.dry_run)
    return to


async def _check(
    file: BinaryIO, name: str, root: str, client: Client, moved: Callable[[Entry], Entry], *, incomplete: bool
) -> None:
    """Read every line, and see whether the service could take it."""
    number = 1
    for number, entry in read_entries(file, name, root, incomplete=incomplete):
        wanted = moved(entry)
        if number == 2 and entry.path != root:
            raise SubtreeError(f"{name}, line 2: {entry.path} is not the root {root}, with which an export begins")
        if entry.path == root and entry.kind is OwnerKind.EPHEMERAL:
            raise SubtreeError(f"{name}, line {number}: the root is ephemeral: it belonged to a session")
        if hides_passwords(wanted.acl):
            raise SubtreeError(f"{name}, line {number}: when this was exported, {HIDDEN}: give another ACL (--acl)")
        try:
            _, body = client.encode_create(
                wanted.path,
                wanted.data,
                acl=wanted.acl,
                ephemeral=False,
                sequential=False,
                container=wanted.kind is OwnerKind.CONTAINER,
                ttl=wanted.ttl,
            )
        except (ValueError, TypeError) as error:
            raise SubtreeError(f"{name}, line {number}: {error}") from None
        if len(body) + _HEADER_BYTES > client.settings.max_request_bytes:
            raise SubtreeError(
                f"{name}, line {number}: a request of {len(body) + _HEADER_BYTES} bytes; "
                f"the service takes {client.settings.max_request_bytes} (jute.maxbuffer)"
            )
        if number % TURN == 0:
            await asyncio.sleep(0)
    if number == 1:
        raise SubtreeError(f"{name}: no znode in it")
