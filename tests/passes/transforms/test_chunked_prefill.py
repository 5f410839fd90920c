from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olivine.evaluators.process.client import Loop, ModelProcess
from olivine.passes.artifact import GENAI_CONFIG
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError
from olivine.passes.transforms.chunked_prefill import CHUNK_SIZES, ChunkedPrefill

PROMPT = [int(token) for token in np.random.default_rng(3).integers(4, 300, 150)]


@pytest.fixture
def in_pieces(tiny_onnx: Path, tmp_path: Path) -> Path:
    """The tiny model with prompts in pieces of 64 tokens: PROMPT takes three."""
    folder = Path(shutil.copytree(tiny_onnx, tmp_path / "pieces"))
    config = ChunkedPrefill(64).edited(json.loads((folder / GENAI_CONFIG).read_text()))
    (folder / GENAI_CONFIG).write_text(json.dumps(config))
    return folder


def test_the_size_of_a_piece_is_an_option_of_the_search() -> None:
    config: dict[str, Any] = {"search": {"max_length": 8}}
    assert ChunkedPrefill(256).edited(config) == {"search": {"max_length": 8, "chunk_size": 256}}
    assert config == {"search": {"max_length": 8}}
    assert ChunkedPrefill(256).edited({}) == {"search": {"chunk_size": 256}}


def test_genai_keeps_the_logits_of_a_piece_at_a_time(in_pieces: Path) -> None:
    import onnxruntime_genai as genai

    model = genai.Model(str(in_pieces))
    params = genai.GeneratorParams(model)
    params.set_search_options(max_length=160, do_sample=False)
    generator = genai.Generator(model, params)
    generator.append_tokens(np.array(PROMPT, dtype=np.int32))
    assert np.asarray(generator.get_output("logits")).shape[1] == len(PROMPT) - 2 * 64


@pytest.mark.parametrize("loop", ["genai", "session"])
def test_pieces_change_no_token_and_every_position_is_scored(
    tiny_onnx: Path, in_pieces: Path, tmp_path: Path, loop: Loop
) -> None:
    windows = [(PROMPT, len(PROMPT) - 1)]
    with ModelProcess.open(tiny_onnx) as whole, ModelProcess.open(in_pieces, loop=loop) as pieces:
        written = [process.generate_until(PROMPT, 12, lambda ids: False) for process in (whole, pieces)]
        assert written[0] == written[1]
        assert len(pieces.prefill(PROMPT, 4).ms) == 1
        whole.reference(windows, tmp_path / "reference.npz", 8)
        score = pieces.score(tmp_path / "reference.npz", 0)
        assert score.tokens == score.agree == len(PROMPT) - 1
        assert score.kl == pytest.approx(0, abs=1e-5)


def test_unknown_sizes_are_mistakes() -> None:
    for size in (0, 100):
        with pytest.raises(UsageError, match=f"unknown chunk_size '{size}'"):
            ChunkedPrefill(size)


def test_only_a_recipe_that_names_a_size_has_such_a_step() -> None:
    plain = LANGUAGE.compose({"threads": 1})
    assert LANGUAGE.compose({"threads": 1, "chunk_size": 0}) == plain
    assert "chunk_size" not in LANGUAGE.canonical({"threads": 1, "chunk_size": 0})
    for size in CHUNK_SIZES[1:]:
        (step,) = set(LANGUAGE.compose({"threads": 1, "chunk_size": size}).steps) - set(plain.steps)
        assert (step.name, step.params) == ("chunked_prefill", {"chunk_size": size})
    assert LANGUAGE.compose({"provider": "cuda", "chunk_size": 64}) == LANGUAGE.compose({"provider": "cuda"})
