"""What a study would do and take: ``olivine plan``. Builds nothing; every estimate says what it assumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from olivine.evaluators.latency.interleave import MIN_ROUNDS
from olivine.passes.base import Scalar
from olivine.passes.errors import SourceError
from olivine.passes.sources.model_shape import config_shapes
from olivine.passes.sources.source import Source, resolve
from olivine.search.builds.cache import cache_folder, limit_bytes
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.space import Domain
from olivine.search.planning.estimate import Estimate, estimate
from olivine.search.planning.machine_speed import MachineRates, Room, existing_folder, probe_machine
from olivine.search.planning.preflight import absent_providers
from olivine.search.report.formatting import duration_text, value_text
from olivine.search.samplers.factory import sampler_name
from olivine.search.samplers.kernel_masks import choose_masks
from olivine.search.samplers.proposer import ENUMERABLE, count_candidates
from olivine.search.samplers.random_choices import sample_choices


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
        candidates: distinct recipes; None where there are more than can be counted.
        masked: kernels that are slow on this machine, with their figures; or why none is looked for.
        proposed: distinct recipes that need none of these; None as above.
        endless: whether a continuous range is why.
        trials: candidates that the study may measure.
        timeout_s: seconds that the search may take, or None.
        sampler: the one that proposes them; what ``auto`` stands for here.
        estimate: memory, disk and time; None where the model could not be looked at.
        unknown: what could not be estimated, and why.
        absent: providers that do not run on this machine, and what would bring them.
        assumptions: what the estimate rests on.
        room: free memory, and free disk at the cache.
    """

    name: str
    model: str
    axes: tuple[PlannedAxis, ...]
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
        """Whether memory and disk are enough; None where that is not known."""
        if self.estimate is None:
            return None
        return self.estimate.ram_bytes <= self.room.ram_bytes and self.estimate.disk_bytes <= self.room.disk_bytes


def make_plan(config: LanguageStudyConfig, room: Room | None = None) -> Plan:
    """Count, look at the model's config and estimate.

    Raises:
        SourceError: for a model that does not exist or can't be exported. A hub that does not answer is no
            error: the plan then says what it could not estimate.
    """
    space = config.search_space()
    candidates = count_candidates(space)
    choices = sample_choices(space)
    model = config.model
    source: Source | None = None
    found: Estimate | None = None
    assumptions: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    cache = cache_folder(config.cache)
    try:
        source = resolve(config.model, revision=config.revision, trust_remote_code=config.trust_remote_code)
    except SourceError as error:
        if not _hub_is_away(error):
            raise
        unknown = (f"memory, disk and time: {error}",)
    else:
        model = f"{config.model} ({source.kind}, {source.architecture}, weights in {source.dtype})"
    masks = choose_masks(config, choices, config_shapes(source), cache)
    proposed = count_candidates(space, masks=masks)
    trials = config.stop.trials if proposed is None else min(proposed, config.stop.trials)
    if source is not None:
        rates = probe_machine(existing_folder(cache))
        found = estimate(config, source, choices, trials, rates)
        assumptions = _assumptions(config, source, rates)
    return Plan(
        name=config.name,
        model=model,
        axes=tuple(_planned(domain, space.domains, choices) for domain in space.domains),
        candidates=candidates,
        masked=tuple(masks.lines),
        proposed=proposed,
        endless=any(not domain.values for domain in space.domains),
        trials=trials,
        timeout_s=config.stop.timeout,
        sampler=sampler_name(config, masks),
        estimate=found,
        unknown=unknown,
        absent=absent_providers(config),
        assumptions=assumptions,
        room=room or Room.at(cache),
    )


def _hub_is_away(error: SourceError) -> bool:
    """Whether the hub, and not the config, is why a model can't be looked at."""
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
    found = []
    for parent in domains[: domains.index(domain)] if len(present) < len(choices) else ():
        word = parent.axis.name
        here = {choice[word] for choice in present if word in choice}
        if here != {choice[word] for choice in choices if word in choice}:
            found.append(f"{word} is {' or '.join(str(value) for value in parent.values if value in here)}")
    when = " and ".join(found) or ("" if len(present) == len(choices) else "some combinations allow it")
    values = str(replace(domain, values=()) if domain.step else domain)
    return PlannedAxis(name, values, domain.searched, when, domain.axis.doc)


def _assumptions(config: LanguageStudyConfig, source: Source, rates: MachineRates) -> tuple[str, ...]:
    latency = config.evaluation.latency
    return (
        "sizes: weights of the checkpoint at the width of each precision, with one float scale a block; the "
        "embedding and the head by their own axes",
        "memory: the float base and one candidate loaded, and a build beside them; pages of mapped files, which the "
        "system drops when it needs the room, not counted",
        f"disk: checkpoint, float graphs, what was learned and every candidate in the cache, of at most "
        f"{_size(limit_bytes(config.cache, source))}, nothing of it built yet; the export on top",
        f"time: {rates.flops / 1e9:.0f} GFLOP/s in products, {rates.read_bytes_per_s / 1e9:.1f} GB/s from memory and "
        f"{rates.written_bytes_per_s / 1e6:.0f} MB/s to the disk, as measured just now; no candidate stopped early; at "
        f"least {MIN_ROUNDS} rounds or {duration_text(latency.max_seconds)} of timing each; downloads not counted",
    )


def plan_table(plan: Plan) -> RenderableType:
    """The axes, and below them what the study takes and whether that fits."""
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
    for line in plan.masked:
        facts.add_row("kernels", Text(line, style="yellow"))
    if plan.proposed is not None and plan.proposed != plan.candidates:
        facts.add_row("proposed", f"{plan.proposed}: those that need none of these kernels")
    timeout = "" if plan.timeout_s is None else f", or {duration_text(plan.timeout_s)} of search"
    facts.add_row("budget", f"{plan.trials} candidates{timeout}")
    facts.add_row("sampler", plan.sampler)
    if (estimate := plan.estimate) is not None:
        smallest, largest = map(_size, (estimate.smallest_bytes, estimate.largest_bytes))
        facts.add_row("size", f"float base {_size(estimate.float_bytes)}, candidates {smallest} to {largest}")
        facts.add_row("memory", f"about {_size(estimate.ram_bytes)} of {_size(plan.room.ram_bytes)} free")
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
    """What this machine has not enough of, each in words with a way out."""
    lacking: list[str] = []
    if (estimate := plan.estimate) is None:
        return lacking
    if estimate.ram_bytes > plan.room.ram_bytes:
        lacking.append("not enough memory: take a smaller model or a larger machine")
    if estimate.disk_bytes > plan.room.disk_bytes:
        lacking.append("not enough disk: free some, or set OLIVINE_CACHE to a folder on a larger one")
    return lacking
