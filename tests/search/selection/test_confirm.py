"""Confirmation where models end under way, and where a race changes what is known."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.failure import ModelProcessFailed
from olivine.passes.catalog import LANGUAGE
from olivine.search.config.load import parse_config
from olivine.search.records import TrialRecord
from olivine.search.selection import confirm as module
from olivine.search.selection.confirm import confirm

Measure = Callable[..., list[Measurement]]


def measured(tpot_ms: float, ttft_ms: float) -> list[Measurement]:
    values = {"tpot_ms": tpot_ms, "ttft_ms": ttft_ms}
    return [Measurement(name, "ms", value, 0.9 * value, 1.1 * value) for name, value in values.items()]


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Callable[[Measure], Any]:
    """A study of two nearly tied members, with what timing them again brings."""
    records = [TrialRecord(number, "complete", "", {}, LANGUAGE.recipe([]), f"key{number}") for number in (1, 2)]
    found = {1: measured(10.0, 99.0), 2: measured(10.1, 90.0)}
    monkeypatch.setattr(module, "make_evaluators", lambda *_: SimpleNamespace(latency=PairedDecoderLatency()))
    monkeypatch.setattr(module, "to_confirm", lambda *_: records)

    def build(again: Measure) -> Any:
        objective = SimpleNamespace(
            base_artifact=lambda: None,
            remeasure=lambda record, _: {m.metric: m for m in found[record.number]},
            retime=lambda record, _: again(record.number),
            time_choice=lambda _: again(0),
        )
        raw = {
            "model": "some/model",
            "space": {"precision": ["int8", "int4"], "threads": 2},
            "objectives": ["tpot_ms", "ttft_ms"],
            "constraints": ["ttft_ms <= 100"],
            "confirm": {"race": "0.2s"},
        }
        notes: list[str] = []
        progress = SimpleNamespace(phase_started=lambda _: None, note=notes.append)
        times = SimpleNamespace(snapshot=lambda: None)
        config = parse_config(raw, "test.yaml")
        return SimpleNamespace(
            config=config,
            objective=objective,
            records=records,
            folder=None,
            base_times=times,
            progress=progress,
            notes=notes,
        )

    return build


def test_a_member_that_breaks_a_limit_once_it_was_raced_leaves_the_front(search: Callable[[Measure], Any]) -> None:
    slower = {1: measured(10.0, 130.0), 2: measured(10.1, 90.0), 0: measured(20.0, 200.0)}
    confirmation = confirm(search(lambda number: slower[number]))
    assert dict(confirmation.members[0][1])["ttft_ms"].value > 100
    assert confirmation.front == (2,)
    assert confirmation.measured[1] > 1


def test_a_process_that_ends_while_near_ties_are_timed_costs_no_confirmation(search: Callable[[Measure], Any]) -> None:
    def again(number: int) -> list[Measurement]:
        raise ModelProcessFailed("crash", f"the process of {number} ended")

    study = search(again)
    confirmation = confirm(study)
    assert confirmation.front == (1, 2)
    assert confirmation.default_threads == {}
    assert confirmation.measured == {1: 1, 2: 1}
    assert any("the process of 1 ended" in note for note in study.notes)
    assert any("the process of 0 ended" in note for note in study.notes)
