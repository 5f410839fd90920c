from __future__ import annotations

import math
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType
from study_folder import OBJECTIVES, REASON_FAILED, entry, record, records, write_study

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import METRICS
from olivine.search.front_csv import front_axes, read_front
from olivine.search.report.formatting import duration_text, interval_text, measured_text, value_text
from olivine.search.report.tables import compare_table, front_table, trials_table
from olivine.search.report.verdict import ratio, verdict

Ends = tuple[float, float, float]


def shown(table: RenderableType, width: int = 200) -> str:
    console = Console(width=width, record=True, file=StringIO())
    console.print(table)
    return console.export_text()


def measured(metric: str, value: float, low: float, high: float) -> Measurement:
    return Measurement(metric, METRICS[metric].unit, value, low, high)


def test_trials_table_has_every_trial_its_state_and_its_reason() -> None:
    text = shown(trials_table(records(), OBJECTIVES))
    rows = [line for line in text.splitlines() if line.split()[1:2] in (["complete"], ["infeasible"], ["failed"])]
    assert len(rows) == 16
    assert "2.91x ±0.06" in text
    assert REASON_FAILED in text


def test_text_from_a_trial_is_never_read_as_markup() -> None:
    odd = replace(record(15), reason="tensor [bold]x[/] is [red]bad", params={"block_size": "[/]"})
    assert "tensor [bold]x[/] is [red]bad" in shown(trials_table([odd, record(1)], OBJECTIVES))


def test_compare_table_lists_what_differs_and_says_what_follows() -> None:
    text = shown(compare_table(record(1), record(7)))
    assert "int8_share" in text
    assert "block_size" not in text
    assert "B decodes 1.21x faster, 1.17 to 1.24" in text
    assert "B is 1.19x smaller" in text


def test_compare_table_of_equal_recipes_says_so() -> None:
    text = shown(compare_table(record(1), replace(record(1), number=9)))
    assert "their recipes are equal" in text
    assert "no difference found" in text


def test_compare_table_shows_why_a_trial_has_no_numbers() -> None:
    text = shown(compare_table(record(1), record(15)))
    assert "trial 15 is failed" in text
    assert "not measured in both" in text


@pytest.mark.parametrize(
    ("metric", "a", "b", "words"),
    [
        (
            "tpot_speedup",
            (2, 1.9, 2.1),
            (2.1, 2.0, 2.2),
            "no difference found (0.98 to 1.13)",
        ),
        ("tpot_speedup", (2, 2, 2), (1, 1, 1), "B decodes 2.00x slower"),
        ("tpot_speedup", (1, 1, 1), (0.99, 0.987, 0.996), "B decodes 1.010x slower, 1.004 to 1.013"),
        (
            "tpot_speedup",
            (1, 1, 1),
            (1.1, 0, math.inf),
            "no difference found: too few samples",
        ),
        (
            "perplexity_ratio",
            (1, 1, 1),
            (1.1, -math.inf, math.inf),
            "no difference found: too few samples",
        ),
        ("model_bytes", (2e8, 2e8, 2e8), (2e8, 2e8, 2e8), "equal"),
        (
            "ttft_ms",
            (100, 99, 101),
            (50, 49.5, 50.5),
            "B takes 2.00x less time to the first token",
        ),
        (
            "kl_divergence",
            (0, 0, 0),
            (0.05, 0.04, 0.06),
            "B is 0.05 higher, 0.04 to 0.06: worse",
        ),
        (
            "top1_agreement",
            (0.9, 0.9, 0.9),
            (0.95, 0.95, 0.95),
            "B is 5.0 points higher: better",
        ),
    ],
)
def test_verdicts(metric: str, a: Ends, b: Ends, words: str) -> None:
    assert verdict(measured(metric, *a), measured(metric, *b)).startswith(words)


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.floats(0, 0.5), st.floats(0, 0.5))
def test_ratio_turns_round_when_the_two_are_swapped(a: float, b: float, spread_a: float, spread_b: float) -> None:
    one, other = entry("tpot_ms", a, spread_a), entry("tpot_ms", b, spread_b)
    forth, back = ratio(one, other), ratio(other, one)
    assert forth.value == pytest.approx(b / a)
    assert forth.low == pytest.approx(1 / back.high)
    assert math.log(forth.high / forth.low) == pytest.approx(2 * math.hypot(spread_a, spread_b), abs=1e-9)


def test_an_unbounded_interval_can_never_decide() -> None:
    known, endless = measured("tpot_speedup", 1, 1, 1), measured("tpot_speedup", 9, -math.inf, math.inf)
    assert verdict(known, endless).startswith("no difference")


def test_front_table_marks_the_selected_row_and_shows_intervals(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    rows = read_front(study)
    text = shown(front_table(rows))
    marked = next(line for line in text.splitlines() if "*" in line)
    assert marked.split()[1] == "7"
    assert "1.058 ±0.006" in marked
    assert "int8_share 0.3" in marked
    assert front_axes(rows)[:1] == ["precision"]


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("tpot_speedup", 2.4141, "2.41x"),
        ("model_bytes", 226e6, "226 MB"),
        ("model_bytes", 1.5e9, "1.5 GB"),
        ("ttft_ms", 212.4, "212 ms"),
        ("tpot_ms", 6.7354, "6.74 ms"),
        ("kl_divergence", 0.00431, "0.0043"),
        ("top1_agreement", 0.9642, "96.4 %"),
        ("perplexity_ratio", 1.0065, "1.006"),
        ("perplexity", math.inf, "∞"),
    ],
)
def test_values_read_in_their_units(metric: str, value: float, text: str) -> None:
    assert value_text(metric, value) == text


def test_measurements_carry_their_uncertainty() -> None:
    assert measured_text(measured("tpot_ms", 6.74, 6.5, 6.9)) == "6.74 ±0.24 ms"
    assert measured_text(measured("model_bytes", 2e8, 2e8, 2e8)) == "200 MB"
    assert measured_text(measured("tpot_speedup", 2, -math.inf, math.inf)) == "2.00x ±?"
    assert interval_text(measured("tpot_speedup", 2, 1.9, 2.1)) == "2.00x (1.90 to 2.10)"
    assert measured_text(None) == ""


def test_durations() -> None:
    found = [duration_text(seconds) for seconds in (0.42, 42, 185, 7620, 59.7)]
    assert found == ["0.4 s", "42 s", "3 min 05 s", "2 h 07 min", "1 min 00 s"]


@pytest.mark.parametrize("width", [120, 80, 40])
def test_two_trials_are_compared_in_any_width(width: int) -> None:
    text = shown(compare_table(record(1), record(7)), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "B decodes 1.21x faster" in " ".join(text.split())
    assert "…" not in text
