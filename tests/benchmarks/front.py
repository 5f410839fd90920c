"""``make bench-front``: at equal bytes, what mixing formats gains over the best format for all layers.

For the demo model (a Llama) and a tiny Qwen3 that ``train_tiny.py`` has trained:

1. every uniform recipe (int4 and int8; rtn, k_quant and gptq; each block size) is built and its divergence from the
   float base measured on the ``select`` split; those that no smaller one beats are the budgets;
2. for each budget, mixed recipes whose ``int8_share`` is solved for the same bytes (within 1 %), of each block size,
   are measured there too, and the best is taken;
3. each pair is measured on held-back text, and its decode speeds against each other, side by side.

What is measured is kept in the work folder at once, so that the same command goes on where it was ended.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import train_tiny

from olivine.evaluators.bench import bench_folders
from olivine.evaluators.data.text_source import TextSource, splits
from olivine.evaluators.data.tokenizing import tokenize
from olivine.evaluators.data.windows import TextProtocol, draw
from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.quality.text_quality import TextQuality
from olivine.evaluators.stats import clustered_mean
from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.cpu import available_cores
from olivine.passes.pipeline import build
from olivine.passes.sources.source import resolve
from olivine.passes.store.atomic_files import write_atomic
from olivine.passes.store.cache import Cache, cache_root
from olivine.search.builds.calibration_text import CalibrationText
from olivine.search.environment import describe_environment

Choice = dict[str, Scalar]
WINDOW_TOKENS, SCREENED_WINDOWS = 512, 3
#: The embedding is the same in all recipes, so that it decides nothing.
SHARED: Choice = {"embedding": "int8"}
UNIFORM: list[Choice] = [
    {**SHARED, "precision": precision, "algorithm": algorithm, "block_size": block}
    for precision in ("int4", "int8")
    for algorithm in ("rtn", "k_quant", "gptq")
    for block in (16, 32, 64, 128)
]
MIXED: list[Choice] = [
    {**SHARED, "precision": "mixed", "algorithm": "gptq", "block_size": block, "int8_block_size": wide}
    for block, wide in ((32, 64), (64, 64), (128, 128))
]
TOLERANCE, LESS = 0.01, 0.25


@dataclass(frozen=True)
class Subject:
    """A model that recipes are compared on.

    Attributes:
        name: in the result.
        model: as ``model:`` takes it.
        work: what was measured, and the base's predictions.
        windows: of held-back text.
        learned_windows: of calibration text, at most.
    """

    name: str
    model: str
    work: Path
    windows: int
    learned_windows: int = 8

    @cached_property
    def cache(self) -> Cache:
        """Where builds are kept."""
        return Cache(cache_root())

    @cached_property
    def base(self) -> ModelArtifact:
        """The float base."""
        return build(resolve(self.model), LANGUAGE.compose({"threads": 1}), self.cache).artifact

    @cached_property
    def text(self) -> str:
        """Key of the calibration text."""
        return CalibrationText(windows=self.learned_windows).store(self.base, self.cache).key

    def build(self, choice: Choice, threads: int = 1) -> ModelArtifact:
        """A candidate; one thread scores no other tokens than two."""
        return build(
            resolve(self.model), LANGUAGE.compose({**choice, "threads": threads}), self.cache, self.text
        ).artifact

    def size(self, choice: Choice) -> int:
        """Bytes of the graph and its weights."""
        return self.kept(f"bytes {word(choice)}", lambda: self.build(choice).model_bytes())

    def divergence(self, choice: Choice, split: str) -> list[float]:
        """KL divergence from the base in each window, in nats a token."""
        return self.kept(f"kl {split} {word(choice)}", lambda: self.divergence_of(self.build(choice).path, split))

    def divergence_of(self, folder: Path, split: str) -> list[float]:
        """The same of any GenAI folder."""
        with ModelProcess.open(folder) as process, ModelProcess.open(self.base.path) as base:
            found = self._quality(split).evaluate(process, base)
        return list(next(m for m in found if m.metric == "kl_divergence").samples)

    def speed(self, mixed: Choice, uniform: Choice, seconds: float) -> list[float]:
        """Decode speed of one recipe over another's, with its interval."""

        def measure() -> list[float]:
            cores = available_cores()
            folders = [self.build(choice, cores).path for choice in (uniform, mixed)]
            found = bench_folders(folders, folders[0], PairedDecoderLatency(half_width=0.01, max_seconds=seconds))
            (speedup,) = (m for m in found[str(folders[1])] if m.metric == "tpot_speedup")
            return [speedup.value, speedup.low, speedup.high]

        return self.kept(f"speed {word(mixed)} over {word(uniform)}", measure)

    def _quality(self, split: str) -> TextQuality:
        length = min(WINDOW_TOKENS, int(self.base.genai_config()["model"]["context_length"]))
        protocol = TextProtocol(length, length)
        joined = protocol.joiner.join(splits(TextSource.parse("demo:news").documents())[split])
        count = SCREENED_WINDOWS if split == "select" else self.windows
        windows = draw(tokenize(joined, self.base.path), protocol, count, 0, f"demo:news ({split})")
        return TextQuality(windows, self.work / "reference", self.base.key)

    def kept(self, what: str, measure: Any) -> Any:
        """A measurement that is taken once and written down."""
        path = self.work / f"{self.name}.json"
        known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        if what not in known:
            known[what] = measure()
            write_atomic(path, json.dumps(known, indent=1))
            print(f"{self.name}: {what}: {known[what]}", flush=True)
        return known[what]


