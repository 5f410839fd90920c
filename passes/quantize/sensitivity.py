"""Sensitivity: how much KL divergence storing a layer in a format is predicted to cost, in nats per token.

An output feature whose error has the mean square e adds about half of ``e * E[g^2]``, with g its gradient (see
``gradients.py``). Two sources of error:

1. the weight: ``e = d^T H d`` with d the feature's weight error and H the second moment of the layer's input;
2. the activation, where it becomes uint8 with one scale a tensor: its rounding error has the power ``s^2 / 12`` of
   the step s, whatever the feature, so ``e = s^2 / 12 * |w|^2``.

Errors of different layers are taken as independent. That holds for small ones; for a whole model at 4 bits the sum
was half of the true divergence. It ranks layers; the real divergence is measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from olivine.passes.artifact import digest
from olivine.passes.calibrated import Calibrated
from olivine.passes.gradients import gradients_key
from olivine.passes.graph import Linear, linears, load_graph
from olivine.passes.quantize.block_format import BlockFormat
from olivine.passes.quantize.dynamic import channel_codes, channel_scales
from olivine.passes.quantize.layer_codes import layer_codes

#: Raised whenever the same format and text would give other predictions.
VERSION = 1
_FILE = "sensitivity.json"


def weight_sensitivity(error: np.ndarray, hessian: np.ndarray, gradient_power: np.ndarray) -> float:
    """Predicted divergence of a weight error.

    Args:
        error: weight minus what is stored, float32 [K, N].
        hessian: second moment of the input, float32 [K, K].
        gradient_power: of the output features, float32 [N].
    """
    of_features = np.einsum("kn,kn->n", error, hessian @ error, dtype=np.float64)
    return 0.5 * float(of_features @ gradient_power)


def activation_sensitivity(weight: np.ndarray, step_power: float, gradient_power: np.ndarray) -> float:
    """Predicted divergence of rounding the input [n, K] to one uint8 tensor.

    Args:
        weight: float32 [K, N].
        step_power: mean squared rounding error of an input feature.
        gradient_power: of the output features, float32 [N].
    """
    return 0.5 * step_power * float(np.square(weight).sum(0, dtype=np.float64) @ gradient_power)


def block_sensitivities(form: BlockFormat, calibrated: Calibrated) -> dict[str, float]:
    """Path of every linear layer of a graph -> predicted divergence of storing its weight in ``form``."""

    def predict(layers: Sequence[Linear]) -> dict[str, float]:
        computed = zip(layers, layer_codes(layers, form, calibrated), strict=True)
        return {layer.path: _of_weight(layer, codes().dequantize(), calibrated) for layer, codes in computed}

    return _kept(["blocks", form.params()], calibrated, predict)


def dynamic_sensitivities(calibrated: Calibrated, top: int) -> dict[str, float]:
    """Path of every linear layer of a graph -> predicted divergence of dynamic int8 (see ``dynamic.py``).

    Args:
        calibrated: the float graph and what was seen of it.
        top: the largest code of a weight.
    """

    def predict(layers: Sequence[Linear]) -> dict[str, float]:
        found = {}
        for layer in layers:
            weight = layer.array()
            stored = channel_codes(weight, top) * channel_scales(weight, top)
            power = calibrated.gradients.of(layer)
            rounding = activation_sensitivity(weight, calibrated.step_power(layer), power)
            found[layer.path] = _of_weight(layer, stored, calibrated) + rounding
        return found

    return _kept(["dynamic", top], calibrated, predict)


def _of_weight(layer: Linear, stored: np.ndarray, calibrated: Calibrated) -> float:
    return weight_sensitivity(layer.array() - stored, calibrated.hessian(layer), calibrated.gradients.of(layer))


def _kept(
    what: list[Any], calibrated: Calibrated, predict: Callable[[Sequence[Linear]], dict[str, float]]
) -> dict[str, float]:
    """The predictions for all linear layers of the graph, computed once and kept in the cache."""
    checkpoint = calibrated.checkpoint
    gradients = gradients_key(checkpoint.key, calibrated.text) if checkpoint else None
    key = digest(
        ["sensitivity", VERSION, what, calibrated.graph.key, calibrated.key, gradients, {"numpy": version("numpy")}]
    )

    def write(to: Path) -> frozenset[str]:
        found = predict(list(linears(load_graph(calibrated.graph.onnx_path()))))
        (to / _FILE).write_text(json.dumps(found, indent=1))
        return frozenset({"sensitivity"})

    entry = calibrated.cache.get(key) or calibrated.cache.put(key, write)
    found: dict[str, float] = json.loads((entry.path / _FILE).read_text())
    return found
