"""One study whose candidates meet, one after the other, what can go wrong in a child process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import yaml
from tiny_study import tiny_yaml, write_text

from olivine.evaluators.answers import Loaded, WindowScore
from olivine.evaluators.arm import Arm
from olivine.search.build_process import BuildProcess
from olivine.search.cli import main
from olivine.search.records import StudyDir, TrialRecord

pytestmark = pytest.mark.timeout(900)  # one study, in the setup of the first test

FAULTS = Path(__file__).parents[1] / "faults"
LIMIT_MB = 1500
#: Trial -> where its process is when the fault happens, and which; ``sitecustomize.py`` has them.
PLAN = {
    1: ("0001.request.json", "segfault"),
    2: ("reference-*.npz", "orphan"),
    3: ("0003.request.json", "hang"),
    4: ("reference-*.npz", "eat"),
    5: ("model.onnx.data", "exit"),
    6: ("reference-*.npz", "garbage"),
    7: ("0007.request.json", "eat"),
}
NAN, DELETED, CHANGED, LAST = 8, 9, 10, 10


@dataclass(frozen=True)
class Study:
    """What is left of it: the folder, what was printed, and how it ended."""

    folder: StudyDir
    out: str
    code: int
    records: dict[int, TrialRecord]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Iterator[Study]:
    root = tmp_path_factory.mktemp("faults")
    plan = root / "plan"
    plan.mkdir()
    patch = pytest.MonkeyPatch()
    for number, (place, fault) in PLAN.items():
        # The base maps weights too: the build of trial 5 is told by its request, so its fault is armed there.
        if place != "model.onnx.data":
            (plan / f"{number}.{place}.{fault}").touch()
    patch.setenv("OLIVINE_FAULTS", str(plan))
    patch.setenv("PYTHONPATH", str(FAULTS))
    patch.setenv("SECRET_TOKEN", "hf_neverToBeSeenAnywhere")
    run, score, load = BuildProcess.run, Arm.score, Arm.load
    spoiled: set[int] = set()

    def run_child(
        process: BuildProcess, request: Path, response: Path, timeout_s: float
    ) -> tuple[dict[str, Any], float]:
        if request.name.startswith("0005"):
            (plan / "5.model.onnx.data.exit").touch()
        return run(process, request, response, 2.0 if request.name.startswith("0003") else timeout_s)

    def score_window(arm: Arm, path: Path, window: int) -> WindowScore:
        scored = score(arm, path, window)
        ended = len(list((root / "study" / "trials").glob("*.json")))
        return scored if ended != NAN else WindowScore(0.0, scored.tokens, 0.0, 0, False)

    def load_model(arm: Arm, model: Path) -> Loaded:
        number = len(list((root / "study" / "trials").glob("*.json")))
        if number in (DELETED, CHANGED) and number not in spoiled:
            spoiled.add(number)
            if number == DELETED:
                shutil.rmtree(model.parent)
            else:
                (model / "model.onnx").write_bytes(b"no graph")
        return load(arm, model)

    patch.setattr(BuildProcess, "run", run_child)
    patch.setattr(Arm, "load", load_model)
    patch.setattr(Arm, "score", score_window)
    raw = tiny_yaml(tiny_llama, write_text(root / "text.txt"), stop={"trials": LAST})
    raw["space"] = {
        "precision": ["int8", "int4"],
        "block_size": [16, 32, 64],
        "symmetric": [True, False],
        "threads": 1,
    }
    raw["children"] = {"memory": f"{LIMIT_MB}MB"}
    raw["confirm"] = {"members": 1, "race": None}
    (root / "tiny.yaml").write_text(yaml.safe_dump(raw))
    said = root / "said.txt"
    with said.open("w") as stream, pytest.MonkeyPatch.context() as console:
        from rich.console import Console

        console.setattr("olivine.search.cli.OUT", Console(file=stream, width=400))
        code = main(["run", str(root / "tiny.yaml"), "--out", str(root / "study")])
    patch.undo()
    folder = StudyDir.open(root / "study")
    yield Study(folder, said.read_text(), code, {record.number: record for record in folder.trials()})


def test_the_study_goes_on_and_ends_well(study: Study) -> None:
    assert study.code == 0
    assert sorted(study.records) == list(range(LAST + 1))
    assert [n for n, record in study.records.items() if record.state == "complete"] == [0, DELETED, CHANGED]
    assert study.folder.selection()["trial"] in (DELETED, CHANGED)
    assert (study.folder.best_path / "olivine.json").is_file()


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (1, "the build died of SIGSEGV"),
        (2, "died of SIGABRT in 'score'"),
        (3, "the build did not end within 2 s"),
        (5, "the build ended with exit code 0"),
        (6, "which is no JSON"),
        (NAN, "logits are not finite in window 1 of 3"),
    ],
)
def test_a_fault_costs_its_own_trial_and_is_told_as_what_it_is(study: Study, number: int, reason: str) -> None:
    record = study.records[number]
    assert record.state == "failed"
    assert reason in record.reason
    line = next(line for line in study.out.splitlines() if f"trial {number} failed" in line)
    assert reason in line
    if number in PLAN:
        assert f"a fault happens on purpose: {PLAN[number][1]}" in record.stderr_tail


@pytest.mark.parametrize(("number", "what"), [(4, "in 'score': it held"), (7, "the build was ended: it held")])
def test_a_candidate_that_outgrows_its_memory_is_infeasible_with_its_peak(study: Study, number: int, what: str) -> None:
    record = study.records[number]
    assert record.state == "infeasible"
    assert what in record.reason
    assert f"its limit is {LIMIT_MB} MB (children.memory)" in record.reason
    peak = record.metrics["peak_rss_bytes"]["value"] if number == 4 else record.build_peak_rss_bytes
    # 10 MB every 20 ms at most: one second more would be half a gigabyte more.
    assert LIMIT_MB * 1e6 < peak < (LIMIT_MB + 500) * 1e6
    assert record.constraints["children.memory"] == pytest.approx(peak / (LIMIT_MB * 1e6) - 1)


@pytest.mark.parametrize("number", [DELETED, CHANGED])
def test_a_cache_entry_that_is_deleted_or_changed_under_way_is_built_again(study: Study, number: int) -> None:
    assert f"trial {number}: its files in the cache were deleted or changed; it is built again" in study.out
    assert study.records[number].state == "complete"
    assert study.records[number].reason == ""


def test_optuna_is_told_of_every_fault_so_that_the_sampler_learns(study: Study) -> None:
    stored = optuna.load_study(study_name="olivine", storage=f"sqlite:///{study.folder.database_path}")
    for trial in stored.trials:
        measured = trial.number in (0, DELETED, CHANGED)
        assert trial.state == (optuna.trial.TrialState.COMPLETE if measured else optuna.trial.TrialState.PRUNED)
        assert (max(trial.constraints.values()) > 0) == (not measured)
        assert trial.user_attrs["recipe_key"] == study.records[trial.number].recipe_key


def test_no_process_and_nothing_half_made_is_left(study: Study) -> None:
    left = []
    for process in psutil.process_iter():
        with_plan = False
        try:
            with_plan = process.environ().get("OLIVINE_FAULTS") == str(study.folder.root.parent / "plan")
        except psutil.Error:
            continue
        if with_plan:
            left.append(process)
    assert left == []
    assert [p for p in study.folder.root.rglob(".*") if p.name != ".lock"] == []
    assert list((Path(os.environ["OLIVINE_CACHE"]) / "artifacts").glob(".*")) == []


def test_no_environment_variable_reaches_a_log(study: Study) -> None:
    for path in study.folder.root.rglob("*"):
        if path.is_file():
            assert b"hf_neverToBeSeenAnywhere" not in path.read_bytes()
    assert "hf_neverToBeSeenAnywhere" not in study.out
