"""Commands about watches: ``addWatch``, ``removewatches``, ``printwatches``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corral.cli.shell.command import Command, Option, UsageError
from corral.cli.shell.paths import check_path
from corral.jute.ops import WatcherType

if TYPE_CHECKING:
    from corral.cli.shell.arguments import Arguments
    from corral.cli.shell.shell import Shell

__all__ = ["COMMANDS"]

_RECURSIVE: Final = {"PERSISTENT": False, "PERSISTENT_RECURSIVE": True}
_KINDS: Final = {
    "c": WatcherType.CHILDREN,
    "d": WatcherType.DATA,
    "p": WatcherType.PERSISTENT,
    "r": WatcherType.PERSISTENT_RECURSIVE,
    "a": WatcherType.ANY,
}
_REMOVED: Final = {
    WatcherType.CHILDREN: "ChildWatchRemoved",
    WatcherType.DATA: "DataWatchRemoved",
    WatcherType.PERSISTENT: "PersistentWatchRemoved",
    WatcherType.PERSISTENT_RECURSIVE: "PersistentWatchRemoved",
}


async def _add_watch(shell: Shell, arguments: Arguments) -> None:
    mode = (arguments.value("m") or "PERSISTENT_RECURSIVE").upper()
    if mode not in _RECURSIVE:
        raise UsageError
    path = check_path(arguments.operand(0))
    await shell.client.add_watch(path, shell.events.watched, recursive=_RECURSIVE[mode])
    if shell.output.as_json:
        shell.output.result({"path": path, "mode": mode})


async def _remove_watches(shell: Shell, arguments: Arguments) -> None:
    path = check_path(arguments.operand(0))
    kind = next((each for letter, each in _KINDS.items() if arguments.has(letter)), WatcherType.ANY)
    client = shell.client
    if arguments.has("l") and not client.state.is_connected:
        client.forget_watches(path, kind)
    else:
        asked = _REMOVED if kind is WatcherType.ANY else (kind,)
        set_now = [each for each in asked if await client.has_watches(path, each)]
        await client.remove_watches(path, kind)
        for event in dict.fromkeys(_REMOVED[each] for each in set_now):
            shell.events.show(event, "SyncConnected", path, -1)
    if shell.output.as_json:
        shell.output.result({"path": path, "removed": kind.name.lower()})


async def _print_watches(shell: Shell, arguments: Arguments) -> None:
    if not arguments.operands:
        word = "on" if shell.events.is_on else "off"
        shell.output.result({"printwatches": word}, f"printwatches is {word}")
        return
    if arguments.operand(0) not in ("on", "off"):
        raise UsageError
    shell.events.is_on = arguments.operand(0) == "on"


COMMANDS: Final = (
    Command(
        "addWatch",
        "[-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is PERSISTENT_RECURSIVE",
        _add_watch,
        "Print every event of a znode or a subtree from now on.",
        options=(Option("m", "mode", value="mode"),),
        operands=(1, 1),
    ),
    Command(
        "removewatches",
        "path [-c|-d|-a] [-l]",
        _remove_watches,
        "End the watches of this client on a znode.",
        options=(
            Option("c", "child watcher type"),
            Option("d", "data watcher type"),
            Option("p", "persistent watcher type"),
            Option("r", "persistent recursive watcher type"),
            Option("a", "any watcher type"),
            Option("l", "remove locally when there is no server connection"),
        ),
        operands=(1, 1),
    ),
    Command(
        "printwatches",
        "on|off",
        _print_watches,
        "Say whether events are printed, or change it.",
        operands=(0, 1),
        needs_connection=False,
    ),
)
