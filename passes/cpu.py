"""This machine's processor: its cores, its name, and how its instructions add int8 products."""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from pathlib import Path

_X86 = ("x86_64", "amd64", "i686", "i386")
_VNNI = frozenset({"avx512_vnni", "avx_vnni"})


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


@cache
def int8_sums_saturate(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """True when a product of uint8 and int8 loses sums beyond 16 bits.

    Without the VNNI instructions, x86 adds two such products in 16 bits with saturation (VPMADDUBSW), and
    ``2 * 255 * 127`` does not fit. Weights of 7 bits do. True for an x86 whose instructions can't be read.

    Source: ONNX Runtime's documentation, "Quantize ONNX models", on ``reduce_range``.
    """
    if platform.machine().lower() not in _X86:
        return False
    try:
        flags = next(line for line in cpuinfo.read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return True
    return _VNNI.isdisjoint(flags.split())


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's marketing name."""
    if cpuinfo.is_file() and (line := re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())):
        return line[1].strip()
    return platform.processor() or platform.machine()


def cpu_identity(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name and instructions: on virtual machines the name alone says little."""
    if cpuinfo.is_file() and (flags := re.search(r"^(?:flags|Features)\s*:\s*(.+)", cpuinfo.read_text(), re.MULTILINE)):
        return f"{cpu_name(cpuinfo)}: {flags[1].strip()}"
    return cpu_name(cpuinfo)
