"""``top``: what the servers do right now, by their four letter words.

A sample asks every server ``mntr`` and ``cons``; one whose white list lacks ``mntr`` (Apache's default) is asked
``srvr``, which tells less. Two samples give rates.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from corral.cli.shell.command import Command, CommandError, Option
from corral.cli.shell.ensemble import client_addresses
from corral.client import KeeperError
from corral.client.addresses import Address, parse_hosts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from corral.cli.shell.arguments import Arguments
    from corral.cli.shell.shell import Shell
    from corral.client import Client

__all__ = ["COMMANDS", "Connection", "Sample", "ask", "parse_connections", "parse_figures", "rate", "take_sample"]

_PATIENCE_S: Final = 2.0
"""A server that has not answered by then counts as down."""
_INTERVAL_S: Final = 2.0
_ANSWER_MAX: Final = 16 * 1024 * 1024
_CONNECTIONS: Final = 10
"""Connections that are shown: the busiest ones."""

_STATE_KEYS: Final = {
    "Received": "packets_received",
    "Sent": "packets_sent",
    "Connections": "num_alive_connections",
    "Outstanding": "outstanding_requests",
    "Mode": "server_state",
    "Node count": "znode_count",
    "Zookeeper version": "version",
    "Zxid": "zxid",
}
"""What ``srvr`` calls the figures of ``mntr``."""
_LATENCY: Final = re.compile(r"Latency min/avg/max: ([\d.]+)/([\d.]+)/([\d.]+)")
_CONNECTION: Final = re.compile(r"\s*/(.+)\[\d+\]\((.*)\)")


@dataclass(frozen=True, slots=True)
class Connection:
    """One line of ``cons``."""

    client: str
    session: str
    received: int
    sent: int
    last_operation: str = ""
    average_latency_ms: float | None = None


@dataclass(slots=True)
class Sample:
    """What one server said at one moment."""

    server: str
    taken_at: float
    """Seconds on a monotonic clock."""
    problem: str = ""
    """Why there are no figures."""
    figures: dict[str, str] = field(default_factory=dict)
    """As ``mntr`` names them, without ``zk_``."""
    connections: list[Connection] | None = None
    """None if the server does not tell."""

    def number(self, name: str) -> float | None:
        """A figure, if it is there and a number."""
        with suppress(KeyError, ValueError):
            return float(self.figures[name])
        return None


async def ask(address: Address, word: str) -> str:
    """A server's whole answer to a four letter word. Raises OSError (TimeoutError after :data:`_PATIENCE_S`)."""
    async with asyncio.timeout(_PATIENCE_S):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            writer.write(word.encode("ascii"))
            await writer.drain()
            answer = bytearray()
            while len(answer) < _ANSWER_MAX and (piece := await reader.read(65536)):
                answer += piece
        finally:
            writer.transport.abort()
    return answer.decode("utf-8", "replace")


async def take_sample(address: Address) -> Sample:
    """Ask one server; what is wrong with it is in the sample."""
    sample = Sample(str(address), time.monotonic())
    try:
        sample.figures = parse_figures(await ask(address, "mntr"))
        if not sample.figures:
            answer = await ask(address, "srvr")
            sample.figures = parse_figures(answer)
            if not sample.figures:
                sample.problem = answer.strip().partition("\n")[0] or "no answer"
        sample.connections = parse_connections(await ask(address, "cons"))
    except OSError as error:
        sample.problem = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
    return sample


def parse_figures(answer: str) -> dict[str, str]:
    """The figures of ``mntr`` or ``srvr``, by mntr's names; none if the answer is neither."""
    found: dict[str, str] = {}
    for line in answer.splitlines():
        key, tab, value = line.partition("\t")
        if tab and key.startswith("zk_"):
            found[key.removeprefix("zk_")] = value.strip()
            continue
        key, colon, value = line.partition(": ")
        if colon and key in _STATE_KEYS:
            found[_STATE_KEYS[key]] = value.strip()
        elif (match := _LATENCY.fullmatch(line.strip())) is not None:
            found["min_latency"], found["avg_latency"], found["max_latency"] = match.groups()
    return found