def word(choice: Choice) -> str:
    """A recipe in words."""
    low = f"{choice['algorithm']} block {choice['block_size']}"
    if choice["precision"] != "mixed":
        return f"{choice['precision']} {low}"
    return f"{100 * float(choice['int8_share']):.1f} % int8 block {choice['int8_block_size']}, the rest int4 {low}"


def budgets(subject: Subject) -> list[Choice]:
    """The int4 recipes that no smaller or equal one beats, on the ``select`` split; smallest first.

    At the bytes of int8 recipes there is nothing wider to mix in.
    """
    found: list[Choice] = []
    for choice in sorted(UNIFORM, key=subject.size):
        if choice["precision"] == "int4" and (not found or mean(subject, choice) < mean(subject, found[-1])):
            found.append(choice)
    return found


def mean(subject: Subject, choice: Choice, split: str = "select") -> float:
    """Mean KL divergence."""
    return float(np.mean(subject.divergence(choice, split)))


def best_mixed(subject: Subject, uniform: Choice) -> Choice | None:
    """The mixed recipe of the same bytes that diverges least on the ``select`` split; None where none has them."""
    fitting = [solved for choice in MIXED if (solved := solve(subject, choice, subject.size(uniform))) is not None]
    return min(fitting, key=lambda choice: mean(subject, choice), default=None)


def solve(subject: Subject, choice: Choice, target: int, tolerance: float = TOLERANCE) -> Choice | None:
    """``choice`` with the ``int8_share`` that gives the target's bytes, nearly; None where no share does.

    Bytes grow with the share by a straight line, in steps of whole layers.
    """
    low, high = (subject.size({**choice, "int8_share": share}) for share in (0.0, 1.0))
    share = (target - low) / (high - low)
    for _ in range(5):
        if not 0 < share < 1:
            return None
        solved = {**choice, "int8_share": round(share, 4)}
        over = subject.size(solved) - target
        if abs(over) <= tolerance * target:
            return solved
        share -= over / (high - low)
    return None


@dataclass(frozen=True)
class Pair:
    """A uniform recipe and the mixed one of the same bytes."""

    uniform: Choice
    mixed: Choice


def pairs(subject: Subject) -> Iterator[Pair]:
    """One for each budget that has mixed recipes."""
    for uniform in budgets(subject):
        if (mixed := best_mixed(subject, uniform)) is not None:
            yield Pair(uniform, mixed)


def report(subject: Subject, seconds: float) -> list[str]:
    """Markdown: the pairs, whether the claim holds of each, and the uniform recipes they come from."""
    lines = [
        f"## {subject.name}",
        "",
        "| uniform | KL | MB | mixed | KL | MB | less KL | decode, mixed over uniform | holds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for pair in pairs(subject):
        one, two = (np.array(subject.divergence(choice, "confirm")) for choice in (pair.uniform, pair.mixed))
        ratio = clustered_mean(two, one)
        value, low, high = subject.speed(pair.mixed, pair.uniform, seconds)
        holds = 1 - ratio.value >= LESS and high >= 1
        cells = [
            *(cell for c, kl in ((pair.uniform, one), (pair.mixed, two)) for cell in _measured(subject, c, kl)),
            f"{1 - ratio.value:.0%} [{1 - ratio.high:.0%}, {1 - ratio.low:.0%}]",
            f"{value:.2f}x [{low:.2f}, {high:.2f}]",
            "yes" if holds else "no",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Uniform recipes, on the text that chose (the `select` split):", ""]
    lines += ["| recipe | KL | MB |", "|---|---|---|"]
    for choice in sorted(UNIFORM, key=subject.size):
        lines.append(f"| {word(choice)} | {mean(subject, choice):.3g} | {subject.size(choice) / 1e6:.2f} |")
    return [*lines, ""]


def _measured(subject: Subject, choice: Choice, kl: np.ndarray) -> list[str]:
    found = clustered_mean(kl, np.ones_like(kl))
    interval = f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
    return [word(choice), interval, f"{subject.size(choice) / 1e6:.2f}"]


def main() -> None:
    """Train, build, measure, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("results/front-run"), help="what is measured is kept here")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing a pair")
    parser.add_argument("--windows", type=int, default=12, help="of 512 held-back tokens")
    parser.add_argument("--quality-only", choices=("demo", "tiny"), help="screen and confirm one model; write nothing")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    tiny = train_tiny.default_folder()
    train_tiny.train(tiny, float("inf"))
    subjects = {
        "demo": Subject("SmolLM2-135M (Llama)", "demo:smollm2-135m-instruct", options.work, options.windows),
        "tiny": Subject("Qwen3, 4M, trained here", str(tiny), options.work, options.windows),
    }
    if options.quality_only:
        subject = subjects[options.quality_only]
        for pair in pairs(subject):
            for choice in (pair.uniform, pair.mixed):
                subject.divergence(choice, "confirm")
        return
    about = describe_environment()
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in ("onnxruntime", "onnxruntime-genai"))
    lines = [
        "# At equal bytes: one format for all layers, and mixed ones",
        "",
        f"`make bench-front` on {about['cpu']}, {about['cores']} cores; {versions}.",
        f"KL divergence from the float base in nats a token on {options.windows} held-back windows of {WINDOW_TOKENS}",
        f"tokens; decode speeds of each pair against each other, with all cores, {options.seconds:g} s a pair;",
        "brackets are 95 % intervals. The pairs were chosen on other text. The claim that a pair holds or not: within",
        "1 % of the bytes, the mixed recipe has at least 25 % less KL and is not surely slower.",
        "",
    ]
    for subject in subjects.values():
        lines += report(subject, options.seconds)
    options.to.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
