"""A tiny Qwen3 that has learned real text, so that benchmarks see a second architecture whose weights mean something.

Four million weights, a byte-level BPE tokenizer of 2048 tokens and a context of 1024, trained on Wikipedia articles out
of gensim's wheel and on the news articles that ``calibrate`` takes: what ``select`` and ``confirm`` score, it has never
seen. One core, some ten minutes; the result is kept below ``cache_root()/benchmarks`` and never trained twice.
``peers/train_qwen3.py`` trains a larger one by the same code.

    .venv/bin/python tests/benchmarks/train_tiny.py [--to DIR] [--seconds S]

``--seconds`` ends a long training early; the same command goes on with it.
"""

from __future__ import annotations

import argparse
import bz2
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from olivine.evaluators.data.text_source import TextSource, splits
from olivine.passes.sources.demo import fetch_encyclopedia
from olivine.passes.store.cache import cache_root

CONTEXT = 512
WARMUP = 30
BOS, EOS = "<|im_start|>", "<|im_end|>"
#: A state of the training is kept this often.
CHECKPOINT_S = 60.0


@dataclass(frozen=True)
class Plan:
    """All that tells one trained Qwen3 from another.

    Attributes:
        shape: settings of ``Qwen3Config`` beside those that all of them share.
        vocabulary: tokens of the tokenizer.
        steps: of ``batch`` windows of ``CONTEXT`` tokens.
        batch: windows of a step.
        rate: largest learning rate.
        threads: of torch; another number gives slightly other weights.
        bfloat16: compute in bfloat16 what bears it; weights stay in float32.
    """

    shape: Mapping[str, int]
    vocabulary: int
    steps: int
    batch: int
    rate: float
    threads: int = 1
    bfloat16: bool = False


TINY = Plan(
    {
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    vocabulary=2048,
    steps=600,
    batch=4,
    rate=3e-3,
)
_MARKUP = [
    (re.compile(r"<!--.*?-->|<ref[^>]*?/>|<ref.*?</ref>|<math.*?</math>", re.DOTALL), ""),
    (re.compile(r"\{\{[^{}]*\}\}"), ""),
    (re.compile(r"\{\{[^{}]*\}\}"), ""),
    (re.compile(r"\{\|.*?\|\}", re.DOTALL), ""),
    (re.compile(r"\[\[(?:File|Image|Category):[^\]]*\]\]"), ""),
    (re.compile(r"\[\[(?:[^|\]]*\|)?([^\]]*)\]\]"), r"\1"),
    (re.compile(r"\[https?:\S+ ?([^\]]*)\]"), r"\1"),
    (re.compile(r"'{2,}|<[^>]*>|&nbsp;"), ""),
    (re.compile(r"^[=*#:;|{!].*$", re.MULTILINE), ""),
]


def articles() -> list[str]:
    """Wikipedia's paragraphs of prose, without their markup."""
    xml = bz2.decompress(fetch_encyclopedia().read_bytes()).decode("utf-8")
    found = []
    for body in re.findall(r"<text[^>]*>(.*?)</text>", xml, re.DOTALL):
        text = body.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
        for pattern, plain in _MARKUP:
            text = pattern.sub(plain, text)
        paragraphs = [line.strip() for line in text.splitlines() if len(line) > 120 and "|" not in line]
        found += ["\n".join(paragraphs)] if paragraphs else []
    return found


def tiny_texts() -> list[str]:
    """Training text of the tiny model."""
    return articles() + splits(TextSource.parse("demo:news").documents())["calibrate"]


def make_tokenizer(texts: Sequence[str], vocabulary: int) -> tf.PreTrainedTokenizerFast:
    """Byte-level BPE, learned from the training text."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return tf.PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=BOS, eos_token=EOS, pad_token=EOS)


def make_model(plan: Plan) -> Any:
    """The untrained model, the same every time."""
    torch.manual_seed(0)
    config = tf.Qwen3Config(
        **plan.shape,
        head_dim=64,
        vocab_size=plan.vocabulary,
        max_position_embeddings=2 * CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    return tf.AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def rate(plan: Plan, step: int) -> float:
    """Learning rate: a linear warm-up, then half a cosine to a tenth."""
    if step < WARMUP:
        return plan.rate * (step + 1) / WARMUP
    return plan.rate * (0.55 + 0.45 * math.cos(math.pi * (step - WARMUP) / (plan.steps - WARMUP)))


def train(to: Path, seconds: float, plan: Plan = TINY, texts: Sequence[str] | None = None) -> bool:
    """Train, or go on training, for at most this long; True when the model is whole.

    Args:
        to: the model's folder; a state of the training lies there until the model is whole.
        seconds: end this slice of the training after so long.
        plan: of the model.
        texts: training text, by default that of the tiny model.
    """
    if (to / "config.json").is_file():
        return True
    to.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    torch.set_num_threads(plan.threads)
    texts = texts or tiny_texts()
    tokenizer = make_tokenizer(texts, plan.vocabulary)
    ids = torch.tensor([token for text in texts for token in (0, *tokenizer(text)["input_ids"])])
    model = make_model(plan)
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.rate, betas=(0.9, 0.95), weight_decay=0.1)
    state, first = to / "training.pt", 0
    if state.exists():
        kept = torch.load(state, weights_only=True)
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        first = int(kept["step"])
    print(f"{sum(p.numel() for p in model.parameters()):,} weights, {len(ids):,} tokens of text", flush=True)
    model.train()
    saved = time.monotonic()
    for step in range(first, plan.steps):
        loss = _step(model, optimizer, ids, plan, step)
        if step % 20 == 0:
            print(f"step {step} of {plan.steps}: loss {loss:.3f}, {time.monotonic() - started:.0f} s", flush=True)
        late = time.monotonic() - started > seconds
        if late or time.monotonic() - saved > CHECKPOINT_S:
            kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(kept, to / "aside.pt")
            os.replace(to / "aside.pt", state)
            saved = time.monotonic()
        if late and step + 1 < plan.steps:
            return False
    tokenizer.save_pretrained(to)
    model.save_pretrained(to)
    state.unlink(missing_ok=True)
    return True


def _step(model: Any, optimizer: torch.optim.Optimizer, ids: torch.Tensor, plan: Plan, step: int) -> float:
    """One step on windows that follow from its number; the loss before it, in nats a token."""
    chance = torch.Generator().manual_seed(step)
    starts = torch.randint(0, len(ids) - CONTEXT, (plan.batch,), generator=chance)
    batch = torch.stack([ids[start : start + CONTEXT] for start in starts.tolist()])
    for group in optimizer.param_groups:
        group["lr"] = rate(plan, step)
    with torch.autocast("cpu", torch.bfloat16, enabled=plan.bfloat16):
        loss = model(batch, labels=batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.item())


def default_folder() -> Path:
    """Where the trained model is kept."""
    return cache_root() / "benchmarks" / "tiny-qwen3"


def main() -> None:
    """Train for as long as asked, and say where the model is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=Path, default=default_folder())
    parser.add_argument("--seconds", type=float, default=math.inf, help="end this slice of the training after so long")
    options = parser.parse_args()
    done = train(options.to, options.seconds)
    print(f"{options.to} is trained" if done else "not done yet: the same command goes on with it")


if __name__ == "__main__":
    main()
