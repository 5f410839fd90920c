"""The search space of a plain graph: its axes, and the steps that a choice of their values stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from olivine.passes.artifact import digest
from olivine.passes.base import Axis, Choice, Scalar, filled
from olivine.passes.cpu import int8_sums_saturate
from olivine.passes.transforms.session_options import available_cores

FUSION_LEVELS = ("none", "basic", "full")
CALIBRATIONS = ("minmax", "entropy", "percentile")
BITS = {"int8": 8, "int4": 4}


@cache
def _cores() -> int:
    """Cores of this process as they were first: base and candidates of a study have the same threads."""
    return available_cores()


def _integer_activations(choice: Choice) -> bool:
    return choice.get("activations") in ("dynamic", "static")


def _weight_only(choice: Choice) -> bool:
    return choice.get("precision") in BITS and not _integer_activations(choice)


AXES: dict[str, Axis] = {
    axis.name: axis
    for axis in (
        Axis(
            "fusion_level",
            "choice",
            "none",
            "what onnxruntime.transformers merges: nothing, all but attention and embeddings, everything it knows",
            FUSION_LEVELS,
        ),
        Axis("precision", "choice", "fp32", "type of the weights", ("fp32", *BITS)),
        Axis(
            "activations",
            "choice",
            "float",
            "float, or int8 with ranges found at run time (dynamic) or by calibration (static, QDQ)",
            ("float", "dynamic", "static"),
            applies=lambda choice: choice.get("precision") == "int8",
        ),
        Axis(
            "calibration",
            "choice",
            "minmax",
            "how static ranges are chosen from calibration samples",
            CALIBRATIONS,
            applies=lambda choice: choice.get("activations") == "static",
        ),
        Axis(
            "per_channel",
            "bool",
            True,
            "whether each output channel of a weight has a scale of its own",
            applies=_integer_activations,
        ),
        Axis(
            "float_down",
            "bool",
            False,
            "whether products that read an activation function stay float: their inputs have outliers",
            applies=_integer_activations,
        ),
        Axis(
            "embedding",
            "choice",
            "float",
            "precision of embedding tables",
            ("float", "int8"),
            applies=lambda choice: choice.get("activations") == "dynamic",
        ),
        Axis(
            "algorithm", "choice", "rtn", "how weights in blocks are chosen", ("rtn", "k_quant"), applies=_weight_only
        ),
        Axis("block_size", "choice", 32, "weights that share a scale", (16, 32, 64, 128, 256), applies=_weight_only),
        Axis(
            "threads",
            "int",
            0,
            "intra-op threads, the base's too; 0 takes all cores that the process may use",
            bounds=(0, 1024),
            shared=True,
        ),
    )
}


def canonical(choice: Choice) -> dict[str, Scalar]:
    """Fill in defaults and drop every axis that does not exist for the values before it.

    Raises:
        UsageError: for an unknown axis.
    """
    return filled(choice, AXES)


@dataclass(frozen=True)
class PlainRecipe:
    """The steps that turn a graph into a candidate, as (name, parameters) pairs."""

    steps: tuple[tuple[str, tuple[tuple[str, Scalar], ...]], ...]

    @cached_property
    def key(self) -> str:
        """Identity: equal keys build equal bytes from the same source, samples and versions."""
        return digest(self.to_json(), length=12)

    @property
    def calibrated(self) -> bool:
        """Whether a step learns from calibration samples."""
        return any(name == "static_int8" for name, _ in self.steps)

    def to_json(self) -> list[dict[str, Any]]:
        """JSON form for records, requests and manifests."""
        return [{"name": name, "params": dict(params)} for name, params in self.steps]

    @classmethod
    def from_json(cls, steps: list[dict[str, Any]]) -> PlainRecipe:
        """The inverse of :meth:`to_json`."""
        return cls(tuple((step["name"], tuple(sorted(step["params"].items()))) for step in steps))


def compose(choice: Choice) -> PlainRecipe:
    """The recipe that a choice stands for; axes it does not name take their defaults.

    What depends on this machine, its cores and whether its int8 sums saturate, is written into the steps: another
    machine that builds the recipe makes the same of it.
    """
    full = canonical(choice)
    steps: list[tuple[str, Mapping[str, Scalar]]] = []
    if full["fusion_level"] != "none":
        steps.append(("fuse", {"level": full["fusion_level"]}))
    if _integer_activations(full):
        named = ("per_channel", "float_down", "embedding", "calibration")
        chosen = {name: full[name] for name in named if name in full}
        steps.append((f"{full['activations']}_int8", {**chosen, "reduce_range": int8_sums_saturate()}))
    elif _weight_only(full):
        bits = BITS[str(full["precision"])]
        steps.append(("weight_only", {"bits": bits, "algorithm": full["algorithm"], "block_size": full["block_size"]}))
    steps.append(("session_options", {"threads": int(full["threads"]) or _cores()}))
    return PlainRecipe(tuple((name, tuple(sorted(params.items()))) for name, params in steps))
