"""Kernel masks: the kernels that are slow on this machine, so that no candidate that needs one is proposed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from olivine.evaluators.kernels.times import KernelTimes
from olivine.passes.kernel import Kernel
from olivine.passes.recipe import Recipe
from olivine.passes.store.atomic_files import write_atomic


@dataclass(frozen=True)
class KernelMasks:
    """Kernels whose candidates are not proposed.

    Attributes:
        slow_kernels: kernel -> why it is one, in words and figures.
        note: why nothing is masked, where that is so for another reason than that all kernels are fast.
        times: measurements of the probe; None where nothing was probed.
    """

    slow_kernels: Mapping[Kernel, str] = field(default_factory=dict)
    note: str = ""
    times: KernelTimes | None = None

    def reason(self, recipe: Recipe) -> str | None:
        """Why a recipe is not proposed; None where it may be."""
        if not self.slow_kernels or recipe.provider != "cpu":
            return None
        slow = sorted(recipe.kernels & self.slow_kernels.keys())
        return self.slow_kernels[slow[0]] if slow else None

    @property
    def lines(self) -> tuple[str, ...]:
        """Sentences for a person: every reason, or the note."""
        reasons = tuple(self.slow_kernels[kernel] for kernel in sorted(self.slow_kernels))
        return reasons or ((self.note,) if self.note else ())

    def to_json(self) -> dict[str, Any]:
        """Plain values: the content of kernels.json."""
        return {
            "note": self.note,
            "cliffs": [asdict(kernel) | {"reason": reason} for kernel, reason in sorted(self.slow_kernels.items())],
            "times": self.times.to_json() if self.times else None,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> KernelMasks:
        """The inverse of :meth:`to_json`."""
        rows = [dict(row) for row in content["cliffs"]]
        reasons = [row.pop("reason") for row in rows]
        slow_kernels = {Kernel(**row): reason for row, reason in zip(rows, reasons, strict=True)}
        times = KernelTimes.from_json(content["times"]) if content["times"] else None
        return cls(slow_kernels, content["note"], times)

    def write(self, path: Path) -> None:
        """Write them to a file."""
        write_atomic(path, json.dumps(self.to_json(), indent=1))

    @classmethod
    def read(cls, path: Path) -> KernelMasks:
        """Read the file that :meth:`write` wrote; no masks where there is none."""
        return cls.from_json(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else NO_MASKS


NO_MASKS = KernelMasks()
