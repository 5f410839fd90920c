"""Tasks of lm-eval over model folders: ``olivine eval --tasks``."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.providers.interpreters import options_for
from olivine.evaluators.quality.lm_eval import Tasks, difference, require_package
from olivine.evaluators.quality.unpruned import open_scored
from olivine.search.report.folder_bench import in_order, read_genai_config, stamped
from olivine.search.report.folder_warnings import Results
from olivine.search.report.formatting import measured_text


def evaluate_tasks(
    folders: Sequence[Path],
    reference: Path | None,
    tasks: Tasks,
    told: Callable[[Path, int], None] = lambda folder, answered: None,
) -> dict[str, list[Measurement]]:
    """Measure tasks on every folder; one model at a time is loaded.

    Args:
        folders: ONNX Runtime GenAI folders.
        reference: what the others are compared with, question by question; None for no comparison.
        tasks: what is measured.
        told: called with a folder and the number of requests answered so far.

    Returns:
        Folder -> measurements, the reference first where there is one.

    Raises:
        UsageError: before any model loads: a folder without a model, an unknown task, or lm-eval is not installed.
        TaskFailed: when a task fails.
        ModelProcessFailed: when a model does not load or run, naming its folder.
    """
    require_package()
    first, others = in_order(folders, reference)
    for folder in (first, *others):
        read_genai_config(folder)
    loaded = tasks.load()
    results = {}
    for folder in (first, *others):
        answered = 0

        def count(more: int, folder: Path = folder) -> None:
            nonlocal answered
            answered += more
            told(folder, answered)

        with open_scored(folder, **options_for(folder)) as process:
            results[str(folder)] = [stamped(m, process) for m in loaded.evaluate(process, folder, count)]
    return results


def tasks_table(results: Results, reference: Path | None) -> Table:
    """Every task's metrics with their intervals, and beside a reference the difference on the same questions."""
    letters = dict(zip(results, string.ascii_uppercase, strict=False))
    base = None if reference is None else next(iter(results))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    marked = [f"{letters.get(name, '#')}: {name}{' (reference)' if name == base else ''}" for name in results]
    table.title = Text("\n".join(marked), style="not italic bold")
    for heading in ("", "task and metric", "measured", "questions"):
        table.add_column(heading, justify="right" if heading in ("measured", "questions") else "left", no_wrap=True)
    if base is not None:
        table.add_column("against the reference, 95 % interval", overflow="fold")
    against = {} if base is None else {m.metric: m for m in results[base]}
    for name, found in results.items():
        table.add_section()
        for m in found:
            words = difference_text(m, against.get(m.metric)) if base not in (None, name) else ""
            cells = [letters.get(name, "#"), m.metric, measured_text(m), str(m.protocol["questions"])]
            table.add_row(*map(Text, [*cells, words][: len(table.columns)]))
    return table


def difference_text(ours: Measurement, base: Measurement | None) -> str:
    """``+0.013 (-0.020 to +0.046): no difference found``; empty where questions can't be paired."""
    found = None if base is None else difference(ours, base)
    if found is None:
        return ""
    text = f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
    if found.low == found.high:
        return "the same on every question" if found.value == 0 else f"{found.value:+.3f} on every question"
    if found.low <= 0 <= found.high:
        return f"{text}: no difference found"
    higher = ours.protocol.get("higher_is_better")
    return text if higher is None else f"{text}: {'better' if (found.value > 0) == higher else 'worse'}"
