"""Expected loss: the KL divergence that storing a layer in a format should cost, before any code is computed.

Rounding to multiples of a step s leaves an error with the mean square s^2 / 12 (Bennett 1948). What of it reaches the
layer's output depends on how the codes are chosen, with H the second moment of the layer's input:

1. each weight for itself (rtn, k_quant): ``s^2 / 12 * H_kk`` of input feature k;
2. gptq: what the features that are rounded later can make good is made good, and ``s^2 / 12 * M_kk^2`` is left, with
   M the triangular factor of H in the order of rounding (``gptq.py``).

An activation that becomes uint8 adds ``s^2 / 12 * |w|^2`` to every output feature, with s the step of the tensor or of
each token (``activations/activation_range.py``); smoothing and quieting (``smoothing.py``) take most of that away.
Where an output's error has the mean square e, the divergence grows by about half of ``e * E[g^2]``, with g the output's
gradient (see ``gradients.py``). Only a block's range enters: all formats of a model take seconds, where codes take
seconds each.

Errors of different layers are taken as independent. That holds for small ones; for a whole model at 4 bits the sum
is half of the true divergence. It ranks layers and candidates; the real divergence is measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np

from olivine.passes.artifact import ModelArtifact
from olivine.passes.cpu import available_cores
from olivine.passes.graph import Linear, linears, load_graph
from olivine.passes.learn.calibrated import Calibrated
from olivine.passes.learn.gradients import gradients_key
from olivine.passes.learn.merged_layers import Piece, pieces
from olivine.passes.quantize.activations.activation_range import token_step_power
from olivine.passes.quantize.activations.integer_matmul import REDUCED_TOP, TOP
from olivine.passes.quantize.activations.learned_weights import quieted
from olivine.passes.quantize.activations.store_dynamic import smoothing_of
from olivine.passes.quantize.blocks.block_format import BLOCK_SIZES
from olivine.passes.quantize.blocks.gptq import feedback
from olivine.passes.quantize.layer_format import DynamicInt8
from olivine.passes.quantize.layer_loss import LayerLoss, blocks_key, dynamic_key
from olivine.passes.quantize.smoothing import output_error, quieted_share, rounding_error, step_power
from olivine.passes.store.digests import digest

#: Raised whenever the same format and text would give other predictions.
VERSION = 6
_FILE = "losses.json"
_ROUNDING = 1 / 12


def expected_losses(calibrated: Calibrated) -> dict[str, LayerLoss]:
    """Path of every linear layer of the float graph -> its losses; computed once and kept in the cache.

    Those of merged layers are put together from what the measured graph's lose.

    Raises:
        PassRefused: when the source is a graph: sensitivity needs a backward pass of its checkpoint.
    """
    made_of = {path: pieces(path, calibrated.sizes, calibrated.measured_sizes) for path in calibrated.sizes}
    if any(parts is None or _is_part(parts, calibrated) for parts in made_of.values()):
        return _kept(calibrated.graph, calibrated)
    known = _kept(calibrated.measured, calibrated)
    return {
        path: LayerLoss.merged(path, [known[part.path] for part in parts]) for path, parts in made_of.items() if parts
    }


def _is_part(parts: Sequence[Piece], calibrated: Calibrated) -> bool:
    return any(part.stop - part.start < calibrated.measured_sizes[part.path] for part in parts)


def _kept(graph: ModelArtifact, calibrated: Calibrated) -> dict[str, LayerLoss]:
    """Path of every linear layer of a graph -> its losses."""
    checkpoint = calibrated.checkpoint
    gradients = gradients_key(checkpoint.key, calibrated.text) if checkpoint else None
    libraries = {name: version(name) for name in ("numpy", "scipy")}
    key = digest(["expected loss", VERSION, graph.key, calibrated.key, gradients, libraries])

    def write(to: Path) -> frozenset[str]:
        losses = [asdict(loss) for loss in _computed(graph, calibrated)]
        (to / _FILE).write_text(json.dumps(losses, indent=1))
        return frozenset({"expected loss"})

    entry = calibrated.cache.get(key) or calibrated.cache.put(key, write)
    return {raw["path"]: LayerLoss(**raw) for raw in json.loads((entry.path / _FILE).read_text())}


def _computed(graph: ModelArtifact, calibrated: Calibrated) -> Iterator[LayerLoss]:
    from threadpoolctl import threadpool_limits

    layers = list(linears(load_graph(graph.onnx_path())))
    sizes = {layer.path: layer.shape[1] for layer in layers}
    calibrated.hessians, calibrated.gradients  # noqa: B018 - measured once, before threads ask for them
    with threadpool_limits(1), ThreadPoolExecutor(available_cores()) as pool:
        factors = {top: smoothing_of(layers, calibrated, top) for top in (TOP, REDUCED_TOP)}
        yield from pool.map(lambda layer: _of_layer(layer, sizes, calibrated, factors), layers)


def _of_layer(
    layer: Linear, sizes: Mapping[str, int], calibrated: Calibrated, factors: Mapping[int, Mapping[str, np.ndarray]]
) -> LayerLoss:
    k, n = layer.shape
    weight = layer.array().astype(np.float32, copy=False)
    hessian, gradient = calibrated.hessian(layer), calibrated.gradients.of(layer.path, sizes)
    ranges, powers = calibrated.ranges(layer), np.diagonal(hessian)
    of_token = token_step_power(calibrated.tokens(layer))
    dynamic: dict[str, float] = {}
    for top, of_activation in factors.items():
        errors = {
            DynamicInt8(top): output_error(weight, ranges, powers, top),
            DynamicInt8(top, smooth=True): output_error(weight, ranges, powers, top, of_activation.get(layer.reads)),
            DynamicInt8(top, by_token=True): rounding_error(weight, of_token, powers, top),
        }
        dynamic |= {dynamic_key(form): 0.5 * float(error @ gradient) for form, error in errors.items()}
    for form, error in _learned_errors(layer, weight, calibrated):
        dynamic[dynamic_key(form)] = 0.5 * float(error @ gradient)
    return LayerLoss(layer.path, k, n, losses_of_blocks(weight, hessian, gradient), dynamic)


def _learned_errors(
    layer: Linear, weight: np.ndarray, calibrated: Calibrated
) -> Iterator[tuple[DynamicInt8, np.ndarray]]:
    """Each format whose weights are learned, and the mean squared error of each output feature, float64 [N]."""
    hessian, ranges, of_token = calibrated.hessian(layer), calibrated.ranges(layer), calibrated.tokens(layer)
    share = 1.0
    if (factors := quieted([layer], calibrated).get(layer.reads)) is not None:
        share = quieted_share(np.diagonal(hessian), factors)
        weight, hessian, ranges = weight * factors[:, None], hessian / np.outer(factors, factors), ranges / factors
    powers = gptq_power(hessian)
    steps = {True: share * token_step_power(of_token), False: step_power(ranges)}
    for top, (by_token, step) in product((TOP, REDUCED_TOP), steps.items()):
        yield DynamicInt8(top, by_token=by_token, learned=True), rounding_error(weight, step, powers, top)


def losses_of_blocks(weight: np.ndarray, hessian: np.ndarray, gradient_power: np.ndarray) -> dict[str, float]:
    """Loss of a weight in blocks of every size if a block's whole range were one step; see :class:`LayerLoss`.

    Args:
        weight: float32 [K, N].
        hessian: second moment of the input, float32 [K, K].
        gradient_power: of the output features, float32 [N].
    """
    powers = {"alone": np.diagonal(hessian), "learned": gptq_power(hessian)}
    losses = {}
    low = high = weight
    for size, factor in zip(BLOCK_SIZES, (min(BLOCK_SIZES), *(2 for _ in BLOCK_SIZES[1:])), strict=True):
        low, high = block_ranges(low, factor)[0], block_ranges(high, factor)[1]
        spans = {"asym": np.maximum(high, 0) - np.minimum(low, 0), "sym": np.maximum(high, -low)}
        starts = np.arange(0, len(weight), size)
        for (how, span), (learned, power) in product(spans.items(), powers.items()):
            of_blocks = np.add.reduceat(power, starts, dtype=np.float64) @ np.square(span, dtype=np.float64)
            key = blocks_key(size, how == "sym", learned == "learned")
            losses[key] = 0.5 * _ROUNDING * float(of_blocks @ gradient_power)
    return losses


def gptq_power(hessian: np.ndarray) -> np.ndarray:
    """Power of each input feature's rounding error that reaches the output after GPTQ, float32 [K].

    Later features can't make it good; but for the damping it is never more than ``H_kk``.
    """
    order, _, remaining = feedback(hessian)
    power = np.empty(len(order), np.float32)
    power[order] = remaining
    return power


def block_ranges(weight: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest weight of each block, float32 [blocks, N] of a weight [K, N]; K may be no multiple."""
    starts = np.arange(0, len(weight), size)
    return np.minimum.reduceat(weight, starts, axis=0), np.maximum.reduceat(weight, starts, axis=0)
