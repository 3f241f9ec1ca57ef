"""Elections between machines on a network of this test's making: scenarios by hand, and any order of messages."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from corral.quorum.election import Deserted, Elected, Election, Output, Send
from corral.quorum.ensemble import Ensemble, parse_ensemble
from corral.quorum.vote import Notification, Role, Vote, decode_notification

DELAY_S = 0.001


def majority(number: int, observers: int = 0) -> Ensemble:
    lines = [f"server.{sid}=host{sid}:2888:3888:participant" for sid in range(1, number + 1)]
    lines += [f"server.{number + n}=host{number + n}:2888:3888:observer" for n in range(1, observers + 1)]
    return parse_ensemble("\n".join(lines))


class Network:
    """Servers that elect: messages take time, may come in any order of senders, and some are lost."""

    def __init__(self, ensemble: Ensemble, random: Random | None = None, *, loss: float = 0.0) -> None:
        self.ensemble = ensemble
        self.now = 0.0
        self.servers: dict[int, Election] = {}
        self.elected: dict[int, Elected] = {}
        self._random = random
        self._loss = loss
        self._events: list[tuple[float, int, int, int, bytes]] = []
        self._number = 0
        self._last: dict[tuple[int, int], float] = {}

    def start(self, sid: int, zxid: int = 0, epoch: int = 0) -> None:
        """Start a server that was never there, or let one that is there look again."""
        server = self.servers.setdefault(sid, Election(sid, self.ensemble))
        self.elected.pop(sid, None)
        self._do(sid, server.look(zxid, epoch, self.now))

    def stop(self, sid: int) -> None:
        del self.servers[sid]
        self.elected.pop(sid, None)

    def run(self, until: float) -> None:
        """Let everything happen up to a time."""
        while True:
            deadlines = [(s.deadline, sid) for sid, s in self.servers.items() if s.deadline is not None]
            next_deadline = min(deadlines, default=(float("inf"), 0))
            next_event = self._events[0][0] if self._events else float("inf")
            if min(next_deadline[0], next_event) > until:
                self.now = until
                return
            if next_event <= next_deadline[0]:
                self.now, _, sender, to, data = heapq.heappop(self._events)
                if to in self.servers:
                    self._do(to, self.servers[to].receive(sender, decode_notification(data), self.now))
            else:
                self.now = max(self.now, next_deadline[0])
                self._do(next_deadline[1], self.servers[next_deadline[1]].tick(self.now))

    def _do(self, sid: int, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Elected):
                self.elected[sid] = output
            elif isinstance(output, Send):
                self._send(sid, output)

    def _send(self, sender: int, message: Send) -> None:
        if self._random is not None and self._random.random() < self._loss:
            return
        delay = DELAY_S if self._random is None else self._random.random() * 0.3
        # A connection keeps the order of what goes through it.
        at = max(self.now + delay, self._last.get((sender, message.to), 0.0))
        self._last[sender, message.to] = at
        self._number += 1
        heapq.heappush(self._events, (at, self._number, sender, message.to, message.notification.encode()))

    @property
    def messages(self) -> int:
        """So many were sent."""
        return self._number

    def leaders(self) -> dict[int, int]:
        """Whom each server that has elected follows."""
        return {sid: each.vote.leader for sid, each in self.elected.items()}


def test_first_start_one_by_one_the_third_of_five_leads() -> None:
    network = Network(majority(5))
    for sid in (1, 2):
        network.start(sid)
        network.run(network.now + 1)
        assert network.elected == {}
    network.start(3)
    network.run(network.now + 1)
    assert network.leaders() == {1: 3, 2: 3, 3: 3}
    assert network.elected[3].role is Role.LEADING
    for sid in (4, 5):
        network.start(sid)
        network.run(network.now + 1)
        assert network.elected[sid].role is Role.FOLLOWING
    assert network.leaders() == dict.fromkeys(range(1, 6), 3)


def test_later_start_the_longest_log_leads() -> None:
    """Zxids 8,8,8,7,7; servers 3 (the leader) and 5 are lost: 2 leads."""
    network = Network(majority(5))
    zxids = {1: 8, 2: 8, 3: 8, 4: 7, 5: 7}
    for sid in (1, 2, 4):
        network.start(sid, zxids[sid], 1)
    network.run(1)
    assert network.leaders() == {1: 2, 2: 2, 4: 2}


def test_newer_epoch_beats_longer_log() -> None:
    network = Network(majority(3))
    network.start(1, 5 << 32, 5)
    network.start(2, 4 << 32 | 100, 4)
    network.start(3, 4 << 32 | 200, 4)
    network.run(1)
    assert network.leaders() == {1: 1, 2: 1, 3: 1}


def test_all_that_are_there_agree_at_once() -> None:
    """When every voter has spoken nobody waits for a better vote."""
    network = Network(majority(3))
    for sid in (1, 2, 3):
        network.start(sid)
    network.run(0.05)
    assert network.leaders() == {1: 3, 2: 3, 3: 3}


def test_vote_that_came_before_its_receiver_looked_is_said_again() -> None:
    """Else the one who lost the leader last hears it only when the others ask again, 200 ms later."""
    network = Network(majority(3))
    for sid in (1, 2, 3):
        network.start(sid)
    network.run(1)
    for server in network.servers.values():
        server.serving(1)
    network.stop(3)
    network.start(2)
    network.run(1 + 3 * DELAY_S)
    network.start(1)
    network.run(1.1)
    assert network.leaders() == {1: 2, 2: 2}


def looking_again() -> Election:
    """Server 2 of three: it has followed somebody, and is in the second round."""
    election = Election(2, majority(3))
    election.look(0, 0, 0.0)
    election.serving(1)
    election.look(0, 1, 0.0)
    return election


def test_each_is_told_a_better_vote_once_in_a_round() -> None:
    """Two that disagree about which is better, as they know other members, would go on for ever."""
    election = looking_again()
    worse = Notification(Role.LOOKING, Vote(1, 0, 2, 1))
    said = [election.receive(1, worse, 0.0) for _ in range(3)]
    assert said == [[Send(1, Notification(Role.LOOKING, Vote(2, 0, 2, 1), config=majority(3).to_text()))], [], []]


def test_nobody_is_told_of_who_was_elected_and_did_not_lead() -> None:
    """Its quorum port may be out of reach of the others: as they do not hear of it, they elect one of theirs."""
    election = looking_again()
    election.look(0, 1, 0.0)
    assert election.receive(1, Notification(Role.LOOKING, Vote(1, 0, 3, 1)), 0.0) == []


AGREEMENT = Notification(Role.LOOKING, Vote(2, 0, 2, 1))


def test_nobody_waits_for_the_vote_of_one_that_does_not_run() -> None:
    election = looking_again()
    election.receive(1, AGREEMENT, 0.0)
    assert election.role is Role.LOOKING
    (elected,) = election.refused(3, 0.0)
    assert elected == Elected(Role.LEADING, Vote(2, 0, 2, 1))
    assert election.refused(1, 0.0) == []


def test_at_a_start_others_are_waited_for_that_do_not_run_yet() -> None:
    election = Election(2, majority(3))
    election.look(0, 0, 0.0)
    election.refused(3, 0.0)
    election.receive(1, Notification(Role.LOOKING, Vote(2, 0, 1, 0)), 0.0)
    assert election.role is Role.LOOKING


def test_who_has_spoken_again_runs() -> None:
    election = looking_again()
    election.refused(3, 0.0)
    election.receive(3, Notification(Role.LOOKING, Vote(3, 0, 0, 0)), 0.0)
    election.receive(1, AGREEMENT, 0.0)
    assert election.role is Role.LOOKING


def test_who_did_not_run_may_run_by_the_next_election() -> None:
    election = looking_again()
    election.refused(3, 0.0)
    election.serving(2)
    election.look(0, 1, 0.0)
    election.receive(1, Notification(Role.LOOKING, Vote(2, 0, 3, 1)), 0.0)
    assert election.role is Role.LOOKING


def test_those_that_are_not_there_make_no_quorum() -> None:
    election = looking_again()
    for sid in (1, 3):
        assert election.refused(sid, 0.0) == []
    assert not any(isinstance(each, Elected) for each in election.tick(10.0))


def test_observer_learns_the_leader_and_does_not_count() -> None:
    network = Network(majority(3, observers=1))
    network.start(4)
    network.start(1)
    network.run(2)
    assert network.elected == {}
    network.start(2)
    network.run(4)
    assert network.leaders() == {1: 2, 2: 2, 4: 2}
    assert network.elected[4].role is Role.OBSERVING


def test_observer_hears_of_the_end_and_not_of_votes_that_change() -> None:
    """Voters do not tell it when they turn to another: what they say while they look may be out of date."""
    network = Network(majority(3, observers=1))
    for sid in (4, 1, 2):
        network.start(sid)
    network.run(2.5 * DELAY_S)
    network.start(3)
    network.run(0.1)
    assert network.leaders() == dict.fromkeys((1, 2, 3, 4), 3)


def elected_by_one_other() -> Election:
    """Server 2 of three, which leads by the votes of 1 and 2 before it has heard of 3."""
    election = Election(2, majority(3))
    election.look(0, 0, 0.0)
    election.receive(1, Notification(Role.LOOKING, Vote(2, 0, 1, 0)), 0.0)
    outputs = election.tick(10.0)
    assert [each.role for each in outputs if isinstance(each, Elected)] == [Role.LEADING]
    return election


def test_leader_to_be_whose_voters_turn_to_another_need_not_wait_for_them() -> None:
    election = elected_by_one_other()
    assert Deserted() not in election.receive(3, Notification(Role.LOOKING, Vote(3, 0, 1, 0)), 10.0)
    assert Deserted() in election.receive(1, Notification(Role.LOOKING, Vote(3, 0, 1, 0)), 10.0)


@pytest.mark.parametrize("vote", [Vote(2, 0, 1, 0), Vote(1, 0, 0, 0)])
def test_what_is_said_again_or_late_deserts_nobody(vote: Vote) -> None:
    election = elected_by_one_other()
    assert Deserted() not in election.receive(1, Notification(Role.LOOKING, vote), 10.0)


def test_leader_that_serves_is_not_deserted_by_who_returns() -> None:
    election = elected_by_one_other()
    election.serving(1)
    assert Deserted() not in election.receive(1, Notification(Role.LOOKING, Vote(1, 9, 9, 1)), 10.0)


def test_who_returns_joins_the_leader_though_his_vote_is_better() -> None:
    network = Network(majority(3))
    network.start(1, 7, 1)
    network.start(2, 7, 1)
    network.run(1)
    for server in network.servers.values():
        server.serving(2)
    network.start(3, 9, 1)
    network.run(2)
    assert network.leaders() == {1: 2, 2: 2, 3: 2}
    assert network.servers[3].vote.epoch == 2


def test_leader_that_has_gone_is_not_elected_by_those_who_still_follow() -> None:
    """A quorum says FOLLOWING 3, but 3 itself does not say LEADING."""
    election = Election(1, majority(3))
    election.look(0, 0, 0.0)
    gone = Notification(Role.FOLLOWING, Vote(3, 0, 1, 1))
    assert all(isinstance(each, Send) for each in election.receive(2, gone, 0.1))
    assert election.receive(3, gone, 0.1) == []
    assert election.role is Role.LOOKING


def test_vote_of_an_older_round_is_answered_and_does_not_count() -> None:
    election = Election(1, majority(3))
    for _ in range(3):
        election.look(0, 0, 0.0)
    (answer,) = election.receive(2, Notification(Role.LOOKING, Vote(1, 0, 2, 0)), 0.1)
    assert isinstance(answer, Send)
    assert (answer.to, answer.notification.vote.round) == (2, 3)
    assert election.tick(10.0) != []
    assert election.role is Role.LOOKING


def test_zookeeper_1818_who_follows_a_leader_by_votes_of_several_rounds_is_one_quorum() -> None:
    """Zxid and round are those of different elections: the leader and its epoch are what must be the same."""
    election = Election(1, majority(3))
    election.look(7, 0xBA, 0.0)
    assert election.receive(2, Notification(Role.FOLLOWING, Vote(3, 5, 7, 0xBA)), 0.1) == []
    outputs = election.receive(3, Notification(Role.LEADING, Vote(3, 9, 4, 0xBA)), 0.2)
    assert [each.role for each in outputs if isinstance(each, Elected)] == [Role.FOLLOWING]
    assert election.vote.leader == 3
    assert election.round == 4


def test_zookeeper_1818_an_older_epoch_of_the_same_leader_is_another_vote() -> None:
    election = Election(1, majority(3))
    election.look(7, 0xB9, 0.0)
    told = [
        *election.receive(2, Notification(Role.FOLLOWING, Vote(3, 5, 7, 0xB8)), 0.1),
        *election.receive(3, Notification(Role.LEADING, Vote(3, 9, 4, 0xB9)), 0.2),
    ]
    assert told == []
    assert election.role is Role.LOOKING


def test_zookeeper_1818_who_has_come_into_step_says_the_epoch_that_it_is_in() -> None:
    """Server 2 was told to follow 3 in one epoch, and came to it in the next; now 1 returns."""
    network = Network(majority(3))
    network.start(2, 7, 0xB8)
    network.start(3, 7, 0xB8)
    network.run(1)
    network.start(3, 7, 0xB9)
    network.start(2, 7, 0xB8)
    network.run(2)
    assert network.leaders() == {2: 3, 3: 3}
    for sid in (2, 3):
        network.servers[sid].serving(0xBA)
    network.start(1, 7, 0xBA)
    network.run(3)
    assert network.leaders() == {1: 3, 2: 3, 3: 3}
    assert network.servers[1].vote.epoch == 0xBA


def test_zookeeper_3537_a_leader_of_this_round_is_believed_in_this_round() -> None:
    """One has voted for it, and it says that it leads: it takes nobody else."""
    election = Election(1, majority(3))
    election.look(0, 0, 0.0)
    election.receive(3, Notification(Role.LOOKING, Vote(3, 0, 1, 0)), 0.1)
    outputs = election.receive(3, Notification(Role.LEADING, Vote(3, 0, 1, 0)), 0.11)
    assert [each.role for each in outputs if isinstance(each, Elected)] == [Role.FOLLOWING]


def test_zookeeper_3537_that_a_server_led_in_an_earlier_round_says_nothing_of_this_one() -> None:
    election = Election(1, majority(3))
    for _ in range(2):
        election.look(0, 0, 0.0)
    election.receive(3, Notification(Role.LEADING, Vote(3, 0, 1, 8)), 0.1)
    election.receive(3, Notification(Role.LOOKING, Vote(3, 0, 2, 9)), 0.2)
    assert election.vote == Vote(3, 0, 2, 9)
    assert election.receive(2, Notification(Role.FOLLOWING, Vote(3, 0, 2, 9)), 0.21) == []
    assert election.role is Role.LOOKING


def test_zookeeper_975_to_have_heard_of_all_is_not_to_be_elected_by_them() -> None:
    """Server 3 joins two that have elected 2, and first hears what they said before they did."""
    election = Election(3, majority(3))
    election.look(0, 0, 0.0)
    for sid in (1, 2):
        told = election.receive(sid, Notification(Role.LOOKING, Vote(2, 0, 1, 0)), 0.1)
        assert not [each for each in told if isinstance(each, Elected)]
    assert not [each for each in election.tick(0.15) if isinstance(each, Elected)]
    election.receive(1, Notification(Role.FOLLOWING, Vote(2, 0, 1, 0)), 0.2)
    outputs = election.receive(2, Notification(Role.LEADING, Vote(2, 0, 1, 0)), 0.2)
    assert [each.role for each in outputs if isinstance(each, Elected)] == [Role.FOLLOWING]


@pytest.mark.parametrize("role", list(Role))
def test_zookeeper_975_who_does_not_vote_is_not_counted_whatever_it_says(role: Role) -> None:
    """Servers 4 and 5 observe, 9 is none of the members."""
    election = Election(1, majority(3, observers=2))
    election.look(0, 0, 0.0)
    for sid in (4, 5, 9):
        for now, leader in enumerate((sid, 3), 1):
            told = election.receive(sid, Notification(role, Vote(leader, 1 << 40, 1, 9)), now)
            assert [each.to for each in told if isinstance(each, Send)] == [sid] * (role is Role.LOOKING)
    outputs = election.receive(3, Notification(Role.LEADING, Vote(3, 1 << 40, 1, 9)), 0.2)
    assert outputs == []
    assert (election.role, election.vote.leader) == (Role.LOOKING, 1)


def test_zookeeper_764_who_only_believes_to_vote_never_leads() -> None:
    """Its own configuration says that 4 votes, those of the others that it observes; its log is the longest."""
    network = Network(majority(3, observers=1))
    network.servers[4] = Election(4, majority(4))
    for sid in (4, 1, 2, 3):
        network.start(sid, zxid=100 if sid == 4 else sid, epoch=1)
        network.run(network.now + 1)
    network.run(network.now + 5)
    assert network.leaders() == dict.fromkeys((1, 2, 3, 4), 2)
    assert network.elected[4].role is Role.FOLLOWING


def test_stranger_is_answered_and_does_not_count() -> None:
    election = Election(1, majority(3))
    election.look(0, 0, 0.0)
    stranger = Notification(Role.LOOKING, Vote(9, 1 << 40, 9, 9))
    (answer,) = election.receive(9, stranger, 0.1)
    assert answer == Send(9, Notification(Role.LOOKING, Vote(1, 0, 1, 0), config=majority(3).to_text()))
    election.receive(2, Notification(Role.LOOKING, Vote(9, 1 << 40, 9, 9)), 0.1)
    assert election.vote.leader == 1


def test_two_of_whom_one_is_a_stranger_to_the_other_do_not_answer_each_other_for_ever() -> None:
    """Each would answer every answer: the stranger because the other is behind, and that one because it is asked."""
    network = Network(majority(3))
    network.start(1)
    network.servers[4] = Election(4, majority(4))
    for _ in range(3):
        network.start(4, zxid=9)
    network.run(10)
    assert network.elected == {}
    assert network.messages < 300


@pytest.mark.parametrize("role", [Role.FOLLOWING, Role.LEADING, Role.OBSERVING])
def test_who_has_no_vote_and_has_settled_is_not_answered(role: Role) -> None:
    """Of two such members each would answer the other's answer for ever."""
    network = Network(majority(3, observers=1))
    for sid in (1, 2, 3, 4):
        network.start(sid)
    network.run(5)
    settled = Notification(role, network.elected[3].vote)
    for sid in (1, 4):
        assert network.servers[sid].receive(5, settled, network.now) == []
        assert network.servers[sid].receive(5, settled._replace(role=Role.LOOKING), network.now) != []


