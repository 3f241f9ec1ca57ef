"""What must be true when all is over: of what clients were told, and of what the members hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import corral
from corral.client.results import Stat
from corral.client.watches import EventKind
from corral.simulation.invariants import Invariant
from corral.simulation.model import RESERVED
from corral.simulation.workload import MEMBERS
from corral.tree.znode import STAT, STAT_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corral.simulation.invariants import Broke
    from corral.simulation.machine import Member
    from corral.simulation.model import Model, State
    from corral.simulation.workload import Read, Testimony, Write


def check_history(model: Model, testimony: Testimony, broke: Broke) -> None:
    """What clients were told must be what the history says; nothing is checked if a part of that is not known."""
    if not model.is_whole:
        return
    for invariant, found in (
        (Invariant.ACKNOWLEDGED, _check_writes(model, testimony.writes)),
        (Invariant.REAL_TIME, _check_real_time(model, testimony.writes)),
        (Invariant.CLIENT_ORDER, _check_client_order(model, testimony.writes)),
        (Invariant.REFUSAL, _check_refusals(model, testimony.writes)),
        (Invariant.READ, _check_reads(model, testimony.reads)),
        (Invariant.EPHEMERAL, _check_ephemerals(model)),
        (Invariant.WATCH, (each for diary in testimony.diaries for each in diary.complaints(model))),
    ):
        for each in found:
            broke(invariant, each)


def _zxids_of(model: Model, write: Write) -> list[int]:
    """With which transactions a write was done; of a deletion, whoever may have asked for it."""
    if write.data is not None:
        return sorted({zxid for zxid, _ in model.written.get(write.data, ())})
    (path,) = write.paths
    return [each.zxid for each in model.pasts[path].changes if each.kind is EventKind.DELETED]


def _check_writes(model: Model, writes: Iterable[Write]) -> Iterator[str]:
    """Each acknowledged write was done once, as its answer says; the others at most once, or not at all."""
    taken: dict[str, str] = {}
    for each in writes:
        zxids = _zxids_of(model, each)
        what = f"{each.client}'s {each.kind} of {', '.join(each.paths)} with {each.data!r}"
        if len(zxids) > 1:
            yield f"{what} was done with {zxids[0]:#x} and once more with {zxids[1]:#x}"
        elif not each.is_done:
            if zxids and each.data is not None and (each.is_answered or not each.was_sent):
                yield f"{what} was done with {zxids[0]:#x}, and its client was told that it was not"
        elif not zxids:
            yield f"{what} was acknowledged and is lost"
        elif not each.seen < zxids[0] <= each.committed:
            yield f"{what} was done with {zxids[0]:#x}, which is not between {each.seen:#x} and {each.committed:#x}"
        elif each.data is None:
            (path,) = each.paths
            if path in taken:
                yield f"{what} was acknowledged to {taken[path]}, too"
            taken[path] = each.client
        for path, stat in zip(each.paths, each.stats, strict=False):
            if stat != model.pasts[path].at(stat.mzxid).stat:
                yield f"{what} was answered by {stat}"
            elif each.version is not None and stat.version != each.version + 1:
                yield f"{what} was to be done for version {each.version} only, and made {stat.version}"


def _check_real_time(model: Model, writes: Iterable[Write]) -> Iterator[str]:
    """What begins after something was acknowledged comes after it, acknowledged or not."""
    events: list[tuple[float, bool, int, Write]] = []
    for each in writes:
        zxids = _zxids_of(model, each)
        if not zxids or (each.data is None and not each.is_done):
            continue
        events.append((each.begun_at, True, zxids[0], each))
        if each.is_done:
            events.append((each.ended_at, False, zxids[0], each))
    newest = 0
    for _, begins, zxid, each in sorted(events, key=lambda event: event[:3]):
        if not begins:
            newest = max(newest, zxid)
        elif zxid <= newest:
            yield f"{each.client}'s write {zxid:#x} began after {newest:#x} was acknowledged"


def _check_client_order(model: Model, writes: Iterable[Write]) -> Iterator[str]:
    """What a session asks for first is done first, acknowledged or not."""
    newest: dict[int, int] = {}
    for each in writes:
        zxids = _zxids_of(model, each)
        if not zxids or not each.session or (each.data is None and not each.is_done):
            continue
        if zxids[0] <= newest.get(each.session, 0):
            yield f"{each.client}'s write {zxids[0]:#x} was asked for after {newest[each.session]:#x}"
        newest[each.session] = max(zxids[0], newest.get(each.session, 0))


def _check_refusals(model: Model, writes: Iterable[Write]) -> Iterator[str]:
    """It was as the refusal says."""
    for each in writes:
        if each.error is None:
            continue
        states = [state for path in each.paths for state in model.pasts[path].between(each.seen, each.committed)]
        if not any(_explains(state, each) for state in states):
            yield f"{each.client} could not {each.kind} {', '.join(each.paths)} (version {each.version}): {each.error}"


def _explains(state: State, write: Write) -> bool:
    error = write.error.__cause__ if isinstance(write.error, corral.TransactionError) else write.error
    match error:
        case corral.NoNodeError():
            return state.stat is None or write.kind == "create"
        case corral.NodeExistsError():
            return state.stat is not None
        case corral.BadVersionError():
            return state.stat is not None and state.stat.version != write.version
        case _:
            return False


def _check_reads(model: Model, reads: Iterable[Read]) -> Iterator[str]:
    """What was read was so at a moment after what the reader knew of, and it was committed by then."""
    for each in reads:
        if not each.is_answered:
            continue
        if 0 < each.as_of < each.seen:
            yield (
                f"{each.client} must not miss {each.seen:#x} and read {each.path} from a server that was at"
                f" {each.as_of:#x}, at {each.ended_at:.6f}"
            )
        past = model.pasts[each.path]
        who = f"{each.client} had seen {each.seen:#x}"
        if each.stat is None:
            if all(state.stat is not None for state in past.between(each.seen, each.committed)):
                yield f"{who} and did not find {each.path} at {each.ended_at:.6f}"
            continue
        state, since, up_to = model.state_of(each.path, each.stat)
        if state is None or state.stat != each.stat or (each.data is not None and state.data != each.data):
            yield f"{each.client} read {each.stat} and {each.data!r} from {each.path}, which never was so"
        elif each.names is not None and each.names != past.names_at(since):
            yield f"{each.client} found {sorted(each.names)} in {each.path}, which never was so"
        elif up_to < each.seen:
            yield f"{who} and read {each.path} as of {since:#x} to {up_to:#x}, which is older, at {each.ended_at:.6f}"
        elif since > each.committed:
            yield f"{each.client} read {each.path} as of {since:#x}, when {each.committed:#x} was committed"


def _check_ephemerals(model: Model) -> Iterator[str]:
    """Nobody but a session's end deletes what sessions have made: no client asks for it."""
    ends = set(model.ended.values())
    for each in model.pasts[MEMBERS].children:
        if each.kind is EventKind.DELETED and each.zxid not in ends:
            yield f"{each.path} is deleted with {each.zxid:#x}, which ends no session"


