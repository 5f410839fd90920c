"""Forecast: what a candidate should lose and take, before it is built.

Losses come from one backward pass over calibration text (``passes/quantize/expected_loss.py``), times from the probed
kernels of this machine (``evaluators/kernel_probe.py``). Both only rank: what is believed is what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from olivine.evaluators.kernel_probe import probe_kernels
from olivine.evaluators.kernel_times import KernelTimes
from olivine.passes.base import GraphPass
from olivine.passes.kernel import DYNAMIC_INT8, FLOAT, Kernel
from olivine.passes.quantize.block_format import BlockFormat
from olivine.passes.quantize.expected_loss import LayerLoss
from olivine.passes.quantize.layer_format import Format
from olivine.passes.recipe import Recipe
from olivine.search.space import Space

#: Divergence that rounding leaves at least: two float runs of one model differ by about as much.
LEAST_DIVERGENCE = 1e-5
#: Share of the positions whose likeliest token changes, by the root of the divergence (demo model: 0.61 to 0.66).
FLIPS = 0.63


class ProbedKernels:
    """Times of kernels on the layers of one model; a kernel that was not probed yet is probed when it is asked for.

    Args:
        losses: of the model: its layers' shapes.
        tokens: rows of an input that will be asked for.
        threads: intra-op threads.
        known: times that were probed already on these layers, of which some kernels' may be there.
    """

    def __init__(
        self, losses: Mapping[str, LayerLoss], tokens: tuple[int, ...], threads: int, known: KernelTimes | None = None
    ) -> None:
        self._shapes = sorted({(loss.k, loss.n) for loss in losses.values()})
        self._tokens, self._threads = tokens, threads
        self._times: dict[Kernel, KernelTimes] = {} if known is None else dict.fromkeys(known.kernels, known)

    def probe(self, kernels: Iterable[Kernel]) -> None:
        """Probe those that are not known yet, all at once."""
        new = sorted(set(kernels) - set(self._times))
        if new:
            times = probe_kernels(self._shapes, new, self._tokens, threads=self._threads)
            self._times.update(dict.fromkeys(new, times))

    def ms(self, kernel: Kernel, k: int, n: int, tokens: int) -> float:
        """Milliseconds of one product."""
        self.probe([kernel])
        return self._times[kernel].ms(kernel, k, n, tokens)


class Clock(Protocol):
    """What a forecast needs of :class:`ProbedKernels`."""

    def ms(self, kernel: Kernel, k: int, n: int, tokens: int) -> float:
        """Milliseconds of one product."""
        ...


@dataclass(frozen=True)
class Forecast:
    """What is known of a model and a machine before any candidate is built.

    Attributes:
        losses: path of each linear layer -> what formats are expected to cost it.
        times: of the kernels of this machine.
        prompt_tokens: length of the prompt.
        new_tokens: tokens generated after it.
        base: metric -> value of the float base, as it was measured.
    """

    losses: Mapping[str, LayerLoss]
    times: Clock
    prompt_tokens: int
    new_tokens: int
    base: Mapping[str, float]

    def metrics(self, recipe: Recipe) -> dict[str, float]:
        """Metric -> what a candidate should have. What no forecast is made of (``load_ms``) is missing."""
        stored = layer_formats(recipe, self.losses)
        divergence = sum((self._loss(path, form) for path, (form, _) in stored.items()), LEAST_DIVERGENCE)
        kernels = {path: _kernel(form, level) for path, (form, level) in stored.items()}
        tpot = max(0.0, self.base["tpot_ms"] - self._float_ms[0]) + self._ms(kernels, 1)
        ttft = max(0.0, self.base["ttft_ms"] - self._float_ms[1]) + self._ms(kernels, self.prompt_tokens)
        saved = sum(self._bytes(path, FLOAT) - self._bytes(path, kernel) for path, kernel in kernels.items())
        e2e = ttft + (self.new_tokens - 1) * tpot
        metrics = {
            "tpot_ms": tpot,
            "ttft_ms": ttft,
            "e2e_ms": e2e,
            "prefill_tok_s": 1e3 * self.prompt_tokens / ttft,
            "decode_tok_s": 1e3 / tpot,
            "kl_divergence": divergence,
            "perplexity_ratio": math.exp(min(divergence, 50.0)),
            "perplexity": self.base["perplexity"] * math.exp(min(divergence, 50.0)),
            "top1_agreement": max(0.0, 1 - FLIPS * math.sqrt(divergence)),
            "model_bytes": max(1.0, self.base["model_bytes"] - saved),
            "peak_rss_bytes": max(1.0, self.base["peak_rss_bytes"] - saved),
        }
        speedups = {
            f"{name}_speedup": self.base[f"{name}_ms"] / metrics[f"{name}_ms"] for name in ("ttft", "tpot", "e2e")
        }
        return {**metrics, **speedups}

    def _loss(self, path: str, form: Format) -> float:
        if form is None:
            return 0.0
        loss = self.losses[path]
        return loss.of(form) if isinstance(form, BlockFormat) else loss.of_dynamic(form)

    def _bytes(self, path: str, kernel: Kernel) -> int:
        return kernel.weight_bytes(self.losses[path].k, self.losses[path].n)

    def _ms(self, kernels: Mapping[str, Kernel], tokens: int) -> float:
        return sum(
            self.times.ms(kernel, self.losses[path].k, self.losses[path].n, tokens) for path, kernel in kernels.items()
        )

    @cached_property
    def _float_ms(self) -> tuple[float, float]:
        """What the linear layers of the float base take in decode and in prefill."""
        floats = dict.fromkeys(self.losses, FLOAT)
        return self._ms(floats, 1), self._ms(floats, self.prompt_tokens)


def layer_formats(recipe: Recipe, losses: Mapping[str, LayerLoss]) -> dict[str, tuple[Format, int]]:
    """Path of every linear layer -> how a recipe stores it, and the accuracy level of its kernel."""
    left = dict(losses)
    stored: dict[str, tuple[Format, int]] = {}
    for step in recipe.passes():
        if not isinstance(step, GraphPass):
            continue
        for path, form in step.formats(left).items():
            stored[path] = (form, int(getattr(step, "accuracy_level", 0)))
        left = {path: loss for path, loss in losses.items() if path not in stored}
    return {path: stored.get(path, (None, 0)) for path in losses}


def forecastable(space: Space) -> bool:
    """Whether all candidates of a space run on the CPU, whose kernels can be probed, in formats that are known."""
    named = {domain.axis.name: domain.values for domain in space.domains}
    floats = {"fp16", "bf16"}.intersection(map(str, named.get("precision", ())))
    return set(named.get("provider", ("cpu",))) == {"cpu"} and not floats


def recipe_kernels(recipe: Recipe, losses: Mapping[str, LayerLoss]) -> frozenset[Kernel]:
    """The kernels that a candidate runs its linear layers with."""
    return frozenset(_kernel(form, level) for form, level in layer_formats(recipe, losses).values())


def _kernel(form: Format, accuracy_level: int) -> Kernel:
    if form is None:
        return FLOAT
    if isinstance(form, BlockFormat):
        return Kernel(form.bits, form.block_size, accuracy_level, "float")
    return DYNAMIC_INT8
