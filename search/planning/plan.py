"""``olivine plan``: what a study would do and need. Builds nothing; every estimate says what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from olivine.evaluators.kernels.probe import probe_kernels
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import SourceError
from olivine.passes.graphs.source import GraphSource
from olivine.passes.sources.model_shape import config_shapes
from olivine.passes.sources.source import Source
from olivine.search.builds.study_cache import cache_folder
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.space import Domain
from olivine.search.planning.estimate.estimate import Estimate, StudyConfig, estimate, find_model, make_estimator
from olivine.search.planning.estimate.fit import memory_mask
from olivine.search.planning.machine_speed import Room, existing_folder, probe_machine
from olivine.search.planning.preflight import absent_providers
from olivine.search.report.formatting import duration_text, value_text
from olivine.search.samplers.exhaustive import ENUMERABLE, count_candidates
from olivine.search.samplers.factory import sampler_name
from olivine.search.samplers.memory_mask import MARGIN, METRIC, MemoryMask
from olivine.search.samplers.random_choices import sample_choices
from olivine.search.samplers.slow_kernels import KernelProbe, choose_masks
from olivine.search.workloads.graph import base_choice
from olivine.search.workloads.graph_task import load_task

#: Word of the fact that tells the memory of candidates in the scenario.
DEPLOYED = "as deployed"


@dataclass(frozen=True)
class PlannedAxis:
    """One axis of the space: its values in words, and when it exists (empty: always)."""

    name: str
    values: str
    searched: bool
    when: str
    doc: str


@dataclass(frozen=True)
class Plan:
    """A study before it runs.

    Attributes:
        name: of the study.
        model: the ``model:`` of the config, with kind and architecture where they are known.
        axes: in the order in which they are chosen.
        facts: (word, sentence) pairs about what candidates are run on.
        candidates: distinct recipes; None where there are more than can be counted.
        masked: kernels that are slow on this machine, with their figures; or why none is looked for.
        proposed: distinct recipes that need none of these; None as above.
        endless: a continuous range is why.
        trials: candidates that the study may measure.
        timeout_s: seconds that the search may take, or None.
        sampler: that proposes them; ``auto`` is replaced by the one that it stands for.
        estimate: memory, disk and time; None where the model could not be looked at.
        unknown: sentences on what could not be estimated, and why.
        absent: sentences on providers that do not run on this machine.
        assumptions: sentences on what the estimate rests on.
        room: free memory, and free disk at the cache.
    """

    name: str
    model: str
    axes: tuple[PlannedAxis, ...]
    facts: tuple[tuple[str, str], ...]
    candidates: int | None
    masked: tuple[str, ...]
    proposed: int | None
    endless: bool
    trials: int
    timeout_s: float | None
    sampler: str
    estimate: Estimate | None
    unknown: tuple[str, ...]
    absent: tuple[str, ...]
    assumptions: tuple[str, ...]
    room: Room

    @property
    def fits(self) -> bool | None:
        """True where memory and disk are enough; None where that is not known."""
        if self.estimate is None:
            return None
        return self.estimate.ram_bytes <= self.room.ram_bytes and self.estimate.disk_bytes <= self.room.disk_bytes


@dataclass(frozen=True)
class _Proposals:
    """Proposals of a study: distinct recipes, those that need no slow kernel, and the sampler."""

    candidates: int | None
    masked: tuple[str, ...]
    proposed: int | None
    sampler: str


def make_plan(config: StudyConfig, room: Room | None = None, probe: KernelProbe = probe_kernels) -> Plan:
    """Count candidates, look at the model's headers and estimate; builds nothing.

    Args:
        config: the study.
        room: free memory and disk; by default what this machine has now.
        probe: measures this machine's kernels.

    Raises:
        SourceError: for a model that does not exist or can't be exported. A hub that does not answer is no
            error: the plan then says what it could not estimate.
        UsageError: when data or metric of a graph's task are not there.
    """
    space, cache = config.search_space(), cache_folder(config.cache)
    choices = sample_choices(space)
    source: Source | GraphSource | None = None
    unknown: tuple[str, ...] = ()
    try:
        source = find_model(config)
    except SourceError as error:
        if not _hub_is_away(error):
            raise
        unknown = (f"memory, disk and time: {error}",)
    if isinstance(config, GraphStudyConfig):
        proposals, facts = _graph_proposals(config), _graph_facts(config)
    else:
        assert not isinstance(source, GraphSource)
        mask = None if source is None else memory_mask(config, source)
        proposals, facts = _language_proposals(config, source, probe, mask), _memory_facts(mask, choices)
    trials = config.stop.trials if proposals.proposed is None else min(proposals.proposed, config.stop.trials)
    needs: Estimate | None = None
    assumptions: tuple[str, ...] = ()
    if source is not None:
        rates, estimator = probe_machine(existing_folder(cache)), make_estimator(config, source, choices)
        needs, assumptions = estimate(estimator, config, trials, rates), estimator.assumptions(rates)
    return Plan(
        name=config.name,
        model=config.model if source is None else f"{config.model} ({_description(source)})",
        axes=tuple(_planned(domain, space.domains, choices) for domain in space.domains),
        facts=facts,
        candidates=proposals.candidates,
        masked=proposals.masked,
        proposed=proposals.proposed,
        endless=any(not domain.values for domain in space.domains),
        trials=trials,
        timeout_s=config.stop.timeout,
        sampler=proposals.sampler,
        estimate=needs,
        unknown=unknown,
        absent=absent_providers(config),
        assumptions=assumptions,
        room=room or Room.at(cache),
    )


def _description(source: Source | GraphSource) -> str:
    if isinstance(source, GraphSource):
        return ", ".join(word for word in (source.kind, source.architecture) if word)
    return f"{source.kind}, {source.architecture}, weights in {source.dtype}"


def _language_proposals(
    config: LanguageStudyConfig, source: Source | None, probe: KernelProbe, memory: MemoryMask | None
) -> _Proposals:
    space = config.search_space()
    masks = choose_masks(config, config_shapes(source), cache_folder(config.cache), probe)
    masks = replace(masks, memory=memory)
    candidates, proposed = count_candidates(space), count_candidates(space, masks=masks)
    return _Proposals(candidates, masks.kernel_lines, proposed, sampler_name(config, masks))


def _memory_facts(mask: MemoryMask | None, choices: Sequence[Mapping[str, Scalar]]) -> tuple[tuple[str, str], ...]:
    """The memory that candidates should take as they are deployed, where a constraint limits it."""
    if mask is None:
        return ()
    predicted = [mask.memory.predict(LANGUAGE.compose(choice)) for choice in choices]
    least, most, limit = (value_text(METRIC, count) for count in (min(predicted), max(predicted), mask.limit_bytes))
    words = f"{METRIC} predicted at {least} to {most} of at most {limit}; right within {MARGIN:.0%}"
    return ((DEPLOYED, words),)


def _graph_proposals(config: GraphStudyConfig) -> _Proposals:
    uncounted = [config.catalog.compose(base_choice(config)).key]
    candidates = count_candidates(config.search_space(), uncounted=uncounted)
    return _Proposals(candidates, (), candidates, sampler_name(config, uncounted=uncounted))


def _graph_facts(config: GraphStudyConfig) -> tuple[tuple[str, str], ...]:
    task, seconds = load_task(config), duration_text(config.evaluation.latency.max_seconds)
    shapes = [
        f"{name} ({', '.join(f'{size} {n}' for size, n in sizes.items())})"
        for name, sizes in config.inputs.shapes.items()
    ]
    scored = [] if task is None else [f"{task.section.metric} on {len(task.parts['select'])} rows of {task.name}"]
    return (
        ("shapes", f"{'; '.join(shapes)}: timed for at most {seconds} a candidate"),
        *(("task", words) for words in scored),
    )


def _hub_is_away(error: SourceError) -> bool:
    """True where the hub, and not the config, is why a model can't be looked at."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is httpx's
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    cause = error.__cause__
    if isinstance(cause, (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError)):
        return False
    return isinstance(cause, (HTTPError, OSError))


