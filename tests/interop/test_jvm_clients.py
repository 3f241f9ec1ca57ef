"""Clients on the JVM: Apache's own and Curator. The checks are in java/."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

import pytest
from tests.interop.peers import APACHE_JARS, CURATOR_JARS, HERE, QUIET_JVM, class_path
from tests.interop.programs import declared_checks, run_checks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.peers import Server

JAVA: Final = HERE / "java"


# The first test of a program also compiles it and waits for all its checks.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def server_config() -> dict[str, str | int]:
    return {"extendedTypesEnabled": "true", "maxClientCnxns": 0, "reconfigEnabled": "true"}


@pytest.fixture(scope="module")
def server_properties() -> dict[str, str | int]:
    return {"znode.container.checkIntervalMs": 200, "znode.container.maxPerMinute": 600000}


def compiled(name: str, jars: Path, classes: Path) -> list[str]:
    """Compiles one of the programs; returns the command that runs it."""
    sources = [str(JAVA / f"{source}.java") for source in ("Checks", name)]
    lint = "-Xlint:all,-classfile"
    subprocess.run(["javac", "-d", str(classes), "-cp", class_path(jars), lint, *sources], check=True)
    return ["java", *QUIET_JVM, "-cp", class_path(jars, classes, JAVA), name]


@pytest.fixture(scope="module")
def client_results(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return run_checks(compiled("ClientChecks", APACHE_JARS, tmp_path_factory.mktemp("classes")), server)


@pytest.fixture(scope="module")
def curator_results(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return run_checks(compiled("CuratorChecks", CURATOR_JARS, tmp_path_factory.mktemp("classes")), server)


@pytest.mark.parametrize("check", declared_checks(JAVA / "ClientChecks.java"))
def test_java_client(client_results: dict[str, str], check: str) -> None:
    assert client_results[check] == "ok"


@pytest.mark.parametrize("check", declared_checks(JAVA / "CuratorChecks.java"))
def test_curator(curator_results: dict[str, str], check: str) -> None:
    assert curator_results[check] == "ok"
