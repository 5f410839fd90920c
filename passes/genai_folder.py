"""ONNX Runtime GenAI folders as sources: whole, and still float."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from olivine.passes.artifact import GENAI_CONFIG
from olivine.passes.errors import SourceError

#: Operators whose weights are integers, in graphs of the GenAI builder and of ONNX Runtime's quantizers.
QUANTIZED = {
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "GatherBlockQuantized",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "QLinearMatMul",
    "QMoE",
}


@dataclass(frozen=True)
class GenAIFolder:
    """A float GenAI folder.

    Attributes:
        model_type: genai_config.json's ``model.type``, such as ``llama``.
        dtype: type of most of its weights, in transformers' words.
        weight_bytes: the graph and its external data.
    """

    model_type: str
    dtype: str
    weight_bytes: int


def files(folder: Path) -> list[Path]:
    """The folder's files, sorted; a manifest of an earlier export is no part of the model."""
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name != "olivine.json")


def check(folder: Path) -> GenAIFolder:
    """Read the config and the graph, without its weights.

    Raises:
        SourceError: when files are missing, the graph can't be read, or its weights are quantized already.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = json.loads((folder / GENAI_CONFIG).read_text())["model"]
        graph_path = folder / str(model["decoder"]["filename"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise SourceError(f"{folder}: {GENAI_CONFIG} names no model.decoder.filename: {error}") from error
    if not graph_path.exists():
        raise SourceError(f"{folder}: {GENAI_CONFIG} names {graph_path.name}, which is not there")
    try:
        graph = onnx.load(graph_path, load_external_data=False).graph
    except DecodeError as error:
        raise SourceError(f"{graph_path} is not an ONNX graph: {error}") from error
    _check_float(folder, graph)
    data = {e.value for t in graph.initializer for e in t.external_data if e.key == "location"}
    if missing := sorted(name for name in data if not (folder / name).exists()):
        raise SourceError(f"{folder}: the graph keeps its weights in {missing[0]}, which is not there")
    kinds = Counter(t.data_type for t in graph.initializer if len(t.dims) == 2)
    names = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16"}
    dtype = names.get(kinds.most_common(1)[0][0], "float32") if kinds else "float32"
    size = sum((folder / name).stat().st_size for name in data | {graph_path.name})
    return GenAIFolder(str(model.get("type", "unknown")), dtype, size)


def _check_float(folder: Path, graph: object) -> None:
    found = Counter(n.op_type for n in graph.node if n.op_type in QUANTIZED)  # type: ignore[attr-defined]
    if found:
        op, count = found.most_common(1)[0]
        raise SourceError(
            f"{folder} is quantized already ({count} {op} nodes): a second time would add the errors up. "
            "Give the float export, or the checkpoint that it was made of."
        )
