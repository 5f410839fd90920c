"""Reading the index of a safetensors checkpoint, and writing such files one tensor at a time.

``safetensors.torch.save_file`` wants a whole shard in memory. The format is a length, a JSON header and the
bytes of all tensors in a row (https://github.com/huggingface/safetensors#format), so a file can be streamed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


@dataclass(frozen=True)
class Planned:
    """A float32 tensor that is computed when it is written.

    Attributes:
        name: its name in the checkpoint.
        shape: its shape.
        compute: gives it, in any float type.
    """

    name: str
    shape: tuple[int, ...]
    compute: Callable[[], np.ndarray]


def tensor_files(checkpoint: Path) -> dict[str, str]:
    """Tensor name -> file name, of a single file or of the shards that the index lists."""
    if (checkpoint / INDEX).exists():
        weight_map: dict[str, str] = json.loads((checkpoint / INDEX).read_text())["weight_map"]
        return weight_map
    from safetensors import safe_open

    with safe_open(checkpoint / SINGLE, framework="pt") as file:
        return dict.fromkeys(file.keys(), SINGLE)


def write_safetensors(path: Path, tensors: Sequence[Planned]) -> int:
    """Write float32 tensors to ``path``, one at a time.

    Returns:
        Bytes of the tensors, without the header.

    Raises:
        ValueError: when a tensor does not have the shape it was planned with.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for planned in tensors:
        start, end = end, end + 4 * math.prod(planned.shape)
        header[planned.name] = {"dtype": "F32", "shape": list(planned.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for planned in tensors:
            tensor = planned.compute()
            if tensor.shape != planned.shape:
                raise ValueError(f"{planned.name} has shape {tensor.shape}, planned {planned.shape}")
            stream.write(np.ascontiguousarray(tensor, dtype="<f4").data)
    return end
