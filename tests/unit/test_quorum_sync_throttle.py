"""Observers wait for their turn to be brought into step; voters do not."""

import pytest

from corral.jute.primitives import JuteError
from corral.quorum.sync_throttle import Syncs
from corral.server.stats import ServerStats


def test_observers_beyond_the_limit_are_sent_away() -> None:
    stats = ServerStats(0)
    syncs = Syncs(2, 1, stats)
    with syncs.begin(is_snapshot=True, is_observer=True), syncs.begin(is_snapshot=True, is_observer=False):
        with pytest.raises(JuteError, match="2 trees are being sent to others"):
            syncs.begin(is_snapshot=True, is_observer=True)
        with syncs.begin(is_snapshot=True, is_observer=False):
            assert syncs.under_way == {True: 3, False: 0}
        # The two limits are counted apart.
        with syncs.begin(is_snapshot=False, is_observer=True), pytest.raises(JuteError, match="1 differences"):
            syncs.begin(is_snapshot=False, is_observer=True)
    with syncs.begin(is_snapshot=True, is_observer=True):
        assert syncs.under_way == {True: 1, False: 0}
    assert stats.summaries["inflight_snap_count"].maximum == 3
    assert stats.summaries["inflight_diff_count"].maximum == 1


def test_one_that_breaks_off_counts_no_more() -> None:
    syncs = Syncs(1, 1, ServerStats(0))
    with pytest.raises(EOFError), syncs.begin(is_snapshot=True, is_observer=True):
        raise EOFError
    assert syncs.under_way == {True: 0, False: 0}
