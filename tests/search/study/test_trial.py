from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.failure import ModelProcessFailed
from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import Excess, OlivineError, Unwritable, UsageError
from olivine.search.records import TrialRecord
from olivine.search.study.objective import Objective
from olivine.search.study.trial import TrialInProgress, attempt, lost

EXCESS = Excess(120, 100)
BYTES = Measurement.exact("model_bytes", "bytes", 7)


def raising(*errors: Exception | None) -> Callable[[TrialInProgress], None]:
    """A run that notes the model's size, then raises these errors, one each time it is run."""
    coming = iter(errors)

    def run(draft: TrialInProgress) -> None:
        assert draft.metrics == {}
        draft.add([BYTES])
        if (error := next(coming)) is not None:
            raise error

    return run


@pytest.mark.parametrize("error", [ModelProcessFailed("crash", "the base died"), OSError("its files are gone")])
def test_what_was_lost_is_noted_and_the_trial_begins_anew_once(error: Exception) -> None:
    notes: list[str] = []
    assert attempt(raising(error, None), lambda draft: "lost", notes.append).state == "complete"
    assert notes == ["lost"]
    draft = attempt(raising(error, OlivineError("again")), lambda draft: "lost", notes.append)
    assert (draft.state, draft.reason) == ("failed", "again")


def test_an_error_of_the_candidate_ends_its_trial_with_the_last_words() -> None:
    draft = attempt(
        raising(ModelProcessFailed("error", "it fell", "a line\nits last")), lambda draft: None, pytest.fail
    )
    assert (draft.state, draft.reason, draft.tail) == ("failed", "it fell: its last", "a line\nits last")
    assert draft.outgrown() == {}


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
        attempt(raising(error), lambda draft: None, pytest.fail, **blameless)


def test_the_base_is_lost_where_it_can_take_no_request_and_files_where_the_cache_has_them_not(tmp_path: Any) -> None:
    alive, dead, draft = SimpleNamespace(usable=True), SimpleNamespace(usable=False), TrialInProgress()
    builder: Any = SimpleNamespace(still_has=lambda artifact: artifact.key == "kept")
    assert "base's process died" in str(lost(dead, builder, draft))  # type: ignore[arg-type]
    for key, found in (("kept", None), ("gone", "its files in the cache were deleted or changed; it is built again")):
        draft.artifact = ModelArtifact(tmp_path, key, frozenset())
        assert lost(alive, builder, draft) == lost(None, builder, draft) == found  # type: ignore[arg-type]


def test_a_language_model_that_outgrows_its_memory_is_infeasible(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    objective = Objective(Any, Any, (), SimpleNamespace(note=notes.append), {})  # type: ignore[arg-type]
    objective.base = SimpleNamespace(usable=False)  # type: ignore[assignment]
    run = raising(
        ModelProcessFailed("crash", "the base died"), ModelProcessFailed("memory", f"it {EXCESS}", "", EXCESS)
    )
    monkeypatch.setattr(objective, "_run", lambda number, recipe, draft, *_: run(draft))
    record: TrialRecord = objective.measure(3, {"precision": "int8"})
    assert notes == ["trial 3: the base's process died under way; base and candidate are loaded again"]
    assert (record.state, record.constraints) == ("infeasible", {"children.memory": pytest.approx(0.2)})
    assert record.value("peak_rss_bytes") == 120
