"""The check that every new graph passes before it is kept: it loads, and its logits are finite."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from olivine.passes.artifact import GENAI_CONFIG
from olivine.passes.errors import BuildFailed

if TYPE_CHECKING:
    import onnxruntime as ort

TOKENS = 8
#: Weights up to this are packed for the kernels first: blocks of int4 run an order of magnitude faster for it. Of more,
#: the copy would cost memory, and of floats more time than eight tokens repay.
PACKED_BYTES = 400_000_000
DTYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
}


def check_model(folder: Path, packed_bytes: int = PACKED_BYTES) -> None:
    """Run a few tokens through a plain ONNX Runtime session on the CPU, without optimizations.

    The CPU has no kernels for bfloat16: of such a graph, the check is that ONNX Runtime reads it and finds all types
    to fit. Whether its logits are finite shows when it is scored.

    Args:
        folder: of the model.
        packed_bytes: weights up to this are packed for the kernels first.

    Raises:
        BuildFailed: when the graph does not load, does not run, or gives logits that are not finite.
    """
    import onnxruntime as ort

    decoder = json.loads((folder / GENAI_CONFIG).read_text())["model"]["decoder"]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if _weight_bytes(folder / decoder["filename"]) > packed_bytes:
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        session = ort.InferenceSession(str(folder / decoder["filename"]), options, providers=["CPUExecutionProvider"])
        (logits,) = session.run(["logits"], prompt(session, decoder["head_size"], np.arange(TOKENS)))
    except ort_errors() as error:
        if lacks_kernels(error) and _is_bfloat16(folder / decoder["filename"]):
            return
        raise BuildFailed(f"the graph does not run in ONNX Runtime: {error}") from error
    if not np.isfinite(logits.astype(np.float32)).all():
        raise BuildFailed("the graph gives logits that are not finite")


def _weight_bytes(graph: Path) -> int:
    """Bytes of a graph and of the data beside it."""
    return sum(file.stat().st_size for file in graph.parent.glob(f"{graph.name}*"))


def lacks_kernels(error: Exception) -> bool:
    """True when a graph was read and resolved, and only a kernel was missing."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return isinstance(error, state.NotImplemented)


def _is_bfloat16(graph: Path) -> bool:
    import onnx

    weights = onnx.load(graph, load_external_data=False).graph.initializer
    return any(weight.data_type == onnx.TensorProto.BFLOAT16 for weight in weights)


def prompt(
    session: ort.InferenceSession, head_size: int, tokens: np.ndarray, known: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Inputs of a decoder graph for a first prompt: an empty key-value cache, a mask of ones, rising positions.

    Args:
        session: of the graph.
        head_size: features of an attention head, from genai_config.json.
        tokens: token ids [length].
        known: values of further inputs, by name.
    """
    length = len(tokens)
    sizes = {
        "batch_size": 1,
        "sequence_length": length,
        "total_sequence_length": length,
        "past_sequence_length": 0,
        "kv_cache_dim": head_size,
    }
    rows = {"input_ids": tokens, "position_ids": np.arange(length)}
    feed = dict(known or {})
    for value in session.get_inputs():
        if value.name in feed:
            continue
        dims = [size if isinstance(size, int) else sizes.get(size, 1) for size in value.shape]
        name, dtype = value.name, DTYPES[value.type]
        if name in rows:
            shape = (3, 1, length) if len(value.shape) == 3 else (1, length)  # of M-RoPE: a row for each axis
            feed[name] = np.broadcast_to(rows[name], shape).astype(dtype)
        else:
            feed[name] = np.full(dims, name == "attention_mask", dtype)
    return feed


def ort_errors() -> tuple[type[Exception], ...]:
    """Exceptions of ONNX Runtime for a graph that it can't load or run."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail,
        state.InvalidGraph,
        state.InvalidArgument,
        state.NotImplemented,
        state.RuntimeException,
        state.InvalidProtobuf,
    )
