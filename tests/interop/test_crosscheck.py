"""The same requests go to Apache's server and to Corral's, and every answer must be the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from tests.crosscheck.crosscheck import Crosscheck
from tests.crosscheck.servers import PROFILES, launched

if TYPE_CHECKING:
    from pathlib import Path

REQUESTS: Final = 3000
SEEDS: Final = (1, 2)
SHOWN: Final = 10
MINIMISE_LIMIT_S: Final = 90.0

pytestmark = pytest.mark.timeout(600)


def expect_no_differences(check: Crosscheck, directory: Path) -> None:
    """Fails with the first difference minimised, and leaves how to see it again in a file."""
    differences = check.differences()
    if not differences:
        return
    kept = check.minimised(differences[0], MINIMISE_LIMIT_S)
    reproduction = check.reproduction(kept, differences[0])
    (directory / "reproduction.txt").write_text(reproduction, encoding="utf-8")
    shown = "\n\n".join(str(difference) for difference in differences[:SHOWN])
    pytest.fail(f"{len(differences)} differences; the first, minimised:\n{reproduction}\n\n{shown}", pytrace=False)


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("seed", SEEDS)
def test_random_requests(seed: int, profile: str, tmp_path: Path) -> None:
    places = launched("apache", profile), launched("corral", profile)
    expect_no_differences(Crosscheck.seeded(seed, REQUESTS, profile, *places), tmp_path)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_corner_cases(profile: str, tmp_path: Path) -> None:
    places = launched("apache", profile), launched("corral", profile)
    expect_no_differences(Crosscheck.corners(profile, *places), tmp_path)
