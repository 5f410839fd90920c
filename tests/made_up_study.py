"""Studies whose candidates are measured by a formula, told to Optuna as a real study tells it."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.samplers import PartialFixedSampler, RandomSampler
from optuna.trial import TrialState

from olivine.evaluators.kernels.times import KernelTimes, Product
from olivine.evaluators.measurement import Measurement
from olivine.passes.base import Scalar
from olivine.passes.kernel import DYNAMIC_INT8, FLOAT, Kernel
from olivine.passes.quantize.activations.integer_matmul import REDUCED_TOP, TOP
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.sections import StudyConfig
from olivine.search.config.space import Space
from olivine.search.records import TrialRecord
from olivine.search.samplers.factory import (
    AnyProposer,
    guide,
    make_cost_model,
    make_proposer,
    sampler_name,
    unpredicted,
)
from olivine.search.samplers.masks import NO_MASKS, Masks
from olivine.search.samplers.proposer import Proposal

#: Metric -> its value for the base.
BASE = {
    "tpot_ms": 20.0,
    "ttft_ms": 130.0,
    "e2e_ms": 200.0,
    "perplexity": 10.0,
    "perplexity_ratio": 1.0,
    "kl_divergence": 0.0,
    "model_bytes": 1e6,
    "peak_rss_bytes": 2e6,
    "latency_ms": 9.0,
    "cosine_distance": 0.0,
}


#: One step over the whole range of a block, in nats; layers differ, and learned codes lose less.
PATHS = ("layers.0/qkv_proj", "layers.0/down_proj", "layers.1/qkv_proj", "layers.1/down_proj", "lm_head")
LOSSES = {
    path: LayerLoss(
        path,
        64,
        32 * (index + 1),
        {
            f"{size}/{shape}/{how}": (index + 1)
            * size
            * {"asym": 1.0, "sym": 1.3}[shape]
            * {"alone": 1.0}.get(how, 0.6)
            for size in (16, 32, 64, 128, 256)
            for shape in ("asym", "sym")
            for how in ("alone", "learned")
        },
        {str(TOP): 0.5, str(REDUCED_TOP): 2.0, f"{TOP}/smooth": 0.3, f"{REDUCED_TOP}/smooth": 1.2},
    )
    for index, path in enumerate(PATHS)
}
KERNELS = [FLOAT, DYNAMIC_INT8] + [
    Kernel(bits, block, level, "float") for bits in (4, 8) for block in (16, 32, 64, 128, 256) for level in (0, 4)
]
KERNEL_TIMES = KernelTimes(
    {
        Product(kernel, loss.k, loss.n, tokens): (
            1e-5 * loss.k * loss.n * tokens * ((kernel.bits or 32) / 8 + 4 / (kernel.block_size or 8))
        )
        * (1.0 if kernel.accuracy_level == 4 else 1.5)
        for kernel in KERNELS
        for loss in LOSSES.values()
        for tokens in (1, 128)
    },
    threads=1,
    runtime="made up",
)


def metrics_of(choice: Mapping[str, Scalar]) -> dict[str, float]:
    """Every value of an axis has a factor of its own in each metric."""
    divergence = 0.02 * _factor(choice, "kl_divergence")
    times = {name: BASE[name] * _factor(choice, name) for name in BASE if name.endswith(("_ms", "_bytes"))}
    return times | {
        "kl_divergence": divergence,
        "perplexity_ratio": math.exp(divergence),
        "perplexity": 10 * math.exp(divergence),
        "cosine_distance": divergence / 2,
    }


def _factor(choice: Mapping[str, Scalar], metric: str) -> float:
    draws = [random.Random(f"{metric} {axis} {value}").uniform(0.6, 1.1) for axis, value in sorted(choice.items())]
    return math.prod(draws)


def portable_key(recipe: Any) -> str:
    """Key of a recipe on a processor whose int8 sums do not saturate, as some do and some do not."""
    steps = recipe.to_json()
    if not any(step["params"].get("reduce_range") for step in steps):
        return str(recipe.key)
    unsaturated = [{"name": step["name"], "params": {**step["params"], "reduce_range": False}} for step in steps]
    return str(type(recipe).from_json(unsaturated, recipe.known).key)


def make_made_up_proposer(config: StudyConfig, records: Sequence[TrialRecord], masks: Masks = NO_MASKS) -> AnyProposer:
    """The proposer of a study, by the times and losses above where it is a cost model's."""
    name, language = sampler_name(config, masks), isinstance(config, LanguageStudyConfig)
    proposer = make_proposer(config, name, masks, one_behind=language)
    if not language or name != "forecast" or unpredicted(config):
        return proposer
    known = replace(masks, times=KERNEL_TIMES)
    return guide(proposer, make_cost_model(config, records[0], lambda recipe: LOSSES, known), config, records)


