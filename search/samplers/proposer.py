"""Proposals of the next candidate by Optuna's samplers, none of them twice.

Each proposal is drawn in a scratch copy of the study with a sampler seeded by (seed, trial number, attempt):

* the sequence depends on the seed and on what was measured, not on when the process started, so a resumed study
  goes on as the uninterrupted one would have;
* with ``one_behind``, a proposal knows the results of all trials but the last, which counts as still running: it is the
  same whether it is made while that one runs or afterwards;
* a proposal that was already measured, or that is masked, is drawn again there, and leaves no trace in the study's
  storage. (In a space of 48 points, 48 trials of plain TPE propose 19 to 31 distinct ones.)
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from olivine.passes.base import Scalar
from olivine.search.config.space import Space
from olivine.search.samplers.exhaustive import find_choice, hash_seed
from olivine.search.samplers.masks import NO_MASKS, Masks

#: Draws before a candidate is taken at random from those not measured. Each fit of GP takes seconds.
ATTEMPTS = {"gp": 2}
DEFAULT_ATTEMPTS = 20
#: Samplers that learn nothing from results, and those that learn nothing from the startup trials.
_INDEPENDENT, _STARTING = ("random", "exhaustive"), ("tpe", "gp")


Key = Callable[[Mapping[str, Scalar]], str]


@dataclass(frozen=True)
class Proposal:
    """The next candidate.

    Attributes:
        choice: its canonical axis values.
        params: the searched axes among them, which Optuna is told.
        sampler_attrs: attributes of the trial that the sampler keeps (NSGA-II: its generation).
    """

    choice: Mapping[str, Scalar]
    params: Mapping[str, Any]
    sampler_attrs: Mapping[str, Any]

    @classmethod
    def of(cls, space: Space, choice: Mapping[str, Scalar]) -> Proposal:
        """The proposal of one choice of ``space``."""
        return cls(choice, {name: choice[name] for name in space.searched if name in choice}, {})


def make_sampler(name: str, seed: int, startup_trials: int) -> BaseSampler:
    """Make the Optuna sampler that a config names, seeded."""
    makers: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, n_startup_trials=startup_trials, constant_liar=True
        ),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed, population_size=max(2, startup_trials)),
        "nsga3": lambda: optuna.samplers.NSGAIIISampler(seed=seed, population_size=max(2, startup_trials)),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup_trials),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return makers[name]()


@dataclass(frozen=True)
class Proposer:
    """Draws candidates from ``space`` for a study.

    Attributes:
        space: the search space.
        sampler: ``tpe``, ``random``, ``nsga2``, ``nsga3``, ``gp`` or ``exhaustive``.
        seed: of the whole study.
        startup_trials: random trials before a sampler that learns starts to.
        key: makes the key of a choice's recipe, where it is not that of the space's catalog.
        one_behind: take the result of the last trial as not known yet, so that the next one can be proposed, and its
            build begun, before it is.
        masks: kernels whose candidates are not proposed.
    """

    space: Space
    sampler: str
    seed: int
    startup_trials: int
    key: Key | None = None
    one_behind: bool = False
    masks: Masks = NO_MASKS

    def propose(self, study: optuna.Study, number: int, measured: Collection[str]) -> Proposal | None:
        """The next candidate that is not among ``measured`` (recipe keys), or None when none is left.

        Args:
            study: the study so far; it is only read.
            number: its place in the sequence; in a study that was never interrupted, the number of the trial.
            measured: recipe keys that need no second measurement.
        """
        if self.sampler == "exhaustive":
            return self._any_left(number, measured, in_order=True)
        scratch = self._scratch(study)
        for attempt in range(ATTEMPTS.get(self.sampler, DEFAULT_ATTEMPTS)):
            proposal = self._draw(scratch, hash_seed(self.seed, number, attempt))
            if self._wanted(proposal.choice, measured):
                return proposal
        return self._any_left(number, measured, in_order=False)

    def propose_ahead(self, study: optuna.Study, number: int, measured: Collection[str]) -> Proposal | None:
        """The candidate after the one that is running, where its result does not matter for the choice; else None.

        The arguments are those of :meth:`propose`, which gives the same candidate once the result is known.
        """
        starting = self.sampler in _STARTING and len(_candidates(study)) < self.startup_trials
        if self.one_behind or self.sampler in _INDEPENDENT or starting:
            return self.propose(study, number, measured)
        return None

    def draws(self, study: optuna.Study, number: int, count: int) -> Iterator[Proposal]:
        """``count`` of the sampler's own proposals for one trial, measured ones among them."""
        scratch = self._scratch(study)
        for attempt in range(count):
            yield self._draw(scratch, hash_seed(self.seed, number, attempt))

    def _wanted(self, choice: Mapping[str, Scalar], measured: Collection[str]) -> bool:
        recipe = self.space.catalog.compose(choice)
        key = self.key(choice) if self.key else recipe.key
        return key not in measured and self.masks.reason(recipe) is None

    def _scratch(self, study: optuna.Study) -> optuna.Study:
        """A copy in memory of the trials that have ended, without the base; those under way steer TPE away."""
        storage = InMemoryStorage()
        scratch = optuna.create_study(directions=study.directions, storage=storage)
        known = _candidates(study)
        if self.one_behind and known and known[-1].state.is_finished():
            known[-1] = _as_if_running(known[-1])
        _fill(storage, scratch._study_id, [t for t in known if t.state.is_finished() or t.params])
        return scratch

    def _draw(self, scratch: optuna.Study, seed: int) -> Proposal:
        """One proposal; it stays in ``scratch`` as running, which steers TPE away from drawing it again."""
        scratch.sampler = make_sampler(self.sampler, seed, self.startup_trials)
        trial = scratch.ask()
        choice = self.space.suggest(trial)
        drawn = scratch.get_trials(deepcopy=False)[trial.number]
        return Proposal(choice, dict(drawn.params), dict(drawn.system_attrs))

    def _any_left(self, number: int, measured: Collection[str], in_order: bool) -> Proposal | None:
        """A candidate that may be measured and was not yet: the first, or any; None where there is none."""
        seed = hash_seed(self.seed, number, -1)
        choice = find_choice(self.space, lambda choice: self._wanted(choice, measured), seed, in_order)
        return None if choice is None else Proposal.of(self.space, choice)


def _candidates(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that have ended or are under way, without the base and those whose process ended."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    return [trial for trial in study.get_trials(deepcopy=False, states=states) if trial.number > 0]


def _fill(storage: InMemoryStorage, study_id: int, trials: Sequence[FrozenTrial]) -> None:
    """Put trials into an empty study, numbered anew.

    As ``Study.add_trials`` does, which checks and copies each of them: at 5,000 trials that took a second a proposal.
    """
    for number, trial in enumerate(trials):
        own = copy.copy(trial)
        own.number = own._trial_id = number
        storage._studies[study_id].trials.append(own)
        storage._trial_id_to_study_id_and_number[number] = (study_id, number)
    storage._max_trial_id = len(trials) - 1


def _as_if_running(trial: FrozenTrial) -> FrozenTrial:
    """A copy of an ended trial without its result."""
    own = copy.copy(trial)
    own.state, own.values, own.datetime_complete = TrialState.RUNNING, None, None
    return own
