"""Export: Hugging Face checkpoint -> float ONNX graph, by the model builder of ONNX Runtime GenAI."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from olivine.passes.artifact import GENAI_CONFIG
from olivine.passes.base import Axis, Choice, ExportPass
from olivine.passes.errors import PassRefused, did_you_mean
from olivine.passes.export.fusion_levels import FUSION_LEVELS
from olivine.passes.export.genai_builder import run_builder, supported_architectures
from olivine.passes.precisions import AS_IT_CAME, MIXED, has_codes
from olivine.passes.providers import PROVIDERS


def float_type(provider: str, precision: str) -> str:
    """The float type of a graph: ``precision`` itself, or what lies below int8 and int4 weights."""
    return PROVIDERS[provider].floats[0] if has_codes({"precision": precision}) else precision


def float_refusal(provider: str, precision: str) -> str | None:
    """Why ``provider`` can't run a graph of this precision, as a sentence with what it runs; None where it can."""
    state = PROVIDERS[provider]
    why = state.refusal(precision)
    if why is None:
        return None
    return (
        f"Precision '{precision}' does not run on provider '{provider}': {why}. What runs: {', '.join(state.floats)}."
    )


@dataclass(frozen=True)
class Export(ExportPass):
    """Float export. Integer precisions export floats too: the quantization passes follow.

    Attributes:
        precision: type of weights and activations: fp32, fp16 or bf16.
        provider: execution provider that the graph is shaped for.
        fusion_level: none, qkv or full (see ``fuse.py``).
    """

    precision: str = "fp32"
    provider: str = "cpu"
    fusion_level: str = "qkv"

    name: ClassVar[str] = "export"
    requires: ClassVar[frozenset[str]] = frozenset({"checkpoint"})
    adds: ClassVar[frozenset[str]] = frozenset({"onnx", "float"})
    removes: ClassVar[frozenset[str]] = frozenset({"checkpoint"})
    libraries: ClassVar[tuple[str, ...]] = (
        "onnxruntime-genai",
        "onnxruntime",
        "torch",
        "transformers",
        "onnx-ir",
    )
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis("provider", "choice", "cpu", "execution provider that the model is built for", tuple(PROVIDERS)),
        Axis(
            "precision",
            "choice",
            "fp32",
            "type of the weights; int8, int4 and mixed (of both) quantize a float export; as_it_came takes the codes "
            "of a checkpoint that is quantized already",
            ("fp32", "fp16", "bf16", "int8", "int4", MIXED, AS_IT_CAME),
            calibrated=(MIXED,),
        ),
        Axis("fusion_level", "choice", "qkv", "projections merged into one MatMul", tuple(FUSION_LEVELS)),
    )

    @classmethod
    def from_choice(cls, choice: Choice) -> Export:
        """Always a step: what comes before and after it may not be."""
        provider = str(choice["provider"])
        precision = float_type(provider, str(choice["precision"]))
        return cls(precision, provider, str(choice["fusion_level"]))

    def reference(self) -> Export:
        """The CPU's float32 export at the default fusion level: activations are named alike in all of them."""
        return Export()

    def apply(self, checkpoint: Path, to: Path) -> None:
        """Write model.onnx, its data, genai_config.json and the tokenizer to the empty folder ``to``.

        Runs the builder in this process, which should be a child: it loads the whole model in torch.

        Raises:
            PassRefused: when the builder does not know the architecture, or the provider the float type.
            BuildFailed: when the builder fails; the message ends with its own last lines.
        """
        if (refusal := float_refusal(self.provider, self.precision)) is not None:
            raise PassRefused(refusal)
        architecture = json.loads((checkpoint / "config.json").read_text())["architectures"][0]
        if architecture not in supported_architectures():
            hint = did_you_mean(architecture, supported_architectures())
            raise PassRefused(f"The GenAI model builder does not know the architecture '{architecture}'. {hint}")
        # With bounded caches, sliding-window models refuse to generate less than a window (512 in Gemma 3).
        options = [*FUSION_LEVELS[self.fusion_level], "windowed_kv_cache=false"]
        if any(checkpoint.glob("*.py")):  # a source writes code only where trust_remote_code was given
            options.append("hf_remote=true")
        provider = PROVIDERS[self.provider]
        run_builder(checkpoint, to, self.precision, provider.layout, options)
        if provider.entry is not None:
            _set_provider(to / GENAI_CONFIG, provider.entry)


def _set_provider(path: Path, entry: Mapping[str, Mapping[str, str]]) -> None:
    """Name a provider that the builder has no word for in genai_config.json."""
    config = json.loads(path.read_text())
    config["model"]["decoder"]["session_options"]["provider_options"] = [{k: dict(v) for k, v in entry.items()}]
    path.write_text(json.dumps(config, indent=4))
