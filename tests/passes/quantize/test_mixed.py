from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import PassRefused, UsageError
from olivine.passes.graph import load_graph
from olivine.passes.learn.calibration import store_tokens
from olivine.passes.pipeline import BuildResult, build
from olivine.passes.quantize.layer_format import DynamicInt8
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.quantize.mixed import MixedQuantize, worth_most
from olivine.passes.sources.source import Source, resolve
from olivine.passes.store.cache import Cache
from tests.tiny import tiny_checkpoint

MIXED: dict[str, Scalar] = {"precision": "mixed", "algorithm": "gptq", "block_size": 16, "threads": 1}

Candidate = Callable[..., BuildResult]
HOWS = ("sym", "asym")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return resolve(str(tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "llama")))


@pytest.fixture(scope="module")
def candidate(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """Builds a mixed candidate of the tiny model from axis values."""
    cache = Cache(tmp_path_factory.mktemp("cache"))
    text = store_tokens(cache, np.random.default_rng(0).integers(4, 300, size=(4, 24)))
    return lambda **choice: build(source, LANGUAGE.compose({**MIXED, **choice}), cache, text)


def formats(built: BuildResult) -> dict[str, str]:
    """Path of each linear layer -> ``int4``, ``int8`` or ``dynamic``, read off the graph."""
    found = {}
    for node in onnx.load(built.artifact.onnx_path(), load_external_data=False).graph.node:
        parts = node.name.split("/")
        path = f"{parts[2]}/{parts[-2]}" if "layers." in node.name else parts[-2] if len(parts) > 1 else ""
        if node.op_type == "MatMulNBits":
            found[path] = f"int{next(a.i for a in node.attribute if a.name == 'bits')}"
        elif node.op_type == "MatMulIntegerToFloat":
            found[path] = "dynamic"
    return found


def test_the_share_bounds_the_weights_at_eight_bits(candidate: Candidate) -> None:
    shares = [0.0, 0.2, 0.5, 0.8, 1.0]
    kept = [{p for p, form in formats(candidate(int8_share=s)).items() if form == "int8"} for s in shares]
    assert all(len(less) <= len(more) for less, more in pairwise(kept))
    assert not kept[0]
    assert len(kept[-1]) == 2 * 5 + 1
    assert 0 < len(kept[2]) < 11


def test_formats_of_all_kinds_share_one_graph(candidate: Candidate) -> None:
    found = formats(candidate(activations="int8", dynamic_share=0.6, int8_share=0.5, dynamic_layers="not_down"))
    assert set(found.values()) == {"dynamic", "int8", "int4"}
    assert len(found) == 11
    assert all(found[f"layers.{i}/down_proj"] != "dynamic" for i in range(2))
    assert found["lm_head"] != "dynamic"


@pytest.mark.parametrize(("lm_head", "expected"), [("int8", "int8"), ("int4", "int4"), ("fp32", None)])
def test_a_head_with_a_precision_of_its_own_takes_no_share(
    candidate: Candidate, lm_head: str, expected: str | None
) -> None:
    assert formats(candidate(lm_head=lm_head, int8_share=0.3)).get("lm_head") == expected


def test_candidates_are_put_together_from_codes_that_are_learned_once(candidate: Candidate) -> None:
    """Layers in the same format have the same bytes, whatever the others are in."""
    one, two = candidate(int8_share=0.2), candidate(int8_share=0.6)
    weights = [
        {name: value.const_value.numpy() for name, value in graph.initializers.items() if value.const_value is not None}
        for graph in (load_graph(built.artifact.onnx_path()).graph for built in (one, two))
    ]
    shared = [name for name in weights[0] if "_Q" in name and name in weights[1]]
    assert shared
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in shared)


