"""CostModel: predicts the metrics of a candidate before it is built.

Losses come from one backward pass over calibration text (``passes/quantize/expected_loss.py``), times from the probed
kernels of this machine (``evaluators/kernels/probe.py``). Predictions only rank candidates; results are measured.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from olivine.evaluators.kernels.probe import probe_kernels
from olivine.evaluators.kernels.times import KernelTimes
from olivine.evaluators.metric import ANSWER_METRICS, metrics_of
from olivine.passes.graph import HEAD
from olivine.passes.kernel import FLOAT, Kernel
from olivine.passes.quantize.blocks.block_format import BlockFormat
from olivine.passes.quantize.kv_cache import QuantizeCache
from olivine.passes.quantize.layer_format import Format
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.recipe import Recipe
from olivine.passes.transforms.prune_head import PruneHead
from olivine.search.config.space import Space
from olivine.search.samplers.deployed_memory import DeployedMemory
from olivine.search.samplers.layer_kernels import kernel_of, layer_formats

#: Divergence that rounding leaves at least: two float runs of one model differ by about as much.
LEAST_DIVERGENCE = 1e-5
#: Share of the positions whose likeliest token changes, by the root of the divergence (demo model: 0.61 to 0.66).
FLIPS = 0.63


_UNPREDICTED = {"load_ms", "gpu_memory_bytes", "cpu_ms_per_token", "bits_per_byte", *ANSWER_METRICS}
#: The metrics that are predicted. Those of loading, of a GPU's memory, of CPU time, of bytes of text and of guesses are
#: not; what guesses gain in decode is learned from the trials.
PREDICTED = frozenset(metrics_of("language")) - _UNPREDICTED
#: Bits of a number in the base's cache of keys and values.
_CACHE_BITS = 32
#: Kernel, input features and output features of a product -> how often a recipe runs it.
_Products = Counter[tuple[Kernel, int, int]]


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
        if kernel not in self._times:
            self.probe([kernel])
        return self._times[kernel].ms(kernel, k, n, tokens)


class KernelTimer(Protocol):
    """Tells the time of a product, as :class:`ProbedKernels` does."""

    def ms(self, kernel: Kernel, k: int, n: int, tokens: int) -> float:
        """Milliseconds of one product."""
        ...


@dataclass(frozen=True)
class CostModel:
    """The costs of formats on one model and one machine.

    Attributes:
        losses: path of each linear layer -> the expected loss of each format.
        times: of the kernels of this machine.
        prompt_tokens: length of the prompt.
        new_tokens: tokens generated after it.
        base: metric -> value of the float base, as it was measured.
        pruned_head: the base runs the head on the prompt's last token only; of candidates their recipes tell.
        memory: predicts the resident peak in the scenario; by weights and cache alone where there is none.
    """

    losses: Mapping[str, LayerLoss]
    times: KernelTimer
    prompt_tokens: int
    new_tokens: int
    base: Mapping[str, float]
    pruned_head: bool = False
    memory: DeployedMemory | None = None

    def predict(self, recipe: Recipe) -> dict[str, float]:
        """Predict the metrics of a candidate: those in ``PREDICTED``, in a scenario where the base ran in one."""
        divergence, products = LEAST_DIVERGENCE, _Products()
        stored = layer_formats(recipe, self.losses)
        for (form, level), paths in _alike(stored).items():
            divergence += self._loss(paths, form)
            products += self._products(paths, kernel_of(form, level))
        head = kernel_of(*stored[HEAD]) if HEAD in stored else FLOAT
        tpot = max(0.0, self.base["tpot_ms"] - self._float_ms[0]) + self._ms(products, 1)
        prefill = self._prefill_ms(products, head, _prunes_head(recipe))
        ttft = max(0.0, self.base["ttft_ms"] - self._float_ms[1]) + prefill
        saved = _bytes(self._floats) - _bytes(products)
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
        return {**metrics, **speedups, **self._deployed(recipe, saved)}

    def _deployed(self, recipe: Recipe, saved: float) -> dict[str, float]:
        """Memory in the scenario, of a candidate whose weights take so many bytes less; empty without a scenario."""
        if not self.base.keys() >= {"context_bytes", "deployed_rss_bytes"}:
            return {}
        bits = [int(step.params["bits"]) for step in recipe.steps if step.name == QuantizeCache.name]
        cache = self.base["context_bytes"] * (bits[0] if bits else _CACHE_BITS) / _CACHE_BITS
        saved += self.base["context_bytes"] - cache
        resident = self.base["deployed_rss_bytes"] - saved if self.memory is None else self.memory.predict(recipe)
        return {"context_bytes": cache, "deployed_rss_bytes": max(1.0, resident)}

    def _loss(self, paths: Sequence[str], form: Format) -> float:
        """Expected loss of layers that are stored alike."""
        if form is None:
            return 0.0
        layers = map(self.losses.__getitem__, paths)
        if isinstance(form, BlockFormat):
            return sum(layer.of(form) for layer in layers)
        return sum(layer.of_dynamic(form) for layer in layers)

    def _products(self, paths: Iterable[str], kernel: Kernel) -> _Products:
        """The products of layers that run with one kernel."""
        shapes = Counter((self.losses[path].k, self.losses[path].n) for path in paths)
        return _Products({(kernel, *shape): count for shape, count in shapes.items()})

    def _ms(self, products: _Products, tokens: int) -> float:
        return sum(count * self.times.ms(*product, tokens) for product, count in products.items())

    def _prefill_ms(self, products: _Products, head: Kernel, pruned: bool) -> float:
        """Milliseconds of the products on the prompt; of the head, by this kernel, on one token where it is pruned."""
        all_rows = self._ms(products, self.prompt_tokens)
        if not pruned or HEAD not in self.losses:
            return all_rows
        product = (head, self.losses[HEAD].k, self.losses[HEAD].n)
        return all_rows - self.times.ms(*product, self.prompt_tokens) + self.times.ms(*product, 1)

    @cached_property
    def _floats(self) -> _Products:
        """The products of the float base."""
        return self._products(self.losses, FLOAT)

    @cached_property
    def _float_ms(self) -> tuple[float, float]:
        """Milliseconds of these in decode and in prefill."""
        return self._ms(self._floats, 1), self._prefill_ms(self._floats, FLOAT, self.pruned_head)


def _prunes_head(recipe: Recipe) -> bool:
    return any(step.name == PruneHead.name for step in recipe.steps)


def _bytes(products: _Products) -> int:
    return sum(count * kernel.weight_bytes(k, n) for (kernel, k, n), count in products.items())


def _alike(stored: Mapping[str, tuple[Format, int]]) -> dict[tuple[Format, int], list[str]]:
    """Paths of the layers that are stored alike."""
    groups: dict[tuple[Format, int], list[str]] = {}
    for path, how in stored.items():
        groups.setdefault(how, []).append(path)
    return groups


def predictable(space: Space) -> bool:
    """True where all candidates of a space run on the CPU, whose kernels can be probed, in formats that are known."""
    named = {domain.axis.name: domain.values for domain in space.domains}
    floats = {"fp16", "bf16"}.intersection(map(str, named.get("precision", ())))
    return set(named.get("provider", ("cpu",))) == {"cpu"} and not floats
