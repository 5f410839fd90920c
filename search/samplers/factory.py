"""The sampler of a study: which one its config stands for, and how it is made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from olivine.passes.cpu import available_cores
from olivine.passes.errors import PassRefused
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.recipe import Recipe
from olivine.passes.transforms.prune_head import PruneHead
from olivine.search.builds.calibration_text import may_calibrate
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.sections import StudyConfig
from olivine.search.records import TrialRecord
from olivine.search.samplers.cost_model import PREDICTED, CostModel, ProbedKernels, predictable
from olivine.search.samplers.exhaustive import count_candidates
from olivine.search.samplers.goal import goal_of
from olivine.search.samplers.goal_selector import GoalSelector
from olivine.search.samplers.layer_kernels import recipe_kernels
from olivine.search.samplers.masks import NO_MASKS, Masks
from olivine.search.samplers.proposer import Key, Proposer
from olivine.search.samplers.random_choices import chance_choices
from olivine.search.samplers.surrogate import SurrogateSelector
from olivine.search.samplers.surrogate_proposer import SurrogateProposer

AnyProposer = Proposer | SurrogateProposer
#: Candidates drawn to see which kernels a space uses.
KERNEL_DRAWS = 200


def sampler_name(config: StudyConfig, masks: Masks = NO_MASKS, uncounted: Collection[str] = ()) -> str:
    """The sampler that a config names, or the one that ``auto`` stands for in its space.

    ``exhaustive`` where the space fits the budget; ``forecast`` where candidates of a language model learn from text
    anyway and run on kernels that can be probed, and the cost model predicts all that the study watches; ``tpe``
    otherwise.

    Args:
        config: of the study.
        masks: kernels whose candidates are not proposed.
        uncounted: keys of recipes that are measured anyway.
    """
    name, space = config.sampler.name, config.search_space()
    if name != "auto":
        return name
    candidates = count_candidates(space, masks=masks, uncounted=uncounted)
    if candidates is not None and candidates <= config.stop.trials:
        return "exhaustive"
    learns = isinstance(config, LanguageStudyConfig) and may_calibrate(config)
    return "forecast" if learns and predictable(space) and not unpredicted(config) else "tpe"


def unpredicted(config: StudyConfig) -> list[str]:
    """Objectives and constraints of a study that the cost model does not predict."""
    watched = [*config.objectives, *(constraint.metric for constraint in config.parsed_constraints())]
    return sorted(set(watched) - PREDICTED)


def make_proposer(
    config: StudyConfig,
    name: str,
    masks: Masks = NO_MASKS,
    *,
    key: Key | None = None,
    one_behind: bool = False,
) -> Proposer:
    """Make the proposer of a study: TPE for ``forecast``, which :func:`guide` completes.

    Args:
        config: of the study.
        name: of the sampler.
        masks: kernels whose candidates are not proposed.
        key: see :attr:`Proposer.key`.
        one_behind: see :attr:`Proposer.one_behind`.
    """
    sampler = "tpe" if name == "forecast" else name
    startup = config.sampler.startup_trials
    return Proposer(config.search_space(), sampler, config.seed, startup, key, one_behind, masks)


def guide(
    proposer: Proposer, cost_model: CostModel, config: StudyConfig, records: Sequence[TrialRecord]
) -> SurrogateProposer:
    """Guide a proposer by a cost model, which the records of the study correct as they come."""
    surrogate = SurrogateSelector(cost_model, config.objectives, config.parsed_constraints())
    goal = goal_of(config) if config.sampler.aim == "goal" else None
    selector = surrogate if goal is None else GoalSelector(surrogate, goal)
    return SurrogateProposer(proposer, selector, records)


def make_cost_model(
    config: LanguageStudyConfig,
    base: TrialRecord,
    expected_losses: Callable[[Recipe], Mapping[str, LayerLoss]],
    masks: Masks,
) -> CostModel:
    """Learn the losses of the model's layers, and time the kernels that candidates may run them with.

    Args:
        config: of the study.
        base: record of the base, which tells the length of the prompt that was timed.
        expected_losses: learns the expected losses of the layers of a recipe's float graph.
        masks: with the kernel times that are known already.

    Raises:
        PassRefused: when the study watches a metric that is not predicted, candidates run elsewhere than on the CPU, or
            losses can't be learned.
    """
    space, latency = config.search_space(), config.evaluation.latency
    if metrics := unpredicted(config):
        raise PassRefused(f"it does not predict {', '.join(metrics)}")
    if not predictable(space):
        raise PassRefused("candidates of this space run on providers or in float types whose kernels are not probed")
    losses = expected_losses(base.recipe)
    threads = base.recipe.threads or available_cores()
    prompt_tokens = int(base.metrics["ttft_ms"].protocol.get("prompt_tokens", latency.prompt_tokens))
    times = ProbedKernels(losses, (1, prompt_tokens), threads, masks.times)
    drawn = chance_choices(space, KERNEL_DRAWS, config.seed)
    times.probe(kernel for choice in drawn for kernel in recipe_kernels(space.catalog.compose(choice), losses))
    measured = {name: base.value(name) for name in base.metrics}
    pruned = any(step.name == PruneHead.name for step in base.recipe.steps)
    memory = None if masks.memory is None else masks.memory.memory
    return CostModel(losses, times, prompt_tokens, latency.new_tokens, measured, pruned, memory)
