"""SurrogateProposer: of many candidates that could be next, proposes the one that a surrogate picks.

A small space is the pool as a whole. Three sources fill that of a larger one: TPE's own proposals, neighbours of the
best so far (one axis changed), and random choices. In a study's first trials, before there is a front, this walks along
the front that the cost model predicts: its warm start.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Protocol

import optuna
from optuna.trial import TrialState

from olivine.passes.base import Scalar
from olivine.search.config.space import Space
from olivine.search.records import TrialRecord
from olivine.search.samplers.exhaustive import hash_seed
from olivine.search.samplers.masks import Masks
from olivine.search.samplers.proposer import Proposal, Proposer
from olivine.search.samplers.random_choices import RandomSuggester

#: Proposals of each source in a pool: of TPE, at random, and neighbours of each member of the front.
DRAWN, RANDOM, NEIGHBOURS = 4, 200, 12
#: Choices of a space that is the pool as a whole, at most.
SMALL = 600


class Selector(Protocol):
    """Picks proposals for the front (:mod:`.surrogate`) or for a goal (:mod:`.goal_selector`)."""

    def best(self, pool: Sequence[Mapping[str, Scalar]], records: Sequence[TrialRecord], seed: int) -> int | None:
        """Index of the proposal that should be measured next; None where none has a chance."""
        ...

    def neighbourhoods(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The candidates whose neighbours are proposed."""
        ...


@dataclass(frozen=True)
class SurrogateProposer:
    """Proposes candidates by a cost model that the study's trials correct.

    Attributes:
        proposer: draws TPE's proposals, and stands in where no proposal should add anything.
        selector: picks from the pool.
        records: of the study, the base's among them; the study appends to it.
    """

    proposer: Proposer
    selector: Selector
    records: Sequence[TrialRecord]

    def propose(self, study: optuna.Study, number: int, measured: Collection[str]) -> Proposal | None:
        """The next candidate that is not among ``measured`` (recipe keys), or None when none is left.

        The arguments are those of :meth:`Proposer.propose`.
        """
        records = self._known(study)
        pool = list(self._pool(study, number, measured, records))
        seed = hash_seed(self.proposer.seed, number)
        best = self.selector.best([proposal.choice for proposal in pool], records, seed) if pool else None
        return self.proposer.propose(study, number, measured) if best is None else pool[best]

    def propose_ahead(self, study: optuna.Study, number: int, measured: Collection[str]) -> Proposal | None:
        """As :meth:`Proposer.propose_ahead`: with ``one_behind``, the result of the last trial does not matter."""
        return self.propose(study, number, measured) if self.proposer.one_behind else None

    @property
    def masks(self) -> Masks:
        """Kernels whose candidates are not proposed."""
        return self.proposer.masks

    def _known(self, study: optuna.Study) -> list[TrialRecord]:
        """The candidates whose results count: all, or all but the study's last (:attr:`Proposer.one_behind`)."""
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        last = max((t.number for t in study.get_trials(deepcopy=False, states=states)), default=0)
        behind = last if self.proposer.one_behind else -1
        return [record for record in self.records if record.number > 0 and record.number != behind]

    def _pool(
        self, study: optuna.Study, number: int, measured: Collection[str], records: Sequence[TrialRecord]
    ) -> Iterator[Proposal]:
        """Distinct candidates that are not measured yet, nor masked."""
        seen = set(measured)
        for proposal in self._candidates(study, number, records):
            recipe = self.proposer.space.catalog.compose(proposal.choice)
            if recipe.key not in seen and self.proposer.masks.reason(recipe) is None:
                seen.add(recipe.key)
                yield proposal

    def _candidates(self, study: optuna.Study, number: int, records: Sequence[TrialRecord]) -> Iterator[Proposal]:
        space, seed = self.proposer.space, self.proposer.seed
        if self._whole:
            yield from self._whole
            return
        if len(records) >= self.proposer.startup_trials:
            yield from self.proposer.draws(study, number, DRAWN)
        rng = random.Random(hash_seed(seed, number, -2))
        for member in self.selector.neighbourhoods(records):
            for _ in range(NEIGHBOURS):
                yield Proposal.of(space, space.suggest(RandomSuggester(rng, _but_one(member.params, space, rng))))
        for _ in range(RANDOM):
            yield Proposal.of(space, space.suggest(RandomSuggester(rng, {})))

    @cached_property
    def _whole(self) -> tuple[Proposal, ...]:
        """Every choice of a space of at most ``SMALL``; nothing of a larger one."""
        space = self.proposer.space
        some = tuple(islice(space.enumerate() or (), SMALL + 1))
        return () if len(some) > SMALL else tuple(Proposal.of(space, choice) for choice in some)


def _but_one(params: Mapping[str, Scalar], space: Space, rng: random.Random) -> dict[str, Scalar]:
    """The searched values of a candidate, one of them forgotten."""
    known = {name: params[name] for name in space.searched if name in params}
    if known:
        del known[rng.choice(sorted(known))]
    return known
