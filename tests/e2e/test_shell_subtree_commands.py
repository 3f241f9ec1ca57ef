"""Work on subtrees, done by the shell's commands on a server."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import io
import json
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from click.testing import CliRunner

from corral.cli.shell.entry import shell as command
from corral.cli.shell.output import Output
from corral.cli.shell.shell import Connecting, Shell
from corral.cli.shell.subtree.copying import Place, Policy, copy, move
from corral.cli.shell.subtree.errors import SubtreeError
from corral.cli.shell.subtree.reading import read_subtree
from corral.cli.shell.subtree.writing import Existing, Outcome, Tally
from corral.client import NULL, OPEN, Acl, Client, connect
from corral.client.errors import NoAuthError, NodeExistsError
from corral.testing import Address, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

READABLE = Acl("world", "anyone", "r")
OF_BOB = Acl("digest", f"bob:{base64.b64encode(hashlib.sha1(b'bob:secret').digest()).decode()}")

TREE = {"/a": b"top", "/a/b": b"one\ntwo", "/a/b/deep": b"\xff\0", "/a/c": b"", "/a/null": NULL}


class Result(NamedTuple):
    """What a command said."""

    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[Any]:
        """The lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


def shell(address: str, *lines: str, as_json: bool = False, dry_run: bool = False) -> list[Result]:
    """What each line said, in one shell."""

    async def run() -> list[Result]:
        results = []
        out, err = io.StringIO(), io.StringIO()
        made = Shell(Output(as_json=as_json, out=out, err=err), Connecting(5.0, 0.2), dry_run=dry_run)
        await made.connect(address)
        for line in lines:
            for stream in (out, err):
                stream.seek(0)
                stream.truncate()
            await made.execute_line(line)
            results.append(Result(made.status, out.getvalue(), err.getvalue()))
        await made.leave()
        return results

    return asyncio.run(run())


def with_client(address: str, work: Callable[[Client], Awaitable[object]]) -> None:
    """Run ``work`` with a client."""

    async def run() -> None:
        async with connect(address) as zk:
            await work(zk)

    asyncio.run(run())


async def plant(zk: Client, tree: dict[str, bytes] = TREE) -> None:
    for path, data in tree.items():
        await zk.create(path, data)


def planted(address: str, tree: dict[str, bytes] = TREE) -> None:
    with_client(address, lambda zk: plant(zk, tree))


def below(server: Server, root: str) -> dict[str, bytes | None]:
    """The data of a subtree, by relative paths."""
    return {
        path.removeprefix(root): data
        for path, data in server.tree().items()
        if path == root or path.startswith(f"{root}/")
    }


WHOLE = {path.removeprefix("/a"): None if data is NULL else data for path, data in TREE.items()}


# Looking


def test_tree_find_and_du(zookeeper_shared: Address) -> None:
    planted(zookeeper_shared)
    tree, cut, named, matched, sized, missing, used = shell(
        zookeeper_shared,
        "tree /a --data",
        "tree -d 1 /a",
        "find /a --name 'd*'",
        "find --data one.two /a",
        "find -d 1 --size -3 /a",
        "find /a --name nothing",
        "du /a",
    )
    assert tree == (
        0,
        '/a  "top"\n├── b  "one\\ntwo"\n│   └── deep  0xff00 (2 bytes)\n├── c\n└── null\n\n5 znodes\n',
        "",
    )
    assert cut.out == "/a\n├── b  [1 child]\n├── c\n└── null\n\n4 znodes\n"
    assert named == (0, "/a/b/deep\n", "")
    assert matched.out == "/a/b\n"
    assert sized.out == "/a/c\n/a/null\n"
    assert missing == (0, "", "")
    assert [line.split() for line in used.out.splitlines()] == [
        ["9", "2", "/a/b"],
        ["0", "1", "/a/c"],
        ["0", "1", "/a/null"],
        ["12", "5", "/a"],
    ]