def check_replicas(members: Iterable[Member], model: Model, broke: Broke) -> None:
    """All members hold the same, and what the history leads to."""
    expected = {path: past.now for path, past in model.pasts.items() if past.now.stat is not None}
    first: tuple[Member, dict[str, bytes], dict[int, int]] | None = None
    for member in members:
        assert member.peer is not None
        tree = member.peer.history.tree
        held = {path.decode() or "/": node.refreshed() for path, node in tree.walk()}
        first = first or (member, held, tree.sessions)
        differing = [path for path in held.keys() | first[1].keys() if held.get(path) != first[1].get(path)]
        if differing or tree.sessions != first[2]:
            broke(Invariant.REPLICAS, f"{member!r} and {first[0]!r} differ in {sorted(differing)[:3]}")
        if not model.is_whole:
            continue
        own = {path: body for path, body in held.items() if not path.startswith(RESERVED)}
        wrong = [path for path in own.keys() | expected.keys() if not _agrees(own.get(path), expected.get(path))]
        if wrong or tree.sessions != model.sessions:
            broke(Invariant.REPLICAS, f"{member!r} holds what the history does not lead to: {sorted(wrong)[:3]}")
        kept = {session: {path.decode() for path in paths} for session, paths in tree.ephemerals.items() if paths}
        if kept != {session: set(paths) for session, paths in model.ephemerals.items() if paths}:
            broke(Invariant.REPLICAS, f"{member!r} counts other ephemeral znodes than there are: {kept}")


def _agrees(body: bytes | None, state: State | None) -> bool:
    if body is None or state is None:
        return body is None and state is None
    return Stat(*STAT.unpack(body[-STAT_SIZE:])) == state.stat and body[4:-STAT_SIZE] == state.data
