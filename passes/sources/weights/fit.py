"""Check that the weights of a checkpoint are those of its architecture, with transformers and without reading them."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.passes.errors import SourceError
from olivine.passes.sources.weights.safetensors_header import read_header

#: Types that a weight can have; others are codes of some quantization.
_FLOATS = ("F64", "F32", "F16", "BF16")
#: Cure for weights that are missing.
RANDOM = "Weights that are missing would be random: complete the download, or correct config.json."
#: Names that a message lists at most.
_LISTED = 6
#: Exceptions of transformers on a checkpoint that it can't load.
LOAD_ERRORS = (
    AttributeError,
    ImportError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Fit:
    """Names and shapes of weights that are not those of the architecture, by transformers.

    Attributes:
        missing: weights that the architecture has and the checkpoint has not: they would be random.
        left_over: weights that the checkpoint has and the architecture has not.
        other_shape: name -> shape as stored, shape as expected.
    """

    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    other_shape: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Fit:
        """The fit that ``from_pretrained(..., output_loading_info=True)`` tells of."""
        other = {str(name): (tuple(stored), tuple(wanted)) for name, stored, wanted in info["mismatched_keys"]}
        missing = sorted(str(name) for name in set(info["missing_keys"]) - other.keys())
        return cls(tuple(missing), tuple(sorted(map(str, info["unexpected_keys"]))), other)

    def mistake(self, architecture: str) -> str:
        """The misfits, as the middle of a sentence; empty where there are none."""
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} missing ({listed(self.missing)})")
        if self.left_over:
            parts.append(f"{len(self.left_over)} left over ({listed(self.left_over)})")
        if self.other_shape:
            shapes = [f"{name}: {list(a)} instead of {list(b)}" for name, (a, b) in sorted(self.other_shape.items())]
            parts.append(f"{len(self.other_shape)} of another shape ({listed(shapes)})")
        return f"its weights are not those of {architecture}: {'; '.join(parts)}" if parts else ""


def listed(names: Collection[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _LISTED
    return ", ".join(list(names)[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def check_fit(folder: Path, where: str, trust_remote_code: bool) -> None:
    """Refuse a checkpoint that lacks weights, has others, or has them in another shape or type.

    Nothing of the weights is read: the model is made on the device ``meta``, and its names are mapped as transformers
    maps them when it loads.

    Args:
        folder: the checkpoint.
        where: beginning of the message.
        trust_remote_code: its own code may run.

    Raises:
        SourceError: listing the misfits.
    """
    import transformers

    codes = [
        f"{name} ({about['dtype']})"
        for file in sorted(folder.glob("*.safetensors"))
        for name, about in read_header(file).items()
        if about["dtype"] not in _FLOATS and name.endswith((".weight", ".bias"))
    ]
    if codes:
        raise SourceError(f"{where}: its weights are no floats: {listed(codes)}; a search starts from float weights")
    architecture = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    auto = getattr(transformers, architecture, transformers.AutoModelForCausalLM)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars and a table of the same
            _, info = auto.from_pretrained(
                folder,
                device_map="meta",
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
            )
    except LOAD_ERRORS as error:
        raise SourceError(f"{where}: transformers can't load it: {type(error).__name__}: {error}") from error
    if mistake := Fit.of(info).mistake(architecture):
        raise SourceError(f"{where}: {mistake}. {_cure(Fit.of(info))}")


def _cure(fit: Fit) -> str:
    if any(".lora_" in name or ".base_layer." in name for name in fit.left_over):
        return "These are weights of an adapter that was not merged: merge it into its base model first."
    if any(name.startswith("layers.") and ".attention.w" in name for name in fit.left_over):
        return "These are names of Mistral's and Meta's own format: fetch the model's files for transformers."
    if fit.missing:
        return RANDOM
    return "A model without them would be another one: correct config.json, or remove them where they don't belong."
