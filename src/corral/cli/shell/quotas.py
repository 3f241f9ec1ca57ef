"""``setquota``, ``listquota``, ``delquota``: znodes under ``/zookeeper/quota``, exactly as Apache makes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from corral.cli.shell.command import Command, CommandError, Option, UsageError
from corral.cli.shell.paths import check_path
from corral.cli.shell.walking import walk
from corral.client import NULL
from corral.client.errors import NodeExistsError, NoNodeError

if TYPE_CHECKING:
    from corral.cli.shell.arguments import Arguments
    from corral.cli.shell.shell import Shell
    from corral.client import Client

__all__ = ["COMMANDS", "Track"]

_QUOTA: Final = "/zookeeper/quota"
_LIMITS: Final = "zookeeper_limits"
_USAGE: Final = "zookeeper_stats"
_KEYS: Final = {"n": "count", "b": "bytes", "N": "countHardLimit", "B": "byteHardLimit"}
"""What an option limits, as it stands in the data."""


@dataclass(slots=True)
class Track:
    """Limits, or what is used: numbers by name; -1 is unset (source: StatsTrack)."""

    numbers: dict[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes, path: str) -> Track:
        """From the data of a znode. Raises CommandError if that is no such text."""
        track = cls()
        for pair in data.decode("utf-8", "replace").replace(";", ",").split(","):
            name, equals, value = pair.partition("=")
            if not pair:
                continue
            try:
                # Old readers need the "=" that stands after the second number.
                track.numbers[name] = int(value.partition("=")[0] or "-1")
            except ValueError:
                raise CommandError(f"{path}: {pair!r} is no limit") from None
            if not equals:
                raise CommandError(f"{path}: {pair!r} is no limit")
        return track

    def __str__(self) -> str:
        """As it is stored: count and bytes first, and an ``=`` that makes old readers overlook what follows."""
        more = "".join(f";{name}={self.numbers[name]}" for name in sorted(self.numbers.keys() - {"count", "bytes"}))
        return f"count={self['count']},bytes={self['bytes']}{f'={more}' if more else ''}"

    def __getitem__(self, name: str) -> int:
        return self.numbers.get(name, -1)

    def encode(self) -> bytes:
        """The data of the znode."""
        return str(self).encode()


async def _set_quota(shell: Shell, arguments: Arguments) -> None:
    given = _given(arguments)
    if not given:
        raise UsageError(
            "Missing required option: [-n num soft quota, -b bytes soft quota, -N num hard quota, -B bytes hard quota]"
        )
    if not arguments.operands:
        raise UsageError
    path = arguments.operand(0)
    if path.startswith(_QUOTA):
        raise CommandError(f"cannot set a quota under the path: {_QUOTA}")
    value = arguments.integer(
        given, 0, "NumberFormatException happens when parsing the option value", bits=32 if given in "nN" else 64
    )
    if given in "nN" and value <= 0:
        raise CommandError("the num quota must be greater than zero")
    if given in "bB" and value < 0:
        raise CommandError("the bytes quota must be greater than or equal to zero")
    client = shell.client
    if await client.exists(check_path(path)) is None:
        raise CommandError(f"{path} does not exist.")
    await _check_below(client, path)
    await _check_above(client, path)
    limits, usage = await _write_limits(client, path, {_KEYS[given]: value})
    for line in _warnings(limits, usage):
        shell.output.result({"path": path, "warning": line}, line)
    if shell.output.as_json:
        shell.output.result({"path": path, "limits": limits.numbers})


async def _write_limits(client: Client, path: str, wanted: dict[str, int]) -> tuple[Track, Track]:
    """Create or change the limits; returns them and what is used."""
    at = _QUOTA
    for name in path.split("/")[1:]:
        at = f"{at}/{name}"
        await _create_missing(client, at, NULL)
    limits = Track(dict.fromkeys(_KEYS.values(), -1) | wanted)
    limits_path, usage_path = f"{at}/{_LIMITS}", f"{at}/{_USAGE}"
    is_new = await _create_missing(client, limits_path, limits.encode())
    if is_new:
        await _create_missing(client, usage_path, Track({"count": 0, "bytes": 0}).encode())
    else:
        limits = Track.parse((await client.get(limits_path)).data, limits_path)
        limits.numbers.update(wanted)
    usage = Track.parse((await client.get(usage_path)).data, usage_path)
    if not is_new:
        await client.set(limits_path, limits.encode())
    return limits, usage


async def _create_missing(client: Client, path: str, data: bytes) -> bool:
    """Create a znode unless there is one; returns whether it did."""
    if await client.exists(path) is not None:
        return False
    try:
        await client.create(path, data)
    except NodeExistsError:
        return False
    return True


async def _check_below(client: Client, path: str) -> None:
    own = _QUOTA + path
    try:
        async for each in walk(client, own):
            parent, _, name = each.rpartition("/")
            if name == _LIMITS and parent != own:
                raise CommandError(f"{path} has a child {parent.removeprefix(_QUOTA)} which has a quota")
    except NoNodeError:
        return


async def _check_above(client: Client, path: str) -> None:
    at = _QUOTA
    for name in path.split("/")[1:-1]:
        at = f"{at}/{name}"
        try:
            children = await client.get_children(at)
        except NoNodeError:
            return
        if _LIMITS in children:
            raise CommandError(f"{path} has a parent {at.removeprefix(_QUOTA)} which has a quota")


def _warnings(limits: Track, usage: Track) -> list[str]:
    warnings = []
    for name, hard in (("count", "countHardLimit"), ("bytes", "byteHardLimit")):
        if any(-1 < limits[each] < usage[name] for each in (name, hard)):
            warnings.append(f"[Warning]: the {name} quota you create is less than the existing {name}:{usage[name]}")
    return warnings


async def _list_quota(shell: Shell, arguments: Arguments) -> None:
    path = check_path(arguments.operand(0))
    limits_path = f"{_QUOTA}{path}/{_LIMITS}"
    if not shell.output.as_json:
        shell.output.message(f"absolute path is {limits_path}")
    check_path(limits_path)
    value: dict[str, Any] = {"path": path}
    try:
        for name, what, at in (("limits", "quota", limits_path), ("usage", "stat", f"{_QUOTA}{path}/{_USAGE}")):
            track = Track.parse((await shell.client.get(at)).data, at)
            value[name] = track.numbers
            if not shell.output.as_json:
                shell.output.result(None, f"Output {what} for {path} {track}")
    except NoNodeError:
        raise CommandError(f"quota for {path} does not exist.") from None
    if shell.output.as_json:
        shell.output.result(value)


async def _delete_quota(shell: Shell, arguments: Arguments) -> None:
    given = _given(arguments)
    path = check_path(arguments.operand(0))
    client = shell.client
    own = _QUOTA + path
    limits_path = check_path(f"{own}/{_LIMITS}")
    try:
        data = (await client.get(limits_path)).data
    except NoNodeError:
        shell.output.result({"error": f"Quota does not exist for {path}"}, f"Quota does not exist for {path}")
        shell.status = 1
        return
    if given:
        limits = Track.parse(data, limits_path)
        limits.numbers[_KEYS[given]] = -1
        await client.set(limits_path, limits.encode())
        if shell.output.as_json:
            shell.output.result({"path": path, "limits": limits.numbers})
        return
    for name in await client.get_children(own):
        await client.delete(f"{own}/{name}")
    while own != _QUOTA and not await client.get_children(own):
        await client.delete(own)
        own = own.rpartition("/")[0]
    if shell.output.as_json:
        shell.output.result({"path": path, "limits": None})


def _given(arguments: Arguments) -> str:
    """The one option that says which limit; empty if there is none."""
    given = list(arguments.values)
    if len(given) > 1:
        raise UsageError(
            f"The option '{given[1]}' was specified but an option from this group has already been selected: "
            f"'{given[0]}'"
        )
    return given[0] if given else ""


def _options(value: str | None) -> tuple[Option, ...]:
    return (
        Option("n", "num soft quota", value=value),
        Option("b", "bytes soft quota", value=value),
        Option("N", "num hard quota", value=value),
        Option("B", "bytes hard quota", value=value),
    )


COMMANDS: Final = (
    Command(
        "setquota",
        "-n|-b|-N|-B val path",
        _set_quota,
        "Limit the number of znodes or bytes in a subtree.",
        options=_options("val"),
        operands=(0, 1),
    ),
    Command("listquota", "path", _list_quota, "Print the limits of a subtree and what it uses.", operands=(1, 1)),
    Command(
        "delquota",
        "[-n|-b|-N|-B] path",
        _delete_quota,
        "Lift one limit of a subtree, or all.",
        options=_options(None),
        operands=(1, 1),
    ),
)
