"""One study whose candidates meet, one after the other, what can go wrong in a child process."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import numpy as np
import onnx
import optuna
import psutil
import pytest
import yaml
from onnx import helper, numpy_helper
from tiny_study import tiny_yaml, write_text

from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.messages import Loaded, WindowScore
from olivine.search.builds.messages import BuildAnswer
from olivine.search.builds.process import BuildProcess
from olivine.search.cli.main import main
from olivine.search.records import TrialRecord
from olivine.search.study_dir import StudyDir

pytestmark = pytest.mark.timeout(900)  # one study, in the setup of the first test

FAULTS = Path(__file__).parents[2] / "faults"
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
    11: ("0011.request.json", "answers_noise"),
    12: ("0012.request.json", "answers_others"),
    13: ("0013.request.json", "garbage"),
    14: ("reference-*.npz", "cut"),
    15: ("reference-*.npz", "lie_score"),
    16: ("reference-*.npz", "lie_time"),
}
NAN, DELETED, CHANGED, POSITIONS, VOCABULARY, LAST = 8, 9, 10, 17, 18, 19
MEASURED = [0, DELETED, CHANGED, LAST]
#: When the trial before this one has ended, the clock goes back by so much.
REWOUND, BACK = CHANGED, timedelta(hours=5)


def cut_logits(model: Path, to: Path, axis: int) -> Path:
    """A copy of a model whose logits [batch, positions, vocabulary] lack the first entry of an axis."""
    shutil.copytree(model, to)
    graph = onnx.load(to / "model.onnx", load_external_data=False)
    logits = next(value for value in graph.graph.output if value.name == "logits")
    head = next(node for node in graph.graph.node if "logits" in node.output)
    head.output[list(head.output).index("logits")] = "whole"
    for name, number in (("from", 1), ("to", 2**31), ("axis", axis)):
        graph.graph.initializer.append(numpy_helper.from_array(np.array([number]), name))
    graph.graph.node.append(helper.make_node("Slice", ["whole", "from", "to", "axis"], ["logits"]))
    logits.type.tensor_type.shape.dim[axis].Clear()
    onnx.save(graph, to / "model.onnx")
    return to


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
        if place.endswith(".request.json"):
            (plan / f"{number:02d}.{place}.{fault}").touch()
    patch.setenv("OLIVINE_FAULTS", str(plan))
    patch.setenv("PYTHONPATH", str(FAULTS))
    patch.setenv("SECRET_TOKEN", "hf_neverToBeSeenAnywhere")
    run, score, load = BuildProcess.run, ModelProcess.score, ModelProcess.load
    spoiled: set[int] = set()

    def ended() -> int:
        return len(list((root / "study" / "trials").glob("*.json")))

    def run_child(process: BuildProcess, request: Path, response: Path, timeout_s: float) -> tuple[BuildAnswer, float]:
        if request.name.startswith("0005"):  # not before: the base maps weights too
            (plan / "05.model.onnx.data.exit").touch()
        return run(process, request, response, 2.0 if request.name.startswith("0003") else timeout_s)

    def score_window(process: ModelProcess, path: Path, window: int) -> WindowScore:
        scored = score(process, path, window)
        return scored if ended() != NAN else WindowScore(0.0, scored.tokens, 0.0, 0, False)

    def load_model(process: ModelProcess, model: Path) -> Loaded:
        number = ended()
        place, fault = PLAN.get(number, ("", ""))
        if place == "reference-*.npz":
            (plan / f"{number:02d}.{place}.{fault}").touch()
        if number in (DELETED, CHANGED) and number not in spoiled:
            spoiled.add(number)
            if number == DELETED:
                shutil.rmtree(model.parent)
            else:
                (model / "model.onnx").write_bytes(b"no graph")
        if number in (POSITIONS, VOCABULARY):
            return load(process, cut_logits(model, root / f"cut-{number}", 1 if number == POSITIONS else 2))
        return load(process, model)

    class KernelTimer(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) - (BACK if ended() >= REWOUND else timedelta())

    now = time.time
    patch.setattr(time, "time", lambda: now() - (BACK.total_seconds() if ended() >= REWOUND else 0.0))
    patch.setattr("olivine.search.study.trials.trial.datetime", KernelTimer)
    patch.setattr(optuna.storages._rdb.storage, "datetime", KernelTimer)
    patch.setattr(BuildProcess, "run", run_child)
    patch.setattr(ModelProcess, "load", load_model)
    patch.setattr(ModelProcess, "score", score_window)
    raw = tiny_yaml(tiny_llama, write_text(root / "text.txt"), stop={"trials": LAST, "timeout": "3h"})
    raw["space"] = {
        "precision": ["int8", "int4"],
        "block_size": [16, 32, 64],
        "symmetric": [True, False],
        "lm_head": ["same", "int8", "fp32"],
        "threads": 1,
        "prune_head": False,  # one process scores and times, so that each fault meets it
    }
    raw["children"] = {"memory": f"{LIMIT_MB}MB"}
    raw["confirm"] = {"members": 1, "race": None}
    (root / "tiny.yaml").write_text(yaml.safe_dump(raw))
    said = root / "said.txt"
    with said.open("w") as stream, pytest.MonkeyPatch.context() as console:
        console.setattr("sys.stdout", stream)
        console.setenv("COLUMNS", "400")
        code = main(["run", str(root / "tiny.yaml"), "--out", str(root / "study")])
    patch.undo()
    folder = StudyDir.open(root / "study")
    yield Study(folder, said.read_text(), code, {record.number: record for record in folder.trials()})


def test_the_study_goes_on_and_ends_well(study: Study) -> None:
    assert study.code == 0
    assert sorted(study.records) == list(range(LAST + 1))
    assert [n for n, record in study.records.items() if record.state == "complete"] == MEASURED
    assert study.folder.outcome().trial in MEASURED[1:]
    assert (study.folder.best_path / "olivine.json").is_file()


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (1, "the build died of SIGSEGV"),
        (2, "died of SIGABRT in 'score'"),
        (3, "the build did not end within 2 s"),
        (5, "the build ended with exit code 0"),
        (6, "answered 'score' with what is no JSON"),
        (NAN, "logits are not finite in window 1 of 3"),
        (11, "the build answered with what is no JSON"),
        (12, "the build answered with a Built whose 'key' is 7"),
        (13, "the build said b'\\xff garbage ' where its process tells how it goes"),
        (14, "ended with exit code 0 in 'score'"),
        (15, "answered 'score' with a WindowScore whose 'nll' is 'much'"),
        (16, "answered 'prefill' with the times [], not with 1 above 0"),
        (
            POSITIONS,
            "'logits' of node '' (Slice) has shape {1,8,320} but the computed output shape for this run is {1,7,",
        ),
        (
            VOCABULARY,
            "Got invalid dimensions for output: logits for the following indices index: 2 Got: 320 Expected: 319",
        ),
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
    peak = record.value("peak_rss_bytes") if number == 4 else record.build_peak_rss_bytes
    # 10 MB every 20 ms at most: one second more would be half a gigabyte more.
    assert LIMIT_MB * 1e6 < peak < (LIMIT_MB + 500) * 1e6
    assert record.constraints["children.memory"] == pytest.approx(peak / (LIMIT_MB * 1e6) - 1)


@pytest.mark.parametrize("number", [15, POSITIONS, VOCABULARY])
def test_no_metric_comes_from_outputs_that_are_wrong(study: Study, number: int) -> None:
    assert not {"perplexity_ratio", "tpot_ms"} & set(study.records[number].metrics)


def test_a_clock_that_jumps_back_changes_timestamps_and_nothing_else(study: Study) -> None:
    before, after = study.records[REWOUND - 1], study.records[REWOUND]
    assert datetime.fromisoformat(before.started) - datetime.fromisoformat(after.started) > BACK - timedelta(hours=1)
    for record in study.records.values():
        assert min([record.build_seconds, record.evaluate_seconds, *record.phases.values()]) >= 0
        assert max([record.build_seconds, *record.phases.values()]) < BACK.total_seconds() / 2
    assert "passed" not in next(line for line in study.out.splitlines() if "search ended" in line)
    stored = optuna.load_study(study_name="olivine", storage=f"sqlite:///{study.folder.database_path}")
    started = [trial.datetime_start for trial in stored.trials]
    assert started[REWOUND - 1] > started[REWOUND]
    for command in ("trials", "report"):
        assert main([command, str(study.folder.root)]) == 0


@pytest.mark.parametrize("number", [DELETED, CHANGED])
def test_a_cache_entry_that_is_deleted_or_changed_under_way_is_built_again(study: Study, number: int) -> None:
    assert f"trial {number}: its files in the cache were deleted or changed; it is built again" in study.out
    assert study.records[number].state == "complete"
    assert study.records[number].reason == ""


def test_optuna_is_told_of_every_fault_so_that_the_sampler_learns(study: Study) -> None:
    stored = optuna.load_study(study_name="olivine", storage=f"sqlite:///{study.folder.database_path}")
    for trial in stored.trials:
        measured = trial.number in MEASURED
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
