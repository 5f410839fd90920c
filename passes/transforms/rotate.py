"""Rotate the residual stream: QuaRot's R1 (arXiv 2404.00456, section 4).

RMSNorm without a weight commutes with an orthogonal matrix, so a decoder whose norm weights are folded away
can be rotated without changing its logits. With row vectors and ``x' = x Q``:

1. every RMSNorm weight ``g`` goes into the linear layers that read it, ``W <- W diag(g)``, and becomes ones;
2. the embedding and the layers that read the stream take ``E <- E Q`` and ``W <- W Q``;
3. the layers that write the stream take ``W <- Q^T W`` and ``b <- b Q``;
4. the head is untied from the embedding, since only it has the final norm's weight folded in.

Left alone: norms inside attention (``q_norm``, ``k_norm``), biases of the layers that read, rotary tables.
Outliers of single channels are spread over all of them, which integer weights and activations gain from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from olivine.passes.artifact import link_or_copy
from olivine.passes.base import Axis, CheckpointPass, Choice
from olivine.passes.errors import PassRefused
from olivine.passes.store.safetensors_stream import Planned, tensor_files, write_safetensors
from olivine.passes.transforms.orthogonal import RandomHadamard

_ATTENTION_IN, _MLP_IN = "input_layernorm", "post_attention_layernorm"
#: Name of a linear layer -> the norm whose output it reads.
_READS = {
    "self_attn.q_proj": _ATTENTION_IN,
    "self_attn.k_proj": _ATTENTION_IN,
    "self_attn.v_proj": _ATTENTION_IN,
    "self_attn.qkv_proj": _ATTENTION_IN,
    "mlp.gate_proj": _MLP_IN,
    "mlp.up_proj": _MLP_IN,
    "mlp.gate_up_proj": _MLP_IN,
}
_WRITES = {"self_attn.o_proj", "mlp.down_proj"}
_NORMS = {_ATTENTION_IN, _MLP_IN}
_INSIDE = {"self_attn.q_norm", "self_attn.k_norm"}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias|inv_freq)")
_EMBEDDING, _FINAL_NORM, _HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"

SUPPORTED = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Phi3ForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "SmolLM3ForCausalLM",
)
_WHY_NOT = {
    "Gemma": "its norms scale by (1 + weight), it normalizes what layers write, and it scales the embedding",
    "Granite": "it multiplies the embedding, the residual stream and the logits by constants",
    "Phi": "its LayerNorm subtracts the mean, which a rotation does not preserve",
    "Olmo": "its LayerNorm subtracts the mean, which a rotation does not preserve",
    "Nemotron": "its LayerNorm subtracts the mean, which a rotation does not preserve",
}


@dataclass(frozen=True)
class Rotate(CheckpointPass):
    """Fold the norms and rotate the residual stream by a fixed random orthogonal matrix; written in float32.

    Attributes:
        seed: of the orthogonal matrix; the same seed gives the same bytes.
    """

    seed: int = 0

    name: ClassVar[str] = "rotate"
    requires: ClassVar[frozenset[str]] = frozenset({"checkpoint"})
    adds: ClassVar[frozenset[str]] = frozenset({"rotated"})
    libraries: ClassVar[tuple[str, ...]] = ("torch", "safetensors")
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis("rotate", "bool", False, "rotate the residual stream (QuaRot R1) before the export"),
    )

    @classmethod
    def from_choice(cls, choice: Choice) -> Rotate | None:
        """The pass where the axis ``rotate`` is true."""
        return cls() if choice.get("rotate") else None

    def refuse(self, properties: frozenset[str]) -> str | None:
        """A stream that is rotated already gains nothing from a second rotation."""
        if "rotated" in properties:
            return "pass 'rotate' does not apply: this checkpoint is rotated already"
        return super().refuse(properties)

    def apply(self, checkpoint: Path, to: Path) -> None:
        """Write the rotated checkpoint to the empty folder ``to``; one tensor at a time is in memory.

        Raises:
            PassRefused: for an architecture or a tensor whose place in the residual stream is not known.
        """
        config: dict[str, Any] = json.loads((checkpoint / "config.json").read_text())
        _check(config)
        shards = tensor_files(checkpoint)
        fold = _Fold(checkpoint, shards, RandomHadamard(int(config["hidden_size"]), self.seed))
        index: dict[str, str] = {}
        total = 0
        for file in sorted(set(shards.values())):
            names = sorted(name for name, shard in shards.items() if shard == file)
            tensors = [tensor for name in names for tensor in fold.planned(name)]
            total += write_safetensors(to / file, tensors)
            index |= {tensor.name: file for tensor in tensors}
        if len(set(shards.values())) > 1:
            about = {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))}
            (to / "model.safetensors.index.json").write_text(json.dumps(about, indent=2) + "\n")
        config |= {
            "tie_word_embeddings": False,
            "torch_dtype" if "torch_dtype" in config else "dtype": "float32",
        }
        (to / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        for other in sorted(p for p in checkpoint.iterdir() if p.is_file() and not (to / p.name).exists()):
            link_or_copy(other, to / other.name)

    def rotated_product(
        self, checkpoint: Path, module: str, down: np.ndarray, up: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The factors of what an adapter adds to a linear layer, for the rotated model; ``y = x W^T + x down up``.

        Args:
            checkpoint: as it was before.
            module: name of the layer, such as ``model.layers.3.self_attn.q_proj``.
            down: float32 [inputs, rank].
            up: float32 [rank, outputs].

        Raises:
            PassRefused: for a layer whose place in the residual stream is not known.
        """
        config: dict[str, Any] = json.loads((checkpoint / "config.json").read_text())
        fold = _Fold(checkpoint, tensor_files(checkpoint), RandomHadamard(int(config["hidden_size"]), self.seed))
        return fold.product(module, down, up)