def parse_connections(answer: str) -> list[Connection] | None:
    """The lines of ``cons``; None if it is not answered."""
    if "is not executed because it is not in the whitelist" in answer:
        return None
    found: list[Connection] = []
    for line in answer.splitlines():
        match = _CONNECTION.fullmatch(line.rstrip())
        if match is None:
            continue
        fields = dict(each.partition("=")[::2] for each in match[2].split(","))
        # The connection that asks is in the list, without a session.
        if "sid" in fields:
            found.append(
                Connection(
                    match[1],
                    fields["sid"],
                    int(fields.get("recved", "0")),
                    int(fields.get("sent", "0")),
                    fields.get("lop", ""),
                    float(fields["avglat"]) if "avglat" in fields else None,
                )
            )
    return found


def rate(earlier: float | None, later: float | None, seconds: float) -> float | None:
    """How much more there is each second; None if that cannot be said, as of a server that began anew."""
    if earlier is None or later is None or later < earlier or seconds <= 0:
        return None
    return (later - earlier) / seconds


def _as_object(before: Sample, now: Sample) -> dict[str, Any]:
    seconds = now.taken_at - before.taken_at
    value: dict[str, Any] = {"server": now.server, "problem": now.problem or None}
    value["requests_per_second"] = rate(before.number("packets_received"), now.number("packets_received"), seconds)
    value["replies_per_second"] = rate(before.number("packets_sent"), now.number("packets_sent"), seconds)
    value["figures"] = now.figures
    value["connections"] = None
    if now.connections is not None:
        rates = _connection_rates(before, now)
        value["connections"] = [
            {**asdict(each), "requests_per_second": rates.get(each)} for each in _busiest(now.connections, rates)
        ]
    return value


def _connection_rates(before: Sample, now: Sample) -> dict[Connection, float | None]:
    seconds = now.taken_at - before.taken_at
    earlier = {(each.client, each.session): each.received for each in before.connections or ()}
    return {
        each: rate(earlier.get((each.client, each.session)), each.received, seconds) for each in now.connections or ()
    }


def _busiest(connections: Sequence[Connection], rates: dict[Connection, float | None]) -> list[Connection]:
    return sorted(connections, key=lambda each: (-(rates.get(each) or 0.0), -each.received, each.client))


async def _servers(client: Client) -> list[Address]:
    """Those of the connect string, and the other members of the ensemble."""
    found = list(client.settings.addresses)
    if not client.state.is_connected:
        return found
    with suppress(KeeperError, ValueError):
        _, members = client_addresses((await client.get_config()).data.decode())
        for member in members:
            (address,), _ = parse_hosts(member)
            # One that listens on all addresses does not say by which it is reached.
            if address.host not in ("0.0.0.0", "::") and address not in found:
                found.append(address)
    return found


async def _sample_all(client: Client) -> list[Sample]:
    return await asyncio.gather(*[take_sample(address) for address in await _servers(client)])


async def _top(shell: Shell, arguments: Arguments) -> None:
    interval = _interval(arguments)
    once = arguments.has("once")
    if not (once or shell.output.as_json or sys.stdout.isatty()):
        raise CommandError("top needs a terminal; --once shows one view, --json one line for each interval")
    before = await _sample_all(shell.client)
    if once or shell.output.as_json:
        while True:
            await asyncio.sleep(interval)
            now = await _sample_all(shell.client)
            _print(shell, before, now)
            if once:
                break
            shell.output.flush()
            before = now
        if all(sample.problem for sample in now):
            shell.status = 1
        return
    await _show(shell, before, interval)


def _interval(arguments: Arguments) -> float:
    text = arguments.value("n")
    try:
        interval = _INTERVAL_S if text is None else float(text)
    except ValueError:
        interval = 0.0
    if not 0.1 <= interval <= 3600:
        raise CommandError(f"interval {text} is not between 0.1 and 3600 seconds")
    return interval