def test_looking_as_json(zookeeper_shared: Address) -> None:
    planted(zookeeper_shared)
    tree, found, used, everything = shell(
        zookeeper_shared, "tree /a --data", "find /a --name c", "du --sort path /a", "find", as_json=True
    )
    assert [(each["path"], each.get("data")) for each in tree.objects] == [
        ("/a", "top"),
        ("/a/b", "one\ntwo"),
        ("/a/b/deep", None),
        ("/a/c", ""),
        ("/a/null", None),
    ]
    assert tree.objects[2]["data_base64"] == "/wA="
    assert [each["path"] for each in found.objects] == ["/a/c"]
    assert found.objects[0]["stat"]["data_length"] == 0
    assert [(each["path"], each["znodes"], each["data_bytes"]) for each in used.objects] == [
        ("/a/b", 2, 9),
        ("/a/c", 1, 0),
        ("/a/null", 1, 0),
        ("/a", 5, 12),
    ]
    assert {"/", "/a", "/zookeeper", "/zookeeper/quota"} < {each["path"] for each in everything.objects}


def test_words_that_make_no_sense_change_nothing(zookeeper_shared: Address) -> None:
    planted(zookeeper_shared)
    lines = [
        "tree -d x /a",
        "tree -d -1 /a",
        "tree a",
        "find /a --kind container",
        "find /a --size lots",
        "find /a --regex (",
        "du --sort colour /a",
        "cp /a",
        "cp a /b",
        "cp /a /b --merge --overwrite",
        "cp /a /b --delete",
        "cp /a /b --acl world",
        "cp /a localhost:2181",
        "cp /a 127.0.0.1:1/b",
        "cp /a /b --auth me",
        "mv /a /b --delete",
        "import /dev/null",
        "import /nowhere/at/all",
        "export /a /nowhere/at/all",
        "export",
        "top -n 0",
        "top -n x",
    ]
    for line, result in zip(lines, shell(zookeeper_shared, *lines), strict=True):
        assert (result.status, result.out) == (1, ""), line
        assert result.err, line
    assert set(zookeeper_shared.server.tree()) == set(TREE)


def test_what_does_not_exist_is_named(zookeeper_shared: Address) -> None:
    for result in shell(zookeeper_shared, "tree /x", "find /x", "du /x", "export /x", "cp /x /y", "mv /x /y"):
        assert result.status == 1
        assert "/x" in result.err
    (different,) = shell(zookeeper_shared, "diff /x /y")
    assert different.status == 2


def test_what_may_not_be_read_is_told_and_left_out(zookeeper_shared: Address) -> None:
    async def work(zk: Client) -> None:
        await plant(zk)
        await zk.create("/a/secret", b"s", acl=[OF_BOB])

    with_client(zookeeper_shared, work)
    tree, used, exported, copied = shell(zookeeper_shared, "tree /a", "du /a", "export /a", "cp /a /b")
    assert tree.status == used.status == 1
    assert "secret" not in tree.out
    assert "/a/secret: no auth" in tree.err
    # Where something would be missing later, it is an error.
    assert exported.status == copied.status == 1
    assert "/a/secret: no auth" in exported.err


def test_a_walk_that_is_left_early_leaves_nothing_behind(zookeeper_shared: Address) -> None:
    problems: list[dict[str, Any]] = []

    async def work(zk: Client) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        await plant(zk)
        await zk.create("/a/secret", b"s", acl=[OF_BOB])
        async with aclosing(read_subtree(zk, "/a", data=True, acl=True)) as nodes:
            async for node in nodes:
                assert node.path == "/a"
                # The answers to what is under way come, and nobody looks at them.
                await zk.sync()
                await zk.sync()
                break
        with pytest.raises(NoAuthError):
            async with aclosing(read_subtree(zk, "/a", data=True)) as nodes:
                assert [node.path async for node in nodes] == []
        await zk.sync()

    with_client(zookeeper_shared, work)
    gc.collect()
    assert problems == []


def test_what_vanishes_during_a_walk_is_left_out(zookeeper_shared: Address) -> None:
    async def work(zk: Client) -> None:
        await plant(zk)
        found = []
        async with aclosing(read_subtree(zk, "/a", data=True)) as nodes:
            async for node in nodes:
                found.append(node.path)
                if node.path == "/a":
                    # Listed already, and its data not asked for yet; then one that is not even listed.
                    await zk.delete("/a/b/deep")
        assert found in (["/a", "/a/b", "/a/c", "/a/null"], ["/a", "/a/b", "/a/c", "/a/null", "/a/b/deep"])

    with_client(zookeeper_shared, work)


