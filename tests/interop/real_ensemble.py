"""Ensembles whose members are processes, to be killed, stopped, cut off and started again.

Members are made in threads of their own only by `subprocess`; everything here is called by the test's one thread.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Final, Self

from tests.interop.disks import SmallDisk
from tests.interop.peers import STOP_LIMIT_S, CorralServer, Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from tests.interop.networks import Loopback, Namespaces

BACK_LIMIT_S: Final = 90.0
"""Until all members serve again, on a busy machine: reaching it is a failure."""
LOOK_S: Final = 0.05
ANSWER_LIMIT_S: Final = 1.0
"""Of a member that may be paused or cut off."""
SETTINGS: Final[Mapping[str, str | int]] = {
    "tickTime": 500,
    "initLimit": 20,
    "syncLimit": 6,
    "maxClientCnxns": 0,
    "snapCount": 4000,
    "preAllocSize": 1024,
}
PURGING: Final[Mapping[str, str | int]] = {**SETTINGS, "autopurge.purgeInterval": "20s"}
"""So that small disks suffice. Apache's servers know hours only."""


class RealEnsemble:
    """One member for each place of the network, on a small disk of its own if `disk_mb` is not 0."""

    def __init__(
        self,
        directory: Path,
        network: Loopback | Namespaces,
        *,
        kind: type[Server] = CorralServer,
        settings: Mapping[str, str | int] = PURGING,
        disk_mb: int = 0,
    ) -> None:
        self.network = network
        self.sids = list(network.places)
        self._directory = directory
        self._settings = {
            **settings,
            **{
                f"server.{sid}": f"{place.host}:{place.quorum_port}:{place.election_port}"
                for sid, place in network.places.items()
            },
        }
        self._disk_mb = disk_mb
        self.disks: dict[int, SmallDisk] = {}
        self._paused: set[int] = set()
        self.members = {sid: self._member(sid, kind) for sid in self.sids}

    def _member(self, sid: int, kind: type[Server]) -> Server:
        place = self.network.places[sid]
        data = self._directory / f"member-{sid}"
        return kind(data, self._settings, port=place.client_port, host=place.host, within=place.within)

    def become(self, sid: int, kind: type[Server]) -> None:
        """The next start of this member, which does not run, is of that kind of server, on the same directory."""
        assert not self.members[sid].running
        self.members[sid] = self._member(sid, kind)

    @property
    def address(self) -> str:
        """Of all members, for any client."""
        return ",".join(member.address for member in self.members.values())

    def __enter__(self) -> Self:
        try:
            for sid, member in self.members.items():
                if self._disk_mb:
                    self.disks[sid] = SmallDisk(member.data_dir, self._disk_mb)
                member.data_dir.mkdir(parents=True, exist_ok=True)
                (member.data_dir / "myid").write_text(str(sid))
            self.start(*self.sids)
            self.wait_until_all_serve()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.report())
        self._end()

    def _end(self) -> None:
        for member in self.members.values():
            member.kill()
        while self.disks:
            self.disks.popitem()[1].remove()

    def report(self) -> str:
        """What the members are, and the ends of what they have printed."""
        parts = []
        for sid, member in self.members.items():
            ending = "\n".join(member.log.splitlines()[-25:])
            parts.append(f"--- {sid}: {member!r} {self.mode(sid)}\n{ending}")
        return "\n".join(parts)

    # Faults

    def start(self, *sids: int) -> None:
        for sid in sids:
            self.members[sid].begin()

    def kill(self, *sids: int) -> None:
        """All at once, as `kill -9` does it."""
        for sid in sids:
            os.kill(self.members[sid].pid, signal.SIGKILL)
        for sid in sids:
            self.members[sid].kill()

    def pause(self, *sids: int) -> None:
        for sid in sids:
            os.kill(self.members[sid].pid, signal.SIGSTOP)
            self._paused.add(sid)

    def resume(self, *sids: int) -> None:
        for sid in sids:
            os.kill(self.members[sid].pid, signal.SIGCONT)
            self._paused.discard(sid)

    # Looking

    def mode(self, sid: int) -> str:
        """``leader``, ``follower``, or ``""`` of one that does not serve."""
        if sid in self._paused or not self.members[sid].running:
            return ""
        try:
            answer = self.members[sid].four_letter_word("srvr", ANSWER_LIMIT_S)
        except OSError:
            return ""
        found = (line.removeprefix("Mode: ") for line in answer.splitlines() if line.startswith("Mode: "))
        return next(found, "")

    def leader(self, *among: int) -> int:
        """Waits for the one that leads, among these or all."""
        give_up_at = time.monotonic() + BACK_LIMIT_S
        while time.monotonic() < give_up_at:
            for sid in among or self.sids:
                if self.mode(sid) == "leader":
                    return sid
            time.sleep(LOOK_S)
        raise AssertionError(f"nobody leads after {BACK_LIMIT_S} s\n{self.report()}")

    def followers(self, leader: int) -> list[int]:
        """The others."""
        return [sid for sid in self.sids if sid != leader]

    def wait_until_all_serve(self, may_end: Iterable[int] = ()) -> None:
        """Waits until one leads and all others follow. A member that has ended by itself is a failure.

        Those that `may_end` are started again, once.
        """
        may_end = set(may_end)
        give_up_at = time.monotonic() + BACK_LIMIT_S
        wanted = ["follower"] * (len(self.sids) - 1) + ["leader"]
        while sorted(modes := [self.mode(sid) for sid in self.sids]) != wanted:
            ended = {sid for sid in self.sids if not self.members[sid].running}
            assert ended <= may_end, f"members {ended} have ended\n{self.report()}"
            self.start(*ended)
            may_end -= ended
            assert time.monotonic() < give_up_at, f"{modes} after {BACK_LIMIT_S} s\n{self.report()}"
            time.sleep(LOOK_S)

    def wait_until_ended(self, sids: Iterable[int], number: int, limit_s: float = STOP_LIMIT_S) -> list[int]:
        """Waits until so many of these have ended by themselves, but not for longer; returns those that have."""
        sids = list(sids)
        give_up_at = time.monotonic() + limit_s
        while True:
            ended = [sid for sid in sids if not self.members[sid].running]
            if len(ended) >= number or time.monotonic() > give_up_at:
                return ended
            time.sleep(LOOK_S)
