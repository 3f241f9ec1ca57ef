"""One simulation from its seed to its verdict."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corral.quorum.ensemble import parse_ensemble
from corral.server.config import from_properties
from corral.simulation.administrator import Administrator
from corral.simulation.calm import Calm
from corral.simulation.checkers import check_history, check_replicas
from corral.simulation.faults import Nemesis
from corral.simulation.hearing import Hearing
from corral.simulation.invariants import Invariant
from corral.simulation.ledger import Ledger
from corral.simulation.loop import LivelockError, Loop, Timeline
from corral.simulation.machine import Member, server_line
from corral.simulation.network import Network
from corral.simulation.trace import LogsInTrace, ProtocolWatch, SyncWatch, Trace
from corral.simulation.wire import Wire
from corral.simulation.workload import Testimony, Worker
from corral.simulation.zab import Zab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corral.server.config import ServerConfig

TICK_MS: Final = 200
HEALING_S: Final = 60.0
"""In this time all must have converged once everything has healed."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated; with the seed it decides everything."""

    servers: int = 3
    """Voters."""
    observers: int = 0
    clients: int = 3
    seconds: float = 30.0
    """Virtual ones, in which things go wrong; the healing comes on top."""
    faults: bool = True
    kinds: tuple[str, ...] = ()
    """Which faults, by their names in :mod:`corral.simulation.faults`; drawn from the seed if none is named."""
    pause_s: float = 0.1
    """Between two requests of a client, on average."""
    reconfigures: bool = False
    """Whether members leave, join, and get other parts."""
    recent: int = 500
    """Transactions that a leader keeps in memory for learners that lack them."""
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def members(self) -> range:
        """The numbers of all members; observers come last."""
        return range(1, self.servers + self.observers + 1)


@dataclass(slots=True)
class Verdict:
    """How a simulation went."""

    seed: int
    scenario: Scenario
    violations: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    digest: str = ""
    """The same for two runs only if everything in them was the same."""
    transactions: int = 0
    epochs: int = 0
    acknowledged: int = 0
    reads: int = 0
    unknown: int = 0
    steps: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """How often what has been reached, see :attr:`corral.simulation.trace.Trace.counts`."""

    def __str__(self) -> str:
        outcome = "; ".join(self.violations[:3]) or "nothing wrong"
        return (
            f"seed {self.seed}: {outcome} ({self.epochs} epochs, {self.transactions} transactions,"
            f" {self.acknowledged} writes acknowledged, {self.unknown} unknown, {self.reads} reads)"
        )


