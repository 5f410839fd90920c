"""Sections of the report that count and compare."""

from __future__ import annotations

from dataclasses import replace

import pytest
from study_folder import OBJECTIVES, records

from olivine.search.records import StudyOutcome
from olivine.search.report.sections import audited, dropped
from olivine.search.report.study_view import StudyView

#: What a record keeps of the step that dropped its trial.
DROPPED = {"step": "first windows", "reason": "surely broken", "audited": False}


def test_the_report_tells_how_often_the_first_windows_were_wrong() -> None:
    trials = records()
    broken = replace(
        trials[3], state="infeasible", constraints={"perplexity_ratio <= 1.05": 0.1, "tpot_speedup >= 1.5": -0.3}
    )
    trials[3] = replace(broken, ladder=DROPPED | {"audited": True})
    trials[4] = replace(trials[4], ladder=DROPPED | {"audited": True})
    trials[14] = replace(trials[14], ladder=DROPPED)
    checked, wrong = audited(trials)
    assert ([r.number for r in checked], [r.number for r in wrong]) == ([3, 4], [4])
    view = StudyView("s", "m", OBJECTIVES, (), tuple(trials), (), False, StudyOutcome(), {})
    section = dropped(view)
    assert section is not None
    assert section["sentence"].startswith("1 dropped before they were timed;")
    assert "would have dropped 2 more" in section["sentence"]
    assert section["sentence"].endswith("they were wrong with 1.")
    assert [row["audit"] for row in section["rows"]] == ["rightly", "kept the constraint after all", ""]
    assert dropped(replace(view, records=tuple(records()))) is None


@pytest.mark.parametrize("other", ["tpot_speedup >= 1.5", "peak_rss_bytes <= 500000000", "children.memory"])
def test_windows_were_wrong_with_a_candidate_that_breaks_only_what_they_do_not_judge(other: str) -> None:
    constraints = {"perplexity_ratio <= 1.05": -0.01, "kl_divergence <= 0.1": -0.2, other: 0.13}
    stopped = DROPPED | {"audited": True}
    slow = replace(records()[3], state="infeasible", constraints=constraints, ladder=stopped)
    assert audited([slow]) == ([slow], [slow])
    section = dropped(StudyView("s", "m", OBJECTIVES, (), (slow,), (), False, StudyOutcome(), {}))
    assert section is not None
    assert section["rows"][0]["audit"] == "kept the constraint after all"
    bad = replace(slow, constraints=constraints | {"kl_divergence <= 0.1": 0.2})
    assert audited([bad]) == ([bad], [])