# Copying


def test_a_copy_has_data_and_acls_and_no_ephemerals(zookeeper_shared: Address) -> None:
    async def work(zk: Client) -> None:
        await plant(zk)
        await zk.create("/a/read-only", b"r", acl=[READABLE])
        await zk.create("/a/e", b"mine", ephemeral=True)
        tally = Tally()
        await copy(Place(zk, "/a"), Place(zk, "/copy"), Policy(), tally)
        assert (await zk.get_acl("/copy/read-only")).acl == [READABLE]
        assert (await zk.get("/copy/null")).data is NULL
        assert tally.ephemerals == ["/a/e"]
        assert tally.counts == {Outcome.CREATED: 6}
        await copy(Place(zk, "/a"), Place(zk, "/mine"), Policy(acl=OPEN), Tally())
        assert (await zk.get_acl("/mine/read-only")).acl == list(OPEN)
        with pytest.raises(SubtreeError, match="/a/e is ephemeral"):
            await copy(Place(zk, "/a/e"), Place(zk, "/e"), Policy(), Tally())

    with_client(zookeeper_shared, work)
    assert below(zookeeper_shared.server, "/copy") == {**WHOLE, "/read-only": b"r"}


def test_a_copy_to_another_service(zookeeper_shared: Address, zookeeper: Address) -> None:
    planted(zookeeper_shared)
    there = f"{zookeeper}/from/here"
    missing, copied, same, back = shell(
        zookeeper_shared, f"cp /a {there}", f"cp -p /a {there}", f"diff --acl /a {there}", f"cp {there}/b /back"
    )
    assert missing.status == 1
    assert "the parent /from of /from/here does not exist: --parents creates it" in missing.err
    assert (copied.status, copied.err) == (0, "5 created\n")
    assert same == (0, "", "")
    assert back.status == 0
    assert below(zookeeper.server, "/from/here") == WHOLE
    assert zookeeper_shared.server.tree()["/back/deep"] == b"\xff\0"


def test_what_exists_is_not_touched_unless_that_is_wanted(zookeeper_shared: Address) -> None:
    server = zookeeper_shared.server
    planted(zookeeper_shared)
    planted(zookeeper_shared, {"/t": b"old", "/t/b": b"other", "/t/extra": b"", "/t/extra/x": b""})
    before = below(server, "/t")
    (refused,) = shell(zookeeper_shared, "cp /a /t")
    assert refused.status == 1
    assert "/t exists: --merge adds what is missing, --overwrite also replaces data" in refused.err
    assert below(server, "/t") == before
    (merged,) = shell(zookeeper_shared, "cp --merge /a /t")
    assert (merged.status, merged.err) == (0, "3 created, 2 kept\n")
    assert below(server, "/t") == {**WHOLE, **before}
    (overwritten,) = shell(zookeeper_shared, "cp --overwrite /a /t")
    assert overwritten.err == "2 overwritten, 3 unchanged\n"
    assert below(server, "/t") == {**WHOLE, "/extra": b"", "/extra/x": b""}
    (told,) = shell(zookeeper_shared, "cp --overwrite --delete /a /t --dry-run")
    assert told.out.splitlines()[-2:] == ["would delete /t/extra/x", "would delete /t/extra"]
    assert "/t/extra/x" in server.tree()
    (mirrored,) = shell(zookeeper_shared, "cp --overwrite --delete /a /t")
    assert mirrored.err == "5 unchanged, 2 deleted\n"
    assert below(server, "/t") == WHOLE


