"""A graph of one linear layer, many times over, whose weights lie in two files that all such graphs share.

The files hold anything: the time of a product does not depend on the values, as long as none is subnormal.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from olivine.evaluators.kernels.timing import CODES, FLOATS
from olivine.passes.kernel import DYNAMIC_INT8_BY_TOKEN, Kernel

_MICROSOFT = "com.microsoft"
#: Weights start at whole pages, as memory maps have them.
_PAGE = 4096


class KernelGraph:
    """``copies`` layers of one shape, each with a weight and an input of its own: nothing is shared or folded.

    Args:
        kernel: form in which the layers are stored.
        k: input features.
        n: output features.
        tokens: rows of an input.
        copies: number of layers.
    """

    def __init__(self, kernel: Kernel, k: int, n: int, tokens: int, copies: int) -> None:
        self._kernel, self._k, self._n = kernel, k, n
        self._nodes: list[NodeProto] = []
        self._weights: list[TensorProto] = []
        #: Bytes that the graph reads of each file.
        self.sizes = {FLOATS: 0, CODES: 0}
        inputs: list[ValueInfoProto] = []
        outputs: list[ValueInfoProto] = []
        for copy in range(copies):
            self._add(copy)
            inputs.append(helper.make_tensor_value_info(f"x{copy}", TensorProto.FLOAT, [1, tokens, k]))
            outputs.append(helper.make_tensor_value_info(f"y{copy}", TensorProto.FLOAT, [1, tokens, n]))
        graph = helper.make_graph(self._nodes, "kernel", inputs, outputs, self._weights)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(_MICROSOFT, 1)]
        self._model = helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def to_bytes(self) -> bytes:
        """The serialized graph."""
        return bytes(self._model.SerializeToString())

    def _add(self, copy: int) -> None:
        kernel, k, n = self._kernel, self._k, self._n
        x, y = f"x{copy}", f"y{copy}"
        if kernel.integer_activations:
            codes = self._weight(f"codes{copy}", TensorProto.INT8, k, n)
            scales = self._weight(f"scales{copy}", TensorProto.FLOAT, n)
            quantized, scale, zero_point = (f"{part}{copy}" for part in ("quantized", "scale", "zero_point"))
            by_token = kernel == DYNAMIC_INT8_BY_TOKEN
            divided, product = (f"divided{copy}", f"product{copy}") if by_token else (x, y)
            if by_token:
                self._divide_rows(copy, x, divided)
            self._node("DynamicQuantizeLinear", [divided], [quantized, scale, zero_point])
            self._node("MatMulIntegerToFloat", [quantized, codes, scale, scales, zero_point], [product], _MICROSOFT)
            if by_token:
                self._node("Mul", [product, f"peaks{copy}"], [y])
        elif kernel.bits:
            blocks = math.ceil(k / kernel.block_size)
            codes = self._weight(f"codes{copy}", TensorProto.UINT8, n, blocks, kernel.block_size * kernel.bits // 8)
            scales = self._weight(f"scales{copy}", TensorProto.FLOAT, n, blocks)
            form = {"bits": kernel.bits, "block_size": kernel.block_size, "accuracy_level": kernel.accuracy_level}
            self._node("MatMulNBits", [x, codes, scales], [y], _MICROSOFT, K=k, N=n, **form)
        else:
            self._node("MatMul", [x, self._weight(f"weight{copy}", TensorProto.FLOAT, k, n)], [y])

    def _divide_rows(self, copy: int, x: str, divided: str) -> None:
        """Divide each row by its largest magnitude, as ``passes/quantize/row_scale.py`` does."""
        if not copy:
            for name, array in (("axes", np.array([-1], np.int64)), ("least", np.array(1e-30, np.float32))):
                self._weights.append(numpy_helper.from_array(array, name))
        magnitudes, largest, peaks = (f"{part}{copy}" for part in ("magnitudes", "largest", "peaks"))
        self._node("Abs", [x], [magnitudes])
        self._node("ReduceMax", [magnitudes, "axes"], [largest], keepdims=1)
        self._node("Max", [largest, "least"], [peaks])
        self._node("Div", [x, peaks], [divided])

    def _node(self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: int) -> None:
        node = helper.make_node(op, inputs, outputs, name=f"{op}{len(self._nodes)}", domain=domain)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in sorted(attributes.items()))
        self._nodes.append(node)

    def _weight(self, name: str, dtype: int, *shape: int) -> str:
        """A weight that lies behind those before it in its file."""
        file = FLOATS if dtype == TensorProto.FLOAT else CODES
        length = math.prod(shape) * (4 if dtype == TensorProto.FLOAT else 1)
        tensor = TensorProto(name=name, data_type=dtype, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", file), ("offset", self.sizes[file]), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        self.sizes[file] += _PAGE * math.ceil(length / _PAGE)
        self._weights.append(tensor)
        return name
