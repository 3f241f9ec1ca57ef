"""The addresses of clients, as ACLs and the admin words see them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tests.e2e.in_thread import running
from tests.e2e.raw import Client, get_data, word

from corral.jute.ops import OpCode
from corral.jute.records import Acl, CreateRequest, Id
from corral.server.machine import Machine


def bind_to_both_families(_machine: Machine, _host: str | None, port: int, backlog: int) -> socket.socket:
    """As for a server without ``clientPortAddress``, but so that only this machine can come."""
    listening = socket.socket(socket.AF_INET6)
    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listening.bind(("::ffff:127.0.0.1", port))
    listening.listen(backlog)
    return listening


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_ipv4_client_of_a_server_that_listens_on_all_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "bind", bind_to_both_families)
    with running(tmp_path) as server, Client(server.port) as client:
        mine = [Acl(31, Id("ip", "127.0.0.1"))]
        client.do(OpCode.CREATE, CreateRequest(b"/mine", b"", mine, 0).to_bytes())
        client.do(OpCode.GET_DATA, get_data(b"/mine"))
        assert b"127.0.0.1" in client.do(OpCode.WHO_AM_I, b"").body
        told = word(server.port, "cons")
        assert "/127.0.0.1:" in told
        assert "ffff" not in told