def test_overwriting_replaces_acls_and_spares_ephemerals(zookeeper_shared: Address) -> None:
    async def work(zk: Client) -> None:
        await plant(zk)
        await plant(zk, {"/t": b"top"})
        await zk.create("/t/c", b"theirs", ephemeral=True)
        await zk.create("/t/mine", b"", ephemeral=True)
        await zk.set_acl("/a", [READABLE, Acl("world", "anyone", "c")])
        tally = Tally()
        await copy(Place(zk, "/a"), Place(zk, "/t"), Policy(Existing.OVERWRITE, delete=True), tally)
        assert set((await zk.get_acl("/t")).acl) == {READABLE, Acl("world", "anyone", "c")}
        assert (await zk.get("/t/c")).data == b"theirs"
        assert len(tally.complaints) == 2
        assert await zk.exists("/t/mine") is not None
        assert tally.counts[Outcome.OVERWRITTEN] == 1

    with_client(zookeeper_shared, work)


def test_a_subtree_is_not_copied_into_itself(zookeeper_shared: Address) -> None:
    planted(zookeeper_shared)
    port = zookeeper_shared.server.port
    results = shell(
        zookeeper_shared,
        "cp /a /a/x",
        "cp -m /a /a",
        "cp -o /a/b /a",
        "mv /a /a/b/x",
        f"cp /a localhost:{port}/a/x",
        f"mv -m /a localhost:{port}/a",
        "cp -m / /a",
    )
    for result in results:
        assert result.status == 1, result
        assert "inside" in result.err or "are the same znode" in result.err
    assert below(zookeeper_shared.server, "/a") == WHOLE
    (chrooted,) = shell(f"{zookeeper_shared}/a", f"cp /b {zookeeper_shared}/a/b/x")
    assert "inside" in chrooted.err


