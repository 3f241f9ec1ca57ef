"""``corral initialize``: what it makes, and what it leaves alone."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from corral.cli.main import corral
from corral.testing import Server


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(corral, ["initialize", *map(str, arguments)])


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "zoo.cfg"
    path.write_text(f"dataDir={tmp_path}/data\ndataLogDir={tmp_path}/log\nserver.7=a:1:2\nserver.8=b:1:2\n")
    return path


def test_new_server(tmp_path: Path, configuration: Path) -> None:
    result = run(configuration, "--myid", "7")
    assert (result.exit_code, result.output) == (0, "This is server 7.\n")
    assert (tmp_path / "data" / "myid").read_text() == "7\n"
    assert [path.name for path in sorted((tmp_path / "log").iterdir())] == ["initialize", "version-2"]


def test_database_may_then_be_made(tmp_path: Path) -> None:
    configuration = tmp_path / "zoo.cfg"
    configuration.write_text(f"dataDir={tmp_path}/data\n")
    result = run(configuration)
    assert result.output == f"No number given: a member of an ensemble needs one in {tmp_path}/data/myid.\n"
    with Server(data_dir=tmp_path / "data", db_autocreate=False):
        assert not (tmp_path / "data" / "initialize").exists()


def test_data_is_deleted_only_by_force(tmp_path: Path, configuration: Path) -> None:
    (tmp_path / "log" / "version-2").mkdir(parents=True)
    precious = tmp_path / "log" / "version-2" / "log.1"
    precious.write_text("precious")
    result = run(configuration, "--myid", "1")
    assert (result.exit_code, precious.read_text()) == (1, "precious")
    kept = f"; to keep it, write 1 into {tmp_path}/data/myid"
    assert f"{tmp_path}/log/version-2 exists already; --force deletes it{kept}" in result.output
    assert not (tmp_path / "data").exists()
    assert run(configuration, "--myid", "1", "--force").exit_code == 0
    assert not precious.exists()


def test_without_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZOOCFGDIR", raising=False)
    assert "name a configuration file" in run().output
    assert f"cannot read {tmp_path}/none" in run(tmp_path / "none").output
    (tmp_path / "zoo.cfg").write_text("clientPort=1\n")
    assert f"{tmp_path}/zoo.cfg: dataDir is missing" in run(tmp_path / "zoo.cfg").output
    monkeypatch.setenv("ZOOCFGDIR", str(tmp_path))
    assert f"{tmp_path}/zoo.cfg: dataDir is missing" in run().output
