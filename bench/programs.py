"""The load programs in C beside this file: compiled when needed, run, and their answers read."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from bench.errors import BenchError

Figures = dict[str, float]
"""What a program printed as name=value, by name."""

_SOURCES = Path(__file__).parent
_FLAGS = ("-O2", "-Wall", "-Wextra")
_RUN_LIMIT_S = 1800.0


def program(name: str) -> Path:
    """The compiled program, from the cache when its sources have not changed."""
    source = _SOURCES / f"{name}.c"
    compiler = os.environ.get("CC") or shutil.which("cc")
    if not compiler:
        raise BenchError("no C compiler: install cc or set CC")
    sources = source.read_bytes() + (_SOURCES / "zkwire.h").read_bytes()
    digest = hashlib.sha256(sources + " ".join((compiler, *_FLAGS)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corral-bench"
    binary = cache / f"{name}-{digest}"
    if not binary.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = cache / f"{name}-{digest}.{os.getpid()}"
        built = subprocess.run([compiler, *_FLAGS, "-o", partial, source], capture_output=True, text=True, check=False)
        if built.returncode:
            raise BenchError(f"{source.name} does not compile:\n{built.stderr}")
        partial.rename(binary)
    return binary


def figures_of(line: str) -> Figures:
    """The name=value pairs of a line."""
    return {name: float(value) for name, _, value in (pair.partition("=") for pair in line.split()) if value}


def run(name: str, *arguments: str | int) -> list[Figures]:
    """Runs a load program to its end and returns the figures of each line that it printed.

    BenchError when it failed; requests answered with errors are no failure but a figure, `errors`.
    """
    command = [str(program(name)), *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_RUN_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{name} did not end within {_RUN_LIMIT_S:.0f} s") from None
    lines = [figures_of(line) for line in done.stdout.splitlines()]
    if done.returncode not in (0, 1) or not lines:
        raise BenchError(f"{name} ended with status {done.returncode}: {done.stderr.strip()}")
    return lines
