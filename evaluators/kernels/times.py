"""KernelTimes: times of the kernels of one machine, as the probe measured them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from olivine.passes.kernel import Kernel


@dataclass(frozen=True, order=True)
class Product:
    """One product that was timed: ``tokens`` rows of ``k`` features times a weight [k, n]."""

    kernel: Kernel
    k: int
    n: int
    tokens: int


@dataclass(frozen=True)
class KernelTimes:
    """Times of products on one machine.

    Attributes:
        times: milliseconds of each product; infinite where the kernel does not run.
        threads: intra-op threads that they were measured with.
        runtime: version of ONNX Runtime.
        failures: kernel -> why it does not run, in ONNX Runtime's words.
    """

    times: Mapping[Product, float]
    threads: int
    runtime: str
    failures: Mapping[Kernel, str] = field(default_factory=dict)

    def ms(self, kernel: Kernel, k: int, n: int, tokens: int) -> float:
        """Milliseconds of one product; infinite where the kernel does not run.

        An ``n`` that was not probed counts as a multiple of the largest smaller one.

        Raises:
            KeyError: when no product of this kernel, ``k`` and ``tokens`` with at most ``n`` outputs was probed.
        """
        widths = self._widths.get((kernel, k, tokens), {})
        fitting = [width for width in widths if width <= n]
        if not fitting:
            probed = ", ".join(map(str, sorted(widths))) or "none"
            raise KeyError(f"{kernel}: {k} x {n} at {tokens} tokens was not probed; widths that were: {probed}")
        widest = max(fitting)
        return widths[widest] * n / widest

    def total_ms(self, kernel: Kernel, shapes: Sequence[tuple[int, int]], tokens: int) -> float:
        """Milliseconds of layers of these shapes, all of one kernel, one after the other."""
        return sum(self.ms(kernel, k, n, tokens) for k, n in shapes)

    @property
    def kernels(self) -> frozenset[Kernel]:
        """The kernels that were probed."""
        return frozenset(product.kernel for product in self.times)

    @cached_property
    def _widths(self) -> dict[tuple[Kernel, int, int], dict[int, float]]:
        widths: dict[tuple[Kernel, int, int], dict[int, float]] = {}
        for product, ms in self.times.items():
            widths.setdefault((product.kernel, product.k, product.tokens), {})[product.n] = ms
        return widths

    def to_json(self) -> dict[str, Any]:
        """Plain values; a time that is infinite is null."""
        return {
            "runtime": self.runtime,
            "threads": self.threads,
            "times": [
                asdict(product.kernel)
                | {"k": product.k, "n": product.n, "tokens": product.tokens, "ms": None if math.isinf(ms) else ms}
                for product, ms in sorted(self.times.items())
            ],
            "failures": [asdict(kernel) | {"reason": reason} for kernel, reason in sorted(self.failures.items())],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> KernelTimes:
        """The inverse of :meth:`to_json`.

        Raises:
            KeyError: when something is missing.
        """
        times = {
            Product(_kernel(row), row["k"], row["n"], row["tokens"]): math.inf if row["ms"] is None else row["ms"]
            for row in stored["times"]
        }
        failures = {_kernel(row): row["reason"] for row in stored["failures"]}
        return cls(times, stored["threads"], stored["runtime"], failures)

    def to_text(self) -> str:
        """As :meth:`to_json`, as text."""
        return json.dumps(self.to_json(), indent=1)


def _kernel(row: Mapping[str, Any]) -> Kernel:
    return Kernel(row["bits"], row["block_size"], row["accuracy_level"], row["activations"])
