"""Whole trees for the tests: filling one with every kind of znode, and reading all that a client can see of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from kazoo.exceptions import ZookeeperError
from kazoo.security import (
    ACL,
    CREATOR_ALL_ACL,
    OPEN_ACL_UNSAFE,
    READ_ACL_UNSAFE,
    Id,
    Permissions,
    make_digest_acl,
)
from tests.interop.kazoo_clients import ClientFactory, create_container, create_with_ttl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from kazoo.client import KazooClient
    from kazoo.protocol.states import ZnodeStat

SUPER_DIGEST: Final = {"DigestAuthenticationProvider.superDigest": "super:D/InIHSb7yEEbrWz8b9l71RjZJU="}
"""The zoo.cfg line that makes ``super:test`` pass every ACL."""

SUPER_USER: Final = ("digest", "super:test")
FAR_AWAY_MS: Final = 24 * 3600 * 1000


class Node(NamedTuple):
    """All that a client can see of one znode."""

    data: bytes | None
    stat: ZnodeStat
    acl: Sequence[ACL]


def read_tree(client: KazooClient) -> dict[str, Node]:
    """Every znode by path, the reserved ones too. The client must be allowed to read all (`SUPER_USER`)."""
    tree: dict[str, Node] = {}
    level = ["/"]
    while level:
        pending = [
            (path, client.get_async(path), client.get_acls_async(path), client.get_children_async(path))
            for path in level
        ]
        level = []
        for path, node, acl, children in pending:
            data, stat = node.get()
            tree[path] = Node(data, stat, acl.get()[0])
            level += [f"{path.rstrip('/')}/{name}" for name in children.get()]
    return tree


def fill(client: KazooClient, root: str, *, extended: bool = True) -> None:
    """Creates one of everything that lives as long as nobody deletes it under a new znode `root`."""
    client.create(root, b"root of this round")
    client.create(f"{root}/empty", b"")
    client.create(f"{root}/binary", bytes(range(256)) * 40)
    client.create(f"{root}/ünï-コード", "ünï-コード".encode())
    client.create(f"{root}/" + "/".join("deep" for _ in range(30)), b"bottom", makepath=True)
    client.create(f"{root}/ephemeral", b"e", ephemeral=True)
    for index in range(50):
        client.create(f"{root}/wide/{index}", b"%d" % index, makepath=True)
    for index in range(10):
        client.create(f"{root}/sequence/n-", b"", sequence=True, ephemeral=index % 2 == 1, makepath=True)
    client.delete(f"{root}/sequence/n-0000000003")
    for value in range(5):
        client.set(f"{root}/empty", b"changed %d" % value)
    if extended:
        create_container(client, f"{root}/null", None)
        create_container(client, f"{root}/container", b"c")
        create_with_ttl(client, f"{root}/ttl", FAR_AWAY_MS, b"t")
    _fill_access_lists(client, f"{root}/acl")
    _fill_transactions(client, f"{root}/multi")
    _fill_quota(client, root)


def _fill_access_lists(client: KazooClient, root: str) -> None:
    client.create(root, b"")
    lists = {
        "open": OPEN_ACL_UNSAFE,
        "read-only": READ_ACL_UNSAFE,
        "creator": CREATOR_ALL_ACL,
        "digest": [make_digest_acl("ann", "secret", read=True), make_digest_acl("bob", "hidden", all=True)],
        "address": [ACL(Permissions.ALL, Id("ip", "10.0.0.0/8")), ACL(Permissions.READ, Id("ip", "127.0.0.1"))],
    }
    for name, acl in lists.items():
        client.create(f"{root}/{name}", name.encode(), acl=acl)
    client.create(f"{root}/changed", b"")
    for acl in (*lists.values(), lists["digest"]):
        client.set_acls(f"{root}/changed", acl)


def _fill_transactions(client: KazooClient, root: str) -> None:
    client.create(root, b"")
    good = client.transaction()
    good.create(f"{root}/a", b"1")
    good.create(f"{root}/a/b", b"2")
    good.set_data(f"{root}/a", b"3", version=0)
    good.create(f"{root}/gone", b"")
    good.check(f"{root}/gone", 0)
    good.delete(f"{root}/gone")
    good.create(f"{root}/s-", b"", ephemeral=True, sequence=True)
    good.commit()
    bad = client.transaction()
    bad.create(f"{root}/never", b"")
    bad.check(f"{root}/a", 77)
    bad.delete(f"{root}/a/b")
    bad.commit()


def _fill_quota(client: KazooClient, root: str) -> None:
    quota = f"/zookeeper/quota{root}"
    client.create(f"{quota}/zookeeper_limits", b"count=1000,bytes=1000000", makepath=True)
    client.create(f"{quota}/zookeeper_stats", b"count=0,bytes=0")
    client.create(f"{root}/counted", b"12345")


def make_random_changes(client: KazooClient, random: Random, root: str, count: int) -> None:
    """Some writes, chosen by `random` among all kinds and a few names, so that many of them are refused."""
    client.ensure_path(root)

    def a_path() -> str:
        return root + "".join(f"/{random.choice('abcd')}" for _ in range(random.randint(1, 3)))

    def a_value() -> bytes:
        return random.randbytes(random.choice((0, 1, 10, 1000)))

    def a_transaction() -> None:
        transaction = client.transaction()
        for _ in range(random.randint(1, 6)):
            choice = random.randrange(4)
            if choice == 0:
                transaction.create(a_path(), a_value())
            elif choice == 1:
                transaction.delete(a_path())
            elif choice == 2:
                transaction.set_data(a_path(), a_value())
            else:
                transaction.create(f"{a_path()}-", a_value(), sequence=True)
        transaction.commit()

    changes = (
        lambda: client.create(a_path(), a_value()),
        lambda: client.create(a_path(), a_value(), makepath=True),
        lambda: client.create(a_path(), a_value(), ephemeral=True),
        lambda: client.create(f"{a_path()}-", a_value(), sequence=True),
        lambda: client.create(f"{a_path()}-", a_value(), sequence=True, ephemeral=True),
        lambda: client.set(a_path(), a_value(), version=random.choice((-1, -1, 0, 1))),
        lambda: client.delete(a_path(), version=random.choice((-1, -1, 0))),
        lambda: client.set_acls(a_path(), random.choice((OPEN_ACL_UNSAFE, CREATOR_ALL_ACL, READ_ACL_UNSAFE))),
        a_transaction,
    )
    for _ in range(count):
        try:
            random.choice(changes)()
        except ZookeeperError:
            continue


def read_tree_of(address: str) -> dict[str, Node]:
    """`read_tree` by a client of its own."""
    with ClientFactory(address) as clients:
        return read_tree(clients(auth_data=[SUPER_USER]))
