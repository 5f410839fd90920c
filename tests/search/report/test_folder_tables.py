"""Tables, JSON and warnings of ``olivine bench`` and ``olivine eval``."""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from olivine.evaluators.measurement import Measurement
from olivine.search.report.folder_tables import bench_table, evaluation_table, tasks_table
from olivine.search.report.folder_warnings import (
    bench_warnings,
    evaluation_warnings,
    noise_warnings,
    prompt_warnings,
    seen_in_calibration,
    thread_warnings,
)


def shown(table: Any) -> str:
    console = Console(width=160, record=True, quiet=False, file=StringIO())
    console.print(table)
    return console.export_text()


def speedups(threads: int = 1, provider: str = "CPUExecutionProvider", **values: float) -> list[Measurement]:
    protocol = {"threads": threads, "provider": provider}
    return [
        Measurement(name, "ratio", value, value / 1.02, value * 1.02, (), protocol) for name, value in values.items()
    ]


def test_unequal_threads_are_a_warning_that_names_the_cure() -> None:
    results = {"a": speedups(1, tpot_speedup=1.0), "b": speedups(2, tpot_speedup=2.0)}
    (warning,) = thread_warnings(results, "a", cores=2)
    assert "2 threads" in warning
    assert "intra_op_num_threads to 2 in a/genai_config.json" in warning
    assert "warning:" in shown(bench_table(results, Path("a")))


def test_equal_threads_and_other_providers_are_no_warning() -> None:
    assert thread_warnings({"a": speedups(2, tpot_speedup=1.0), "b": speedups(2, tpot_speedup=2.0)}, "a", cores=2) == []
    other = speedups(8, "CUDAExecutionProvider", tpot_speedup=2.0)
    assert thread_warnings({"a": speedups(2, tpot_speedup=1.0), "b": other}, "a", cores=2) == []


def test_more_threads_than_cores_are_a_warning() -> None:
    (warning,) = thread_warnings({"a": speedups(4, tpot_speedup=1.0)}, "a", cores=2)
    assert warning.startswith("a: It runs 4 threads on 2 cores")
    assert "intra_op_num_threads" in warning


def test_what_a_measurement_was_doubtful_of_is_shown_once_per_folder() -> None:
    doubtful = [Measurement(m, "ratio", 2.0, 1.9, 2.1, (), {"cautions": ["The host kept 9%"]}) for m in ("a", "b")]
    assert bench_warnings({"x": doubtful}, "x") == ["x: The host kept 9%"]


def test_wide_intervals_bring_a_warning_with_the_cure() -> None:
    protocol = {"asked_half_width": 0.02, "rounds": 9, "foreign_cores": 1.25}
    noisy = Measurement("tpot_speedup", "ratio", 2.0, 1.5, 2.5, (), protocol | {"reached_half_width": 0.2554})
    calm = Measurement("tpot_speedup", "ratio", 2.0, 1.9, 2.1, (), protocol | {"reached_half_width": 0.0199})
    (warning,) = noise_warnings({"noisy": [noisy], "calm": [calm]})
    assert warning.startswith(
        "noisy: after 9 rounds the intervals reach ±25.5%, not the asked ±2.0%, noise of neighbours left aside"
    )
    assert "--seconds" in warning


def test_the_table_says_which_is_faster_by_how_much() -> None:
    results = {
        "a": [Measurement.exact("tpot_speedup", "ratio", 1.0)],
        "b": speedups(tpot_speedup=1.42, ttft_speedup=1.01),
        "c": speedups(tpot_speedup=0.5),
    }
    results["a"].append(Measurement.exact("ttft_speedup", "ratio", 1.0))
    text = shown(bench_table(results, Path("a")))
    assert "A: a (reference)" in text
    assert "B decodes 1.42x faster, 1.39 to 1.45" in text
    assert "no difference found" in text
    assert "C decodes 2.00x slower, 1.96 to 2.04" in text


def test_quality_is_worse_or_better_than_the_reference_s() -> None:
    results = {
        "a": [Measurement.exact("kl_divergence", "nats", 0.0), Measurement.exact("perplexity_ratio", "ratio", 1.0)],
        "b": [
            Measurement("kl_divergence", "nats", 0.2, 0.1, 0.3, (0.2,) * 9),
            Measurement("perplexity_ratio", "ratio", 1.2, 1.199, 1.201, (1.2,) * 9),
        ],
    }
    text = shown(evaluation_table(results, Path("a")))
    assert "A: a (reference)" in text
    assert "KL divergence" in text
    assert ": worse" in text
    assert "bits per byte between all" in " ".join(shown(evaluation_table(results, None)).split())


def test_tasks_show_the_difference_on_the_same_questions() -> None:
    def task(*hits: float) -> Measurement:
        value = sum(hits) / len(hits)
        protocol = {"questions": len(hits), "higher_is_better": True}
        return Measurement("arc.acc", "1", value, value - 0.1, value + 0.1, hits, protocol)

    text = shown(tasks_table({"a": [task(1, 1, 1, 0)], "b": [task(1, 0, 0, 0)]}, Path("a")))
    assert "B arc.acc" in " ".join(text.split())
    assert "-0.500 (" in text


def test_text_that_a_model_learned_from_is_a_warning_unless_the_split_keeps_it_apart(tmp_path: Path) -> None:
    (tmp_path / "olivine.json").write_text('{"calibration": {"text": "demo:news", "windows": 8, "seed": 0}}')
    about = {"text": "demo:news", "split": "all", "seed": 0, "windows": 30}
    warning = seen_in_calibration(tmp_path, about)
    assert warning is not None
    assert "8 windows of it were learned from" in warning
    assert "--split confirm" in warning
    assert seen_in_calibration(tmp_path, about | {"split": "confirm"}) is None
    assert seen_in_calibration(tmp_path, about | {"split": "confirm", "seed": 1}) is not None
    assert seen_in_calibration(tmp_path, about | {"text": "another"}) is None
    assert seen_in_calibration(tmp_path / "none", about) is None


def test_a_ratio_less_precise_than_asked_says_how_many_windows_would_do() -> None:
    wide = Measurement("perplexity_ratio", "ratio", 1.1, 1.06, 1.14, (1.1,) * 5, {})
    (warning,) = evaluation_warnings({"m": [wide]}, 0.01)
    assert warning.startswith("m: The text is too short")
    assert "80 windows" in warning
    assert evaluation_warnings({"m": [wide]}, 0.05) == []


def test_one_window_gives_no_interval_and_says_so() -> None:
    alone = Measurement("perplexity_ratio", "ratio", 1.1, 0.0, math.inf, (1.1,), {})
    itself = Measurement("perplexity_ratio", "ratio", 1.0, 0.0, math.inf, (1.0,), {})
    console = Console(width=200)
    with console.capture() as captured:
        console.print(evaluation_table({"base": [itself], "m": [alone]}, Path("base")))
    text = captured.get()
    assert "1.100 ±?" in text
    assert "no difference found: too few samples for an interval" in text
    assert text.count("warning:") == 1
    assert "warning: m: Too few windows (1)" in text


def test_guesses_that_were_timed_on_a_part_of_the_prompts_are_told_of() -> None:
    def timed(answered: int) -> Measurement:
        return Measurement.exact("tpot_ms", "ms", 1.0, guesses={"answered": answered}, prompts_given=30)

    (told,) = prompt_warnings({"some": [timed(12)], "all": [timed(30)], "none": []})
    assert told == "some: its guesses were timed on answers to 12 of the 30 prompts, evenly by length."
