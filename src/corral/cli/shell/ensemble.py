"""Commands about the ensemble: ``config`` and ``reconfig``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corral.cli.shell.command import Command, CommandError, Option, UsageError, about
from corral.cli.shell.formats import data_object, shown_data, stat_lines, stat_object
from corral.properties import settings

if TYPE_CHECKING:
    from corral.cli.shell.arguments import Arguments
    from corral.cli.shell.shell import Shell

__all__ = ["COMMANDS", "client_addresses"]

_MEMBERS: Final = re.compile(r"server\.-?[0-9]+|group\.[0-9]+|weight\.[0-9]+")


async def _config(shell: Shell, arguments: Arguments) -> None:
    watch = shell.events.watched if arguments.has("w") else None
    with about("/zookeeper/config"):
        data, stat = await shell.client.get_config(watch=watch)
    text = shown_data(data)
    if arguments.has("c"):
        version, addresses = client_addresses(text)
        value, text = {"version": version, "clients": addresses}, f"{version} {','.join(addresses)}"
    else:
        value = data_object(data)
    if arguments.has("s"):
        shell.output.result({**value, "stat": stat_object(stat)}, text, *stat_lines(stat))
    else:
        shell.output.result(value, text)


def client_addresses(config: str) -> tuple[str, list[str]]:
    """The version of a dynamic configuration (hexadecimal), and where its servers take clients."""
    version = ""
    addresses = []
    for key, value in settings(config).items():
        if key == "version":
            version = value.strip()
        elif key.startswith("server."):
            client = value.partition(";")[2].strip()
            if client:
                addresses.append(client if ":" in client else f"0.0.0.0:{client}")
    return version, addresses


async def _reconfig(shell: Shell, arguments: Arguments) -> None:
    whole = [name for name in ("file", "members") if arguments.has(name)]
    parts = [name for name in ("add", "remove") if arguments.has(name)]
    if not whole and not parts:
        raise UsageError
    version = arguments.value("v") or "-1"
    if not re.fullmatch(r"[-+]?[0-9a-fA-F]{1,16}", version):
        raise CommandError("-v must be followed by a long (configuration version)")
    if whole and parts:
        raise CommandError(
            "Can't use -file or -members together with -add or -remove "
            "(mixing incremental and non-incremental modes is not allowed)"
        )
    if len(whole) > 1:
        raise CommandError("Can't use -file and -members together (conflicting non-incremental modes)")
    file = arguments.value("file")
    members = _listed(arguments, "members") if file is None else _read_members(Path(file))
    with about(""):
        data, stat = await shell.client.reconfig(
            joining=_listed(arguments, "add"),
            leaving=_listed(arguments, "remove"),
            members=members,
            from_version=int(version, 16),
        )
    lines = stat_lines(stat) if arguments.has("s") else []
    value = {**data_object(data), "stat": stat_object(stat)}
    shell.output.result(value, "Committed new configuration:", shown_data(data), *lines)


def _listed(arguments: Arguments, name: str) -> list[str]:
    text = arguments.value(name)
    return text.lower().split(",") if text else []


def _read_members(path: Path) -> list[str]:
    """The lines of a configuration file that say who belongs to the ensemble."""
    try:
        lines = settings(path.read_bytes().decode("latin-1"))
    except OSError as error:
        raise CommandError(f"Error processing {path}: {error.strerror}") from None
    except ValueError as error:
        raise CommandError(f"Error processing {path}: {error}") from None
    members = [f"{key}={value}" for key, value in lines.items() if _MEMBERS.fullmatch(key)]
    if not any(member.startswith("server.") for member in members):
        raise CommandError(f"Error processing {path}: it has no server.N line")
    return members


COMMANDS: Final = (
    Command(
        "config",
        "[-c] [-w] [-s]",
        _config,
        "Print the configuration of the ensemble.",
        options=(Option("s", "stats"), Option("w", "watch"), Option("c", "client connection string")),
        operands=(0, 0),
    ),
    Command(
        "reconfig",
        "[-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,...]*]] | "
        "[-add serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]",
        _reconfig,
        "Change the members of the ensemble.",
        options=(
            Option("s", "stats"),
            Option("v", "required current config version", value="arg"),
            Option("file", "path of config file to parse for membership", value="arg"),
            Option("members", "comma-separated list of config strings for non-incremental reconfig", value="arg"),
            Option("add", "comma-separated list of config strings for new servers", value="arg"),
            Option("remove", "comma-separated list of server IDs to remove", value="arg"),
        ),
        operands=(0, 0),
    ),
)