def test_who_weighs_nothing_never_leads() -> None:
    """Ids decide only among those that may lead."""
    text = "\n".join(
        [
            *(f"server.{sid}=h:2888:{3888 + sid}:participant" for sid in range(1, 4)),
            *("group.1=1:2:3", "weight.1=1", "weight.2=1", "weight.3=0"),
        ]
    )
    network = Network(parse_ensemble(text))
    for sid in (1, 2, 3):
        network.start(sid, zxid=sid)
    network.run(3)
    assert network.leaders() == {1: 2, 2: 2, 3: 2}


@pytest.mark.parametrize("seed", range(60))
def test_any_order_of_messages_ends_with_one_leader_and_the_longest_log_of_a_quorum(seed: int) -> None:
    random = Random(seed)
    number = random.choice([3, 5, 7])
    network = Network(majority(number, observers=random.randrange(2)), random, loss=random.choice([0, 0.2]))
    histories = {sid: (random.randrange(3), random.randrange(3)) for sid in network.ensemble.members}
    there = random.sample(range(1, number + 1), random.randint(number // 2 + 1, number))
    there += sorted(network.ensemble.observers)
    for sid in there:
        network.run(network.now + random.random())
        network.start(sid, histories[sid][1], histories[sid][0])
    network.run(network.now + 600)
    for _ in range(20):
        # Who has no quorum behind him, or nobody before him, gives up after a while and looks again.
        leaders = network.leaders()
        led = {
            sid
            for sid, each in network.elected.items()
            if each.role is Role.LEADING
            and network.ensemble.is_quorum([other for other, leader in leaders.items() if leader == sid])
        }
        lost = [sid for sid, leader in leaders.items() if leader not in led]
        if len(led) == 1 and not lost and len(leaders) == len(there):
            break
        for sid in lost:
            network.start(sid, histories[sid][1], histories[sid][0])
        network.run(network.now + 600)
    assert set(network.leaders()) == set(there)
    assert len(set(network.leaders().values())) == 1
    leader = next(iter(network.leaders().values()))
    followed_by = [sid for sid in there if sid in network.ensemble.voters]
    better = [sid for sid in followed_by if (*histories[sid], sid) > (*histories[leader], leader)]
    assert len(better) <= len(followed_by) - (number // 2 + 1)


@pytest.mark.parametrize(
    ("data", "notification"),
    [
        (Notification(Role.LEADING, Vote(3, 8, 2, 1), config="version=0").encode(), None),
        (Notification(Role.LOOKING, Vote(3, 8, 2, 1), config="version=1", pending="version=2").encode(), None),
        (bytes.fromhex("00000001000000000000000300000005000000010000000000000002"), Vote(3, 5 << 32 | 1, 2, 5)),
        (
            bytes.fromhex("000000010000000000000003000000050000000100000000000000020000000000000004"),
            Vote(3, 5 << 32 | 1, 2, 4),
        ),
    ],
)
def test_notifications_of_all_kinds_are_read(data: bytes, notification: Vote | None) -> None:
    decoded = decode_notification(data)
    if notification is None:
        assert decoded.encode() == data
    else:
        assert (decoded.role, decoded.vote, decoded.version) == (Role.FOLLOWING, notification, 0)


def test_what_stands_behind_the_configuration_and_is_not_known_is_passed_over() -> None:
    plain = Notification(Role.LOOKING, Vote(3, 8, 2, 1), config="version=1")
    assert decode_notification(plain.encode() + b"more") == plain
    told = plain._replace(pending="version=2").encode()
    assert told.startswith(plain.encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(27),
        bytes(30),
        b"\0\0\0\x07" + bytes(24),
        bytes(36) + b"\0\0\0\2\0\0\0\1",
        bytes(36) + b"\0\0\0\2\xff\xff\xff\xff",
        Notification(Role.LOOKING, Vote(3, 8, (1 << 63) - 1, 1)).encode(),
    ],
)
def test_what_is_no_notification_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="notification"):
        decode_notification(data)


def test_the_last_round_that_is_believed_is_not_the_last_that_can_be_said() -> None:
    election = Election(1, majority(3))
    election.look(0, 0, 0.0)
    told = decode_notification(Notification(Role.LOOKING, Vote(3, 0, 1 << 62, 0)).encode())
    election.receive(3, told, 0.0)
    assert election.round == 1 << 62
    for each in election.look(0, 0, 1.0):
        assert isinstance(each, Send)
        assert len(each.notification.encode()) > 36


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("server.1=a:1:2\nversion=8000000000000000", "8000000000000000 is not a version"),
        ("server.1=a:1:2\nversion=-1", "-1 is not a version"),
        ("server.1=a:1:2\ngroup.1=1\nweight.1=-1", "the weight of server 1 is negative"),
        ("server.1=a:1:2\ngroup.1=1\nweight.1=0", "weigh nothing"),
        ("server.1=a..b:1:2", "'a..b' is not a host"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(text: str, reason: str) -> None:
    """It would be taken over from a vote, and written down."""
    with pytest.raises(ValueError, match=reason):
        parse_ensemble(text)


def settled_about(leader: int) -> Callable[[int], Notification]:
    """What those say who have elected ``leader`` long ago."""
    return lambda sid: Notification(Role.LEADING if sid == leader else Role.FOLLOWING, Vote(leader, 5, 1, 1))


def test_a_leader_is_joined_though_a_change_of_members_waits_for_the_one_who_joins() -> None:
    """Servers 2 and 4 cannot bring the change into force without it, and it has logged the change."""
    members = majority(4)
    three = replace(members, version=1, members={sid: each for sid, each in members.members.items() if sid != 3})
    election = Election(1, three)
    election.last_seen = replace(members, version=2)
    election.look(0, 1, 0.0)
    say = settled_about(4)
    assert election.receive(2, say(2), 0.0) == []
    assert election.receive(4, say(4), 0.0) == [Elected(Role.FOLLOWING, say(4).vote)]


def test_nobody_leads_by_the_votes_of_one_configuration_while_members_change() -> None:
    members = majority(4)
    three = replace(members, version=1, members={sid: each for sid, each in members.members.items() if sid != 3})
    election = Election(4, three)
    election.last_seen = replace(members, version=2)
    election.look(0, 1, 0.0)
    say = settled_about(4)
    assert [election.receive(sid, say(sid), 0.0) for sid in (1, 2)] == [[], []]
