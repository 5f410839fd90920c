"""Convert a checkpoint to GGUF by llama.cpp's own script, also where its tokenizer was trained anew.

    python convert_gguf.py CHECKPOINT --llama SOURCE --to FILE.gguf

llama.cpp knows how a tokenizer splits words by a hash of the token ids of a certain text, so that it knows none but
published vocabularies. The split itself is told by tokenizer.json: a vocabulary that llama.cpp does not know is taken
where it splits words as one of ``SPLITS`` does.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: llama.cpp's name of a pre-tokenizer -> the settings of ``tokenizers`` that do the same.
SPLITS: dict[str, dict[str, Any]] = {"gpt-2": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}}


def split_name(checkpoint: Path) -> str | None:
    """llama.cpp's name of the pre-tokenizer in tokenizer.json; None where no entry of ``SPLITS`` is the same."""
    found = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))["pre_tokenizer"] or {}
    return next((name for name, split in SPLITS.items() if {**found, **split} == found), None)


def known_split(by_hash: Callable[[Any, Any], str], checkpoint: Path) -> Callable[[Any, Any], str]:
    """llama.cpp's look-up by hash, and behind it the one by settings."""

    def look_up(model: Any, tokenizer: Any) -> str:
        try:
            return by_hash(model, tokenizer)
        except NotImplementedError:
            name = split_name(checkpoint)
            if name is None:
                raise
            return name

    return look_up


def main() -> None:
    """Write one float32 file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    for option in ("--llama", "--to"):
        parser.add_argument(option, type=Path, required=True)
    options = parser.parse_args()
    for folder in (options.llama, options.llama / "gguf-py"):
        sys.path.insert(0, str(folder))
    from conversion.base import TextModel  # of llama.cpp's source

    TextModel.get_vocab_base_pre = known_split(TextModel.get_vocab_base_pre, options.checkpoint)
    script = str(options.llama / "convert_hf_to_gguf.py")
    sys.argv = [script, str(options.checkpoint), "--outtype", "f32", "--outfile", str(options.to)]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
