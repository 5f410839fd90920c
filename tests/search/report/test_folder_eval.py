"""``olivine eval`` on tiny models and a text made in the test."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from olivine.evaluators.measurement import Measurement
from olivine.passes.errors import UsageError
from olivine.search.report.folder_bench import results_json
from olivine.search.report.folder_eval import ALONE, evaluate_folders, evaluation_table
from olivine.search.report.folder_warnings import evaluation_warnings, seen_in_calibration

WORDS = "The bank of the river was green and wide, and the old boat lay there all through the winter. "


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("text") / "river.txt"
    path.write_text("\n\n".join(f"{number}. {WORDS * (1 + number % 3)}" for number in range(30)))
    return str(path)


@pytest.fixture(scope="module")
def other_onnx(make_tiny_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with other random weights, and the same tokenizer."""
    from olivine.passes.export.export import Export

    home = tmp_path_factory.mktemp("other")
    (home / "onnx").mkdir()
    Export().apply(make_tiny_checkpoint(home / "checkpoint", seed=1), home / "onnx")
    return home / "onnx"


def by_metric(found: list[Measurement]) -> dict[str, Measurement]:
    return {m.metric: m for m in found}


def test_without_a_reference_a_model_speaks_for_itself(tiny_onnx: Path, text: str) -> None:
    found = evaluate_folders([tiny_onnx], None, text, windows=4, window_tokens=32)
    assert tuple(m.metric for m in found[str(tiny_onnx)]) == ALONE
    protocol = found[str(tiny_onnx)][0].protocol
    assert (protocol["text"], protocol["split"], protocol["windows"]) == ("river.txt", "all", 4)
    assert (protocol["window_tokens"], protocol["stride"], protocol["threads"]) == (32, 32, 1)


def test_beside_a_reference_every_metric_is_there(tiny_onnx: Path, other_onnx: Path, text: str) -> None:
    results = evaluate_folders([other_onnx], tiny_onnx, text, windows=4, window_tokens=32)
    assert list(results) == [str(tiny_onnx), str(other_onnx)]
    own, other = by_metric(results[str(tiny_onnx)]), by_metric(results[str(other_onnx)])
    assert (own["perplexity_ratio"].value, own["kl_divergence"].value, own["top1_agreement"].value) == (
        1,
        0,
        1,
    )
    assert other["kl_divergence"].value > 0
    quotient = other["perplexity"].value / own["perplexity"].value
    assert other["perplexity_ratio"].value == pytest.approx(quotient, rel=1e-5)
    assert set(json.loads(results_json(results))[str(other_onnx)]) >= {"perplexity_ratio", "top1_agreement"}
    console = Console(width=160, record=True, file=StringIO())
    console.print(evaluation_table(results, tiny_onnx))
    shown = console.export_text()
    assert "A: " in shown
    assert "KL divergence" in shown
    assert ": worse" in shown


def test_the_whole_text_is_scored_unless_windows_are_asked_for(tiny_onnx: Path, text: str) -> None:
    whole = evaluate_folders([tiny_onnx], None, text, windows=None, window_tokens=128)
    some = evaluate_folders([tiny_onnx], None, text, windows=None, window_tokens=128, split="select")
    tokens = [found[str(tiny_onnx)][0].protocol["tokens"] for found in (whole, some)]
    assert tokens[0] > tokens[1] > 0
    assert some[str(tiny_onnx)][0].protocol["split"] == "select"


def test_models_of_different_tokenizers_are_compared_by_bytes_only(tiny_onnx: Path, tmp_path: Path, text: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_onnx, other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = []  # every byte is a token now
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UsageError, match=r"different tokenizers .*bits_per_byte is what compares"):
        evaluate_folders([other], tiny_onnx, text, windows=2, window_tokens=32)
    found = evaluate_folders([tiny_onnx, other], None, text, windows=2, window_tokens=32)
    console = Console(width=160, record=True, file=StringIO())
    console.print(evaluation_table(found, None))
    assert "bits per byte between all" in " ".join(console.export_text().split())


def test_swapped_tokens_are_another_tokenizer_even_where_the_text_has_neither(
    tiny_onnx: Path, tmp_path: Path, text: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_onnx, other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["#"], vocabulary["$"] = vocabulary["$"], vocabulary["#"]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UsageError, match="the same ids stand for other tokens"):
        evaluate_folders([other], tiny_onnx, text, windows=2, window_tokens=32)


def test_mistakes_are_told_before_a_model_loads(tiny_onnx: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="Did you mean 'wikitext2-gptq'"):
        evaluate_folders([tiny_onnx], None, text, protocol_name="wikitext2-gpt")
    with pytest.raises(UsageError, match="takes 256 tokens"):
        evaluate_folders([tiny_onnx], None, text, protocol_name="wikitext2-gptq")
    with pytest.raises(UsageError, match="Unknown split 'tset'"):
        evaluate_folders([tiny_onnx], None, text, window_tokens=32, split="tset")
    with pytest.raises(UsageError, match="has no genai_config"):
        evaluate_folders([tmp_path], None, text, window_tokens=32)
    with pytest.raises(UsageError, match="too short"):
        evaluate_folders([tiny_onnx], None, text, windows=100_000, window_tokens=32)


def test_text_that_a_model_learned_from_is_a_warning_unless_the_split_keeps_it_apart(tmp_path: Path) -> None:
    (tmp_path / "olivine.json").write_text('{"calibration": {"text": "demo:news", "windows": 8, "seed": 0}}')
    about = {"text": "demo:news", "split": "all", "seed": 0, "windows": 30}
    said = seen_in_calibration(tmp_path, about)
    assert said is not None
    assert "8 windows of it were learned from" in said
    assert "--split confirm" in said
    assert seen_in_calibration(tmp_path, about | {"split": "confirm"}) is None
    assert seen_in_calibration(tmp_path, about | {"split": "confirm", "seed": 1}) is not None
    assert seen_in_calibration(tmp_path, about | {"text": "another"}) is None
    assert seen_in_calibration(tmp_path / "none", about) is None


def test_a_ratio_less_precise_than_asked_says_how_many_windows_would_do() -> None:
    wide = Measurement("perplexity_ratio", "ratio", 1.1, 1.06, 1.14, (1.1,) * 5, {})
    (said,) = evaluation_warnings({"m": [wide]}, 0.01)
    assert said.startswith("m: The text is too short")
    assert "80 windows" in said
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
