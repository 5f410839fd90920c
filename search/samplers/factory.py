"""Which sampler a study proposes its candidates with, and how it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from olivine.passes.catalog import LANGUAGE
from olivine.passes.cpu import available_cores
from olivine.passes.errors import PassRefused
from olivine.search.builds.calibration_text import may_calibrate
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.samplers.cost_model import FORECAST, CostModel, ProbedKernels, forecastable, recipe_kernels
from olivine.search.samplers.kernel_masks import NO_MASKS, KernelMasks
from olivine.search.samplers.proposer import Proposer, count_candidates
from olivine.search.samplers.random_choices import chance_choices
from olivine.search.samplers.surrogate import SurrogateSelector
from olivine.search.samplers.surrogate_proposer import SurrogateProposer

if TYPE_CHECKING:
    from olivine.search.study.runner import StudyRunner

AnyProposer = Proposer | SurrogateProposer
#: Candidates drawn to see which kernels a space uses.
KERNEL_DRAWS = 200


def sampler_name(config: LanguageStudyConfig, masks: KernelMasks = NO_MASKS) -> str:
    """The sampler that a config names, or what ``auto`` stands for in its space.

    ``exhaustive`` where the space fits the budget; ``forecast`` where candidates learn from text anyway and run on
    kernels that can be probed, and all that the study watches is forecast; ``tpe`` otherwise.
    """
    name, space = config.sampler.name, config.search_space()
    if name != "auto":
        return name
    candidates = count_candidates(space, masks=masks)
    if candidates is not None and candidates <= config.stop.trials:
        return "exhaustive"
    return "forecast" if may_calibrate(config) and forecastable(space) and not unforecast(config) else "tpe"


def unforecast(config: LanguageStudyConfig) -> list[str]:
    """What a study watches that no forecast is made of: its objectives and constraints."""
    watched = [*config.objectives, *(constraint.metric for constraint in config.parsed_constraints())]
    return sorted(set(watched) - FORECAST)


def shared_sampler_name(config: LanguageStudyConfig, masks: KernelMasks) -> str:
    """The same for a study that several workers share: TPE without a forecast, which not all of them can make."""
    name = sampler_name(config, masks)
    return "tpe" if name == "forecast" else name


def make_proposer(search: StudyRunner) -> AnyProposer:
    """What proposes the candidates of a study whose base is measured."""
    config, masks = search.config, search.masks
    name = sampler_name(config, masks)
    space = config.search_space()
    if name != "forecast":
        return Proposer(space, name, config.seed, config.sampler.startup_trials, masks=masks, one_behind=True)
    tpe = Proposer(space, "tpe", config.seed, config.sampler.startup_trials, masks=masks, one_behind=True)
    if missing := unforecast(config):
        search.progress.note(f"no forecast is made of {', '.join(missing)}, so TPE alone proposes candidates")
        return tpe
    search.progress.phase_started("forecast")
    try:
        forecast = make_forecast(search)
    except PassRefused as refusal:
        search.progress.note(f"no forecast, so TPE alone proposes candidates: {refusal}")
        return tpe
    return SurrogateProposer(
        tpe, SurrogateSelector(forecast, config.objectives, config.parsed_constraints()), search.records
    )


def make_forecast(search: StudyRunner) -> CostModel:
    """Expected losses of the model's layers, and the times of the kernels that candidates may run them with.

    The study's base is measured, and its calibration text stored.

    Raises:
        PassRefused: when sensitivities can't be learned, or candidates run elsewhere than on the CPU.
    """
    config, base = search.config, search.records[0]
    space = config.search_space()
    if not forecastable(space):
        raise PassRefused("candidates of this space run on providers or in float types whose kernels are not probed")
    losses = search.objective.forecast(base.recipe)
    latency = config.evaluation.latency
    times = ProbedKernels(
        losses, (1, latency.prompt_tokens), base.recipe.threads or available_cores(), search.masks.times
    )
    drawn = chance_choices(space, KERNEL_DRAWS, config.seed)
    times.probe(kernel for choice in drawn for kernel in recipe_kernels(LANGUAGE.compose(choice), losses))
    measured = {name: base.value(name) for name in base.metrics}
    return CostModel(losses, times, latency.prompt_tokens, latency.new_tokens, measured)
