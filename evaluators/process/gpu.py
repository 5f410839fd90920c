"""Memory in use on the GPU that a model runs on, as NVIDIA's driver tells it.

The whole device is read: the driver's list of processes names the host's process ids, which mean nothing in a
container. Imports only the standard library.
"""

from __future__ import annotations

import os
import subprocess

_QUERY = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
_TIMEOUT_S = 20.0


def used_bytes() -> int | None:
    """Bytes in use on the first visible device; None where the driver does not say."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    try:
        said = subprocess.run(
            [*_QUERY, *(["-i", first] if first else [])], capture_output=True, text=True, check=True, timeout=_TIMEOUT_S
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return parse(said)


def parse(said: str) -> int | None:
    """The first line of the driver's answer, which is in MiB; None where it is no number, as on shared memory."""
    first = said.strip().split("\n")[0].strip()
    return int(first) * 1024 * 1024 if first.isdigit() else None
