"""The GPUs of this machine, and the memory in use on the one that a model runs on, as NVIDIA's driver tells them.

The whole device is read: the driver's list of processes names the host's process ids, which mean nothing in a
container. Imports only the standard library.
"""

from __future__ import annotations

import os
import shutil
import subprocess

_QUERY = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
_TIMEOUT_S = 20.0


def gpu_names() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs; empty where there is no driver."""
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    listing = subprocess.run(query, capture_output=True, text=True, check=False)
    return tuple(line.strip() for line in listing.stdout.splitlines() if line.strip()) if not listing.returncode else ()


def used_bytes() -> int | None:
    """Bytes in use on the first visible device; None where the driver does not say."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    try:
        output = subprocess.run(
            [*_QUERY, *(["-i", first] if first else [])], capture_output=True, text=True, check=True, timeout=_TIMEOUT_S
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return parse(output)


def parse(output: str) -> int | None:
    """The first line of the driver's answer, which is in MiB; None where it is no number, as on shared memory."""
    first = output.strip().split("\n")[0].strip()
    return int(first) * 1024 * 1024 if first.isdigit() else None
