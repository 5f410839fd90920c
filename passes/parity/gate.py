"""The gate of a float export: a graph that does not compute what its checkpoint computes is refused, with the layer."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from olivine.passes.errors import WrongGraph
from olivine.passes.export.check import lacks_kernels, ort_errors
from olivine.passes.export.mends import rope_parameters, rope_type, window_of_all
from olivine.passes.parity.agreement import Agreement, compare, joined
from olivine.passes.parity.graph_run import GraphRun
from olivine.passes.parity.layers import parting
from olivine.passes.parity.reference import Reference
from olivine.passes.parity.texts import Scope, Text, load_tokenizer, texts
from olivine.passes.parity.words import differing_words

#: Weights up to which one thread is taken: threads that wait for each other at every small product take ten times the
#: time where other programs run.
_ONE_THREAD = 400_000_000
#: Types of RoPE that change for all positions where a text gets long.
_SWITCHING = ("longrope", "dynamic")
#: Share of the positions of a mixture of experts that may take another expert because of rounding.
_OTHER_EXPERTS = 0.02


@dataclass(frozen=True)
class Precision:
    """Differences that rounding explains at a float type, and its cost.

    Attributes:
        logits: difference of a logit, as a share of the spread at its position.
        hidden: relative difference of a hidden state.
        slow: times that the CPU takes as long as for float32.
    """

    logits: float
    hidden: float
    slow: float


_PRECISIONS = {"fp32": Precision(2e-3, 3e-4, 1.0), "fp16": Precision(0.1, 2e-2, 8.0)}


def prove(checkpoint: Path, folder: Path, precision: str = "fp32") -> Agreement | None:
    """Compare a float graph with the checkpoint that it was exported from.

    Args:
        checkpoint: run by transformers in float32.
        folder: with the graph, run on the CPU, its prompt in pieces.
        precision: of the graph.

    Returns:
        The agreement; None for a graph that the CPU can't run.

    Raises:
        WrongGraph: when they differ by more than rounding explains, with the first layer where they part.
        SourceError: when the checkpoint lacks weights.
    """
    if precision not in _PRECISIONS:
        return None
    allowed = _PRECISIONS[precision]
    try:
        return replace(compare_folder(checkpoint, folder, allowed.logits, allowed), precision=precision)
    except ort_errors() as error:
        if lacks_kernels(error):
            return None
        raise


def compare_folder(checkpoint: Path, folder: Path, tolerance: float, allowed: Precision | None = None) -> Agreement:
    """Compare the graph of a folder, quantized or not, with a checkpoint.

    Args:
        checkpoint: run by transformers in float32.
        folder: with a graph that gives logits of every position.
        tolerance: difference of a logit beyond which a position counts, as a share of the spread there.
        allowed: what a float graph may differ by; None where the difference is what is asked for.

    Raises:
        WrongGraph: when a float graph differs by more than is allowed.
        SourceError: when the checkpoint lacks weights.
    """
    started = time.perf_counter()
    graph = GraphRun(folder)
    trusted = any(checkpoint.glob("*.py"))  # a source writes code only where that was allowed
    reference = Reference(checkpoint, trusted)
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    about = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
    tokenizer = load_tokenizer(checkpoint, trusted)
    compared, missed = texts(scope_of(config, reference, about, allowed.slow if allowed else 1.0), tokenizer)
    share = _OTHER_EXPERTS if _has_experts(reference.config) else 0.0
    parts = []
    with _threads(1 if reference.parameters <= _ONE_THREAD else torch.get_num_threads()):
        for text in compared:
            agreement, beyond = compare(_pairs(graph, reference, text), tolerance)
            if allowed is not None and agreement.beyond > share:
                raise _wrong(folder, reference, text, agreement, beyond, allowed)
            parts.append(agreement)
    words = differing_words(checkpoint, folder, tokenizer)
    seconds = round(time.perf_counter() - started, 3)
    return replace(joined(parts), not_covered=missed, words=words, seconds=seconds)


def scope_of(config: dict[str, Any], reference: Reference, model: dict[str, Any], slow: float) -> Scope:
    """Lengths that a comparison of this model has to reach."""
    text = reference.config
    types = getattr(text, "layer_types", None) or []
    window = getattr(text, "sliding_window", None) if "sliding_attention" in types else None
    window = window or window_of_all(config["architectures"][0], config)
    scaled = [about for about in rope_parameters(config).values() if rope_type(about) != "default"]
    trained_on = max((int(about.get("original_max_position_embeddings") or 0) for about in scaled), default=0)
    if scaled and not trained_on:
        trained_on = int(getattr(text, "original_max_position_embeddings", 0) or 0)
    return Scope(
        context=int(model["context_length"]),
        vocabulary=int(model["vocab_size"]),
        parameters=reference.parameters,
        window=window,
        trained_on=trained_on or None,
        switches=any(rope_type(about) in _SWITCHING for about in scaled),
        slow=slow,
    )


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _pairs(graph: GraphRun, reference: Reference, text: Text) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return zip(graph.logits(text.ids, text.pieces), reference.logits(text.ids, text.pieces), strict=True)


def _has_experts(config: Any) -> bool:
    return any(getattr(config, name, 0) for name in ("num_experts", "num_local_experts", "n_routed_experts"))


def _wrong(
    folder: Path, reference: Reference, text: Text, agreement: Agreement, beyond: list[int], allowed: Precision
) -> WrongGraph:
    first = beyond[0]
    place = parting(folder, reference, text.ids, allowed.hidden)
    return WrongGraph(
        f"The float graph that the GenAI model builder {version('onnxruntime-genai')} exports is not the model of its "
        f"checkpoint: its logits differ by up to {agreement.largest_difference:.2g} (they spread by "
        f"{agreement.spread:.2g}), from token {first} of {len(text.ids)} on, and {place}. Nothing is built on it. "
        "A float ONNX Runtime GenAI folder that was exported otherwise is taken as a model too."
    )
