"""Figures as tables: medians, ratios, verdicts, Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

MET = "met"
AIM = "aim reached"
SHORT = "**short**"


@dataclass
class Table:
    """Rows under a header; every cell is text."""

    header: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def markdown(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        rule = ["-" * max(width, 3) for width in widths]
        return "\n".join(_line(row, widths) for row in (self.header, rule, *self.rows))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(max(width, 3)) for cell, width in zip(cells, widths, strict=True)) + " |"


@dataclass
class Section:
    """One kind of measurement: how it was made, and its tables."""

    title: str
    how: str
    tables: list[Table] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        remarks = "\n".join(f"- {remark}" for remark in self.remarks)
        parts = [f"## {self.title}", self.how, *(table.markdown() for table in self.tables), remarks]
        return "\n\n".join(part for part in parts if part) + "\n"


def at_least(value: float, least: float, aim: float | None = None) -> str:
    """The verdict on a figure that should be large."""
    if aim is not None and value >= aim:
        return AIM
    return MET if value >= least else SHORT


def at_most(value: float, most: float) -> str:
    """The verdict on a figure that should be small."""
    return MET if value <= most else SHORT


def ratio(ours: float, theirs: float) -> float:
    """Ours for one of theirs; infinite when theirs is nothing."""
    return ours / theirs if theirs else float("inf")


def to_one(value: float) -> str:
    return f"{value:.2f} : 1"


def one_to(value: float) -> str:
    return f"1 : {value:.2f}"


def number(value: float) -> str:
    """A figure with about three digits that count, thousands kept apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def milliseconds(microseconds: float) -> str:
    return number(microseconds / 1000)


def spread(values: Iterable[float]) -> str:
    """The median, and the smallest and largest where there are several."""
    ordered = sorted(values)
    if len(ordered) == 1:
        return number(ordered[0])
    return f"{number(median(ordered))} ({number(ordered[0])} to {number(ordered[-1])})"
