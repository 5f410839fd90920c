"""Importance of each axis for each objective, from the trials in the study's database."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from olivine.evaluators.metric import METRICS
from olivine.search.study_dir import StudyDir

if TYPE_CHECKING:
    import optuna

#: Below this a tenth of the trials is a single one: any importance would be an accident.
MIN_TRIALS = 10


@dataclass(frozen=True)
class Importances:
    """Shares per objective, or why there are none.

    Attributes:
        shares: objective -> [(axis, share of 1)], the largest first.
        trials: number of measured trials that they rest on.
        missing: one sentence where ``shares`` is empty.
    """

    shares: dict[str, list[tuple[str, float]]]
    trials: int
    missing: str = ""


def importances(study: StudyDir, objectives: Sequence[str]) -> Importances:
    """PED-ANOVA importance of every searched axis for every objective.

    Source: Watanabe, Bansal and Hutter (2023), PED-ANOVA, arXiv 2304.10255, as Optuna implements it.
    """
    import optuna

    if not study.database_path.is_file():
        return Importances({}, 0, "The study's database is not in this folder (another storage was used).")
    stored = _load(study)
    if stored is None:
        return Importances({}, 0, "The study's database holds no study.")
    measured = [t for t in stored.get_trials(deepcopy=False) if t.state == optuna.trial.TrialState.COMPLETE]
    # The base has no searched parameters: it says nothing about any axis.
    count = sum(bool(trial.params) for trial in measured)
    if count < MIN_TRIALS:
        few = f"Trials measured in full: {count}. Fewer than {MIN_TRIALS} say nothing reliable about the axes."
        return Importances({}, count, few)
    shares = {name: _shares(stored, index, name) for index, name in enumerate(objectives)}
    decided = {name: share for name, share in shares.items() if share}
    return Importances(decided, count, "" if decided else "No axis took more than one value.")


def _load(study: StudyDir) -> optuna.Study | None:
    import optuna

    names = optuna.get_all_study_names(study.database_url)
    return optuna.load_study(study_name=names[0], storage=study.database_url) if names else None


def _shares(study: optuna.Study, index: int, objective: str) -> list[tuple[str, float]]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    sign = -1.0 if METRICS[objective].direction == "maximize" else 1.0
    with warnings.catch_warnings():
        # Optuna warns where a quantile selects every trial; the shares are then equal and say so themselves.
        warnings.simplefilter("ignore")
        importance = get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(), target=lambda trial: sign * trial.values[index]
        )
    total = sum(importance.values())
    if total <= 0:
        return []
    return sorted(((name, value / total) for name, value in importance.items()), key=lambda pair: -pair[1])
