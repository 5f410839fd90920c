"""Quality of a model with a pruned head: its unpruned twin, over the same weights, is scored in its place.

See :mod:`olivine.passes.transforms.prune_head`. A model that gives logits of every position is its own twin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.messages import WindowScore
from olivine.evaluators.quality.text_quality import QualityResult, TextQuality
from olivine.passes.transforms.prune_head import is_pruned, unpruned

#: Stamped into the protocol of what was measured on a twin.
GRAPH = "unpruned twin over the same weights"


@dataclass(frozen=True)
class UnprunedModel:
    """The model that is scored for another, loaded only while it is asked.

    Attributes:
        folder: of the pruned model.
        arm_options: as :meth:`ModelProcess.start` takes them.
    """

    folder: Path
    process_options: Mapping[str, Any]

    def reference(self, windows: Sequence[tuple[Sequence[int], int]], path: Path, top_k: int) -> None:
        """As :meth:`ModelProcess.reference`."""
        with open_scored(self.folder, **self.process_options) as process:
            process.reference(windows, path, top_k)

    def score(self, path: Path, window: int) -> WindowScore:
        """As :meth:`ModelProcess.score`."""
        with open_scored(self.folder, **self.process_options) as process:
            return process.score(path, window)


@contextmanager
def open_scored(folder: Path, **process_options: Any) -> Iterator[ModelProcess]:
    """A process that scores the model in ``folder``: of its unpruned twin where it is pruned."""
    with unpruned(folder) as twin, ModelProcess.open(twin, **process_options) as process:
        yield process


def run_quality(
    quality: TextQuality, candidate: ModelProcess, base: ModelProcess, process_options: Mapping[str, Any]
) -> QualityResult:
    """:meth:`TextQuality.run` of two loaded models, each scored by its twin where it is pruned.

    ``candidate is base`` is allowed.
    """
    assert candidate.folder is not None
    assert base.folder is not None
    reference = UnprunedModel(base.folder, process_options) if is_pruned(base.folder) else base
    if not is_pruned(candidate.folder):
        return quality.run(candidate, reference)
    if candidate is base:
        result = quality.run(reference, reference)
    else:
        with open_scored(candidate.folder, **process_options) as twin:
            result = quality.run(twin, reference)
    stamped = [replace(m, protocol={**m.protocol, "graph": GRAPH}) for m in result.measurements]
    return QualityResult(stamped, result.stopped)
