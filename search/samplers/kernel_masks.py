"""Kernel masks: which choices are not worth proposing, because a kernel that they need is slow on this machine.

A kernel is a cliff when a decode step with all layers stored for it, by the times of the kernel probe,

1. takes longer than one with float layers, or
2. takes more than 3 times as long as with another kernel of the same width whose blocks are no larger. (Larger blocks
   lose quality: a front needs small ones, though slower.)

Dynamic int8 is for prompts: it is none where it is faster than float in prefill. A study whose objectives and
constraints have no time may want slow kernels for their size: nothing is masked there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from olivine.evaluators.kernels.probe import probe_kernels
from olivine.evaluators.kernels.times import KernelTimes
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.cpu import available_cores
from olivine.passes.errors import BuildFailed
from olivine.passes.kernel import FLOAT, Kernel
from olivine.passes.store.atomic_files import write_atomic
from olivine.search.config.language import LanguageStudyConfig

Shape = tuple[int, int]
#: Time of a decode step over that of float layers, above which a kernel is slower: the probe's own error is below.
SLOWER = 1.1
#: Time over that of the best comparable kernel, above which a kernel is a cliff.
FAR_SLOWER = 3.0
#: How the names of metrics begin that are times, or speeds.
TIMES = ("ttft_", "tpot_", "e2e_", "prefill_", "decode_")


@dataclass(frozen=True)
class KernelMasks:
    """What is not proposed, and why.

    Attributes:
        cliffs: slow kernel -> why it is one, in words and figures.
        note: why nothing is masked, where that is so for another reason than that all kernels are fast.
        times: what the probe measured; None where nothing was probed.
    """

    cliffs: Mapping[Kernel, str] = field(default_factory=dict)
    note: str = ""
    times: KernelTimes | None = None

    def reason(self, choice: Mapping[str, Scalar]) -> str | None:
        """Why a canonical choice is not proposed; None where it may be."""
        if not self.cliffs or choice.get("provider", "cpu") != "cpu":
            return None
        slow = sorted(LANGUAGE.compose(choice).kernels & self.cliffs.keys())
        return self.cliffs[slow[0]] if slow else None

    @property
    def lines(self) -> tuple[str, ...]:
        """What to tell a person: every reason, or the note."""
        return tuple(self.cliffs[kernel] for kernel in sorted(self.cliffs)) or ((self.note,) if self.note else ())

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "note": self.note,
            "cliffs": [asdict(kernel) | {"reason": why} for kernel, why in sorted(self.cliffs.items())],
            "times": self.times.to_json() if self.times else None,
        }

    def write(self, path: Path) -> None:
        """Keep them in a file."""
        write_atomic(path, json.dumps(self.to_json(), indent=1))

    @classmethod
    def read(cls, path: Path) -> KernelMasks:
        """The masks in a file that :meth:`write` wrote; none where there is no file."""
        return cls.from_json(json.loads(path.read_text())) if path.is_file() else NO_MASKS

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> KernelMasks:
        """The inverse of :meth:`to_json`."""
        cliffs = {}
        for row in found["cliffs"]:
            rest = dict(row)
            why = rest.pop("reason")
            cliffs[Kernel(**rest)] = why
        return cls(cliffs, found["note"], KernelTimes.from_json(found["times"]) if found["times"] else None)


NO_MASKS = KernelMasks()


def choose_masks(
    config: LanguageStudyConfig,
    choices: Iterable[Mapping[str, Scalar]],
    layers: Sequence[Shape],
    cache: Path,
) -> KernelMasks:
    """Probe the kernels that a study's candidates may need, and find the cliffs among them.

    Args:
        config: of the study.
        choices: a sample of its space.
        layers: shape of every linear layer.
        cache: folder where probes are kept.
    """
    if not config.kernel_probe:
        return KernelMasks(note="kernel_probe is off: no kernel is masked")
    asked = (*config.objectives, *(constraint.metric for constraint in config.parsed_constraints()))
    if not any(name.startswith(TIMES) for name in asked):
        return KernelMasks(note="no kernel is masked: no objective and no constraint is a time")
    if "cpu" not in (providers := config.asked_providers()):
        return KernelMasks(note=f"kernels are probed on cpu alone: none is masked on {', '.join(providers)}")
    needed = [LANGUAGE.compose(choice).kernels for choice in choices if choice.get("provider", "cpu") == "cpu"]
    kernels = frozenset[Kernel]().union(*needed)
    if not kernels:
        return NO_MASKS
    prompt = config.evaluation.latency.prompt_tokens
    try:
        times = probe_kernels(layers, [FLOAT, *kernels], (1, prompt), threads=_threads(config), cache=cache)
    except BuildFailed as error:
        return KernelMasks(note=f"no kernel is masked: {error}")
    cliffs = find_cliffs(times, layers, kernels, prompt)
    if all(found & cliffs.keys() for found in needed):
        reasons = "; ".join(cliffs[kernel] for kernel in sorted(cliffs))
        return KernelMasks(note=f"no kernel is masked, since no candidate would be left: {reasons}", times=times)
    return KernelMasks(cliffs, times=times)


def _threads(config: LanguageStudyConfig) -> int:
    """Intra-op threads of the base: those that all candidates have, or all cores."""
    fixed = [d.values[0] for d in config.search_space().domains if d.axis.name == "threads" and len(d.values) == 1]
    return int(fixed[0] if fixed else 0) or available_cores()


def find_cliffs(
    times: KernelTimes, layers: Sequence[Shape], kernels: Iterable[Kernel], prompt_tokens: int
) -> dict[Kernel, str]:
    """The cliffs among ``kernels``, each with its reason.

    Args:
        times: of these kernels and of float, at 1 and at ``prompt_tokens`` tokens.
        layers: shape of every linear layer of the model.
        kernels: those that a search space may ask for.
        prompt_tokens: length of the deployed prompt.
    """
    decode = {kernel: times.total_ms(kernel, layers, 1) for kernel in {FLOAT, *kernels}}
    found = {}
    for kernel in sorted(set(kernels) - {FLOAT}):
        ms = decode[kernel]
        alike = [one for one in decode if (one.bits, one.activations) == (kernel.bits, kernel.activations)]
        best = min((one for one in alike if one.block_size <= kernel.block_size), key=lambda one: decode[one])
        if kernel in times.failures:
            found[kernel] = f"{kernel} does not run here: {times.failures[kernel]}"
        elif kernel.activations == "int8" and _faster_on_prompts(times, layers, kernel, prompt_tokens):
            continue
        elif ms > SLOWER * decode[FLOAT]:
            found[kernel] = f"{kernel} decodes at {decode[FLOAT] / ms:.2g}x of fp32 on this machine"
        elif ms > FAR_SLOWER * decode[best]:
            found[kernel] = f"{kernel} decodes {ms / decode[best]:.1f} times slower than {best} on this machine"
    return found


def _faster_on_prompts(times: KernelTimes, layers: Sequence[Shape], kernel: Kernel, tokens: int) -> bool:
    return times.total_ms(kernel, layers, tokens) < times.total_ms(FLOAT, layers, tokens)
