from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tiny_graph import ROWS, tiny_graph

from olivine.passes.catalog import GRAPH
from olivine.passes.cpu import int8_sums_saturate
from olivine.passes.errors import OlivineError, PassRefused, SourceError, UsageError
from olivine.passes.graphs.graph_inputs import GraphInput, check_sizes, graph_inputs, read_feeds, synthetic, write_feeds
from olivine.passes.graphs.source import resolve_graph
from olivine.passes.pipeline import build
from olivine.passes.recipe import Recipe
from olivine.passes.store.cache import Cache
from olivine.passes.store.digests import sha256_file

SIZES = {"batch": 3, "sequence": 8}
DYNAMIC = {"precision": "int8", "activations": "dynamic"}
STATIC = {"precision": "int8", "activations": "static"}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_graph(tmp_path_factory.mktemp("graph") / "tiny.onnx")


@pytest.fixture(scope="module")
def feeds(graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("feeds") / "calibrate.npz"
    write_feeds(path, [synthetic(graph_inputs(graph), SIZES, np.random.default_rng(i)) for i in range(3)])
    return path


def kinds(folder: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(folder / "model.onnx").graph.node)


def run(folder: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    found: np.ndarray = ort.InferenceSession(folder / "model.onnx").run(None, feed)[0]
    return found


def test_inputs_are_told_with_their_open_sizes_and_the_table_they_select_from(graph: Path) -> None:
    assert graph_inputs(graph) == (GraphInput("input_ids", "int64", ("batch", "sequence"), ROWS),)


def test_made_up_values_fit_what_the_names_promise() -> None:
    rng = np.random.default_rng(0)
    inputs = [
        GraphInput("input_ids", "int64", ("batch", 200), 7),
        GraphInput("attention_mask", "int64", ("batch", 200)),
        GraphInput("token_type_ids", "int64", ("batch", 200), 2),
        GraphInput("pixel_values", "float32", ("batch", 3, 32, 32)),
    ]
    found = synthetic(inputs, {"batch": 2}, rng)
    assert found["input_ids"].max() == 6
    assert found["attention_mask"].min() == 1
    assert found["token_type_ids"].max() == 0
    pictures = found["pixel_values"]
    assert pictures.dtype == np.float32
    np.testing.assert_allclose(pictures.std(axis=(2, 3)), 1, rtol=1e-5)
    steps = np.abs(np.diff(pictures, axis=3)).mean()
    assert steps < 0.8  # neighbours in a photograph are alike; in white noise they differ by 1.13


def test_sizes_that_do_not_fit_are_named_beside_what_the_graph_reads(graph: Path) -> None:
    inputs = graph_inputs(graph)
    with pytest.raises(
        UsageError, match=r"gives no size 'sequence'. The graph reads input_ids \['batch', 'sequence'\]"
    ):
        check_sizes(inputs, {"batch": 1}, "here")
    with pytest.raises(UsageError, match=r"names 'sequense', which no input has. Did you mean 'sequence'"):
        check_sizes(inputs, {**SIZES, "sequense": 3}, "here")


@pytest.mark.parametrize(
    ("choice", "operators", "most"),
    [
        ({}, {"MatMul": 2}, 1e-6),
        (DYNAMIC, {"MatMulInteger": 2, "DynamicQuantizeLinear": 2}, 0.02),
        ({**DYNAMIC, "float_down": True}, {"MatMulInteger": 1, "MatMul": 1}, 0.02),
        ({**DYNAMIC, "embedding": "int8"}, {"MatMulInteger": 2, "DynamicQuantizeLinear": 1}, 0.02),
        (STATIC, {"MatMul": 2, "QuantizeLinear": 4}, 0.02),
        ({**STATIC, "calibration": "percentile"}, {"MatMul": 2, "QuantizeLinear": 4}, 0.02),
        ({**STATIC, "calibration": "entropy"}, {"MatMul": 2, "QuantizeLinear": 4}, 0.1),
        ({"precision": "int8"}, {"MatMulNBits": 2}, 0.001),
        ({"precision": "int4", "algorithm": "k_quant"}, {"MatMulNBits": 2}, 0.05),
    ],
    ids=str,
)
def test_a_candidate_has_the_operators_of_its_form_and_outputs_near_the_bases(
    choice: dict[str, str], operators: dict[str, int], most: float, graph: Path, feeds: Path, tmp_path: Path
) -> None:
    before = sha256_file(graph)
    built = build(resolve_graph(str(graph)), GRAPH.compose(choice), Cache(tmp_path), samples=feeds, sizes=SIZES)
    assert sha256_file(graph) == before
    found = kinds(built.artifact.path)
    assert {name: found[name] for name in operators} == operators
    feed = synthetic(graph_inputs(graph), SIZES, np.random.default_rng(9))
    base = ort.InferenceSession(graph).run(None, feed)[0]
    own = run(built.artifact.path, feed)
    assert 1 - (base * own).sum() / np.linalg.norm(base) / np.linalg.norm(own) < most


@pytest.mark.parametrize("choice", [DYNAMIC, STATIC, {"precision": "int4"}], ids=str)
def test_the_same_recipe_gives_the_same_bytes(choice: dict[str, str], graph: Path, feeds: Path, tmp_path: Path) -> None:
    source, recipe = resolve_graph(str(graph)), GRAPH.compose(choice)
    hashes = []
    for home in ("a", "b"):
        folder = build(source, recipe, Cache(tmp_path / home), samples=feeds, sizes=SIZES).artifact.path
        hashes.append({file.name: sha256_file(file) for file in folder.iterdir()})
    assert hashes[0] == hashes[1]


def test_a_second_build_comes_from_the_cache(graph: Path, tmp_path: Path) -> None:
    source, cache = resolve_graph(str(graph)), Cache(tmp_path)
    assert not any(step.cached for step in build(source, GRAPH.compose(DYNAMIC), cache, sizes=SIZES).passes)
    assert all(step.cached for step in build(source, GRAPH.compose(DYNAMIC), cache, sizes=SIZES).passes)


@pytest.mark.parametrize("choice", [DYNAMIC, STATIC], ids=["dynamic", "static"])
def test_machines_that_share_a_cache_get_weights_of_the_bits_that_their_recipes_say(
    choice: dict[str, str], graph: Path, feeds: Path, tmp_path: Path
) -> None:
    def on(**reduce_range: bool) -> Recipe:
        quantize, session = GRAPH.compose(choice).to_json()
        rest = {name: value for name, value in quantize["params"].items() if name != "reduce_range"}
        return GRAPH.recipe([{**quantize, "params": {**rest, **reduce_range}}, session])

    def largest(recipe: Recipe) -> int:
        folder = build(source, recipe, cache, samples=feeds, sizes=SIZES).artifact.path
        weights = map(onnx.numpy_helper.to_array, onnx.load(folder / "model.onnx").graph.initializer)
        return max(int(np.abs(w.astype(int)).max()) for w in weights if w.dtype == np.int8 and w.ndim == 2)

    source, cache = resolve_graph(str(graph)), Cache(tmp_path)
    with_vnni, without, unsaid = on(reduce_range=False), on(reduce_range=True), on()
    assert GRAPH.compose(choice) == (without if int8_sums_saturate() else with_vnni)
    assert len({with_vnni.key, without.key, unsaid.key}) == 3
    assert (largest(with_vnni), largest(without)) == (127, 64)
    assert largest(unsaid) == (64 if int8_sums_saturate() else 127)


def test_static_ranges_are_refused_without_samples(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(PassRefused, match="calibration samples"):
        build(resolve_graph(str(graph)), GRAPH.compose(STATIC), Cache(tmp_path), sizes=SIZES)


def test_fusion_of_an_unknown_architecture_says_which_are_known(graph: Path, tmp_path: Path) -> None:
    source = resolve_graph(str(graph))
    with pytest.raises(PassRefused, match=r"no architecture 'unnamed'.*'architecture:'.*bert"):
        build(source, GRAPH.compose({"fusion_level": "full"}), Cache(tmp_path), sizes=SIZES)
    with pytest.raises(PassRefused, match="nothing that the optimizer merges"):
        build(resolve_graph(str(graph), "bert"), GRAPH.compose({"fusion_level": "full"}), Cache(tmp_path), sizes=SIZES)


def test_axes_that_do_not_apply_are_no_part_of_a_recipe() -> None:
    assert GRAPH.compose({"precision": "fp32", "calibration": "entropy"}) == GRAPH.compose({})
    assert "block_size" not in GRAPH.canonical(DYNAMIC)
    assert "calibration" in GRAPH.canonical(STATIC)
    recipe = GRAPH.compose({**STATIC, "fusion_level": "full"})
    assert [step["name"] for step in recipe.to_json()] == ["fuse", "static_int8", "session_options"]
    assert GRAPH.recipe(recipe.to_json()) == recipe
    assert recipe.needs_calibration
    with pytest.raises(UsageError, match=r"Unknown axis 'precison'. Did you mean 'precision'"):
        GRAPH.canonical({"precison": "int8"})


def test_feeds_survive_their_file(tmp_path: Path) -> None:
    feeds = [{"a": np.arange(3), "b/c": np.ones((2, 2), np.float32)}, {"a": np.zeros(1), "b/c": np.zeros((1, 1))}]
    write_feeds(tmp_path / "feeds.npz", feeds)
    for before, after in zip(feeds, read_feeds(tmp_path / "feeds.npz"), strict=True):
        assert before.keys() == after.keys()
        for name in before:
            np.testing.assert_array_equal(before[name], after[name])


def test_sources_that_are_no_graph_are_refused_with_the_reason(tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("no graph")
    (tmp_path / "empty").mkdir()
    for model, said in (
        (str(tmp_path / "none.onnx"), "There is no file or folder"),
        (str(text), "is no ONNX graph"),
        (str(tmp_path / "empty"), "neither a config.json nor a model.onnx"),
        ("demo:all-minilm-l12", "Did you mean 'all-minilm-l6-v2'"),
    ):
        with pytest.raises(SourceError, match=said):
            resolve_graph(model)


def test_weights_outside_of_the_folder_are_refused(graph: Path, tmp_path: Path) -> None:
    model = onnx.load(graph)
    onnx.save(model, tmp_path / "out.onnx", save_as_external_data=True, location="out.bin", size_threshold=0)
    stored = onnx.load(tmp_path / "out.onnx", load_external_data=False)
    for weight in stored.graph.initializer:
        for entry in weight.external_data:
            if entry.key == "location":
                entry.value = "../secret"
    (tmp_path / "out.onnx").write_bytes(stored.SerializeToString())
    with pytest.raises(OlivineError, match=r"its weights should be in '../secret'"):
        resolve_graph(str(tmp_path / "out.onnx"))
