"""The effect of an adapter in a graph beside its effect in the checkpoint, which transformers runs with it merged.

A quantized graph differs from its checkpoint with an adapter as it does without one. An adapter that was fitted to it
wrongly (turned otherwise, of another layer) differs by what it adds besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from olivine.passes.errors import WrongGraph
from olivine.passes.export.check import lacks_kernels, ort_errors
from olivine.passes.parity.agreement import compare
from olivine.passes.parity.graph_run import GraphRun
from olivine.passes.parity.reference import Reference

#: Error with the adapter that the error without explains, as a multiple of it; and as a share of what the adapter adds.
#: On the demo model in int8, random adapters that fit were 1.0 to 3.5 times as far off, those of other channels 1.6 to
#: 20 times, with cosines from 0.76 and up to 0.48. In int4 the error tells nothing: cosines were 0.32 to 0.59 for those
#: that fit, and 0.02 to 0.36 for the others.
_TIMES, _SHARE, _LEAST_COSINE = 4.0, 0.01, 0.2
#: Effect, as a share of the error without, below which rounding hides its direction; and from which on the slope tells.
_JUDGED, _SLOPE_JUDGED = 0.05, 0.3
#: Square of what rounding adds to the graph's effect, as a multiple of the square of the error without: up to 1.3 in a
#: tiny model with activations in 8 bits.
_ROUNDING = 1.5
#: Bounds of the graph's effect as a multiple of the checkpoint's: of its size without rounding, and of its slope above.
#: Sizes were 0.84 to 1.18 for adapters that fit the demo model in int4, 0.92 to 1.09 in tiny models; at twice the
#: strength 1.7 to 2.3 in both, at half of it 0.3 to 0.6, where the effect still grows with the strength (up to 1.5
#: times the error without; beyond, both saturate). Slopes that fit were 0.84 to 1.1 in tiny models, 1.4 to 2.1 at twice
#: the strength. On the demo model rounding turns the effect, and slopes that fit fell to 0.46: none is too small.
_LEAST_SIZE, _MOST_SIZE = 0.7, 1.4

#: Name of a module -> its factors [inputs, rank] and [rank, outputs].
Products = Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class AdapterEffect:
    """Differences of logits over some tokens, as root mean squares, and divergences in nats a token.

    The mean of a position's logits is taken away first: it changes no probability.

    Attributes:
        added: by the adapter to the checkpoint.
        error: of the graph with the adapter, from the checkpoint with it.
        base_error: of the graph without, from the checkpoint without.
        cosine: between what the adapter adds to the graph and what it adds to the checkpoint.
        size: of what it adds to the graph, as a multiple of what it adds to the checkpoint.
        kl_divergence: of the graph with the adapter, from the checkpoint with it.
        base_kl_divergence: of both without.
    """

    added: float
    error: float
    base_error: float
    cosine: float
    size: float
    kl_divergence: float
    base_kl_divergence: float

    @property
    def slope(self) -> float:
        """Slope of the regression of what the adapter adds to the graph on what it adds to the checkpoint."""
        return self.cosine * self.size

    @property
    def explained(self) -> bool:
        """True where the graph's own loss explains the error, and the effect has the direction and size it should."""
        if not self.error <= _TIMES * self.base_error + _SHARE * self.added:
            return False
        if self.added <= _JUDGED * self.base_error:
            return True
        rounding = _ROUNDING * (self.base_error / self.added) ** 2
        least_cosine = min(_LEAST_COSINE, 0.5 / sqrt(1 + rounding))  # half of what rounding alone leaves
        fits = self.cosine >= least_cosine and _LEAST_SIZE <= self.size <= sqrt(_MOST_SIZE**2 + rounding)
        return fits and (self.slope <= _MOST_SIZE or self.added < _SLOPE_JUDGED * self.base_error)

    def to_json(self) -> dict[str, float]:
        """For manifests."""
        return asdict(self)


def adapter_effects(
    checkpoint: Path,
    folder: Path,
    tokens: Sequence[int],
    products: Mapping[str, Products],
    files: Mapping[str, Path],
) -> dict[str, AdapterEffect]:
    """Compare each adapter of a folder with its checkpoint.

    Args:
        checkpoint: run by transformers in float32.
        folder: with a graph that gives logits of every position, run on the CPU.
        tokens: of a text.
        products: name of each adapter -> what it adds to the checkpoint's modules.
        files: name of each adapter -> its file for the graph.

    Returns:
        By name; empty for a graph of a type that the CPU has no kernels for.

    Raises:
        WrongGraph: when an adapter does not do to the graph what it does to the checkpoint.
    """
    trusted = any(checkpoint.glob("*.py"))
    reference = Reference(checkpoint, trusted)
    (expected_base,) = reference.logits(tokens, [len(tokens)])
    try:
        (base,) = GraphRun(folder).logits(tokens, [len(tokens)])
    except ort_errors() as error:
        if lacks_kernels(error):
            return {}
        raise
    effects = {}
    for name, added in products.items():
        with reference.adapted(added):
            (expected,) = reference.logits(tokens, [len(tokens)])
        (found,) = GraphRun(folder, adapter=files[name]).logits(tokens, [len(tokens)])
        graph, wanted = _same_width(_difference(found, base), _difference(expected, expected_base))
        effects[name] = effect = AdapterEffect(
            added=_rms(expected, expected_base),
            error=_rms(found, expected),
            base_error=_rms(base, expected_base),
            cosine=_cosine(graph, wanted),
            size=_size(graph, wanted),
            kl_divergence=_divergence(found, expected),
            base_kl_divergence=_divergence(base, expected_base),
        )
        if not effect.explained:
            raise WrongGraph(
                f"adapter '{name}' does not do to the exported graph what it does to the checkpoint: logits are off by "
                f"{effect.error:.3g} with it and by {effect.base_error:.3g} without, where it adds {effect.added:.3g} "
                f"(its effect is {effect.size:.2f} times as large, the cosine of both {effect.cosine:.2f}). Merge it "
                "into the checkpoint instead"
            )
    return effects


def _difference(a: Any, b: Any) -> Any:
    """Difference of logits [tokens, vocabulary], its mean over each position taken away."""
    width = min(a.shape[1], b.shape[1])  # a vocabulary may be padded in one of the two
    difference = a[:, :width].astype(np.float64) - b[:, :width]
    return difference - difference.mean(axis=1, keepdims=True)


def _same_width(a: Any, b: Any) -> tuple[Any, Any]:
    """Two differences of logits without the words that one of them lacks."""
    width = min(a.shape[1], b.shape[1])
    return a[:, :width], b[:, :width]


def _rms(a: Any, b: Any) -> float:
    return float(np.sqrt(np.square(_difference(a, b)).mean()))


def _cosine(found: Any, expected: Any) -> float:
    """Cosine between two differences; 0 where one of them is none."""
    lengths = float(np.sqrt(np.square(found).sum() * np.square(expected).sum()))
    return float((found * expected).sum()) / lengths if lengths > 0 else 0.0


def _size(found: Any, expected: Any) -> float:
    """Size of a difference as a multiple of another's; 0 where that is none."""
    wanted = float(np.square(expected).sum())
    return sqrt(float(np.square(found).sum()) / wanted) if wanted > 0 else 0.0


def _divergence(found: Any, expected: Any) -> float:
    agreement, _ = compare([(found, expected)], 0.0)
    return agreement.kl_divergence
