"""A model whose next-token distribution is a table: row = this token, column = logit of the next one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper


def bigram_folder(folder: Path, table: npt.NDArray[np.float32], **session_options: object) -> Path:
    """Write an ONNX Runtime GenAI folder whose logits after token t are ``table[t]``."""
    folder.mkdir(parents=True)
    vocab = table.shape[1]
    cache = ["batch", 1, "past", 1]
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["logits"]),
            # The cache that GenAI hands round; nothing depends on it.
            helper.make_node("Shape", ["input_ids"], ["shape"]),
            helper.make_node("Gather", ["shape", "zero"], ["batch_size"]),
            helper.make_node("Gather", ["shape", "one"], ["length"]),
            helper.make_node("Concat", ["batch_size", "one", "length", "one"], ["new_shape"], axis=0),
            helper.make_node("ConstantOfShape", ["new_shape"], ["new"]),
            helper.make_node("Concat", ["past_key_values.0.key", "new"], ["present.0.key"], axis=2),
            helper.make_node("Concat", ["past_key_values.0.value", "new"], ["present.0.value"], axis=2),
        ],
        "bigram",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "total"]),
            helper.make_tensor_value_info("past_key_values.0.key", TensorProto.FLOAT, cache),
            helper.make_tensor_value_info("past_key_values.0.value", TensorProto.FLOAT, cache),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length", vocab]),
            helper.make_tensor_value_info("present.0.key", TensorProto.FLOAT, ["batch", 1, "total", 1]),
            helper.make_tensor_value_info("present.0.value", TensorProto.FLOAT, ["batch", 1, "total", 1]),
        ],
        [
            numpy_helper.from_array(table.astype(np.float32), "table"),
            numpy_helper.from_array(np.array([0], dtype=np.int64), "zero"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "one"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / "model.onnx"))
    (folder / "genai_config.json").write_text(json.dumps(_config(vocab, session_options)))
    return folder


def _config(vocab: int, session_options: dict[str, object]) -> dict[str, object]:
    decoder = {
        "session_options": {"provider_options": [], "intra_op_num_threads": 1, **session_options},
        "filename": "model.onnx",
        "head_size": 1,
        "hidden_size": 1,
        "num_attention_heads": 1,
        "num_hidden_layers": 1,
        "num_key_value_heads": 1,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    return {
        "model": {
            "type": "llama",
            "vocab_size": vocab,
            "context_length": 4096,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
            "decoder": decoder,
        },
        "search": {"max_length": 4096, "past_present_share_buffer": False},
    }
