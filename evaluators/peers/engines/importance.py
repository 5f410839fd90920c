"""The importance matrix of llama.cpp: for each weight the mean squares of its inputs over calibration text.

    python importance.py CHECKPOINT --samples FILE --float FLOAT.gguf --gguf-py FOLDER --to FILE.npz

The same numbers as ``llama-imatrix`` collects, which leaves the head out as well. Tensors have the names of the GGUF
file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from pieces import pieces


def importance(checkpoint: Path, samples: Path) -> dict[str, Any]:
    """Name of each linear layer below the head -> [inputs] mean squares."""
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).model.eval()
    sums: dict[str, torch.Tensor] = {}
    tokens = 0

    def watch(name: str) -> Any:
        def add(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
            rows = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
            sums[name] = sums.get(name, torch.zeros(1)) + rows.square().sum(0)

        return add

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(watch(f"model.{name}"))
    with torch.no_grad():
        for piece in pieces(samples, checkpoint):
            model(torch.from_numpy(piece))
            tokens += piece.size
    return {name: (total / tokens).float().numpy() for name, total in sums.items()}


def gguf_names(file: Path, gguf_py: Path) -> Any:
    """The map from names of a checkpoint to names of its GGUF file."""
    sys.path.insert(0, str(gguf_py))
    import gguf

    reader = gguf.GGUFReader(file)
    name = reader.get_field("general.architecture").contents()
    layers = reader.get_field(f"{name}.block_count").contents()
    (architecture,) = (arch for arch, known in gguf.MODEL_ARCH_NAMES.items() if known == name)
    return gguf.get_tensor_name_map(architecture, layers)


def main() -> None:
    """Write the matrix."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    for option in ("--samples", "--float", "--gguf-py", "--to"):
        parser.add_argument(option, type=Path, required=True)
    options = parser.parse_args()
    names = gguf_names(options.float, options.gguf_py)
    found = importance(options.checkpoint, options.samples)
    with options.to.open("wb") as file:
        np.savez(file, **{f"{names.get_name(name)}.weight": values for name, values in found.items()})


if __name__ == "__main__":
    main()
