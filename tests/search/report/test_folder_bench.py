"""``olivine bench`` on tiny models; no test looks at how long anything took."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from olivine.evaluators.measurement import Measurement
from olivine.passes.errors import UsageError
from olivine.search.cli.main import parser
from olivine.search.report.folder_bench import (
    bench_folders,
    bench_table,
    in_order,
    results_json,
)
from olivine.search.report.folder_warnings import Results, bench_warnings, noise_warnings, thread_warnings


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("olivine.search.report.folder_warnings.available_cores", lambda: 2)


def shown(table: Any) -> str:
    console = Console(width=160, record=True, quiet=False, file=StringIO())
    console.print(table)
    return console.export_text()


def with_threads(source: Path, to: Path, threads: int) -> Path:
    shutil.copytree(source, to)
    config = json.loads((to / "genai_config.json").read_text())
    config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    (to / "genai_config.json").write_text(json.dumps(config))
    return to


def speedups(threads: int = 1, provider: str = "CPUExecutionProvider", **values: float) -> list[Measurement]:
    protocol = {"threads": threads, "provider": provider}
    return [
        Measurement(name, "ratio", value, value / 1.02, value * 1.02, (), protocol) for name, value in values.items()
    ]


@pytest.fixture(scope="module")
def folders(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same tiny model on one thread and on two."""
    home = tmp_path_factory.mktemp("bench")
    return with_threads(tiny_onnx, home / "one", 1), with_threads(tiny_onnx, home / "two", 2)


@pytest.fixture(scope="module")
def results(folders: tuple[Path, Path]) -> Results:
    return bench_folders(folders, None, 16, 4, half_width=0.5, max_seconds=1.0, rounds=8)


def test_every_folder_has_latency_and_memory(results: Results, folders: tuple[Path, Path]) -> None:
    assert list(results) == [str(folder) for folder in folders]
    for found in results.values():
        metrics = {m.metric: m for m in found}
        assert {"ttft_ms", "tpot_ms", "decode_tok_s", "tpot_speedup", "model_bytes", "peak_rss_bytes"} <= set(metrics)
        assert all(m.low <= m.value <= m.high for m in found)


def test_the_reference_is_exactly_as_fast_as_itself(results: Results) -> None:
    reference = {m.metric: m for m in next(iter(results.values()))}
    assert (reference["tpot_speedup"].low, reference["tpot_speedup"].high) == (1.0, 1.0)


def test_measuring_ends_after_the_asked_rounds(folders: tuple[Path, Path]) -> None:
    found = bench_folders(folders, None, 8, 3, half_width=1e-9, max_seconds=600.0, rounds=14)
    protocol = found[str(folders[1])][-1].protocol
    assert (protocol["rounds"], protocol["ended_by"]) == (14, "max_rounds")


def test_what_truly_ran_is_stamped(results: Results, folders: tuple[Path, Path]) -> None:
    for folder, threads in zip(folders, (1, 2), strict=True):
        protocol = results[str(folder)][0].protocol
        assert (protocol["threads"], protocol["provider"]) == (threads, "CPUExecutionProvider")
        assert "onnxruntime-genai" in protocol["versions"]


def test_unequal_threads_are_a_warning_that_names_the_cure(results: Results, folders: tuple[Path, Path]) -> None:
    (warning,) = thread_warnings(results, str(folders[0]))
    assert "2 threads" in warning
    assert f"intra_op_num_threads to 2 in {folders[0]}/genai_config.json" in warning
    assert "warning:" in shown(bench_table(results, folders[0]))


def test_equal_threads_and_other_providers_are_no_warning() -> None:
    assert thread_warnings({"a": speedups(2, tpot_speedup=1.0), "b": speedups(2, tpot_speedup=2.0)}, "a") == []
    other = speedups(8, "CUDAExecutionProvider", tpot_speedup=2.0)
    assert thread_warnings({"a": speedups(2, tpot_speedup=1.0), "b": other}, "a") == []


def test_more_threads_than_cores_are_a_warning() -> None:
    (warning,) = thread_warnings({"a": speedups(4, tpot_speedup=1.0)}, "a")
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


def test_json_has_the_form_of_the_contract(results: Results, folders: tuple[Path, Path]) -> None:
    found = json.loads(results_json(results))
    assert set(found) == {str(folder) for folder in folders}
    assert set(found[str(folders[1])]["tpot_speedup"]) == {"value", "low", "high", "unit"}


def test_an_unknown_end_of_an_interval_is_null() -> None:
    open_ended = Measurement("perplexity", "1", 2.0, float("-inf"), float("inf"))
    assert json.loads(results_json({"a": [open_ended]}))["a"]["perplexity"] == {
        "value": 2.0,
        "low": None,
        "high": None,
        "unit": "1",
    }


def test_a_folder_named_twice_is_measured_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    again = tmp_path / "a" / ".." / "a"
    assert in_order([again, tmp_path / "b"], tmp_path / "a") == (tmp_path / "a", [tmp_path / "b"])
    assert in_order([tmp_path / "b", tmp_path / "a"], None) == (tmp_path / "b", [tmp_path / "a"])
    assert in_order([tmp_path / "b", again], tmp_path / "a") == (tmp_path / "a", [tmp_path / "b"])


def _no_config(folder: Path) -> None:
    (folder / "genai_config.json").unlink()


def _no_json(folder: Path) -> None:
    (folder / "genai_config.json").write_text("{")


def _no_decoder(folder: Path) -> None:
    (folder / "genai_config.json").write_text('{"model": {}}')


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_no_config, "has no genai_config.json"),
        (_no_json, "is not JSON"),
        (_no_decoder, "names no model.decoder"),
    ],
)
def test_a_folder_without_a_model_is_refused(
    tiny_onnx: Path, tmp_path: Path, harm: Callable[[Path], None], message: str
) -> None:
    folder = with_threads(tiny_onnx, tmp_path / "model", 1)
    harm(folder)
    with pytest.raises(UsageError, match=message):
        bench_folders([tiny_onnx, folder], None, 8, 4, 0.02, 1.0)


def test_all_impossible_numbers_are_named_at_once(tiny_onnx: Path) -> None:
    with pytest.raises(UsageError) as caught:
        bench_folders([tiny_onnx], None, 0, 1, 2.0, 0.0, rounds=3)
    for word in ("0 tokens", "1 new tokens", "half-width 2", "0 seconds", "3 rounds"):
        assert word in str(caught.value)


@pytest.mark.parametrize("command", ["bench", "eval"])
def test_a_half_width_is_a_share(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parser().parse_args([command, "a", "--half-width", "1%"]).half_width == pytest.approx(0.01)
    for wrong in ("0", "200%", "wide"):
        with pytest.raises(SystemExit) as caught:
            parser().parse_args([command, "a", "--half-width", wrong])
        assert caught.value.code == 2
        assert f"'{wrong}' is no share between 0 and 1; give it as 2% or 0.02" in capsys.readouterr().err


def test_more_tokens_than_the_context_are_refused(tiny_onnx: Path) -> None:
    with pytest.raises(UsageError, match="takes 256 tokens"):
        bench_folders([tiny_onnx], None, 250, 10, 0.02, 1.0)
