"""Calibration text in pieces, the same for every engine that learns from text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

#: This many pieces of this many tokens.
PIECES, TOKENS = 32, 512


def pieces(texts: Path, tokenizer: Path) -> list[npt.NDArray[np.int64]]:
    """[1, TOKENS] each: token ids of the texts in a JSON file, as the tokenizer in a folder splits them."""
    from transformers import AutoTokenizer

    joined = "\n\n".join(json.loads(texts.read_text(encoding="utf-8")))
    ids = AutoTokenizer.from_pretrained(tokenizer)(joined, add_special_tokens=False)["input_ids"]
    cut = [ids[start : start + TOKENS] for start in range(0, len(ids) - TOKENS + 1, TOKENS)]
    return [np.array([piece], np.int64) for piece in cut[:PIECES]]
