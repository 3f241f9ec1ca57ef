"""Watches that clients set, what they were told, and whether that is exactly what they should have been told.

A watch owes its client each change that comes after it was set, in order, once, and before any reply that shows the
change. What happens while the connection is away is another matter: a one-shot watch then tells of it with the next
connection, without a zxid; a lasting one never tells of it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from corral.client.states import State as ClientState
from corral.client.watches import EventKind
from corral.simulation.model import RESERVED, Change, parent_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from corral.client import Client
    from corral.client.watches import WatchEvent
    from corral.simulation.model import Model

_NEVER = 1 << 63


class Told(NamedTuple):
    """An event that a client got. ``number`` tells when, ``committed`` what was the newest transaction then."""

    number: int
    event: WatchEvent
    committed: int


@dataclass(slots=True)
class Watched:
    """A watch, from the moment at which its client knows that it is set."""

    kind: str
    """``data``, ``exists``, ``children``; ``persistent``, ``recursive``."""
    path: str
    number: int = 0
    since: int = -1
    """Changes after this zxid are owed; -1: it was never set."""
    up_to: int = -1
    """For ``exists``: it was set at some moment from ``since`` to this one, when there was no such znode."""
    told: list[Told] = field(default_factory=list)


class _Resumption(NamedTuple):
    """A connection after the first one: when, and the newest zxid that the client knew of."""

    number: int
    seen: int


class _Reply(NamedTuple):
    """What a client knew of when it had a reply, and when it had asked."""

    number: int
    zxid: int
    asked: int


class Diary:
    """What one client was told, and in which order, while its first session lasted."""

    def __init__(self, name: str, committed: Callable[[], int]) -> None:
        """``committed`` tells the newest committed transaction of all."""
        self.name = name
        self._committed = committed
        self.number = 0
        self.watches: list[Watched] = []
        self.replies: list[_Reply] = []
        self.resumptions: list[_Resumption] = []
        self._seen_at_break = 0
        self._was_connected = False
        self._is_over = False

    def __repr__(self) -> str:
        return f"<Diary of {self.name}: {len(self.watches)} watches>"

    def follow(self, zk: Client) -> None:
        """Note what happens to the client's connection."""

        def changed(state: ClientState) -> None:
            self.number += 1
            if state is ClientState.SUSPENDED:
                self._seen_at_break = zk.last_zxid
            elif state is ClientState.CONNECTED and self._was_connected:
                self.resumptions.append(_Resumption(self.number, self._seen_at_break))
            elif state is ClientState.LOST:
                self._is_over = True
            self._was_connected = True

        changed(zk.state)
        zk.on_state(changed)

    def replied(self, asked: int, zxid: int) -> None:
        """The client has the reply to what it asked when ``number`` was ``asked``, and knows of ``zxid``."""
        self.number += 1
        if not self._is_over:
            newest = self.replies[-1].zxid if self.replies else 0
            self.replies.append(_Reply(self.number, max(newest, zxid), asked))

    def watch(self, kind: str, path: str) -> tuple[Watched, Callable[[WatchEvent], None]]:
        """A watch that is about to be set, and what is to be called with its events."""
        watched = Watched(kind, path)

        def took(event: WatchEvent) -> None:
            self.number += 1
            if not self._is_over and event.kind not in (EventKind.MISSED, EventKind.LOST):
                watched.told.append(Told(self.number, event, self._committed()))

        return watched, took

    def is_set(self, watched: Watched, since: int, up_to: int = -1) -> None:
        """It is."""
        if not self._is_over:
            watched.since, watched.up_to = since, up_to
            watched.number = self.number
            self.watches.append(watched)

    # What came of it

    def complaints(self, model: Model) -> Iterator[str]:
        """Everything that is wrong with it."""
        for watched in self.watches:
            if watched.kind == "exists" and not _find_absence(watched, model):
                continue
            owed = list(_owed(watched, model))
            check = self._check_lasting if watched.kind in ("persistent", "recursive") else self._check_one_shot
            for what in check(watched, owed):
                yield f"{self.name} watches {watched.path} ({watched.kind}) since {watched.since:#x}: {what}"

    def _shown_at(self, zxid: int, after: int) -> int:
        """When a reply first showed a zxid to the client, of those that came after a number."""
        at = bisect_left(self.replies, zxid, key=lambda each: each.zxid)
        at = max(at, bisect_right(self.replies, after, key=lambda each: each.number))
        return self.replies[at].number if at < len(self.replies) else _NEVER

    def _gaps(self, watched: Watched) -> list[tuple[int, int, int]]:
        """Of each resumption since: its number, and after and up to which zxid changes may have been missed."""
        gaps = []
        for each in self.resumptions:
            if each.number > watched.number:
                reached = (reply.zxid for reply in self.replies if reply.asked >= each.number)
                gaps.append((each.number, each.seen, next(reached, _NEVER)))
        return gaps

    def _check_one_shot(self, watched: Watched, owed: Sequence[Change]) -> Iterator[str]:
        gaps = self._gaps(watched)
        first, may_be_missed = _first_owed(watched, owed, gaps)
        if len(watched.told) > 1:
            yield f"it was told more than once: {[each.event for each in watched.told[:2]]}"
        elif not watched.told:
            if first is not None and (shown := self._shown_at(first.zxid, watched.number)) < _NEVER:
                yield f"it was not told of {first}, which reply {shown} shows"
        else:
            possible = [*may_be_missed, *([] if first is None else [first])]
            yield from self._check_event(watched, possible, watched.told[0], gaps)

    def _check_event(
        self, watched: Watched, possible: Sequence[Change], told: Told, gaps: Sequence[tuple[int, int, int]]
    ) -> Iterator[str]:
        event = told.event
        if event.zxid < 0:
            if not any(number < told.number for number, _, _ in gaps):
                yield f"{event} without a zxid, and the connection was never away"
            elif not possible or possible[0].zxid > told.committed:
                yield f"{event}, but nothing has changed"
        elif (event.zxid, event.kind, event.path) not in possible:
            yield f"{event} instead of {possible}"
        elif self._shown_at(event.zxid, watched.number) < told.number:
            yield f"{event} comes after a reply that shows it"

    def _check_lasting(self, watched: Watched, owed: Sequence[Change]) -> Iterator[str]:
        gaps = self._gaps(watched)
        places: defaultdict[Change, list[int]] = defaultdict(list)
        for index, each in enumerate(owed):
            places[each].append(index)
        got: dict[int, Told] = {}
        last = -1
        for told in watched.told:
            event = told.event
            # What a one-shot watch of the same znode is told of the time in between is told to all.
            if event.zxid <= watched.since or event.path.startswith(RESERVED):
                continue
            found = [at for at in places[Change(event.zxid, event.kind, event.path)] if at > last]
            if not found:
                yield f"{event}, which has not happened, or is told twice, or not in order"
                return
            last = found[0]
            got[last] = told
        for index, each in enumerate(owed):
            if any(after < each.zxid <= up_to for _, after, up_to in gaps):
                continue
            shown = self._shown_at(each.zxid, watched.number)
            if index not in got:
                if shown < _NEVER or index < last:
                    yield f"it was not told of {each}"
                    return
            elif shown < got[index].number:
                yield f"{got[index].event} comes after a reply that shows it"
                return


