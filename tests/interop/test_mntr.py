"""The keys of ``mntr``, by which exporters and dashboards find their figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from kazoo.exceptions import QuotaExceededError
from tests.interop.kazoo_clients import ClientFactory

if TYPE_CHECKING:
    from tests.interop.peers import Server

KEYS: Final = Path(__file__).resolve().parents[1] / "unit" / "data" / "apache_3.9.5_mntr_keys.txt"

QUOTAS: Final = {
    "/a": b"count=5,bytes=-1=;byteHardLimit=-1;countHardLimit=-1",
    "/a/b": b"count=3,bytes=100=;byteHardLimit=-1;countHardLimit=7",
    "/q": b"count=1,bytes=10=;byteHardLimit=20;countHardLimit=2",
}

QUOTA_FIGURES: Final = {
    "zk_a_quota_bytes_limit_per_namespace": "99",
    "zk_a_quota_bytes_usage_per_namespace": "3",
    "zk_a_quota_count_limit_per_namespace": "12",
    "zk_a_quota_count_usage_per_namespace": "4",
    "zk_q_quota_bytes_limit_per_namespace": "20",
    "zk_q_quota_bytes_usage_per_namespace": "6",
    "zk_q_quota_count_limit_per_namespace": "2",
    "zk_q_quota_count_usage_per_namespace": "2",
    "zk_q_quota_exceeded_error_per_namespace": "3",
}


def test_keys_of_a_fresh_server(server_type: type[Server], tmp_path: Path) -> None:
    with server_type(tmp_path / "data") as server:
        assert {key.removeprefix("zk_") for key in server.monitor()} == set(KEYS.read_text("ascii").split())


def test_quotas_by_namespace(server_type: type[Server], tmp_path: Path) -> None:
    with server_type(tmp_path / "data", {"enforceQuota": "true"}) as server, ClientFactory(server.address) as clients:
        client = clients()
        client.ensure_path("/a/b")
        client.ensure_path("/q")
        for path, limits in QUOTAS.items():
            client.ensure_path(f"/zookeeper/quota{path}")
            client.create(f"/zookeeper/quota{path}/zookeeper_limits", limits)
            client.create(f"/zookeeper/quota{path}/zookeeper_stats", b"count=0,bytes=0")
        client.create("/a/b/c", b"xyz")
        refused = 0
        for number in range(4):
            try:
                client.create(f"/q/{number}", b"x" * 6)
            except QuotaExceededError:
                refused += 1
        assert refused == 3
        assert {key: value for key, value in server.monitor().items() if "_quota_" in key} == QUOTA_FIGURES


def test_figures_of_some_work(server_type: type[Server], tmp_path: Path) -> None:
    with server_type(tmp_path / "data") as server, ClientFactory(server.address) as clients:
        client = clients()
        client.create("/a", b"x" * 1000)
        for _ in range(10):
            client.get("/a", watch=lambda event: None)
        for _ in range(5):
            client.set("/a", b"y")
        client.get_children("/", watch=lambda event: None)
        client.create("/e", ephemeral=True)
        client.delete("/a")
        found = server.monitor()
        expected = {
            "zk_cnt_updatelatency": "9",
            "zk_cnt_propagation_latency": "9",
            "zk_cnt_readlatency": "11",
            "zk_connection_request_count": "1",
            "zk_cnt_connection_token_deficit": "1",
            "zk_cnt_node_changed_watch_count": "1",
            "zk_sum_node_children_watch_count": "1",
            "zk_cnt_node_deleted_watch_count": "0",
            "zk_watch_bytes": "59",
            "zk_max_client_response_size": "1088",
            "zk_min_client_response_size": "16",
            "zk_ephemerals_count": "1",
            "zk_global_sessions": "1",
            "zk_outstanding_requests": "0",
            "zk_commit_count": "0",
            "zk_snap_count": "0",
        }
        assert {key: found[key] for key in expected} == expected
        assert int(found["zk_cnt_fsynctime"]) > 0
        assert int(found["zk_response_bytes"]) > 11 * 16 + 10 * 1000
