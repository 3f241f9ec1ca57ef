"""The same seeded random requests go to Apache's server and to Corral's, and every answer must be the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from tests.crosscheck.crosscheck import Crosscheck
from tests.crosscheck.servers import PROFILES

if TYPE_CHECKING:
    from pathlib import Path

REQUESTS: Final = 3000
SEEDS: Final = (1, 2)
SHOWN: Final = 10
MINIMISE_LIMIT_S: Final = 90.0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("seed", SEEDS)
def test_corral_answers_as_apache_does(seed: int, profile: str, tmp_path: Path) -> None:
    check = Crosscheck.launched(seed, REQUESTS, profile)
    differences = check.differences()
    if not differences:
        return
    kept = check.minimised(differences[0], MINIMISE_LIMIT_S)
    reproduction = check.reproduction(kept, differences[0])
    (tmp_path / "reproduction.txt").write_text(reproduction, encoding="utf-8")
    shown = "\n\n".join(str(difference) for difference in differences[:SHOWN])
    pytest.fail(f"{len(differences)} differences; the first, minimised:\n{reproduction}\n\n{shown}", pytrace=False)
