"""Memory limits before anything is built: what can't keep one is refused, and what helps to keep one is searched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from olivine.evaluators.providers.interpreters import loop_of
from olivine.evaluators.scenario.scenario import Scenario
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError
from olivine.passes.graphs.source import GraphSource
from olivine.passes.precisions import MIXED
from olivine.passes.sources.model_shape import cached_numbers
from olivine.passes.sources.source import Source
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.planning.estimate.estimate import StudyConfig, find_model
from olivine.search.planning.presets import SearchScope, good_choice
from olivine.search.report.formatting import value_text
from olivine.search.samplers.deployed_memory import FLOAT_BYTES, DecoderSizes, DeployedMemory
from olivine.search.samplers.memory_mask import MARGIN, METRIC, MemoryMask, memory_limit

#: Share of the allowed memory from which on a float cache is worth packing.
LARGE_CACHE = 0.1


def memory_mask(config: StudyConfig, source: Source | GraphSource) -> MemoryMask | None:
    """Recipes of a study that can't keep its limit on ``deployed_rss_bytes``; None without one, or without shapes."""
    if isinstance(config, GraphStudyConfig) or isinstance(source, GraphSource):
        return None
    limit, use = memory_limit(config.parsed_constraints()), config.use()
    if limit is None or use is None or loop_of(config.asked_providers()) != "genai":
        return None
    sizes = DecoderSizes.of_source(source)
    return None if sizes is None else MemoryMask(limit, DeployedMemory.of(sizes, use))


def require_fit(config: StudyConfig) -> None:
    """Refuse a study none of whose recipes can keep its limit on ``deployed_rss_bytes``, before anything is built.

    Raises:
        UsageError: with the smallest recipe, and what it is predicted to take.
    """
    if memory_limit(config.parsed_constraints()) is None:
        return
    if (mask := memory_mask(config, find_model(config))) is not None:
        mask.check(config.search_space())


def large_cache(source: Source, use: Scenario | None, limit_bytes: int | None) -> bool:
    """True where a float cache of the context would take much of the memory that is allowed."""
    if use is None or limit_bytes is None:
        return False
    return use.context * cached_numbers(source) * FLOAT_BYTES > LARGE_CACHE * limit_bytes


def fitting_choice(
    source: Source, wanted: tuple[str, str], scope: SearchScope, newer: Mapping[str, Scalar], use: Scenario, limit: int
) -> dict[str, Scalar]:
    """The good choice of the CPU that loses least among those that should fit a limit.

    Args:
        source: the model.
        wanted: the target, decode, prefill or size; and the only precision, empty for all.
        scope: what the choice may have.
        newer: axes with newer defaults.
        use: the scenario.
        limit: of the resident peak in bytes.

    Raises:
        UsageError: when none should fit, with the smallest.
    """
    choices = [{**choice, **newer, "context": use.context} for choice in _by_loss(*wanted, scope)]
    sizes = DecoderSizes.of_source(source)
    if sizes is None:
        return choices[0]
    mask = MemoryMask(limit, DeployedMemory.of(sizes, use))
    predicted = [mask.memory.predict(LANGUAGE.compose(choice)) for choice in choices]
    for choice, resident in zip(choices, predicted, strict=True):
        if resident <= (1 + MARGIN) * limit:
            return choice
    smallest = choices[predicted.index(min(predicted))]
    raise UsageError(
        f"--fit {value_text(METRIC, limit)}: no build fits. The smallest, {smallest['precision']} with "
        f"kv_cache {smallest['kv_cache']}, is predicted at {value_text(METRIC, min(predicted))} in a context of "
        f"{use.context} tokens. Raise the limit, or shorten the scenario's context"
    )


def _by_loss(target: str, precision: str, scope: SearchScope) -> Iterator[dict[str, Scalar]]:
    """Good choices, those that lose least first."""
    for name in [precision] if precision else ["int8", *([MIXED] if scope.mixes else []), "int4"]:
        for cache in ("float", "int8"):
            yield {**good_choice("cpu", target, name, scope), "kv_cache": cache}
