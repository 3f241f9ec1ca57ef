"""The two servers of a cross-check: started for it, fresh each time, or somebody else's that already run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from tests.crosscheck.prepared import prepare
from tests.crosscheck.runner import SUPER_DIGEST, RunFailedError
from tests.interop.peers import SERVERS

Address = tuple[str, int]
Place = Callable[[], AbstractContextManager[Address]]
"""Gives the address of a server for one run."""

PREPARED_PROFILE: Final = "edge"
"""Servers that start on the data directory of `prepared`."""

LOG_SHOWN_CHARACTERS: Final = 6000

NEVER_MS: Final = 86_400_000

COMMON_CONFIG: Final[dict[str, str | int]] = {
    "tickTime": 500,
    "minSessionTimeout": 2000,
    "maxSessionTimeout": 60_000,
    "maxClientCnxns": 0,
    "DigestAuthenticationProvider.superDigest": SUPER_DIGEST,
}

COMMON_PROPERTIES: Final[dict[str, str | int]] = {"znode.container.checkIntervalMs": NEVER_MS}
"""Reaping would take zxids at moments of its own."""

FULL_CONFIG: Final[dict[str, str | int]] = {
    "extendedTypesEnabled": "true",
    "enforceQuota": "true",
    "reconfigEnabled": "true",
}

PROFILES: Final[dict[str, dict[str, str | int]]] = {"plain": {}, "full": FULL_CONFIG, PREPARED_PROFILE: FULL_CONFIG}
"""Configurations that change what servers answer."""


def launched(kind: str, profile: str) -> Place:
    """A fresh server of a kind (``apache`` or ``corral``) for each run on an empty or prepared directory."""

    @contextmanager
    def place() -> Iterator[Address]:
        config = {**COMMON_CONFIG, **PROFILES[profile]}
        with tempfile.TemporaryDirectory(prefix="corral-crosscheck-") as directory:
            data_dir = Path(directory) / "data"
            if profile == PREPARED_PROFILE:
                prepare(data_dir)
            with SERVERS[kind](data_dir, config, properties=COMMON_PROPERTIES) as server:
                try:
                    yield "127.0.0.1", server.port
                except RunFailedError as error:
                    error.add_note(f"the end of the {kind} server's log:\n{server.log[-LOG_SHOWN_CHARACTERS:]}")
                    raise

    return place


def running(address: str) -> Place:
    """A server that already runs at ``host:port``. It must be fresh."""
    host, _, port = address.rpartition(":")

    @contextmanager
    def place() -> Iterator[Address]:
        yield host, int(port)

    return place
