"""Times of matrix-product kernels on this machine: measured once per number of threads and version, then kept.

Some kernels are 10 to 100 times slower than similar ones, by processor and by version of ONNX Runtime. A few seconds of
plain sessions show it.

A decoder never has its weights in the cache when it decodes: it has read all others since. So a graph holds several
copies of a layer, the run of all of them is timed, and before it runs again all other kernels have had their
turn: by then the last-level cache holds nothing of it. (On 2 cores with 32 MB, fp32 weights that stay in the cache seem
4 times as fast as they are in a model.)
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from olivine.evaluators.kernels.graphs import KernelGraph
from olivine.evaluators.kernels.times import KernelTimes, Product
from olivine.evaluators.process.bootstrap import child_command, run_child
from olivine.evaluators.process.lifecycle import how_it_ended
from olivine.passes.cpu import available_cores, cpu_identity
from olivine.passes.errors import BuildFailed, UsageError
from olivine.passes.kernel import Kernel
from olivine.passes.store.atomic_files import write_atomic
from olivine.passes.store.cache import cache_root, check_writable, scratch_folder
from olivine.passes.store.digests import digest
from olivine.passes.store.secrets import masked

__all__ = ["Kernel", "KernelTimes", "probe_kernels"]

#: Raised whenever the probe would measure in another way: it is part of every key.
VERSION = 1
#: Wider layers are probed at this width and scale with it: a head has the shape of a few hundred thousand outputs.
WIDEST = 8192
#: Bytes of weights that one run reads when it decodes, and that all kernels of a round read together, at least. With
#: more tokens a run reads each weight less often: fewer copies do.
RUN_BYTES, ROUND_BYTES = 8 << 20, 96 << 20
MOST_COPIES = 256
#: Bytes of the weights that are loaded at the same time, about.
GROUP_BYTES = 1 << 30
TIMEOUT_S = 300.0
#: Distributions that bring the module onnxruntime.
_FLAVOURS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn")
_ASK_VERSION = """
import importlib.metadata, sys
for name in sys.argv[1:]:
    try:
        print(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        pass
"""


def probe_kernels(
    shapes: Sequence[tuple[int, int]],
    kernels: Sequence[Kernel],
    tokens: Sequence[int],
    *,
    threads: int,
    python: str | Path = sys.executable,
    provider: str = "cpu",
    cache: Path | None = None,
) -> KernelTimes:
    """Time every kernel on every shape, or take the times of an earlier probe of this machine.

    Args:
        shapes: (input features, output features) of layers; more than 8192 outputs are probed as 8192.
        kernels: forms in which they may be stored.
        tokens: rows of an input: 1 for decode, the length of the prompt for prefill.
        threads: intra-op threads.
        python: the interpreter whose ONNX Runtime is asked.
        provider: the execution provider; only ``cpu`` is known.
        cache: folder that keeps the times; the default is that of all builds.

    Raises:
        UsageError: when ``python`` is no interpreter with ONNX Runtime, or for another provider.
        BuildFailed: when the process that measures ends without an answer.
        UnwritableCache: when the times can't be kept.
    """
    if provider != "cpu":
        raise UsageError(f"kernels are probed on the provider cpu alone; found '{provider}'")
    cut = sorted({(k, min(n, WIDEST)) for k, n in shapes})
    products = [
        Product(kernel, k, n, m) for k, n in cut for m in sorted(set(tokens)) for kernel in sorted(set(kernels))
    ]
    path = (cache or cache_root()) / "kernels" / f"{_key(products, threads, python, provider)}.json"
    if (stored := _stored(path)) is not None:
        return stored
    check_writable(cache or cache_root())
    measured = _measure(products, threads, python)
    write_atomic(path, measured.to_text())
    return measured


def _key(products: Iterable[Product], threads: int, python: str | Path, provider: str) -> str:
    """Hash of everything that the times depend on."""
    probed = [[*_values(product.kernel), product.k, product.n, product.tokens] for product in products]
    return digest([VERSION, cpu_identity(), available_cores(), threads, provider, runtime_version(python), probed])


def _values(kernel: Kernel) -> tuple[int, int, int, str]:
    return kernel.bits, kernel.block_size, kernel.accuracy_level, kernel.activations


def _stored(path: Path) -> KernelTimes | None:
    """Times of an earlier probe; None where there are none, or a file that is not whole: it is written anew."""
    try:
        return KernelTimes.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None


def runtime_version(python: str | Path) -> str:
    """Flavour and version of an interpreter's ONNX Runtime, without loading it.

    Raises:
        UsageError: when it has none, or is no interpreter.
    """
    versions = _run([str(python), "-P", "-c", _ASK_VERSION, *_FLAVOURS], "", 60).stdout.strip()
    if not versions:
        raise UsageError(f"{python} has no onnxruntime: install it there, or name another interpreter")
    return versions


def _run(command: Sequence[str], stdin: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    try:
        return run_child(command, stdin, timeout_s)
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"the kernel probe did not end within {timeout_s:.0f} s") from error


@dataclass(frozen=True)
class _Graph:
    """A product as it is timed: several layers in one graph."""

    product: Product
    copies: int

    @property
    def weight_bytes(self) -> int:
        return self.copies * self.product.kernel.weight_bytes(self.product.k, self.product.n)


def _graphs(products: Sequence[Product]) -> Iterator[list[_Graph]]:
    """Group the graphs that run in turns: products that differ in their kernel alone, few enough to load together."""
    for _, same in groupby(products, key=lambda product: (product.k, product.n, product.tokens)):
        kernels = list(same)
        wanted = max(RUN_BYTES, ROUND_BYTES // len(kernels))
        group: list[_Graph] = []
        for graph in (_Graph(product, copies(product, wanted)) for product in kernels):
            if group and sum(each.weight_bytes for each in (*group, graph)) > GROUP_BYTES:
                yield group
                group = []
            group.append(graph)
        yield group


def copies(product: Product, wanted: int) -> int:
    """Number of layers in a graph, so that a run reads ``wanted`` bytes of weights: fewer with more tokens."""
    layer_bytes = product.kernel.weight_bytes(product.k, product.n) * product.tokens
    return min(max(1, math.ceil(wanted / layer_bytes)), MOST_COPIES)


def _measure(products: Sequence[Product], threads: int, python: str | Path) -> KernelTimes:
    """Time the products in a child process."""
    named: dict[str, _Graph] = {}
    groups: list[list[str]] = []
    sizes: dict[str, int] = {}
    with scratch_folder("kernels") as scratch:
        for group in _graphs(products):
            names = [f"{len(named) + index}.onnx" for index in range(len(group))]
            for name, timed in zip(names, group, strict=True):
                product = timed.product
                graph = KernelGraph(product.kernel, product.k, product.n, product.tokens, timed.copies)
                (scratch / name).write_bytes(graph.to_bytes())
                sizes = {file: max(size, sizes.get(file, 0)) for file, size in graph.sizes.items()}
            named |= dict(zip(names, group, strict=True))
            groups.append(names)
        request = {"folder": str(scratch), "threads": threads, "files": sizes, "groups": groups}
        child = _run(child_command(python, "kernels.timing"), json.dumps(request), TIMEOUT_S)
    if child.returncode:
        raise BuildFailed(f"the kernel probe {how_it_ended(child.returncode)}", masked(child.stderr))
    answer = json.loads(child.stdout)
    times, failures = {}, {}
    for name, result in answer["graphs"].items():
        product = named[name].product
        times[product] = result["ms"] / named[name].copies if "ms" in result else math.inf
        if "error" in result:
            failures[product.kernel] = result["error"]
    return KernelTimes(times, threads, answer["runtime"], failures)
