"""Speed of this machine in arithmetic, memory and disk, on which estimates of time rest; and the free disk.

Three probes of a fraction of a second each; the best of several readings counts, since others may be busy meanwhile.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from olivine.passes.errors import UsageError

READINGS = 4
#: A product as a decoder has them in prefill: tokens, input and output features.
_TOKENS, _INPUTS, _OUTPUTS = 256, 1024, 4096
_READ_BYTES, _WRITTEN_BYTES = 128_000_000, 32_000_000


@dataclass(frozen=True)
class MachineRates:
    """Rates of all cores together.

    Attributes:
        flops: floating-point operations a second in float32 matrix products.
        read_bytes_per_s: from memory, by one core.
        written_bytes_per_s: to the disk, synced.
    """

    flops: float
    read_bytes_per_s: float
    written_bytes_per_s: float

    def text(self) -> str:
        """The rates in words."""
        return (
            f"{self.flops / 1e9:.0f} GFLOP/s in products, {self.read_bytes_per_s / 1e9:.1f} GB/s from memory and "
            f"{self.written_bytes_per_s / 1e6:.0f} MB/s to the disk"
        )


def probe_machine(folder: Path) -> MachineRates:
    """Measure the rates; the file that is written lies in ``folder``, which exists, and is gone afterwards."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((_TOKENS, _INPUTS), np.float32)
    weight = rng.standard_normal((_INPUTS, _OUTPUTS), np.float32)
    numbers = np.ones(_READ_BYTES // 4, np.float32)
    return MachineRates(
        2 * _TOKENS * _INPUTS * _OUTPUTS / _fastest(lambda: rows @ weight),
        _READ_BYTES / _fastest(numbers.max),
        _WRITTEN_BYTES / _fastest(lambda: _write(folder)),
    )


def _write(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as stream:
        stream.write(bytes(_WRITTEN_BYTES))
        stream.flush()
        os.fsync(stream.fileno())


def _fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs."""
    seconds = []
    for _ in range(READINGS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


@dataclass(frozen=True)
class Room:
    """Free memory and disk, in bytes."""

    ram_bytes: int
    disk_bytes: int

    @classmethod
    def at(cls, folder: Path) -> Room:
        """The room of this machine now; disk is that of a folder that is there or will be made."""
        return cls(psutil.virtual_memory().available, free_disk_bytes(folder))


def free_disk_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder that is there or will be made."""
    return shutil.disk_usage(existing_folder(folder)).free


def existing_folder(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists.

    Raises:
        UsageError: when a file is in the way.
    """
    absolute = Path(os.path.realpath(folder))
    place = next(place for place in (absolute, *absolute.parents) if place.exists())
    if not place.is_dir():
        raise UsageError(f"{folder} can't be made: {place} is no folder. OLIVINE_CACHE or cache.folder names another.")
    return place
