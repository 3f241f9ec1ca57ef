"""What the benchmarks read out of samples over time."""

from __future__ import annotations

import math

import pytest
from bench.series import Event, Sample, as_csv, longest_without, mean_rate, samples_of

LINES = (
    "at_us=100500000 reads=70 writes=30 errors=0 standing=5",
    "at_us=101000000 reads=0 writes=0 errors=2 standing=1",
    "at_us=101500000 reads=7 writes=0 errors=0 standing=2",
    "at_us=102500000 reads=140 writes=60 errors=0 standing=5",
)


@pytest.fixture
def samples() -> list[Sample]:
    return samples_of(LINES, start_s=100.0, shift_s=100.0)


def test_each_sample_begins_where_the_one_before_ended(samples: list[Sample]) -> None:
    assert [(each.begin_s, each.end_s) for each in samples] == [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5), (1.5, 2.5)]
    assert samples[0] == Sample(0.0, 0.5, 70, 30, 5)
    assert [each.operations_per_s for each in samples] == [200.0, 0.0, 14.0, 200.0]


def test_the_mean_rate_counts_whole_intervals_by_their_length(samples: list[Sample]) -> None:
    assert mean_rate(samples, 1.0, 2.5) == pytest.approx(207 / 1.5)
    assert mean_rate(samples, 0.1, 1.2) == 0.0
    assert math.isnan(mean_rate(samples, 0.6, 0.9))


def test_the_longest_time_without_a_write_spans_intervals(samples: list[Sample]) -> None:
    assert longest_without(samples, 0.0, 2.5) == 1.0
    assert longest_without(samples, 0.0, 0.8) == 0.5
    assert longest_without(samples, 1.6, 2.5) == 0.0


def test_an_event_stands_in_the_line_of_its_interval(samples: list[Sample]) -> None:
    events = [Event(0.7, "the leader fails", False), Event(0.5, "a follower fails", False)]
    lines = as_csv([("Corral", samples, events), ("Apache", samples[:1], [])]).splitlines()
    assert lines[1] == "Corral,0.000,0.500,70,30,5,"
    assert lines[2] == "Corral,0.500,1.000,0,0,1,the leader fails; a follower fails"
    assert lines[5] == "Apache,0.000,0.500,70,30,5,"
    assert len(lines) == 6
