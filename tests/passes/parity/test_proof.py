"""A float export is proven once, before anything is built on it; a wrong one is built on by nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_sizes

from olivine.passes.artifact import ModelArtifact
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import WrongGraph
from olivine.passes.parity.proof import known_proof, proof_key, proof_sentence
from olivine.passes.pipeline import BuildResult, build
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache

FLOAT = LANGUAGE.compose({})
INT8 = LANGUAGE.compose({"precision": "int8", "algorithm": "rtn", "block_size": 32})


def proof(built: BuildResult) -> dict[str, object] | None:
    (export,) = [result for result in built.passes if result.name == "export"]
    return None if export.proof is None else dict(export.proof)


def test_every_build_on_an_export_carries_its_proof(tiny_llama: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    source = resolve(str(tiny_llama))
    first = proof(build(source, INT8, cache))
    assert first is not None
    assert float(str(first["largest_difference"])) < 1e-4
    assert proof(build(source, FLOAT, cache)) == first
    assert proof(build(source, INT8, cache)) == first
    said = proof_sentence(first)
    assert said.startswith("the base agrees with its checkpoint: largest difference of a logit ")


def test_a_second_build_compares_nothing(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, source = Cache(tmp_path), resolve(str(tiny_llama))
    build(source, FLOAT, cache)

    def fails(*_: object) -> None:
        raise AssertionError("it compares again")

    monkeypatch.setattr("olivine.passes.parity.gate.prove", fails)
    build(source, INT8, cache)
    build(source, FLOAT, cache)


def test_an_export_of_before_is_proven_when_it_is_used(tiny_llama: Path, tmp_path: Path) -> None:
    cache, source = Cache(tmp_path), resolve(str(tiny_llama))
    export = exported(build(source, FLOAT, cache), cache)
    cache._discard(proof_key(export.key))
    assert known_proof(export.key, cache) is None
    assert proof(build(source, INT8, cache)) is not None


def exported(built: BuildResult, cache: Cache) -> ModelArtifact:
    """The float export in a cache that holds one build."""
    for about in cache.root.glob("artifacts/*/artifact.json"):
        found = cache.get(about.parent.name)
        if found is not None and "float" in found.properties and known_proof(found.key, cache) is not None:
            return found
    raise AssertionError(f"nothing is proven of {built}")


def test_nothing_is_built_on_a_wrong_export(
    tmp_path: Path, make_tiny_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers as tf

    from olivine.passes.export import genai_builder

    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e4}
    checkpoint = make_tiny_checkpoint(tmp_path / "yarn", config=tf.LlamaConfig(**tiny_sizes(), rope_parameters=rope))
    cache, source = Cache(tmp_path / "cache"), resolve(str(checkpoint))
    monkeypatch.setattr(genai_builder, "mends_of", lambda config: ())  # as the model builder exports it
    for recipe in (FLOAT, INT8):
        with pytest.raises(WrongGraph, match="part in layer 0, in its attention"):
            build(source, recipe, cache)
    properties = [json.loads(about.read_text())["holds"] for about in cache.root.glob("artifacts/*/artifact.json")]
    assert not [found for found in properties if "quantized" in found or "proof" in found]


def test_a_checkpoint_that_lost_weights_in_the_cache_is_found(tiny_llama: Path, tmp_path: Path) -> None:
    """Of an earlier version, which filled them up at random."""
    from safetensors.numpy import load_file, save_file

    from olivine.passes.errors import SourceError

    cache, source = Cache(tmp_path), resolve(str(tiny_llama))
    folder = cache.put(source.folder_key, source.materialize).path
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file({name: np.ascontiguousarray(value) for name, value in weights.items()}, folder / "model.safetensors")
    about = folder.parent / "artifact.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "files": {}}))
    with pytest.raises(SourceError, match=r"1 missing \(model\.layers\.0\.mlp\.up_proj\.weight\)"):
        build(source, INT8, cache)


def test_what_was_not_compared_is_said() -> None:
    assert proof_sentence(None) == ""
    assert "was not compared with its checkpoint: the CPU" in proof_sentence({"not_compared": "the CPU has none"})
