"""What goes wrong, and when: drawn from the seed. Everything that is broken is repaired again after a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corral.quorum.leader import Leader
from corral.simulation.damage import draw_damage
from corral.simulation.operations import Operator
from corral.storage.files import VERSION_DIRECTORY

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from corral.quorum.ensemble import Ensemble
    from corral.simulation.loop import Timeline
    from corral.simulation.machine import Member
    from corral.simulation.network import Network
    from corral.simulation.trace import Trace
    from corral.simulation.workload import Worker

MEAN_PAUSES_S: Final = (0.3, 0.8, 1.5, 4.0)
"""Between two faults: one of these in each simulation."""
KIND_LIKELIHOOD: Final = 0.6
"""How likely it is that a kind of fault happens at all in a simulation: with fewer kinds each gets further."""
LONGEST_S: Final = 6.0
"""Before what is broken is repaired."""
LARGEST_DRIFT: Final = 0.02
FILES: Final = ("acceptedEpoch", "currentEpoch", "snapshot", "log", "sync snapshot", "rename snapshot")
"""Kinds of files whose every step to durability is to be interrupted; and steps that come after many others."""

_LAST_START_S: Final = 10.0
"""After the healing, who has ended by what went wrong before is started once more."""


class Nemesis:
    """Draws faults from :meth:`start` to :meth:`stop`, which repairs everything."""

    def __init__(
        self,
        timeline: Timeline,
        network: Network,
        ensemble: Ensemble,
        members: Sequence[Member],
        clients: Sequence[Worker],
        chance: random.Random,
        trace: Trace,
        replaced: Callable[[Member], None],
        only: Sequence[str] = (),
        *,
        members_change: bool,
    ) -> None:
        """``replaced`` is told who gets an empty disk. ``only`` these kinds of faults happen; else that is drawn."""
        self._timeline = timeline
        self._network = network
        self._members = members
        self._clients = clients
        self._client_names = [client.host.name for client in clients]
        self._chance = chance
        self._trace = trace
        self._is_over = False
        self._mean_pause_s = chance.choice(MEAN_PAUSES_S)
        self._operator = Operator(timeline, ensemble, members, chance, trace, replaced, members_change=members_change)
        kinds: dict[str, tuple[Callable[[], object], int]] = {
            "kill": (self._kill, 4),
            "kill several": (self._kill_several, 2),
            "lose power": (self._lose_power, 4),
            "lose power in a call": (self._lose_power_in_a_call, 6),
            "lose power everywhere": (self._lose_power_everywhere, 1),
            "pause": (self._pause, 3),
            "partition": (self._partition, 4),
            "cut one way": (self._cut_one_way, 3),
            "cut at random": (self._cut_at_random, 2),
            "isolate the leader": (self._isolate_leader, 3),
            "break connections": (self._break_connections, 4),
            "slow link": (self._slow_link, 2),
            "slow disk": (self._slow_disk, 2),
            "full disk": (self._fill_disk, 1),
            "failing disk": (self._fail_syncs, 1),
            "bad sector": (self._spoil, 3),
            "lose a disk": (self._lose_disk, 1),
            "clock": (self._jump_clock, 1),
            "drift": (self._drift, 0),
            "kill client": (self._kill_client, 2),
            "restart": (self._restart, 2),
            "rolling restart": (self._operator.restart_all, 1),
        }
        drawn = [name for name in kinds if chance.random() < KIND_LIKELIHOOD]
        self._kinds = {name: kinds[name] for name in only or drawn or kinds}

    def start(self) -> None:
        """From now on things go wrong. To be called before the members start."""
        self._tell(f"every {self._mean_pause_s:g} s one of: {', '.join(self._kinds)}")
        if self._kinds.pop("drift", None):
            self._drift()
        self._plan()

    def stop(self) -> None:
        """No more faults; everything heals."""
        self._is_over = True
        self._operator.rest()
        self._tell("everything heals")
        self._network.heal()
        self._network.slow.clear()
        for member in self._members:
            member.disk.is_full = member.disk.fails_to_sync = False
            member.disk.forget_crash()
            member.sync_delay_s = 0.0005
            member.resume()
        self._start_all()
        # A write that was under way may still meet a full disk, and end its member.
        self._timeline.after(_LAST_START_S, self._start_all)

    def _start_all(self) -> None:
        for member in self._members:
            member.start()

    def _tell(self, what: str) -> None:
        self._trace.tell("nemesis", what)

    def _plan(self) -> None:
        self._timeline.after(self._chance.expovariate(1 / self._mean_pause_s), self._strike)

    def _strike(self) -> None:
        if not self._is_over and self._kinds:
            weights = [weight for _, weight in self._kinds.values()]
            (kind,) = self._chance.choices(list(self._kinds), weights)
            strike, _ = self._kinds[kind]
            if strike() is not False:
                self._trace.counts[f"fault: {kind}"] += 1
            self._plan()

    def _later(self, call: Callable[[], object], longest_s: float = LONGEST_S) -> None:
        """Repair after a while: mostly soon, sometimes much later."""
        delay = self._chance.uniform(0, longest_s) if self._chance.random() < 0.8 else self._chance.uniform(0, 0.2)

        def repair() -> None:
            if not self._is_over:
                call()

        self._timeline.after(delay, repair)

    def _leaders(self) -> list[Member]:
        """Who takes itself for the leader: mostly one."""
        return [each for each in self._members if each.peer is not None and isinstance(each.peer.term, Leader)]

    def _draw_member(self) -> Member:
        """Any member; often the leader."""
        leaders = self._leaders()
        if leaders and self._chance.random() < 0.4:
            return self._chance.choice(leaders)
        return self._chance.choice(self._members)

    def restart_later(self, member: Member) -> None:
        """A member has ended, for whatever reason: start it again after a while."""
        if member.refuses:
            self._operator.replace(member)
        else:
            self._later(member.start)

    # Processes and machines. What finds its member down does nothing, and says so.

    def _kill(self) -> bool:
        return self._draw_member().kill()

    def _kill_several(self) -> bool:
        """Up to all of them at once."""
        several = self._chance.sample(
            list(self._members), self._chance.randint(min(2, len(self._members)), len(self._members))
        )
        return sum([member.kill() for member in several]) > 1

    def _restart(self) -> bool:
        return self._draw_member().stop()

    def _lose_power(self) -> bool:
        return self._draw_member().lose_power()

    def _lose_power_in_a_call(self) -> bool:
        """Within one of the next, whatever it is; or within one of the few that write down an epoch or a tree."""
        member = self._draw_member()
        kind = self._chance.choice(("", "", *FILES))
        longest = 1 if " " in kind else 6 if kind else 12
        member.disk.crash_after(self._chance.randint(1, longest), kind)
        return member.is_up

    def _lose_power_everywhere(self) -> bool:
        return sum([member.lose_power() for member in self._members]) > 1

    def _pause(self) -> bool:
        member = self._draw_member()
        self._later(member.resume)
        return member.pause()

    def _jump_clock(self) -> None:
        self._draw_member().jump_clock(self._chance.randint(-3_600_000, 3_600_000))

    def _drift(self) -> None:
        """Each clock is too fast or too slow, for good."""
        for member in self._members:
            member.clock.rate = 1 + self._chance.uniform(-LARGEST_DRIFT, LARGEST_DRIFT)
            self._tell(f"the clock of {member.host.name} counts {member.clock.rate:.4f} s in a second")
        self._trace.counts["fault: drift"] += 1

    def _kill_client(self) -> bool:
        running = [client for client in self._clients if not client.is_over]
        if running:
            client = self._chance.choice(running)
            client.kill()
            self._later(client.start)
        return bool(running)

    # The network

    def _names(self) -> list[str]:
        return [member.host.name for member in self._members]

    def _cut(self, links: set[tuple[str, str]], what: str, longest_s: float = LONGEST_S) -> None:
        self._tell(what)
        self._network.cut(links)

        def heal() -> None:
            self._tell(f"heals: {what}")
            self._network.heal(links)

        self._later(heal, longest_s)

    def _partition(self) -> None:
        """Two sides, the clients on either. Sometimes a member belongs to both, sometimes one side hears the other."""
        names = self._names()
        self._chance.shuffle(names)
        at = self._chance.randrange(1, len(names))
        left, right = names[:at], names[at:]
        bridge = self._chance.choice(names) if len(names) > 2 and self._chance.random() < 0.2 else None
        clients = list(self._client_names)
        self._chance.shuffle(clients)
        some = self._chance.randint(0, len(clients))
        # Clients in the middle see both sides.
        other = self._chance.randint(some, len(clients))
        one_side, other_side = [*left, *clients[:some]], [*right, *clients[some:other]]
        links = {(one, two) for one in one_side for two in other_side if bridge not in (one, two)}
        if self._chance.random() < 0.25:
            self._trace.counts["fault: partition, one way"] += 1
            self._cut(links, f"{','.join(one_side)} not heard by {','.join(other_side)}")
            return
        links |= {(two, one) for one, two in links}
        over = f", {bridge} in between" if bridge else ""
        self._cut(links, f"{','.join(one_side)} apart from {','.join(other_side)}{over}")

    def _cut_one_way(self) -> None:
        names = self._names()
        one = self._draw_member().host.name
        others = [name for name in (*names, *self._client_names) if name != one]
        others = self._chance.sample(others, self._chance.randint(1, len(others)))
        if self._chance.random() < 0.5:
            self._cut({(one, other) for other in others}, f"{one} is not heard by {','.join(others)}")
        else:
            self._cut({(other, one) for other in others}, f"{one} does not hear {','.join(others)}")

    def _isolate_leader(self) -> bool:
        """From the other members only, and not for long: what its clients write meanwhile must go again."""
        leaders = self._leaders()
        if not leaders:
            return False
        one = self._chance.choice(leaders).host.name
        links = {link for other in self._names() if other != one for link in ((one, other), (other, one))}
        self._cut(links, f"{one} is alone with its clients", 2.0)
        return True

    def _cut_at_random(self) -> None:
        """Each link between two members, in each direction, perhaps."""
        share = self._chance.choice((0.2, 0.4, 0.7))
        pairs = [(one, other) for one in self._names() for other in self._names() if one != other]
        links = {pair for pair in pairs if self._chance.random() < share}
        self._cut(links, f"cut: {', '.join(f'{one} to {other}' for one, other in sorted(links))}")

    def _break_connections(self) -> bool:
        ends = [end for end in self._network.ends if not end.is_lost]
        for end in self._chance.sample(ends, min(len(ends), self._chance.choice((1, 1, 2, 4)))):
            self._tell(f"{end!r} breaks")
            end.break_off()
            if self._chance.random() < 0.5:
                end.other.break_off()
        return bool(ends)

    def _slow_link(self) -> None:
        one, other = self._chance.sample(self._names(), 2)
        self._network.slow[one, other] = self._chance.choice((0.005, 0.05, 0.3))
        self._tell(f"slow: from {one} to {other}")

        def recover() -> None:
            self._network.slow.pop((one, other), None)

        self._later(recover)

    # Disks

    def _slow_disk(self) -> None:
        member = self._draw_member()
        member.sync_delay_s = self._chance.choice((0.01, 0.1, 0.5))
        self._tell(f"slow: the disk of {member.host.name}")

        def recover() -> None:
            member.sync_delay_s = 0.0005

        self._later(recover)

    def _fill_disk(self) -> None:
        member = self._draw_member()
        member.disk.is_full = True
        self._tell(f"full: the disk of {member.host.name}")

        def clear() -> None:
            member.disk.is_full = False

        self._later(clear)

    def _spoil(self) -> bool:
        """While the member is down, or while it serves; in that case it is killed soon, to read its files again."""
        member = self._draw_member()
        if not self._operator.may_lose(member):
            return False
        if self._chance.random() < 0.6:
            self._chance.choice((member.kill, member.lose_power))()
        damage = draw_damage(member.data_directory / VERSION_DIRECTORY, member.disk.is_durable, self._chance)
        if damage is None:
            return False
        self._operator.has_lost(member)
        member.spoil(damage)
        self._later(member.kill)
        return True

    def _lose_disk(self) -> bool:
        member = self._draw_member()
        if not self._operator.may_lose(member):
            return False
        self._operator.replace(member)
        return True

    def _fail_syncs(self) -> None:
        member = self._draw_member()
        member.disk.fails_to_sync = True
        self._tell(f"failing: the disk of {member.host.name}")

        def mend() -> None:
            member.disk.fails_to_sync = False

        self._later(mend)