def _check(config: dict[str, Any]) -> None:
    """Refuse an architecture whose residual stream this pass does not know."""
    architecture = str((config.get("architectures") or ["none"])[0])
    if architecture not in SUPPORTED:
        why = next((why for start, why in _WHY_NOT.items() if architecture.startswith(start)), None)
        raise PassRefused(
            f"pass 'rotate' does not apply to {architecture}: "
            f"{why or 'how its residual stream runs is not known to the pass'}. "
            f"It knows {', '.join(SUPPORTED)}."
        )


@dataclass(frozen=True)
class _Fold:
    """Rotation of each tensor of one checkpoint, by its place in the residual stream."""

    checkpoint: Path
    shards: dict[str, str]
    q: RandomHadamard

    def planned(self, name: str) -> Iterator[Planned]:
        """Output tensors of the input tensor ``name``: itself, and for a tied embedding the head too."""
        shape = self._shape(name)
        if name == _EMBEDDING:
            yield Planned(name, shape, lambda: self.q.rotate(self._read(name)))
            if _HEAD not in self.shards:
                yield Planned(_HEAD, shape, lambda: self._reading(name, _FINAL_NORM))
        elif name == _HEAD:
            yield Planned(name, shape, lambda: self._reading(name, _FINAL_NORM))
        elif name == _FINAL_NORM:
            yield Planned(name, shape, lambda: np.ones(shape))
        else:
            yield Planned(name, shape, lambda: self._layer(name))

    def _layer(self, name: str) -> np.ndarray:
        parts = _LAYER.fullmatch(name)
        layer, role, part = parts.groups() if parts else ("", "", "")
        if role in _READS and part == "weight":
            return self._reading(name, f"model.layers.{layer}.{_READS[role]}.weight")
        if role in _WRITES:
            tensor = self._read(name)
            return self.q.rotate(tensor) if part == "bias" else self.q.rotate(tensor.T).T
        if role in _NORMS and part == "weight":
            return np.ones(self._shape(name))
        if role in _INSIDE or role in _READS or part == "inv_freq":
            return self._read(name)
        raise PassRefused(f"pass 'rotate' does not know where tensor '{name}' stands in the residual stream")

    def product(self, module: str, down: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both factors [inputs, rank] and [rank, outputs], each as the weight of its side is rotated."""
        parts = _LAYER.fullmatch(f"{module}.weight")
        layer, role = parts.groups()[:2] if parts else ("", "")
        if role in _READS:
            norm = self._read(f"model.layers.{layer}.{_READS[role]}.weight")
            return self.q.rotate(down.T * norm).T.astype(down.dtype), up
        if role in _WRITES:
            return down, self.q.rotate(up).astype(up.dtype)
        raise PassRefused(f"pass 'rotate' does not know where '{module}' stands in the residual stream")

    def _reading(self, name: str, norm: str) -> np.ndarray:
        return self.q.rotate(self._read(name) * self._read(norm))

    def _read(self, name: str) -> np.ndarray:
        from safetensors import safe_open

        with safe_open(self.checkpoint / self.shards[name], framework="pt") as file:
            return np.asarray(file.get_tensor(name).double().numpy())

    def _shape(self, name: str) -> tuple[int, ...]:
        from safetensors import safe_open

        with safe_open(self.checkpoint / self.shards[name], framework="pt") as file:
            return tuple(file.get_slice(name).get_shape())
