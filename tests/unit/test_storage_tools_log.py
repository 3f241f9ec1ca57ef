"""``corral log``."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.log_entries import set_data, write_log

from corral.cli.log import log
from corral.jute.ops import OpCode
from corral.jute.record import Record
from corral.jute.records import (
    Acl,
    CheckVersionTxn,
    CloseSessionTxn,
    CreateContainerTxn,
    CreateSessionTxn,
    CreateTtlTxn,
    CreateTxn,
    CreateTxnV0,
    DeleteTxn,
    ErrorTxn,
    Id,
    MultiTxn,
    SetAclTxn,
    SetDataTxn,
    SubTxn,
    TxnDigest,
    TxnHeader,
)
from corral.storage.txnlog.format import HEADER, frame_entries

ACL = [Acl(31, Id("world", "anyone")), Acl(3, Id("digest", "u:a,b}%"))]
ACL_TEXT = "[31,s{'world,'anyone}\n, 3,s{'digest,'u:a%2Cb%7D%25}\n]"
RECORD_SIZE = len(frame_entries([set_data(1)]))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(log, [str(argument) for argument in arguments])


def flip(path: Path, offset: int, mask: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= mask
    path.write_bytes(content)


def sub(kind: int, record: Record) -> SubTxn:
    return SubTxn(kind, record.to_bytes())


MULTI = MultiTxn(
    [
        sub(OpCode.CREATE, CreateTxn(b"/m", b"d", ACL[:1], False, 1)),
        sub(OpCode.CHECK, CheckVersionTxn(b"/m", 3)),
        sub(OpCode.DELETE, DeleteTxn(b"/m")),
        sub(OpCode.ERROR, ErrorTxn(-110)),
    ]
)


@pytest.fixture(autouse=True)
def _coordinated_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize(
    ("kind", "record", "text"),
    [
        (OpCode.CREATE_SESSION, CreateSessionTxn(10000), "createSession 10000"),
        (OpCode.CLOSE_SESSION, CloseSessionTxn([b"/a", b"/b"]), "closeSession v{'/a,'/b}"),
        (OpCode.CLOSE_SESSION, None, "closeSession "),
        (OpCode.CREATE, CreateTxn(b"/a", b"data", ACL, True, 1), f"create /a,data,{ACL_TEXT},true,1"),
        (OpCode.CREATE, CreateTxnV0(b"/a", b"data", ACL, False), f"create /a,data,{ACL_TEXT},false,-1"),
        (OpCode.CREATE2, CreateTxn("/ä€".encode(), None, None, False, 2), "create2 /ä€,,null,false,2"),
        (OpCode.CREATE_TTL, CreateTtlTxn(b"/t", b"x", ACL, 3, 1000), f"createTTL /t,x,{ACL_TEXT},3,1000"),
        (OpCode.CREATE_CONTAINER, CreateContainerTxn(b"/c", b"", ACL, 4), f"createContainer /c,,{ACL_TEXT},4"),
        (OpCode.DELETE, DeleteTxn(b"/a"), "delete /a"),
        (OpCode.DELETE_CONTAINER, DeleteTxn(b"/c"), "deleteContainer /c"),
        (OpCode.SET_DATA, SetDataTxn(b"/a", b"new\xff", 2), "setData /a,new\ufffd,2"),
        (OpCode.SET_ACL, SetAclTxn(b"/a", ACL[:1], 2), "setACL '/a,v{s{31,s{'world,'anyone}}},2"),
        (OpCode.RECONFIG, SetDataTxn(b"/zookeeper/config", b"x", -1), "reconfig /zookeeper/config,x,-1"),
        (OpCode.ERROR, ErrorTxn(-101), "error -101"),
        (OpCode.MULTI, MULTI, "multi create:/m,d,[31,s{'world,'anyone}\n],false,1;check:/m,3;delete:/m;error:-110"),
    ],
)
@pytest.mark.parametrize("digest", [b"", TxnDigest(2, 0x1234).to_bytes()])
def test_dump_prints_as_apaches_tool(
    tmp_path: Path, kind: int, record: Record | None, text: str, digest: bytes
) -> None:
    if isinstance(record, CreateTxnV0):
        digest = b""
    header = TxnHeader(0x100001F126E0000, -2, 1, 1_700_000_000_000, kind)
    entry = header.to_bytes() + (b"" if record is None else record.to_bytes()) + digest
    path = tmp_path / "log.1"
    path.write_bytes(HEADER + frame_entries([entry]))
    result = run("dump", path)
    assert result.exit_code == 0
    assert result.stdout == (
        "ZooKeeper Transactional Log File with dbid 0 txnlog format version 2\n"
        f"11/14/23, 10:13:20 PM UTC session 0x100001f126e0000 cxid 0xfffffffffffffffe zxid 0x1 {text}\n"
        "EOF reached after 1 txns.\n"
    )
    found = json.loads(run("dump", "--json", path).stdout)
    assert (found["zxid"], found["session"], found["time"]) == (
        *("0x1", "0x100001f126e0000"),
        "2023-11-14T22:13:20.000+00:00",
    )
    assert found["op"] == text.split()[0]
    assert ("digest" in found) == bool(digest)


def test_dump_as_json_keeps_every_field(tmp_path: Path) -> None:
    path = tmp_path / "log.1"
    entry = TxnHeader(1, 2, 1, 3, OpCode.MULTI).to_bytes() + MULTI.to_bytes()
    path.write_bytes(HEADER + frame_entries([entry]))
    assert json.loads(run("dump", "--json", path).stdout)["txns"] == [
        {
            "op": "create",
            "path": "/m",
            "data": "ZA==",
            "ephemeral": False,
            "parent_cversion": 1,
            "acl": [{"perms": 31, "scheme": "world", "id": "anyone"}],
        },
        {"op": "check", "path": "/m", "version": 3},
        {"op": "delete", "path": "/m"},
        {"op": "error", "err": -110},
    ]


def test_dump_goes_on_behind_damage_and_tells_it(tmp_path: Path) -> None:
    path = write_log(tmp_path, range(1, 5), preallocation_bytes=5000)
    second = len(HEADER) + RECORD_SIZE
    flip(path, second + RECORD_SIZE - 3)
    result = run("dump", path)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert [" zxid 0x" in line for line in lines[1:5]] == [True] * 4
    assert lines[2].startswith("CRC ERROR - 11/14/23")
    assert lines[5] == "EOF reached after 4 txns."
    assert f"{path} at offset {second}: checksum" in result.stderr
    objects = [json.loads(line) for line in run("dump", "--json", path).stdout.splitlines()]
    assert [entry["zxid"] for entry in objects] == ["0x1", "0x2", "0x3", "0x4"]
    assert objects[1]["kind"] == "corrupt"


def test_dump_goes_on_behind_a_wrong_length(tmp_path: Path) -> None:
    path = write_log(tmp_path, range(1, 5))
    flip(path, len(HEADER) + RECORD_SIZE + 8)
    result = run("dump", path)
    assert result.exit_code == 1
    assert "zxid 0x2" not in result.stdout
    assert "EOF reached after 3 txns." in result.stdout


@pytest.mark.parametrize(
    ("content", "message"), [(b"not a log at all", "not a transaction log"), (b"ZK", "only 2 bytes")]
)
def test_dump_refuses_what_is_no_log(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "log.1"
    path.write_bytes(content)
    result = run("dump", path)
    assert result.exit_code == 1
    assert f"{path}" in result.stderr
    assert message in result.stderr


def test_verify_tells_what_is_in_a_file(tmp_path: Path) -> None:
    path = write_log(tmp_path, range(1, 12), preallocation_bytes=5000)
    result = run("verify", path)
    assert result.exit_code == 0
    assert result.stdout == f"{path}: 11 transactions, zxid 0x1 to 0xb\n"
    assert json.loads(run("verify", "--json", path).stdout) == {
        "file": str(path),
        "transactions": 11,
        "first_zxid": "0x1",
        "last_zxid": "0xb",
        "sound": True,
        "damage": [],
        "undecodable": [],
    }


def test_verify_takes_a_torn_end_for_no_damage(tmp_path: Path) -> None:
    path = write_log(tmp_path, range(1, 4))
    path.write_bytes(path.read_bytes()[:-10])
    result = run("verify", path)
    assert result.exit_code == 0
    assert f"{path} at offset {len(HEADER) + 2 * RECORD_SIZE}: torn by a crash: " in result.stderr


def test_verify_finds_damage(tmp_path: Path) -> None:
    path = write_log(tmp_path, range(1, 4))
    flip(path, len(HEADER) + 40)
    result = run("verify", path)
    assert result.exit_code == 1
    assert f"{path} at offset {len(HEADER)}: damaged: checksum" in result.stderr
    assert json.loads(run("verify", "--json", path).stdout)["damage"][0]["offset"] == len(HEADER)


def test_verify_finds_what_cannot_be_decoded(tmp_path: Path) -> None:
    path = tmp_path / "log.1"
    path.write_bytes(HEADER + frame_entries([TxnHeader(1, 1, 1, 1, 99).to_bytes()]))
    result = run("verify", path)
    assert result.exit_code == 1
    assert "the transaction cannot be decoded: unknown transaction type 99" in result.stderr


def test_verify_of_a_directory_finds_a_missing_log(tmp_path: Path) -> None:
    directory = tmp_path / "version-2"
    directory.mkdir()
    write_log(directory, range(1, 4))
    write_log(directory, range(4, 6))
    assert run("verify", tmp_path).exit_code == 0
    assert run("verify", directory).stdout.count("transactions") == 2
    write_log(directory, range(8, 9))
    (directory / "log.1.fixed").touch()
    result = run("verify", tmp_path)
    assert result.exit_code == 1
    assert "a server would refuse these logs" in result.stderr
    assert "transactions are missing" in result.stderr
    assert "log.1.fixed: neither a log's name nor a snapshot's" in result.stderr
    # The torn end of the last log is no damage.
    (directory / "log.8").write_bytes(HEADER[:9])
    assert run("verify", tmp_path).exit_code == 0


def test_verify_of_a_directory_without_logs_is_an_error(tmp_path: Path) -> None:
    result = run("verify", tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path}: no transaction log here" in result.stderr


def damaged_log(tmp_path: Path) -> Path:
    """Six records: of the second two bytes are changed, of the fourth the length, of the sixth one byte."""
    path = write_log(tmp_path, range(1, 7), preallocation_bytes=5000)
    flip(path, len(HEADER) + 2 * RECORD_SIZE - 7)
    flip(path, len(HEADER) + 2 * RECORD_SIZE - 10, 0x40)
    flip(path, len(HEADER) + 3 * RECORD_SIZE + 11)
    flip(path, len(HEADER) + 5 * RECORD_SIZE + 30)
    return path


def zxids_in(path: Path) -> list[int]:
    return [int(json.loads(line)["zxid"], 16) for line in run("dump", "--json", path).stdout.splitlines()]


@pytest.mark.parametrize(("damaged", "zxids"), [("recompute", [1, 2, 3, 5, 6]), ("drop", [1, 3, 5, 6]), ("stop", [1])])
def test_repair_copies_what_can_be_kept(tmp_path: Path, damaged: str, zxids: list[int]) -> None:
    path = damaged_log(tmp_path)
    before = path.read_bytes()
    output = tmp_path / "copy"
    result = run("repair", path, "--output", output, "--damaged", damaged)
    assert result.exit_code == 1
    assert path.read_bytes() == before
    assert run("verify", output).exit_code == 0
    assert zxids_in(output) == zxids
    assert "left out" in result.stderr
    assert ("CRC FIXED - " in result.stdout) == (damaged == "recompute")


def test_repair_restores_any_single_byte(tmp_path: Path) -> None:
    path = write_log(tmp_path, range(1, 4))
    whole = path.read_bytes()
    start = len(HEADER) + RECORD_SIZE
    lengths = range(start + 8, start + 12)
    for offset in (offset for offset in range(start, start + RECORD_SIZE) if offset not in lengths):
        content = bytearray(whole)
        content[offset] ^= 1 + offset % 255
        path.write_bytes(content)
        output = tmp_path / f"copy.{offset}"
        result = run("repair", path, "-o", output)
        assert result.exit_code == 0, result.stderr
        assert output.read_bytes() == whole
        assert result.stdout.startswith("RESTORED - ")
        assert "3 transactions kept, 1 of them restored and 0 with a new checksum" in result.stdout


def test_repair_keeps_no_zxid_that_goes_back(tmp_path: Path) -> None:
    path = write_log(tmp_path, range(1, 4))
    entry = len(HEADER) + RECORD_SIZE + 12
    content = bytearray(path.read_bytes())
    content[entry + 12 : entry + 20] = (-5).to_bytes(8, "big", signed=True)
    path.write_bytes(content)
    result = run("repair", path, "-o", tmp_path / "copy")
    assert result.exit_code == 1
    assert zxids_in(tmp_path / "copy") == [1, 3]


def test_verbose_repair_prints_everything(tmp_path: Path) -> None:
    path = write_log(tmp_path, range(1, 4))
    result = run("repair", path, "-o", tmp_path / "copy", "-v")
    assert result.exit_code == 0
    assert result.stdout.count(" setData /node,value,") == 3


def test_repair_brings_back_a_damaged_header(tmp_path: Path) -> None:
    path = write_log(tmp_path, range(1, 4))
    whole = path.read_bytes()
    flip(path, 2)
    assert run("repair", path, "-o", tmp_path / "copy").exit_code == 1
    assert (tmp_path / "copy").read_bytes() == whole


def test_repair_never_overwrites(tmp_path: Path) -> None:
    path = damaged_log(tmp_path)
    for output in (path, tmp_path / "there"):
        (tmp_path / "there").touch()
        before = output.read_bytes()
        result = run("repair", path, "-o", output)
        assert result.exit_code == 1
        assert f"{output}: cannot create the file: File exists" in result.stderr
        assert output.read_bytes() == before


def test_chop_keeps_up_to_a_zxid(tmp_path: Path) -> None:
    path = write_log(tmp_path, range(1, 31), preallocation_bytes=5000)
    result = run("chop", "-z", "0x10", path)
    assert result.exit_code == 0
    assert (tmp_path / "log.1.chopped16").read_bytes() == HEADER + frame_entries([set_data(z) for z in range(1, 17)])
    assert run("chop", "--zxid", "3", path, "-o", tmp_path / "out").exit_code == 0
    assert zxids_in(tmp_path / "out") == [1, 2, 3]


@pytest.mark.parametrize(
    ("zxid", "message"),
    [("40", "this log does not contain zxid 0x28"), ("30", "nothing to cut off"), ("x", "'x' is no zxid")],
)
def test_chop_says_why_it_cannot(tmp_path: Path, zxid: str, message: str) -> None:
    path = write_log(tmp_path, range(1, 31))
    result = run("chop", "-z", zxid, path)
    assert result.exit_code != 0
    assert message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["log.1"]


def test_chop_refuses_damage_before_the_zxid(tmp_path: Path) -> None:
    path = damaged_log(tmp_path)
    result = run("chop", "-z", "5", path)
    assert result.exit_code == 1
    assert f"{path} at offset {len(HEADER) + RECORD_SIZE}: damaged before zxid 0x5" in result.stderr


def test_large_copies_are_written_in_pieces(tmp_path: Path) -> None:
    path = write_log(tmp_path, range(1, 6), data=b"x" * 700_000)
    assert run("repair", path, "-o", tmp_path / "copy").exit_code == 0
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()
