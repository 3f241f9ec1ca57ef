"""Callbacks that are told something; one that fails does not keep it from the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class Listeners(Generic[_T]):
    """Those of one object."""

    def __init__(self, owner: object) -> None:
        self._owner = owner
        self._callbacks: list[Callable[[_T], object]] = []

    def add(self, callback: Callable[[_T], object]) -> None:
        """Tell ``callback`` from now on."""
        self._callbacks.append(callback)

    def remove(self, callback: Callable[[_T], object]) -> None:
        """Do so no more; one that is not there is no mistake."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def tell(self, news: _T) -> None:
        """Call each; what they raise goes to the loop's exception handler."""
        for callback in tuple(self._callbacks):
            try:
                callback(news)
            except Exception as error:
                message = {"message": f"callback of {self._owner!r}", "exception": error}
                asyncio.get_running_loop().call_exception_handler(message)
