"""Quality of a model with a pruned head: the model without its pruning, over the same weights, is scored in its place.

See :mod:`olivine.passes.transforms.prune_head`. A model that gives logits of every position is scored itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.messages import WindowScore
from olivine.evaluators.quality.text_quality import QualityResult, TextQuality
from olivine.passes.transforms.prune_head import is_pruned, unpruned

#: Stamped into the protocol of quality that was measured on an unpruned model.
GRAPH = "unpruned twin over the same weights"


@dataclass(frozen=True)
class UnprunedModel:
    """The model that is scored in place of a pruned one, loaded only while it answers.

    Attributes:
        pruned: process of the pruned model.
    """

    pruned: ModelProcess

    def reference(self, windows: Sequence[tuple[Sequence[int], int]], path: Path, top_k: int) -> None:
        """As :meth:`ModelProcess.reference`."""
        with _without_pruning(self.pruned) as process:
            process.reference(windows, path, top_k)

    def score(self, path: Path, window: int) -> WindowScore:
        """As :meth:`ModelProcess.score`."""
        with _without_pruning(self.pruned) as process:
            return process.score(path, window)


@contextmanager
def open_scored(folder: Path, **options: Any) -> Iterator[ModelProcess]:
    """Open a process that scores the model in ``folder``: without its pruning, where its head is pruned."""
    with unpruned(folder) as scored, ModelProcess.open(scored, **options) as process:
        yield process


@contextmanager
def _without_pruning(pruned: ModelProcess) -> Iterator[ModelProcess]:
    """Open a process like that of a pruned model, with the model without its pruning."""
    if pruned.folder is None:
        raise ValueError("load the models before their quality is scored")
    with unpruned(pruned.folder) as scored, pruned.sibling() as process:
        process.load(scored)
        yield process


def run_quality(quality: TextQuality, candidate: ModelProcess, base: ModelProcess) -> QualityResult:
    """Run :meth:`TextQuality.run` on two loaded models, each without its pruning where its head is pruned.

    ``candidate is base`` is allowed.

    Raises:
        ValueError: when a process has no model.
    """
    if candidate.folder is None or base.folder is None:
        raise ValueError("load the models before their quality is scored")
    reference = UnprunedModel(base) if is_pruned(base.folder) else base
    if not is_pruned(candidate.folder):
        return quality.run(candidate, reference)
    if candidate is base:
        result = quality.run(reference, reference)
    else:
        with _without_pruning(candidate) as unpruned_candidate:
            result = quality.run(unpruned_candidate, reference)
    stamped = [replace(m, protocol={**m.protocol, "graph": GRAPH}) for m in result.measurements]
    return QualityResult(stamped, result.stopped)
