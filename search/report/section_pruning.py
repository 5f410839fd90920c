"""What the report says of the ladder: whom it dropped and why, and how often an audit found it wrong."""

from __future__ import annotations

from typing import Any

from olivine.search.report.study_view import StudyView
from olivine.search.study.pruning import audited


def ladder(view: StudyView) -> dict[str, Any] | None:
    """A row per candidate that a step dropped before it was timed, or would have; None where there was none."""
    seen = [record for record in view.records if record.ladder]
    if not seen:
        return None
    checked, wrong = audited(seen)
    rows = [
        {
            "number": record.number,
            "step": record.ladder["step"],
            "reason": record.ladder["reason"],
            "audit": _audit(record in checked, record in wrong),
        }
        for record in seen
    ]
    dropped = sum(not record.ladder["audited"] for record in seen)
    audit = "none was drawn for an audit, so how often the first windows are wrong is not known from this study"
    if checked:
        audit = (
            f"the first windows would have dropped {len(checked)} more, scored on the full text as an audit: "
            f"they were wrong with {len(wrong)}"
        )
    return {"rows": rows, "sentence": f"{dropped} dropped before they were timed; {audit}."}


def _audit(checked: bool, wrong: bool) -> str:
    if not checked:
        return ""
    return "kept the constraint after all" if wrong else "rightly"
