"""A worker whose trials only sleep: real storage, real processes, real claims, and no model.

    python tests/sleepy_worker.py URL FOLDER --trials 60 --seconds 0.05 [--lead]

Every measurement leaves a line in ``measured.txt`` of the folder when it begins, whatever becomes of it afterwards:
recipe key, trial number, process, time.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from rich.console import Console

from olivine.evaluators.measurement import Measurement
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.search.config.space import parse_space
from olivine.search.records import TrialRecord
from olivine.search.report.progress import watcher_for
from olivine.search.samplers.proposer import Proposer
from olivine.search.study.candidates import Candidates
from olivine.search.study.distributed.heartbeat import WorkerRegistry
from olivine.search.study.distributed.open_shared import create_shared, wait_for_facts
from olivine.search.study.distributed.record_sync import RecordSync
from olivine.search.study.distributed.shared_study import SharedStudy
from olivine.search.study.distributed.worker import Job, LeaderDuties, Worker
from olivine.search.study.optuna_adapter import tell, trial_id
from olivine.search.study.storage import connect
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.stage import ROLES, Role

#: 2 * 5 * 3 * 3 * 4 = 360 candidates at most; some axes leave one precision out.
SPACE = parse_space(
    {
        "precision": ["int8", "int4"],
        "algorithm": ["rtn", "k_quant"],
        "block_size": [16, 32, 64, 128],
        "lm_head": ["same", "fp32", "int8"],
        "fusion_level": ["none", "qkv", "full"],
        "threads": {"low": 1, "high": 200},
    },
    LANGUAGE,
)
OBJECTIVES = ("tpot_ms", "perplexity_ratio")


class Sleepy:
    """Takes its time, and finds numbers that depend on the choice alone."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder, self._seconds = folder, seconds

    def measure(
        self, number: int, choice: Mapping[str, Scalar], roles: Sequence[Role], earlier: TrialRecord | None
    ) -> TrialRecord:
        recipe = LANGUAGE.compose(choice)
        with (self._folder / "measured.txt").open("a") as lines:
            lines.write(f"{recipe.key} {number} {os.getpid()} {time.time():.3f}\n")
        time.sleep(self._seconds)
        return self.record(number, choice)

    @staticmethod
    def record(number: int, choice: Mapping[str, Scalar]) -> TrialRecord:
        """What is found of a choice."""
        recipe = LANGUAGE.compose(choice)
        bits = 4.0 if choice.get("precision") == "int4" else 8.0
        found = {
            "tpot_ms": bits + 16 / float(choice.get("block_size", 16)) + float(choice.get("threads", 1)) / 100,
            "perplexity_ratio": 1 + 1 / bits + float(choice.get("block_size", 16)) / 1000,
        }
        metrics = {name: Measurement.exact(name, "1", value) for name, value in found.items()}
        return TrialRecord(number, "complete", "", dict(choice), recipe, recipe.key, metrics=metrics)


def base(shared: SharedStudy, sync: RecordSync, sleepy: Sleepy) -> None:
    """Trial 0, and the facts that the others wait for."""
    trial = shared.study.ask()
    record = sleepy.measure(0, {"precision": "fp32"}, ROLES, None)
    sync.write(record)
    tell(shared.study, trial_id(trial), record, OBJECTIVES, compact=True)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("url")
    options.add_argument("folder", type=Path)
    options.add_argument("--trials", type=int, default=60)
    options.add_argument("--seconds", type=float, default=0.05)
    options.add_argument("--lead", action="store_true")
    options.add_argument("--lease", type=float, default=1.5)
    options.add_argument("--roles", nargs="+", default=list(ROLES))
    given = options.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage, name = connect(given.url), given.folder.name
    about = {"leads": given.lead}
    if given.lead:
        given.folder.mkdir(exist_ok=True)
        made = create_shared(storage, name, OBJECTIVES, about)
    else:
        made, _ = wait_for_facts(storage, name, about, 60.0)
    registry = WorkerRegistry(storage, made.side, about=about, beat_s=given.lease / 5, lease_s=given.lease)
    shared = SharedStudy(made.study, made.side, made.parts, registry)
    sync, sleepy = RecordSync(StudyDir(given.folder)), Sleepy(given.folder, given.seconds)
    candidates = Candidates(SPACE, Proposer(SPACE, "tpe", 0, 10))
    duties = LeaderDuties(given.trials, lambda: None) if given.lead else None
    job = Job(OBJECTIVES, lambda record: None, lambda: False, tuple(given.roles), duties)
    with registry:
        worker = Worker(shared, candidates, sleepy, sync, watcher_for(Console(width=160)), job)
        if given.lead:
            base(shared, sync, sleepy)
            shared.publish({"budget": given.trials, "ended": ""})
        reason = worker.work()
        if given.lead:
            shared.publish(shared.facts() | {"ended": reason})


if __name__ == "__main__":
    main()
