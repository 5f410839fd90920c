"""Estimate of a study: put together from what its kind of model needs, and from the limits of its config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from olivine.passes.base import Scalar
from olivine.passes.graphs.source import GraphSource, resolve_graph
from olivine.passes.sources.source import Source, resolve
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.scenario.effects import check_fits
from olivine.search.planning.estimate.estimator import Estimator, memory_text
from olivine.search.planning.estimate.graph import GraphEstimator
from olivine.search.planning.estimate.language import LanguageEstimator
from olivine.search.planning.machine_speed import MachineRates
from olivine.search.workloads.codes import check_codes

StudyConfig = LanguageStudyConfig | GraphStudyConfig


@dataclass(frozen=True)
class Estimate:
    """Needs of a study, roughly; bytes and seconds. ``memory_text`` tells the parts of ``ram_bytes``."""

    float_bytes: float
    smallest_bytes: float
    largest_bytes: float
    ram_bytes: float
    memory_text: str
    disk_bytes: float
    seconds: float


def find_model(config: StudyConfig) -> Source | GraphSource:
    """The model of a study.

    Raises:
        SourceError: when it does not exist or can't be exported, or its hub does not answer.
        UsageError: when it takes fewer tokens than the scenario.
    """
    if isinstance(config, GraphStudyConfig):
        return resolve_graph(config.model, config.architecture)
    source = resolve(config.model, revision=config.revision, trust_remote_code=config.trust_remote_code)
    check_fits(config.use(), source)
    check_codes(config.space.get("precision"), source)
    return source


def make_estimator(
    config: StudyConfig, source: Source | GraphSource, choices: Sequence[Mapping[str, Scalar]]
) -> Estimator:
    """The estimator of a study of this model, whose candidates are like these choices."""
    if isinstance(config, GraphStudyConfig):
        assert isinstance(source, GraphSource)
        return GraphEstimator(config, source, choices)
    assert isinstance(source, Source)
    return LanguageEstimator(config, source, choices)


def estimate(estimator: Estimator, config: StudyConfig, trials: int, rates: MachineRates) -> Estimate:
    """Estimate a study that measures so many candidates, on a machine of this speed."""
    stop, parts, memory = config.stop, estimator.durations(trials, rates), estimator.memory_parts()
    search = parts.learning + trials * parts.trial
    if stop.timeout is not None:
        search = min(search, stop.timeout)
    seconds = parts.base + search + (min(config.confirm.members, trials) + 1) * parts.member
    return Estimate(
        float_bytes=estimator.float_bytes,
        smallest_bytes=min(estimator.candidate_bytes),
        largest_bytes=max(estimator.candidate_bytes),
        ram_bytes=sum(memory.values()),
        memory_text=memory_text(memory),
        disk_bytes=estimator.disk_bytes(trials),
        seconds=seconds if stop.total is None else min(seconds, stop.total),
    )
