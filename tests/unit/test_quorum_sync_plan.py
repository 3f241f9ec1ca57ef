"""What a learner is sent: the rules one by one, and that any learner ends with the leader's history."""

from __future__ import annotations

from random import Random

import pytest

from corral.quorum.sync_plan import SyncPlan, Way, plan_sync

History = list[tuple[int, bytes]]


def z(epoch: int, counter: int) -> int:
    return epoch << 32 | counter


def history(*zxids: int) -> History:
    return [(zxid, b"%x" % zxid) for zxid in zxids]


def nothing_on_disk(zxid: int) -> None:
    return None


RECENT = history(z(1, 5), z(1, 6), z(1, 7), z(2, 1), z(2, 2))
LAST = z(2, 2)


@pytest.mark.parametrize(
    ("peer", "plan"),
    [
        pytest.param(z(2, 2), SyncPlan(Way.DIFF, z(2, 2)), id="it has everything"),
        pytest.param(z(2, 9), SyncPlan(Way.TRUNC, z(2, 2)), id="it has more than was committed"),
        pytest.param(z(1, 5), SyncPlan(Way.DIFF, LAST, RECENT[1:]), id="it has the oldest"),
        pytest.param(z(2, 1), SyncPlan(Way.DIFF, LAST, RECENT[4:]), id="it lacks the newest"),
        pytest.param(z(1, 7), SyncPlan(Way.DIFF, LAST, RECENT[3:]), id="it has the end of an older epoch"),
        pytest.param(z(1, 8), SyncPlan(Way.SNAP, LAST), id="it went on alone in an older epoch: cut across epochs"),
        pytest.param(
            z(2, 0), SyncPlan(Way.DIFF, LAST, RECENT[3:]), id="it was told of the epoch and has nothing of it"
        ),
        pytest.param(z(1, 4), SyncPlan(Way.SNAP, LAST), id="it lacks what is in nobody's memory"),
        pytest.param(0, SyncPlan(Way.SNAP, LAST), id="it is new"),
        pytest.param(z(3, 0), SyncPlan(Way.SNAP, LAST), id="it was told of a later epoch that came to nothing"),
    ],
)
def test_from_memory(peer: int, plan: SyncPlan) -> None:
    assert plan_sync(peer, LAST, RECENT, nothing_on_disk) == plan


def test_from_the_log_and_memory() -> None:
    logged = history(z(1, 2), z(1, 3), z(1, 4), z(1, 5), z(1, 6))
    expected = SyncPlan(Way.DIFF, LAST, [*logged[2:4], *RECENT[1:]])
    assert plan_sync(z(1, 3), LAST, RECENT, lambda zxid: logged) == expected


def test_a_hole_between_log_and_memory_is_not_papered_over() -> None:
    """ZOOKEEPER-4925: a history with a hole in it must reach nobody."""
    logged = history(z(1, 2), z(1, 3))
    assert plan_sync(z(1, 2), LAST, RECENT, lambda zxid: logged) == SyncPlan(Way.SNAP, LAST)


@pytest.mark.parametrize(
    ("last", "recent"),
    [
        pytest.param(z(1, 9), [], id="nothing since it was started"),
        pytest.param(LAST, RECENT, id="the last ones"),
        pytest.param(LAST, RECENT[3:], id="the whole last epoch"),
    ],
)
def test_zookeeper_4352_a_newcomer_gets_the_whole_tree_whatever_is_in_memory(last: int, recent: History) -> None:
    """It has nothing, and memory begins somewhere."""
    assert plan_sync(0, last, recent, nothing_on_disk) == SyncPlan(Way.SNAP, last)


def apply(plan: SyncPlan, log: History, tree: History) -> History:
    """What the learner has afterwards."""
    match plan.way:
        case Way.SNAP:
            assert plan.zxid == (tree[-1][0] if tree else 0)
            return list(tree)
        case Way.TRUNC:
            kept = [each for each in log if each[0] <= plan.zxid]
            assert len(kept) < len(log)
            log = kept
        case Way.DIFF:
            pass
    return [*log, *plan.transactions]


@pytest.mark.parametrize("seed", range(300))
def test_any_learner_ends_with_the_leaders_history(seed: int) -> None:
    random = Random(seed)
    leader: History = []
    forks: list[History] = [[]]
    for epoch in range(1, random.randint(2, 5)):
        for counter in range(1, random.randint(1, 6)):
            leader.append((z(epoch, counter), b"leader %d %d" % (epoch, counter)))
            forks.append(list(leader))
        # Who led before may have logged what nobody else has.
        own = [(z(epoch, len(leader) + n + 9), b"lost %d" % n) for n in range(random.randint(0, 2))]
        if random.random() < 0.5:
            forks.append([*leader, *own])
    if not leader:
        return
    log = random.choice(forks)
    memory = random.randint(0, len(leader))
    on_disk = random.randint(0, len(leader))

    def from_disk(zxid: int) -> History | None:
        found = leader[on_disk:]
        return found if found and found[0][0] <= zxid else None

    peer = log[-1][0] if log else 0
    recent = leader[len(leader) - memory :]
    assert apply(plan_sync(peer, leader[-1][0], recent, from_disk), log, leader) == leader
