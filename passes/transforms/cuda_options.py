"""Options of the CUDA provider, written into genai_config.json: no weight changes, so no rebuild."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

from olivine.passes.base import Axis, Choice, ConfigPass
from olivine.passes.errors import PassRefused, UsageError, did_you_mean
from olivine.passes.precisions import INTEGER_BITS

WEIGHT_KERNELS = ("default", "fpa_intb")
#: The block that fpA_intB has kernels for in the released packages; their own message says so.
_FPA_INTB_BLOCK = 32


def _on_cuda(choice: Choice) -> bool:
    return choice.get("provider") == "cuda"


def _fits_fpa_intb(choice: Choice) -> bool:
    """True when fpA_intB takes the weights: int8 or int4 in blocks of 32 without zero points."""
    return (
        _on_cuda(choice)
        and choice.get("precision") in INTEGER_BITS
        and choice.get("block_size") == _FPA_INTB_BLOCK
        and bool(choice.get("symmetric", False))
    )


@dataclass(frozen=True)
class CudaOptions(ConfigPass):
    """Graph capture, and which kernels multiply with integer weights.

    Attributes:
        graph_capture: decode steps are captured as a CUDA graph and replayed; ONNX Runtime refuses a model
            of which a computing node runs elsewhere.
        weight_kernels: ``fpa_intb`` packs integer weights for the tensor cores at load (ONNX Runtime's
            ``ep.cuda.fpa_intb_gemm``); layers that it can't take keep the default.
    """

    graph_capture: bool = False
    weight_kernels: str = "default"

    name: ClassVar[str] = "cuda_options"
    requires: ClassVar[frozenset[str]] = frozenset({"onnx"})
    libraries: ClassVar[tuple[str, ...]] = ()
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis("graph_capture", "bool", False, "let CUDA replay captured decode steps", applies=_on_cuda),
        Axis(
            "weight_kernels",
            "choice",
            "default",
            "CUDA's kernels for integer weights; fpa_intb takes symmetric blocks of 32",
            WEIGHT_KERNELS,
            applies=_fits_fpa_intb,
        ),
    )

    def __post_init__(self) -> None:
        """Check what a request file may bring."""
        if self.weight_kernels not in WEIGHT_KERNELS:
            hint = did_you_mean(self.weight_kernels, WEIGHT_KERNELS)
            raise UsageError(f"cuda_options: unknown weight_kernels '{self.weight_kernels}'. {hint}")

    @classmethod
    def from_choice(cls, choice: Choice) -> CudaOptions | None:
        """The pass where an option is on."""
        options = cls(bool(choice.get("graph_capture", False)), str(choice.get("weight_kernels", "default")))
        return None if options == cls() else options

    def edited(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config with these options in the decoder's session, as the model builder's own switches would have it.

        Raises:
            PassRefused: when the model names no CUDA provider whose graphs could be captured.
        """
        changed: dict[str, Any] = deepcopy(dict(config))
        options = changed["model"]["decoder"].setdefault("session_options", {})
        if self.graph_capture:
            self._cuda_entry(options.get("provider_options") or [])["enable_cuda_graph"] = "1"
        if self.weight_kernels == "fpa_intb":
            options["ep.cuda.fpa_intb_gemm"] = "1"
            # A bias folded into MatMulNBits would send the layer back to the default kernels.
            options["optimization.disable_specified_optimizers"] = "MatMulNBitsFusion"
        return changed

    def _cuda_entry(self, providers: list[dict[str, dict[str, str]]]) -> dict[str, str]:
        for entry in providers:
            if "cuda" in entry:
                return entry["cuda"]
        raise PassRefused(f"{self.name}: genai_config.json names no CUDA provider; name a checkpoint as the model")
