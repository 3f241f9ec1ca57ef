"""Connect strings and the order of servers."""

from __future__ import annotations

from random import Random

import pytest

from corral.client.addresses import Address, HostList, parse_hosts


@pytest.mark.parametrize(
    ("text", "addresses", "chroot"),
    [
        ("a", [("a", 2181)], ""),
        ("a:1", [("a", 1)], ""),
        ("a:1,b:2", [("a", 1), ("b", 2)], ""),
        (" a:1 , b , ", [("a", 1), ("b", 2181)], ""),
        ("a:1/", [("a", 1)], ""),
        ("a:1,b:2/app/x", [("a", 1), ("b", 2)], "/app/x"),
        ("a/b,c", [("a", 2181)], "/b,c"),
        ("[::1]:7,[fe80::1%lo]", [("::1", 7), ("fe80::1%lo", 2181)], ""),
        ("::1", [("::1", 2181)], ""),
        (["a:1", "b:2/app"], [("a", 1), ("b", 2)], "/app"),
    ],
)
def test_connect_strings(text: str | list[str], addresses: list[tuple[str, int]], chroot: str) -> None:
    assert parse_hosts(text) == (tuple(Address(*each) for each in addresses), chroot)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "names no server"),
        (",", "names no server"),
        ("/app", "names no server"),
        (":2181", "no host:port"),
        ("a:", "no host:port"),
        ("a:b", "no host:port"),
        ("a:0", "no host:port"),
        ("a:65536", "no host:port"),
        ("a:-1", "no host:port"),
        ("a:\u0661", "no host:port"),
        ("a:1:2", "no host:port"),
        ("a b:1", "no host"),
        ("a\0:1", "no host"),
        ("[::1", "no \\[IPv6 address\\]:port"),
        ("[]:1", "no \\[IPv6 address\\]:port"),
        ("[::1]x", "no \\[IPv6 address\\]:port"),
        ("a/app/", "ends with /"),
        ("a//app", "empty element"),
        ("a/../app", "relative element"),
    ],
)
def test_what_is_no_connect_string_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_hosts(text)


def test_addresses_are_shown_as_they_are_written() -> None:
    assert str(Address("a", 1)) == "a:1"
    assert str(Address("::1", 1)) == "[::1]:1"


def test_servers_come_in_an_order_of_their_own_for_each_client() -> None:
    addresses = [Address(name, 1) for name in "abcdef"]
    orders = set()
    for seed in range(50):
        hosts = HostList(addresses, Random(seed))
        order = [hosts.next() for _ in addresses]
        assert sorted(map(str, order)) == sorted(map(str, addresses))
        assert [hosts.next() for _ in addresses] == order
        orders.add(tuple(order))
    assert len(orders) > 40
    assert {order[0] for order in orders} == set(addresses)


def test_a_preferred_server_is_the_next() -> None:
    addresses = [Address(name, 1) for name in "abc"]
    hosts = HostList(addresses, Random(1))
    hosts.next()
    for address in addresses:
        hosts.prefer(address)
        assert hosts.next() == address
    assert len(hosts) == 3