def _pairs(before: Sequence[Sample], now: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    earlier = {sample.server: sample for sample in before}
    return [(earlier.get(sample.server, sample), sample) for sample in now]


def _print(shell: Shell, before: Sequence[Sample], now: Sequence[Sample]) -> None:
    pairs = _pairs(before, now)
    value = {"time": time.time(), "servers": [_as_object(*pair) for pair in pairs]}
    lines: list[str] = []
    for rows in (_server_rows(pairs), _connection_rows(pairs)):
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        lines.append("")
    shell.output.result(value, *lines[:-1])


async def _show(shell: Shell, before: Sequence[Sample], interval: float) -> None:
    """Redraw until Ctrl-C, which is the way to end it."""
    from rich.console import Console
    from rich.live import Live

    # The shell may stand between sys.stdout and the terminal.
    console = Console(file=sys.__stdout__)
    try:
        with Live(
            _view(before, before), console=console, screen=True, redirect_stdout=False, redirect_stderr=False
        ) as live:
            while True:
                await asyncio.sleep(interval)
                now = await _sample_all(shell.client)
                live.update(_view(before, now), refresh=True)
                before = now
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()


def _view(before: Sequence[Sample], now: Sequence[Sample]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    pairs = _pairs(before, now)
    parts: list[RenderableType] = [Text(f"{time.strftime('%H:%M:%S')}   Ctrl-C ends")]
    for rows in (_server_rows(pairs), _connection_rows(pairs)):
        table = Table(box=None, pad_edge=False)
        for heading in rows[0]:
            table.add_column(heading, no_wrap=True)
        for row in rows[1:]:
            table.add_row(*map(Text, row))
        parts.append(table)
    return Group(*parts)


def _server_rows(pairs: Sequence[tuple[Sample, Sample]]) -> list[list[str]]:
    headings = [
        "SERVER",
        "MODE",
        "REQ/S",
        "REPLY/S",
        "CONNS",
        "SESSIONS",
        "QUEUED",
        "ZNODES",
        "EPHEM",
        "WATCHES",
        "LAT AVG/MAX",
    ]
    rows = [headings]
    for before, now in pairs:
        if not now.figures:
            rows.append([now.server, f"down: {now.problem}", *[""] * (len(headings) - 2)])
            continue
        seconds = now.taken_at - before.taken_at
        figures = now.figures
        rows.append(
            [
                now.server,
                figures.get("server_state", "?"),
                _shown(rate(before.number("packets_received"), now.number("packets_received"), seconds)),
                _shown(rate(before.number("packets_sent"), now.number("packets_sent"), seconds)),
                figures.get("num_alive_connections", "-"),
                figures.get("global_sessions", "-"),
                figures.get("outstanding_requests", "-"),
                figures.get("znode_count", "-"),
                figures.get("ephemerals_count", "-"),
                figures.get("watch_count", "-"),
                f"{figures.get('avg_latency', '-')}/{figures.get('max_latency', '-')}",
            ]
        )
    return rows


def _connection_rows(pairs: Sequence[tuple[Sample, Sample]]) -> list[list[str]]:
    """The busiest connections of all servers."""
    rates: dict[Connection, float | None] = {}
    server_of: dict[Connection, str] = {}
    for before, now in pairs:
        rates |= _connection_rates(before, now)
        server_of |= dict.fromkeys(now.connections or (), now.server)
    rows = [["CLIENT", "SERVER", "SESSION", "REQ/S", "REQUESTS", "LAST", "LAT AVG"]]
    for each in _busiest(list(rates), rates)[:_CONNECTIONS]:
        latency = "-" if each.average_latency_ms is None else f"{each.average_latency_ms:g}"
        rows.append(
            [
                each.client,
                server_of[each],
                each.session,
                _shown(rates[each]),
                str(each.received),
                each.last_operation,
                latency,
            ]
        )
    return rows


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


COMMANDS: Final = (
    Command(
        "top",
        "[--once] [-n seconds]",
        _top,
        "Show what the servers do: sessions, request rates, latency.",
        options=(
            Option("once", "one view, after one interval", long="once"),
            Option("n", "the interval [2]", value="seconds", long="interval"),
        ),
        explains_options=True,
    ),
)
