"""Bench of tiny models; no test looks at how long anything took."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from olivine.evaluators.bench import bench_folders
from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import SCENARIO_METRICS
from olivine.evaluators.model_folders import in_order
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.scenario.prompts import MOST_ANSWERS, read_prompts
from olivine.evaluators.scenario.scenario import Scenario
from olivine.passes.errors import UsageError

Results = dict[str, list[Measurement]]


def with_threads(source: Path, to: Path, threads: int) -> Path:
    shutil.copytree(source, to)
    config = json.loads((to / "genai_config.json").read_text())
    config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    (to / "genai_config.json").write_text(json.dumps(config))
    return to


@pytest.fixture(scope="module")
def folders(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same tiny model on one thread and on two."""
    home = tmp_path_factory.mktemp("bench")
    return with_threads(tiny_onnx, home / "one", 1), with_threads(tiny_onnx, home / "two", 2)


@pytest.fixture(scope="module")
def results(folders: tuple[Path, Path]) -> Results:
    return bench_folders(folders, None, PairedDecoderLatency(16, 4, 0.5, 1.0, max_rounds=8))


def test_every_folder_has_latency_and_memory(results: Results, folders: tuple[Path, Path]) -> None:
    assert list(results) == [str(folder) for folder in folders]
    for measured in results.values():
        metrics = {m.metric: m for m in measured}
        assert {"ttft_ms", "tpot_ms", "decode_tok_s", "tpot_speedup", "model_bytes", "peak_rss_bytes"} <= set(metrics)
        assert all(m.low <= m.value <= m.high for m in measured)


def test_the_reference_is_exactly_as_fast_as_itself(results: Results) -> None:
    reference = {m.metric: m for m in next(iter(results.values()))}
    assert (reference["tpot_speedup"].low, reference["tpot_speedup"].high) == (1.0, 1.0)


def test_measuring_ends_after_the_asked_rounds(folders: tuple[Path, Path]) -> None:
    measured = bench_folders(folders, None, PairedDecoderLatency(8, 3, 1e-9, 600.0, max_rounds=14))
    protocol = measured[str(folders[1])][-1].protocol
    assert (protocol["rounds"], protocol["ended_by"]) == (14, "max_rounds")


def test_what_truly_ran_is_stamped(results: Results, folders: tuple[Path, Path]) -> None:
    for folder, threads in zip(folders, (1, 2), strict=True):
        protocol = results[str(folder)][0].protocol
        assert (protocol["threads"], protocol["provider"]) == (threads, "CPUExecutionProvider")
        assert "onnxruntime-genai" in protocol["versions"]


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
        bench_folders([tiny_onnx, folder], None, PairedDecoderLatency(8, 4))


def test_all_impossible_numbers_are_named_at_once(tiny_onnx: Path) -> None:
    with pytest.raises(UsageError) as caught:
        bench_folders([tiny_onnx], None, PairedDecoderLatency(0, 1, 2.0, 0.0, max_rounds=3))
    for word in ("0 tokens", "1 new tokens", "half-width 2", "0 seconds", "3 rounds"):
        assert word in str(caught.value)


def test_a_scenario_is_timed_and_run_as_the_folder_is(folders: tuple[Path, Path]) -> None:
    used = Scenario(context=64, prompt_tokens=16, new_tokens=4)
    measured = bench_folders(folders, None, PairedDecoderLatency(8, 3, 0.5, 0.5, max_rounds=8), used)
    for found in measured.values():
        metrics = {m.metric: m for m in found}
        assert metrics.keys() >= set(SCENARIO_METRICS)
        assert metrics["ttft_ms"].protocol["prompt_tokens"] == 16
        assert metrics["deployed_rss_bytes"].protocol["provider"] == "CPUExecutionProvider"


def test_the_prompt_of_the_middle_of_a_file_is_timed(tiny_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a\n\nthe old boat\n\nthe old boat lay there all through the winter")
    used = Scenario(context=64, new_tokens=4, prompts=str(tmp_path / "p.txt"))
    lengths = [len(prompt.ids) for prompt in read_prompts(used, tiny_onnx)]
    measured = bench_folders([tiny_onnx], None, PairedDecoderLatency(8, 3, 0.5, 0.5, max_rounds=8), used)
    metrics = {m.metric: m for m in measured[str(tiny_onnx)]}
    assert metrics["ttft_ms"].protocol["prompt_tokens"] == lengths[1]
    assert metrics["deployed_rss_bytes"].protocol["prompts"] == [lengths[2]]


@pytest.mark.parametrize(
    ("prompts", "new_tokens", "message"),
    [
        (3, 20, "3 prompts; at least 4"),
        (4, 7, "answers of 7 tokens; at least 8"),
        (1, 2, "1 prompts.*answers of 2"),
    ],
)
def test_a_scenario_that_can_not_tell_what_guesses_gain_is_refused_before_any_model_loads(
    prompts: int, new_tokens: int, message: str, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_threads(tiny_onnx, tmp_path / "guessing", 1)
    config = json.loads((folder / "genai_config.json").read_text())
    (folder / "genai_config.json").write_text(json.dumps({**config, "speculative": {"ngram_size": 3}}))
    (tmp_path / "p.txt").write_text("\n\n".join(["the old boat"] * prompts))
    used = Scenario(context=64, new_tokens=new_tokens, prompts=str(tmp_path / "p.txt"))
    monkeypatch.setattr(ModelProcess, "open", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(UsageError, match=message):
        bench_folders([tiny_onnx, folder], None, PairedDecoderLatency(), used)


def test_of_many_prompts_those_that_a_study_would_time_are_answered(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.txt").write_text("\n\n".join("boat " * n for n in range(1, 31)))
    used = Scenario(context=200, new_tokens=20, prompts=str(tmp_path / "p.txt"))
    answered: list[tuple[int, ...]] = []

    def made(steps: PairedDecoderLatency, prompts: tuple[tuple[int, ...], ...]) -> PairedDecoderLatency:
        answered.extend(prompts)
        return steps

    monkeypatch.setattr("olivine.evaluators.bench.AnswerLatency", made)
    measured = bench_folders([tiny_onnx], None, PairedDecoderLatency(8, 3, 0.5, 0.5, max_rounds=8), used)
    given = [prompt.ids for prompt in read_prompts(used, tiny_onnx)]
    assert len(answered) == MOST_ANSWERS
    assert (answered[0], answered[-1]) == (given[0], given[-1])
    assert measured[str(tiny_onnx)][0].protocol["prompts_given"] == 30


def test_a_scenario_that_a_folder_makes_no_room_for_is_refused(tiny_onnx: Path, tmp_path: Path) -> None:
    folder = with_threads(tiny_onnx, tmp_path / "short", 1)
    config = json.loads((folder / "genai_config.json").read_text())
    config["search"]["max_length"] = 60
    (folder / "genai_config.json").write_text(json.dumps(config))
    for used, message in ((Scenario(context=64), "makes room for 60 tokens"), (Scenario(context=300), "takes 256")):
        with pytest.raises(UsageError, match=message):
            bench_folders([folder], None, PairedDecoderLatency(), used)


def test_more_tokens_than_the_context_are_refused(tiny_onnx: Path) -> None:
    with pytest.raises(UsageError, match="takes 256 tokens"):
        bench_folders([tiny_onnx], None, PairedDecoderLatency(250, 10))
