"""The effect of an adapter in a graph beside its effect in the checkpoint, which transformers runs with it merged.

A quantized graph differs from its checkpoint with an adapter as it does without one. An adapter that was fitted to it
wrongly (turned otherwise, of another layer) differs by what it adds besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from olivine.passes.errors import WrongGraph
from olivine.passes.export.check import lacks_kernels, ort_errors
from olivine.passes.parity.agreement import compare
from olivine.passes.parity.graph_run import GraphRun
from olivine.passes.parity.reference import Reference

#: Error with the adapter that the error without explains, as a multiple of it; and as a share of what the adapter adds.
_TIMES, _SHARE = 3.0, 0.01

#: Name of a module -> its factors [inputs, rank] and [rank, outputs].
Products = Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class AdapterEffect:
    """Differences of logits over some tokens, as root mean squares, and divergences in nats a token.

    Attributes:
        added: by the adapter to the checkpoint.
        error: of the graph with the adapter, from the checkpoint with it.
        base_error: of the graph without, from the checkpoint without.
        kl_divergence: of the graph with the adapter, from the checkpoint with it.
        base_kl_divergence: of both without.
    """

    added: float
    error: float
    base_error: float
    kl_divergence: float
    base_kl_divergence: float

    @property
    def explained(self) -> bool:
        """True where the loss of the graph itself explains the error."""
        return self.error <= _TIMES * self.base_error + _SHARE * self.added

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
        effects[name] = effect = AdapterEffect(
            added=_rms(expected, expected_base),
            error=_rms(found, expected),
            base_error=_rms(base, expected_base),
            kl_divergence=_divergence(found, expected),
            base_kl_divergence=_divergence(base, expected_base),
        )
        if not effect.explained:
            raise WrongGraph(
                f"adapter '{name}' does not do to the exported graph what it does to the checkpoint: logits are off by "
                f"{effect.error:.3g} with it and by {effect.base_error:.3g} without, where it adds {effect.added:.3g}. "
                "Merge it into the checkpoint instead"
            )
    return effects


def _rms(a: Any, b: Any) -> float:
    width = min(a.shape[1], b.shape[1])  # a vocabulary may be padded in one of the two
    return float(np.sqrt(np.square(a[:, :width] - b[:, :width], dtype=np.float64).mean()))


def _divergence(found: Any, expected: Any) -> float:
    agreement, _ = compare([(found, expected)], 0.0)
    return agreement.kl_divergence