class Simulation:
    """The parts, put together. :meth:`run` may be called once."""

    def __init__(
        self,
        seed: int,
        scenario: Scenario,
        directory: Path,
        show: Callable[[str], object] | None = None,
    ) -> None:
        self.seed = seed
        self.scenario = scenario
        self.timeline = Timeline()
        self.trace = Trace(self.timeline, directory, show)
        self.verdict = Verdict(seed, scenario)
        self.network = Network(self.timeline, self._chance("network"))
        self.zab = Zab(self.broke)
        self.ledger = Ledger(self.zab, self.broke)
        self.testimony = Testimony()
        ensemble = parse_ensemble(
            "\n".join(server_line(sid, votes=sid <= scenario.servers) for sid in scenario.members)
        )
        self.members = [
            Member(
                sid,
                ensemble,
                self._configuration(sid, directory),
                self.network.add(f"server-{sid}", f"10.0.0.{sid}"),
                directory / str(sid),
                self._chance(f"member {sid}"),
                self.trace,
                self.broke,
                self._stepped,
                self._member_ended,
                init_limit=20,
                sync_limit=5,
            )
            for sid in scenario.members
        ]
        at = {member.host.name: member for member in self.members}
        hearing, calm = Hearing(self.timeline, self.ledger.model, self.broke), Calm(self.timeline, self.broke)
        self.network.wire = Wire(at.get, (self.zab, hearing, calm))
        servers = ",".join(f"{member.host.address}:2181" for member in self.members)
        self.clients: list[Worker] = [
            Worker(
                self.network.add(f"client-{n}", f"10.0.1.{n}"),
                servers,
                self._chance(f"client {n}"),
                self.trace,
                self.testimony,
                lambda: self.ledger.last_zxid,
                self.broke,
                pause_s=scenario.pause_s,
                session_timeout_s=2.0 if n % 2 else 6.0,
            )
            for n in range(1, scenario.clients + 1)
        ]
        if scenario.reconfigures:
            administrator = Administrator(
                ensemble,
                self.members,
                host=self.network.add("admin", "10.0.2.1"),
                servers=servers,
                chance=self._chance("administrator"),
                trace=self.trace,
                testimony=self.testimony,
                committed=lambda: self.ledger.last_zxid,
                broke=self.broke,
                pause_s=scenario.pause_s,
                session_timeout_s=4.0,
            )
            self.clients.append(administrator)
        self.nemesis = Nemesis(
            self.timeline,
            self.network,
            ensemble,
            self.members,
            self.clients,
            self._chance("faults"),
            self.trace,
            self.zab.forget,
            scenario.kinds,
            members_change=scenario.reconfigures,
        )

    def _configuration(self, sid: int, directory: Path) -> ServerConfig:
        config = from_properties(
            {
                "dataDir": str(directory / str(sid)),
                "clientPort": "2181",
                "clientPortAddress": f"10.0.0.{sid}",
                "tickTime": str(TICK_MS),
                "snapCount": "60",
                "preAllocSize": "16",
                "maxClientCnxns": "0",
                **({"reconfigEnabled": "true", "skipACL": "yes"} if self.scenario.reconfigures else {}),
                **self.scenario.settings,
            }
        )
        # commitLogCount takes no fewer than 500, which few simulations get beyond.
        return replace(config, quorum=replace(config.quorum, recent_transactions=self.scenario.recent))

    def reaches_back(self, host: str) -> int:
        """The oldest zxid that the member on a host has in memory, to bring others into step."""
        for member in self.members:
            if member.host.name == host and member.peer is not None and member.peer.history.recent:
                return member.peer.history.recent[0][0]
        return 0

    def _chance(self, what: str) -> random.Random:
        return random.Random(f"{self.seed} {what}")

    @property
    def is_broken(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.verdict.violations)

    def broke(self, invariant: Invariant, what: str) -> None:
        """Something is wrong, and the simulation at its end."""
        what = f"{invariant}: {what}"
        self.trace.tell("VIOLATION", what)
        self.verdict.violations.append(what)

    def _stepped(self, member: Member) -> None:
        self.ledger.look(member)

    def _member_ended(self, member: Member) -> None:
        self.nemesis.restart_later(member)

    # The run

    def run(self) -> Verdict:
        """Let it all happen, up to the first violation."""
        scenario, timeline = self.scenario, self.timeline
        try:
            if scenario.faults:
                self.nemesis.start()
            for member in self.members:
                member.start()
            for client in self.clients:
                client.start()
            timeline.run(scenario.seconds, lambda: self.is_broken)
            if not self.is_broken:
                self._heal()
        except LivelockError as error:
            self.broke(Invariant.LIVENESS, str(error))
        except BaseException:
            # Nobody listens any more; the programs must end all the same.
            self.trace.hush()
            self._sum_up()
            raise
        self._sum_up()
        return self.verdict

    def _heal(self) -> None:
        self.nemesis.stop()
        for client in self.clients:
            client.stop()
        deadline = self.timeline.now + HEALING_S
        self.timeline.run(deadline, lambda: self.is_broken or self._has_converged())
        if self.is_broken:
            return
        if not self._has_converged():
            self.broke(Invariant.LIVENESS, f"{HEALING_S:g} s after everything has healed: {self._what_lacks()}")
            return
        self.trace.counts["history known in all its parts"] += self.ledger.model.is_whole
        check_replicas(self.members, self.ledger.model, self.broke)
        check_history(self.ledger.model, self.testimony, self.broke)

    def _has_converged(self) -> bool:
        return not self._what_lacks()

    def _what_lacks(self) -> str:
        for client in self.clients:
            if not client.is_over:
                return f"{client.host.name} is not done"
        for member in self.members:
            if member.peer is None or member.peer.server is None:
                return f"{member.host.name} does not serve"
            zxid = self.ledger.last_zxid
            tree = member.peer.history.tree
            if tree.last_zxid < zxid:
                return f"{member.host.name} is at {tree.last_zxid:#x}, not at {zxid:#x}"
            if tree.sessions:
                return f"session {next(iter(tree.sessions)):#x} has not ended on {member.host.name}"
        return ""

    def _sum_up(self) -> None:
        for member in self.members:
            if member.is_up:
                member.turn_off()
        for client in self.clients:
            if client.host.loop is not None:
                client.kill()
        verdict = self.verdict
        verdict.transactions = len(self.ledger.order)
        verdict.epochs = len(self.zab.leaders)
        verdict.acknowledged = self.testimony.acknowledged
        verdict.reads = sum(each.is_answered for each in self.testimony.reads)
        verdict.unknown = self.testimony.unknown
        verdict.steps = self.timeline.steps
        verdict.counts = self.trace.counts
        self.trace.tell(
            "end",
            f"{verdict.transactions} transactions ({self.ledger.sum():08x}), network {self.network.delivered:08x},"
            f" {verdict.acknowledged} writes, {verdict.reads} reads, {verdict.steps} steps",
        )
        verdict.trace = self.trace.lines
        verdict.digest = self.trace.digest


def simulate(
    seed: int,
    scenario: Scenario | None = None,
    *,
    show: Callable[[str], object] | None = None,
    with_logs: bool = False,
) -> Verdict:
    """Run one simulation. ``show`` gets each line of the trace at once, ``with_logs`` with what the servers log."""
    with tempfile.TemporaryDirectory(prefix="corral-simulation-") as directory:
        simulation = Simulation(seed, scenario or Scenario(), Path(directory), show)
        handlers: list[tuple[str, int, logging.Handler]] = [
            ("corral", logging.CRITICAL + 1, logging.NullHandler()),
            ("corral.client", logging.INFO, ProtocolWatch(simulation.broke)),
            (
                "corral.quorum.leader",
                logging.INFO,
                SyncWatch(simulation.trace, _current_process, simulation.reaches_back),
            ),
        ]
        if with_logs:
            handlers[0] = ("corral", logging.INFO, LogsInTrace(simulation.trace, _current_process))
        with contextlib.ExitStack() as stack:
            for name, level, handler in handlers:
                stack.enter_context(_listening(name, level, handler))
            # Cycles are collected when the counts say so, which is no part of the seed.
            stack.callback(gc.enable)
            gc.disable()
            return simulation.run()


@contextlib.contextmanager
def _listening(name: str, level: int, handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = (logger.level, logger.propagate)
    logger.setLevel(level)
    logger.propagate = name != "corral"
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def _current_process() -> str:
    loop = asyncio._get_running_loop()
    return loop.host.name if isinstance(loop, Loop) else ""
