"""``olivine worker``: join a shared study from another process or machine."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna

from olivine.evaluators.providers.absent import require_providers
from olivine.passes.base import Scalar
from olivine.passes.errors import UsageError
from olivine.passes.store.atomic_files import make_folder
from olivine.search.config.load import AnyConfig
from olivine.search.report.progress import Progress
from olivine.search.samplers.masks import Masks
from olivine.search.study.candidates import shared_candidates
from olivine.search.study.distributed.hardware import HardwareFingerprint
from olivine.search.study.distributed.open_shared import digest_of, wait_for_facts
from olivine.search.study.distributed.record_sync import RecordSync
from olivine.search.study.distributed.worker import Job, Worker
from olivine.search.study.interrupt import EXIT_INTERRUPTED, finish_trial_on_interrupt
from olivine.search.study.machine_defaults import machine_values
from olivine.search.study.open import equipped
from olivine.search.study.storage import connect
from olivine.search.study.trials.objective import Objective
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.newer_defaults import resume_config
from olivine.search.workloads.registry import workload_of
from olivine.search.workloads.stage import ROLES, Role
from olivine.search.workloads.text_defaults import resume_texts
from olivine.search.workloads.workload import AnyWorkload, LearnedFrom


@dataclass(frozen=True)
class MeetingPlace:
    """The place where the workers of a study meet.

    Attributes:
        storage: URL of the storage.
        artifacts: URL where records meet if the folder is not shared; empty where it is.
        wait_s: longest wait for the study's base.
    """

    storage: str
    artifacts: str = ""
    wait_s: float = 0.0


def run_worker(
    config: AnyConfig, folder: StudyDir, place: MeetingPlace, roles: Sequence[str], progress: Progress
) -> int:
    """Work on the study that ``olivine run`` leads until it ends; returns the exit code.

    Args:
        config: of the study; what it leaves open is as the study was begun.
        folder: of the study, the shared one or one of this worker's own; its name is the study's.
        place: where the study is.
        roles: the parts of a trial to do: ``build``, ``quality``, ``latency``, or ``all``.
        progress: told of everything.

    Raises:
        UsageError: when the study is another one, or nothing is left for these roles here.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name = folder.root.resolve().name
    about = {"leads": False, "host": socket.gethostname(), "roles": list(roles)}
    progress.phase_started(f"waiting for the base of study '{name}'")
    shared, facts = wait_for_facts(connect(place.storage), name, about, place.wait_s)
    config = resume_texts(resume_config(config, facts.get("begun", {})), facts.get("texts", {}))
    workload = workload_of(config, folder, facts["base"])
    if facts["digest"] != digest_of(workload):
        raise UsageError(f"study '{name}' runs with another config: give this worker the same YAML and --set values")
    here, study = HardwareFingerprint.of_this_machine(config), HardwareFingerprint.from_json(facts["fingerprint"])
    own_roles = roles_here(roles, here, study, progress)
    refuse_other_arithmetic(workload, facts["machine"])
    if own_roles != ("build",):
        require_providers(config.asked_providers(), config.pythons())
    make_folder(folder.root)
    source = workload.source(facts.get("commit"))  # a branch may have moved since the study began
    sync, requests = RecordSync(folder, place.artifacts), folder.root / "requests" / shared.registry.name
    with (
        shared.registry,
        equipped(workload, source, progress, requests) as (tools, baseline, cache),
        finish_trial_on_interrupt(progress.note) as interrupted,
    ):
        progress.study_started(config.name, config.model, config.stop.trials, None, config.objectives)
        progress.phase_started("base")
        if own_roles != ("build",):
            baseline.load()
        learned = workload.learn_from(baseline.artifact, cache)
        refuse_other_text(learned, facts.get("learned"))
        objective = Objective(tools, baseline, {}, learned)
        candidates = shared_candidates(workload, Masks.from_json(facts["masks"]), facts["machine"])
        job = Job(config.objectives, lambda record: progress.trial_ended(record, ()), interrupted, own_roles)
        reason = Worker(shared, candidates, objective, sync, progress, job).work()
        stopped = interrupted()
    progress.note(f"worker {shared.registry.name} leaves: {reason}")
    progress.study_ended()
    return EXIT_INTERRUPTED if stopped else 0


def refuse_other_arithmetic(workload: AnyWorkload, machine: Mapping[str, Scalar]) -> None:
    """Refuse a worker that would make other recipes of the study's choices than the machine that leads.

    Raises:
        UsageError: when int8 sums saturate on one of the two alone, and no axis of this kind of model says so.
    """
    if "reduce_range" not in workload.catalog.axes and machine["reduce_range"] != machine_values()["reduce_range"]:
        raise UsageError(
            "this machine's int8 sums saturate, or the study's do, and not both, so it would quantize otherwise. Take "
            "a machine whose processor has the same int8 instructions."
        )


def refuse_other_text(learned: LearnedFrom | None, key: str | None) -> None:
    """Refuse a worker whose candidates would learn from other text than those of the machine that leads.

    Args:
        learned: text of this machine.
        key: of the text that the leader's model wrote; None where it wrote none.

    Raises:
        UsageError: when the model wrote another text here.
    """
    if key is not None and learned is not None and learned.key != key:
        raise UsageError(
            "the model writes another text for itself on this machine than on the one that leads: their processors "
            "round otherwise. Take a machine of the same kind, or begin a study with calibration: {own: 0}."
        )


def roles_here(
    roles: Sequence[str], here: HardwareFingerprint, study: HardwareFingerprint, progress: Progress
) -> tuple[Role, ...]:
    """The parts of a trial that this worker does; latency only on the study's hardware, else it says why not.

    Raises:
        UsageError: when none is left.
    """
    wanted = tuple(role for role in ROLES if role in roles or "all" in roles)
    differences = here.differences(study)
    if "latency" not in wanted or not differences:
        return wanted
    why = f"latency is not timed here, since it would not compare with the study's: {'; '.join(differences)}"
    left = tuple(role for role in wanted if role != "latency")
    if not left:
        raise UsageError(f"{why}. Give this worker --role build or --role quality.")
    progress.note(f"{why}. This worker does {' and '.join(left)}.")
    return left
