"""Storing linear layers as dynamic int8: their factors, their codes and the nodes that quantize what they read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from olivine.passes.graph import Linear
from olivine.passes.learn.calibrated import Calibrated
from olivine.passes.quantize.activations.integer_matmul import ChannelCodes, quantize_activations
from olivine.passes.quantize.activations.learned_weights import learned_codes, quieted
from olivine.passes.quantize.layer_format import DynamicInt8
from olivine.passes.quantize.smoothing import smoothing_factors


def store_dynamic(
    model: ir.Model, layers: Sequence[tuple[Linear, DynamicInt8]], calibrated: Calibrated | None = None
) -> dict[ir.Node, np.ndarray]:
    """Replace the MatMul of each layer by an integer product.

    Args:
        model: the graph to change.
        layers: of it, each with its format; all have one largest code, and all or none are smoothed or learned.
        calibrated: results to learn from, where a format learns.

    Returns:
        The nodes that divide -> what they divide by, for :func:`fold_divisions`.

    Raises:
        PassRefused: when a layer reads nothing, or what it reads was not captured.
    """
    if not layers:
        return {}
    tokens = {layer.path for layer, form in layers if form.by_token}
    top = layers[0][1].top
    factors: dict[str, np.ndarray] = {}
    learned: dict[str, ChannelCodes] = {}
    if calibrated is not None:
        taught = [layer for layer, form in layers if form.learned]
        factors = smoothing_of([layer for layer, form in layers if form.smooth], calibrated, top)
        factors |= quieted(taught, calibrated)
        learned = learned_codes(taught, top, calibrated)
    return quantize_activations(model, [layer for layer, _ in layers], top, factors, tokens, learned)


def smoothing_of(layers: Sequence[Linear], calibrated: Calibrated, top: int) -> dict[str, np.ndarray]:
    """Name of each activation that is a gated product -> what its channels are divided by, float32 [K].

    Args:
        layers: that will be dynamic int8.
        calibrated: calibration results about their activations.
        top: the largest code of a weight.
    """
    readers: dict[str, list[Linear]] = {}
    for layer in layers:
        if layer.reads_product:
            readers.setdefault(layer.reads, []).append(layer)
    return {
        name: smoothing_factors(
            [layer.array().astype(np.float32, copy=False) for layer in some],
            calibrated.ranges(some[0]),
            np.diagonal(calibrated.hessian(some[0])),
            top,
        )
        for name, some in readers.items()
    }
