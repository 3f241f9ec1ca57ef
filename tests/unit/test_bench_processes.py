"""What the benchmarks learn from the kernel about processes."""

from __future__ import annotations

import os

from bench.processes import memory_of


def test_own_pages_are_part_of_the_proportional_and_those_of_the_resident() -> None:
    memory = memory_of([os.getpid()])
    assert 1 < memory.own_mib <= memory.proportional_mib <= memory.resident_mib


def test_memory_is_summed_over_processes() -> None:
    one, two = memory_of([os.getpid()]), memory_of([os.getpid(), os.getpid()])
    assert two.resident_mib > 1.9 * one.resident_mib
