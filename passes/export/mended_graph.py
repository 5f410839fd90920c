"""Mending of an exported graph: what the model builder could not be told is written into the graph that it made."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from olivine.passes.errors import PassRefused
from olivine.passes.export.mends import layers_without_rope
from olivine.passes.export.rope_tables import RopeTable, RopeTables

_ATTENTION = re.compile(r"/model/layers\.(\d+)/attn/GroupQueryAttention")
_COS, _SIN = 7, 8
#: Layer type -> the builder's names of its tables.
_TABLES = {
    "": ("cos_cache", "sin_cache"),
    "full_attention": ("cos_cache_global", "sin_cache_global"),
    "sliding_attention": ("cos_cache_local", "sin_cache_local"),
}
#: The builder's value of how many tokens there are, those of the cache counted.
_LENGTH = "/model/attn_mask_reformat/attn_mask_subgraph/Gather/output_0"
_LAYER_NORMS = {
    "SimplifiedLayerNormalization": "LayerNormalization",
    "SkipSimplifiedLayerNormalization": "SkipLayerNormalization",
}
#: Offsets of weights in the data file, as ONNX wants them.
_ALIGNED = 4096


def mend_graph(folder: Path, config: Any, mends: Collection[str], tables: Mapping[str, RopeTables]) -> None:
    """Mend ``model.onnx`` in a folder that the builder has just written.

    Args:
        folder: with the graph and its data.
        config: the model's, as transformers parsed it.
        mends: of the model.
        tables: of its RoPE, where that is mended.

    Raises:
        PassRefused: when the graph lacks what is to be mended.
    """
    graph = _Graph(folder / "model.onnx")
    if "rope" in mends:
        for kind, table in tables.items():
            graph.replace_tables(_TABLES[kind], table)
    if "no_rope_layers" in mends:
        graph.drop_rope(layers_without_rope(str(config.architectures[0]), config.to_dict()))
    if "layer_norm" in mends:
        graph.subtract_means()
    if "clip_qkv" in mends:
        graph.clip_projections(float(config.clip_qkv))
    graph.save()


class _Graph:
    """A graph whose weights stay in their file; new ones are appended to it."""

    def __init__(self, path: Path) -> None:
        self._path, self._data = path, path.with_name(f"{path.name}.data")
        self._model = onnx.load(path, load_external_data=False)
        self._weights = {weight.name: weight for weight in self._model.graph.initializer}

    def replace_tables(self, names: tuple[str, str], tables: RopeTables) -> None:
        """Put tables in the place of the builder's: one, or the one that the length of the text asks for."""
        for name in names:
            if name not in self._weights:
                raise PassRefused(f"the RoPE scaling of this model can't be exported: its graph has no table '{name}'")
        if tables.long is None:
            self._replace(names, tables.table)
            return
        dtype = self._weights[names[0]].data_type
        for name in names:
            self._model.graph.initializer.remove(self._weights.pop(name))
        self._insert_first(_by_length(names, tables, dtype))

    def _replace(self, names: tuple[str, str], table: RopeTable) -> None:
        for name, values in zip(names, (table.cos, table.sin), strict=True):
            weight = self._weights[name]
            array = values.astype(helper.tensor_dtype_to_np_dtype(weight.data_type))
            place = {entry.key: entry for entry in weight.external_data}
            if not place:
                weight.CopyFrom(numpy_helper.from_array(array, name))
                continue
            with self._data.open("r+b") as stream:
                same = int(place["length"].value) == array.nbytes
                offset = int(place["offset"].value) if same else -(-stream.seek(0, 2) // _ALIGNED) * _ALIGNED
                stream.seek(offset)
                stream.write(array.tobytes())
            place["offset"].value, place["length"].value = str(offset), str(array.nbytes)
            del weight.dims[:]
            weight.dims.extend(array.shape)

    def drop_rope(self, layers: Collection[int]) -> None:
        """Let some layers attend without positions."""
        left = set(layers)
        for node in self._attentions():
            layer = int(_ATTENTION.fullmatch(node.name)[1])  # type: ignore[index] # it has just matched
            if layer in layers:
                left.discard(layer)
                node.input[_COS] = node.input[_SIN] = ""
                next(attribute for attribute in node.attribute if attribute.name == "do_rotary").i = 0
        if left:
            raise PassRefused(
                f"layers {sorted(left)} have no RoPE, and this provider's graph has it apart from attention"
            )

    def subtract_means(self) -> None:
        """Make every RMS norm a layer norm without bias."""
        for node in self._model.graph.node:
            node.op_type = _LAYER_NORMS.get(node.op_type, node.op_type)

    def clip_projections(self, limit: float) -> None:
        """Clip what attention reads: queries, keys and values, in one or apart."""
        nodes = list(self._model.graph.node)
        dtype = next(iter(self._weights.values())).data_type
        bounds = [
            numpy_helper.from_array(np.array(bound, helper.tensor_dtype_to_np_dtype(dtype)), name)
            for name, bound in (("clip_qkv_low", -limit), ("clip_qkv_high", limit))
        ]
        self._model.graph.initializer.extend(bounds)
        for node in self._attentions():
            for place in range(3):
                if value := node.input[place]:
                    clip = helper.make_node(
                        "Clip",
                        [value, *(bound.name for bound in bounds)],
                        [f"{value}/clipped"],
                        f"{node.name}/clip_{place}",
                    )
                    node.input[place] = clip.output[0]
                    nodes.insert(nodes.index(node), clip)
        self._set_nodes(nodes)

    def _attentions(self) -> list[onnx.NodeProto]:
        attentions = [node for node in self._model.graph.node if _ATTENTION.fullmatch(node.name)]
        if not attentions:
            raise PassRefused("this provider's graph of the model can't be mended: it has no GroupQueryAttention")
        return attentions

    def _insert_first(self, added: Iterable[onnx.NodeProto]) -> None:
        """Put nodes right behind the one that counts the tokens."""
        nodes = list(self._model.graph.node)
        counted = next((place for place, node in enumerate(nodes) if _LENGTH in node.output), None)
        if counted is None:
            raise PassRefused("RoPE that depends on the length of the text can't be exported for this provider")
        self._set_nodes([*nodes[: counted + 1], *added, *nodes[counted + 1 :]])

    def _set_nodes(self, nodes: Iterable[onnx.NodeProto]) -> None:
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self._model.graph.node[:]
        self._model.graph.node.extend(copies)

    def save(self) -> None:
        """Write the graph over the old one."""
        self._path.write_bytes(self._model.SerializeToString(deterministic=True))


def _by_length(names: tuple[str, str], tables: RopeTables, dtype: int) -> list[onnx.NodeProto]:
    """Nodes that choose between two pairs of tables, as the builder's for Phi 3 do."""
    assert tables.long is not None
    as_type = helper.tensor_dtype_to_np_dtype(dtype)

    def branch(name: str, table: RopeTable) -> onnx.GraphProto:
        values = (table.cos, table.sin)
        nodes = [
            helper.make_node(
                "Constant",
                [],
                [f"{output_name}_{name}"],
                f"/{name}/{output_name}/Constant",
                value=numpy_helper.from_array(array.astype(as_type), f"{output_name}_{name}"),
            )
            for output_name, array in zip(names, values, strict=True)
        ]
        outputs = [
            helper.make_tensor_value_info(f"{output_name}_{name}", dtype, array.shape)
            for output_name, array in zip(names, values, strict=True)
        ]
        return helper.make_graph(nodes, f"{name}_rope_tables", [], outputs)

    place = "/model/rope_tables"
    limit = numpy_helper.from_array(np.array(tables.switch, np.int64), f"{place}/limit")
    return [
        helper.make_node("Constant", [], [f"{place}/limit"], f"{place}/Constant", value=limit),
        helper.make_node("Greater", [_LENGTH, f"{place}/limit"], [f"{place}/longer"], f"{place}/Greater"),
        helper.make_node(
            "If",
            [f"{place}/longer"],
            list(names),
            f"{place}/If",
            then_branch=branch("long", tables.long),
            else_branch=branch("short", tables.table),
        ),
    ]
