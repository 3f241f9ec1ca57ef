"""Where a member listens for the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.quorum.ensemble import Ensemble
    from corral.server.config import QuorumConfig
    from corral.server.config.membership import PeerAddress


def listening_places(me: int, ensemble: Ensemble, settings: QuorumConfig) -> Sequence[PeerAddress]:
    """Where a member listens for the others; no host is every address of the machine. None if it is no member."""
    places = settings.listens_at
    if not places and me in ensemble.members:
        places = ensemble.members[me].addresses
    if settings.listen_on_all_addresses:
        return tuple(place._replace(host="") for place in places)
    return places
