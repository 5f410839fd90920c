"""Tables and JSON of measured model folders: ``olivine bench`` and ``olivine eval``."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import METRICS
from olivine.evaluators.quality.lm_eval import difference
from olivine.evaluators.scenario.guesses import Gain
from olivine.search.report.fitted_table import FittedRow, FittedTable
from olivine.search.report.folder_warnings import Results, bench_warnings, evaluation_warnings
from olivine.search.report.formatting import measured_text, title
from olivine.search.report.verdict import verdict

#: Half-width of a perplexity ratio's interval below which a text is long enough.
HALF_WIDTH = 0.01
#: Metrics that get a verdict: ratios of paired samples, and counts. Not ``load_ms``: one load is no sample.
_JUDGED = [name for name, metric in METRICS.items() if metric.relative or metric.unit == "bytes"]
_GUESS_HEADINGS = (
    "n-gram",
    "most guessed",
    "decode",
    "tokens a step",
    "guessed tokens",
    "right guesses",
    "same answers",
)


def bench_table(results: Results, reference: Path | None) -> RenderableType:
    """Every folder's measurements with their intervals, and in words how they compare with the reference."""
    base = _reference_name(results, reference)
    return _comparison(results, base, bench_warnings(results, base))


def evaluation_table(results: Results, reference: Path | None, half_width: float = HALF_WIDTH) -> RenderableType:
    """Every measurement with its interval, and beside a reference in words how it compares."""
    warnings = evaluation_warnings(results, half_width)
    if reference is not None:
        return _comparison(results, _reference_name(results, reference), warnings)
    if len(results) > 1:
        warnings.append(
            "No reference was given: perplexities compare between models of one tokenizer only, bits "
            "per byte between all. Give --reference for a ratio."
        )
    return _comparison(results, None, warnings)


def tasks_table(results: Results, reference: Path | None) -> RenderableType:
    """Every task's metrics with their intervals, and beside a reference the difference on the same questions."""
    base = None if reference is None else next(iter(results))
    marks, against = _marks(results), {} if base is None else {m.metric: m for m in results[base]}
    rows = []
    for name, measurements in results.items():
        for m in measurements:
            words = difference_text(m, against.get(m.metric)) if base not in (None, name) else ""
            cells = (marks[name], m.metric, measured_text(m), str(m.protocol["questions"]))
            rows.append(FittedRow(cells, Text(words), begins_section=m is measurements[0]))
    headings = ("", "task and metric", "measured", "questions")
    table = FittedTable(headings, ("left", "left", "right", "right"), "against the reference, 95 % interval", rows)
    return Group(_names(marks, base), "", table)


def guesses_table(gains: Sequence[Gain]) -> RenderableType:
    """The gain of each way to guess, and in words whether it pays."""
    rows = []
    for gain in gains:
        way, speedup = gain.guessing, gain.speedup
        cells = (
            str(way.ngram_size),
            str(way.max_draft_tokens),
            f"{speedup.value:.2f}x [{speedup.low:.2f}, {speedup.high:.2f}]",
            f"{gain.tokens_per_step.value:.2f}",
            f"{gain.accepted:.0%}",
            f"{gain.right:.0%}",
            f"{gain.same} of {gain.prompts}",
        )
        rows.append(FittedRow(cells, Text(_pays(gain))))
    note = (
        "Intervals are those of prompts such as these, in one process. Where an answer differs, kernels for several "
        "tokens have rounded otherwise."
    )
    return Group(
        FittedTable(_GUESS_HEADINGS, ("right",) * len(_GUESS_HEADINGS), "on these prompts", rows), "", Text(note)
    )


def _pays(gain: Gain) -> str:
    if gain.speedup.low > 1:
        return (
            f"pays: --set ngram_size={gain.guessing.ngram_size} --set max_draft_tokens={gain.guessing.max_draft_tokens}"
        )
    return "costs" if gain.speedup.high < 1 else "not decided; give more prompts"


def _comparison(results: Results, base: str | None, warnings: Sequence[str]) -> RenderableType:
    """Metrics of folders below each other; without a reference there are no verdicts."""
    marks, against = _marks(results), {} if base is None else {m.metric: m for m in results[base]}
    rows = []
    for name, measurements in results.items():
        # Relative metrics of the base are 1 or 0 by definition.
        shown = [m for m in measurements if not (name == base and METRICS[m.metric].relative)]
        for index, m in enumerate(sorted(shown, key=lambda m: list(METRICS).index(m.metric))):
            words = ""
            if base not in (None, name) and m.metric in _JUDGED:
                words = verdict(against.get(m.metric), m)
                words = marks[name] + words.removeprefix("B") if words.startswith("B ") else words
            cells = (marks[name], title(m.metric), measured_text(m))
            rows.append(FittedRow(cells, Text(words), begins_section=index == 0))
    headings = ("", "metric", "measured")
    table = FittedTable(headings, ("left", "left", "right"), "verdict, 95 % interval", rows)
    notes = [Text(f"warning: {warning}", style="yellow") for warning in warnings]
    return Group(_names(marks, base), "", table, *notes)


def _marks(results: Results) -> dict[str, str]:
    """Folder -> its letter."""
    letters = dict(zip(results, string.ascii_uppercase, strict=False))
    return {name: letters.get(name, f"#{index + 1}") for index, name in enumerate(results)}


def _names(marks: Mapping[str, str], base: str | None) -> Text:
    names = [f"{mark}: {name}{' (reference)' if name == base else ''}" for name, mark in marks.items()]
    return Text("\n".join(names), style="bold", overflow="fold")


def _reference_name(results: Results, reference: Path | None) -> str:
    """The reference's key; the first one's where the reference was given by another spelling of its path."""
    return str(reference) if str(reference) in results else next(iter(results))


def difference_text(ours: Measurement, base: Measurement | None) -> str:
    """``+0.013 (-0.020 to +0.046): no difference found``; empty where questions can't be paired."""
    gain = None if base is None else difference(ours, base)
    if gain is None:
        return ""
    text = f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
    if gain.low == gain.high:
        return "the same on every question" if gain.value == 0 else f"{gain.value:+.3f} on every question"
    if gain.low <= 0 <= gain.high:
        return f"{text}: no difference found"
    higher = ours.protocol.get("higher_is_better")
    return text if higher is None else f"{text}: {'better' if (gain.value > 0) == higher else 'worse'}"
