from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from olivine.passes.catalog import LANGUAGE
from olivine.passes.graph import HEAD, Linear, linears, load_graph
from olivine.passes.learn.calibrated import Calibrated
from olivine.passes.learn.calibration import store_tokens
from olivine.passes.pipeline import build, calibrated
from olivine.passes.quantize.activations.integer_matmul import TOP, ChannelCodes, channel_codes, channel_scales
from olivine.passes.quantize.activations.learned_weights import learned_codes, quieted
from olivine.passes.quantize.blocks.gptq import feedback, round_channels
from olivine.passes.quantize.expected_loss import expected_losses
from olivine.passes.quantize.layer_format import DynamicInt8
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache
from tests.tiny import tiny_checkpoint

RANDOM = np.random.default_rng(0)
GATE, UP, DOWN, MERGED = (f"layers.0/{role}" for role in ("gate_proj", "up_proj", "down_proj", "gate_up_proj"))
INT8 = {"precision": "int8", "activations": "int8", "dynamic_weights": "learned", "reduce_range": True, "threads": 1}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "llama")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def text(cache: Cache) -> str:
    return store_tokens(cache, np.random.default_rng(0).integers(4, 300, size=(4, 24)))


@pytest.fixture(scope="module")
def levels(checkpoint: Path, cache: Cache, text: str) -> dict[str, Calibrated]:
    """Fusion level -> what passes may learn of its graph; all in one cache."""
    source = resolve(str(checkpoint))
    return {
        level: calibrated(source, LANGUAGE.compose({**INT8, "fusion_level": level}), cache, text)
        for level in ("none", "qkv", "full")
    }


def layers_of(about: Calibrated) -> dict[str, Linear]:
    return {layer.path: layer for layer in linears(load_graph(about.graph.onnx_path())) if layer.path != HEAD}


def codes_of(about: Calibrated) -> dict[str, ChannelCodes]:
    return learned_codes(list(layers_of(about).values()), TOP, about)


def test_rounding_that_is_learned_changes_the_output_less_than_rounding_to_nearest() -> None:
    x = (RANDOM.normal(size=(2000, 64)) @ RANDOM.normal(size=(64, 64))).astype(np.float32)
    weight = RANDOM.normal(size=(64, 48)).astype(np.float32)
    scales = channel_scales(weight)
    order, moves, _ = feedback(x.T @ x / len(x))
    learned = round_channels(weight, order, moves, scales, TOP)
    errors = [np.square(x @ (weight - codes * scales)).mean() for codes in (learned, channel_codes(weight))]
    assert learned.dtype == np.int8
    assert errors[0] < 0.5 * errors[1]


def test_codes_stay_within_the_largest_and_channels_of_zeros_are_zeros() -> None:
    weight = RANDOM.normal(size=(32, 8)).astype(np.float32)
    weight[:, 3] = 0
    hessian = np.diag(RANDOM.uniform(1, 2, 32)).astype(np.float32)
    order, moves, _ = feedback(hessian)
    codes = round_channels(weight, order, moves, channel_scales(weight, 63), 63)
    assert np.abs(codes.astype(int)).max() == 63
    assert not codes[:, 3].any()


def test_without_correlations_rounding_to_nearest_remains() -> None:
    weight = RANDOM.normal(size=(32, 8)).astype(np.float32)
    order, moves, _ = feedback(np.eye(32, dtype=np.float32))
    assert np.array_equal(round_channels(weight, order, moves, channel_scales(weight), TOP), channel_codes(weight))


def test_codes_stand_for_the_weights_of_their_own_graph(levels: dict[str, Calibrated]) -> None:
    for about in levels.values():
        codes, layers = codes_of(about), layers_of(about)
        factors = quieted(list(layers.values()), about)
        for path, layer in layers.items():
            weight = layer.array() * factors.get(layer.reads, np.ones(layer.shape[0], np.float32))[:, None]
            assert np.abs(codes[path].codes() * codes[path].scales() - weight).max() < 6 * codes[path].scales().max()


def test_merged_layers_have_the_codes_of_what_they_merge_and_all_are_learned_once(
    levels: dict[str, Calibrated],
) -> None:
    usual, full, _ = (codes_of(levels[level]) for level in ("qkv", "full", "none"))
    for name in ("codes", "scales"):
        parts = [getattr(usual[path], name)() for path in (GATE, UP)]
        assert np.array_equal(getattr(full[MERGED], name)(), np.concatenate(parts, axis=-1))
    root = levels["qkv"].cache.root
    assert len({file.parent for file in root.rglob("layers.0.down_proj.npz")}) == 1


def test_only_what_down_proj_reads_is_quieted(levels: dict[str, Calibrated]) -> None:
    layers = layers_of(levels["full"])
    assert set(quieted(list(layers.values()), levels["full"])) == {
        layer.reads for path, layer in layers.items() if path.endswith("down_proj")
    }


@pytest.mark.parametrize("word", ["token", "token_down", "token_outputs"])
def test_a_model_with_learned_weights_runs_no_more_nodes(checkpoint: Path, cache: Cache, text: str, word: str) -> None:
    kinds = []
    for rounding in ("nearest", "learned"):
        choice = {**INT8, "activation_range": word, "dynamic_weights": rounding, "fusion_level": "full"}
        folder = build(resolve(str(checkpoint)), LANGUAGE.compose(choice), cache, text).artifact.path
        graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
        kinds.append(Counter(node.op_type for node in graph.node))
    assert kinds[0] == kinds[1]


def test_learned_weights_are_expected_to_lose_less(levels: dict[str, Calibrated]) -> None:
    losses = expected_losses(levels["full"])
    for path, loss in losses.items():
        if path != HEAD:
            learned, nearest = (loss.of_dynamic(DynamicInt8(TOP, by_token=True, learned=how)) for how in (True, False))
            assert 0 < learned < nearest


def test_weights_are_learned_only_where_tokens_have_ranges() -> None:
    int8 = {"precision": "int8", "activations": "int8", "dynamic_weights": "learned"}
    assert "dynamic_weights" not in LANGUAGE.canonical({**int8, "activation_range": "tensor"})
    assert LANGUAGE.canonical({**int8, "activation_range": "token"})["dynamic_weights"] == "learned"
    nearest = {**int8, "dynamic_weights": "nearest", "activation_range": "token"}
    assert "dynamic_weights" not in LANGUAGE.canonical(nearest)
