from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import transformers as tf
from tiny import tiny_sizes

from olivine.passes.catalog import LANGUAGE
from olivine.passes.pipeline import build
from olivine.passes.quantize.experts import experts_note, float_expert_bytes
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache

SIZES = tiny_sizes()
INT8 = LANGUAGE.compose({"precision": "int8", "algorithm": "rtn", "block_size": 32})


def test_a_quantized_mixture_says_how_many_bytes_of_experts_stay_float(
    tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    config = tf.GptOssConfig(**SIZES, head_dim=16, num_local_experts=4, num_experts_per_tok=2, sliding_window=64)
    source, cache = resolve(str(make_tiny_checkpoint(tmp_path / "moe", config=config))), Cache(tmp_path / "cache")
    for _ in range(2):  # also where it comes from the cache
        built = build(source, INT8, cache)
        (note,) = [result.note for result in built.passes if result.note]
        assert note.startswith("its experts stay float: 0.8 of its 1.0 MB")
    # Two layers of four experts: gate and up, down, and their biases.
    weights = 2 * 4 * (64 * 256 + 256 + 128 * 64 + 64)
    assert float_expert_bytes(built.artifact.onnx_path()) == 4 * weights
    assert not [result.note for result in build(source, LANGUAGE.compose({}), cache).passes if result.note]


def test_a_model_without_experts_has_nothing_to_say(tiny_onnx: Path) -> None:
    assert experts_note(tiny_onnx / "model.onnx", 1) == ""
