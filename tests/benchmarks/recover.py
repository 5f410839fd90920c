"""``make bench-recover``: whether a short LoRA on the errors of a quantized model pays on the front.

Codes take no update of a few weights, so a LoRA on int4 weights stays as two float products beside each layer. It has
to beat what else its bytes could buy:

1. the candidate: int4 by GPTQ, its layers not merged, so that each projection is one;
2. the same with a LoRA on every projection, trained on the divergence from the float checkpoint, over the
   calibration text that GPTQ learned from;
3. the mixed recipe whose ``int8_share`` is solved for the bytes of 2.

Divergences are those of the ONNX graphs, on held-back text. What is measured is kept in the work folder at once, so
that the same command goes on where it was ended.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (arXiv 2106.09685).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from front import SHARED, WINDOW_TOKENS, Choice, Subject, solve, word
from low_rank import Training, float_model, student_of, train, write_folder

from olivine.evaluators.bench import bench_folders
from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.stats import Interval, clustered_mean
from olivine.passes.artifact import ModelArtifact
from olivine.passes.catalog import LANGUAGE
from olivine.passes.cpu import available_cores
from olivine.passes.learn.calibration import load_tokens
from olivine.passes.pipeline import build, source_artifact
from olivine.passes.sources.source import resolve
from olivine.passes.store.atomic_files import write_atomic
from olivine.passes.store.cache import Cache
from olivine.passes.store.digests import digest
from olivine.search.builds.calibration_text import CalibrationText
from olivine.search.environment import describe_environment

CANDIDATE: Choice = {**SHARED, "precision": "int4", "algorithm": "gptq", "block_size": 64, "fusion_level": "none"}
MIXED: Choice = {**CANDIDATE, "precision": "mixed", "int8_block_size": 64}
#: Of all bytes; what the branches add to the demo model is about a tenth of them.
TOLERANCE, LOOSE = 0.005, 0.01
PROMPT_TOKENS, NEW_TOKENS, HALF_WIDTH = 128, 32, 0.01


@dataclass(frozen=True)
class Recovery:
    """The three models and what is measured of them.

    Attributes:
        subject: the model.
        training: of the LoRA.
        seconds: of timing a pair.
    """

    subject: Subject
    training: Training
    seconds: float

    @property
    def folder(self) -> Path:
        """The candidate with its LoRA."""
        return self.subject.work / f"{self.subject.name}-lora"

    def trained(self) -> dict[str, Any]:
        """Write the folder; seconds that it took, and the divergence of the first and of the last steps' text."""

        def measure() -> dict[str, Any]:
            subject = self.subject
            candidate = subject.build(CANDIDATE, available_cores())
            started = time.monotonic()
            checkpoint = source_artifact(resolve(subject.model), subject.cache).path
            student, teacher = student_of(checkpoint, candidate.onnx_path()), float_model(checkpoint)
            branches, losses = train(student, teacher, load_tokens(subject.cache, subject.text), self.training)
            write_folder(candidate, branches, self.folder)
            few = max(1, len(losses) // 6)
            ends = [float(np.mean(part)) for part in (losses[:few], losses[-few:])]
            return {"seconds": time.monotonic() - started, "losses": ends}

        found: dict[str, Any] = self.subject.kept("training", measure)
        return found

    def lora_bytes(self) -> int:
        """Bytes of the graph with branches and its weights."""
        return ModelArtifact(self.folder, "", frozenset()).model_bytes()

    def mixed(self) -> Choice:
        """The mixed recipe of the same bytes; where even int8 alone has fewer, that."""
        target = self.lora_bytes()
        for tolerance in (TOLERANCE, LOOSE):
            if (solved := solve(self.subject, MIXED, target, tolerance)) is not None:
                return solved
        widest: Choice = {**MIXED, "int8_share": 1.0}
        if self.subject.size(widest) > target:
            raise ValueError(f"no int8_share gives {target} bytes within {LOOSE:.0%}")
        return widest

    def mixed_seconds(self, mixed: Choice) -> float:
        """Seconds that it takes to build the mixed recipe where the candidate has been built and nothing else."""

        def measure() -> float:
            subject, source = self.subject, resolve(self.subject.model)
            with tempfile.TemporaryDirectory(dir=subject.work) as scratch:
                cache = Cache(Path(scratch))
                text = CalibrationText(windows=subject.learned_windows).store(subject.base, cache).key
                build(source, LANGUAGE.compose({**CANDIDATE, "threads": 1}), cache, text)
                started = time.monotonic()
                build(source, LANGUAGE.compose({**mixed, "threads": 1}), cache, text)
                return time.monotonic() - started

        found: float = self.subject.kept(f"seconds {word(mixed)}", measure)
        return found

    def divergences(self, mixed: Choice) -> list[np.ndarray]:
        """Of the candidate, with its LoRA and of the mixed recipe: KL in each held-back window."""
        subject = self.subject
        lora = subject.kept("kl confirm lora", lambda: subject.divergence_of(self.folder, "confirm"))
        plain, wide = (subject.divergence(choice, "confirm") for choice in (CANDIDATE, mixed))
        return [np.array(samples) for samples in (plain, lora, wide)]

    def speedups(self, mixed: Choice) -> dict[str, dict[str, list[float]]]:
        """Of each pair of models, measured side by side: speedup in prefill and decode, with its interval."""
        plain, wide = (self.subject.build(choice, available_cores()).path for choice in (CANDIDATE, mixed))
        pairs = {"lora": (self.folder, plain), "mixed": (wide, plain), "lora over mixed": (self.folder, wide)}
        return {
            name: self.subject.kept(f"speed {name}", partial(speedup, *pair, self.seconds))
            for name, pair in pairs.items()
        }


def speedup(folder: Path, over: Path, seconds: float) -> dict[str, list[float]]:
    """Speedups of one folder over another: value and interval, by metric."""
    found = bench_folders([over, folder], over, PairedDecoderLatency(PROMPT_TOKENS, NEW_TOKENS, HALF_WIDTH, seconds))[
        str(folder)
    ]
    return {m.metric: [m.value, m.low, m.high] for m in found if m.metric in ("ttft_speedup", "tpot_speedup")}


def verdict(less: Interval, decode: Interval) -> str:
    """Whether a LoRA pays, in a sentence.

    Args:
        less: divergence with the LoRA over that of the mixed recipe of the same bytes.
        decode: speed with the LoRA over that of the mixed recipe.
    """
    lower, slower = less.high < 1, decode.high < 1
    quality = "surely lower than" if lower else "surely higher than" if less.low > 1 else "not surely other than"
    speed = "surely slower" if slower else "not surely slower"
    return (
        f"A short LoRA {'pays' if lower and not slower else 'does not pay'} here: its KL is {quality} that of the "
        f"mixed recipe at the same bytes ({_times(less)}), and its decode is {speed} ({_times(decode)})."
    )


def report(recovery: Recovery) -> list[str]:
    """Markdown: the three models, and the verdict."""
    subject, trained, mixed = recovery.subject, recovery.trained(), recovery.mixed()
    divergences, speeds = recovery.divergences(mixed), recovery.speedups(mixed)
    sizes = [subject.size(CANDIDATE), recovery.lora_bytes(), subject.size(mixed)]
    added = sizes[1] - sizes[0]
    names = [word(CANDIDATE), f"{word(CANDIDATE)} + LoRA of rank {recovery.training.rank}", word(mixed)]
    lines = [
        "| recipe | KL | MB | decode over int4 gptq | prefill over int4 gptq | extra seconds of building |",
        "|---|---|---|---|---|---|",
        f"| {names[0]} | {_nats(divergences[0])} | {sizes[0] / 1e6:.2f} | 1 | 1 | 0 |",
    ]
    for row, name, seconds in ((1, "lora", trained["seconds"]), (2, "mixed", recovery.mixed_seconds(mixed))):
        found = (_times(Interval(*speeds[name][metric])) for metric in ("tpot_speedup", "ttft_speedup"))
        cells = [names[row], _nats(divergences[row]), f"{sizes[row] / 1e6:.2f}", *found, f"{seconds:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    less = clustered_mean(divergences[1], divergences[2])
    of_plain = clustered_mean(divergences[1], divergences[0])
    first, last = trained["losses"]
    lines += [
        "",
        verdict(less, Interval(*speeds["lora over mixed"]["tpot_speedup"])),
        "",
        f"With the LoRA, the KL is {_times(of_plain)} that of the candidate without it. On the text that it was",
        f"trained on, the divergence went from {first:.3g} to {last:.3g} nats a token (means of the first and the last",
        f"sixth of the steps). Its branches add {added / 1e6:.2f} MB.",
    ]
    if abs(sizes[2] - sizes[1]) > LOOSE * sizes[1]:
        lines += ["", "Caution: no mixed recipe has these bytes; the table has the widest one, which is smaller."]
    return [*lines, ""]


def _times(ratio: Interval) -> str:
    return f"{ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"


def _nats(samples: Sequence[float] | np.ndarray) -> str:
    found = clustered_mean(np.asarray(samples), np.ones(len(samples)))
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"


def page(recovery: Recovery) -> str:
    """The whole page."""
    about, training, subject = describe_environment(), recovery.training, recovery.subject
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in ("onnxruntime", "onnxruntime-genai"))
    windows = len(load_tokens(subject.cache, subject.text))
    lines = [
        "# A short LoRA on the errors of int4 weights",
        "",
        f"`make bench-recover` on {about['cpu']}, {about['cores']} cores; {versions}; model `{subject.model}`.",
        f"KL divergence of the ONNX graphs from the float base in nats a token on {subject.windows} held-back windows",
        f"of at most {WINDOW_TOKENS} tokens; speeds side by side with all cores, a prompt of {PROMPT_TOKENS} tokens",
        f"and {NEW_TOKENS} new ones, {recovery.seconds:g} s a pair; brackets are 95 % intervals. No layers are merged,",
        f"the embedding is int8. The LoRA has alpha {training.alpha:g} and was trained for {training.steps} steps of",
        f"{training.batch} x {training.tokens} tokens at a learning rate of {training.rate:g}, on {windows} windows",
        "of calibration text that GPTQ learned from. It pays if its KL is surely lower than that of the mixed recipe",
        "at the same bytes and its decode is not surely slower.",
        "",
    ]
    return "\n".join([*lines, *report(recovery)])


def main() -> None:
    """Build, train, measure, write."""
    usual = Training()
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=Path, help="the page; printed only where not given")
    parser.add_argument("--model", default="demo:smollm2-135m-instruct", help="as `model:` of a study takes it")
    parser.add_argument("--work", type=Path, default=Path("results/recover-run"), help="what is measured is kept here")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing a pair")
    parser.add_argument("--windows", type=int, default=12, help="of held-back text")
    parser.add_argument("--learned-windows", type=int, default=16, help="of 512 tokens of calibration text, at most")
    for name, value in asdict(usual).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = parser.parse_args()
    training = Training(**{name: getattr(options, name) for name in asdict(usual)})
    sizes = [options.model, options.windows, options.learned_windows, options.seconds, asdict(training)]
    options.work.mkdir(parents=True, exist_ok=True)
    name = f"{Path(options.model).name.replace(':', '-')}-{digest(sizes, 8)}"
    subject = Subject(name, options.model, options.work, options.windows, options.learned_windows)
    text = page(Recovery(subject, training, options.seconds))
    print(text)
    if options.to:
        write_atomic(options.to, text)


if __name__ == "__main__":
    main()
