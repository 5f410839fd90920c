"""The campaigns behind results/numbers.md: what they make of rows, and the replays and simulations in a short form."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import campaign
import detection
import early_stop
import estimators
import intervals
import numpy as np
import pairs
import pytest
import repeatability
import twice
import unlike
from safetensors.numpy import load_file, save_file

from olivine.evaluators.stats import Interval

LIMITS = (1.05, 1.15, 1.3)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "numbers.md"
    path.write_text("before\n<!-- copies -->\nold\n<!-- /copies -->\nafter\n")
    monkeypatch.setattr(campaign, "PAGE", path)
    monkeypatch.setattr(campaign, "FOLDER", tmp_path / "rows")
    return path


def row(low: float, high: float, **more: Any) -> campaign.Row:
    ends = [(low + high) / 2, low, high]
    about = {"started": 0, "seconds": 10.0, "load": 1.0, "threads": 1}
    return {**about, "tpot_speedup": ends, "ttft_speedup": ends, **more}


@pytest.fixture
def as_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows without samples, whose speedups are those that they name."""
    monkeypatch.setattr(pairs, "speedups", lambda row: {name: row[name] for name in pairs.SPEEDUPS})


@pytest.mark.usefixtures("as_stored")
def test_slices_add_up_and_each_writes_the_section_anew(page: Path) -> None:
    options = campaign.slice_options(argparse.ArgumentParser()).parse_args(["--runs", "2"])
    seen: list[int] = []

    def run(number: int) -> campaign.Row:
        seen.append(number)
        return row(0.99, 1.02 if number else 0.995)

    for _ in range(2):
        campaign.carry_on("aa", "copies", options, run, repeatability.table)
    assert seen == [0, 1, 2, 3]
    text = page.read_text()
    assert text.startswith("before\n<!-- copies -->\n`make bench-aa`")
    assert text.endswith("<!-- /copies -->\nafter\n")
    assert "| 1 | 10 | 4 | tpot_speedup | 1.0050 | 1.52% | 3 of 4 |" in text
    with pytest.raises(LookupError, match="detection"):
        campaign.write("detection", "text")


def test_estimators_are_compared_on_recorded_runs() -> None:
    rng = np.random.default_rng(0)

    def run() -> campaign.Row:
        process = [0] * 6 + [1] * 6
        times = {f"{side}ttft_ms": (100 * np.exp(0.01 * rng.normal(size=12))).tolist() for side in ("base_", "")}
        steps = {f"{side}step_ms": (10 * np.exp(0.01 * rng.normal(size=(24, 3)))).tolist() for side in ("base_", "")}
        about = {"threads": 1, "seconds": 10.0, "cold_steps": 1, "processes": 2}
        return {**about, "samples": {"process": process, **times, **steps}}

    text = estimators.table([run() for _ in range(4)])
    assert "| 1 | 10 | decode | 4 | 0." in text
    assert "(8 pairs of processes)" in text


def test_the_luck_of_processes_is_what_groups_differ_by_beyond_their_noise() -> None:
    rng = np.random.default_rng(0)
    found = [0.02 * rng.normal() + 0.01 * rng.normal(size=5) for _ in range(400)]
    assert estimators.luck(found) == pytest.approx(0.02, rel=0.1)
    assert estimators.luck([np.array([0.0, 1.0]), np.array([1.0, 0.0])]) == 0.0


def test_a_slice_says_how_long_it_is() -> None:
    options = campaign.slice_options(argparse.ArgumentParser()).parse_args([])
    with pytest.raises(SystemExit, match="--runs or --seconds"):
        campaign.carry_on("aa", "copies", options, lambda _: {}, lambda _: "")


def test_speedups_come_from_a_row_s_samples() -> None:
    steps = [[9.0, 2.0 + 0.01 * number, 2.0] for number in range(12)]
    prompts = [10.0 + 0.1 * number for number in range(12)]
    samples = {
        "process": [0] * 6 + [1] * 6,
        "base_ttft_ms": [2 * ms for ms in prompts],
        "ttft_ms": prompts,
        "base_step_ms": [[9.0, *(3 * ms for ms in counted)] for _, *counted in steps],
        "step_ms": steps,
    }
    found = pairs.speedups({"threads": 1, "cold_steps": 1, "samples": samples})
    assert found["ttft_speedup"][0] == pytest.approx(2)
    assert found["tpot_speedup"][0] == pytest.approx(3)
    assert found["tpot_speedup"][1] < 3 < found["tpot_speedup"][2]


