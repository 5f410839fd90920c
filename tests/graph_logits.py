"""Logits of an exported graph in a plain session, in one go or in pieces that go through the cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


def graph_logits(folder: Path, ids: Sequence[int], pieces: Sequence[int] = ()) -> np.ndarray:
    """Logits [tokens, vocabulary] of ``ids``, read in ``pieces`` of so many tokens."""
    decoder = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(folder / decoder["filename"]), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    cache: dict[str, np.ndarray] = {}
    found: list[np.ndarray] = []
    start = 0
    for length in pieces or [len(ids)]:
        rows = {"input_ids": ids[start : start + length], "attention_mask": [1] * (start + length)}
        rows["position_ids"] = list(range(start, start + length))
        feed = {}
        for given in session.get_inputs():
            sizes = [size if isinstance(size, int) else int("batch" in size) for size in given.shape]
            if given.name in rows:
                row = np.array([rows[given.name]], _TYPES[given.type])
                feed[given.name] = np.stack([row] * 3) if len(sizes) == 3 else row  # one for each axis of M-RoPE
            else:
                sizes[-1] = sizes[-1] or decoder["head_size"]
                feed[given.name] = cache.get(given.name, np.zeros(sizes, _TYPES[given.type]))
        outputs = dict(zip(names, session.run(None, feed), strict=True))
        cache = {name.replace("present", "past_key_values"): value for name, value in outputs.items()}
        cache |= {name.replace("present", "past"): value for name, value in outputs.items()}
        found.append(outputs["logits"][0])
        start += length
    return np.concatenate(found).astype(np.float32)
