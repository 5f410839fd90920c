"""Masks: recipes that are not proposed, since a kernel is slow on this machine or they can't keep a limit of memory."""

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
from olivine.search.samplers.memory_mask import MemoryMask


@dataclass(frozen=True)
class Masks:
    """Recipes that are not proposed.

    Attributes:
        slow_kernels: kernel -> why it is one, in words and figures.
        note: why no kernel is masked, where that is so for another reason than that all are fast.
        times: measurements of the probe; None where nothing was probed.
        memory: tells which recipes can't fit the memory; None where none has to.
    """

    slow_kernels: Mapping[Kernel, str] = field(default_factory=dict)
    note: str = ""
    times: KernelTimes | None = None
    memory: MemoryMask | None = None

    def reason(self, recipe: Recipe) -> str | None:
        """Why a recipe is not proposed; None where it may be."""
        if recipe.provider != "cpu":
            return None
        slow = sorted(recipe.kernels & self.slow_kernels.keys()) if self.slow_kernels else []
        if slow:
            return self.slow_kernels[slow[0]]
        return None if self.memory is None else self.memory.reason(recipe)

    @property
    def kernel_lines(self) -> tuple[str, ...]:
        """Sentences on kernels: every reason, or the note."""
        reasons = tuple(self.slow_kernels[kernel] for kernel in sorted(self.slow_kernels))
        return reasons or ((self.note,) if self.note else ())

    @property
    def memory_lines(self) -> tuple[str, ...]:
        """The sentence on what does not fit the memory; none where nothing has to."""
        return () if self.memory is None else (self.memory.line,)

    def to_json(self) -> dict[str, Any]:
        """Plain values: the content of kernels.json."""
        return {
            "note": self.note,
            "cliffs": [asdict(kernel) | {"reason": reason} for kernel, reason in sorted(self.slow_kernels.items())],
            "times": self.times.to_json() if self.times else None,
            "memory": self.memory.to_json() if self.memory else None,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Masks:
        """The inverse of :meth:`to_json`."""
        rows = [dict(row) for row in content["cliffs"]]
        reasons = [row.pop("reason") for row in rows]
        slow_kernels = {Kernel(**row): reason for row, reason in zip(rows, reasons, strict=True)}
        times = KernelTimes.from_json(content["times"]) if content["times"] else None
        memory = MemoryMask.from_json(content["memory"]) if content.get("memory") else None
        return cls(slow_kernels, content["note"], times, memory)

    def write(self, path: Path) -> None:
        """Write them to a file."""
        write_atomic(path, json.dumps(self.to_json(), indent=1))

    @classmethod
    def read(cls, path: Path) -> Masks:
        """Read the file that :meth:`write` wrote; no masks where there is none."""
        return cls.from_json(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else NO_MASKS


NO_MASKS = Masks()
