"""One cross-check: a plan carried out on two servers, one after the other, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.crosscheck.allowed import is_allowed
from tests.crosscheck.comparison import Difference, compare
from tests.crosscheck.corners import corner_cases
from tests.crosscheck.generator import make_plan
from tests.crosscheck.minimiser import minimise
from tests.crosscheck.plan import Atom, Batch, Call, Checkpoint, Step, atoms, keep
from tests.crosscheck.runner import RunFailedError, Runner, Transcript

from corral.jute.ops import OpCode

if TYPE_CHECKING:
    from tests.crosscheck.servers import Place

EDGE_SHARES: Final = {"plain": 0.01, "full": 0.01, "edge": 0.25}
"""How much of a plan is about the prepared directory, by profile."""

QUIET: Final = frozenset(
    {
        OpCode.GET_ACL,
        OpCode.SYNC,
        OpCode.PING,
        OpCode.MULTI_READ,
        OpCode.GET_EPHEMERALS,
        OpCode.GET_ALL_CHILDREN_NUMBER,
        OpCode.WHO_AM_I,
        OpCode.CHECK_WATCHES,
        OpCode.RECONFIG,
    }
)
"""Operations that change nothing."""

READS: Final = frozenset({OpCode.EXISTS, OpCode.GET_DATA, OpCode.GET_CHILDREN, OpCode.GET_CHILDREN2})
"""Operations that change nothing but watches."""


@dataclass(frozen=True, slots=True)
class Crosscheck:
    """A plan on two places. `name` says, on a command line, which plan it is."""

    name: str
    plan: list[Step]
    left: Place
    right: Place

    @classmethod
    def seeded(cls, seed: int, count: int, profile: str, left: Place, right: Place) -> Crosscheck:
        """The random plan of a seed. `profile` is the configuration that both servers have."""
        name = f"--seed {seed} --count {count} --profile {profile}"
        return cls(name, make_plan(seed, count, EDGE_SHARES[profile]), left, right)

    @classmethod
    def corners(cls, profile: str, left: Place, right: Place) -> Crosscheck:
        """The plan of corner cases."""
        return cls(f"--corners --profile {profile}", corner_cases(), left, right)

    def differences(self, kept: Sequence[Atom] | None = None) -> list[Difference]:
        """What differs and should not, for the whole plan or the atoms kept of it."""
        steps = keep(self.plan, list(atoms(self.plan)) if kept is None else kept)
        left, right = (_run(place, steps) for place in (self.left, self.right))
        return [difference for difference in compare(left, right) if not is_allowed(difference)]

    def minimised(self, difference: Difference, limit_s: float) -> list[Atom]:
        """The part of the plan that still brings a difference of the same kind. Needs places that start afresh."""
        plan = self.plan
        upto = [atom for atom in atoms(plan) if atom[0] <= difference.number]

        def other_call(atom: Atom) -> Call | None:
            step = plan[atom[0]]
            return step.calls[atom[1]] if isinstance(step, Batch) and atom[0] != difference.number else None

        def is_look(atom: Atom) -> bool:
            call = other_call(atom)
            looks = isinstance(plan[atom[0]], Checkpoint) and atom[0] != difference.number
            return looks or (call is not None and call.op in QUIET)

        def is_read(atom: Atom) -> bool:
            call = other_call(atom)
            return call is not None and call.op in READS

        def is_multi(atom: Atom) -> bool:
            call = other_call(atom)
            return call is not None and call.op == OpCode.MULTI

        def fails(kept: Sequence[Atom]) -> bool:
            try:
                return any(each.signature == difference.signature for each in self.differences(kept))
            except RunFailedError:
                return False

        return minimise(upto, fails, limit_s, (is_look, is_read, is_multi))

    def reproduction(self, kept: Sequence[Atom], difference: Difference) -> str:
        """Everything somebody needs to see the difference again."""
        steps = "\n".join(f"{number:5}  {step}" for number, step in keep(self.plan, kept))
        parts = ",".join(f"{number}.{position}" for number, position in kept)
        command = f"python -m tests.crosscheck {self.name} --keep {parts}"
        return f"{difference}\n\nsteps kept:\n{steps}\n\n{command}\n"


def _run(place: Place, steps: Sequence[tuple[int, Step]]) -> Transcript:
    with place() as address:
        return Runner(address).run(steps)


def parse_atoms(text: str) -> list[Atom]:
    """The ``--keep`` of a reproduction. Raises `ValueError`."""
    pairs = (each.partition(".") for each in text.split(","))
    return [(int(number), int(position)) for number, _, position in pairs]