def test_two_caches_give_the_same_bytes(candidate: Candidate, source: Source, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    text = store_tokens(cache, np.random.default_rng(0).integers(4, 300, size=(4, 24)))
    choice = {**MIXED, "int8_share": 0.4, "fusion_level": "full"}
    alone = build(source, LANGUAGE.compose(choice), cache, text).artifact
    beside = candidate(int8_share=0.4, fusion_level="full").artifact
    data = [artifact.onnx_path().with_name("model.onnx.data").read_bytes() for artifact in (alone, beside)]
    assert data[0] == data[1]


def test_without_text_nothing_is_known_of_any_layer(source: Source, tmp_path: Path) -> None:
    with pytest.raises(PassRefused, match="'mixed' learns from calibration text"):
        build(source, LANGUAGE.compose({**MIXED, "algorithm": "rtn"}), Cache(tmp_path))


def test_a_graph_without_its_checkpoint_is_refused_with_what_to_do(candidate: Candidate, tmp_path: Path) -> None:
    folder = build(*_exported(tmp_path)).artifact.path
    cache = Cache(tmp_path / "other")
    text = store_tokens(cache, np.random.default_rng(0).integers(4, 300, size=(2, 24)))
    with pytest.raises(PassRefused, match="Name the checkpoint as the model"):
        build(resolve(str(folder)), LANGUAGE.compose(MIXED), cache, text)


def _exported(tmp_path: Path) -> tuple[Source, object, Cache]:
    return (
        resolve(str(tiny_checkpoint(tmp_path / "llama"))),
        LANGUAGE.compose({"precision": "fp32"}),
        Cache(tmp_path / "cache"),
    )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"int8_share": 1.5}, "int8_share is 1.5"),
        ({"lm_head": "int3"}, "unknown lm_head 'int3'"),
        ({"algorithm": "gtpq"}, "Did you mean 'gptq'"),
        ({"int8_block_size": 48}, "unknown block_size '48'"),
        ({"dynamic_layers": "("}, "no regular expression"),
    ],
)
def test_parameters_that_can_not_be_are_named(params: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MixedQuantize(**params)  # type: ignore[arg-type]


def test_no_share_of_dynamic_layers_is_no_dynamic_layers() -> None:
    without = LANGUAGE.compose({**MIXED, "activations": "int8", "dynamic_share": 0.0})
    assert without.key == LANGUAGE.compose({**MIXED, "activations": "float"}).key


def test_the_best_per_size_come_first() -> None:
    savings = {"a": 3.0, "b": 10.0, "c": 1.0, "d": -1.0}
    sizes = {"a": 1, "b": 10, "c": 1, "d": 1}
    assert worth_most(savings, sizes, 2 / 13) == {"a", "c"}
    assert worth_most(savings, sizes, 11 / 13) == {"a", "b"}
    assert worth_most(savings, sizes, 0.0) == frozenset()
    assert worth_most(savings, sizes, 1.0) == set(savings)


@given(
    st.dictionaries(st.text(max_size=3), st.tuples(st.floats(-5, 5), st.integers(1, 50)), max_size=12), st.floats(0, 1)
)
def test_what_is_taken_never_exceeds_its_share(items: dict[str, tuple[float, int]], share: float) -> None:
    sizes = {name: size for name, (_, size) in items.items()}
    taken = worth_most({name: saving for name, (saving, _) in items.items()}, sizes, share)
    assert sum(sizes[name] for name in taken) <= share * sum(sizes.values()) + 1e-9


def test_smoothed_activations_are_allocated_and_built(candidate: Candidate) -> None:
    choice: dict[str, Scalar] = {"int8_share": 0.5, "activations": "int8", "dynamic_share": 1.0, "smooth": True}
    built = candidate(**choice)
    found = formats(built)
    assert {path for path, form in found.items() if form == "dynamic"} == {p for p in found if p != "lm_head"}
    plain = candidate(**{**choice, "smooth": False, "dynamic_layers": "all"})
    smoothed, unsmoothed = (_weights(one) for one in (built, plain))
    assert not [name for name in smoothed if "Smooth" in name]
    up = "model.layers.0.mlp.up_proj.MatMul.weight_I8"
    np.testing.assert_array_equal(smoothed[up], unsmoothed[up])
    assert (smoothed[f"{up}_scales"] != unsmoothed[f"{up}_scales"]).any()


def _weights(built: BuildResult) -> dict[str, np.ndarray]:
    found = load_graph(built.artifact.onnx_path()).graph.initializers
    return {name: value.const_value.numpy() for name, value in found.items() if value.const_value is not None}


def test_ranges_by_token_are_what_layers_are_chosen_by(candidate: Candidate) -> None:
    """Down_proj reads loud tokens: with a range a token it loses less, and no layer loses more."""
    built = candidate(activations="int8", dynamic_share=1.0, int8_share=0.5, activation_range="token")
    found = formats(built)
    assert sum(form == "dynamic" for form in found.values()) == 2 * 5
    graph = onnx.load(built.artifact.onnx_path(), load_external_data=False).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("Div") == kinds.count("DynamicQuantizeLinear") == 2 * 4


def test_an_allocation_takes_the_losses_of_its_ranges() -> None:
    def loss(path: str, tensor: float, token: float) -> LayerLoss:
        blocks = {
            f"{size}/{how}/{learned}": 1.0 for size in (16, 64) for how in HOWS for learned in ("learned", "alone")
        }
        dynamic = {"127": tensor, "127/token": token, "63": tensor, "63/token": token}
        return LayerLoss(path, 64, 64, blocks, dynamic)

    o, down = "layers.0/o_proj", "layers.0/down_proj"
    losses = {o: loss(o, 0.1, 0.1), down: loss(down, 9.0, 0.01)}

    def dynamic(activation_range: str) -> list[str]:
        chosen = MixedQuantize(
            0.5, 64, "rtn", 16, dynamic_layers=".*", dynamic_share=0.5, activation_range=activation_range
        )
        return [path for path, form in chosen.formats(losses).items() if isinstance(form, DynamicInt8)]

    assert dynamic("tensor") == [o]
    assert dynamic("token") == dynamic("token_down") == [down]
