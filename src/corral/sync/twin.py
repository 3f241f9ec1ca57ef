"""What the blocking twins have in common."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

if TYPE_CHECKING:
    from typing import Self

    from corral.sync.portal import Portal

_Original = TypeVar("_Original")


class Twin(Generic[_Original]):
    """A blocking object, and the one of the asyncio client that does its work. Twins of the same one are equal."""

    _twins: ClassVar[dict[type, type[Twin[Any]]]] = {}

    _portal: Portal
    _original: _Original
    _turn: threading.Lock
    """Held by the thread that waits for the next item of an iterator."""

    def __init_subclass__(cls, *, of: type) -> None:
        super().__init_subclass__()
        Twin._twins[of] = cls

    def __init__(self) -> None:
        raise TypeError(f"a {type(self).__name__} is what other calls return")

    @classmethod
    def _of(cls, portal: Portal, original: _Original) -> Self:
        twin = cls.__new__(cls._twins.get(type(original), cls))
        twin._stand_for(portal, original)
        return twin  # type: ignore[return-value]

    def _stand_for(self, portal: Portal, original: _Original) -> None:
        self._portal = portal
        self._original = original
        self._turn = threading.Lock()

    def __repr__(self) -> str:
        return f"<blocking {self._original!r}>"

    def __eq__(self, other: object) -> bool:
        return self._original == other._original if isinstance(other, Twin) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._original)


def twin_of(portal: Portal, value: Any) -> Any:
    """The twin of an object of the asyncio client; anything else as it is."""
    for kind in type(value).__mro__:
        twin = Twin._twins.get(kind)
        if twin is not None:
            return twin._of(portal, value)
    return value
