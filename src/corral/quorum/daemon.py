"""Running a member of an ensemble in the foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corral.quorum.ensemble import ensemble_of
from corral.quorum.peer import Peer
from corral.server.daemon import run_on_fast_loop, serve

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.server.config import ServerConfig
    from corral.server.machine import Machine


def make_peer(config: ServerConfig, machine: Machine | None = None) -> Peer:
    """The member that a configuration describes; it has to be that of a member."""
    assert config.server_id is not None
    quorum = config.quorum
    return Peer(
        config.server_id,
        ensemble_of(quorum),
        config,
        init_limit=quorum.init_limit,
        sync_limit=quorum.sync_limit,
        machine=machine,
    )


def run(config: ServerConfig, ready: Callable[[str, int], None] | None = None) -> int:
    """Take part until SIGTERM or SIGINT; returns the exit status: 0 after a clean stop, 1 if the member failed.

    ``ready`` is called with the address and port for clients once the member listens there; they are served while it
    has a leader. Raises OSError if one of its addresses cannot be had.
    """
    return run_on_fast_loop(serve(lambda: make_peer(config), config, ready))
