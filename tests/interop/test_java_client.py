"""Apache's Java client; the checks are in java/ClientChecks.java."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

import pytest
from tests.interop.peers import APACHE_JARS, HERE, QUIET_JVM, class_path
from tests.interop.programs import declared_checks, run_checks

if TYPE_CHECKING:
    from tests.interop.peers import Server

SOURCES: Final = (HERE / "java" / "Checks.java", HERE / "java" / "ClientChecks.java")


@pytest.fixture(scope="module")
def server_config() -> dict[str, str | int]:
    return {"extendedTypesEnabled": "true", "maxClientCnxns": 0, "reconfigEnabled": "true"}


@pytest.fixture(scope="module")
def server_properties() -> dict[str, str | int]:
    return {"znode.container.checkIntervalMs": 200, "znode.container.maxPerMinute": 600000}


@pytest.fixture(scope="module")
def results(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    classes = tmp_path_factory.mktemp("java")
    jars = class_path(APACHE_JARS)
    subprocess.run(["javac", "-d", str(classes), "-cp", jars, "-Xlint:all", *map(str, SOURCES)], check=True)
    command = ["java", *QUIET_JVM, "-cp", class_path(APACHE_JARS, classes, HERE / "java"), "ClientChecks"]
    return run_checks(command, server)


@pytest.mark.parametrize("check", declared_checks(SOURCES[-1]))
def test_java_client(results: dict[str, str], check: str) -> None:
    assert results[check] == "ok"
