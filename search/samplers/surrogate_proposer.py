"""Guided proposals: of many candidates that could be next, the one that a forecast says adds most to the front.

A small space is the pool as a whole. Three sources fill that of a larger one: TPE's own proposals, neighbours of the
front (one axis changed), and chance. In a study's first trials, before there is a front, this walks along the
forecast's own front: its warm start.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import optuna
from optuna.trial import TrialState

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.search.config.space import Space
from olivine.search.pareto import front
from olivine.search.records import TrialRecord
from olivine.search.samplers.proposer import Proposal, Proposer, hash_seed
from olivine.search.samplers.random_choices import RandomSuggester
from olivine.search.samplers.surrogate import SurrogateSelector

#: Proposals of each kind in a pool; neighbours are per member of the front.
DRAWN, CHANCE, NEIGHBOURS = 4, 200, 12
#: Choices of a space that is the pool as a whole, at most.
SMALL = 600


@dataclass(frozen=True)
class SurrogateProposer:
    """Draws candidates for a study by forecast.

    Attributes:
        proposer: draws TPE's proposals, and stands in where the forecast sees no gain anywhere.
        guide: picks.
        records: of the study, the base's among them; the study appends to it.
    """

    proposer: Proposer
    guide: SurrogateSelector
    records: Sequence[TrialRecord]

    def propose(self, study: optuna.Study, number: int, measured: Collection[str]) -> Proposal | None:
        """The next candidate that is not among ``measured`` (recipe keys), or None when none is left.

        The arguments are those of :meth:`Proposer.propose`.
        """
        records = self._known(study)
        pool = list(self._pool(study, number, measured, records))
        best = (
            self.guide.best([p.choice for p in pool], records, hash_seed(self.proposer.seed, number)) if pool else None
        )
        return self.proposer.propose(study, number, measured) if best is None else pool[best]

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
            key = LANGUAGE.compose(proposal.choice).key
            if key not in seen and self.proposer.masks.reason(proposal.choice) is None:
                seen.add(key)
                yield proposal

    def _candidates(self, study: optuna.Study, number: int, records: Sequence[TrialRecord]) -> Iterator[Proposal]:
        space, seed = self.proposer.space, self.proposer.seed
        if self._whole:
            yield from self._whole
            return
        if len(records) >= self.proposer.startup_trials:
            yield from self.proposer.draws(study, number, DRAWN)
        rng = random.Random(hash_seed(seed, number, -2))
        for member in front(records, self.guide.objectives):
            for _ in range(NEIGHBOURS):
                yield _proposal(space, RandomSuggester(rng, _but_one(member.params, space, rng)))
        for _ in range(CHANCE):
            yield _proposal(space, RandomSuggester(rng, {}))

    @cached_property
    def _whole(self) -> tuple[Proposal, ...]:
        """Every choice of a space of at most ``SMALL``; nothing of a larger one."""
        space = self.proposer.space
        some = tuple(islice(space.enumerate() or (), SMALL + 1))
        return () if len(some) > SMALL else tuple(_named(space, choice) for choice in some)


def _but_one(params: Mapping[str, Scalar], space: Space, rng: random.Random) -> dict[str, Scalar]:
    """The searched values of a candidate, one of them forgotten."""
    known = {name: params[name] for name in space.searched if name in params}
    if known:
        del known[rng.choice(sorted(known))]
    return known


def _proposal(space: Space, lots: RandomSuggester) -> Proposal:
    return _named(space, space.suggest(lots))


def _named(space: Space, choice: dict[str, Scalar]) -> Proposal:
    return Proposal(choice, {name: choice[name] for name in space.searched if name in choice}, {})
