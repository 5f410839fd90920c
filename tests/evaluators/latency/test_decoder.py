"""Paired latency on simulated processes: a machine whose speed drifts and jumps, and programs that interfere."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_cores import simulated_cores
from simulated_process import Machine, SimulatedProcess

from olivine.evaluators.latency.baseline_times import BaselineTimes
from olivine.evaluators.latency.core_placement import CoreWatch
from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.latency.rounds import MIN_ROUNDS
from olivine.evaluators.latency.speedup import PREFILL_PROCESS_SD
from olivine.evaluators.measurement import Measurement


def latency_of(machine: Machine, cores: CoreWatch | None = None, **options: Any) -> PairedDecoderLatency:
    return PairedDecoderLatency(clock=lambda: machine.now, core_watch=cores or simulated_cores(), **options)


def measure(seed: int, prefill: float, decode: float, noise: float = 1.0, **options: float) -> dict[str, Measurement]:
    """Measure a candidate that is ``prefill`` and ``decode`` times as fast as the base."""
    machine = Machine(seed, noise)
    base = SimulatedProcess(machine, 100.0, 10.0)
    candidate = SimulatedProcess(machine, 100.0 / prefill, 10.0 / decode)
    latency = latency_of(machine, seed=seed, **options)
    return {m.metric: m for m in latency.evaluate(candidate, base)}


def test_without_noise_the_numbers_are_the_true_ones() -> None:
    measured = measure(0, prefill=2.0, decode=4.0, noise=0.0)
    assert measured["ttft_speedup"].value == pytest.approx(2.0)
    assert measured["tpot_speedup"].value == pytest.approx(4.0)
    assert measured["ttft_ms"].value == pytest.approx(50.0)
    assert measured["tpot_ms"].value == pytest.approx(2.5)
    assert measured["e2e_ms"].value == pytest.approx(50 + 31 * 2.5)
    assert measured["e2e_speedup"].value == pytest.approx((100 + 31 * 10) / (50 + 31 * 2.5))
    assert measured["prefill_tok_s"].value == pytest.approx(128 / 0.05)
    assert measured["decode_tok_s"].value == pytest.approx(400.0)
    assert measured["tpot_ms"].protocol["ended_by"] == "half_width"
    assert measured["tpot_ms"].protocol["rounds"] < 2 * MIN_ROUNDS


def test_intervals_cover_the_truth_and_the_estimate_is_unbiased() -> None:
    runs = [measure(seed, 0.9, 2.5, half_width=0.0) for seed in range(40)]
    for metric, truth in (("ttft_speedup", 0.9), ("tpot_speedup", 2.5)):
        covered = sum(run[metric].low <= truth <= run[metric].high for run in runs)
        assert covered >= 35, metric
        centre = np.mean([np.log(run[metric].value) for run in runs])
        assert centre == pytest.approx(np.log(truth), abs=0.01), metric


def test_a_planted_difference_of_5_percent_is_found_on_its_side() -> None:
    runs = [measure(seed, 1.05, 1.05, half_width=0.0, max_seconds=20.0) for seed in range(20)]
    assert sum(run["tpot_speedup"].low > 1 for run in runs) >= 19
    assert sum(run["tpot_speedup"].value > 1 for run in runs) == 20


def test_fresh_processes_take_over_as_often_as_loading_allows() -> None:
    def processes(load_seconds: float) -> tuple[int, int]:
        machine = Machine(0)
        processes = [SimulatedProcess(machine, 100, 10), SimulatedProcess(machine, 100, 10)]
        processes[0].load_seconds = load_seconds
        latency = latency_of(machine, half_width=0.0, max_seconds=20.0)
        measured = latency.evaluate(processes[1], processes[0])
        return measured[0].protocol["processes"], processes[0].processes

    assert processes(0.5) == (8, 8)
    assert processes(60.0) == (1, 1)


def test_luck_of_processes_is_within_the_interval() -> None:
    runs = []
    for seed in range(40):
        machine = Machine(seed, noise=0.3, luck=PREFILL_PROCESS_SD / math.sqrt(2))
        base, candidate = SimulatedProcess(machine, 100.0, 10.0), SimulatedProcess(machine, 100.0, 10.0)
        latency = latency_of(machine, seed=seed, half_width=0.0)
        runs.append({m.metric: m for m in latency.evaluate(candidate, base)}["ttft_speedup"])
    assert sum(run.low <= 1 <= run.high for run in runs) >= 36


def measure_moved(seed: int, returns: float, max_seconds: float = 10.0) -> dict[str, Measurement]:
    """A candidate that is twice as fast as the base with the cores side by side, and 1.4 times with them apart."""
    machine = Machine(seed, noise=0.3)

    def distance() -> float:
        """Of cores that a host moves apart at random, and often back while they rest."""
        machine.apart = machine.rng.random() < (1 - returns if machine.apart else 0.1)
        return float((5.0 if machine.apart else 1.6) * machine.rng.uniform(0.9, 1.1))

    base, candidate = SimulatedProcess(machine, 100, 10, 0.8), SimulatedProcess(machine, 50, 5, 0.8 / 0.7)
    latency = latency_of(machine, simulated_cores(distance), seed=seed, half_width=0.0, max_seconds=max_seconds)
    return {m.metric: m for m in latency.evaluate(candidate, base)}


def test_rounds_in_which_the_host_moved_the_cores_apart_do_not_count() -> None:
    runs = [measure_moved(seed, 0.4) for seed in range(20)]
    for metric in ("ttft_speedup", "tpot_speedup", "e2e_speedup"):
        assert np.mean([np.log(run[metric].value) for run in runs]) == pytest.approx(np.log(2), abs=0.01), metric
        assert sum(run[metric].low <= 2 <= run[metric].high for run in runs) >= 17, metric
    for run in runs:
        protocol = run["tpot_ms"].protocol
        facts, samples = protocol["core_distance"], protocol["samples"]
        moved = samples["cores_moved"]
        assert facts["rounds_moved"] == len(moved["ttft_ms"]) == len(moved["core_distance"]) > 0
        assert not facts["moved_counted"]
        assert max(samples["core_distance"]) < 2 < 4 < min(moved["core_distance"])
        assert protocol["rounds"] == len(samples["ttft_ms"]) >= MIN_ROUNDS
        assert not any("moved the cores" in caution for caution in protocol["cautions"])


def test_where_the_cores_hardly_ever_lie_side_by_side_all_rounds_count_and_it_says_so() -> None:
    run = measure_moved(0, 0.0, max_seconds=3.0)
    protocol = run["tpot_ms"].protocol
    assert protocol["core_distance"]["moved_counted"]
    assert protocol["rounds"] == len(protocol["samples"]["ttft_ms"]) > 2 * MIN_ROUNDS
    assert any("moved the cores" in caution for caution in protocol["cautions"])


def test_processes_of_one_thread_do_not_ask_how_far_the_cores_lie_apart() -> None:
    def refused(cores: Sequence[int]) -> None:
        raise AssertionError("the distance of the cores makes no difference")

    machine = Machine(0)
    processes = [SimulatedProcess(machine, 100, 10), SimulatedProcess(machine, 100, 10)]
    for process in processes:
        process.threads = 1
    measured = latency_of(machine, CoreWatch(lambda: (0, 1), refused)).evaluate(processes[1], processes[0])
    assert "core_distance" not in measured[0].protocol


def test_the_time_budget_ends_a_noisy_measurement_and_says_so() -> None:
    measured = measure(1, 1.0, 1.0, half_width=0.0001, max_seconds=15.0)
    assert measured["tpot_ms"].protocol["ended_by"] == "max_seconds"
    assert measured["tpot_ms"].protocol["rounds"] > MIN_ROUNDS


def test_a_slow_model_still_gets_enough_rounds_for_an_interval() -> None:
    measured = measure(1, 1.0, 1.0, half_width=0.0, max_seconds=0.0)
    assert measured["tpot_ms"].protocol["rounds"] == MIN_ROUNDS
    assert np.isfinite(measured["tpot_speedup"].high)


def test_both_processes_get_the_same_prompt_and_warm_up() -> None:
    machine = Machine(0)
    processes = [SimulatedProcess(machine, 100, 10), SimulatedProcess(machine, 100, 10)]
    measured = latency_of(machine, prompt_tokens=7).evaluate(processes[0], processes[1])
    assert processes[0].prompts == processes[1].prompts
    assert len(processes[0].prompts[0]) == 7
    assert measured[0].protocol["warmup_rounds"] >= 2


def test_every_sample_is_kept() -> None:
    measured = measure(2, 1.0, 1.0)
    protocol = measured["tpot_ms"].protocol
    rounds = protocol["rounds"]
    visits, steps = protocol["visits_per_round"], protocol["cold_steps"] + protocol["counted_steps"]
    assert len(protocol["samples"]["base_step_ms"]) == rounds * visits
    assert all(len(visit) == steps for visit in protocol["samples"]["step_ms"])
    assert len(measured["ttft_ms"].samples) == len(measured["ttft_speedup"].samples) == rounds
    assert len(measured["tpot_speedup"].samples) == rounds * visits
    json.dumps([m.to_dict() for m in measured.values()])


def test_processes_of_one_thread_share_a_core_that_changes_and_are_free_afterwards() -> None:
    machine = Machine(0)
    processes = [SimulatedProcess(machine, 100, 10), SimulatedProcess(machine, 100, 10)]
    for process in processes:
        process.threads = 1
    latency_of(machine, simulated_cores(cores=(3, 5)), half_width=0.0).evaluate(processes[1], processes[0])
    assert processes[0].pinned == processes[1].pinned
    *timed, last = processes[0].pinned
    assert {frozenset(cores) for cores in timed} == {frozenset({3}), frozenset({5})}
    assert last == {3, 5}


@pytest.mark.parametrize(("threads", "cores"), [(2, (0, 1)), (0, (0, 1)), (1, (0,))])
def test_other_processes_run_where_the_kernel_puts_them(threads: int, cores: tuple[int, ...]) -> None:
    machine = Machine(0)
    processes = [SimulatedProcess(machine, 100, 10), SimulatedProcess(machine, 100, 10)]
    processes[0].threads = threads
    latency_of(machine, simulated_cores(cores=cores)).evaluate(processes[1], processes[0])
    assert processes[0].pinned == processes[1].pinned == []


def test_every_process_holds_its_memory_before_it_is_timed_and_gives_it_back() -> None:
    machine = Machine(0)
    processes = [SimulatedProcess(machine, 100, 10), SimulatedProcess(machine, 100, 10)]
    measured = latency_of(machine, prompt_tokens=7, half_width=0.0).evaluate(processes[1], processes[0])
    assert processes[0].held == processes[1].held == [7] * measured[0].protocol["processes"] + [0]


def test_where_memory_is_scarce_fresh_processes_wake_with_a_whole_prompt() -> None:
    def prompts(room: int) -> set[int]:
        machine = Machine(0)
        processes = [SimulatedProcess(machine, 100, 10), SimulatedProcess(machine, 100, 10)]
        processes[1].room = room
        latency_of(machine, prompt_tokens=20, half_width=0.0).evaluate(processes[1], processes[0])
        return {len(prompt) for prompt in processes[0].prompts}

    assert prompts(1000) == {8, 20}
    assert prompts(10) == {20}


def test_every_process_that_is_started_is_timed() -> None:
    machine = Machine(0)
    processes = [SimulatedProcess(machine, 3000, 100), SimulatedProcess(machine, 3000, 100)]
    measured = latency_of(machine, half_width=0.0, max_seconds=25.0).evaluate(processes[1], processes[0])
    protocol = measured[1].protocol
    assert protocol["processes"] == processes[0].processes == 10
    assert set(protocol["samples"]["process"]) == set(range(10))


def test_the_base_alone_is_timed_until_its_own_interval_is_narrow() -> None:
    machine = Machine(0)
    base = SimulatedProcess(machine, 100, 10)
    measured = latency_of(machine, half_width=0.001, max_seconds=8.0).evaluate(base, base)
    assert measured[0].protocol["ended_by"] == "max_seconds"
    assert measured[0].protocol["rounds"] > 2 * MIN_ROUNDS


def test_the_base_against_itself_is_exactly_one() -> None:
    machine = Machine(3)
    base = SimulatedProcess(machine, 100, 10)
    measured = {m.metric: m for m in latency_of(machine).evaluate(base, base)}
    for metric in ("ttft_speedup", "tpot_speedup", "e2e_speedup"):
        assert measured[metric].low == measured[metric].value == measured[metric].high == 1.0
    assert measured["tpot_ms"].low < measured["tpot_ms"].value < measured["tpot_ms"].high
    assert set(measured) == set(PairedDecoderLatency.metrics)


def test_milliseconds_of_trials_an_hour_apart_compare(tmp_path: Path) -> None:
    pool = BaselineTimes(tmp_path / "pool.json")
    pool.add([100.0] * 8, [10.0] * 8)
    machine = Machine(0, noise=0.0)
    # The machine is now half as fast as when the pool began; the candidate is twice as fast as the base.
    base, candidate = SimulatedProcess(machine, 200, 20), SimulatedProcess(machine, 100, 10)
    measured = latency_of(machine, baseline_times=pool).evaluate(candidate, base)
    assert measured[0].value == pytest.approx(150 / 2)
    assert len(BaselineTimes(tmp_path / "pool.json")) == 2
    assert BaselineTimes(tmp_path / "pool.json").tpot_ms == pytest.approx(15.0)
