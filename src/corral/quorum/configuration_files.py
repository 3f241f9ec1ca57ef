"""Where a member writes down who belongs to the ensemble, when that changes.

Two places. One is for people, and for a server of Apache's that takes over: the files beside ``zoo.cfg``, by Apache's
names. The other is the member's own, in its data directory: it is there for servers without a file, too, and where
``zoo.cfg`` cannot be written. The log alone would not do: it does not tell whether its last change was ever agreed to.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from corral.quorum.ensemble import Ensemble, parse_ensemble
from corral.server.config.rewriting import backup_file, dynamic_file, has_member_lines, pointed_at, proposed_file
from corral.storage.errors import DiskError, StorageError
from corral.storage.files import MEMBERS
from corral.storage.filesystem import FileSystem, remove_if_present, replace_file

if TYPE_CHECKING:
    from pathlib import Path

_PARTED: Final = "\n\n"
"""In a member's own record, between what is in force and what its configuration said at the start."""

log = logging.getLogger(__name__)


class ConfigurationFiles:
    """The files of one member. A disk that refuses is reported, and the member goes on with what is in its memory."""

    def __init__(
        self, me: int, begun_with: Ensemble, static: Path | None, directory: Path, filesystem: FileSystem
    ) -> None:
        """``begun_with`` is what the configuration says at this start, and ``static`` its file, if there is one.

        ``directory`` is that of the snapshots.
        """
        self.me = me
        self._begun_with = begun_with
        self._static = static
        self._record = directory / MEMBERS
        self._filesystem = filesystem

    def recall(self) -> Ensemble | None:
        """What this member last knew as agreed to, by its own record.

        None if it has none, or if somebody has written other servers into the configuration since: then these count.
        """
        try:
            in_force, _, begun_with = self._record.read_bytes().decode("utf-8", "replace").partition(_PARTED)
            recorded, before = parse_ensemble(in_force), parse_ensemble(begun_with)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s is not read, the configuration counts instead: %s", self._record, error)
            return None
        now = self._begun_with
        if now != before and now.version == 0:
            log.warning("the configuration names other servers than at the last start: it counts, not %s", self._record)
            return None
        if now != before:
            with _Reported():
                self._write_record(recorded)
        return recorded

    def _write_record(self, ensemble: Ensemble) -> None:
        self._replace(self._record, f"{ensemble.to_text()}{_PARTED}{self._begun_with.to_text()}")

    def propose(self, ensemble: Ensemble, before: Ensemble) -> None:
        """Write down a configuration before it is acknowledged: a start must know that it may have come into force.

        ``before`` is the one in force.
        """
        if self._static is not None and self._concerns_me(ensemble, before):
            with _Reported():
                self._replace(proposed_file(self._static), "\n".join(_lines(ensemble)))

    def withdraw(self) -> None:
        """The proposal has come to nothing, or into force."""
        if self._static is not None:
            path = proposed_file(self._static)
            try:
                remove_if_present(path, self._filesystem)
            except OSError as error:
                log.warning("%s", DiskError("remove the file", error, path))

    def commit(self, ensemble: Ensemble, before: Ensemble) -> None:
        """Write down a configuration that a quorum has agreed to; ``before`` is the one in force so far."""
        with _Reported():
            self._write_record(ensemble)
        if self._static is not None and self._concerns_me(ensemble, before):
            with _Reported():
                self._write_beside(self._static, ensemble, before)
                # Left there if anything went wrong: it is as good a hint for the next start.
                self.withdraw()

    def _concerns_me(self, ensemble: Ensemble, before: Ensemble) -> bool:
        """Not while this server waits to join: with the others alone in its files it could not even start again."""
        return self.me in ensemble.members or (before.version > 0 and self.me in before.members)

    def _write_beside(self, static: Path, ensemble: Ensemble, before: Ensemble) -> None:
        dynamic = dynamic_file(static, ensemble.version)
        lines = [line for line in _lines(ensemble) if not line.startswith("version=")]
        self._replace(dynamic, "\n".join(lines))
        # A link stays one.
        target = static.resolve()
        try:
            content = target.read_bytes()
            mode = target.stat().st_mode & 0o7777
        except OSError as error:
            raise DiskError("read the file", error, target) from error
        if has_member_lines(content):
            replace_file(backup_file(static), content, self._filesystem, mode=mode)
        member, earlier = ensemble.members.get(self.me), before.members.get(self.me)
        # Where clients are taken is said in the server line, or else in the static file.
        in_line = member is not None and member.client is not None
        client = earlier.client if earlier is not None and not in_line else None
        changed = pointed_at(content, dynamic.resolve(), drop_client_port=in_line, client=client)
        if changed != content:
            replace_file(target, changed, self._filesystem, mode=mode)

    def _replace(self, path: Path, text: str) -> None:
        replace_file(path, text.encode("utf-8"), self._filesystem)


class _Reported:
    """Turns what the disk refuses into a message."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, StorageError):
            log.error("the members are not written down, the log alone has them: %s", error)
            return True
        return False


def _lines(ensemble: Ensemble) -> list[str]:
    """Sorted as in Apache's files."""
    return sorted(ensemble.to_text().split("\n"))
