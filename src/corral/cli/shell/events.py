"""Prints what happens meanwhile: watches that fire, connections that come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corral.client import EventKind, State

if TYPE_CHECKING:
    from corral.cli.shell.output import Output
    from corral.client import WatchEvent

__all__ = ["EventPrinter"]

_TYPES: Final = {
    EventKind.CREATED: "NodeCreated",
    EventKind.DELETED: "NodeDeleted",
    EventKind.DATA_CHANGED: "NodeDataChanged",
    EventKind.CHILDREN_CHANGED: "NodeChildrenChanged",
}
_STATES: Final = {
    State.CONNECTED: "SyncConnected",
    State.CONNECTED_READ_ONLY: "ConnectedReadOnly",
    State.SUSPENDED: "Disconnected",
    State.LOST: "Expired",
    State.CLOSED: "Closed",
}


class EventPrinter:
    """The one watcher of a shell: an event that several watches wait for is printed once, as zkCli does."""

    def __init__(self, output: Output) -> None:
        self.is_on = True
        """What ``printwatches`` sets."""
        self._output = output
        self._last: WatchEvent | None = None

    def watched(self, event: WatchEvent) -> None:
        """A watch has fired. MISSED and LOST come with an event of the connection, which says enough."""
        if event is not self._last and event.kind in _TYPES:
            self._last = event
            self.show(_TYPES[event.kind], "SyncConnected", event.path, event.zxid)

    def state_changed(self, state: State) -> None:
        """The connection or the session has come or gone."""
        if state in _STATES:
            self.show("None", _STATES[state], None, -1)

    def show(self, kind: str, state: str, path: str | None, zxid: int) -> None:
        """Print any event."""
        if not self.is_on:
            return
        event = f"WatchedEvent state:{state} type:{kind} path:{'null' if path is None else path} zxid: {zxid}"
        self._output.result({"event": kind, "state": state, "path": path, "zxid": zxid}, "", "WATCHER::", "", event)
        self._output.flush()
