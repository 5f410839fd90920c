"""The pipeline on a tiny checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import GraphPass, Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import BuildFailed, PassRefused
from olivine.passes.graph import linears
from olivine.passes.learn.calibration import store_tokens
from olivine.passes.pipeline import build
from olivine.passes.recipe import Recipe, Step
from olivine.passes.sources.onnx_source_rules import refuse_other_graph
from olivine.passes.sources.source import Source, resolve
from olivine.passes.store.cache import Cache
from olivine.passes.store.digests import digest, sha256_file

#: A choice that takes most passes of the catalog.
EVERYTHING: dict[str, Scalar] = {
    "rotate": True,
    "precision": "int4",
    "activations": "int8",
    "dynamic_layers": "mlp_in",
    "embedding": "int8",
    "lm_head": "int8",
    "threads": 1,
    "prune_head": True,
}


def recipe_of(*steps: Step) -> Recipe:
    return Recipe(steps, LANGUAGE.passes)


def contents(artifact: ModelArtifact) -> dict[str, str]:
    return {str(file.relative_to(artifact.path)): sha256_file(file) for file in artifact.files()}


@pytest.fixture(scope="module")
def source(tiny_llama: Path) -> Source:
    return resolve(str(tiny_llama))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """One cache for the tests that do not need an empty one."""
    return Cache(tmp_path_factory.mktemp("pipeline"))


def entries(cache: Cache) -> set[str]:
    return {path.name for path in (cache.root / "artifacts").iterdir()}


def test_the_same_recipe_gives_the_same_bytes_in_two_caches(source: Source, cache: Cache, tmp_path: Path) -> None:
    recipe = LANGUAGE.compose(EVERYTHING)
    first, second = build(source, recipe, cache), build(source, recipe, Cache(tmp_path))
    assert contents(first.artifact) == contents(second.artifact)
    assert first.artifact.key == second.artifact.key
    assert first.artifact.properties == second.artifact.properties


def test_inputs_stay_byte_identical(source: Source, cache: Cache, tiny_llama: Path) -> None:
    build(source, LANGUAGE.compose({}), cache)
    artifacts = [found for key in entries(cache) if (found := cache.get(key)) is not None]
    before = [contents(artifact) for artifact in artifacts]
    checkpoint = [sha256_file(path) for path in sorted(tiny_llama.iterdir())]
    build(source, LANGUAGE.compose({"precision": "int8", "block_size": 64}), cache)
    assert [contents(artifact) for artifact in artifacts] == before
    assert [sha256_file(path) for path in sorted(tiny_llama.iterdir())] == checkpoint


def test_every_pass_says_whether_it_came_from_the_cache(source: Source, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    first = build(source, LANGUAGE.compose({"precision": "int8"}), cache)
    again = build(source, LANGUAGE.compose({"precision": "int8"}), cache)
    other = build(source, LANGUAGE.compose({"precision": "int4"}), cache)
    names = ["export", "weight_only", "session_options"]
    assert [(r.name, r.cached) for r in first.passes] == [(name, False) for name in names]
    assert [(r.name, r.cached) for r in again.passes] == [(name, True) for name in names]
    assert [r.cached for r in other.passes] == [True, False, False]
    assert all(r.seconds == 0 for r in again.passes)
    assert again.artifact == first.artifact


def test_another_session_option_shares_the_weights_of_its_graph_stage(source: Source, cache: Cache) -> None:
    one, two = (build(source, LANGUAGE.compose({"precision": "int8", "threads": n}), cache).artifact for n in (1, 2))
    assert one.key != two.key
    for artifact in (one, two):
        assert artifact.genai_config()["model"]["decoder"]["session_options"]["intra_op_num_threads"] in (1, 2)
    names = [file.name for file in one.files() if file.name != "genai_config.json"]
    assert "model.onnx.data" in names
    for name in names:
        assert (one.path / name).stat().st_ino == (two.path / name).stat().st_ino
    assert one.genai_config() != two.genai_config()


def test_what_no_stage_needs_any_more_may_leave_the_cache(tiny_llama: Path, tmp_path: Path) -> None:
    """A checkpoint is the largest entry; candidates are built from the float graph alone, and are found without it."""
    source, cache = resolve(str(tiny_llama)), Cache(tmp_path)
    text = store_tokens(cache, np.random.default_rng(0).integers(4, 300, size=(2, 24)))
    gptq = LANGUAGE.compose({"precision": "int4", "algorithm": "gptq", "threads": 1})
    build(source, gptq, cache, text)
    checkpoint = cache.root / "artifacts" / digest(["source", source.key])
    used = (checkpoint / "artifact.json").stat().st_mtime_ns
    again = build(source, gptq, cache, text)
    assert all(result.cached for result in again.passes)
    build(
        source,
        LANGUAGE.compose({"precision": "int4", "algorithm": "gptq", "lm_head": "int8", "threads": 1}),
        cache,
        text,
    )
    assert (checkpoint / "artifact.json").stat().st_mtime_ns == used
    shutil.rmtree(checkpoint)
    build(source, LANGUAGE.compose({"precision": "int8", "threads": 1}), cache)
    assert not checkpoint.exists()
    build(source, LANGUAGE.compose({"precision": "int8", "fusion_level": "full", "threads": 1}), cache)
    assert checkpoint.exists()


def test_a_refusal_is_not_cached(source: Source, cache: Cache) -> None:
    export, *_ = LANGUAGE.compose({}).steps
    recipe = recipe_of(export, Step.of("dynamic_int8", {"layers": "nothing"}))
    build(source, recipe_of(export), cache)
    before = entries(cache)
    for _ in range(2):
        with pytest.raises(PassRefused, match="no layer matches 'nothing'"):
            build(source, recipe, cache)
    assert entries(cache) == before


@dataclass(frozen=True)
class Poison(GraphPass):
    """Makes the weight of every linear layer infinite."""

    name: ClassVar[str] = "poison"

    @classmethod
    def from_choice(cls, choice: Mapping[str, Scalar]) -> None:
        return None

    def rewrite(self, model: ir.Model) -> None:
        for layer in linears(model):
            layer.weight.const_value = ir.tensor(np.full(layer.shape, np.inf, np.float32), name=layer.weight.name)


def test_a_graph_that_fails_its_check_is_not_cached(source: Source, cache: Cache) -> None:
    export, *_ = LANGUAGE.compose({}).steps
    recipe = Recipe((export, Step.of("poison", {})), (*LANGUAGE.passes, Poison))
    build(source, recipe_of(export), cache)
    before = entries(cache)
    for _ in range(2):
        with pytest.raises(BuildFailed, match="not finite"):
            build(source, recipe, cache)
    assert entries(cache) == before


def test_facts_follow_the_passes(source: Source, cache: Cache) -> None:
    plain = build(source, LANGUAGE.compose({}), cache).artifact
    full = build(source, LANGUAGE.compose(EVERYTHING), cache).artifact
    assert plain.properties == {"onnx", "float"}
    assert full.properties == {"onnx", "rotated", "quantized"}


def test_quantizing_twice_is_refused(source: Source, cache: Cache) -> None:
    export, weight_only, _ = LANGUAGE.compose({"precision": "int8"}).steps
    with pytest.raises(PassRefused, match="requires float"):
        build(source, recipe_of(export, weight_only, weight_only), cache)


def test_an_onnx_source_needs_no_export(tiny_onnx: Path, cache: Cache) -> None:
    built = build(resolve(str(tiny_onnx)), LANGUAGE.compose({"precision": "int8"}), cache)
    assert [r.name for r in built.passes] == ["weight_only", "session_options"]
    assert "quantized" in built.artifact.properties


@pytest.mark.parametrize(
    ("choice", "named"),
    [
        ({"rotate": True}, "pass 'rotate'"),
        ({"fusion_level": "full"}, "fusion_level 'full'"),
        ({"provider": "webgpu", "precision": "fp32"}, "provider 'webgpu'"),
        ({"provider": "cuda", "precision": "int4"}, "precision 'fp16', provider 'cuda'"),
    ],
)
def test_an_onnx_source_refuses_what_takes_an_export(
    tiny_onnx: Path, cache: Cache, choice: dict[str, Scalar], named: str
) -> None:
    with pytest.raises(PassRefused, match=named) as refused:
        build(resolve(str(tiny_onnx)), LANGUAGE.compose(choice), cache)
    assert "a graph already" in str(refused.value)


def test_an_onnx_source_is_of_its_own_precision_and_provider(tiny_onnx: Path) -> None:
    source = replace(resolve(str(tiny_onnx)), dtype="float16")
    config = {"model": {"decoder": {"session_options": {"provider_options": [{"cuda": {}}]}}}}
    refuse_other_graph(source, LANGUAGE.compose({"provider": "cuda", "precision": "int4"}).passes(), lambda: config)
    with pytest.raises(PassRefused, match=r"precision 'bf16'.*fits: precision 'fp16'"):
        refuse_other_graph(source, LANGUAGE.compose({"provider": "cuda", "precision": "bf16"}).passes(), lambda: config)


# Passes that learn from text.

GPTQ: dict[str, Scalar] = {"precision": "int4", "algorithm": "gptq", "block_size": 16, "threads": 1}


def calibrate(cache: Cache, seed: int = 0) -> str:
    return store_tokens(cache, np.random.default_rng(seed).integers(4, 300, size=(4, 24)))


def test_calibration_gives_the_same_bytes_in_two_caches(source: Source, cache: Cache, tmp_path: Path) -> None:
    other = Cache(tmp_path)
    first = build(source, LANGUAGE.compose(GPTQ), cache, calibrate(cache))
    second = build(source, LANGUAGE.compose(GPTQ), other, calibrate(other))
    assert contents(first.artifact) == contents(second.artifact)
    assert first.artifact.key == second.artifact.key


def test_a_candidate_put_together_from_kept_parts_has_the_bytes_of_one_from_scratch(
    source: Source, cache: Cache, tmp_path: Path
) -> None:
    mixed = LANGUAGE.compose({**GPTQ, "precision": "mixed", "int8_share": 0.4, "embedding": "int8"})
    for earlier in (GPTQ, {**GPTQ, "lm_head": "int8"}, {**GPTQ, "precision": "mixed", "int8_share": 0.7}):
        build(source, LANGUAGE.compose(earlier), cache, calibrate(cache))
    scratch = Cache(tmp_path)
    together = build(source, mixed, cache, calibrate(cache)).artifact
    assert contents(together) == contents(build(source, mixed, scratch, calibrate(scratch)).artifact)


def test_an_evicting_cache_builds_the_same_bytes(source: Source, cache: Cache, tmp_path: Path) -> None:
    recipes = [LANGUAGE.compose({"precision": "int4", "block_size": size, "threads": 1}) for size in (16, 32, 16)]
    for recipe in recipes:
        with ExitStack() as pins:
            small = build(source, recipe, Cache(tmp_path, 1, pins=pins, in_use_s=0.0)).artifact
            assert contents(small) == contents(build(source, recipe, cache).artifact)
    assert len(list((tmp_path / "artifacts").iterdir())) < len(list((cache.root / "artifacts").iterdir()))


def test_calibration_text_decides_about_passes_that_learn_from_it_and_no_others(source: Source, cache: Cache) -> None:
    one, two = calibrate(cache), calibrate(cache, seed=1)
    assert (
        build(source, LANGUAGE.compose(GPTQ), cache, one).artifact.key
        != build(source, LANGUAGE.compose(GPTQ), cache, two).artifact.key
    )
    plain = LANGUAGE.compose({**GPTQ, "algorithm": "rtn"})
    assert build(source, plain, cache, one).artifact.key == build(source, plain, cache).artifact.key


def test_a_recipe_that_learns_from_text_is_refused_without_any(source: Source, cache: Cache) -> None:
    assert LANGUAGE.compose(GPTQ).needs_calibration
    assert not LANGUAGE.compose({**GPTQ, "algorithm": "rtn"}).needs_calibration
    with pytest.raises(PassRefused, match="'weight_only' learns from calibration text, and none was given"):
        build(source, LANGUAGE.compose(GPTQ), cache)
    with pytest.raises(PassRefused, match="not in the cache"):
        build(source, LANGUAGE.compose(GPTQ), cache, "gone")


def test_layers_that_keep_their_names_find_their_hessians_behind_other_passes(source: Source, cache: Cache) -> None:
    recipe = LANGUAGE.compose({**EVERYTHING, "algorithm": "gptq"})
    assert "quantized" in build(source, recipe, cache, calibrate(cache)).artifact.properties


def test_gptq_chooses_zero_points_unless_told_otherwise() -> None:
    assert LANGUAGE.canonical(GPTQ)["symmetric"] is False
    assert LANGUAGE.canonical({**GPTQ, "algorithm": "rtn"})["symmetric"] is True
    assert LANGUAGE.canonical({**GPTQ, "symmetric": True})["symmetric"] is True
