"""A whole study of a tiny random model: its YAML, and the text it is measured on."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import parse_config


def write_text(path: Path, documents: int = 60, words: int = 60) -> Path:
    """Prose of made-up words, one document a paragraph."""
    rng = random.Random(0)
    lexicon = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 7))) for _ in range(200)]
    path.write_text("\n\n".join(" ".join(rng.choices(lexicon, k=words)) for _ in range(documents)))
    return path


def tiny_yaml(model: Path, text: Path, **changes: Any) -> dict[str, Any]:
    """The raw YAML of a study that takes seconds."""
    return {
        "name": "tiny",
        "model": str(model),
        "space": {"precision": ["int8", "int4"], "block_size": [16, 32], "lm_head": ["same", "int8"]},
        "evaluation": {
            "text": {"file": str(text)},
            "windows": 3,
            "window_tokens": 24,
            "latency": {"prompt_tokens": 8, "new_tokens": 3, "max_seconds": 0.2, "half_width": 0.4},
        },
        "stop": {"trials": 4},
        "confirm": {"members": 4, "race": None},
        "kernel_probe": False,  # layers of a few thousand weights gain nothing
        **changes,
    }


def tiny_config(model: Path, text: Path, **changes: Any) -> LanguageStudyConfig:
    """The same, checked."""
    return parse_config(tiny_yaml(model, text, **changes), "tiny.yaml")
