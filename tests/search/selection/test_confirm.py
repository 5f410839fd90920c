"""Confirmation where models end under way, and where a race changes what is known."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.failure import ModelProcessFailed
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import Unwritable
from olivine.passes.recipe import Recipe
from olivine.search.config.load import parse_config
from olivine.search.records import TrialRecord
from olivine.search.report.progress import LineOutput
from olivine.search.selection.confirm import Confirmation, confirm, shrinkage

CONFIG = parse_config(
    {
        "model": "some/model",
        "space": {"precision": ["int8", "int4"], "threads": 2},
        "objectives": ["tpot_ms", "ttft_ms"],
        "constraints": ["ttft_ms <= 100"],
        "confirm": {"race": "0.2s"},
    },
    "test.yaml",
)
CHOICES = {1: {"precision": "int8", "threads": 2}, 2: {"precision": "int4", "threads": 2}}


def measured(tpot_ms: float, ttft_ms: float) -> list[Measurement]:
    values = {"tpot_ms": tpot_ms, "ttft_ms": ttft_ms}
    return [Measurement(name, "ms", value, 0.9 * value, 1.1 * value) for name, value in values.items()]


#: What two nearly tied candidates are when they are measured again.
CONFIRMED = {1: measured(10.0, 99.0), 2: measured(10.1, 90.0)}


def record(number: int) -> TrialRecord:
    recipe = LANGUAGE.compose(CHOICES[number])
    searched = {m.metric: m for m in measured(9.0 + number, 98.0 - number)}
    return TrialRecord(number, "complete", "", CHOICES[number], recipe, recipe.key, metrics=searched)


RECORDS = [record(1), record(2)]


def ended(number: int) -> list[Measurement]:
    raise ModelProcessFailed("crash", f"the process of {number} ended")


@dataclass
class FakeMeasurer:
    """Measures as it is told: ``again`` of a trial's number when near-ties are timed, of 0 for default threads."""

    again: Callable[[int], list[Measurement]] = ended
    first: Callable[[int], list[Measurement]] = CONFIRMED.__getitem__
    asked: list[str] = field(default_factory=list)

    def remeasure(self, recipe: Recipe, name: str) -> dict[str, Measurement]:
        self.asked.append(name)
        return {m.metric: m for m in self.first(int(name[:4]))}

    def retime(self, recipe: Recipe, name: str, repetition: int) -> list[Measurement]:
        return self.again(int(name[:4]))

    @property
    def base_is_usual(self) -> bool:
        return False

    def time_usual(self) -> list[Measurement]:
        return self.again(0)

    def scored(self, recipe: Recipe, name: str) -> AbstractContextManager[tuple[ModelProcess, Path]]:
        raise AssertionError("confirmation scores no tasks")


def run(measurer: FakeMeasurer) -> tuple[Confirmation, str]:
    console = Console(file=io.StringIO(), width=200, record=True)
    return confirm(measurer, RECORDS, CONFIG, LineOutput(console)), console.export_text()


def test_a_member_that_breaks_a_limit_once_it_was_raced_leaves_the_front() -> None:
    slower = {1: measured(10.0, 130.0), 2: measured(10.1, 90.0), 0: measured(20.0, 200.0)}
    confirmation, _ = run(FakeMeasurer(slower.__getitem__))
    assert confirmation.members[0].metrics["ttft_ms"].value > 100
    assert confirmation.front == (2,)
    assert confirmation.measured[1] > 1


def test_a_process_that_ends_while_near_ties_are_timed_costs_no_confirmation() -> None:
    confirmation, notes = run(FakeMeasurer())
    assert confirmation.front == (1, 2)
    assert confirmation.default_threads == {}
    assert confirmation.measured == {1: 1, 2: 1}
    assert "the process of 1 ended" in notes
    assert "the process of 0 ended" in notes


def test_a_member_whose_process_ends_is_tried_once_more_and_then_named() -> None:
    def dies(number: int) -> list[Measurement]:
        return ended(number) if number == 1 else CONFIRMED[number]

    measurer = FakeMeasurer(first=dies)
    confirmation, notes = run(measurer)
    assert measurer.asked == ["0001-confirm", "0001-confirm", "0002-confirm"]
    assert [member.record.number for member in confirmation.members] == [2]
    assert confirmation.failures == ("Trial 1 ran in the search, but failed in confirmation: the process of 1 ended",)
    assert "trial 1 is tried once more" in notes


def test_a_full_disk_is_no_candidates_fault() -> None:
    def full(number: int) -> list[Measurement]:
        raise Unwritable("the disk is full")

    with pytest.raises(Unwritable):
        run(FakeMeasurer(first=full))


def test_shrinkage_is_the_mean_of_confirmed_over_searched_values() -> None:
    confirmation, _ = run(FakeMeasurer())
    expected = ((10.0 / 10.0) * (10.1 / 11.0)) ** 0.5
    assert shrinkage(confirmation, ("tpot_ms", "load_ms")) == {"tpot_ms": pytest.approx(expected, abs=1e-4)}
