"""What the benchmarks read out of four-letter words."""

from __future__ import annotations

from bench.words import mode_in, values_in


def test_the_mode_is_found_in_srvr() -> None:
    answer = (
        "Zookeeper version: 3.9.5\nLatency min/avg/max: 0/0.0/0\nZxid: 0x100000003\nMode: follower\nNode count: 5\n"
    )
    assert mode_in(answer) == "follower"


def test_a_server_that_serves_nobody_has_no_mode() -> None:
    assert mode_in("This ZooKeeper instance is not currently serving requests\n") is None


def test_mntr_is_read_as_keys_and_values() -> None:
    answer = "zk_version\t3.9.5\nzk_synced_followers\t2\nnot a pair\nzk_avg_follower_sync_time\t12.5\n"
    assert values_in(answer) == {"version": "3.9.5", "synced_followers": "2", "avg_follower_sync_time": "12.5"}
