"""kazoo's operations: znodes, stat, sequences, watches, transactions, ACLs, limits, admin words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest
from kazoo.exceptions import (
    AuthFailedError,
    BadArgumentsError,
    BadVersionError,
    ConnectionLoss,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    ReconfigDisabledError,
    RolledBackError,
    RuntimeInconsistency,
    SessionExpiredError,
)
from kazoo.protocol.states import EventType
from kazoo.security import ACL, CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, Id, Permissions, make_digest_acl
from tests.interop.kazoo_clients import (
    ClientFactory,
    Events,
    create_container,
    create_with_ttl,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from kazoo.client import KazooClient
    from tests.interop.peers import Server

FRAME_LIMIT: Final = 0xFFFFF
"""Apache's default ``jute.maxbuffer``: the longest frame in bytes that a server accepts."""


@pytest.fixture(scope="module")
def server_config() -> dict[str, str | int]:
    return {"extendedTypesEnabled": "true", "maxClientCnxns": 0}


@pytest.fixture(scope="module")
def server_properties() -> dict[str, str | int]:
    return {"znode.container.checkIntervalMs": 200, "znode.container.maxPerMinute": 600000}


class TestZnodes:
    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)), b"\0" * 5000], ids=["empty", "one", "all", "zeros"])
    def test_data_comes_back_as_written(self, client: KazooClient, root: str, data: bytes) -> None:
        path = client.create(f"{root}/node", data)
        assert client.get(path)[0] == data
        client.set(path, data[::-1])
        assert client.get(path)[0] == data[::-1]

    def test_null_data_stays_null(self, client: KazooClient, root: str) -> None:
        create_container(client, f"{root}/null", None)
        data, stat = client.get(f"{root}/null")
        assert data is None
        assert stat.dataLength == 0

    def test_stat_after_create_set_and_acl(self, client: KazooClient, root: str) -> None:
        before_ms = int(time.time() * 1000) - 1000
        path, created = client.create(f"{root}/node", b"one", include_data=True)
        assert path == f"{root}/node"
        assert created.czxid == created.mzxid == created.pzxid > 0
        assert created.ctime == created.mtime > before_ms
        assert (created.version, created.cversion, created.aversion) == (0, 0, 0)
        assert (created.ephemeralOwner, created.dataLength, created.numChildren) == (0, 3, 0)

        changed = client.set(path, b"three")
        assert (changed.czxid, changed.mzxid) == (created.czxid, created.czxid + 1)
        assert changed.mtime >= changed.ctime == created.ctime
        assert (changed.version, changed.dataLength, changed.pzxid) == (1, 5, created.czxid)

        secured = client.set_acls(path, READ_ACL_UNSAFE + OPEN_ACL_UNSAFE)
        assert secured == changed._replace(aversion=1)
        assert client.exists(path) == secured
        assert client.get(path) == (b"three", secured)

    def test_children_change_only_cversion_and_pzxid_of_the_parent(self, client: KazooClient, root: str) -> None:
        before = client.exists(root)
        client.create(f"{root}/a", b"")
        added = client.exists(root)
        assert added == before._replace(cversion=1, numChildren=1, pzxid=client.exists(f"{root}/a").czxid)
        client.delete(f"{root}/a")
        assert client.exists(root) == added._replace(cversion=2, numChildren=0, pzxid=added.pzxid + 1)

    def test_get_children_with_stat(self, client: KazooClient, root: str) -> None:
        for name in ("a", "b", "ü", "日本"):
            client.create(f"{root}/{name}", b"")
        names, stat = client.get_children(root, include_data=True)
        assert sorted(names) == sorted(client.get_children(root)) == ["a", "b", "ü", "日本"]
        assert stat == client.exists(root)

    def test_errors(self, client: KazooClient, root: str) -> None:
        client.create(f"{root}/node", b"")
        client.create(f"{root}/node/child", b"")
        with pytest.raises(NodeExistsError):
            client.create(f"{root}/node", b"")
        with pytest.raises(NoNodeError):
            client.create(f"{root}/missing/node", b"")
        with pytest.raises(NotEmptyError):
            client.delete(f"{root}/node")
        with pytest.raises(BadVersionError):
            client.delete(f"{root}/node/child", version=7)
        with pytest.raises(BadVersionError):
            client.set(f"{root}/node", b"", version=1)
        for operation in (client.get, client.delete, client.get_children, client.get_acls):
            with pytest.raises(NoNodeError):
                operation(f"{root}/missing")
        assert client.exists(f"{root}/missing") is None

    @pytest.mark.parametrize("path", ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"])
    def test_reserved_znodes_cannot_be_deleted(self, client: KazooClient, path: str) -> None:
        with pytest.raises(BadArgumentsError):
            client.delete(path)

    def test_expected_version(self, client: KazooClient, root: str) -> None:
        for version in range(3):
            assert client.set(root, b"x", version=version).version == version + 1
        with pytest.raises(BadVersionError):
            client.set(root, b"x", version=2)
        client.delete(root, version=3)
        assert client.exists(root) is None

    def test_ensure_path_and_recursive_delete(self, client: KazooClient, root: str) -> None:
        client.ensure_path(f"{root}/a/b/c/d")
        client.create(f"{root}/w/x/y", b"deep", makepath=True)
        client.delete(f"{root}/a", recursive=True)
        assert client.get_children(root) == ["w"]

    def test_chroot(self, clients: ClientFactory, root: str) -> None:
        inside = clients(chroot=root)
        assert inside.create("/node", b"data") == "/node"
        assert inside.create("/sequence-", b"", sequence=True) == "/sequence-0000000001"
        assert sorted(inside.get_children("/")) == ["node", "sequence-0000000001"]
        assert clients().get(f"{root}/node")[0] == b"data"

    def test_sync(self, client: KazooClient, root: str) -> None:
        assert client.sync(root) == root
        assert client.sync(f"{root}/missing") == f"{root}/missing"


class TestNodeKinds:
    def test_sequence_numbers_count_every_child_ever_created(self, client: KazooClient, root: str) -> None:
        assert client.create(f"{root}/a-", b"", sequence=True) == f"{root}/a-0000000000"
        client.create(f"{root}/plain", b"")
        client.delete(f"{root}/plain")
        assert client.create(f"{root}/b-", b"", sequence=True) == f"{root}/b-0000000002"
        assert client.create(f"{root}/", b"", sequence=True) == f"{root}/0000000003"
        path = client.create(f"{root}/c-", b"", sequence=True, ephemeral=True)
        assert path == f"{root}/c-0000000004"
        assert client.exists(path).ephemeralOwner == client.client_id[0]

    def test_ephemerals_end_with_their_session(self, clients: ClientFactory, client: KazooClient, root: str) -> None:
        owner = clients()
        paths = [owner.create(f"{root}/{index}", b"", ephemeral=True) for index in range(20)]
        assert {client.exists(path).ephemeralOwner for path in paths} == {owner.client_id[0]}
        with pytest.raises(NoChildrenForEphemeralsError):
            client.create(f"{paths[0]}/child", b"")
        owner.stop()
        assert client.get_children(root) == []
        assert client.exists(root).cversion == 40

    def test_container_goes_when_its_last_child_has_gone(self, client: KazooClient, root: str) -> None:
        create_container(client, f"{root}/used")
        create_container(client, f"{root}/unused")
        assert client.exists(f"{root}/used").ephemeralOwner == 0
        client.create(f"{root}/used/child", b"")
        client.delete(f"{root}/used/child")
        wait_until(lambda: client.exists(f"{root}/used") is None, "the emptied container is reaped")
        assert client.exists(f"{root}/unused") is not None

    def test_ttl_znode_goes_when_it_is_old_and_childless(self, client: KazooClient, root: str) -> None:
        create_with_ttl(client, f"{root}/short", 3000)
        create_with_ttl(client, f"{root}/parent", 3000)
        create_with_ttl(client, f"{root}/long", 3_600_000)
        client.create(f"{root}/parent/child", b"")
        assert client.exists(f"{root}/short").ephemeralOwner == 0
        wait_until(lambda: client.exists(f"{root}/short") is None, "the TTL znode is reaped")
        assert client.exists(f"{root}/parent") is not None
        client.delete(f"{root}/parent/child")
        wait_until(lambda: client.exists(f"{root}/parent") is None, "the emptied TTL znode is reaped")
        assert client.exists(f"{root}/long") is not None


class TestWatches:
    def test_data_watch_fires_once(self, client: KazooClient, root: str) -> None:
        events = Events()
        client.get(root, watch=events)
        client.set(root, b"1")
        client.set(root, b"2")
        client.sync(root)
        assert events.wait_for(1) == [(EventType.CHANGED, root)]

    def test_exists_watch_sees_creation_and_deletion(self, client: KazooClient, root: str) -> None:
        path = f"{root}/node"
        events = Events()
        assert client.exists(path, watch=events) is None
        client.create(path, b"")
        assert events.wait_for(1) == [(EventType.CREATED, path)]
        client.exists(path, watch=events)
        client.delete(path)
        assert events.wait_for(2)[1] == (EventType.DELETED, path)

    def test_child_watch(self, client: KazooClient, root: str) -> None:
        events = Events()
        client.get_children(root, watch=events)
        client.set(root, b"no child event")
        client.create(f"{root}/a", b"")
        assert events.wait_for(1) == [(EventType.CHILD, root)]
        client.get_children(root, watch=events)
        client.delete(f"{root}/a")
        assert events.wait_for(2)[1] == (EventType.CHILD, root)
        client.get_children(root, watch=events)
        client.delete(root)
        assert events.wait_for(3)[2] == (EventType.DELETED, root)

    def test_other_clients_changes_are_seen(self, clients: ClientFactory, client: KazooClient, root: str) -> None:
        data, children = Events(), Events()
        client.get(root, watch=data)
        client.get_children(root, watch=children)
        other = clients()
        other.set(root, b"x")
        other.create(f"{root}/x", b"", ephemeral=True)
        assert data.wait_for(1) == [(EventType.CHANGED, root)]
        assert children.wait_for(1) == [(EventType.CHILD, root)]

    def test_a_failed_read_leaves_no_watch(self, client: KazooClient, server: Server, root: str) -> None:
        with pytest.raises(NoNodeError):
            client.get(f"{root}/missing", watch=Events())
        assert f"{root}/missing" not in server.four_letter_word("wchp")
        client.exists(f"{root}/missing", watch=Events())
        assert f"{root}/missing" in server.four_letter_word("wchp")

    def test_data_watch_recipe_sees_the_last_state(self, client: KazooClient, root: str) -> None:
        seen: list[bytes | None] = []

        @client.DataWatch(f"{root}/node")  # type: ignore[untyped-decorator]
        def changed(data: bytes | None, stat: object) -> None:
            seen.append(data)

        client.create(f"{root}/node", b"0")
        for value in range(1, 30):
            client.set(f"{root}/node", b"%d" % value)
        wait_until(lambda: seen[-1:] == [b"29"], "the last value is seen")
        client.delete(f"{root}/node")
        wait_until(lambda: seen[-1:] == [None], "the deletion is seen")

    def test_children_watch_recipe(self, clients: ClientFactory, client: KazooClient, root: str) -> None:
        seen: list[list[str]] = []

        @client.ChildrenWatch(root)  # type: ignore[untyped-decorator]
        def changed(children: list[str]) -> None:
            seen.append(sorted(children))

        other = clients()
        other.create(f"{root}/a", b"", ephemeral=True)
        other.create(f"{root}/b", b"", ephemeral=True)
        wait_until(lambda: seen[-1] == ["a", "b"], "both children are seen")
        other.stop()
        wait_until(lambda: seen[-1] == [], "their end is seen")

    def test_reading_the_configuration_znode(self, client: KazooClient) -> None:
        data, stat = client.get("/zookeeper/config", watch=Events())
        assert data == b""
        assert (stat.czxid, stat.version, stat.aversion, stat.dataLength) == (0, 0, -1, 0)
        assert client.get_acls("/zookeeper/config")[0] == READ_ACL_UNSAFE
        with pytest.raises(NoAuthError):
            client.set("/zookeeper/config", b"server.1=nowhere")


class TestTransactions:
    def test_success(self, client: KazooClient, root: str) -> None:
        client.create(f"{root}/old", b"")
        transaction = client.transaction()
        transaction.create(f"{root}/new", b"1")
        transaction.create(f"{root}/new/n-", b"2", ephemeral=True, sequence=True)
        transaction.check(f"{root}/new", version=0)
        transaction.set_data(f"{root}/new", b"3", version=0)
        transaction.delete(f"{root}/old")
        created, numbered, checked, stat, deleted = transaction.commit()
        assert (created, numbered) == (f"{root}/new", f"{root}/new/n-0000000000")
        assert (checked, deleted) == (True, True)
        assert stat.version == 1
        assert client.get(created)[0] == b"3"
        zxids = {client.exists(created).czxid, client.exists(numbered).czxid, stat.mzxid, client.exists(root).pzxid}
        assert len(zxids) == 1
        assert client.exists(f"{root}/old") is None

    @pytest.mark.parametrize(
        ("error", "position"),
        [(NodeExistsError, 0), (NoNodeError, 1), (BadVersionError, 2), (NotEmptyError, 3)],
    )
    def test_failure_changes_nothing(
        self, client: KazooClient, root: str, error: type[Exception], position: int
    ) -> None:
        client.create(f"{root}/full/child", b"", makepath=True)
        before = client.exists(root)
        transaction = client.transaction()
        for index in range(5):
            if index != position:
                transaction.create(f"{root}/{index}", b"")
            elif error is NodeExistsError:
                transaction.create(f"{root}/full", b"")
            elif error is NoNodeError:
                transaction.delete(f"{root}/missing")
            elif error is BadVersionError:
                transaction.check(root, version=99)
            else:
                transaction.delete(f"{root}/full")
        results = transaction.commit()
        expected = [RolledBackError] * position + [error] + [RuntimeInconsistency] * (4 - position)
        assert [type(result) for result in results] == expected
        assert client.exists(root) == before

    def test_later_operations_see_earlier_ones(self, client: KazooClient, root: str) -> None:
        transaction = client.transaction()
        for _ in range(3):
            transaction.create(f"{root}/again", b"")
            transaction.delete(f"{root}/again", version=0)
        results = transaction.commit()
        assert results == [f"{root}/again", True] * 3
        assert client.exists(root).cversion == 6

    def test_watches_of_one_transaction(self, clients: ClientFactory, client: KazooClient, root: str) -> None:
        events = Events()
        client.get(root, watch=events)
        client.get_children(root, watch=events)
        client.exists(f"{root}/a", watch=events)
        transaction = clients().transaction()
        transaction.set_data(root, b"x")
        transaction.create(f"{root}/a", b"")
        transaction.create(f"{root}/b", b"")
        transaction.commit()
        assert events.wait_for(3) == [
            (EventType.CHANGED, root),
            (EventType.CREATED, f"{root}/a"),
            (EventType.CHILD, root),
        ]

    def test_empty_transaction(self, client: KazooClient) -> None:
        assert client.transaction().commit() == []


class TestAccess:
    def test_only_the_creator(self, clients: ClientFactory, client: KazooClient, root: str) -> None:
        owner = clients(auth_data=[("digest", "ann:secret")])
        path = owner.create(f"{root}/mine", b"private", acl=CREATOR_ALL_ACL)
        assert owner.get_acls(path)[0] == [make_digest_acl("ann", "secret", all=True)]
        for operation in (client.get, client.get_children, client.exists, client.get_acls):
            with pytest.raises(NoAuthError):
                operation(path)
        with pytest.raises(NoAuthError):
            client.create(f"{path}/child", b"")
        with pytest.raises(NoAuthError):
            client.set(path, b"")
        client.add_auth("digest", "ann:wrong")
        with pytest.raises(NoAuthError):
            client.get(path)
        client.add_auth("digest", "ann:secret")
        assert client.get(path)[0] == b"private"

    def test_each_permission(self, clients: ClientFactory, client: KazooClient, root: str) -> None:
        def allowed(permissions: int) -> set[str]:
            path = f"{root}/p{permissions}"
            acl = [ACL(permissions, Id("world", "anyone")), make_digest_acl("root", "root", all=True)]
            client.create(path, b"", acl=acl)
            boss = clients(auth_data=[("digest", "root:root")])
            boss.create(f"{path}/old", b"")
            operations: dict[str, Callable[[], object]] = {
                "read": lambda: client.get(path),
                "write": lambda: client.set(path, b""),
                "create": lambda: client.create(f"{path}/new", b""),
                "delete": lambda: client.delete(f"{path}/old"),
                "admin": lambda: client.set_acls(path, acl),
            }
            done = set()
            for name, operation in operations.items():
                try:
                    operation()
                except NoAuthError:
                    continue
                done.add(name)
            return done

        assert allowed(Permissions.READ) == {"read"}
        assert allowed(Permissions.WRITE) == {"write"}
        assert allowed(Permissions.CREATE) == {"create"}
        assert allowed(Permissions.DELETE) == {"delete"}
        assert allowed(Permissions.ADMIN) == {"admin"}
        assert allowed(Permissions.ALL) == {"read", "write", "create", "delete", "admin"}

    def test_hash_of_others_is_masked(self, client: KazooClient, root: str) -> None:
        acl = [ACL(Permissions.READ, Id("world", "anyone")), make_digest_acl("ann", "secret", all=True)]
        path = client.create(f"{root}/node", b"", acl=acl)
        assert client.get_acls(path)[0] == [acl[0], ACL(Permissions.ALL, Id("digest", "ann:x"))]
        client.add_auth("digest", "ann:secret")
        assert client.get_acls(path)[0] == acl

    def test_address_acl(self, client: KazooClient, root: str) -> None:
        here = [ACL(Permissions.ALL, Id("ip", "127.0.0.0/8"))]
        elsewhere = [ACL(Permissions.ALL, Id("ip", "10.1.2.3"))]
        assert client.get(client.create(f"{root}/here", b"x", acl=here))[0] == b"x"
        client.create(f"{root}/elsewhere", b"x", acl=elsewhere)
        with pytest.raises(NoAuthError):
            client.get(f"{root}/elsewhere")

    @pytest.mark.parametrize(
        "acl",
        [
            ACL(31, Id("world", "someone")),
            ACL(31, Id("nonsense", "x")),
            ACL(31, Id("digest", "no-colon")),
            ACL(31, Id("ip", "not an address")),
            ACL(31, Id("auth", "")),
            ACL(31, Id("super", "")),
        ],
        ids=["world", "nonsense", "digest", "ip", "auth", "super"],
    )
    def test_invalid_acl(self, client: KazooClient, root: str, acl: ACL) -> None:
        with pytest.raises(InvalidACLError):
            client.create(f"{root}/node", b"", acl=[acl])
        with pytest.raises(InvalidACLError):
            client.set_acls(root, [acl])

    def test_acl_version(self, client: KazooClient, root: str) -> None:
        assert client.set_acls(root, OPEN_ACL_UNSAFE, version=0).aversion == 1
        with pytest.raises(BadVersionError):
            client.set_acls(root, OPEN_ACL_UNSAFE, version=0)

    def test_unknown_scheme(self, clients: ClientFactory) -> None:
        client = clients()
        with pytest.raises((AuthFailedError, ConnectionLoss, SessionExpiredError)):
            client.add_auth("nonsense", "x:y")


class TestSizes:
    def test_value_that_just_fits(self, client: KazooClient, root: str) -> None:
        overhead = 8 + 4 + len(f"{root}/big") + 4 + 4 + 4 + (4 + 5) + (4 + 6) + 4
        data = bytes(range(256)) * 4096
        data = data[: FRAME_LIMIT - overhead]
        path = client.create(f"{root}/big", data)
        assert client.get(path)[0] == data
        assert client.set(path, data[:1000]).dataLength == 1000

    def test_value_that_does_not_fit_costs_the_connection(self, clients: ClientFactory, root: str) -> None:
        client = clients()
        with pytest.raises(ConnectionLoss):
            client.create(f"{root}/big", bytes(FRAME_LIMIT))
        wait_until(lambda: client.connected, "the client is back")
        assert client.exists(f"{root}/big") is None

    def test_many_children(self, client: KazooClient, root: str) -> None:
        names = [f"child-with-a-rather-long-name-{index:06d}" for index in range(20_000)]
        for start in range(0, len(names), 1000):
            transaction = client.transaction()
            for name in names[start : start + 1000]:
                transaction.create(f"{root}/{name}", b"")
            transaction.commit()
        assert sorted(client.get_children(root)) == names
        assert client.exists(root).numChildren == len(names)

    def test_pipelined_writes_and_reads_keep_their_order(self, client: KazooClient, root: str) -> None:
        pending = []
        for index in range(500):
            pending.append(client.set_async(root, b"%d" % index))
            pending.append(client.get_async(root))
        results = [result.get(timeout=30) for result in pending]
        assert [stat.version for stat in results[::2]] == list(range(1, 501))
        assert [data for data, _ in results[1::2]] == [b"%d" % index for index in range(500)]


class TestServer:
    def test_server_version(self, client: KazooClient) -> None:
        assert client.server_version() >= (3, 9)

    def test_admin_words(self, client: KazooClient, server: Server) -> None:
        assert client.command(b"ruok") == "imok"
        assert client.command(b"isro") == "rw"
        assert "Mode: standalone" in client.command(b"srvr")
        assert f"clientPort={server.port}" in client.command(b"conf")
        assert server.monitor()["zk_server_state"] == "standalone"
        assert hex(client.client_id[0]) in client.command(b"cons")

    def test_reconfiguration_is_disabled_by_default(self, client: KazooClient) -> None:
        with pytest.raises(ReconfigDisabledError):
            client.reconfig(joining=None, leaving="2", new_members=None)
