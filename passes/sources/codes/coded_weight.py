"""CodedWeight: the codes of a linear layer as a checkpoint brings them, and the file that keeps them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: Folder of a checkpoint of the cache that keeps the codes, one file a layer.
FOLDER = "codes"
_DECODER_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.(?:\w+\.)*(\w+)$")


@dataclass(frozen=True)
class CodedWeight:
    """A weight of N outputs and K inputs in groups along K: ``value = scale * (code - zero point)``.

    Attributes:
        codes: uint8 [N, K], columns in the order of the groups.
        scales: float32 [N, groups].
        zero_points: uint8 [N, groups].
        bits: width of a code, 2 to 8.
        group_size: columns that share a scale.
        order: int64 [K], the input that each column of ``codes`` belongs to (act-order); None where it is its own.
    """

    codes: np.ndarray
    scales: np.ndarray
    zero_points: np.ndarray
    bits: int
    group_size: int
    order: np.ndarray | None = None

    def dequantize(self) -> np.ndarray:
        """The weight that the codes stand for, float32 [N, K], columns in the order of the inputs."""
        n, k = self.codes.shape
        groups = self.codes.reshape(n, -1, self.group_size).astype(np.float32)
        steps = groups - self.zero_points.astype(np.float32)[:, :, None]
        values: np.ndarray = (steps * self.scales[:, :, None]).reshape(n, k)
        if self.order is None:
            return values
        sorted_back = np.empty_like(values)
        sorted_back[:, self.order] = values
        return sorted_back

    def save(self, path: Path) -> None:
        """Write the codes to a file."""
        parts = {"codes": self.codes, "scales": self.scales, "zero_points": self.zero_points}
        if self.order is not None:
            parts["order"] = self.order
        np.savez(path, bits=self.bits, group_size=self.group_size, allow_pickle=False, **parts)

    @classmethod
    def load(cls, path: Path) -> CodedWeight:
        """The codes of a file that :meth:`save` wrote."""
        with np.load(path) as parts:
            order = parts["order"] if "order" in parts.files else None
            widths = int(parts["bits"]), int(parts["group_size"])
            return cls(parts["codes"], parts["scales"], parts["zero_points"], *widths, order)


def layer_path(module: str) -> str | None:
    """The path of a module's layer in an exported graph, ``layers.3/q_proj`` or ``lm_head``; None for an expert's.

    Args:
        module: name in the checkpoint, such as ``model.layers.3.self_attn.q_proj``.
    """
    if ".experts." in module or ".shared_expert" in module:
        return None
    if module.rsplit(".", 1)[-1] == "lm_head":
        return "lm_head"
    parts = _DECODER_LAYER.search(module)
    return f"layers.{parts[1]}/{parts[2]}" if parts else None


def code_file(path: str) -> str:
    """Name of the file of a layer's codes."""
    return f"{path.replace('/', '.')}.npz"


def coded_layers(checkpoint: Path) -> dict[str, Path]:
    """Layer path -> the file of its codes, of a checkpoint of the cache."""
    files = sorted((checkpoint / FOLDER).glob("*.npz"))
    return {re.sub(r"^(layers\.\d+)\.", r"\1/", file.stem): file for file in files}
