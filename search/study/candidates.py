"""The candidates of a study: which choice comes next, and what a record keeps of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import optuna

from olivine.passes.base import Scalar
from olivine.passes.errors import PassRefused
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.recipe import Recipe
from olivine.search.config.space import Space
from olivine.search.records import TrialRecord
from olivine.search.report.progress import Progress
from olivine.search.samplers.factory import AnyProposer, guide, make_proposer
from olivine.search.samplers.masks import Masks
from olivine.search.samplers.proposer import Proposal
from olivine.search.study.machine_defaults import resolve
from olivine.search.workloads.workload import AnyWorkload


@dataclass(frozen=True)
class Candidates:
    """The candidates of one study: first those of ``enqueue:``, then what its sampler proposes.

    Attributes:
        space: the search space.
        proposer: draws choices.
        enqueue: choices that come first.
        pins: values of the axes that depend on the machine, where several machines share the study.
    """

    space: Space
    proposer: AnyProposer
    enqueue: Sequence[Mapping[str, Scalar]] = ()
    pins: Mapping[str, Scalar] = field(default_factory=dict)

    def next(self, study: optuna.Study, position: int, measured: Collection[str]) -> Proposal | None:
        """The next candidate; None when none is left.

        Args:
            study: the study so far.
            position: its place in the sequence.
            measured: keys of recipes that need no second measurement.
        """
        return self._enqueued(measured) or self.proposer.propose(study, position, measured)

    def ahead(self, study: optuna.Study, position: int, measured: Collection[str]) -> Proposal | None:
        """The candidate after the one that is running, where that one's result does not matter; as :meth:`next`."""
        return self._enqueued(measured) or self.proposer.propose_ahead(study, position, measured)

    def _enqueued(self, measured: Collection[str]) -> Proposal | None:
        for enqueued in self.enqueue:
            choice = self.space.catalog.canonical({**self.space.usual(), **enqueued})
            if self.key(choice) not in measured:
                return self.proposal(choice)
        return None

    def proposal(self, choice: Mapping[str, Scalar]) -> Proposal:
        """A choice that no sampler drew; one outside the space is measured, but tells the sampler nothing."""
        searched = self.space.searched if self.space.contains(choice) else ()
        return Proposal(choice, {name: choice[name] for name in searched if name in choice}, {})

    def resolved(self, choice: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The choice as the machine that leads the study understands it."""
        return resolve(choice, self.pins, {domain.axis.name for domain in self.space.domains})

    def key(self, choice: Mapping[str, Scalar]) -> str:
        """Identity of the recipe of a choice."""
        return self.space.catalog.compose(self.resolved(choice)).key

    def recorded(self, choice: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The values of a choice that a record keeps."""
        return recorded(self.space, choice)

    @property
    def exhausted(self) -> str:
        """Why the search ends where no candidate is left."""
        masks = self.proposer.masks
        masked = masks.slow_kernels or masks.memory is not None
        kind = "candidate that is not masked" if masked else "candidate of the space"
        return f"every {kind} is measured"


def recorded(space: Space, choice: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The values that a record keeps: those of searched axes, and those that differ from an axis's default."""
    return {
        name: value
        for name, value in choice.items()
        if name in space.searched or value != space.catalog.axes[name].default_for(choice)
    }


def recipe_key(space: Space, pins: Mapping[str, Scalar]) -> Callable[[Mapping[str, Scalar]], str]:
    """Tells the identity of a choice's recipe, with the values of the machine that leads the study."""
    named = {domain.axis.name for domain in space.domains}
    return lambda choice: space.catalog.compose(resolve(choice, pins, named)).key


def make_candidates(
    workload: AnyWorkload,
    masks: Masks,
    records: Sequence[TrialRecord],
    expected_losses: Callable[[Recipe], Mapping[str, LayerLoss]],
    progress: Progress,
) -> Candidates:
    """The candidates of a study that this process runs alone, guided by a cost model where one can be made.

    Args:
        workload: of the study.
        masks: recipes that are not proposed.
        records: of the base and of all candidates, to which the study appends.
        expected_losses: tells the expected loss of each layer of a recipe's float graph.
        progress: told why there is no cost model.
    """
    config, space, name = workload.config, workload.config.search_space(), workload.sampler(masks)
    proposer = make_proposer(config, name, masks, one_behind=workload.one_behind)
    enqueue, left_out = fitting(config.enqueue, space, masks)
    for line in left_out:
        progress.note(line)
    candidates = Candidates(space, proposer, enqueue)
    if name != "forecast":
        return candidates
    progress.phase_started("cost model")
    try:
        cost_model = workload.cost_model(records[0], expected_losses, masks)
    except PassRefused as refusal:
        progress.note(f"no cost model, so TPE alone proposes candidates: {refusal}")
        return candidates
    return Candidates(space, guide(proposer, cost_model, config, records), enqueue)


def fitting(
    enqueue: Sequence[Mapping[str, Scalar]], space: Space, masks: Masks
) -> tuple[tuple[Mapping[str, Scalar], ...], tuple[str, ...]]:
    """The choices to measure first that may fit the memory, and a sentence on each other one."""
    fits, left_out = [], []
    for number, choice in enumerate(enqueue):
        recipe = space.catalog.compose(space.catalog.canonical({**space.usual(), **choice}))
        reason = None if masks.memory is None or recipe.provider != "cpu" else masks.memory.reason(recipe)
        if reason is None:
            fits.append(choice)
        else:
            left_out.append(f"not built: enqueue.{number}, whose {reason}")
    return tuple(fits), tuple(left_out)


def shared_candidates(workload: AnyWorkload, masks: Masks, machine: Mapping[str, Scalar]) -> Candidates:
    """The candidates of a study that several workers share: without a cost model, which not all of them can make.

    Args:
        workload: of the study.
        masks: kernels that are not proposed.
        machine: values of the axes that depend on the machine, of the one that leads.
    """
    config, space = workload.config, workload.config.search_space()
    key = recipe_key(space, machine)
    proposer = make_proposer(config, workload.sampler(masks), masks, key=key)
    enqueue, _ = fitting(config.enqueue, space, masks)
    return Candidates(space, proposer, enqueue, machine)
