"""Steps of a quantized cache hold what a model caches, also at positions that the text does not reach."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import PassRefused
from olivine.passes.learn.cache_scales import (
    LIMITS,
    Attention,
    capture_cache_scales,
    least_error_steps,
    pair_lengths,
    partners,
)
from olivine.passes.learn.calibration import store_tokens
from olivine.passes.parity.graph_run import GraphRun
from olivine.passes.store.cache import Cache

TOKENS = np.random.default_rng(0).integers(4, 300, size=(3, 20)).astype(np.int32)
#: A head of six channels, four of which are turned.
HALVES, NEIGHBOURS = (Attention("k", "v", ir.DataType.FLOAT, 4, interleaved) for interleaved in (False, True))
WHOLE, STILL = (Attention("k", "v", ir.DataType.FLOAT, turned, False) for turned in (6, 0))
WHOLE_PAIR = Attention("k", "v", ir.DataType.FLOAT, 2, False)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def artifact(tiny_onnx: Path) -> ModelArtifact:
    return ModelArtifact(tiny_onnx, "tiny", frozenset({"onnx", "float"}))


def cached(folder: Path, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """What a graph caches of one text, by output: [heads, tokens, channels]."""
    run = GraphRun(folder)
    names = [f"present.{layer}.{part}" for layer in range(2) for part in ("key", "value")]
    return dict(zip(names, run.values(tokens.tolist(), names), strict=True))


@pytest.mark.parametrize(
    ("attention", "expected"),
    [
        (HALVES, [2, 3, 0, 1, 4, 5]),
        (NEIGHBOURS, [1, 0, 3, 2, 4, 5]),
        (WHOLE, [3, 4, 5, 0, 1, 2]),
        (STILL, [0, 1, 2, 3, 4, 5]),
    ],
    ids=["halves", "neighbours", "all turned", "none turned"],
)
def test_a_channel_has_the_partner_that_it_is_turned_with(attention: Attention, expected: list[int]) -> None:
    assert partners(np.arange(6, dtype=np.float32)[None, None], attention).tolist() == [[expected]]


def test_a_pair_has_one_length_and_a_channel_that_is_not_turned_its_magnitude() -> None:
    keys = np.array([[[3.0, 5.0, -4.0, 12.0, -7.0, 2.0]]], np.float32)
    assert pair_lengths(keys, HALVES).tolist() == [[[5.0, 13.0, 5.0, 13.0, 7.0, 2.0]]]
    assert pair_lengths(keys, STILL).tolist() == np.abs(keys).tolist()


def test_a_length_is_the_same_at_every_position() -> None:
    pair = np.random.default_rng(1).normal(size=(2, 1, 2)).astype(np.float32)
    angles = np.linspace(0, 6, 50)
    turned = np.stack(
        [
            pair[..., 0] * np.cos(angles) - pair[..., 1] * np.sin(angles),
            pair[..., 0] * np.sin(angles) + pair[..., 1] * np.cos(angles),
        ],
        axis=-1,
    ).astype(np.float32)
    assert np.ptp(pair_lengths(turned, WHOLE_PAIR), axis=1).max() < 1e-6


def test_eight_bits_hold_everything_that_the_text_puts_into_the_cache(artifact: ModelArtifact, cache: Cache) -> None:
    scales = capture_cache_scales(artifact, store_tokens(cache, TOKENS), cache)
    for window in TOKENS:
        for name, values in cached(artifact.path, window).items():
            steps = scales.of(name, 8)
            assert steps.dtype == np.float32
            assert steps.shape == (values.shape[0], values.shape[2])
            assert (np.abs(values).max(axis=1) <= LIMITS[8] * steps * 1.0001).all()


def test_values_have_the_steps_of_their_range(artifact: ModelArtifact, cache: Cache) -> None:
    scales = capture_cache_scales(artifact, store_tokens(cache, TOKENS[:1]), cache)
    values = cached(artifact.path, TOKENS[0])["present.1.value"]
    np.testing.assert_allclose(scales.of("present.1.value", 8), np.abs(values).max(axis=1) / 128, rtol=1e-5)
    keys = cached(artifact.path, TOKENS[0])["present.1.key"]
    lengths = np.hypot(keys, np.roll(keys, keys.shape[-1] // 2, axis=-1)).max(axis=1)
    np.testing.assert_allclose(scales.of("present.1.key", 8), lengths / 128, rtol=1e-5)


def test_four_bits_cut_off_an_outlier_where_that_errs_less() -> None:
    values = np.random.default_rng(2).uniform(-1, 1, size=(1, 4000, 2)).astype(np.float32)
    values[0, 7, 1] = 3.0
    reach = np.abs(values).max(axis=1)
    plain, cut = least_error_steps(values, reach, 8)[0]
    assert plain == pytest.approx(reach[0, 0] / 8, rel=0.2)
    assert cut < 0.6 * reach[0, 1] / 8


def test_what_was_learned_is_there_without_its_text(artifact: ModelArtifact, cache: Cache) -> None:
    text = store_tokens(cache, TOKENS)
    first = capture_cache_scales(artifact, text, cache)
    shutil.rmtree(cache.model_path(text).parent)
    assert capture_cache_scales(artifact, text, cache) == first


def test_an_output_that_was_not_measured_is_named(artifact: ModelArtifact, cache: Cache) -> None:
    with pytest.raises(PassRefused, match=r"nothing of the cache 'present.9.key'"):
        capture_cache_scales(artifact, store_tokens(cache, TOKENS), cache).of("present.9.key", 8)
