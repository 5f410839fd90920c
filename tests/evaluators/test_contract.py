"""Every evaluator keeps the contract of :class:`Evaluator`, measured on a simulated process.

A new evaluator joins by a case in ``CASES``; a test says so when it is missing.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bigram import bigram_folder
from simulated_cores import simulated_cores
from simulated_process import Machine, SimulatedProcess

import olivine.evaluators
from olivine.evaluators.data.windows import Window
from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.latency.graph import PairedGraphLatency
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.memory import GraphMemory, Memory
from olivine.evaluators.metric import ANSWER_METRICS, METRICS, SCENARIO_METRICS
from olivine.evaluators.process.messages import DeployedRun
from olivine.evaluators.quality.label_scores import SCORES
from olivine.evaluators.quality.output_fidelity import Fidelity
from olivine.evaluators.quality.task_score import TaskScore
from olivine.evaluators.quality.text_quality import TextQuality
from olivine.evaluators.scenario.answers import AnswerLatency
from olivine.evaluators.scenario.deployed import Deployed
from olivine.evaluators.scenario.scenario import Scenario

RAN = DeployedRun(90_000_000, 80_000_000, 50.0, [9.0], [30.0], [40.0], "loaded", "0.18.0")
WINDOWS = tuple(Window((seed, *range(40)), 40, 160) for seed in range(6))
ROWS = 9


def paired(machine: Machine) -> dict[str, Any]:
    return {"max_seconds": 2.0, "clock": lambda: machine.now, "core_watch": simulated_cores()}


#: Name of an evaluator's class -> makes one, from a folder for its files and a simulated machine.
CASES: Mapping[str, Callable[[Path, Machine], Any]] = {
    "Memory": lambda folder, machine: Memory(4, 2),
    "GraphMemory": lambda folder, machine: GraphMemory(folder / "f.npz", 2),
    "PairedDecoderLatency": lambda folder, machine: PairedDecoderLatency(**paired(machine)),
    "AnswerLatency": lambda folder, machine: AnswerLatency(PairedDecoderLatency(**paired(machine)), ((1, 2),)),
    "PairedGraphLatency": lambda folder, machine: PairedGraphLatency(folder / "f.npz", ("a", "b"), **paired(machine)),
    "Deployed": lambda folder, machine: Deployed(Scenario(context=200), run=lambda process, turns, new_tokens: RAN),
    "TextQuality": lambda folder, machine: TextQuality(WINDOWS, folder, "base"),
    "Fidelity": lambda folder, machine: Fidelity(folder / "f.npz", ROWS, folder, "base", logits=True),
    "TaskScore": lambda folder, machine: TaskScore(
        ((folder / "f.npz", ROWS),), np.arange(ROWS) % 3, "argmax", SCORES["accuracy"], folder, "base"
    ),
}
#: Metrics that are read once, without samples.
READ_ONCE = {"model_bytes", "peak_rss_bytes", "gpu_memory_bytes", "load_ms", *SCENARIO_METRICS, *ANSWER_METRICS}


class Measured:
    """One evaluator with a base and a candidate that is half as fast again, and worse."""

    def __init__(self, name: str, folder: Path) -> None:
        self.machine = Machine(0, noise=0.1)
        self.model = bigram_folder(folder / "model", np.zeros((3, 3), dtype=np.float32))
        self.base = SimulatedProcess(self.machine, 100.0, 10.0)
        self.candidate = SimulatedProcess(self.machine, 66.0, 6.6, worse=0.1)
        self.base.folder = self.candidate.folder = self.model
        (folder / "store").mkdir()
        self.evaluator = CASES[name](folder / "store", self.machine)

    def evaluate(self) -> list[Measurement]:
        measurements: list[Measurement] = self.evaluator.evaluate(self.candidate, self.base)
        return measurements


@pytest.fixture(params=CASES)
def measured(request: pytest.FixtureRequest, tmp_path: Path) -> Measured:
    return Measured(request.param, tmp_path)


def test_every_evaluator_has_a_case() -> None:
    (home,) = olivine.evaluators.__path__
    classes = {
        node.name
        for path in Path(home).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and any(_assigns_metrics(statement) for statement in node.body)
    }
    assert classes - {"Evaluator"} == set(CASES)


def _assigns_metrics(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.AnnAssign) and getattr(statement.target, "id", "") == "metrics"


def test_it_has_a_name_and_names_the_metrics_that_it_measures(measured: Measured) -> None:
    names = [m.metric for m in measured.evaluate()]
    assert measured.evaluator.name
    assert len(names) == len(set(names)) > 0
    assert set(names) <= set(measured.evaluator.metrics) <= set(METRICS)


def test_every_measurement_has_the_unit_of_its_metric(measured: Measured) -> None:
    assert all(m.unit == METRICS[m.metric].unit for m in measured.evaluate())


def test_every_value_is_finite_and_within_its_interval(measured: Measured) -> None:
    for m in measured.evaluate():
        assert all(math.isfinite(number) for number in (m.value, m.low, m.high)), m
        assert m.low <= m.value <= m.high, m
        assert METRICS[m.metric].low <= m.value <= METRICS[m.metric].high, m


def test_every_measurement_keeps_its_samples_and_says_how_it_was_taken(measured: Measured) -> None:
    measurements = measured.evaluate()
    for m in measurements:
        assert all(math.isfinite(sample) for sample in m.samples)
        assert isinstance(m.protocol, Mapping)
        json.dumps(m.to_dict(), allow_nan=False)
    sampled = [m for m in measurements if m.metric not in READ_ONCE]
    assert all(m.protocol for m in sampled)
    assert not sampled or any(m.samples for m in sampled)


def test_it_changes_none_of_its_inputs(measured: Measured) -> None:
    settings, files = copy.deepcopy(settings_of(measured.evaluator)), digests(measured.model)
    measured.evaluate()
    np.testing.assert_equal(settings_of(measured.evaluator), settings)
    assert digests(measured.model) == files


def settings_of(evaluator: Any) -> dict[str, Any]:
    return {field.name: getattr(evaluator, field.name) for field in dataclasses.fields(evaluator) if field.compare}


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_base_beside_itself_is_neither_better_nor_worse(measured: Measured) -> None:
    for m in measured.evaluator.evaluate(measured.base, measured.base):
        if METRICS[m.metric].relative:
            assert m.low == m.value == m.high == (1.0 if m.unit == "ratio" and m.metric != "task_drop" else 0.0), m


def test_a_second_candidate_is_measured_as_the_first_one(measured: Measured) -> None:
    first, second = measured.evaluate(), measured.evaluate()
    assert [m.metric for m in first] == [m.metric for m in second]
    assert [set(m.protocol) for m in first] == [set(m.protocol) for m in second]
