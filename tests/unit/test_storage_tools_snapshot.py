"""``corral snapshot`` and ``corral purge``."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.snapshot_bytes import stat, write_snapshot

from corral.cli.purge import purge
from corral.cli.snapshot import snapshot
from corral.jute.records import StatPersisted

NODES: dict[str, tuple[bytes | None, StatPersisted]] = {
    "": (b"", stat(0)),
    "/zookeeper": (b"", stat(0)),
    "/b": (None, stat(3)),
    "/a": (b"12345", stat(2, version=4)),
    "/a/y": (b"123", stat(4, owner=0x77)),
    "/a/x": (b"", stat(4)),
    "/a/x/deep": (b"1234567", stat(5)),
}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(snapshot, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _coordinated_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_snapshot(tmp_path / "snapshot.5", NODES, {0x77: 4000, 0x100001F126E0000: 30000})


def test_dump_prints_as_apaches_tool(path: Path) -> None:
    result = run("dump", path)
    assert result.exit_code == 0
    blocks = result.stdout.split("----\n")
    assert blocks[0] == "ZNode Details (count=7):\n"
    assert [block.splitlines()[0] for block in blocks[1:8]] == [
        *("/", "/a", "/a/x", "/a/x/deep", "/a/y", "/b", "/zookeeper")
    ]
    assert blocks[5].splitlines() == [
        "/a/y",
        "  cZxid = 0x00000000000004",
        "  ctime = Tue Nov 14 22:13:20 UTC 2023",
        "  mZxid = 0x00000000000004",
        "  mtime = Tue Nov 14 22:13:21 UTC 2023",
        "  pZxid = 0x00000000000004",
        "  cversion = 0",
        "  dataVersion = 0",
        "  aclVersion = 0",
        "  ephemeralOwner = 0x00000000000077",
        "  dataLength = 3",
    ]
    assert blocks[8:] == [
        "Session Details (sid, timeout, ephemeralCount):\n0x00000000000077, 4000, 1\n0x100001f126e0000, 30000, 0\n",
        "Last zxid: 0x5\n",
    ]


def test_dump_with_data(path: Path) -> None:
    result = run("dump", "--data", path)
    assert "/a/y\n" in result.stdout
    assert "  data = MTIz\n" in result.stdout
    assert "dataLength" not in result.stdout


def test_dump_as_json_lines(path: Path) -> None:
    objects = [json.loads(line) for line in run("dump", "--json", "-d", path).stdout.splitlines()]
    assert objects[0]["path"] == "/"
    assert objects[4] == {
        "path": "/a/y",
        "data_length": 3,
        "acl": [{"perms": 31, "scheme": "world", "id": "anyone"}],
        "czxid": "0x4",
        "mzxid": "0x4",
        "pzxid": "0x4",
        "ctime": 1700000000000,
        "mtime": 1700000001000,
        "version": 0,
        "cversion": 0,
        "aversion": 0,
        "ephemeral_owner": "0x77",
        "data": "MTIz",
    }
    assert objects[5]["data"] is None
    assert objects[7:] == [
        {"session": "0x77", "timeout_ms": 4000},
        {"session": "0x100001f126e0000", "timeout_ms": 30000},
        {
            "file": str(path),
            "zxid": "0x5",
            "znodes": 7,
            "data_bytes": 15,
            "sessions": 2,
            "digest": "0x4d",
            "digest_zxid": "0x5",
            "last_zxid": "0x5",
        },
    ]


def test_dump_for_ncdu(path: Path) -> None:
    version, minor, head, tree = json.loads(run("dump", "--ncdu", path).stdout)
    assert (version, minor, head["progname"]) == (1, 0, "corral")
    assert tree[0]["name"] == "/"
    below = tree[1]
    assert [(part["name"], part["asize"]) for part in (below[0], below[1][0], below[1][1], below[2])] == [
        *(("a", 5), ("x", 0), ("deep", 7), ("y", 3))
    ]
    assert [part["name"] for part in tree[2:]] == ["b", "zookeeper"]


def test_the_last_zxid_is_that_of_the_newest_change(tmp_path: Path) -> None:
    fuzzy = write_snapshot(tmp_path / "snapshot.2", NODES)
    assert run("dump", fuzzy).stdout.endswith("Last zxid: 0x5\n")


def test_verify_tells_what_is_in_a_file(path: Path, tmp_path: Path) -> None:
    packed = write_snapshot(tmp_path / "snapshot.6.gz", NODES)
    result = run("verify", path, packed)
    assert result.exit_code == 0
    assert result.stdout == (
        f"{path}: 7 znodes, 15 bytes of data, 2 sessions, last zxid 0x5\n"
        f"{packed}: 7 znodes, 15 bytes of data, 0 sessions, last zxid 0x6\n"
    )
    assert json.loads(run("verify", "--json", path).stdout)["sound"] is True


def test_verify_finds_every_flipped_byte(path: Path) -> None:
    whole = path.read_bytes()
    for offset in range(0, len(whole), 7):
        content = bytearray(whole)
        content[offset] ^= 0x10
        path.write_bytes(content)
        result = run("verify", path)
        # The zxid of the digest section could have been anything, but its seal tells.
        assert result.exit_code == 1, offset
        assert str(path) in result.stderr


def test_verify_goes_on_with_the_next_file(path: Path, tmp_path: Path) -> None:
    bad = write_snapshot(tmp_path / "snapshot.4", NODES)
    bad.write_bytes(bad.read_bytes()[:-20])
    result = run("verify", "--json", bad, path)
    assert result.exit_code == 1
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert first["sound"] is False
    assert str(bad) in first["problem"]
    assert second["sound"] is True


def test_a_znode_without_parent_is_found(tmp_path: Path) -> None:
    orphaned = write_snapshot(tmp_path / "snapshot.5", {**NODES, "/no/parent": (b"", stat())})
    result = run("verify", orphaned)
    assert result.exit_code == 1
    assert f"{orphaned}: znode /no/parent has no parent" in result.stderr


def test_a_file_with_another_name_is_refused(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "copy"
    path.rename(other)
    result = run("dump", other)
    assert result.exit_code == 1
    assert "copy: not a snapshot's name" in result.stderr


def test_summary(path: Path) -> None:
    assert run("summary", path).stdout == (
        " /\n   children: 6\n   data: 15\n"
        "-- /a\n--   children: 3\n--   data: 15\n"
        "---- /a/x\n----   children: 1\n----   data: 7\n"
    )
    assert run("summary", path, "/", "1").stdout.count("children") == 2
    assert run("summary", path, "/a/x").stdout == " /a/x\n   children: 1\n   data: 7\n"
    assert json.loads(run("summary", path, "/a/x", "--json").stdout) == {
        "path": "/a/x",
        "descendants": 1,
        "data_bytes": 7,
    }


def test_summary_of_a_missing_znode(path: Path) -> None:
    result = run("summary", path, "/nowhere")
    assert result.exit_code == 1
    assert "there is no znode /nowhere in it" in result.stderr


def test_equal_snapshots_compare_equal(path: Path, tmp_path: Path) -> None:
    same = write_snapshot(tmp_path / "snapshot.6.gz", NODES, {0x77: 4000, 0x100001F126E0000: 30000}, last_zxid=6)
    result = run("compare", path, same)
    assert (result.exit_code, result.stdout) == (0, "")


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    nodes = {name: node for name, node in NODES.items() if not name.startswith("/a/x")}
    nodes["/b"] = (b"now something", stat(8, version=1))
    nodes["/c"] = (b"", stat(9))
    return write_snapshot(tmp_path / "snapshot.9", nodes, {0x77: 5000, 0x88: 1000})


def test_compare_shows_every_difference(path: Path, changed: Path) -> None:
    result = run("compare", path, changed)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "Node /a/x found only in left tree.",
        "Node /a/x/deep found only in left tree.",
        (
            "Node /b differs: data_length 0 -> 13, czxid 0x3 -> 0x8, mzxid 0x3 -> 0x8, version 0 -> 1,"
            " pzxid 0x3 -> 0x8, data None -> bm93IHNvbWV0aGluZw=="
        ),
        "Node /c found only in right tree.",
        "Session 0x77 differs: timeout_ms 4000 -> 5000",
        "Session 0x88 found only in right tree.",
        "Session 0x100001f126e0000 found only in left tree.",
    ]
    objects = [json.loads(line) for line in run("compare", "--json", path, changed).stdout.splitlines()]
    assert objects[0] == {"path": "/a/x", "only_in": "left"}
    assert objects[2]["differs"]["version"] == [0, 1]


def test_compare_of_sizes_prints_as_apaches_tool(path: Path, changed: Path) -> None:
    result = run("compare", path, changed, "-b", "6", "-n", "1")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        *("Node count: 7", "Total size: 15", "Max depth: 4"),
        *(f"Count of nodes at depth {depth}: {count}" for depth, count in enumerate([1, 3, 2, 1])),
        "",
        *("Node count: 6", "Total size: 21", "Max depth: 3"),
        *(f"Count of nodes at depth {depth}: {count}" for depth, count in enumerate([1, 4, 1])),
        "",
        "Printing analysis for nodes difference larger than 6 bytes or node count difference larger than 1.",
        "Analysis for depth 0",
        "Analysis for depth 1",
        "Node /a found in both trees. Delta: -7 bytes, -2 descendants",
        "Node /b found in both trees. Delta: 13 bytes, 0 descendants",
        "Analysis for depth 2",
        "Node /a/x found only in left tree. Descendant size: 7. Descendant count: 1",
        "Analysis for depth 3",
        "Node /a/x/deep found only in left tree. Descendant size: 7. Descendant count: 0",
        "All layers compared.",
    ]
    assert run("compare", path, changed, "-b", "100", "-n", "100").exit_code == 0


def clean_up(*arguments: str | Path) -> Result:
    return CliRunner().invoke(purge, [str(argument) for argument in arguments])


@pytest.fixture
def data_directory(tmp_path: Path) -> Path:
    inner = tmp_path / "data" / "version-2"
    inner.mkdir(parents=True)
    for zxid in range(1, 7):
        write_snapshot(inner / f"snapshot.{zxid}", NODES)
        (inner / f"log.{zxid}").touch()
    return tmp_path / "data"


def test_purge_removes_what_is_not_needed(data_directory: Path) -> None:
    inner = data_directory / "version-2"
    dry = clean_up(data_directory, "-n", "4", "--dry-run")
    assert dry.exit_code == 0
    assert dry.stdout.splitlines() == [
        f"Would remove file: {inner / name}" for name in ("log.1", "log.2", "snapshot.1", "snapshot.2")
    ]
    assert len(list(inner.iterdir())) == 12
    assert clean_up(data_directory, "-n", "4").exit_code == 0
    assert sorted(path.name for path in inner.iterdir()) == [
        f"{kind}.{zxid}" for kind in ("log", "snapshot") for zxid in range(3, 7)
    ]


def test_purge_counts_no_damaged_snapshot(data_directory: Path) -> None:
    inner = data_directory / "version-2"
    damaged = inner / "snapshot.6"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (inner / "snapshot.5").write_bytes(b"")
    result = clean_up(inner, "-n", "3")
    assert "Removing file" in result.stdout
    assert f"does not count: {damaged}" in result.stderr
    assert sorted(path.name for path in inner.glob("snapshot.*")) == [f"snapshot.{zxid}" for zxid in range(2, 7)]


def test_purge_without_valid_snapshots_removes_nothing(data_directory: Path) -> None:
    for path in (data_directory / "version-2").glob("snapshot.*"):
        path.write_bytes(b"")
    assert clean_up(data_directory, "-n", "3").stdout == "Nothing removed: there is no valid snapshot to keep.\n"


def test_purge_keeps_at_least_three(data_directory: Path) -> None:
    result = clean_up(data_directory, "-n", "2")
    assert result.exit_code == 2
    assert "2 is not in the range x>=3" in result.stderr


def test_purge_needs_a_data_directory(tmp_path: Path) -> None:
    result = clean_up(tmp_path, "-n", "3")
    assert result.exit_code == 1
    assert f"{tmp_path}: no version-2 directory in it" in result.stderr
