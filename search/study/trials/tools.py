"""The tools of a running study: what builds, what runs models, what drops candidates, and who is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from olivine.search.builds.builder import Builder
from olivine.search.report.progress import Progress
from olivine.search.study.trials.model_pool import ModelPool
from olivine.search.study.trials.pruning import PruningRules
from olivine.search.study.trials.trial import TrialInProgress
from olivine.search.workloads.workload import AnyWorkload


@dataclass(frozen=True)
class StudyTools:
    """The tools of one study.

    Attributes:
        workload: its kind of model.
        builder: builds recipes.
        models: gives out processes.
        rules: drop candidates.
        progress: told of each phase.
    """

    workload: AnyWorkload
    builder: Builder
    models: ModelPool
    rules: PruningRules
    progress: Progress

    @contextmanager
    def phase(self, name: str, trial: TrialInProgress) -> Iterator[None]:
        """Announce a phase of a trial, and time it."""
        self.progress.phase_started(name)
        with trial.phase(name):
            yield
