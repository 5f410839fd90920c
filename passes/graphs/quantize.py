"""Integer forms of a plain graph: dynamic int8, static int8 in QDQ form, and weights alone in blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from olivine.passes.base import Scalar
from olivine.passes.errors import PassRefused
from olivine.passes.graph import linears, load_graph, save_graph
from olivine.passes.graphs.graph_inputs import Feed
from olivine.passes.graphs.quiet import errors_only
from olivine.passes.quantize.block_format import BlockFormat
from olivine.passes.quantize.layer_codes import layer_codes
from olivine.passes.quantize.matmul_nbits import Stored, store_in_blocks

#: Products whose weights are constant; the embedding's operators are a choice of their own.
PRODUCTS = ("MatMul", "Gemm", "Attention")
EMBEDDINGS = ("Gather", "EmbedLayerNormalization")
#: What static ranges are worth: products and convolutions.
STATIC = ("MatMul", "Gemm", "Conv")
#: What ends in an activation function: fused ones, and the last product of one that is written out.
_ACTIVATED = ("Gelu", "FastGelu", "BiasGelu", "QuickGelu", "Relu", "Mul")
#: The kernel's arithmetic for weights in blocks: int8, the fast one.
ACCURACY_LEVEL = 4


def dynamic_int8(graph: Path, to: Path, params: Mapping[str, Scalar]) -> None:
    """Weights in int8, activations in uint8 with ranges found at run time.

    Raises:
        PassRefused: when no product has a constant weight.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(graph)
    wanted = PRODUCTS + (EMBEDDINGS if params.get("embedding") == "int8" else ())
    kinds = _present(model, wanted)
    if not kinds:
        raise PassRefused(f"dynamic_int8: the graph has no {', '.join(PRODUCTS)}")
    with errors_only(""):  # it warns that the graph was not preprocessed, once a call
        quantize_dynamic(
            model,
            str(to),
            op_types_to_quantize=kinds,
            per_channel=bool(params["per_channel"]),
            reduce_range=bool(params["reduce_range"]),
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_after_activation(model) if params["float_down"] else None,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )


def static_int8(graph: Path, to: Path, params: Mapping[str, Scalar], samples: Sequence[Feed]) -> None:
    """Weights in int8, activations in uint8 with ranges from calibration samples, in QDQ form.

    Raises:
        PassRefused: when the graph has no product or convolution to quantize.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
        def __init__(self) -> None:
            self._left = iter(samples)

        def get_next(self) -> Any:
            return next(self._left, None)

    model = onnx.load(graph)
    kinds = _present(model, STATIC)
    if not kinds:
        raise PassRefused(f"static_int8: the graph has no {', '.join(STATIC)}")
    _declare_floats(model, kinds)
    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    with errors_only(""):
        quantize_static(
            model,
            str(to),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=kinds,
            per_channel=bool(params["per_channel"]),
            reduce_range=bool(params["reduce_range"]),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_after_activation(model) if params["float_down"] else None,
            calibrate_method=methods[str(params["calibration"])],
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )


def weight_only(graph: Path, to: Path, params: Mapping[str, Scalar]) -> None:
    """Constant weights of MatMuls in blocks of integers (MatMulNBits); activations stay float.

    Raises:
        PassRefused: when no MatMul has a constant weight.
    """
    model = load_graph(graph)
    form = BlockFormat(int(params["bits"]), str(params["algorithm"]), int(params["block_size"]), True)
    layers = [layer for layer in linears(model) if layer.weight.is_initializer()]
    if not layers:
        raise PassRefused("weight_only: the graph has no MatMul with a constant weight")
    codes = layer_codes(layers, form)
    store_in_blocks(model, [Stored(one, form, of) for one, of in zip(layers, codes, strict=True)], ACCURACY_LEVEL)
    save_graph(model, to)


def _present(model: onnx.ModelProto, wanted: Sequence[str]) -> list[str]:
    found = {node.op_type for node in model.graph.node}
    return [kind for kind in wanted if kind in found]


def _declare_floats(model: onnx.ModelProto, kinds: Sequence[str]) -> None:
    """Say of what products read and give that it is float, where the graph does not.

    onnx infers no types behind ONNX Runtime's own operators, such as fused attention, and the quantizer leaves tensors
    of unknown type as they are.
    """
    graph = model.graph
    known = {value.name for value in (*graph.input, *graph.output, *graph.value_info)}
    known |= {weight.name for weight in graph.initializer}
    for node in graph.node:
        for name in (*node.input, *node.output) if node.op_type in kinds else ():
            if name and name not in known:
                graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
                known.add(name)


def _after_activation(model: onnx.ModelProto) -> list[str]:
    """Names of the products that read an activation function."""
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    weights = {weight.name for weight in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm") and makers.get(node.input[0]) in _ACTIVATED and node.input[1] in weights
    ]


def read_feeds(path: Path) -> list[Feed]:
    """The samples in a file, in their order; see :func:`write_feeds`."""
    with np.load(path) as stored:
        names: dict[int, list[str]] = {}
        for name in stored.files:
            number, _, given = name.partition("/")
            names.setdefault(int(number), []).append(given)
        return [{given: stored[f"{number}/{given}"] for given in names[number]} for number in sorted(names)]


def write_feeds(path: Path, feeds: Sequence[Feed]) -> None:
    """Write samples, each array under ``number/input``."""
    arrays = {f"{number}/{name}": value for number, feed in enumerate(feeds) for name, value in feed.items()}
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
