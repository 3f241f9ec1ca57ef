"""``top``: what servers say, read and compared."""

from __future__ import annotations

from corral.cli.shell.top import Connection, Sample, parse_connections, parse_figures, rate

SRVR = """Zookeeper version: 3.9.3-c26634f34490bb0ea7a09cc51e05ede3b4e320ee, built on 2024-10-17 23:21 UTC
Latency min/avg/max: 0/0.2857/5
Received: 12
Sent: 11
Connections: 2
Outstanding: 0
Zxid: 0x1a
Mode: leader
Node count: 9
Proposal sizes last/min/max: 32/32/36
"""
MNTR = "zk_version\t3.9.3\nzk_server_state\tfollower\nzk_avg_latency\t0.5\nzk_packets_received\t77\n"
REFUSED = "mntr is not executed because it is not in the whitelist.\n"
CONS = """ /127.0.0.1:51700[1](queued=0,recved=9,sent=10,sid=0x1000e567a60000,lop=GETD,est=1795337111657,to=5000,\
lcxid=0x7,lzxid=0x1a,lresp=13,llat=0,minlat=0,avglat=2,maxlat=4)
 /[0:0:0:0:0:0:0:1]:51702[0](queued=0,recved=1,sent=0)

"""


def test_srvr_is_told_by_the_names_of_mntr() -> None:
    figures = parse_figures(SRVR)
    assert figures["server_state"] == "leader"
    assert figures["znode_count"] == "9"
    assert figures["packets_received"] == "12"
    assert (figures["min_latency"], figures["avg_latency"], figures["max_latency"]) == ("0", "0.2857", "5")


def test_mntr() -> None:
    assert parse_figures(MNTR) == {
        "version": "3.9.3",
        "server_state": "follower",
        "avg_latency": "0.5",
        "packets_received": "77",
    }


def test_an_answer_that_is_neither_has_no_figures() -> None:
    assert parse_figures(REFUSED) == {}
    assert parse_figures("HTTP/1.1 400 Bad Request\r\n") == {}


def test_connections_with_a_session() -> None:
    assert parse_connections(CONS) == [Connection("127.0.0.1:51700", "0x1000e567a60000", 9, 10, "GETD", 2.0)]
    assert parse_connections(REFUSED.replace("mntr", "cons")) is None
    assert parse_connections("\n") == []


def test_rates() -> None:
    assert rate(10, 30, 2.0) == 10.0
    assert rate(30, 10, 2.0) is None, "a server that was started anew counts from 0"
    assert rate(None, 10, 2.0) is None
    assert rate(10, 30, 0.0) is None


def test_a_figure_that_is_no_number_is_none() -> None:
    sample = Sample("h:1", 0.0, figures={"znode_count": "9", "server_state": "leader"})
    assert sample.number("znode_count") == 9
    assert sample.number("server_state") is None
    assert sample.number("missing") is None
