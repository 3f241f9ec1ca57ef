"""Resident memory with a million znodes of 100 bytes."""

from bench import report
from bench.bench import Bench
from bench.million import VALUE_BYTES, Million
from bench.report import Section, Table


def measure(bench: Bench, million: Million) -> list[Section]:
    for index in (0, 1):
        million.image(index)
    table = Table(("", *(f"{side.name} MiB" for side in bench.sides), "ratio", "at most", "verdict"))
    for which, title in enumerate(("resident, the creates done and all quiet", "resident at the peak")):
        ours, theirs = (million.resident_mib[index][which] for index in (0, 1))
        share = report.ratio(ours, theirs)
        wanted = ("1 : 1", report.at_most(share, 1.0)) if which == 0 else ("", "")
        table.rows.append((title, report.number(ours), report.number(theirs), report.to_one(share), *wanted))
    rates = (f"{side.name} {million.filled_per_s[index]:,.0f}" for index, side in enumerate(bench.sides))
    how = (
        f"{bench.znodes:,} znodes of {VALUE_BYTES} bytes, a thousand to a directory, through pipelined creates "
        f"(a second: {', '.join(rates)}); one run each. {heap_words(million)}"
    )
    return [Section("Memory", how, [table])]


def heap_words(million: Million) -> str:
    """How Apache's heap was sized."""
    heap = f"Apache's heap: {million.heap_mib()} MiB at most"
    if million.live_mib is None:
        return f"{heap}, as given."
    return f"{heap}, one and a half times the {million.live_mib:.0f} MiB alive in it after a full collection."
