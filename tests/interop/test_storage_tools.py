"""Our tools and Apache's print the same of the same files, whoever's server wrote them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner
from tests.interop.kazoo_clients import ClientFactory
from tests.interop.peers import APACHE_JARS, HERE, QUIET_JVM, SERVERS, class_path
from tests.interop.trees import SUPER_DIGEST, SUPER_USER, fill

from corral.cli.log import log
from corral.cli.snapshot import snapshot
from corral.storage.files import list_logs, list_snapshots

JAVA_PACKAGE: Final = "org.apache.zookeeper.server"
NEW_TRANSACTION: Final = re.compile(r"^(?=\d+/\d+/\d+, )", re.MULTILINE)
PRINTED_BETTER_SINCE: Final = re.compile(r" (delete|deleteContainer|multi) .*", re.DOTALL)
"""What 3.9.5 prints of these is jute's text form, or bytes; we print what later versions do."""


def apaches_tool(name: str, *arguments: str) -> str:
    """What a tool of Apache's prints."""
    command = ["java", *QUIET_JVM, "-cp", class_path(APACHE_JARS, HERE / "java"), f"{JAVA_PACKAGE}.{name}", *arguments]
    return subprocess.run(command, capture_output=True, timeout=60, check=True).stdout.decode()


def our_tool(group: object, *arguments: str) -> str:
    result = CliRunner().invoke(group, arguments)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module", params=sorted(SERVERS))
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version-2 directory of a server that was filled, restarted and killed."""
    data_dir = tmp_path_factory.mktemp(request.param) / "data"
    server = SERVERS[request.param](data_dir, {**SUPER_DIGEST, "extendedTypesEnabled": "true", "preAllocSize": 64})
    with server, ClientFactory(server.address) as clients:
        client = clients(auth_data=[SUPER_USER, ("digest", "ann:secret")])
        fill(client, "/first")
        client.stop()
        server.restart()
        fill(clients(auth_data=[SUPER_USER, ("digest", "ann:secret")]), "/second")
        server.kill()
    return data_dir / "version-2"


def transactions_of(text: str) -> list[str]:
    return [PRINTED_BETTER_SINCE.sub(r" \1", part) for part in NEW_TRANSACTION.split(text)]


def test_log_dump(directory: Path) -> None:
    for each in list_logs(directory):
        theirs = transactions_of(apaches_tool("persistence.TxnLogToolkit", str(each.path)))
        ours = transactions_of(our_tool(log, "dump", str(each.path)))
        assert ours == theirs
        assert len(ours) > 10


def test_snapshot_dump(directory: Path) -> None:
    newest = list_snapshots(directory)[-1].path
    for ours, theirs in (((), ()), (("--data",), ("-d",))):
        our_blocks = our_tool(snapshot, "dump", *ours, str(newest)).split("----\n")
        their_blocks = apaches_tool("SnapshotFormatter", *theirs, str(newest)).split("----\n")
        # Apache's counts the root twice, and walks children in the order of a hash table.
        count = len(our_blocks) - 3
        assert (our_blocks.pop(0), their_blocks.pop(0)) == (
            f"ZNode Details (count={count}):\n",
            f"ZNode Details (count={count + 1}):\n",
        )
        assert sorted(our_blocks) == sorted(their_blocks)
        assert len(our_blocks) > 100


def test_snapshot_summary(directory: Path) -> None:
    newest = list_snapshots(directory)[-1].path
    for path, depth in (("/", "0"), ("/first", "0"), ("/", "1"), ("/first", "2")):
        theirs = apaches_tool("SnapshotRecursiveSummary", str(newest), path, depth).strip("\n").splitlines()
        ours = our_tool(snapshot, "summary", str(newest), path, depth).splitlines()
        assert sorted(ours) == sorted(theirs)
        assert len(ours) >= 3


def test_snapshot_compare(directory: Path) -> None:
    oldest, newest = (list_snapshots(directory)[at].path for at in (0, -1))
    arguments = ["-l", str(oldest), "-r", str(newest), "-b", "5", "-n", "2"]
    theirs = [line for line in apaches_tool("SnapshotComparer", *arguments).splitlines() if line.startswith("Node /")]
    result = CliRunner().invoke(snapshot, ["compare", str(oldest), str(newest), "-b", "5", "-n", "2"])
    assert result.exit_code == 1
    ours = [line for line in result.stdout.splitlines() if line.startswith("Node /")]
    assert sorted(ours) == sorted(theirs)
    assert ours


def test_everything_verifies(directory: Path) -> None:
    our_tool(log, "verify", str(directory))
    our_tool(snapshot, "verify", *(str(each.path) for each in list_snapshots(directory)))


def test_apaches_tool_reads_our_repaired_copy(directory: Path, tmp_path: Path) -> None:
    source = list_logs(directory)[0].path
    content = bytearray(source.read_bytes())
    content[16 + 7] ^= 1
    (tmp_path / "log.1").write_bytes(content)
    our_tool(log, "repair", str(tmp_path / "log.1"), "--output", str(tmp_path / "log.2"))
    whole = transactions_of(apaches_tool("persistence.TxnLogToolkit", str(source)))
    assert transactions_of(apaches_tool("persistence.TxnLogToolkit", str(tmp_path / "log.2"))) == whole
