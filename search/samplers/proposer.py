"""Proposing the next candidate: Optuna's samplers, without ever proposing the same candidate twice.

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
import random
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.search.config.space import Space
from olivine.search.samplers.kernel_masks import NO_MASKS, KernelMasks
from olivine.search.samplers.random_choices import chance_choices

#: Draws before a candidate is taken at random from those not measured. Each fit of GP takes seconds.
ATTEMPTS = {"gp": 2}
DEFAULT_ATTEMPTS = 20
#: Spaces up to this size are enumerated where that helps.
ENUMERABLE = 20_000
#: Draws from a space that can't be enumerated, before it is said that nothing is left.
ENDLESS_DRAWS = 1000


@dataclass(frozen=True)
class Proposal:
    """The next candidate.

    Attributes:
        choice: its canonical axis values.
        params: the searched axes among them: what Optuna is told.
        sampler_attrs: what the sampler wants kept with the trial (NSGA-II: its generation).
    """

    choice: Mapping[str, Scalar]
    params: Mapping[str, Any]
    sampler_attrs: Mapping[str, Any]


def make_sampler(name: str, seed: int, startup_trials: int) -> BaseSampler:
    """The Optuna sampler that a config names, seeded."""
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
        key: the identity of a choice's recipe.
        one_behind: whether the result of the last trial counts as not known yet, so that the next one can be proposed,
            and its build begun, before it is.
        masks: what is not proposed.
    """

    space: Space
    sampler: str
    seed: int
    startup_trials: int
    key: Callable[[Mapping[str, Scalar]], str] = lambda choice: LANGUAGE.compose(choice).key
    one_behind: bool = False
    masks: KernelMasks = NO_MASKS

    def propose(self, study: optuna.Study, number: int, measured: Collection[str]) -> Proposal | None:
        """The next candidate that is not among ``measured`` (recipe keys), or None when none is left.

        Args:
            study: the study so far; it is only read.
            number: its place in the sequence; in a study that was never interrupted, the number of the trial.
            measured: recipe keys that need no second measurement.
        """
        if self.sampler == "exhaustive":
            return self._unmeasured(number, measured, in_order=True)
        scratch = self._scratch(study)
        for attempt in range(ATTEMPTS.get(self.sampler, DEFAULT_ATTEMPTS)):
            proposal = self._draw(scratch, hash_seed(self.seed, number, attempt))
            if self._wanted(proposal.choice, measured):
                return proposal
        return self._unmeasured(number, measured, in_order=False)

    def draws(self, study: optuna.Study, number: int, count: int) -> Iterator[Proposal]:
        """``count`` of the sampler's own proposals for one trial, measured ones among them."""
        scratch = self._scratch(study)
        for attempt in range(count):
            yield self._draw(scratch, hash_seed(self.seed, number, attempt))

    def _wanted(self, choice: Mapping[str, Scalar], measured: Collection[str]) -> bool:
        return self.key(choice) not in measured and self.masks.reason(choice) is None

    def _scratch(self, study: optuna.Study) -> optuna.Study:
        """A copy in memory of the trials that have ended, without the base; those under way steer TPE away."""
        storage = InMemoryStorage()
        scratch = optuna.create_study(directions=study.directions, storage=storage)
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        known = [t for t in study.get_trials(deepcopy=False, states=states) if t.number > 0]
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

    def _unmeasured(self, number: int, measured: Collection[str], in_order: bool) -> Proposal | None:
        """A candidate that may be measured and was not yet: the first, or any; None where there is none.

        In a space that can't be enumerated, the first of many draws.
        """
        seed = hash_seed(self.seed, number, -1)
        choices = self.space.enumerate()
        if choices is None:
            in_order, choices = True, chance_choices(self.space, ENDLESS_DRAWS, seed)
        fitting = (c for c, _ in zip(choices, range(ENUMERABLE), strict=False) if self._wanted(c, measured))
        rest = list(islice(fitting, 1)) if in_order else list(fitting)
        if not rest:
            return None
        choice = random.Random(seed).choice(rest)
        return Proposal(choice, {name: choice[name] for name in self.space.searched if name in choice}, {})


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
    """An ended trial without what it brought."""
    own = copy.copy(trial)
    own.state, own.values, own.datetime_complete = TrialState.RUNNING, None, None
    return own


def hash_seed(*parts: int) -> int:
    """One 32-bit seed of several numbers, the same in every process."""
    return random.Random(":".join(map(str, parts))).getrandbits(32)


def count_candidates(space: Space, limit: int = ENUMERABLE, masks: KernelMasks = NO_MASKS) -> int | None:
    """Distinct recipes of a space that are not masked; None for an endless one, or more than ``limit`` choices."""
    choices = space.enumerate()
    if choices is None:
        return None
    keys = set()
    for count, choice in enumerate(choices):
        if count >= limit:
            return None
        if masks.reason(choice) is None:
            keys.add(LANGUAGE.compose(choice).key)
    return len(keys)
