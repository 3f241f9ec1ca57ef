"""What must be true when all is over, of the one history and of what clients were told."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from corral.jute.records import CloseSessionTxn, DeleteTxn, ErrorTxn, MultiTxn
from corral.simulation.invariants import Invariant
from corral.simulation.workload import QUEUE
from corral.storage.txnlog.entry import decode_entry, decode_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corral.simulation.invariants import Broke
    from corral.simulation.ledger import Ledger
    from corral.simulation.machine import Member
    from corral.simulation.workload import Testimony, Written


class Chronicle:
    """What the history did to each znode: zxids in order, and the data from then on (None: it was deleted)."""

    def __init__(self, ledger: Ledger) -> None:
        self.zxids: dict[str, list[int]] = defaultdict(list)
        self.data: dict[str, list[bytes | None]] = defaultdict(list)
        self.is_whole = all(zxid in ledger.entries for zxid in ledger.order)
        for zxid in ledger.order:
            for path, data in _changes(ledger.entries.get(zxid, b"")):
                self.zxids[path].append(zxid)
                self.data[path].append(data)


def _changes(entry: bytes) -> Iterator[tuple[str, bytes | None]]:
    if not entry:
        return
    record: Any = decode_entry(entry).record
    if isinstance(record, MultiTxn):
        for _, part in decode_parts(record):
            yield from _changes_of(part)
    elif record is not None:
        yield from _changes_of(record)


def _changes_of(record: Any) -> Iterator[tuple[str, bytes | None]]:
    if isinstance(record, CloseSessionTxn):
        for path in record.paths_to_delete or ():
            yield _text(path), None
    elif isinstance(record, DeleteTxn):
        yield _text(record.path), None
    elif hasattr(record, "data") and not isinstance(record, ErrorTxn):
        yield _text(record.path), bytes(record.data or b"")


def _text(path: Any) -> str:
    return path.decode() if isinstance(path, bytes) else str(path)


def check_history(ledger: Ledger, testimony: Testimony, broke: Broke) -> None:
    """Everything that is wrong with what clients were told."""
    chronicle = Chronicle(ledger)
    if not chronicle.is_whole:
        return
    for invariant, found in (
        (Invariant.ACKNOWLEDGED, _check_acknowledged(chronicle, testimony)),
        (Invariant.REAL_TIME, _check_real_time(testimony.writes)),
        (Invariant.SEQUENCE, _check_sequence(testimony.writes)),
        (Invariant.READ, _check_reads(chronicle, testimony)),
    ):
        for each in found:
            broke(invariant, each)


def _check_acknowledged(chronicle: Chronicle, testimony: Testimony) -> Iterator[str]:
    """Nothing acknowledged is lost."""
    for each in testimony.writes:
        zxids = chronicle.zxids[each.path]
        at = bisect_left(zxids, each.zxid)
        if at == len(zxids) or zxids[at] != each.zxid or chronicle.data[each.path][at] != each.data:
            yield f"lost: {each.client} was told that {each.path} = {each.data!r} is written as {each.zxid:#x}"


def _check_real_time(writes: Iterable[Written]) -> Iterator[str]:
    """A write that begins after another was acknowledged comes after it."""
    events = sorted(
        [(each.begun_at, 1, each) for each in writes] + [(each.ended_at, 0, each) for each in writes],
        key=lambda event: (event[0], event[1], event[2].zxid),
    )
    newest = 0
    floor: dict[Written, int] = {}
    for _, begins, each in events:
        if begins:
            floor[each] = newest
        else:
            newest = max(newest, each.zxid)
            if each.zxid < floor.get(each, 0):
                yield f"{each.client}'s write {each.zxid:#x} began after {floor[each]:#x} was acknowledged"


def _check_sequence(writes: Iterable[Written]) -> Iterator[str]:
    """Numbers of sequential znodes grow with the history."""
    made = sorted((each.zxid, each.path) for each in writes if each.path.startswith(f"{QUEUE}/n-"))
    paths = [path for _, path in made]
    if paths != sorted(set(paths)):
        twice = next(path for before, path in zip(["", *paths], paths, strict=False) if path <= before)
        yield f"sequence: {twice} was given out twice, or not in order"


def _check_reads(chronicle: Chronicle, testimony: Testimony) -> Iterator[str]:
    """No client sees what is older than what it has seen; nobody sees what was never there."""
    for each in testimony.reads:
        zxids, data = chronicle.zxids[each.path], chronicle.data[each.path]
        if each.mzxid is None:
            latest = bisect_right(zxids, each.seen) - 1
            if latest >= 0 and all(later is not None for later in data[latest:]):
                yield f"{each.client} had seen {each.seen:#x} and did not find {each.path} at {each.ended_at:.6f}"
            continue
        at = bisect_left(zxids, each.mzxid)
        if at == len(zxids) or zxids[at] != each.mzxid or data[at] != each.data:
            yield f"{each.client} read {each.data!r} from {each.path}, which {each.mzxid:#x} did not write"
        elif at + 1 < len(zxids) and zxids[at + 1] <= each.seen:
            yield (
                f"{each.client} had seen {each.seen:#x} and read {each.path} as of {each.mzxid:#x},"
                f" older than {zxids[at + 1]:#x}, at {each.ended_at:.6f}"
            )


def check_replicas(members: Iterable[Member], broke: Broke) -> None:
    """All members hold the same, and nothing of a session that has ended."""
    first: tuple[Member, dict[bytes, bytes]] | None = None
    for member in members:
        assert member.peer is not None
        tree = member.peer.history.tree
        for session_id in tree.ephemerals:
            if session_id not in tree.sessions and tree.ephemerals[session_id]:
                broke(Invariant.REPLICAS, f"{member!r} has ephemerals of session {session_id:#x}, which has ended")
        held = {path: node.refreshed() for path, node in tree.nodes.items()}
        held[b"sessions"] = repr(sorted(tree.sessions.items())).encode()
        if first is None:
            first = (member, held)
        elif held != first[1]:
            other = first[1]
            differing = sorted(path for path in held.keys() | other.keys() if held.get(path) != other.get(path))
            broke(Invariant.REPLICAS, f"{member!r} and {first[0]!r} differ in {differing[:3]}")
