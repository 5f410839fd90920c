"""Random LoRA adapters of tiny checkpoints as PEFT saves them, and checkpoints with one merged, both made by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

EVERY_PROJECTION = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_PREFIX = "base_model.model."


def tiny_lora(
    folder: Path,
    checkpoint: Path,
    roles: Sequence[str] = EVERY_PROJECTION,
    *,
    rank: int = 4,
    alpha: float = 8,
    seed: int = 0,
    layers: Sequence[int] | None = None,
    **config: Any,
) -> Path:
    """Write an adapter with random weights; the same arguments give the same bytes.

    Args:
        folder: made where it does not exist.
        checkpoint: whose layers it adds to.
        roles: names of the projections.
        rank: of its matrices.
        alpha: ``lora_alpha``.
        seed: of all weights.
        layers: that it adds to; all by default.
        config: further fields of adapter_config.json.
    """
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, weight in sorted(load_file(checkpoint / "model.safetensors").items()):
        module = name.removesuffix(".weight")
        if module.rpartition(".")[2] not in roles:
            continue
        if layers is not None and int(module.split(".")[2]) not in layers:
            continue
        outputs, inputs = weight.shape
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = rng.normal(0, inputs**-0.5, (rank, inputs)).astype(np.float32)
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = rng.normal(0, 0.1, (outputs, rank)).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": list(roles), "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**about, **config}))
    return folder


def merged(checkpoint: Path, adapter: Path, to: Path) -> Path:
    """Copy a checkpoint with an adapter in its weights: ``W + alpha / rank * B A``, every layer of one rank."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    weights, factors = load_file(checkpoint / "model.safetensors"), load_file(adapter / "adapter_model.safetensors")
    shutil.copytree(checkpoint, to)
    scale = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
    for name in (name for name in factors if "lora_A" in name):
        product = factors[name.replace("lora_A", "lora_B")].astype(np.float64) @ factors[name].astype(np.float64)
        weights[name.removeprefix(_PREFIX).replace(".lora_A", "")] += (scale * product).astype(np.float32)
    save_file(weights, to / "model.safetensors", {"format": "pt"})
    return to
