"""The plain session is GenAI's loop: the same logits, the same tokens, the same protocol of its process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.gpu import parse
from olivine.evaluators.process.servers.session import OnnxSession, session_options

PROMPT = [5, 17, 42, 99, 7]


@pytest.fixture(scope="module")
def config(tiny_onnx: Path) -> dict[str, object]:
    parsed: dict[str, object] = json.loads((tiny_onnx / "genai_config.json").read_text())
    return parsed


def test_prompt_and_steps_are_those_of_genai(tiny_onnx: Path, config: dict[str, object]) -> None:
    import onnxruntime_genai as genai

    model = genai.Model(str(tiny_onnx))
    params = genai.GeneratorParams(model)
    params.set_search_options(max_length=16, min_length=16, do_sample=False)
    generator = genai.Generator(model, params)
    generator.append_tokens(np.array(PROMPT, dtype=np.int32))
    expected = np.asarray(generator.get_output("logits"))[0]

    session = OnnxSession(ort, tiny_onnx, config)
    np.testing.assert_allclose(session.start(PROMPT), expected, rtol=1e-4, atol=1e-4)
    tokens = []
    for _ in range(6):
        generator.generate_next_token()
        tokens.append(session.token)
        session.step()
    assert tokens == list(generator.get_sequence(0)[len(PROMPT) :])


def test_a_prompt_starts_on_an_empty_cache(tiny_onnx: Path, config: dict[str, object]) -> None:
    session = OnnxSession(ort, tiny_onnx, config)
    first = session.start(PROMPT).copy()
    session.step()
    np.testing.assert_array_equal(session.start(PROMPT), first)


def test_a_model_process_by_either_loop_scores_alike(tiny_onnx: Path, tmp_path: Path) -> None:
    windows = [([*PROMPT, 11, 12, 13], 4)]
    with ModelProcess.open(tiny_onnx) as genai, ModelProcess.open(tiny_onnx, loop="session") as plain:
        genai.reference(windows, tmp_path / "ref.npz", 8)
        score = plain.score(tmp_path / "ref.npz", 0)
        assert score.kl == pytest.approx(0, abs=1e-5)
        assert score.agree == score.tokens == 4
        assert len(plain.prefill(PROMPT).ms) == 1
        assert len(plain.decode(3).ms) == 3
        assert plain.stats().peak_rss_bytes > 1e6
        assert plain.stats().gpu_bytes is None
        plain.restart()
        plain.reload()
        assert len(plain.prefill(PROMPT).ms) == 1, "a fresh process runs by the same loop"
        assert plain.loaded is not None
        assert "onnxruntime " in plain.loaded.runtime


@pytest.mark.parametrize(
    ("options", "threads"), [({}, 1), ({"intra_op_num_threads": 0}, 0), ({"intra_op_num_threads": 3}, 3)]
)
def test_threads_are_those_that_genai_would_take(options: dict[str, int], threads: int) -> None:
    assert session_options(ort, {"session_options": options}).intra_op_num_threads == threads


def test_an_unknown_optimization_level_is_an_error(tiny_onnx: Path, config: dict[str, object]) -> None:
    changed = json.loads(json.dumps(config))
    changed["model"]["decoder"]["session_options"]["graph_optimization_level"] = "ORT_ENABLE_MAGIC"
    with pytest.raises(ValueError, match="ORT_ENABLE_MAGIC"):
        OnnxSession(ort, tiny_onnx, changed)


@pytest.mark.parametrize(
    ("output", "expected"), [("1024\n", 2**30), ("512\n2048\n", 2**29), ("[N/A]\n", None), ("", None)]
)
def test_the_driver_answers_in_mebibytes_or_not_at_all(output: str, expected: int | None) -> None:
    assert parse(output) == expected
