from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.failure import ModelProcessFailed
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import Excess, OlivineError, Unwritable, UsageError
from olivine.search.config.constraints import parse_constraint
from olivine.search.study.trials.trial import TrialInProgress, attempt

EXCESS = Excess(120, 100)
BYTES = Measurement.exact("model_bytes", "bytes", 7)


def raising(*errors: Exception | None) -> Callable[[TrialInProgress], None]:
    """A run that notes the model's size, then raises these errors, one each time it is run."""
    coming = iter(errors)

    def run(trial: TrialInProgress) -> None:
        assert trial.metrics == {}
        trial.add([BYTES])
        if (error := next(coming)) is not None:
            raise error

    return run


@pytest.mark.parametrize("error", [ModelProcessFailed("crash", "the base died"), OSError("its files are gone")])
def test_what_was_lost_is_noted_and_the_trial_begins_anew_once(error: Exception) -> None:
    notes: list[str] = []
    assert attempt(raising(error, None), lambda trial: "lost", notes.append).state == "complete"
    assert notes == ["lost"]
    trial = attempt(raising(error, OlivineError("again")), lambda trial: "lost", notes.append)
    assert (trial.state, trial.reason) == ("failed", "again")


def test_an_error_of_the_candidate_ends_its_trial_with_the_last_words() -> None:
    trial = attempt(
        raising(ModelProcessFailed("error", "it fell", "a line\nits last")), lambda trial: None, pytest.fail
    )
    assert (trial.state, trial.reason, trial.tail) == ("failed", "it fell: its last", "a line\nits last")
    assert trial.outgrown() == {}


@pytest.mark.parametrize(
    ("error", "blameless"),
    [
        (Unwritable("the disk is full"), {}),
        (UsageError("no such size"), {"blameless": (UsageError,)}),
        (OSError("a bug"), {}),
    ],
)
def test_what_is_no_candidates_fault_ends_the_study(error: Exception, blameless: Any) -> None:
    with pytest.raises(type(error)):
        attempt(raising(error), lambda trial: None, pytest.fail, **blameless)


def test_the_memory_for_which_a_process_was_ended_is_a_broken_constraint() -> None:
    error = ModelProcessFailed("memory", f"it {EXCESS}", "", EXCESS)
    trial = attempt(raising(error), lambda trial: None, pytest.fail)
    record = trial.record(3, {}, LANGUAGE.compose({}), (), ())
    assert (record.state, record.constraints) == ("infeasible", {"children.memory": pytest.approx(0.2)})
    assert record.value("peak_rss_bytes") == 120


@pytest.mark.parametrize(("number", "state"), [(0, "complete"), (1, "infeasible")])
def test_a_broken_constraint_ends_a_candidate_and_never_the_base(number: int, state: str) -> None:
    trial = attempt(raising(None), lambda trial: None, pytest.fail)
    record = trial.record(number, {}, LANGUAGE.compose({}), (parse_constraint("model_bytes <= 5B"),), ("olivine",))
    assert record.state == state
    assert record.constraints == {"model_bytes <= 5": pytest.approx(0.4)}
    assert set(record.versions) == {"olivine"}
