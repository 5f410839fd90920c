"""A trial while it runs, until its record is written; run once more where it failed by no fault of its candidate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.client import ModelProcess
from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import Excess, OlivineError, SourceError, Unwritable
from olivine.search.builds.client import BuildClient, BuildOutcome
from olivine.search.records import State, TrialRecord

#: The constraint that every candidate has: the memory that its processes may hold.
MEMORY = "children.memory"


@dataclass
class TrialInProgress:
    """A record while its trial runs."""

    metrics: dict[str, Measurement] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    passes: list[dict[str, Any]] = field(default_factory=list)
    build_seconds: float = 0.0
    build_peak_rss_bytes: int = 0
    provider: str = "cpu"
    runtime: str = ""
    state: State = "complete"
    reason: str = ""
    tail: str = ""
    stopped: str | None = None
    excess: Excess | None = None
    artifact: ModelArtifact | None = None
    ladder: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def after(cls, earlier: TrialRecord | None) -> TrialInProgress:
        """A draft that begins with what an earlier part of the trial found."""
        if earlier is None:
            return cls()
        draft = cls(
            dict(earlier.metrics),
            dict(earlier.phases),
            earlier.passes,
            earlier.build_seconds,
            earlier.build_peak_rss_bytes,
        )
        draft.ladder = earlier.ladder
        return draft

    def built(self, outcome: BuildOutcome) -> None:
        """Note what the build took."""
        self.passes, self.build_seconds = outcome.passes, outcome.seconds
        self.build_peak_rss_bytes = outcome.peak_rss_bytes

    def failed(self, error: OlivineError) -> None:
        """Note the error that ended it, and the memory for which a process was ended, if that is why."""
        self.state, self.reason, self.tail = "failed", str(error), getattr(error, "tail", "")
        self.excess = getattr(error, "excess", None)
        if self.excess is not None:
            # It needs more than there is, which a sampler can learn from, like any other broken constraint.
            self.state = "infeasible"

    def outgrown(self) -> dict[str, float]:
        """By how much a process outgrew its limit, if one did; its peak, of build or model, is noted."""
        if self.excess is None:
            return {}
        if "model_bytes" in self.metrics:
            peak = Measurement.exact("peak_rss_bytes", "bytes", self.excess.peak_bytes, ended="at its limit")
            self.add([peak])
        else:
            self.build_peak_rss_bytes = self.excess.peak_bytes
        return {MEMORY: self.excess.peak_bytes / self.excess.limit_bytes - 1}

    def add(self, measurements: Iterable[Measurement]) -> None:
        """Note measurements; later ones of a metric replace earlier ones."""
        self.metrics.update((m.metric, m) for m in measurements)


class Phase:
    """Times one phase of a trial, also where it fails."""

    def __init__(self, name: str, draft: TrialInProgress) -> None:
        self._name, self._draft = name, draft

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._draft.phases[self._name] = time.perf_counter() - self._start


def attempt(
    run: Callable[[TrialInProgress], None],
    lost: Callable[[TrialInProgress], str | None],
    note: Callable[[str], None],
    earlier: TrialRecord | None = None,
    blameless: tuple[type[OlivineError], ...] = (Unwritable, SourceError),
) -> TrialInProgress:
    """What a trial found, and how it ended.

    Args:
        run: does the trial and writes into the draft what it finds.
        lost: says, after an error, what the trial had lost that was no fault of its candidate: it is run once more.
        note: told of that.
        earlier: what other workers found in the parts before.
        blameless: errors that are no candidate's fault and end the study.
    """
    draft = TrialInProgress.after(earlier)
    try:
        try:
            run(draft)
        except (OlivineError, OSError):
            if (what := lost(draft)) is None:
                raise
            note(what)
            draft = TrialInProgress.after(earlier)
            run(draft)
    except blameless:
        raise
    except OlivineError as error:
        draft.failed(error)
    return draft


def lost(base: ModelProcess | None, builder: BuildClient, draft: TrialInProgress) -> str | None:
    """What a trial lost that was no fault of its candidate, and what is done; None where it failed by itself.

    Args:
        base: the resident base; None in the trial of the base itself.
        builder: built the candidate.
        draft: of the trial.
    """
    if base is not None and not base.usable:
        return "the base's process died under way; base and candidate are loaded again"
    if draft.artifact is not None and not builder.still_has(draft.artifact):
        return "its files in the cache were deleted or changed; it is built again"
    return None