def test_what_runs_of_unlike_models_differ_by_is_told_apart_from_their_own_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    monkeypatch.setattr(pairs, "log_speedups", lambda row: dict.fromkeys(pairs.SPEEDUPS, row["found"]))

    def runs(name: str, speedup: float, beyond: float) -> list[campaign.Row]:
        values = math.log(speedup) + math.hypot(0.01, beyond) * rng.normal(size=60)
        found = [Interval(value, value - 0.0196, value + 0.0196) for value in values]
        return [{"name": name, "started": 0, "found": one} for one in found]

    fast, alike = runs("fast", 4.0, 0.02), runs("alike", 1.05, 0.0)
    beyond, log = unlike.excess(fast, "tpot_speedup")
    assert (beyond, log) == (pytest.approx(0.02, rel=0.25), pytest.approx(math.log(4), rel=0.01))
    assert unlike.excess(alike, "tpot_speedup")[0] < 0.006
    text = unlike.table([*fast, *alike, *runs("seen twice", 2.0, 0.0)[:2]])
    assert "| fast | tpot_speedup | 60 |" in text
    assert "seen twice" not in text
    assert "of the log speedup." in text.splitlines()[-1]


@pytest.mark.usefixtures("as_stored")
def test_detection_counts_right_calls_wrong_ones_and_none() -> None:
    rows = [row(0.95, 0.99, more=2), row(0.98, 1.01, more=2), row(1.01, 1.03, more=2), row(0.9, 0.95, more=4)]
    text = detection.table(rows)
    assert "| 1 | 30 | 2 | 3 | tpot_speedup | 0.9950 | 1 | 1 | 1 |" in text
    assert "| 1 | 30 | 4 | 1 | ttft_speedup | 0.9250 | 1 | 0 | 0 |" in text


def test_added_layers_are_nearly_copies_of_the_last_that_is_kept(tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text('{"num_hidden_layers": 2, "layer_types": ["sliding", "full"]}')
    weights = {f"model.layers.{number}.down.weight": np.full(3, number + 1, np.float32) for number in range(2)}
    weights["lm_head.weight"] = np.full(3, 7, np.float32)
    save_file(weights, checkpoint / "model.safetensors")
    made = pairs.with_layers(checkpoint, 2, 2, tmp_path / "deeper")
    config = json.loads((made / "config.json").read_text())
    assert config == {"num_hidden_layers": 4, "layer_types": ["sliding", "full", "full", "full"]}
    found = load_file(made / "model.safetensors")
    values = [found[f"model.layers.{number}.down.weight"][0] for number in range(4)]
    assert values == pytest.approx([1, 2, 2 + 2 * pairs.STRANGER, 2 + 4 * pairs.STRANGER])
    shorter = pairs.with_layers(checkpoint, 1, 1, tmp_path / "shorter")
    assert json.loads((shorter / "config.json").read_text()) == {
        "num_hidden_layers": 2,
        "layer_types": ["sliding", "sliding"],
    }
    found = load_file(shorter / "model.safetensors")
    values = {"model.layers.0.down.weight": 1, "model.layers.1.down.weight": 1 + pairs.STRANGER, "lm_head.weight": 7}
    assert {name: value[0] for name, value in found.items()} == pytest.approx(values)


def test_reports_that_hold_and_that_do_not() -> None:
    def metrics(speed: float, half: float = 0.05) -> dict[str, dict[str, float]]:
        return {m: {"value": speed, "low": speed - half, "high": speed + half} for m in twice.METRICS}

    reported = {"a 1": metrics(3.0), "a 2": metrics(2.0), "a 3": metrics(2.02)}
    tally = twice.compare(reported, {"a 1": metrics(2.95), "a 2": metrics(2.0), "a 3": metrics(3.1)})
    assert (tally.intervals, tally.overlap) == (9, 6)
    assert (tally.claims, tally.repeated) == (6, 3), "1 above 2 and 1 above 3, in each of three metrics"
    assert "a 3 tpot_speedup: 2.020 [1.970, 2.070], later 3.100 [3.050, 3.150]" in tally.misses
    speed = twice.compare(reported, {"a 1": metrics(2.95), "a 2": metrics(2.0), "a 3": metrics(3.1)}, twice.SPEEDUPS)
    assert (speed.intervals, speed.overlap, speed.claims, speed.repeated) == (6, 4, 4, 2)


@pytest.mark.parametrize("limit", LIMITS)
def test_recorded_candidates_that_the_full_text_keeps_are_dropped_at_most_one_time_in_twenty(limit: float) -> None:
    kept = [windows for windows in early_stop.recorded().values() if early_stop.full_ratio(windows) <= limit]
    assert kept
    assert max(early_stop.replay(windows, limit, orders=20).dropped for windows in kept) <= 0.05


def test_recorded_clear_losers_cost_a_quarter_of_the_tokens_at_most() -> None:
    limit = min(LIMITS)
    losers = [w for w in early_stop.recorded().values() if early_stop.full_ratio(w) > early_stop.CLEAR * limit]
    found = [early_stop.replay(windows, limit, orders=10) for windows in losers]
    assert all(one.dropped == 1.0 for one in found)
    assert float(np.mean([one.scored for one in found])) <= 0.25


def test_a_short_simulation_has_every_interval_near_its_level() -> None:
    found = intervals.simulate(runs=40, seed=0)
    assert len(found["hits"]) == 27
    assert min(found["hits"].values()) >= 32
    assert "| 40 simulations" not in intervals.table([found])
    assert intervals.table([found, found]).startswith("`make bench-coverage`: 80 simulations of each")