def _first_owed(
    watched: Watched, owed: Sequence[Change], gaps: Sequence[tuple[int, int, int]]
) -> tuple[Change | None, list[Change]]:
    """What a one-shot watch must tell of, and what came before that and need not be noticed.

    That is so of a creation that was waited for, if the znode came and went while the connection was away.
    """
    if watched.kind != "exists":
        return (owed[0] if owed else None), []
    missed: list[Change] = []
    for index, each in enumerate(owed):
        if each.kind is EventKind.CREATED:
            gone = next((later.zxid for later in owed[index:] if later.kind is EventKind.DELETED), _NEVER)
            if not any(after < each.zxid and gone <= up_to for _, after, up_to in gaps):
                return each, missed
            missed.append(each)
    return None, missed


def _find_absence(watched: Watched, model: Model) -> bool:
    """Find out when it was that the znode was not there; False if there is more than one such time."""
    past = model.pasts[watched.path]
    gone = [
        each.zxid
        for each in past.changes
        if each.kind is EventKind.DELETED and watched.since < each.zxid <= watched.up_to
    ]
    if past.at(watched.since).stat is None:
        return not gone
    if len(gone) == 1:
        watched.since = gone[0]
    return len(gone) == 1


def _owed(watched: Watched, model: Model) -> Iterator[Change]:
    """What such a watch tells, if nothing goes wrong."""
    path = watched.path
    past = model.pasts[path]
    match watched.kind:
        case "data" | "exists":
            yield from (each for each in past.changes if each.zxid > watched.since)
        case "children":
            ends = [each for each in past.changes if each.kind is EventKind.DELETED]
            listed = [Change(each.zxid, EventKind.CHILDREN_CHANGED, path) for each in past.children]
            yield from sorted((each for each in (*ends, *listed) if each.zxid > watched.since), key=_zxid_of)
        case "persistent":
            for each in model.changes_between(watched.since, _NEVER):
                if each.path == path:
                    yield each
                if each.kind is not EventKind.DATA_CHANGED and parent_of(each.path) == path:
                    yield Change(each.zxid, EventKind.CHILDREN_CHANGED, path)
        case _:
            below = "/" if path == "/" else f"{path}/"
            for each in model.changes_between(watched.since, _NEVER):
                if each.path == path or each.path.startswith(below):
                    yield each


def _zxid_of(change: Change) -> int:
    return change.zxid
