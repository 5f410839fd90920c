"""Tiny models of every architecture and GGUF files of every type against transformers: right, mended or refused.

    python tests/benchmarks/parity.py --to results/parity.md

Each row builds the float base through the pipeline, whose gate compares it with its checkpoint, and then compares the
two once more by other code: the whole checkpoint in transformers, the graph in one go and in pieces. A row that differs
is wrong, and the command ends with exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as tf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from graph_logits import graph_logits
from parity_gguf import readable_types, write_pair
from parity_models import Case, cases
from parity_published import published
from tiny import tiny_checkpoint, tiny_sizes

from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import OlivineError
from olivine.passes.pipeline import build
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache

#: The difference of a logit that rounding explains, as a share of the logits' spread.
ALLOWED = 2e-3
_TOKENS, _BEHIND, _LONGEST = 200, 64, 4400


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        name: what is peculiar about it.
        outcome: ``right``, ``mended``, ``refused`` or ``wrong``.
        said: the difference, or the sentence of the refusal.
        published: the real models whose config it is.
    """

    name: str
    outcome: str
    said: str
    published: str = ""


def row_of(case: Case, home: Path) -> Row:
    """Build one model and compare it."""
    config = case.config()
    own = getattr(tf, case.own_class) if case.own_class else None
    made = tf.AutoModelForCausalLM.from_config if own is None else own._from_config
    checkpoint = tiny_checkpoint(home / "checkpoint", config=config, make=made)
    return judged(case.name, checkpoint, checkpoint, home, own or tf.AutoModelForCausalLM, case.published)


def judged(name: str, model: Path, reference: Path, home: Path, auto: Any, published_as: str = "") -> Row:
    """Build ``model`` and compare its base with the checkpoint ``reference``."""
    try:
        source = resolve(str(model))
        built = build(source, LANGUAGE.compose({}), Cache(home / "cache"))
    except OlivineError as error:
        sentence = str(error).splitlines()[0].partition("Did you mean")[0].replace(f"{model}: ", "").strip()
        return Row(name, "refused", sentence, published_as)
    worst, spread, tokens = largest_difference(built.artifact.path, reference, auto)
    said = f"{worst:.1g} of {spread:.2g} over {tokens:,} tokens"
    if not worst <= ALLOWED * spread:
        return Row(name, "wrong", said, published_as)
    return Row(name, "mended" if any("mended" in note for note in source.notes) else "right", said, published_as)


def largest_difference(folder: Path, checkpoint: Path, auto: Any) -> tuple[float, float, int]:
    """The largest difference of a logit, in one go and in pieces; the logits' spread; and tokens compared."""
    model = auto.from_pretrained(checkpoint, dtype=torch.float32).eval()
    text = model.config.get_text_config()
    longest = int(text.max_position_embeddings)
    parameters = getattr(text, "rope_parameters", None) or {}
    marks = [getattr(text, "sliding_window", None), parameters.get("original_max_position_embeddings")]
    lengths = {min(_TOKENS, longest)}
    lengths |= {mark + _BEHIND for mark in marks if mark and mark + _BEHIND <= min(_LONGEST, longest)}
    worst = spread = 0.0
    for length in sorted(lengths):
        ids = np.random.default_rng(1).integers(4, 300, size=length).tolist()
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].numpy()
        switches = parameters.get("rope_type") in ("longrope", "dynamic") and length > (marks[1] or longest)
        ways = [()] if switches else [(), (length // 3, 1, length - 1 - length // 3)]
        found = [graph_logits(folder, ids, pieces) for pieces in ways]
        worst = max(worst, *(float(np.abs(logits - expected).max()) for logits in found))
        spread = max(spread, float(expected.std()))
    return worst, spread, max(lengths)


def gguf_rows(home: Path) -> Iterator[tuple[str, Callable[[Path], Row]]]:
    """A row for each type of tensors."""
    config = tf.Qwen2Config(**tiny_sizes(hidden=256, layers=2))
    checkpoint = tiny_checkpoint(home / "qwen2", config=config)
    for kind in readable_types():

        def row(place: Path, kind: Any = kind) -> Row:
            write_pair(checkpoint, kind, place / "model.gguf", place / "reference")
            return judged(
                f"Qwen2 as GGUF, {kind.name}", place / "model.gguf", place / "reference", place, tf.AutoModelForCausalLM
            )

        yield kind.name, row


def page(models: list[Row], files: list[Row], seconds: float) -> str:
    """The results as Markdown."""
    known = [row for row in models if row.published]
    others = [row for row in models if not row.published]
    counts = Counter(row.outcome for row in (*models, *files))
    names = ("olivine", "onnxruntime-genai", "onnxruntime", "transformers", "torch", "gguf")
    return "\n".join(
        [
            "# Parity: the float base against its checkpoint",
            "",
            f"`make bench-parity`, {seconds / 60:.0f} minutes: {len(models)} tiny random models of "
            f"{len({row.name.split(',')[0] for row in models})} architectures, and GGUF files of {len(files)} types of "
            "tensors. Each base is built as a study builds it, its gate included, and compared again by other code: "
            "the largest difference of a logit to transformers in float32, of the standard deviation of its logits.",
            "",
            f"**{counts['right']} right, {counts['mended']} mended, {counts['refused']} refused, "
            f"{counts['wrong']} wrong.** Mended: the GenAI model builder exports another model, and olivine mends its "
            f"graph. A row is wrong where the difference is more than {ALLOWED:g} of the spread.",
            "",
            "## Configs of real models",
            "",
            "Contexts, windows, RoPE and multipliers are theirs, sizes are not.",
            "",
            *_table(known, "config of"),
            "",
            "## All others",
            "",
            *_table(others, ""),
            "",
            "## GGUF",
            "",
            "The reference is a checkpoint of the floats that the codes stand for. Types that gguf only reads are of "
            "random codes.",
            "",
            *_table(files, ""),
            "",
            ", ".join(f"{name} {version(name)}" for name in names) + ".",
            "",
        ]
    )


def _table(rows: list[Row], published_as: str) -> list[str]:
    first = f"| {published_as} | model " if published_as else "| model "
    lines = [f"{first}| | difference, or why not |", "|---" * (4 if published_as else 3) + "|"]
    for row in rows:
        start = f"| {row.published} | {row.name} " if published_as else f"| {row.name} "
        lines.append(f"{start}| {row.outcome} | {row.said} |")
    return lines


def main() -> int:
    """Compare all, print a line each, write the page; return 1 where one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, help="the page to write")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    arguments = parser.parse_args()
    tf.utils.logging.set_verbosity_error()
    started = time.monotonic()
    models: list[Row] = []
    files: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        works = [(f"{c.name} {c.published}", lambda place, c=c: row_of(c, place)) for c in (*published(), *cases())]
        for kept, rows in ((models, works), (files, gguf_rows(home))):
            for name, work in rows:
                if arguments.only in name:
                    place = home / "one"
                    place.mkdir()
                    with contextlib.redirect_stderr(io.StringIO()):
                        kept.append(work(place))
                    shutil.rmtree(place)
                    print(f"{kept[-1].outcome:8} {name}: {kept[-1].said}", flush=True)
    if arguments.to is not None:
        arguments.to.write_text(page(models, files, time.monotonic() - started), encoding="utf-8")
    return int(any(row.outcome == "wrong" for row in (*models, *files)))


if __name__ == "__main__":
    sys.exit(main())