@asynccontextmanager
async def another_name(address: Address) -> AsyncIterator[str]:
    """A second address of a server, of which nobody can tell that it is the same."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(address.server.host, address.server.port)
        await asyncio.gather(forward(reader, far_writer), forward(far_reader, writer))

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"


def test_one_ensemble_under_two_names_loses_nothing(zookeeper_shared: Address) -> None:
    async def work(zk: Client) -> None:
        await plant(zk)
        async with another_name(zookeeper_shared) as name, connect(name) as other:
            for path in ("/a", "/a/b"):
                with pytest.raises(SubtreeError, match="are the same znode"):
                    await move(Place(zk, path), Place(other, path), Policy(Existing.MERGE), Tally())
            assert below(zookeeper_shared.server, "/a") == WHOLE
            tally = Tally()
            await move(Place(zk, "/a"), Place(other, "/a/b/x"), Policy(), tally)
        assert tally.counts == {Outcome.CREATED: 5, Outcome.DELETED: 3}

    with_client(zookeeper_shared, work)
    left = below(zookeeper_shared.server, "/a")
    assert {path.removeprefix("/b/x"): data for path, data in left.items() if path.startswith("/b/x")} == WHOLE
    assert set(left) - {f"/b/x{path}" for path in WHOLE} == {"", "/b"}


def test_the_whole_tree_without_what_is_the_service_s_own(zookeeper_shared: Address, zookeeper: Address) -> None:
    planted(zookeeper_shared)
    copied, moved = shell(zookeeper_shared, f"cp --merge / {zookeeper}/", f"mv / {zookeeper}/x")
    assert copied.status == 0
    assert below(zookeeper.server, "/a") == WHOLE
    assert moved.status == 1
    assert "/ cannot be moved" in moved.err


def test_passwords_that_the_service_hides_are_not_copied_as_they_look(
    zookeeper_shared: Address, tmp_path: Path
) -> None:
    async def work(zk: Client) -> None:
        await zk.create("/a", b"", acl=[OF_BOB, READABLE])
        with pytest.raises(SubtreeError, match=r"/a: the service hides the passwords"):
            await copy(Place(zk, "/a"), Place(zk, "/b"), Policy(), Tally())
        assert await zk.exists("/b") is None
        file = tmp_path / "hidden.jsonl"
        results = await asyncio.to_thread(
            shell, zookeeper_shared, f"export /a {file}", f"import {file} /b", f"import -a world:anyone:r {file} /c"
        )
        assert [result.status for result in results] == [1, 1, 0]
        assert "/a: the service hides the passwords" in results[0].err
        assert f"{file}, line 2: when this was exported, the service hides" in results[1].err
        assert (await zk.get_acl("/c")).acl == [READABLE]
        await zk.add_auth("digest", "bob:secret")
        await copy(Place(zk, "/a"), Place(zk, "/b"), Policy(), Tally())
        assert (await zk.get_acl("/b")).acl == [OF_BOB, READABLE]

    with_client(zookeeper_shared, work)


def test_somebody_at_another_service(zookeeper_shared: Address, zookeeper: Address) -> None:
    with_client(zookeeper, lambda zk: zk.create("/secret", b"s", acl=[OF_BOB]))
    refused, wrong, taken, same = shell(
        zookeeper_shared,
        f"cp {zookeeper}/secret /s",
        f"cp --auth digest:bob:wrong {zookeeper}/secret /s",
        f"cp --auth digest:bob:secret -a world:anyone:r {zookeeper}/secret /s",
        f"diff /s {zookeeper}/secret --auth digest:bob:secret",
    )
    assert [refused.status, wrong.status, taken.status, same.status] == [1, 1, 0, 0]
    assert "/secret: no auth" in refused.err
    assert zookeeper_shared.server.tree() == {"/s": b"s"}


def test_a_chroot_is_a_root_of_its_own(zookeeper_shared: Address, tmp_path: Path) -> None:
    planted(zookeeper_shared)
    file = tmp_path / "root.jsonl"
    exported, copied, found = shell(f"{zookeeper_shared}/a", f"export / {file}", "cp /b /copy", "find /copy")
    assert [exported.status, copied.status, found.status] == [0, 0, 0]
    assert found.out == "/copy\n/copy/deep\n"
    (imported,) = shell(zookeeper_shared, f"import {file} /whole")
    assert imported.status == 0
    assert below(zookeeper_shared.server, "/whole") == WHOLE


def test_statuses_of_the_command(zookeeper_shared: Address) -> None:
    planted(zookeeper_shared)
    wanted = {
        ("diff", "/a", "/a"): 0,
        ("diff", "/a", "/a/b"): 1,
        ("diff", "/a", "/x"): 2,
        ("diff", "/a"): 1,
        ("cp", "/a", "/a"): 1,
        ("--dry-run", "mv", "/a", "/b"): 0,
        ("find", "/a", "--name", "no*"): 0,
        ("find", "/a", "--nonsense"): 1,
    }
    for words, status in wanted.items():
        result = CliRunner().invoke(command, ["--server", zookeeper_shared, *words])
        assert result.exit_code == status, (words, result.output)
    assert below(zookeeper_shared.server, "/a") == WHOLE


def test_what_is_created_after_a_copy_began_is_not_in_it(zookeeper_shared: Address) -> None:
    async def work(zk: Client) -> None:
        await plant(zk)
        late: list[Any] = []

        async def limited() -> list[str]:
            await zk.exists("/a")
            limit = zk.last_zxid
            late.append(await zk.create("/a/late"))
            async with aclosing(read_subtree(zk, "/a", until_zxid=limit)) as nodes:
                return [node.path async for node in nodes]

        assert "/a/late" not in await limited()

    with_client(zookeeper_shared, work)


def test_a_dry_run_changes_nothing(zookeeper_shared: Address) -> None:
    planted(zookeeper_shared)
    zxid = zookeeper_shared.server.tree()
    copied, moved = shell(zookeeper_shared, "cp -p /a /x/y", "mv /a /b", dry_run=True)
    assert copied.out.splitlines()[0] == "would create /x/y"
    assert copied.err == "dry run: 5 created\n"
    assert moved.out.splitlines()[-1] == "would delete /a"
    assert moved.err == "dry run: 5 created, 5 deleted\n"
    assert zookeeper_shared.server.tree() == zxid


# Moving


def test_a_move(zookeeper_shared: Address) -> None:
    planted(zookeeper_shared)
    (moved,) = shell(zookeeper_shared, "mv /a /b")
    assert (moved.status, moved.err) == (0, "5 created, 5 deleted\n")
    assert below(zookeeper_shared.server, "/b") == WHOLE
    assert below(zookeeper_shared.server, "/a") == {}


@pytest.mark.parametrize("change", ["set", "child", "anew"])
def test_what_changes_during_a_move_stays(zookeeper_shared: Address, change: str) -> None:
    async def work(zk: Client) -> None:
        await plant(zk)
        sent: list[Awaitable[Any]] = []

        def interfere(outcome: Outcome, path: str) -> None:
            if (outcome, path) == (Outcome.CREATED, "/b/c"):
                # On the connection of the move, so that it is done before anything is deleted.
                match change:
                    case "set":
                        sent.append(zk.set("/a/c", b"new"))
                    case "child":
                        sent.append(zk.create("/a/c/new", b"new"))
                    case "anew":
                        sent.extend([zk.delete("/a/c"), zk.create("/a/c", b"new")])

        tally = Tally()
        await move(Place(zk, "/a"), Place(zk, "/b"), Policy(), tally, interfere)
        for each in sent:
            await each
        assert tally.counts == {Outcome.CREATED: 5, Outcome.DELETED: 3}
        why = "has children that stay" if change == "child" else "has changed meanwhile"
        assert tally.complaints == [
            f"/a/c: not deleted, for it {why}",
            "/a: not deleted, for it has children that stay",
        ]

    with_client(zookeeper_shared, work)
    left = below(zookeeper_shared.server, "/a")
    assert left == ({"": b"top", "/c": b"", "/c/new": b"new"} if change == "child" else {"": b"top", "/c": b"new"})


def test_nothing_is_deleted_when_the_copy_is_not_what_was_written(zookeeper_shared: Address) -> None:
    async def work(zk: Client) -> None:
        await plant(zk)
        sent: list[Awaitable[Any]] = []

        def interfere(outcome: Outcome, path: str) -> None:
            if path == "/b/c":
                sent.append(zk.set("/b/c", b"other"))

        with pytest.raises(SubtreeError, match="/b/c: is different right after it was written"):
            await move(Place(zk, "/a"), Place(zk, "/b"), Policy(), Tally(), interfere)
        await sent[0]

    with_client(zookeeper_shared, work)
    assert below(zookeeper_shared.server, "/a") == WHOLE


def test_a_move_that_merges_leaves_what_differs(zookeeper_shared: Address) -> None:
    planted(zookeeper_shared)
    planted(zookeeper_shared, {"/b": b"top", "/b/c": b"theirs"})
    (moved,) = shell(zookeeper_shared, "mv --merge /a /b")
    assert moved.status == 1
    assert "3 created, 1 unchanged, 1 kept, 3 deleted" in moved.err
    assert below(zookeeper_shared.server, "/a") == {"": b"top", "/c": b""}
    assert below(zookeeper_shared.server, "/b") == {**WHOLE, "/c": b"theirs"}


def test_ephemerals_keep_what_is_above_them(zookeeper_shared: Address) -> None:
    async def work(zk: Client) -> None:
        await plant(zk)
        await zk.create("/a/b/e", ephemeral=True)
        (moved,) = await asyncio.to_thread(shell, zookeeper_shared, "mv /a /b")
        assert moved.status == 1
        assert "/a/b/e: ephemeral, left out" in moved.err
        assert set(below(zookeeper_shared.server, "/a")) == {"", "/b", "/b/e"}

    with_client(zookeeper_shared, work)


# Export and import


def test_what_is_exported_is_imported_as_it_was(zookeeper_shared: Address, zookeeper: Address, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    planted(zookeeper_shared)
    exported, again, printed, same = shell(
        zookeeper_shared, f"export /a {file}", f"export /a {file}", "export /a", f"diff /a @{file} --acl"
    )
    assert (exported.status, exported.err) == (0, f"{file}: 5 znodes\n")
    assert (again.status, again.err) == (1, f"{file} exists: --overwrite replaces it\n")
    assert printed.out.splitlines()[1:] == file.read_text().splitlines()[1:]
    assert same.status == 0
    dry, imported, refused, elsewhere, differs = shell(
        zookeeper,
        f"import --dry-run {file}",
        f"import {file}",
        f"import {file}",
        f"import -p {file} /x/y",
        f"diff /x/y/b @{file}",
    )
    assert dry.err == "dry run: 5 created\n"
    assert (imported.status, imported.err) == (0, "5 created\n")
    assert (refused.status, elsewhere.status, differs.status) == (1, 0, 1)
    assert below(zookeeper.server, "/a") == WHOLE
    assert below(zookeeper.server, "/x/y") == WHOLE


def test_one_bad_line_and_nothing_is_imported(zookeeper_shared: Address, tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    header = '{"corral_export": 1, "root": "/a"}'
    many = "".join(f'{{"path": "/a/{number}", "data": ""}}\n' for number in range(600))
    cases = {
        f'{header}\n{{"path": "/a", "data": ""}}\n{many}{{"path": "/a/x"}}\n': "line 603: no 'data'",
        f'{header}\n{{"path": "/a", "data": "{"x" * 1_100_000}"}}\n{{"end": 1}}\n': "line 2: a request of 1100",
        f'{header}\n{{"path": "/a/x", "data": ""}}\n': "line 2: /a/x comes before its parent",
        f'{header}\n{{"path": "/a", "data": "", "kind": "ephemeral"}}\n{{"end": 1}}\n': "line 2: the root is ephemeral",
        f'{header}\n{{"end": 0}}\n': "no znode in it",
    }
    for content, complaint in cases.items():
        file.write_text(content)
        (result,) = shell(zookeeper_shared, f"import {file}")
        assert result.status == 1
        assert result.err.startswith(str(file))
        assert complaint in result.err
    assert zookeeper_shared.server.tree() == {}


def test_kinds_written_by_hand(zookeeper_shared: Address, tmp_path: Path) -> None:
    file = tmp_path / "kinds.jsonl"
    file.write_text(
        '{"corral_export": 1, "root": "/k"}\n'
        '{"path": "/k", "data": ""}\n'
        '{"path": "/k/c", "data": "", "kind": "container"}\n'
        '{"path": "/k/e", "data": "", "kind": "ephemeral"}\n'
        '{"path": "/k/t", "data": "", "kind": "ttl", "ttl": 3600}\n'
    )
    cut, imported, merged = shell(
        zookeeper_shared, f"import {file}", f"import --incomplete {file}", f"import -m --incomplete --plain {file}"
    )
    assert "the last line is missing" in cut.err
    assert (imported.status, imported.err) == (0, "/k/e: ephemeral, left out\n3 created, 1 ephemeral left out\n")
    assert "3 unchanged" in merged.err


def test_ttl_znodes_where_there_are_none(tmp_path: Path) -> None:
    file = tmp_path / "ttl.jsonl"
    file.write_text(
        '{"corral_export": 1, "root": "/k"}\n{"path": "/k", "data": "", "kind": "ttl", "ttl": 1}\n{"end": 1}\n'
    )
    with Server(extendedTypesEnabled="false") as server:
        refused, plain = shell(str(server.address), f"import {file}", f"import --plain {file}")
        assert refused.status == 1
        assert "/k: the service makes no znodes of the kind ttl; --plain makes them persistent" in refused.err
        assert plain.status == 0
        assert server.tree() == {"/k": b""}


def test_import_from_standard_input(zookeeper_shared: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"corral_export": 1, "root": "/"}\n{"path": "/", "data": ""}\n{"path": "/ä", "data": "€"}\n{"end": 2}\n'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    (imported,) = shell(zookeeper_shared, "import -m -")
    assert (imported.status, imported.err) == (0, "1 created, 1 unchanged\n")
    assert zookeeper_shared.server.tree() == {"/ä": "€".encode()}


# Comparing


def test_diff(zookeeper_shared: Address) -> None:
    planted(zookeeper_shared)
    planted(zookeeper_shared, {"/t": b"top", "/t/b": b"one\n2", "/t/new": b"n", "/t/null": b""})
    same, text = shell(zookeeper_shared, "diff /a /a", "diff /a /t")
    assert same == (0, "", "")
    assert text == (
        1,
        (
            "~ /b  data\n    @@ -1,2 +1,2 @@\n     one\n    -two\n    +2\n"
            '- /c  ""\n+ /new  "n"\n~ /null  data\n    - null\n    + ""\n- /b/deep  0xff00 (2 bytes)\n'
        ),
        "",
    )
    (objects,) = shell(zookeeper_shared, "diff --acl /a /t", as_json=True)
    assert [(each["change"], each["path"]) for each in objects.objects] == [
        ("changed", "/b"),
        ("removed", "/c"),
        ("added", "/new"),
        ("changed", "/null"),
        ("removed", "/b/deep"),
    ]
    assert objects.objects[0]["what"] == ["data"]
    assert objects.objects[0]["right"]["data"] == "one\n2"
    assert objects.objects[0]["left"]["acl"] == [{"scheme": "world", "id": "anyone", "permissions": "cdrwa"}]


def test_ephemerals_are_a_difference_unless_they_are_left_out(zookeeper_shared: Address) -> None:
    async def work(zk: Client) -> None:
        await plant(zk, {"/a": b"", "/b": b"", "/b/e": b""})
        await zk.create("/a/e", ephemeral=True)
        different, without = await asyncio.to_thread(
            shell, zookeeper_shared, "diff /a /b", "diff --skip-ephemerals /a /b"
        )
        assert different.out == "~ /e  kind\n    - ephemeral\n    + persistent\n"
        assert without.out == '+ /e  ""\n'

    with_client(zookeeper_shared, work)


# Interruptions


def test_a_copy_that_is_cut_short_says_what_was_done(zookeeper_shared: Address) -> None:
    async def work(zk: Client) -> None:
        await plant(zk)
        await zk.create("/t")
        await zk.set_acl("/a/b", [Acl("world", "anyone", "ra")])
        tally = Tally()
        # The copy of /a/b lets nobody create below it.
        with pytest.raises(NoAuthError, match="/t/x/b/deep"):
            await copy(Place(zk, "/a"), Place(zk, "/t/x"), Policy(), tally)
        assert tally.counts == {Outcome.CREATED: 4}
        (told,) = await asyncio.to_thread(shell, zookeeper_shared, "cp /a /t/y")
        assert "done until then: 4 created" in told.err
        with pytest.raises(NodeExistsError):
            await copy(Place(zk, "/a"), Place(zk, "/t/x"), Policy(), Tally())
        await zk.set_acl("/t/x/b", OPEN)
        await zk.set_acl("/a/b", OPEN)
        tally = Tally()
        await copy(Place(zk, "/a"), Place(zk, "/t/x"), Policy(Existing.MERGE), tally)
        assert tally.counts == {Outcome.UNCHANGED: 4, Outcome.CREATED: 1}

    with_client(zookeeper_shared, work)


# The servers


def test_top_once(zookeeper_shared: Address) -> None:
    text, down = shell(f"{zookeeper_shared},127.0.0.1:1", "top --once -n 0.1", "top")
    assert text.status == 0
    rows = [line.split() for line in text.out.splitlines()]
    assert rows[0][:2] == ["SERVER", "MODE"]
    assert rows[1][:2] == [str(zookeeper_shared), "standalone"]
    assert rows[2][:2] == ["127.0.0.1:1", "down:"]
    assert rows[4][0] == "CLIENT"
    assert rows[5][1] == str(zookeeper_shared)
    assert (down.status, down.err.split(";")[0]) == (1, "top needs a terminal")
    (value,) = shell(zookeeper_shared, "top --once -n 0.1", as_json=True)[0].objects
    (server,) = value["servers"]
    assert server["figures"]["server_state"] == "standalone"
    assert server["requests_per_second"] > 0
    assert len(server["connections"]) == 1


@pytest.mark.zookeeper(properties={"4lw.commands.whitelist": "srvr"})
def test_top_of_a_server_with_apache_s_white_list(zookeeper: Address) -> None:
    (value,) = shell(zookeeper, "top --once -n 0.1", as_json=True)[0].objects
    (server,) = value["servers"]
    assert server["figures"]["server_state"] == "standalone"
    assert server["connections"] is None
