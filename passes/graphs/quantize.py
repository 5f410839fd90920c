"""Weights and activations of a graph in int8: with static ranges in QDQ form, or with dynamic ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import onnx

from olivine.passes.base import Axis, Choice, GraphFacts, GraphFilePass
from olivine.passes.cpu import int8_sums_saturate
from olivine.passes.errors import PassRefused
from olivine.passes.graphs.graph_inputs import Feed, read_feeds
from olivine.passes.graphs.quiet import errors_only
from olivine.passes.store.digests import digest

#: Products whose weights are constant; the embedding's operators are a choice of their own.
PRODUCTS = ("MatMul", "Gemm", "Attention")
EMBEDDINGS = ("Gather", "EmbedLayerNormalization")
#: Operators that static ranges are worth it for: products and convolutions.
STATIC = ("MatMul", "Gemm", "Conv")
#: Operators that end an activation function: fused ones, and the last product of one that is written out.
_ACTIVATED = ("Gelu", "FastGelu", "BiasGelu", "QuickGelu", "Relu", "Mul")
_EXTRA = {"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT}
#: Bits of a weight by precision.
BITS = {"int8": 8, "int4": 4}


def integer_activations(choice: Choice) -> bool:
    """True where activations are int8, not float."""
    return choice.get("activations") in ("dynamic", "static")


@dataclass(frozen=True)
class GraphStaticQuantize(GraphFilePass):
    """Weights in int8, activations in uint8 with ranges from calibration samples, in QDQ form.

    Attributes:
        per_channel: each output channel of a weight has a scale of its own.
        float_down: products that read an activation function stay float.
        calibration: rule that chooses ranges from the samples.
        reduce_range: weights have 7 bits. Recipes of olivine 0.1.0's first days do not say it: this machine's value.
    """

    per_channel: bool
    float_down: bool
    calibration: str
    reduce_range: bool = field(default_factory=int8_sums_saturate)

    name: ClassVar[str] = "static_int8"
    adds: ClassVar[frozenset[str]] = frozenset({"quantized"})
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis("precision", "choice", "fp32", "type of the weights", ("fp32", *BITS)),
        Axis(
            "activations",
            "choice",
            "float",
            "float, or int8 with ranges found at run time (dynamic) or by calibration (static, QDQ)",
            ("float", "dynamic", "static"),
            applies=lambda choice: choice.get("precision") == "int8",
        ),
        Axis(
            "calibration",
            "choice",
            "minmax",
            "method that chooses static ranges from calibration samples",
            ("minmax", "entropy", "percentile"),
            applies=lambda choice: choice.get("activations") == "static",
        ),
        Axis(
            "per_channel",
            "bool",
            True,
            "give each output channel of a weight a scale of its own",
            applies=integer_activations,
        ),
        Axis(
            "float_down",
            "bool",
            False,
            "keep products that read an activation function float, since their inputs have outliers",
            applies=integer_activations,
        ),
    )

    @classmethod
    def from_choice(cls, choice: Choice) -> GraphStaticQuantize | None:
        """A step for ``activations: static`` alone."""
        if choice.get("activations") != "static":
            return None
        return cls(bool(choice["per_channel"]), bool(choice["float_down"]), str(choice["calibration"]))

    @property
    def needs_calibration(self) -> bool:
        """Always: ranges are learned from samples."""
        return True

    def key_parts(self, facts: GraphFacts) -> list[str]:
        """The samples' content, whatever their file is called."""
        feeds = read_feeds(self._samples(facts))
        return [
            "",
            digest([[name, str(array.dtype), array.tolist()] for feed in feeds for name, array in feed.items()]),
        ]

    def apply(self, graph: Path, to: Path, facts: GraphFacts) -> None:
        """Write the quantized graph to the file ``to``.

        Raises:
            PassRefused: when the graph has no product or convolution to quantize, or there are no samples.
        """
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )

        class Reader(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
            def __init__(self, samples: Sequence[Feed]) -> None:
                self._left = iter(samples)

            def get_next(self) -> Any:
                return next(self._left, None)

        model = onnx.load(graph)
        operators = _present(model, STATIC, self.name)
        _declare_floats(model, operators)
        methods = {
            "minmax": CalibrationMethod.MinMax,
            "entropy": CalibrationMethod.Entropy,
            "percentile": CalibrationMethod.Percentile,
        }
        with errors_only(""):
            quantize_static(
                model,
                str(to),
                Reader(read_feeds(self._samples(facts))),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=operators,
                per_channel=self.per_channel,
                reduce_range=self.reduce_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=_after_activation(model) if self.float_down else None,
                calibrate_method=methods[self.calibration],
                extra_options=dict(_EXTRA),
            )

    def _samples(self, facts: GraphFacts) -> Path:
        if facts.samples is None:
            raise PassRefused(f"{self.name} learns from calibration samples, and none were given")
        return facts.samples


@dataclass(frozen=True)
class GraphDynamicQuantize(GraphFilePass):
    """Weights in int8, activations in uint8 with ranges found at run time.

    Attributes:
        per_channel: each output channel of a weight has a scale of its own.
        float_down: products that read an activation function stay float.
        embedding: ``float`` or ``int8`` embedding tables.
        reduce_range: weights have 7 bits; as :attr:`GraphStaticQuantize.reduce_range`.
    """

    per_channel: bool
    float_down: bool
    embedding: str
    reduce_range: bool = field(default_factory=int8_sums_saturate)

    name: ClassVar[str] = "dynamic_int8"
    adds: ClassVar[frozenset[str]] = frozenset({"quantized"})
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "embedding",
            "choice",
            "float",
            "precision of embedding tables",
            ("float", "int8"),
            applies=lambda choice: choice.get("activations") == "dynamic",
        ),
    )

    @classmethod
    def from_choice(cls, choice: Choice) -> GraphDynamicQuantize | None:
        """A step for ``activations: dynamic`` alone."""
        if choice.get("activations") != "dynamic":
            return None
        return cls(bool(choice["per_channel"]), bool(choice["float_down"]), str(choice["embedding"]))

    def apply(self, graph: Path, to: Path, facts: GraphFacts) -> None:
        """Write the quantized graph to the file ``to``.

        Raises:
            PassRefused: when no product has a constant weight.
        """
        from onnxruntime.quantization import QuantType, quantize_dynamic

        model = onnx.load(graph)
        operators = _present(model, PRODUCTS + (EMBEDDINGS if self.embedding == "int8" else ()), self.name)
        with errors_only(""):  # it warns that the graph was not preprocessed, once a call
            quantize_dynamic(
                model,
                str(to),
                op_types_to_quantize=operators,
                per_channel=self.per_channel,
                reduce_range=self.reduce_range,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=_after_activation(model) if self.float_down else None,
                extra_options=dict(_EXTRA),
            )


def _present(model: onnx.ModelProto, operators: Sequence[str], pass_name: str) -> list[str]:
    """The operators that the graph has.

    Raises:
        PassRefused: when it has none of them.
    """
    present = {node.op_type for node in model.graph.node}.intersection(operators)
    if not present:
        raise PassRefused(f"{pass_name}: the graph has no {', '.join(operators)}")
    return [operator for operator in operators if operator in present]


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
