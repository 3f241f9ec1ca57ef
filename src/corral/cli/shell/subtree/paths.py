"""Arithmetic of znode paths. A relative path has no slash in front; that of a subtree's own root is empty."""

from __future__ import annotations

__all__ = ["is_within", "join", "order", "parent_of", "relative_to"]


def join(root: str, relative: str) -> str:
    """The path that is ``relative`` to ``root``."""
    if not relative:
        return root
    return f"{root.rstrip('/')}/{relative}"


def relative_to(root: str, path: str) -> str:
    """The reverse of :func:`join`; ``path`` is within ``root``."""
    return path[len(root) :].lstrip("/")


def is_within(root: str, path: str) -> bool:
    """Whether ``path`` is ``root`` or below it."""
    return root == "/" or path == root or path.startswith(f"{root}/")


def parent_of(path: str) -> str:
    """The path one level up; ``/`` for one that has only the root above it."""
    return path[: path.rindex("/")] or "/"


def order(relative: str) -> tuple[int, list[str]]:
    """The key by which a breadth-first walk with sorted children is sorted."""
    if not relative:
        return 0, []
    names = relative.split("/")
    return len(names), names
