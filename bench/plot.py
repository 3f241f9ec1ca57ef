"""Lines over time with marked moments, as an SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

_WIDTH = 960
_PLOT_HEIGHT = 360
_LEFT, _RIGHT, _TOP = 76, 20, 64
_LEGEND_LINE = 18
_COLOURS = ("#0a6c52", "#b5452c", "#3559a8", "#8a6d00")
_MIDDLE = 'dy="0.35em"'
"""Puts a text's middle where it is placed, roughly; not every program knows better ways."""
_INK, _FAINT = "#222222", "#dddddd"


@dataclass(frozen=True)
class Line:
    """A named sequence of points, x ascending."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Mark:
    """A moment and what happened then."""

    x: float
    text: str
    is_good: bool = False
    """Drawn hollow instead of filled."""


@dataclass(frozen=True)
class Plot:
    """What is drawn; both axes begin at 0."""

    title: str
    x_title: str
    y_title: str
    lines: Sequence[Line]
    marks: Sequence[Mark] = field(default_factory=tuple)


def ticks(highest: float, about: int) -> list[float]:
    """Round numbers from 0 to the first one that is not below `highest`, about so many."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / about
    power: float = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [step * number for number in range(math.ceil(highest / step * 0.999) + 1)]


def svg(plot: Plot) -> str:
    """The plot as the text of an SVG file."""
    points = [point for line in plot.lines for point in line.points]
    x_most = max((x for x, _ in points), default=1.0)
    y_ticks = ticks(max((y for _, y in points), default=1.0), 6)
    width, bottom = _WIDTH - _LEFT - _RIGHT, _TOP + _PLOT_HEIGHT
    legend_top = bottom + 58
    height = legend_top + _LEGEND_LINE * math.ceil(len(plot.marks) / 2) + 8

    def at_x(x: float) -> str:
        return f"{_LEFT + width * x / x_most:.1f}"

    def at_y(y: float) -> str:
        return f"{bottom - _PLOT_HEIGHT * y / y_ticks[-1]:.1f}"

    font = f'font-family="sans-serif" font-size="12" fill="{_INK}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {font}>',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        _text(_LEFT, 20, plot.title, "start", 'font-size="15" font-weight="bold"'),
    ]
    for y in y_ticks:
        parts.append(_line(_LEFT, at_y(y), _LEFT + width, at_y(y), _FAINT))
        parts.append(_text(_LEFT - 8, at_y(y), f"{y:,g}", "end", _MIDDLE))
    for x in ticks(x_most, 10):
        if x <= x_most:
            parts.append(_line(at_x(x), bottom, at_x(x), bottom + 5, _INK))
            parts.append(_text(at_x(x), bottom + 19, f"{x:g}", "middle"))
    parts.append(_line(_LEFT, bottom, _LEFT + width, bottom, _INK))
    parts.append(_text(_LEFT + width / 2, bottom + 36, plot.x_title, "middle"))
    turned = f'transform="rotate(-90 14 {_TOP + _PLOT_HEIGHT / 2:.0f})"'
    parts.append(_text(14, _TOP + _PLOT_HEIGHT / 2, plot.y_title, "middle", turned))
    for number, mark in enumerate(plot.marks, 1):
        parts.append(_line(at_x(mark.x), _TOP, at_x(mark.x), bottom, "#999999", 'stroke-dasharray="3 3"'))
        parts += _number(at_x(mark.x), str(_TOP - 10), number, mark)
        column, row = (number - 1) % 2, (number - 1) // 2
        x, y = _LEFT + 10 + column * width / 2, legend_top + row * _LEGEND_LINE
        parts += _number(str(x), str(y), number, mark)
        parts.append(_text(x + 14, y, mark.text, "start", _MIDDLE))
    for index, line in enumerate(plot.lines):
        colour = _COLOURS[index % len(_COLOURS)]
        path = " ".join(f"{at_x(x)},{at_y(y)}" for x, y in line.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
        x = _LEFT + 150 * index
        parts.append(_line(x, 35, x + 24, 35, colour, 'stroke-width="3"'))
        parts.append(_text(x + 30, 39, line.name, "start"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _line(x1: float | str, y1: float | str, x2: float | str, y2: float | str, colour: str, more: str = "") -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" {more}/>'


def _text(x: float | str, y: float | str, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" {more}>{escape(text)}</text>'


def _number(x: str, y: str, number: int, mark: Mark) -> list[str]:
    """A circle with the mark's number."""
    fill, ink = ("white", _INK) if mark.is_good else (_INK, "white")
    circle = f'<circle cx="{x}" cy="{y}" r="8" fill="{fill}" stroke="{_INK}"/>'
    return [circle, _text(x, y, str(number), "middle", f'{_MIDDLE} font-size="10" fill="{ink}"')]
