"""Tasks of lm-eval over model folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.model_folders import in_order, stamped
from olivine.evaluators.providers.interpreters import folder_options
from olivine.evaluators.quality.lm_eval import Tasks, require_package
from olivine.evaluators.quality.unpruned import open_scored
from olivine.passes.sources.genai_folder import read_genai_config


def evaluate_tasks(
    folders: Sequence[Path],
    reference: Path | None,
    tasks: Tasks,
    progress: Callable[[Path, int], None] = lambda folder, answered: None,
) -> dict[str, list[Measurement]]:
    """Measure tasks on every folder; one model at a time is loaded.

    Args:
        folders: ONNX Runtime GenAI folders.
        reference: the folder with which the others are compared, question by question; None for no comparison.
        tasks: to measure.
        progress: called with a folder and the number of requests answered so far.

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
        with open_scored(folder, **folder_options(folder)) as process:
            measurements = loaded.evaluate(process, folder, partial(progress, folder))
            results[str(folder)] = stamped(measurements, process)
    return results
