"""The C client and the Go client; the checks are in c/ and go/."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Final

import pytest
from tests.interop.peers import C_SHELL, GO_MODULES, HERE
from tests.interop.programs import declared_checks, run_checks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.peers import Server

C_SOURCE: Final = HERE / "c" / "client_checks.c"
GO_SOURCE: Final = HERE / "go" / "main.go"


# The first test of a program also compiles it and waits for all its checks.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def server_config() -> dict[str, str | int]:
    return {"extendedTypesEnabled": "true", "maxClientCnxns": 0}


@pytest.fixture(scope="module")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("c") / "client_checks"
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-DTHREADED"]
    subprocess.run(["cc", *flags, "-o", str(program), str(C_SOURCE), "-lzookeeper_mt", "-lpthread"], check=True)
    return program


@pytest.fixture(scope="module")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("go") / "checks"
    environment = {**os.environ, "GOMODCACHE": str(GO_MODULES), "GOFLAGS": "-mod=readonly", "GOPROXY": "off"}
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=GO_SOURCE.parent, env=environment, check=True)
    return program


@pytest.fixture(scope="module")
def c_results(c_program: Path, server: Server) -> dict[str, str]:
    return run_checks([str(c_program)], server)


@pytest.fixture(scope="module")
def go_results(go_program: Path, server: Server) -> dict[str, str]:
    return run_checks([str(go_program)], server)


@pytest.mark.parametrize("check", declared_checks(C_SOURCE))
def test_c_client(c_results: dict[str, str], check: str) -> None:
    assert c_results[check] == "ok"


@pytest.mark.parametrize("check", declared_checks(GO_SOURCE))
def test_go_client(go_results: dict[str, str], check: str) -> None:
    assert go_results[check] == "ok"


def test_c_shell(server: Server) -> None:
    """The C client's own command-line program, fed with commands as a user would type them."""
    commands = "create /shell\nset /shell some-data\nget /shell\nls /\nexists /missing\ndelete /shell\nquit\n"
    done = subprocess.run(
        [str(C_SHELL), server.address], input=commands, capture_output=True, text=True, timeout=30, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "some-data" in output
    assert "Error -101 for /missing" in output