def _planned(domain: Domain, domains: Sequence[Domain], choices: Sequence[Mapping[str, Scalar]]) -> PlannedAxis:
    name = domain.axis.name
    present = [choice for choice in choices if name in choice]
    conditions = []
    for parent in domains[: domains.index(domain)] if len(present) < len(choices) else ():
        word = parent.axis.name
        here = {choice[word] for choice in present if word in choice}
        if here and here != {choice[word] for choice in choices if word in choice}:
            conditions.append(f"{word} is {' or '.join(str(value) for value in parent.values if value in here)}")
    when = " and ".join(conditions) or ("" if len(present) == len(choices) else "some combinations allow it")
    values = str(replace(domain, values=()) if domain.step else domain)
    return PlannedAxis(name, values, domain.searched, when, domain.axis.doc)


def plan_table(plan: Plan) -> RenderableType:
    """The axes, and below them what the study needs and whether that fits."""
    axes = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    axes.title = Text(f"{plan.name}: {plan.model}", style="not italic bold")
    for column in ("axis", "values", "exists when", "what it is"):
        axes.add_column(column, no_wrap=column == "axis", overflow="fold")
    for axis in plan.axes:
        cells = (axis.name, axis.values, axis.when or "always", axis.doc)
        axes.add_row(*map(Text, cells), style="" if axis.searched else "dim")
    facts = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    uncounted = "endless: a range has no step" if plan.endless else f"more than {ENUMERABLE}"
    facts.add_row("distinct candidates", uncounted if plan.candidates is None else str(plan.candidates))
    for word, sentence in plan.facts:
        facts.add_row(word, Text(sentence))
    for line in plan.masked:
        facts.add_row("kernels", Text(line, style="yellow"))
    if plan.proposed is not None and plan.proposed != plan.candidates:
        fit = " and may fit" if any(word == DEPLOYED for word, _ in plan.facts) else ""
        facts.add_row("proposed", f"{plan.proposed}: those that need none of these kernels{fit}")
    timeout = "" if plan.timeout_s is None else f", or {duration_text(plan.timeout_s)} of search"
    facts.add_row("budget", f"{plan.trials} candidates{timeout}")
    facts.add_row("sampler", plan.sampler)
    if (estimate := plan.estimate) is not None:
        smallest, largest = map(_size, (estimate.smallest_bytes, estimate.largest_bytes))
        facts.add_row("size", f"float base {_size(estimate.float_bytes)}, candidates {smallest} to {largest}")
        room = f"{_size(plan.room.ram_bytes)} free"
        facts.add_row("memory", f"about {_size(estimate.ram_bytes)} of {room}: {estimate.memory_text}")
        facts.add_row("disk", f"about {_size(estimate.disk_bytes)} of {_size(plan.room.disk_bytes)} free")
        facts.add_row("time", f"about {duration_text(estimate.seconds)}")
        facts.add_row("fits", _verdict(plan))
    for reason in plan.unknown:
        facts.add_row("not estimated", Text(reason, style="yellow"))
    for reason in plan.absent:
        facts.add_row("not here", Text(reason, style="yellow"))
    for assumption in plan.assumptions:
        facts.add_row("assuming", Text(assumption, style="dim"))
    return Group(axes, facts)


def _size(count: float) -> str:
    return value_text("model_bytes", count)


def _verdict(plan: Plan) -> Text:
    lacking = lacks(plan)
    return Text("; ".join(lacking) or "yes", style="red" if lacking else "green")


def lacks(plan: Plan) -> list[str]:
    """A sentence for each thing that this machine has not enough of, with a way out."""
    lacking: list[str] = []
    if (estimate := plan.estimate) is None:
        return lacking
    if estimate.ram_bytes > plan.room.ram_bytes:
        lacking.append(f"not enough memory ({estimate.memory_text}): take a smaller model or a larger machine")
    if estimate.disk_bytes > plan.room.disk_bytes:
        lacking.append("not enough disk: free some, or set OLIVINE_CACHE to a folder on a larger one")
    return lacking
