from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import PassRefused
from olivine.passes.graph import linears, load_graph
from olivine.passes.learn.calibrated import Calibrated
from olivine.passes.learn.calibration import store_tokens
from olivine.passes.pipeline import calibrated
from olivine.passes.quantize.blocks.block_format import BlockFormat
from olivine.passes.quantize.blocks.layer_codes import layer_codes
from olivine.passes.quantize.blocks.packing import PackedCodes
from olivine.passes.quantize.expected_loss import expected_losses
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache
from tests.tiny import tiny_checkpoint

FORM = BlockFormat(4, "gptq", 16, symmetric=False)
GATE, UP, MERGED = (f"layers.0/{role}" for role in ("gate_proj", "up_proj", "gate_up_proj"))


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Calibrated]:
    """Fusion level -> what passes may learn of its graph; all in one cache."""
    source = resolve(str(tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "llama")))
    cache = Cache(tmp_path_factory.mktemp("cache"))
    text = store_tokens(cache, np.random.default_rng(0).integers(4, 300, size=(4, 24)))
    choices = {level: {"precision": "int4", "fusion_level": level, "threads": 1} for level in ("none", "qkv", "full")}
    return {level: calibrated(source, LANGUAGE.compose(choice), cache, text) for level, choice in choices.items()}


def codes_of(about: Calibrated) -> dict[str, PackedCodes]:
    layers = list(linears(load_graph(about.graph.onnx_path())))
    return {layer.path: take() for layer, take in zip(layers, layer_codes(layers, FORM, about), strict=True)}


def side_by_side(*parts: PackedCodes) -> list[np.ndarray]:
    return arrays(PackedCodes.side_by_side(parts))


def arrays(codes: PackedCodes) -> list[np.ndarray]:
    assert codes.zero_points is not None
    return [codes.codes, codes.scales, codes.zero_points]


def test_merged_layers_have_the_codes_of_what_they_merge(levels: dict[str, Calibrated]) -> None:
    usual, full, none = (codes_of(levels[level]) for level in ("qkv", "full", "none"))
    for ours, parts in ((full[MERGED], (usual[GATE], usual[UP])), (usual[GATE], (none[GATE],))):
        assert all(np.array_equal(one, other) for one, other in zip(arrays(ours), side_by_side(*parts), strict=True))
    cut = side_by_side(*(none[f"layers.1/{role}"] for role in ("q_proj", "k_proj", "v_proj")))
    assert all(np.array_equal(a, b) for a, b in zip(arrays(usual["layers.1/qkv_proj"]), cut, strict=True))


def test_codes_stand_for_the_weights_of_their_own_graph(levels: dict[str, Calibrated]) -> None:
    """Not only are pieces taken from other layers: they are the right ones."""
    for about in levels.values():
        codes = codes_of(about)
        for layer in linears(load_graph(about.graph.onnx_path())):
            found = codes[layer.path]
            assert found.zero_points is not None
            low, high = found.codes.reshape(layer.shape[1], -1) & 15, found.codes.reshape(layer.shape[1], -1) >> 4
            steps = np.stack([low, high], axis=-1).reshape(layer.shape[1], -1, 16)
            zeros = np.stack([found.zero_points & 15, found.zero_points >> 4], axis=-1).reshape(layer.shape[1], -1)
            values = (steps - zeros[:, : steps.shape[1], None].astype(np.float32)) * found.scales[:, :, None]
            values = values.reshape(layer.shape[1], -1)[:, : layer.shape[0]].T
            assert np.corrcoef(values.ravel(), layer.array().ravel())[0, 1] > 0.97


def test_codes_are_learned_once_for_all_fusion_levels(levels: dict[str, Calibrated]) -> None:
    for about in levels.values():
        codes_of(about)
    root = levels["qkv"].cache.root
    learned = {file.parent for file in root.rglob("layers.0.down_proj.npz")}
    assert len(learned) == 1
    assert {file.parent for file in root.rglob("lm_head.npz")}.isdisjoint(learned)


def test_losses_of_merged_layers_add_up(levels: dict[str, Calibrated]) -> None:
    usual, full, none = (expected_losses(levels[level]) for level in ("qkv", "full", "none"))
    assert full[MERGED].blocks == {k: usual[GATE].blocks[k] + usual[UP].blocks[k] for k in usual[UP].blocks}
    assert full[MERGED].n == usual[GATE].n + usual[UP].n
    roles = ("q_proj", "k_proj", "v_proj")
    for key, loss in usual["layers.0/qkv_proj"].blocks.items():
        assert loss == pytest.approx(sum(none[f"layers.0/{role}"].blocks[key] for role in roles), rel=1e-4)
    for key, loss in usual["layers.0/qkv_proj"].dynamic.items():
        assert loss == pytest.approx(sum(none[f"layers.0/{role}"].dynamic[key] for role in roles), rel=1e-4)


def test_a_layer_that_was_not_measured_is_refused(levels: dict[str, Calibrated], tmp_path: Path) -> None:
    other = resolve(str(tiny_checkpoint(tmp_path / "wider", vocab=352)))
    text = store_tokens(Cache(tmp_path / "cache"), np.random.default_rng(0).integers(4, 300, size=(2, 24)))
    foreign = calibrated(other, LANGUAGE.compose({"precision": "int4", "threads": 1}), Cache(tmp_path / "cache"), text)
    head = [layer for layer in linears(load_graph(foreign.graph.onnx_path())) if layer.path == "lm_head"]
    mixed_up = Calibrated(
        foreign.graph,
        levels["qkv"].measure,
        levels["qkv"].measured_key,
        levels["qkv"].checkpoint,
        levels["qkv"].text,
        levels["qkv"].cache,
    )
    with pytest.raises(PassRefused, match="nothing of what lm_head reads"):
        layer_codes(head, FORM, mixed_up)
