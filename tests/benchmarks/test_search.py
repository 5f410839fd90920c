from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from benchmarks.search import Judge, page, shares_of, trials_to
from benchmarks.search_goal import LOSSES, Result, Task, goal_section, run_task, tasks
from benchmarks.search_replay import median_interval, replay
from benchmarks.search_table import EXPECTED, METRICS, Table, read_table

CONFIG = """
name: small
model: demo:smollm2-135m-instruct
space:
  precision: [int8, int4]
  algorithm: [rtn, k_quant, gptq]
  block_size: [32, 64, 128]
  lm_head: [same, int8]
objectives: [tpot_ms, kl_divergence]
evaluation: {text: demo:news}
"""


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Every candidate of a small space with made-up values, which the cost model halves."""
    config = tmp_path / "small.yaml"
    config.write_text(CONFIG)
    algorithms = {"rtn": 1.0, "k_quant": 0.8, "gptq": 0.5}
    with (tmp_path / "table.csv").open("w", newline="") as out:
        rows = csv.writer(out)
        axes = ("precision", "algorithm", "block_size", "lm_head")
        ends = [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")]
        rows.writerow([*axes, *ends, *(f"expected_{name}" for name in EXPECTED)])
        for precision in ("int8", "int4"):
            for algorithm, quality in algorithms.items():
                for block in (32, 64, 128):
                    for head in ("same", "int8"):
                        wide = precision == "int8" or head == "int8"
                        loss = (0.01 if precision == "int8" else 1.0) * quality * block**0.5 * (0.9 if wide else 1)
                        tpot = {"int8": 8.0, "int4": 5.0}[precision] + 32 / block + 0.3 * wide
                        values = [tpot, tpot, loss, 1 + loss, 1.0, 100.0]
                        expected = [tpot / 2, tpot / 2, loss / 2, 1 + loss / 2, 100.0]
                        cells = [precision, algorithm, block, head if precision == "int4" else "same"]
                        rows.writerow([*cells, *(x for v in values for x in (v, v, v)), *expected])
    return read_table(tmp_path / "table.csv", config)


def test_a_table_holds_every_distinct_candidate_once(table: Table) -> None:
    keys = [record.recipe_key for record in table.records]
    assert len(keys) == len(set(keys))
    assert len({(r.params["precision"], r.params["block_size"]) for r in table.records}) == 6


def test_a_missing_row_is_named(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "k_quant" not in line))
    with pytest.raises(ValueError, match=r"no row for .*k_quant"):
        read_table(path, tmp_path / "small.yaml")


@pytest.mark.parametrize("sampler", ["forecast", "tpe", "nsga2", "random"])
def test_a_replay_measures_every_candidate_once_and_ends(table: Table, sampler: str) -> None:
    done = replay(table, sampler, seed=1, trials=100)
    assert sorted(r.number for r in done) == [r.number for r in table.records]
    assert Judge.of(table).shares(done)[-1] == pytest.approx(1)


def test_a_cost_model_that_ranks_rightly_needs_few_trials(table: Table) -> None:
    guided = np.median([trials_to(shares_of(table, "forecast", seed, 24)) for seed in range(3)])
    blind = np.median([trials_to(shares_of(table, "random", seed, 24)) for seed in range(3)])
    assert guided < blind


def test_the_page_names_budgets_where_the_default_is_behind(table: Table) -> None:
    ahead, behind = np.full((3, 100), 0.9), np.full((3, 100), 0.8)
    assert page(table, {"forecast": ahead, "random": behind})[-2].endswith("behind: none.")
    assert "random at 10, 11" in page(table, {"forecast": behind, "random": ahead})[-2]


def test_a_median_has_the_interval_of_its_sample() -> None:
    middle, low, high = median_interval(np.arange(101.0))
    assert middle == 50
    assert 35 < low < 50 < high < 65


@pytest.mark.parametrize("part", [False, True])
def test_a_goal_led_study_finds_the_best_recipe_within_the_limit(part: bool, table: Table) -> None:
    found = run_task(table, Task("goal", "tpot_ms", 0.1, 0, part=part))
    assert found.behind[1] == pytest.approx(0.0)
    assert found.keeping >= 0.25


def test_the_section_on_limits_has_a_row_for_each_of_them() -> None:
    lines = goal_section({task: Result((0.1, 0.02, 0.0), 0.75) for task in tasks()})
    for loss in LOSSES:
        assert any(line.startswith(f"| {1 + loss:.2f} | 12 | 2.0 % [2.0, 2.0]") for line in lines)
        assert any(line.startswith(f"| {1 + loss:.2f} | share within | 75 %") for line in lines)
    assert sum("2.0 % / 2.0 %" in line for line in lines) == 12
