"""ONNX Runtime GenAI folders as sources: whole, and still float."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.passes.artifact import ABOUT, GENAI_CONFIG
from olivine.passes.errors import SourceError, UsageError
from olivine.passes.sources.external_data import external_files, tensors
from olivine.passes.sources.file_names import inside, refuse_foreign_links
from olivine.passes.sources.json_file import read_json

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
#: Entries of genai_config.json by which ONNX Runtime loads a library, and what libraries are called.
_LOADS_CODE = ("custom_ops_library", "library_path", "backend_path")
_LIBRARIES = (".so", ".dll", ".dylib")


@dataclass(frozen=True)
class GenAIFolder:
    """A float GenAI folder.

    Attributes:
        model_type: genai_config.json's ``model.type``, such as ``llama``.
        dtype: type of most of its weights, in transformers' words.
        weight_bytes: the graph and its external data.
        graph: name of the graph's file.
        renamed: files of weights that are not named after the graph -> what :func:`copy` calls them.
    """

    model_type: str
    dtype: str
    weight_bytes: int
    graph: str
    renamed: Mapping[str, str]


def read_genai_config(folder: Path) -> dict[str, Any]:
    """Read the genai_config.json of a model folder that is to be run.

    Raises:
        UsageError: when there is none, or it names no model.
    """
    path = folder / GENAI_CONFIG
    if not path.is_file():
        what = f"has no {GENAI_CONFIG}" if folder.is_dir() else "is no folder"
        raise UsageError(
            f"{folder} {what}: this takes an ONNX Runtime GenAI folder, such as `olivine export` and "
            "`olivine build` make."
        )
    config = read_json(path)
    refuse_native_code(config, str(folder))
    if "decoder" not in (config.get("model") or {}):
        raise UsageError(f"{path} names no model.decoder, so there is no language model to load.")
    return config


def files(folder: Path) -> list[Path]:
    """The folder's files, sorted, without those that an earlier export added about it."""
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name not in ABOUT)


def copy(folder: Path, to: Path) -> None:
    """Copy the folder's files to ``to``, with weights in files named ``<graph>.*``: by that name passes know them.

    Raises:
        SourceError: as :func:`check`.
    """
    import onnx

    source = check(folder)
    for file in files(folder):
        shutil.copyfile(file, to / source.renamed.get(file.name, file.name))
    if source.renamed:
        graph = onnx.load(to / source.graph, load_external_data=False)
        for tensor in tensors(graph):
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = source.renamed.get(entry.value, entry.value)
        onnx.save(graph, to / source.graph)


def _renamed(folder: Path, graph: str, data: set[str]) -> dict[str, str]:
    present = {file.name for file in folder.iterdir()}
    names = itertools.chain([f"{graph}.data"], (f"{graph}.{count}.data" for count in itertools.count(1)))
    free = (name for name in names if name not in present)
    return {name: next(free) for name in sorted(data) if not name.startswith(f"{graph}.")}


def check(folder: Path) -> GenAIFolder:
    """Read the config and the graph, without its weights.

    Raises:
        SourceError: when files or entries are missing, the graph can't be read, or its weights are quantized already.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # protobuf has no types

    config = read_json(folder / GENAI_CONFIG)
    refuse_native_code(config, str(folder))
    try:
        model = config["model"]
        graph_path = inside(folder, model["decoder"]["filename"], GENAI_CONFIG)
    except (KeyError, TypeError) as error:
        raise SourceError(f"{folder}: {GENAI_CONFIG} names no model.decoder.filename: {error}") from error
    _check_decoder(folder, model["decoder"])
    if not graph_path.exists():
        raise SourceError(f"{folder}: {GENAI_CONFIG} names {graph_path.name}, which is not there")
    refuse_foreign_links(folder, [file.name for file in files(folder)])
    try:
        graph_model = onnx.load(graph_path, load_external_data=False)
    except DecodeError as error:
        raise SourceError(f"{graph_path} is not an ONNX graph: {error}") from error
    graph = graph_model.graph
    _check_float(folder, graph)
    data = external_files(graph_path, graph_model)
    kinds = Counter(t.data_type for t in graph.initializer if len(t.dims) == 2)
    names = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16"}
    dtype = names.get(kinds.most_common(1)[0][0], "float32") if kinds else "float32"
    size = sum((folder / name).stat().st_size for name in data | {graph_path.name})
    renamed = _renamed(folder, graph_path.name, data)
    return GenAIFolder(str(model.get("type", "unknown")), dtype, size, graph_path.name, renamed)


def _check_decoder(folder: Path, decoder: dict[str, Any]) -> None:
    """Refuse a config whose entries for the decoder are none that passes can read."""
    options, head_size = decoder.get("session_options", {}), decoder.get("head_size")
    if not isinstance(options, dict):
        raise SourceError(f"{folder}: {GENAI_CONFIG} has a model.decoder.session_options that is no object")
    if type(head_size) is not int or head_size < 1:
        raise SourceError(
            f"{folder}: {GENAI_CONFIG} has {str(head_size)[:100]} as model.decoder.head_size. What fits: the features "
            "of an attention head, a whole number from 1 on."
        )


def _check_float(folder: Path, graph: Any) -> None:
    quantized = Counter(n.op_type for n in graph.node if n.op_type in QUANTIZED)
    if quantized:
        op, count = quantized.most_common(1)[0]
        raise SourceError(
            f"{folder} is quantized already ({count} {op} nodes): a second time would add the errors up. "
            "Give the float export, or the checkpoint that it was made of."
        )


def refuse_native_code(config: Any, where: str) -> None:
    """Refuse a genai_config.json that loads libraries of its own: a model is data, not a program.

    Raises:
        SourceError: naming the entry.
    """
    if isinstance(config, list):
        for entry in config:
            refuse_native_code(entry, where)
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        library = isinstance(value, str) and value.lower().endswith(_LIBRARIES)
        if key in _LOADS_CODE or library:
            raise SourceError(
                f"{where}: {GENAI_CONFIG} loads native code ({key}: {str(value)[:200]}), which is not run. Take the "
                "entry out, if you know the model to run without it."
            )
        refuse_native_code(value, where)
