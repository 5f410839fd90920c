"""Readings that Linux gives of processes and of the machine: proc(5)."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


def peak_rss_bytes(pid: int) -> int:
    """The most bytes that a process ever had resident (VmHWM); 0 for a process that has just ended."""
    return _status_bytes(pid, "VmHWM")


def rss_bytes(pid: int) -> int:
    """Bytes that a process has resident now (VmRSS); 0 for a process that has just ended."""
    return _status_bytes(pid, "VmRSS")


def _status_bytes(pid: int, field: str) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in status.splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def available_bytes() -> int:
    """Memory that programs can still get without swapping (MemAvailable)."""
    return _meminfo("MemAvailable")


@cache
def total_bytes() -> int:
    """Memory of the machine."""
    return _meminfo("MemTotal")


def _meminfo(field: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"/proc/meminfo has no {field}")


def busy_s() -> float:
    """CPU seconds that all programs of this machine have used, stolen time included (proc_stat(5))."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def stolen_s() -> float:
    """CPU seconds that the host kept from this virtual machine (proc_stat(5), steal)."""
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")


def frequency_governor() -> str | None:
    """The kernel's rule for the first core's frequency; None where it has none, as in most virtual machines."""
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return path.read_text().strip() if path.is_file() else None
