"""Copies and moves subtrees, within one ensemble or from one to another."""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from corral.cli.shell.subtree.deleting import Deleter, Doomed
from corral.cli.shell.subtree.errors import SubtreeError
from corral.cli.shell.subtree.paths import is_within, join, parent_of, relative_to
from corral.cli.shell.subtree.reading import Entry, Node, read_subtree, reserved_below, stat_of
from corral.cli.shell.subtree.writing import Existing, Outcome, Tally, Writer
from corral.client.errors import NodeExistsError, NoNodeError
from corral.jute.owner import OwnerKind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

    from corral.client import Acl, Client, Stat

__all__ = ["HIDDEN", "Place", "Policy", "copy", "delete_extra", "hides_passwords", "move", "prepare_target"]


class Place(NamedTuple):
    """A znode of an ensemble."""

    client: Client
    path: str

    def __str__(self) -> str:
        hosts = ",".join(map(str, self.client.settings.addresses))
        return f"{hosts}{self.client.settings.chroot}{self.path}"


@dataclass(frozen=True, slots=True)
class Policy:
    """How to write a subtree."""

    existing: Existing = Existing.REFUSE
    acl: Sequence[Acl] | None = None
    """For all that is written; None keeps those of the source."""
    delete: bool = False
    """Whether to delete what is at the target and not in the source."""
    parents: bool = False
    """Whether to create what is missing above the target, open to everybody."""
    dry_run: bool = False


HIDDEN: Final = "the service hides the passwords in its ACL from all but its administrators"


def _nothing(outcome: Outcome, path: str) -> None:
    """Nobody wants to know."""


async def copy(
    source: Place,
    target: Place,
    policy: Policy,
    tally: Tally,
    on_outcome: Callable[[Outcome, str], None] = _nothing,
) -> None:
    """Copy ``source`` with all below it, so that it stands at ``target``.

    Ephemeral znodes are left out, and what is created after the copy began. Containers and TTL znodes become persistent
    ones, for servers do not tell clients which these are. It may be repeated, with MERGE or
    OVERWRITE, after an interruption; ``tally`` has what was done by then. ``on_outcome`` hears of each znode of the
    target.

    Raises:
        SubtreeError: it makes no sense, or something cannot be copied as it is; names it.
        NodeExistsError: the target exists, and ``policy`` says no more; nothing has been done.
        KeeperError: as the services answer.
    """
    await _Copy(source, target, policy, tally, on_outcome).run()


async def move(
    source: Place,
    target: Place,
    policy: Policy,
    tally: Tally,
    on_outcome: Callable[[Outcome, str], None] = _nothing,
) -> None:
    """Copy ``source`` to ``target``, read again what was written, and delete from the source just what was copied.

    What was changed meanwhile, or was not copied (ephemerals, what came later, what differs and was to be kept), stays
    with all above it; the tally tells. Nothing is deleted before everything is copied.

    Raises as :func:`copy`; then nothing has been deleted, unless the tally counts something.
    """
    if source.path == "/" and not source.client.settings.chroot:
        raise SubtreeError("/ cannot be moved")
    await _Copy(source, target, policy, tally, on_outcome, moves=True).run()


class _Copy:
    """One run."""

    def __init__(
        self,
        source: Place,
        target: Place,
        policy: Policy,
        tally: Tally,
        on_outcome: Callable[[Outcome, str], None],
        *,
        moves: bool = False,
    ) -> None:
        self._source = source
        self._target = target
        self._policy = policy
        self._tally = tally
        self._on_outcome = on_outcome
        self._moves = moves
        self._seen: dict[str, Doomed] = {}
        """What was read and is not settled yet, by the path at the target."""
        self._copied: list[Doomed] = []
        self._written: set[str] = set()

    async def run(self) -> None:
        source, target, policy = self._source, self._target, self._policy
        await _refuse_overlap(source, target)
        top = await stat_of(source.client, source.path)
        if top is None:
            raise NoNodeError(f"{source.path}: no node")
        if top.kind is OwnerKind.EPHEMERAL:
            raise SubtreeError(f"{source.path} is ephemeral: it belongs to the session that made it")
        there = await prepare_target(target, policy)
        if self._moves and there == top:
            # An ensemble that goes by two names.
            raise SubtreeError(f"{source} and {target} are the same znode")
        until = target.client.last_zxid
        writer = Writer(
            target.client,
            policy.existing,
            self._tally,
            dry_run=policy.dry_run,
            verify=self._moves,
            on_outcome=self._settle,
        )
        async with aclosing(self._entries(source.client.last_zxid)) as entries:
            await writer.write(entries)
        if policy.delete:
            await delete_extra(target, self._written, until, self._tally, self._on_outcome, dry_run=policy.dry_run)
        if self._moves:
            await self._delete_source()

    async def _entries(self, until_zxid: int) -> AsyncGenerator[Entry, None]:
        """What is to be written. Without a limit, a copy into its own source would never end."""
        source, policy = self._source, self._policy
        nodes = read_subtree(
            source.client,
            source.path,
            data=True,
            acl=policy.acl is None,
            without=reserved_below(source.client, source.path),
            until_zxid=until_zxid,
        )
        async with aclosing(nodes):
            async for node in nodes:
                if node.stat.kind is OwnerKind.EPHEMERAL:
                    self._tally.ephemerals.append(node.path)
                    continue
                path = join(self._target.path, relative_to(source.path, node.path))
                if self._moves:
                    self._seen[path] = Doomed.seen(node.path, node.stat)
                yield _entry_of(node, path, policy)

    def _settle(self, entry: Entry, outcome: Outcome) -> None:
        if self._policy.delete:
            self._written.add(entry.path)
        if self._moves and outcome is not Outcome.KEPT:
            self._copied.append(self._seen[entry.path])
        elif self._moves:
            self._tally.complaints.append(f"{entry.path}: kept, for it is not the same as at the source")
        self._seen.pop(entry.path, None)
        self._on_outcome(outcome, entry.path)

    async def _delete_source(self) -> None:
        if self._policy.dry_run:
            for each in reversed(self._copied):
                self._tally.add(Outcome.DELETED)
                self._on_outcome(Outcome.DELETED, each.path)
            return
        deleter = Deleter(
            self._source.client, self._tally, on_deleted=lambda path: self._on_outcome(Outcome.DELETED, path)
        )
        await deleter.delete(self._copied)