class MadeUpStudy:
    """A study in memory, with its base measured.

    Args:
        space: what is searched.
        compose: choice -> recipe.
        objectives: names of metrics.
        storage: URL of Optuna's storage; in memory by default.
    """

    def __init__(
        self,
        space: Space,
        compose: Callable[[Mapping[str, Scalar]], Any],
        objectives: tuple[str, ...],
        storage: str | None = None,
    ):
        self.space, self.compose, self.objectives, self.storage = space, compose, objectives, storage
        directions = ["minimize"] * len(objectives)
        self.study = optuna.create_study(directions=directions, storage=storage, study_name="made up")
        self.study.tell(self.study.ask(), [BASE[name] for name in objectives])
        self.records = [self._record(0, {"threads": 1}, BASE, False)]

    def run(self, proposer: Any, trials: int) -> list[str]:
        """Keys of the recipes that were proposed and measured; ends early when none is left."""
        keys: list[str] = []
        for _ in range(trials):
            if (proposal := self.propose(proposer)) is None:
                break
            self.measure(proposal)
            keys.append(portable_key(self.compose(proposal.choice)))
        return keys

    def reopened(self) -> MadeUpStudy:
        """The same study, as another process would resume it from its storage."""
        other = copy.copy(self)
        other.study = optuna.load_study(study_name="made up", storage=self.storage)
        other.records = list(self.records)
        return other

    def enqueue(self, choice: Mapping[str, Scalar]) -> None:
        """Measure a choice of the config's before any is proposed."""
        params = {name: choice[name] for name in self.space.searched if name in choice}
        self.measure(Proposal(choice, params, {}))

    def propose(self, proposer: Any) -> Any:
        """The next proposal, after all that was measured."""
        return proposer.propose(self.study, len(self.study.trials), {record.recipe_key for record in self.records})

    def measure(self, proposal: Any) -> None:
        """Tell what the formula says of a proposal; one of eight candidates fails to build."""
        self.study.sampler = PartialFixedSampler(dict(proposal.params), RandomSampler(seed=0))
        trial = self.study.ask()
        self.space.suggest(trial)
        for name, value in proposal.sampler_attrs.items():
            self.study._storage.set_trial_system_attr(trial._trial_id, name, value)
        failed = random.Random(f"fails {portable_key(self.compose(proposal.choice))}").random() < 1 / 8
        trial.set_constraint("builds and runs", float(failed))
        record = self._record(trial.number, proposal.choice, metrics_of(proposal.choice), failed)
        if failed:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, [record.value(name) for name in self.objectives])
        self.records.append(record)

    def _record(
        self, number: int, choice: Mapping[str, Scalar], metrics: Mapping[str, float], failed: bool
    ) -> TrialRecord:
        recipe = self.compose(choice)
        values = {} if failed else {name: Measurement.exact(name, "1", value) for name, value in metrics.items()}
        return TrialRecord(
            number,
            "failed" if failed else "complete",
            "made up" if failed else "",
            dict(choice),
            recipe,
            recipe.key,
            metrics=values,
        )
