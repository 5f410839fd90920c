"""Replayed studies: a study proposes as a real one does, and what it would measure is looked up in a table."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import optuna
from benchmarks.search_table import Table

from olivine.passes.catalog import LANGUAGE
from olivine.search.records import TrialRecord
from olivine.search.samplers.factory import AnyProposer
from olivine.search.samplers.goal import goal_of
from olivine.search.samplers.goal_selector import GoalSelector
from olivine.search.samplers.proposer import Proposer
from olivine.search.samplers.surrogate import SurrogateSelector
from olivine.search.samplers.surrogate_proposer import SurrogateProposer
from olivine.search.study.optuna_adapter import ask, tell

RESAMPLES = 2000


def replay(
    table: Table, sampler: str, seed: int, trials: int, absent: frozenset[str] = frozenset()
) -> list[TrialRecord]:
    """The candidates that a study would have measured, in their order; none with a key in ``absent``."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config, space = table.config, table.space
    study = optuna.create_study(directions=["minimize"] * len(config.objectives))
    ask(study, space, {})  # the base
    study._storage.set_trial_state_values(0, optuna.trial.TrialState.PRUNED)
    known = {record.recipe_key: record for record in table.records}
    done: list[TrialRecord] = []
    proposer = _proposer(table, sampler, seed, done)
    for number in range(1, trials + 1):
        proposal = proposer.propose(study, number, {*absent, *(record.recipe_key for record in done)})
        if proposal is None:
            break
        trial = ask(study, space, proposal.params)
        for name, value in proposal.sampler_attrs.items():
            study._storage.set_trial_system_attr(trial._trial_id, name, value)
        found = known[LANGUAGE.compose(proposal.choice).key]
        tell(study, trial._trial_id, found, config.objectives)
        done.append(found)
    return done


def _proposer(table: Table, sampler: str, seed: int, done: list[TrialRecord]) -> AnyProposer:
    startup = table.config.sampler.startup_trials
    if sampler not in ("forecast", "goal"):
        return Proposer(table.space, sampler, seed, startup)
    surrogate = SurrogateSelector(table.predictor(), table.config.objectives, table.config.parsed_constraints())
    goal = goal_of(table.config) if sampler == "goal" else None
    selector = surrogate if goal is None else GoalSelector(surrogate, goal)
    return SurrogateProposer(Proposer(table.space, "tpe", seed, startup), selector, done)


def median_interval(samples: npt.ArrayLike) -> tuple[float, float, float]:
    """Median of a sample with its 95 % percentile bootstrap interval (Efron 1979)."""
    values = np.asarray(samples, dtype=np.float64)
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(np.median(values)), float(low), float(high)
