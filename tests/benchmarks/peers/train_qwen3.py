"""``make bench-peers-model``: train the second model of ``make bench-peers``, a Qwen3 of 31 million weights.

It has learned news articles (their ``calibrate`` split) and encyclopedia articles, but none that any split holds out
that a study or the benchmark scores. Its vocabulary is small, so that four fifths of the weights lie in its layers,
whose sizes suit groups of 64 and 128 and the blocks of 256 of llama.cpp's formats. It sees its text eight
times, since a model that has hardly learned loses next to nothing in any format. One core that computes in bfloat16
takes about half an hour; it can be ended at any time, and the same command goes on with it.

    PYTHONPATH=tests/benchmarks .venv/bin/python -m peers.train_qwen3 [--to DIR] [--seconds S]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import train_tiny

from olivine.evaluators.data.text_source import SPLITS, TextSource, splits

PLAN = train_tiny.Plan(
    {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 4,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
    },
    vocabulary=8192,
    steps=4000,
    batch=1,
    rate=1e-3,
    bfloat16=True,
)
#: Letters and digits at the start of a paragraph that tell it from others.
PREFIX = 60


def texts() -> list[str]:
    """Training text: articles of which no paragraph is in a split that is scored, whatever reader cut it out."""
    known, *scored = SPLITS
    news, dump, prose = (
        splits(documents)
        for documents in (
            TextSource.parse("demo:news").documents(),
            TextSource.parse("demo:encyclopedia").documents(),
            train_tiny.articles(),
        )
    )
    held_out = {start for name in scored for text in dump[name] for start in _starts(text)}
    held_out |= {start for text in prose["confirm"] for start in _starts(text)}
    learned = [text for name in SPLITS for text in prose[name] if not held_out & _starts(text)]
    return learned + news[known]


def _starts(text: str) -> set[str]:
    """The start of each paragraph, in letters and digits alone, as far as it has enough of them."""
    starts = ("".join(filter(str.isalnum, line))[:PREFIX] for line in text.splitlines())
    return {start for start in starts if len(start) == PREFIX}


def main() -> None:
    """Train for as long as asked, and say where the model is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=Path, default=Path("build/peers-qwen3"))
    parser.add_argument("--seconds", type=float, default=math.inf, help="end this slice of the training after so long")
    options = parser.parse_args()
    done = train_tiny.train(options.to, options.seconds, PLAN, texts())
    print(f"{options.to} is trained" if done else "not done yet: the same command goes on with it")


if __name__ == "__main__":
    main()
