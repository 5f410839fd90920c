"""``make bench-transforms``: what transforms of weights and activations promise on the demo model, unbuilt.

The account is that of the search (``expected_loss.py``): divergence from the float model to first order, in nats a
token, summed over all linear layers. For activations as uint8 tensors:

1. as they are;
2. with a range a token instead of one a tensor (``activations/activation_range.py``);
3. with smoothing (``smoothing.py``; SmoothQuant, arXiv 2211.10438);
4. with an online Hadamard transform before down_proj in blocks of some features (QuaRot's R4, arXiv 2404.00456).

For weights of 4 bits: as they are, and with the channel scales of AWQ (arXiv 2306.00978, section 3.2), of each input
the exponent that promises least.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import scipy.linalg
from onnx import helper

from olivine.passes.artifact import link_or_copy
from olivine.passes.catalog import LANGUAGE
from olivine.passes.export.check import prompt
from olivine.passes.graph import Linear, linears, load_graph
from olivine.passes.learn.calibrated import Calibrated
from olivine.passes.learn.calibration import load_tokens
from olivine.passes.pipeline import build, calibrated
from olivine.passes.quantize.activations.activation_range import token_step_power
from olivine.passes.quantize.activations.integer_matmul import REDUCED_TOP, TOP
from olivine.passes.quantize.activations.store_dynamic import smoothing_of
from olivine.passes.quantize.expected_loss import losses_of_blocks
from olivine.passes.quantize.smoothing import output_error, rounding_error
from olivine.passes.sources.source import resolve
from olivine.passes.store.atomic_files import write_atomic
from olivine.passes.store.cache import Cache, cache_root
from olivine.search.builds.calibration_text import CalibrationText

MODEL, WINDOWS = "demo:smollm2-135m-instruct", 4
HADAMARD = (32, 64, 128, 512)
BLOCKS = (32, 64, 128)
EXPONENTS = np.arange(0.0, 1.0, 0.1)
INT4_STEPS = 15


def activations(learned: Calibrated, layers: Sequence[Linear]) -> dict[str, np.ndarray]:
    """What layers read in each window, float32 [windows, tokens, K], by path."""
    graph = learned.graph.onnx_path()
    names = {layer.path: str(layer.node.inputs[0].name) for layer in layers}
    size = int(learned.graph.genai_config()["model"]["decoder"]["head_size"])
    with tempfile.TemporaryDirectory(dir=learned.cache.root) as scratch:
        for weights in learned.graph.path.glob(f"{graph.name}.*"):
            link_or_copy(weights, Path(scratch) / weights.name)
        model = onnx.load(graph, load_external_data=False)
        asked = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names.values()]
        model.graph.output.extend(asked)
        onnx.save(model, Path(scratch) / graph.name)
        session = ort.InferenceSession(str(Path(scratch) / graph.name), providers=["CPUExecutionProvider"])
        tokens = load_tokens(learned.cache, learned.text)[:WINDOWS]
        runs = [session.run(list(names.values()), prompt(session, size, window)) for window in tokens]
    return {path: np.stack([run[i].reshape(-1, run[i].shape[-1]) for run in runs]) for i, path in enumerate(names)}


def hadamard(x: np.ndarray, size: int) -> np.ndarray:
    """Blocks of ``size`` features of the last axis, each times the normalized Hadamard matrix."""
    matrix = (scipy.linalg.hadamard(size) / np.sqrt(size)).astype(np.float32)
    return (x.reshape(*x.shape[:-1], -1, size) @ matrix).reshape(x.shape)


def dynamic_losses(learned: Calibrated, layers: Sequence[Linear], top: int) -> dict[str, tuple[float, float]]:
    """Transform -> loss of all layers with int8 activations: (of down_proj, of the others)."""
    downs = [layer for layer in layers if layer.role == "down_proj"]
    read = activations(learned, downs)
    factors = smoothing_of(layers, learned, top)
    sums: dict[str, list[float]] = {}
    for layer in layers:
        weight, gradient = layer.array().astype(np.float32), learned.gradients.of(layer.path, learned.sizes)
        ranges, powers = learned.ranges(layer), np.diagonal(learned.hessian(layer))

        def loss(weight: np.ndarray, ranges: np.ndarray, powers: np.ndarray, by: np.ndarray | None = None) -> float:
            return 0.5 * float(output_error(weight, ranges, powers, top, by) @ gradient)  # noqa: B023 - used at once

        by_token = rounding_error(weight, token_step_power(learned.tokens(layer)), powers, top)
        plain, smooth = loss(weight, ranges, powers), loss(weight, ranges, powers, factors.get(layer.reads))
        found = {"as they are": plain, "a range a token": 0.5 * float(by_token @ gradient), "smoothed": smooth} | {
            f"Hadamard of {size}": plain for size in HADAMARD
        }
        if layer.path in read:
            for size in HADAMARD:
                x = hadamard(read[layer.path], size)
                found[f"Hadamard of {size}"] = loss(
                    hadamard(weight.T, size).T, np.stack([x.min(1), x.max(1)]), np.square(x).mean((0, 1))
                )
        for name, value in found.items():
            sums.setdefault(name, [0.0, 0.0])[layer.path not in read] += value
    return {name: (down, other) for name, (down, other) in sums.items()}


def int4_losses(learned: Calibrated, layers: Sequence[Linear]) -> dict[str, dict[str, float]]:
    """Format -> how -> loss of all layers; ``scaled`` has AWQ's channel scales."""
    by_input: dict[str, list[Linear]] = {}
    for layer in layers:
        by_input.setdefault(str(layer.node.inputs[0].name), []).append(layer)
    sums: dict[str, dict[str, float]] = {}
    for readers in by_input.values():
        tried = [_of_readers(learned, readers, exponent) for exponent in EXPONENTS]
        for form in tried[0]:
            for how, value in (("as they are", tried[0][form]), ("scaled", min(one[form] for one in tried))):
                sums.setdefault(form, {"as they are": 0.0, "scaled": 0.0})[how] += value
    return sums


