"""Refusing a model that the disk can't hold."""

from __future__ import annotations

import shutil
from pathlib import Path

from olivine.passes.errors import NotEnoughDisk


def check_disk(model: str, homes: list[Path], need: int) -> None:
    """Refuse a model that a disk can't hold.

    Args:
        model: its name in the message.
        homes: folders that it is written to; they need not be there yet.
        need: bytes.

    Raises:
        NotEnoughDisk: with what is free and what is needed.
    """
    for home in homes:
        existing = next(p for p in [home, *home.parents] if p.exists())
        free = shutil.disk_usage(existing).free
        if free < need:
            raise NotEnoughDisk(
                f"Not enough disk for '{model}': {home} has {free / 1e9:.1f} GB free, and its weights "
                f"with their float32 graph need {need / 1e9:.1f} GB. Free some, or set OLIVINE_CACHE "
                "to a folder on a larger disk."
            )
