"""The benchmarks' plots."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from bench.plot import Line, Mark, Plot, svg, ticks

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("highest", "about", "expected"),
    [
        (23.0, 5, [0, 5, 10, 15, 20, 25]),
        (1.0, 5, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (70_000, 6, [0, 20_000, 40_000, 60_000, 80_000]),
        (0.0, 5, [0, 1]),
    ],
)
def test_ticks_are_round_and_reach_the_highest(highest: float, about: int, expected: list[float]) -> None:
    assert ticks(highest, about) == pytest.approx(expected)


def drawn(*lines: Line, marks: tuple[Mark, ...] = ()) -> ElementTree.Element:
    return ElementTree.fromstring(svg(Plot("a < b", "seconds", "a second", lines, marks)))


def points(element: ElementTree.Element) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in element.attrib["points"].split())
    return [(float(x), float(y)) for x, y in pairs]


def test_points_keep_their_proportions_and_y_grows_upwards() -> None:
    root = drawn(Line("one", [(0, 0), (5, 50), (10, 100)]), Line("two", [(0, 100), (10, 0)]))
    one, two = map(points, root.iter(f"{SVG}polyline"))
    (left, bottom), (middle_x, middle_y), (right, top) = one
    assert left < middle_x < right
    assert top < middle_y < bottom
    assert middle_x == pytest.approx((left + right) / 2, abs=0.1)
    assert middle_y == pytest.approx((top + bottom) / 2, abs=0.1)
    assert two == [(left, top), (right, bottom)]


def test_marks_stand_at_their_moment_and_are_told_below() -> None:
    line = Line("one", [(0, 1), (10, 1)])
    root = drawn(line, marks=(Mark(5, "it fails"), Mark(10, "it is back & well", is_good=True)))
    ((left, _), (right, _)) = points(next(root.iter(f"{SVG}polyline")))
    dashed = [float(each.attrib["x1"]) for each in root.iter(f"{SVG}line") if "stroke-dasharray" in each.attrib]
    assert dashed == pytest.approx([(left + right) / 2, right], abs=0.1)
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert {"a < b", "it fails", "it is back & well", "one"} <= set(texts)
    assert len(list(root.iter(f"{SVG}circle"))) == 4


def test_nothing_to_draw_is_no_error() -> None:
    assert not list(drawn().iter(f"{SVG}polyline"))
