"""The search for slow kernels: the kernel probe's times say which choices of a study are not worth proposing.

A kernel is slow when a decode step with all layers stored for it, by the times of the kernel probe,

1. takes longer than one with float layers, or
2. takes more than 3 times as long as with another kernel of the same width whose blocks are no larger. (Larger blocks
   lose quality: a front needs small ones, though slower.)

Dynamic int8 is for prompts: it is not slow where it is faster than float in prefill. A study whose objectives and
constraints have no time may want slow kernels for their size: nothing is masked there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from olivine.evaluators.kernels.probe import probe_kernels
from olivine.evaluators.kernels.times import KernelTimes
from olivine.passes.cpu import available_cores
from olivine.passes.errors import BuildFailed
from olivine.passes.kernel import FLOAT, Kernel
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.space import Space
from olivine.search.samplers.masks import NO_MASKS, Masks
from olivine.search.samplers.random_choices import sample_choices

Shape = tuple[int, int]
#: Time of a decode step over that of float layers, above which a kernel is slower: the probe's own error is below.
SLOWER = 1.1
#: Time over that of the best comparable kernel, above which a kernel is slow.
FAR_SLOWER = 3.0
#: First letters of the metrics that are times, or speeds.
TIMES = ("ttft_", "tpot_", "e2e_", "prefill_", "decode_")


class KernelProbe(Protocol):
    """Measures kernels on the shapes of layers, as :func:`olivine.evaluators.kernels.probe.probe_kernels` does."""

    def __call__(
        self, shapes: Sequence[Shape], kernels: Sequence[Kernel], tokens: Sequence[int], /, *, threads: int, cache: Path
    ) -> KernelTimes:
        """Measure ``kernels`` on ``shapes`` with so many rows of input.

        Raises:
            BuildFailed: when the probe does not run.
        """
        ...


def choose_masks(
    config: LanguageStudyConfig,
    layers: Sequence[Shape],
    cache: Path,
    probe: KernelProbe = probe_kernels,
    prompt_tokens: int | None = None,
) -> Masks:
    """Mask the slow kernels among those that a study's candidates may need.

    Args:
        config: of the study.
        layers: shape of every linear layer of the model.
        cache: folder where probes are kept.
        probe: measures.
        prompt_tokens: length of the prompt that is timed, where it is one of a file; None for that of the config.
    """
    if not config.kernel_probe:
        return Masks(note="kernel_probe is off: no kernel is masked")
    watched = (*config.objectives, *(constraint.metric for constraint in config.parsed_constraints()))
    if not any(name.startswith(TIMES) for name in watched):
        return Masks(note="no kernel is masked: no objective and no constraint is a time")
    if "cpu" not in (providers := config.asked_providers()):
        return Masks(note=f"kernels are probed on cpu alone: none is masked on {', '.join(providers)}")
    space, prompt = config.search_space(), prompt_tokens or config.evaluation.latency.prompt_tokens
    recipes = [space.catalog.compose(choice) for choice in sample_choices(space)]
    needed = [recipe.kernels for recipe in recipes if recipe.provider == "cpu"]
    kernels = frozenset[Kernel]().union(*needed)
    if not kernels:
        return NO_MASKS
    try:
        times = probe(layers, [FLOAT, *kernels], (1, prompt), threads=_threads(space), cache=cache)
    except BuildFailed as error:
        return Masks(note=f"no kernel is masked: {error}")
    slow_kernels = find_slow_kernels(times, layers, kernels, prompt)
    if all(some & slow_kernels.keys() for some in needed):
        reasons = "; ".join(slow_kernels[kernel] for kernel in sorted(slow_kernels))
        return Masks(note=f"no kernel is masked, since no candidate would be left: {reasons}", times=times)
    return Masks(slow_kernels, times=times)


def _threads(space: Space) -> int:
    """Intra-op threads of the base: those that all candidates have, or all cores."""
    fixed = [d.values[0] for d in space.domains if d.axis.name == "threads" and len(d.values) == 1]
    return int(fixed[0] if fixed else 0) or available_cores()


def find_slow_kernels(
    times: KernelTimes, layers: Sequence[Shape], kernels: Iterable[Kernel], prompt_tokens: int
) -> dict[Kernel, str]:
    """Find the slow ones among ``kernels``, each with its reason.

    Args:
        times: of these kernels and of float, at 1 and at ``prompt_tokens`` tokens.
        layers: shape of every linear layer of the model.
        kernels: those that candidates of a search space may need.
        prompt_tokens: length of the deployed prompt.
    """
    decode = {kernel: times.total_ms(kernel, layers, 1) for kernel in {FLOAT, *kernels}}
    slow_kernels = {}
    for kernel in sorted(set(kernels) - {FLOAT}):
        ms = decode[kernel]
        alike = [other for other in decode if (other.bits, other.activations) == (kernel.bits, kernel.activations)]
        best = min((other for other in alike if other.block_size <= kernel.block_size), key=lambda other: decode[other])
        if kernel in times.failures:
            slow_kernels[kernel] = f"{kernel} does not run here: {times.failures[kernel]}"
        elif kernel.integer_activations and _faster_on_prompts(times, layers, kernel, prompt_tokens):
            continue
        elif ms > SLOWER * decode[FLOAT]:
            slow_kernels[kernel] = f"{kernel} decodes at {decode[FLOAT] / ms:.2g}x of fp32 on this machine"
        elif ms > FAR_SLOWER * decode[best]:
            slow_kernels[kernel] = f"{kernel} decodes {ms / decode[best]:.1f} times slower than {best} on this machine"
    return slow_kernels


def _faster_on_prompts(times: KernelTimes, layers: Sequence[Shape], kernel: Kernel, tokens: int) -> bool:
    return times.total_ms(kernel, layers, tokens) < times.total_ms(FLOAT, layers, tokens)
