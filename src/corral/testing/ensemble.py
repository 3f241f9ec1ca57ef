"""The handle by which a test holds a real ensemble; see :class:`Ensemble`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from corral.server.config.membership import PeerAddress
from corral.testing import ensemble_control
from corral.testing.errors import ServerError
from corral.testing.handling import aside, close_unless_forked
from corral.testing.in_child import ChildBackend
from corral.testing.in_thread import ANSWER_LIMIT_S, ThreadBackend
from corral.testing.network import Network
from corral.testing.ports import hold_free_port
from corral.testing.server import State
from corral.testing.settings import build_config

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from types import TracebackType

    from corral.server.config import ServerConfig
    from corral.testing.control import SessionInfo
    from corral.testing.ensemble_control import Standing
    from corral.testing.settings import Setting

ENSEMBLE_DEFAULTS: Final[Mapping[str, str]] = {
    "initLimit": "100",
    # By the tick of 100 ms, who is silent is lost in a second.
    "syncLimit": "10",
    "standaloneEnabled": "false",
    # An observer that was up before the others need not wait long for them.
    "fastleader.minNotificationInterval": "25",
}
"""Beside :data:`~corral.testing.settings.TEST_DEFAULTS`."""
_HOST: Final = "127.0.0.1"
_POLL_INTERVAL_S: Final = 0.002
_UP: Final = (State.RUNNING, State.PAUSED)


class _Member:
    def __init__(self, config: ServerConfig, backend: ThreadBackend | ChildBackend) -> None:
        self.config = config
        self.backend = backend
        self.state = State.NEW


class Ensemble:
    """A real ensemble for tests, on free ports of this machine and with its data in a temporary directory::

        with Ensemble(3) as ensemble:                  # or: async with Ensemble(3) as ensemble:
            client = KazooClient(ensemble.address)
            ensemble.kill(ensemble.leader())

    The members have the numbers 1 to ``servers``; observers come after them. They run in this process, each on a thread
    and an event loop of its own, or with ``in_process=False`` in child processes. What they tell each other passes
    through a relay in this process, which can be cut: :meth:`partition`.

    Methods return when what they say has happened, but do not wait for an election, except :meth:`start`,
    :meth:`leader` and :meth:`wait_until_serving`. An ensemble is to be used by one thread at a time.
    """

    def __init__(
        self,
        servers: int = 3,
        *,
        observers: int = 0,
        in_process: bool = True,
        properties: Mapping[str, str] | None = None,
        **settings: Setting,
    ) -> None:
        """Prepare an ensemble; nothing runs yet.

        Args:
            servers: how many vote.
            observers: how many more only follow.
            in_process: whether the members run in this process rather than in children.
            properties: settings of all members as in ``zoo.cfg``; what is unknown there is warned of in the log.
            settings: settings by name, as for :class:`~corral.testing.Server`.

        Raises:
            ConfigError: a setting is unknown or its value is refused.
            ValueError: there are no servers, or fewer than no observers.
        """
        if servers < 1 or observers < 0:
            raise ValueError(f"{servers} servers and {observers} observers are no ensemble")
        self._voters = range(1, servers + 1)
        self._is_closed = False
        self._has_started = False
        with contextlib.ExitStack() as resources:
            directory = Path(tempfile.mkdtemp(prefix="corral-"))
            resources.callback(shutil.rmtree, directory, ignore_errors=True)
            sids = range(1, servers + observers + 1)
            own = {
                sid: PeerAddress(_HOST, *(resources.enter_context(hold_free_port(_HOST)) for _ in range(2)))
                for sid in sids
            }
            self._network = Network(_HOST)
            resources.callback(self._network.close)
            seen = self._network.open(own)
            lines = {
                f"server.{sid}": f"{_HOST}:{seen[sid].quorum_port}:{seen[sid].election_port}"
                f":{'participant' if sid in self._voters else 'observer'}"
                for sid in sids
            }
            given = {**ENSEMBLE_DEFAULTS, **(properties or {}), **lines}
            self._members: dict[int, _Member] = {}
            for sid in sids:
                data_dir = directory / str(sid)
                data_dir.mkdir()
                (data_dir / "myid").write_text(f"{sid}\n")
                port = resources.enter_context(hold_free_port(_HOST))
                config = build_config(data_dir, _HOST, port, given, settings)
                quorum = dataclasses.replace(config.quorum, listens_at=(own[sid],))
                backend = ThreadBackend() if in_process else ChildBackend()
                resources.callback(backend.kill)
                self._members[sid] = _Member(dataclasses.replace(config, quorum=quorum), backend)
            self._resources = resources.pop_all()
        self._owner_pid = os.getpid()
        # Also for one that nobody closes: when it is collected, or the interpreter ends.
        self._finalizer = weakref.finalize(self, close_unless_forked, self._owner_pid, self._resources)

    def __repr__(self) -> str:
        states = ", ".join(f"{sid} {member.state.value}" for sid, member in self._members.items())
        return f"<corral.testing.Ensemble {states}>"

    # Where it is

    @property
    def address(self) -> str:
        """``host:port,host:port,...`` of all members, as clients want it."""
        return ",".join(self.addresses.values())

    @property
    def addresses(self) -> dict[int, str]:
        """``host:port`` for clients of each member, by its number."""
        return {sid: f"{_HOST}:{member.config.client_port}" for sid, member in self._members.items()}

    @property
    def voters(self) -> tuple[int, ...]:
        """The numbers of those who vote."""
        return tuple(self._voters)

    @property
    def observers(self) -> tuple[int, ...]:
        """The numbers of those who only follow."""
        return tuple(sid for sid in self._members if sid not in self._voters)

    def state(self, sid: int) -> State:
        """Where a member is in its life, by what it was told to do."""
        return self._member(sid).state

    def config(self, sid: int) -> ServerConfig:
        """All settings of a member."""
        return self._member(sid).config

    # Life

    def start(self) -> Self:
        """Start all members; returns once there is a leader and all serve.

        Raises:
            StartError: one of them cannot start.
            ServerError: there is no leader within half a minute, or the ensemble has been started before.
        """
        if self._is_closed or self._has_started:
            raise ServerError(f"{self!r} has been {'closed' if self._is_closed else 'started'} already")
        self._has_started = True
        with ThreadPoolExecutor(len(self._members)) as starters:
            list(starters.map(self._start, self._members.values()))
        self.wait_until_serving()
        return self

    def close(self) -> None:
        """Stop all members, and remove the temporary directory. That is the end; closing again does nothing."""
        if self._is_closed or os.getpid() != self._owner_pid:
            return
        self._is_closed = True
        try:
            for member in self._members.values():
                if member.state is State.PAUSED:
                    member.backend.resume()
                if member.state in _UP:
                    member.state = State.CLOSED
                    member.backend.stop()
        finally:
            self._finalizer.detach()
            self._resources.close()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        try:
            await aside(self.start)
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await aside(self.close)

    # Trouble

    def stop(self, sid: int) -> None:
        """Stop a member cleanly, as SIGTERM does."""
        member = self._expect(sid, *_UP, to="stop")
        if member.state is State.PAUSED:
            member.backend.resume()
        member.state = State.STOPPED
        member.backend.stop()

    def kill(self, sid: int) -> None:
        """End a member as a crash does; a child process gets SIGKILL."""
        member = self._expect(sid, *_UP, to="kill")
        member.state = State.KILLED
        member.backend.kill()

    def restart(self, sid: int) -> None:
        """Stop a member, if it is up, and start it again on its data; returns once it takes part."""
        member = self._expect(sid, *_UP, State.STOPPED, State.KILLED, to="restart")
        if member.state in _UP:
            self.stop(sid)
        self._start(member)

    def pause(self, sid: int) -> None:
        """Let a member do nothing until :meth:`resume`; its connections stay. A child process gets SIGSTOP."""
        member = self._expect(sid, State.RUNNING, to="pause")
        member.backend.pause()
        member.state = State.PAUSED

    def resume(self, sid: int) -> None:
        """Let a member go on after :meth:`pause`."""
        member = self._expect(sid, State.PAUSED, to="resume")
        member.backend.resume()
        member.state = State.RUNNING

    def partition(self, *groups: Collection[int]) -> None:
        """Cut the network between members: only those in one group reach each other. It replaces the last partition.

        Members that are in no group are one more group together: ``partition({1})`` is enough to cut server 1 off.
        Nothing is closed: what crosses the cut is silently held back, and arrives after :meth:`heal`. Clients reach all
        members all the time.

        Raises:
            ValueError: a member is in two groups, or is none.
        """
        named = [sid for group in groups for sid in group]
        for sid in named:
            self._member(sid)
            if named.count(sid) > 1:
                raise ValueError(f"server {sid} is in two groups")
        self._network.partition([frozenset(group) for group in groups], self._members)

    def heal(self) -> None:
        """Let all members reach each other again."""
        self._network.heal()

    def expire_session(self, session_id: int) -> None:
        """End a session as if its client had not been heard of in time.

        Raises:
            SessionNotFoundError: neither does the leader know such a session, nor is it a local one of another member.
            ServerError: there is no leader.
        """
        at = leader = self.leader()
        if not self._knows(leader, session_id):
            at = next((sid for sid in self._members if self._knows(sid, session_id)), leader)
        self._members[at].backend.call(ensemble_control.expire_session, session_id)

    def _knows(self, sid: int, session_id: int) -> bool:
        is_asked = self._members[sid].state is State.RUNNING and self.standing(sid).mode is not None
        return is_asked and any(each.id == session_id for each in self.sessions(sid))

    # Looking inside

    def standing(self, sid: int) -> Standing:
        """Whether a running member leads, follows or observes, and how far it has come."""
        return self._expect(sid, State.RUNNING, to="ask").backend.call(ensemble_control.standing)

    def sessions(self, sid: int) -> list[SessionInfo]:
        """The live sessions, as a running member knows them."""
        return self._expect(sid, State.RUNNING, to="list the sessions of").backend.call(ensemble_control.sessions)

    def tree(self, sid: int) -> dict[str, bytes | None]:
        """The data of all znodes of a running member by their paths, sorted; without what every server has."""
        return self._expect(sid, State.RUNNING, to="read the tree of").backend.call(ensemble_control.tree)

    def leader(self, *among: int) -> int:
        """The number of the member, ``among`` these if any are given, that leads and serves; waits until there is one.

        Of two, one of which has been cut off and does not know it yet, it is the one of the newer epoch. After a
        partition ask for the leader among the majority: the old one may not have noticed.

        Raises:
            ServerError: there is none within half a minute.
        """

        def leading(standings: Mapping[int, Standing]) -> Iterable[int]:
            return [sid for sid in among or standings if sid in standings and standings[sid].mode == "leader"]

        found = self._wait(leading, "no leader")
        return max(found, key=lambda sid: found[sid].epoch)

    def wait_until_serving(self, *sids: int) -> None:
        """Wait until these members, or all that run, serve clients by one leader's epoch.

        Raises:
            ServerError: they do not within half a minute.
        """
        wanted = set(sids)

        def together(standings: Mapping[int, Standing]) -> Iterable[int]:
            asked = wanted or set(standings)
            served = [sid for sid in asked if sid in standings and standings[sid].mode is not None]
            return served if len(served) == len(asked) and len({standings[s].epoch for s in served}) == 1 else ()

        self._wait(together, "not all serve")

    def _wait(self, choose: Callable[[Mapping[int, Standing]], Iterable[int]], complaint: str) -> dict[int, Standing]:
        """The standings of those that ``choose`` finds among the running members, once it finds any."""
        give_up_at = time.monotonic() + ANSWER_LIMIT_S
        while True:
            standings = {sid: self.standing(sid) for sid, each in self._members.items() if each.state is State.RUNNING}
            found = {sid: standings[sid] for sid in choose(standings)}
            if found:
                return found
            if time.monotonic() > give_up_at:
                raise ServerError(f"{complaint} within {ANSWER_LIMIT_S:.0f} s: {standings}")
            time.sleep(_POLL_INTERVAL_S)

    def _start(self, member: _Member) -> None:
        member.backend.start(member.config)
        member.state = State.RUNNING

    def _member(self, sid: int) -> _Member:
        if sid not in self._members:
            raise ValueError(f"there is no server {sid}; there are {', '.join(map(str, self._members))}")
        return self._members[sid]

    def _expect(self, sid: int, *states: State, to: str) -> _Member:
        member = self._member(sid)
        if self._is_closed or member.state not in states:
            raise ServerError(f"cannot {to} server {sid}: it is {member.state.value}")
        return member
