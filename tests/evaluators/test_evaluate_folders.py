"""Quality of tiny models on a text made in the test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from olivine.evaluators.evaluate_folders import ALONE, ScoredText, evaluate_against_checkpoint, evaluate_folders
from olivine.evaluators.measurement import Measurement
from olivine.passes.errors import UsageError

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


def by_metric(measured: list[Measurement]) -> dict[str, Measurement]:
    return {m.metric: m for m in measured}


def test_without_a_reference_a_model_speaks_for_itself(tiny_onnx: Path, text: str) -> None:
    measured = evaluate_folders([tiny_onnx], None, ScoredText(text, windows=4, window_tokens=32))
    assert tuple(m.metric for m in measured[str(tiny_onnx)]) == ALONE
    protocol = measured[str(tiny_onnx)][0].protocol
    assert (protocol["text"], protocol["split"], protocol["windows"]) == ("river.txt", "all", 4)
    assert (protocol["window_tokens"], protocol["stride"], protocol["threads"]) == (32, 32, 1)


def test_beside_a_reference_every_metric_is_there(tiny_onnx: Path, other_onnx: Path, text: str) -> None:
    results = evaluate_folders([other_onnx], tiny_onnx, ScoredText(text, windows=4, window_tokens=32))
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


def test_the_whole_text_is_scored_unless_windows_are_asked_for(tiny_onnx: Path, text: str) -> None:
    whole = evaluate_folders([tiny_onnx], None, ScoredText(text, windows=None, window_tokens=128))
    some = evaluate_folders([tiny_onnx], None, ScoredText(text, windows=None, window_tokens=128, split="select"))
    tokens = [measured[str(tiny_onnx)][0].protocol["tokens"] for measured in (whole, some)]
    assert tokens[0] > tokens[1] > 0
    assert some[str(tiny_onnx)][0].protocol["split"] == "select"


def test_models_of_different_tokenizers_are_compared_by_bytes_only(tiny_onnx: Path, tmp_path: Path, text: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_onnx, other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = []  # every byte is a token now
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UsageError, match=r"different tokenizers .*bits_per_byte is what compares"):
        evaluate_folders([other], tiny_onnx, ScoredText(text, windows=2, window_tokens=32))
    measured = evaluate_folders([tiny_onnx, other], None, ScoredText(text, windows=2, window_tokens=32))
    assert all({m.metric for m in measurements} == set(ALONE) for measurements in measured.values())


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
        evaluate_folders([other], tiny_onnx, ScoredText(text, windows=2, window_tokens=32))


def test_mistakes_are_told_before_a_model_loads(tiny_onnx: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="Did you mean 'wikitext2-gptq'"):
        evaluate_folders([tiny_onnx], None, ScoredText(text, protocol_name="wikitext2-gpt"))
    with pytest.raises(UsageError, match="takes 256 tokens"):
        evaluate_folders([tiny_onnx], None, ScoredText(text, protocol_name="wikitext2-gptq"))
    with pytest.raises(UsageError, match="Unknown split 'tset'"):
        evaluate_folders([tiny_onnx], None, ScoredText(text, window_tokens=32, split="tset"))
    with pytest.raises(UsageError, match="has no genai_config"):
        evaluate_folders([tmp_path], None, ScoredText(text, window_tokens=32))
    with pytest.raises(UsageError, match="too short"):
        evaluate_folders([tiny_onnx], None, ScoredText(text, windows=100_000, window_tokens=32))


def test_a_checkpoint_read_layer_by_layer_is_a_reference_as_its_graph_is(
    tiny_llama: Path, tiny_onnx: Path, other_onnx: Path, text: str
) -> None:
    scored = ScoredText(text, windows=4, window_tokens=32)
    notes: list[str] = []
    streamed = evaluate_against_checkpoint([tiny_onnx, other_onnx], tiny_llama, scored, notes.append)
    loaded = evaluate_folders([other_onnx], tiny_onnx, scored)
    assert list(streamed) == [str(tiny_llama), str(tiny_onnx), str(other_onnx)]
    assert [note.split(",")[1] for note in notes] == [" layer 1 of 2", " layer 2 of 2"]
    assert by_metric(streamed[str(tiny_onnx)])["kl_divergence"].value < 1e-6
    for name, measurement in by_metric(loaded[str(other_onnx)]).items():
        assert by_metric(streamed[str(other_onnx)])[name].value == pytest.approx(measurement.value, rel=1e-3)
    assert by_metric(streamed[str(tiny_llama)])["perplexity_ratio"].value == 1


def test_a_checkpoint_with_other_tokens_is_no_reference(
    make_tiny_checkpoint: Callable[..., Path], tiny_onnx: Path, text: str, tmp_path: Path
) -> None:
    wider = make_tiny_checkpoint(tmp_path / "wider", vocab=352)
    with pytest.raises(UsageError, match="have different tokenizers"):
        evaluate_against_checkpoint([tiny_onnx], wider, ScoredText(text, windows=4, window_tokens=32), print)
