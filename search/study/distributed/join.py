"""``olivine worker``: join a shared study from another process or machine."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import optuna
from rich.console import Console

from olivine.evaluators.latency.baseline_times import BaselineTimes
from olivine.evaluators.providers.absent import CURE, absent_providers
from olivine.passes.errors import UsageError
from olivine.passes.sources.source import resolve
from olivine.passes.store.atomic_files import make_folder
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.report.progress import Progress, watcher_for
from olivine.search.samplers.kernel_masks import KernelMasks
from olivine.search.study.baseline import base_choice
from olivine.search.study.distributed.hardware import HardwareFingerprint
from olivine.search.study.distributed.lead import crew_of
from olivine.search.study.distributed.open_shared import digest_of, wait_for_facts
from olivine.search.study.distributed.record_sync import RecordSync
from olivine.search.study.interrupt import EXIT_INTERRUPTED, finish_trial_on_interrupt
from olivine.search.study.objective import STAGES
from olivine.search.study.open import ready
from olivine.search.study.storage import connect
from olivine.search.study_dir import StudyDir

ROLES = (*STAGES, "all")


def run_worker(
    config: LanguageStudyConfig,
    root: Path,
    storage_url: str,
    roles: Sequence[str],
    artifacts: str,
    wait_s: float,
    out: Console,
) -> int:
    """Work on the study that ``olivine run`` leads until it ends; returns the exit code.

    Args:
        config: the study's config.
        root: the study folder, the shared one or one of this worker's own; its name is the study's.
        storage_url: where the study is.
        roles: the parts of a trial to do: ``build``, ``quality``, ``latency``, or ``all``.
        artifacts: URL where records meet if the folder is not shared; empty where it is.
        wait_s: longest wait for the study's base.
        out: where the progress is printed.

    Raises:
        UsageError: when the study is another one, or nothing is left for these roles here.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    progress = watcher_for(out)
    storage, name = connect(storage_url), root.resolve().name
    about = {"leads": False, "host": socket.gethostname(), "roles": list(roles)}
    progress.phase_started(f"waiting for the base of study '{name}'")
    shared, facts = wait_for_facts(storage, name, about, wait_s)
    if facts["digest"] != digest_of(config):
        raise UsageError(f"study '{name}' runs with another config: give this worker the same YAML and --set values")
    stages = stages_here(
        roles,
        HardwareFingerprint.of_this_machine(config),
        HardwareFingerprint.from_json(facts["fingerprint"]),
        progress,
    )
    if stages != ("build",) and (absent := absent_providers(config.asked_providers(), config.pythons())):
        raise UsageError("\n".join((*absent, CURE)))
    folder = StudyDir(root)
    make_folder(folder.root)
    commit = facts.get("commit") or config.revision  # a branch may have moved since the study began
    source = resolve(config.model, revision=commit, trust_remote_code=config.trust_remote_code)
    pool = BaselineTimes.fixed(facts["base"]["ttft_ms"], facts["base"]["tpot_ms"])
    requests = folder.root / "requests" / shared.roster.name
    with (
        shared.roster,
        ready(config, folder, shared.study, source, progress, [], pool, requests, stages) as search,
        finish_trial_on_interrupt(progress.note) as interrupted,
    ):
        search.announce()
        progress.phase_started("base")
        search.objective.load_base(base_choice(config))
        search.calibrate()
        search.masks = KernelMasks.from_json(facts["masks"])
        crew = crew_of(search, shared, RecordSync(folder, artifacts), facts["machine"])
        crew.interrupted = interrupted
        crew.arrived = lambda record: progress.trial_ended(record, ())
        reason = crew.work()
        stopped = interrupted()
    progress.note(f"worker {shared.roster.name} leaves: {reason}")
    progress.study_ended()
    return EXIT_INTERRUPTED if stopped else 0


def stages_here(
    roles: Sequence[str], here: HardwareFingerprint, study: HardwareFingerprint, progress: Progress
) -> tuple[str, ...]:
    """The parts of a trial that this worker does; latency only on the study's hardware, else it says why not.

    Raises:
        UsageError: when none is left.
    """
    asked = tuple(stage for stage in STAGES if stage in roles or "all" in roles)
    differences = here.differences(study)
    if "latency" not in asked or not differences:
        return asked
    why = f"latency is not timed here, since it would not compare with the study's: {'; '.join(differences)}"
    left = tuple(stage for stage in asked if stage != "latency")
    if not left:
        raise UsageError(f"{why}. Give this worker --role build or --role quality.")
    progress.note(f"{why}. This worker does {' and '.join(left)}.")
    return left
