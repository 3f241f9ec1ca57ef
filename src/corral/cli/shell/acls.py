"""ACLs as a user types them (source: AclParser)."""

from __future__ import annotations

from corral.cli.shell.command import CommandError
from corral.client import Acl

__all__ = ["parse_acl"]


def parse_acl(text: str) -> list[Acl]:
    """The entries of ``scheme:id:permissions,...``; the id may have colons.

    Raises CommandError, naming what is wrong.
    """
    acl = []
    for part in text.split(","):
        scheme, first, rest = part.partition(":")
        identity, last, permissions = rest.rpartition(":")
        if not first or not last:
            raise CommandError(f"{part} does not have the form scheme:id:perm")
        for letter in permissions:
            if letter not in "cdrwa":
                raise CommandError(f"Unknown perm type: {letter}")
        acl.append(Acl(scheme, identity, permissions))
    return acl
