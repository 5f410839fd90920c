"""Begin a search or go on with it: the base, the text that candidates learn from, the kernels that are not proposed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from olivine.passes.errors import BuildFailed
from olivine.search.samplers.kernel_masks import NO_MASKS, KernelMasks
from olivine.search.study.candidates import recorded
from olivine.search.study.open import OpenStudy
from olivine.search.study.trials.objective import Objective, measure_base


@dataclass(frozen=True)
class Start:
    """The facts that a search begins with once its base is measured.

    Attributes:
        objective: measures candidates.
        masks: kernels that are not proposed.
    """

    objective: Objective
    masks: KernelMasks = NO_MASKS


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


def find_masks(opened: OpenStudy) -> KernelMasks:
    """The kernels that are not proposed on this machine; a resumed study goes by what it found first."""
    path = opened.folder.kernels_path
    probe = opened.tools.workload.kernel_probe(opened.baseline.artifact, opened.cache.root)
    if probe is None:
        return NO_MASKS
    if not path.is_file():
        opened.progress.phase_started("kernel probe")
        probe().write(path)
    masks = KernelMasks.read(path)
    for line in masks.lines:
        opened.progress.note(f"not proposed: {line}" if masks.slow_kernels else line)
    return masks