def _of_readers(learned: Calibrated, readers: Sequence[Linear], exponent: float) -> Mapping[str, float]:
    """Format -> loss of the layers that read one input, its channels scaled by their loudness to an exponent."""
    hessian = learned.hessian(readers[0])
    loud = np.sqrt(np.maximum(np.diagonal(hessian), 1e-12))
    scale = (loud / np.exp(np.log(loud).mean())) ** exponent
    total: dict[str, float] = {}
    for layer in readers:
        weight = layer.array().astype(np.float32) * scale[:, None]
        gradient = learned.gradients.of(layer.path, learned.sizes)
        found = losses_of_blocks(weight, hessian / np.outer(scale, scale), gradient)
        for size in BLOCKS:
            for algorithm, how in (("rtn", "alone"), ("gptq", "learned")):
                key = f"{algorithm}, block {size}"
                total[key] = total.get(key, 0.0) + found[f"{size}/asym/{how}"] / INT4_STEPS**2
    return total


def page() -> str:
    """The tables."""
    cache, source = Cache(cache_root()), resolve(MODEL)
    recipe = LANGUAGE.compose({"threads": 1})
    base = build(source, recipe.float_part(), cache).artifact
    learned = calibrated(source, recipe, cache, CalibrationText(windows=8).store(base, cache).key)
    layers = list(linears(load_graph(learned.graph.onnx_path())))
    lines = [
        "# What transforms promise",
        "",
        "`make bench-transforms`: expected divergence of the demo model, whose weights are rotated, in nats a token.",
        "",
        "| int8 activations | down_proj | other layers |",
        "|---|---|---|",
    ]
    for top in (TOP, REDUCED_TOP):
        for name, (down, other) in dynamic_losses(learned, layers, top).items():
            lines.append(f"| {name}, weights up to {top} | {down:.4f} | {other:.4f} |")
    lines += ["", "| int4 weights | as they are | scaled by loudness |", "|---|---|---|"]
    for form, found in int4_losses(learned, layers).items():
        lines.append(f"| {form} | {found['as they are']:.4f} | {found['scaled']:.4f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Compute, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    text = page()
    print(text)
    if options.to:
        write_atomic(options.to, text)


if __name__ == "__main__":
    main()
