"""Begin a search or go on with it: the base, the text that candidates learn from, the kernels that are not proposed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from olivine.passes.errors import BuildFailed
from olivine.search.samplers.masks import NO_MASKS, Masks
from olivine.search.study.candidates import recorded
from olivine.search.study.open import OpenStudy
from olivine.search.study.trials.objective import Objective, measure_base


@dataclass(frozen=True)
class Start:
    """The facts that a search begins with once its base is measured.

    Attributes:
        objective: measures candidates.
        masks: recipes that are not proposed.
    """

    objective: Objective
    masks: Masks = NO_MASKS


def begin(opened: OpenStudy) -> Start:
    """Measure the base, or load it where it was measured already, and make ready what candidates need.

    Raises:
        BuildFailed: when the base can't be built or measured.
        UsageError: when text or samples of the study can't be read, or do not fit the model.
    """
    workload, progress = opened.tools.workload, opened.progress
    if opened.records:
        progress.phase_started("base")
        opened.baseline.load()
    else:
        choice = workload.base_choice()
        trial = opened.study.ask()
        progress.trial_started(trial.number, {"base": choice["precision"]})
        record = measure_base(opened.tools, opened.baseline)
        opened.end(trial, replace(record, params=recorded(opened.config.search_space(), choice)))
        if record.state != "complete":
            raise BuildFailed(f"the base can't be measured, so nothing can be compared with it: {record.reason}")
    progress.phase_started("text to learn from")
    learned = workload.learn_from(opened.baseline.artifact, opened.cache)
    for note in learned.notes if learned is not None else ():
        progress.note(note)
    return Start(Objective(opened.tools, opened.baseline, opened.records[0].metrics, learned), find_masks(opened))


def find_masks(opened: OpenStudy) -> Masks:
    """The recipes that are not proposed on this machine; a resumed study goes by what it found first.

    Raises:
        UsageError: when no recipe of the space can keep a limit on the memory that it is deployed in.
    """
    path, workload, base = opened.folder.kernels_path, opened.tools.workload, opened.baseline.artifact
    if not path.is_file():
        memory = workload.memory_mask(base, opened.records[0])
        if (probe := workload.kernel_probe(base, opened.cache.root)) is not None:
            opened.progress.phase_started("kernel probe")
        found = NO_MASKS if probe is None else probe()
        if probe is None and memory is None:
            return NO_MASKS
        replace(found, memory=memory).write(path)
    masks = Masks.read(path)
    for line in masks.kernel_lines:
        opened.progress.note(f"not proposed: {line}" if masks.slow_kernels else line)
    for line in masks.memory_lines:
        opened.progress.note(f"not built: {line}")
    return masks
