"""Servers in child processes with something wrong, and what can be measured of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.interop.peers import CorralServer


class PatchedServer(CorralServer):
    """A server whose process runs some lines of Python first."""

    def __init__(self, data_dir: Path, lines: str, config: Mapping[str, str | int] | None = None) -> None:
        super().__init__(data_dir, config)
        self.lines = lines

    def command(self) -> Sequence[str]:
        program = f"import os\n{self.lines}\nfrom corral.cli.main import main\nmain()"
        return [sys.executable, "-c", program, "server", str(self.config_path)]


SYNC_FAILS_LATER: Final = """
import errno, time
started, sync = time.monotonic(), os.fdatasync
def failing(descriptor):
    sync(descriptor)
    if os.path.exists(os.environ["FAIL_SYNCS"]):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
os.fdatasync = failing
"""


SYNC_HANGS: Final = """
import time
sync = os.fdatasync
def hanging(descriptor):
    while os.path.exists(os.environ["HANG_SYNCS"]):
        time.sleep(0.05)
    sync(descriptor)
os.fdatasync = hanging
"""


KERNEL_SYNC_FAILS_LATER: Final = """
import errno
from corral.storage.kernel_sync import KernelSync
result = KernelSync.result
def failing(self):
    outcome = result(self)
    if os.path.exists(os.environ["FAIL_SYNCS"]):
        return errno.EIO
    return outcome
KernelSync.result = failing
"""

KERNEL_SYNC_HANGS: Final = """
import time
from corral.storage.kernel_sync import KernelSync
submit, close = KernelSync.submit, KernelSync.close
def hanging(self, descriptor):
    if os.path.exists(os.environ["HANG_SYNCS"]):
        self.busy = True
        print("the kernel hangs", flush=True)
    else:
        submit(self, descriptor)
KernelSync.submit = hanging
KernelSync.close = lambda self: time.sleep(3600) if self.busy else close(self)
"""


class Memory:
    """How much memory a process takes, from now on."""

    def __init__(self, pid: int) -> None:
        self._directory = Path(f"/proc/{pid}")
        # The peak counts anew from here.
        (self._directory / "clear_refs").write_text("5")
        self.before_bytes = self._read("VmRSS")

    def _read(self, key: str) -> int:
        for line in (self._directory / "status").read_text("ascii", "replace").splitlines():
            name, _, value = line.partition(":")
            if name == key:
                return int(value.split()[0]) * 1024
        raise AssertionError(f"{self._directory} has no {key}")

    @property
    def growth_bytes(self) -> int:
        """How much more it holds now."""
        return self._read("VmRSS") - self.before_bytes

    @property
    def peak_growth_bytes(self) -> int:
        """How much more it held at its worst."""
        return self._read("VmHWM") - self.before_bytes
