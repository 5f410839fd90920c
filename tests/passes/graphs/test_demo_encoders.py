from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from olivine.passes.catalog import GRAPH
from olivine.passes.graphs.source import resolve_graph
from olivine.passes.pipeline import build
from olivine.passes.sources.demo import fetch_news
from olivine.passes.store.cache import Cache

pytestmark = pytest.mark.demo


def test_the_sentence_transformer_fuses_whole_and_keeps_its_embeddings_in_int8(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    source, cache = resolve_graph("demo:all-minilm-l6-v2"), Cache(tmp_path)
    int8 = {"fusion_level": "full", "precision": "int8", "activations": "dynamic"}
    base, own = (build(source, GRAPH.compose(choice), cache).artifact.path for choice in ({}, int8))
    operators = [node.op_type for node in onnx.load(own / "model.onnx").graph.node]
    assert operators.count("QAttention") == 6
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    articles = [line for line in fetch_news().read_text(encoding="utf-8").splitlines() if line.strip()][:6]
    tokenizer.enable_truncation(64)
    encoded = [tokenizer.encode(article) for article in articles]
    feed = {
        "input_ids": np.array([one.ids for one in encoded]),
        "attention_mask": np.array([one.attention_mask for one in encoded]),
        "token_type_ids": np.array([one.type_ids for one in encoded]),
    }
    embeddings = [ort.InferenceSession(folder / "model.onnx").run(None, feed)[0] for folder in (base, own)]
    np.testing.assert_allclose(np.linalg.norm(embeddings[0], axis=1), 1, rtol=1e-5)
    assert (embeddings[0] * embeddings[1]).sum(axis=1).mean() > 0.97