def hides_passwords(acl: Iterable[Acl]) -> bool:
    """Whether an ACL is as those see it who may not change it: with ``x`` for the hashes, which would let nobody in."""
    return any(entry.scheme == "digest" and entry.id.endswith(":x") for entry in acl)


def _entry_of(node: Node, path: str, policy: Policy) -> Entry:
    """What is to be written at ``path`` to have a copy of ``node``. Raises SubtreeError if its ACL is not known."""
    assert node.data is not None
    acl = policy.acl
    if acl is None:
        assert node.acl is not None
        acl = node.acl
        if hides_passwords(acl):
            raise SubtreeError(f"{node.path}: {HIDDEN}: log in as one (addauth), or give another ACL (--acl)")
    return Entry(path, node.data, acl)


async def prepare_target(target: Place, policy: Policy) -> Stat | None:
    """Look whether ``target`` may be written to, and create what is above it if wanted; its stat if it exists.

    Raises NodeExistsError, and NoNodeError if the parent is missing.
    """
    client, path = target
    there = await stat_of(client, path)
    if there is not None:
        if policy.existing is Existing.REFUSE:
            raise NodeExistsError(f"{target} exists: --merge adds what is missing, --overwrite also replaces data")
        return there
    if path == "/":
        return None
    parent = parent_of(path)
    if await stat_of(client, parent) is None:
        if not policy.parents:
            raise NoNodeError(f"the parent {parent} of {path} does not exist: --parents creates it")
        if not policy.dry_run:
            await client.ensure(parent)
    return None


async def delete_extra(
    target: Place,
    written: set[str],
    until_zxid: int,
    tally: Tally,
    on_outcome: Callable[[Outcome, str], None],
    *,
    dry_run: bool,
) -> None:
    """Delete what is within ``target``, was created by ``until_zxid``, and is not in ``written``.

    Ephemerals of sessions stay, and are told.
    """
    client, path = target
    if await stat_of(client, path) is None:
        return
    extra: list[Doomed] = []
    nodes = read_subtree(client, path, without=reserved_below(client, path), until_zxid=until_zxid)
    async with aclosing(nodes):
        async for node in nodes:
            if node.path in written:
                continue
            if node.stat.kind is OwnerKind.EPHEMERAL:
                tally.complaints.append(f"{node.path}: not deleted, for it is the ephemeral of a session")
            else:
                extra.append(Doomed.seen(node.path, node.stat))
    if not dry_run:
        deleter = Deleter(client, tally, on_deleted=lambda deleted: on_outcome(Outcome.DELETED, deleted))
        await deleter.delete(extra)
        return
    for each in reversed(extra):
        tally.add(Outcome.DELETED)
        on_outcome(Outcome.DELETED, each.path)


async def _refuse_overlap(source: Place, target: Place) -> None:
    if not await _is_same_ensemble(source.client, target.client):
        return
    left, right = (place.client.settings.chroot + place.path.rstrip("/") or "/" for place in (source, target))
    if left == right:
        raise SubtreeError(f"{source.path} and {target.path} are the same znode")
    if is_within(left, right):
        raise SubtreeError(f"{target.path} is inside {source.path}: a subtree cannot be copied into itself")
    if is_within(right, left):
        raise SubtreeError(f"{source.path} is inside {target.path}: a subtree cannot replace what it is part of")


async def _is_same_ensemble(left: Client, right: Client) -> bool:
    """Whether both name a server in common, by whatever name."""
    if left is right:
        return True
    return not (await _addresses(left)).isdisjoint(await _addresses(right))


async def _addresses(client: Client) -> set[tuple[str, int]]:
    loop = asyncio.get_running_loop()
    found: set[tuple[str, int]] = set()
    for address in client.settings.addresses:
        found.add((address.host, address.port))
        try:
            infos = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError:
            # It is connected to another server, then.
            continue
        found.update((str(info[4][0]), address.port) for info in infos)
    return found
