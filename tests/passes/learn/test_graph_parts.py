from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest

from olivine.passes.artifact import ModelArtifact
from olivine.passes.graph import linears, load_graph
from olivine.passes.learn.calibration import capture_hessians, store_tokens
from olivine.passes.learn.graph_parts import split
from olivine.passes.store.cache import Cache

TOKENS = np.random.default_rng(0).integers(4, 300, size=(3, 20)).astype(np.int32)


@pytest.fixture
def read_by_layers(tiny_onnx: Path) -> list[str]:
    return list(dict.fromkeys(str(layer.reads) for layer in linears(load_graph(tiny_onnx / "model.onnx"))))


def test_every_node_runs_in_one_part(tiny_onnx: Path, read_by_layers: list[str]) -> None:
    model = onnx.load(tiny_onnx / "model.onnx", load_external_data=False)
    parts = split(model, [[name] for name in read_by_layers])
    nodes = [index for part in parts for index in part.nodes]
    assert len(nodes) == len(set(nodes))
    (whole,) = split(model, [read_by_layers])
    assert sorted(nodes) == list(whole.nodes)
    assert not whole.reads
    assert not whole.keeps


def test_a_part_reads_no_more_than_what_earlier_parts_keep(tiny_onnx: Path, read_by_layers: list[str]) -> None:
    model = onnx.load(tiny_onnx / "model.onnx", load_external_data=False)
    parts = split(model, [[name] for name in read_by_layers])
    for earlier, later in pairwise(parts):
        assert later.reads  # the residual stream at least
        kept = {name for part in parts[: parts.index(later)] for name in (*part.keeps, *part.asked)}
        assert kept.issuperset(later.reads)
        assert not set(earlier.keeps) & set(earlier.reads)


def test_an_activation_of_an_earlier_part_is_given_again(tiny_onnx: Path, read_by_layers: list[str]) -> None:
    model = onnx.load(tiny_onnx / "model.onnx", load_external_data=False)
    first, last = split(model, [[read_by_layers[-1]], [read_by_layers[0]]])
    assert first.keeps == (read_by_layers[0],)
    assert (last.nodes, last.reads) == ((), (read_by_layers[0],))


def test_what_parts_give_is_what_one_run_gives_to_the_bit(tiny_onnx: Path, tmp_path: Path) -> None:
    artifact = ModelArtifact(tiny_onnx, "tiny", frozenset({"onnx", "float"}))
    whole, parts = (Cache(tmp_path / name) for name in ("whole", "parts"))
    one = capture_hessians(artifact, store_tokens(whole, TOKENS), whole)
    many = capture_hessians(artifact, store_tokens(parts, TOKENS), parts, group_bytes=1)
    for name in one.files:
        for same in ("of", "ranges", "tokens"):
            assert np.array_equal(getattr(one, same)(name), getattr(many, same)(name))
