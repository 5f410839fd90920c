"""The key-value cache in int8 or int4: ``GroupQueryAttention`` stores and reads integers, a step for each channel.

    Q, K, V -> GroupQueryAttention(past int8, present int8, k_scale, v_scale) -> output

Steps are learned from calibration text (``learn/cache_scales.py``). The CPU kernel of ONNX Runtime 1.31 writes the keys
and values of a prompt into the cache first and attends over what it reads back. So a window that is scored in one
piece loses what a chat loses that was read piece by piece. int4 packs two codes into a byte.

Case 1: every attention layer is a GroupQueryAttention with a float cache of its own: all caches are quantized.
Case 2: a layer's attention is another operator, its cache is somebody else's, integer already, or kept window by window
  (``sliding_window_cache``): refused, since ONNX Runtime GenAI gives all layers caches of one type.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from olivine.passes.base import Axis, Choice
from olivine.passes.errors import PassRefused, UsageError, did_you_mean
from olivine.passes.graph import add_initializer
from olivine.passes.learn.cache_scales import ATTENTION, LIMITS, Attention
from olivine.passes.learn.calibrated import Calibrated
from olivine.passes.precisions import INTEGER_BITS
from olivine.passes.quantize.quantize_pass import CalibratedPass

#: Places of the inputs of a GroupQueryAttention.
PAST, SCALES = (3, 4), (12, 13)
_TYPES = {8: ir.DataType.INT8, 4: ir.DataType.UINT8}
_CACHE_NAMES = (".key", ".value")


@dataclass(frozen=True)
class QuantizeCache(CalibratedPass):
    """Store the key-value cache as integers.

    Attributes:
        bits: 8 or 4.
    """

    bits: int

    name: ClassVar[str] = "kv_cache"
    version: ClassVar[int] = 2
    requires: ClassVar[frozenset[str]] = frozenset({"onnx"})
    adds: ClassVar[frozenset[str]] = frozenset({"quantized"})
    libraries: ClassVar[tuple[str, ...]] = ("onnx-ir", "numpy")
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "kv_cache",
            "choice",
            "float",
            "type of the key-value cache: int8 and int4 take a quarter and an eighth of the memory of a long context, "
            "with steps learned from calibration text",
            ("float", *sorted(INTEGER_BITS, reverse=True)),
            applies=lambda choice: choice.get("provider") == "cpu",
            calibrated=tuple(INTEGER_BITS),
            later=True,
        ),
    )

    def __post_init__(self) -> None:
        """Check the parameter that a request file may bring."""
        if self.bits not in LIMITS:
            raise UsageError(f"{self.name}: unknown bits '{self.bits}'. {did_you_mean(self.bits, tuple(LIMITS))}")

    @classmethod
    def from_choice(cls, choice: Choice) -> QuantizeCache | None:
        """The pass for ``kv_cache: int8`` or ``int4``."""
        bits = INTEGER_BITS.get(str(choice.get("kv_cache", "float")))
        return None if bits is None else cls(bits)

    @property
    def needs_calibration(self) -> bool:
        """Always: the steps are learned."""
        return True

    def rewrite(self, model: ir.Model) -> None:
        """Refuse: without calibration text there are no steps.

        Raises:
            PassRefused: always.
        """
        raise PassRefused(f"pass '{self.name}' learns from calibration text, and none was given")

    def rewrite_calibrated(self, model: ir.Model, calibrated: Calibrated) -> None:
        """Give every attention node steps for its cache, and every cache of the graph its new type.

        Raises:
            PassRefused: when a layer's attention can't have an integer cache.
        """
        for node, attention in self._layers(model):
            for part, output in enumerate((attention.key, attention.value)):
                steps = calibrated.cache_scales.of(output, self.bits)
                scale = add_initializer(
                    model, f"{output}.scale", ir.DataType.FLOAT, (steps.size,), partial(np.reshape, steps, -1)
                )
                self._store(node, part, scale, steps.shape[1])
            node.attributes["kv_cache_bit_width"] = ir.AttrInt64("kv_cache_bit_width", self.bits)

    def _store(self, node: ir.Node, part: int, scale: ir.Value, channels: int) -> None:
        """Keep the keys (``part`` 0) or values (1) of an attention node in integers of these steps."""
        if channels * self.bits % 8:
            raise PassRefused(f"{self.name}: two codes fill a byte, and a head of {node.name} has {channels} channels")
        node.resize_inputs(max(len(node.inputs), SCALES[part] + 1))
        node.replace_input_with(SCALES[part], scale)
        name = f"{'kv'[part]}_quant_type"
        node.attributes[name] = ir.AttrString(name, "PER_CHANNEL")
        for value in (node.inputs[PAST[part]], node.outputs[1 + part]):
            assert value is not None
            value.type = ir.TensorType(_TYPES[self.bits])
            if value.shape is not None:
                value.shape = ir.Shape([*list(value.shape)[:-1], channels * self.bits // 8])

    def _layers(self, model: ir.Model) -> list[tuple[ir.Node, Attention]]:
        """Attention nodes with what their steps depend on.

        Raises:
            PassRefused: when the cache of a layer is not that of a GroupQueryAttention alone.
        """
        nodes = [node for node in model.graph if node.op_type == ATTENTION]
        if not nodes:
            found = sorted({node.op_type for node in model.graph if "Attention" in node.op_type})
            raise PassRefused(
                f"{self.name}: only {ATTENTION} keeps its cache in integers; attention here is "
                f"{', '.join(found) or 'of plain operators'}"
            )
        caches = {id(cache) for node in nodes for cache in self._caches(node)}
        for value in model.graph.inputs:
            if str(value.name).endswith(_CACHE_NAMES) and id(value) not in caches:
                readers = sorted({use.node.op_type for use in value.uses()})
                raise PassRefused(
                    f"{self.name}: all layers have caches of one type, and '{value.name}' is read by "
                    f"{', '.join(readers) or 'nothing'}; only {ATTENTION} keeps its cache in integers"
                )
        return [(node, Attention.of(node)) for node in nodes]

    def _caches(self, node: ir.Node) -> list[ir.Value]:
        """The inputs of the graph that are the cache of an attention node."""
        windowed = node.attributes.get("sliding_window_cache")
        if windowed is not None and windowed.as_int():
            raise PassRefused(f"{self.name}: {node.name} keeps a window of its cache, and such caches stay float")
        caches = [value for value in (node.inputs[place] for place in PAST) if value is not None]
        if len(caches) < len(PAST) or any(not v.is_graph_input() or len(v.uses()) > 1 for v in caches):
            raise PassRefused(f"{self.name}: {node.name} has no cache of its own")
        return caches
