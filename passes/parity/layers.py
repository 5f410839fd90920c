"""Find the layer in which a graph and its checkpoint part, by the residual stream behind every layer."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from olivine.passes.artifact import link_or_copy
from olivine.passes.parity.graph_run import GraphRun
from olivine.passes.parity.reference import Reference

_NORM = re.compile(r"/model/layers\.(\d+)/(input|final_norm)_layernorm/SkipLayerNorm")
_FIRST_NORM = re.compile(r"/model/layers\.0/input_layernorm/LayerNorm")
_OUTPUT = re.compile(r"/model/layers\.(\d+)/attn/o_proj/(?:MatMul|Add)")
#: The output of a norm that also adds: the sum.
_SUM = 3


def parting(folder: Path, reference: Reference, ids: Sequence[int], tolerance: float) -> str:
    """The first place where the two differ, as the end of a sentence.

    Args:
        folder: with the graph.
        reference: the checkpoint.
        ids: a text on which their logits differ.
        tolerance: the relative difference of a token's hidden state that rounding explains.
    """
    graph = onnx.load(folder / _filename(folder), load_external_data=False)
    streams, attentions = _taps(graph)
    expected, outputs = reference.hidden_states(ids)
    last = len(expected) - 1
    with tempfile.TemporaryDirectory(prefix=".parting-", dir=folder.parent) as scratch:
        names = list(dict.fromkeys([*streams.values(), *attentions.values()]))
        computed = dict(zip(names, _run(folder, graph, names, Path(scratch), ids), strict=True))
    for index in range(last + 1):
        if index not in streams or _near(computed[streams[index]], expected[index], tolerance):
            continue
        if index == 0:
            return "the two part in the embedding"
        layer = index - 1
        if layer in attentions and len(outputs) == last:
            part = "MLP" if _near(computed[attentions[layer]], outputs[layer], tolerance) else "attention"
            return f"the two part in layer {layer}, in its {part}"
        return f"the two part in layer {layer}"
    if not streams:
        return "where the two part can't be told: its graph has other names than those of the model builder"
    return f"the two agree up to layer {last - 1} and part in the final norm or the head"


def _filename(folder: Path) -> str:
    return str(GraphRun.decoder_of(folder)["filename"])


def _taps(graph: onnx.ModelProto) -> tuple[dict[int, str], dict[int, str]]:
    """Layers passed -> the value that holds the residual stream; layer -> the output of its attention."""
    streams: dict[int, str] = {}
    attentions: dict[int, str] = {}
    for node in graph.graph.node:
        if _FIRST_NORM.fullmatch(node.name):
            streams[0] = node.input[0]
        elif (norm := _NORM.fullmatch(node.name)) is not None:
            while len(node.output) <= _SUM:
                node.output.append("")
            node.output[_SUM] = node.output[_SUM] or f"{node.name}/sum"
            streams[int(norm[1])] = node.output[_SUM]
        elif (output := _OUTPUT.fullmatch(node.name)) is not None:
            attentions[int(output[1])] = node.output[0]
    return streams, attentions


def _run(
    folder: Path, graph: onnx.ModelProto, names: Sequence[str], scratch: Path, ids: Sequence[int]
) -> list[np.ndarray]:
    """Values of a copy of the graph that gives them."""
    known = {output.name for output in graph.graph.output}
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    name = _filename(folder)
    for file in folder.glob(f"{name}.*"):
        link_or_copy(file, scratch / file.name)
    (scratch / name).write_bytes(graph.SerializeToString())
    return GraphRun(folder, scratch / name).values(ids, names)


def _near(computed: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    difference = np.linalg.norm(computed - expected, axis=-1)
    return bool((difference <= tolerance * np.linalg.norm(expected, axis=-1)).all())
