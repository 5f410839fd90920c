"""The dashboard's notes, in Markdown: one for the study, one per trial. Everything measured is escaped."""

from __future__ import annotations

import re

from olivine.evaluators.metric import METRICS
from olivine.search.records import TrialRecord
from olivine.search.report.formatting import duration_text, interval_text, scalar_text, title
from olivine.search.report.study_view import StudyView
from olivine.search.report.summary import summary

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~>$])")


def escaped(text: str) -> str:
    """``text`` as Markdown that shows it literally, on one line."""
    html_free = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKDOWN.sub(r"\\\1", html_free)


def study_note(view: StudyView) -> str:
    """Sum up the study so far."""
    words = summary(view)
    lines = [f"## {escaped(words['heading'])}", ""]
    if words["reason"]:
        lines += [escaped(words["reason"]), ""]
    lines += [f"**Warning:** {escaped(warning)}\n" for warning in words["warnings"]]
    lines.append(f"{words['candidates']} candidates in {words['time']} on {escaped(view.model)}.")
    if view.constraints:
        lines.append(f"Constraints: {escaped(', '.join(view.constraints))}.")
    if words["rebuild"]:
        lines += ["", "```", words["rebuild"].replace("```", ""), "```"]
    return "\n".join(lines)


def trial_note(record: TrialRecord, view: StudyView) -> str:
    """One trial: how it ended and why, what it is, what was measured."""
    members = {member.number for member in view.members}
    shown = view.shown(record)
    lines = [f"## Trial {record.number}: {_standing(record, record.number in members, view)}", ""]
    if record.reason:
        lines += [f"**Reason:** {escaped(record.reason)}", ""]
    lines += ["| axis | value |", "|---|---|"]
    lines += [f"| {escaped(name)} | {escaped(scalar_text(value))} |" for name, value in record.params.items()]
    known = [name for name in METRICS if name in shown.metrics]
    if known:
        lines += ["", "| metric | value, 95 % interval |", "|---|---|"]
        lines += [f"| {escaped(title(n))} | {escaped(interval_text(shown.metrics[n]))} |" for n in known]
    if record.constraints:
        lines += ["", "| constraint | |", "|---|---|"]
        lines += [f"| {escaped(name)} | {_kept(excess)} |" for name, excess in record.constraints.items()]
    times = ", ".join(f"{name} {duration_text(seconds)}" for name, seconds in record.phases.items())
    return "\n".join([*lines, "", f"{escaped(times)}. Provider {escaped(record.provider)}."])


def _standing(record: TrialRecord, member: bool, view: StudyView) -> str:
    if record.number == view.outcome.trial:
        return "selected"
    if record.number == 0:
        return "the float base"
    return "on the front" if member else record.state


def _kept(excess: float) -> str:
    return "kept" if excess <= 0 else f"broken by {100 * excess:.1f} % of the bound"
