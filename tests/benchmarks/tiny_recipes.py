"""``make recipes``: every ready recipe, run to a front on a tiny random checkpoint of its model's architecture.

A recipe keeps its space, sampler, objectives and rule. Changed are the model; the text, the windows, the timing and the
number of candidates, so that it takes seconds; and the limits of perplexity, which mean nothing of random weights. A
recipe for CUDA runs on the CPU here, without the precisions that the CPU does not have. The first candidate is the
recipe's first known good choice, the second its last one: the most demanding, mixed precision where it has it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tiny import tiny_checkpoint
from tiny_study import write_text

from olivine.passes.errors import OlivineError
from olivine.passes.providers import PROVIDERS
from olivine.passes.store.atomic_files import write_atomic
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import parse_config
from olivine.search.environment import describe_environment
from olivine.search.export.verify import verify_folder
from olivine.search.planning.ready_studies import ReadyStudy, ready_studies
from olivine.search.records import TrialRecord
from olivine.search.study.run import run_study
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.language import LanguageWorkload

#: Large enough for the recipes' blocks of 128.
HIDDEN = 256


@dataclass(frozen=True)
class Tiny:
    """What stands for the model of a family: its architecture, and what that model's config has that others lack.

    Attributes:
        architecture: a word of ``tests/tiny.py``.
        what: is taken from the real model's config.
        tied: whether head and embedding share their weight.
        more: fields of the config.
    """

    architecture: str
    what: str
    tied: bool
    more: Mapping[str, Any] = field(default_factory=dict)


_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
#: Three quarters of 64 dimensions a head are rotated, in pairs.
_LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0] * 24,
    "long_factor": [2.0] * 24,
}
FAMILIES = {
    "deepseek": Tiny("qwen2", "an untied head", tied=False),
    "gemma": Tiny(
        "gemma3",
        "layers with a sliding window and without",
        tied=True,
        more={"layer_types": ["sliding_attention", "full_attention"]},
    ),
    "llama": Tiny("llama", "a tied head, RoPE scaled as in Llama 3", tied=True, more={"rope_parameters": _LLAMA3_ROPE}),
    "mistral": Tiny("mistral", "an untied head", tied=False),
    "phi": Tiny(
        "phi3",
        "a tied head, LongRoPE over three quarters of each head",
        tied=True,
        more={"rope_parameters": _LONG_ROPE, "original_max_position_embeddings": 128},
    ),
    "qwen": Tiny("qwen2", "a tied head", tied=True),
}


@dataclass(frozen=True)
class Outcome:
    """What came of a recipe.

    Attributes:
        recipe: its name.
        records: of its candidates.
        front: members of the confirmed front.
        failure: why there is none; empty where there is.
    """

    recipe: str
    records: tuple[TrialRecord, ...] = ()
    front: int = 0
    failure: str = ""


def checkpoint(family: str, folder: Path) -> Path:
    """The tiny random checkpoint that stands for the family's model."""
    found = FAMILIES[family]
    return tiny_checkpoint(folder, found.architecture, hidden=HIDDEN, tied=found.tied, more=found.more)


def tiny_study(recipe: ReadyStudy, model: Path, text: Path) -> LanguageStudyConfig:
    """The recipe as a study of two candidates that takes seconds."""
    raw: dict[str, Any] = yaml.safe_load(recipe.path.read_text(encoding="utf-8"))
    space = raw["space"]
    if recipe.name.endswith("/cuda"):
        space |= {"provider": "cpu", "precision": [p for p in space["precision"] if not PROVIDERS["cpu"].refusal(p)]}
    known = [choice for choice in raw["enqueue"] if choice["precision"] in space["precision"]]
    raw |= {
        "model": str(model),
        "evaluation": {
            "text": {"file": str(text)},
            "windows": 3,
            "window_tokens": 24,
            "latency": {"prompt_tokens": 8, "new_tokens": 3, "max_seconds": 0.2, "half_width": 0.4},
        },
        "calibration": {"windows": 3, "window_tokens": 24},
        "constraints": ["perplexity_ratio <= 100"],
        "enqueue": [known[0], known[-1]],
        "stop": {"trials": 2},
        "select": {**raw["select"], "where": ["perplexity_ratio <= 100"]},
        "confirm": {**raw["confirm"], "race": None},
        "kernel_probe": False,  # layers of a few thousand weights gain nothing
    }
    raw.pop("cache", None)
    return parse_config(raw, recipe.name)


def run_recipe(recipe: ReadyStudy, work: Path) -> Outcome:
    """Run a recipe on its tiny checkpoint below ``work``; a model or candidate that fails is an outcome too."""
    family = recipe.name.partition("/")[0]
    home = work / recipe.name.replace("/", "-")
    home.mkdir(parents=True)
    folder = StudyDir(home / "study")
    quiet = Console(quiet=True)
    try:
        config = tiny_study(recipe, checkpoint(family, home / "model"), write_text(home / "text.txt"))
        run_study(LanguageWorkload(config, folder), folder, quiet, quiet, resume="")
        verify_folder(folder.best_path)
    except OlivineError as error:
        return Outcome(recipe.name, _candidates(folder), 0, str(error))
    records = _candidates(folder)
    broken = [f"trial {record.number}: {record.reason}" for record in records if not record.feasible]
    return Outcome(recipe.name, records, len(folder.outcome().front), "; ".join(broken))


def _candidates(folder: StudyDir) -> tuple[TrialRecord, ...]:
    return tuple(record for record in folder.trials() if record.number > 0)


def page(outcomes: Sequence[Outcome]) -> str:
    """results/recipes.md."""
    found = describe_environment()
    versions = ", ".join(
        f"{name} {found['versions'][name]}"
        for name in ("olivine", "transformers", "torch", "onnxruntime", "onnxruntime-genai", "optuna")
    )
    lines = [
        "# Recipes on tiny checkpoints",
        "",
        "`make recipes` runs every recipe of `configs/recipes` from checkpoint to verified export on a tiny random",
        "checkpoint of its model's architecture: two layers, 256 wide, two candidates. It shows that each pass of the",
        "recipe takes the architecture and ONNX Runtime GenAI runs the result. It shows nothing of speed and quality:",
        "**no recipe was ever run on the real weights.** Recipes for CUDA ran on the CPU, without bf16; none has met a",
        "GPU.",
        "",
        f"{versions}; {found['cpu']}.",
        "",
        "| recipe | tiny checkpoint | candidates | front | outcome |",
        "|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        tiny = FAMILIES[outcome.recipe.partition("/")[0]]
        built = "<br>".join(_words(record) for record in outcome.records)
        said = f"failed: {' '.join(outcome.failure.split())}".replace("|", "\\|") if outcome.failure else "runs"
        lines.append(
            f"| {outcome.recipe} | {tiny.architecture}: {tiny.what} | {built} | {outcome.front or ''} | {said} |"
        )
    return "\n".join(lines) + "\n"


def _words(record: TrialRecord) -> str:
    params = record.params
    algorithm = f" {params['algorithm']}" if "algorithm" in params else ""
    return f"{params['precision']}{algorithm}, blocks of {params['block_size']}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipes that were named, or all; 1 where one does not reach its front."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="recipes such as phi/cpu; all by default")
    parser.add_argument("--to", type=Path, help="the page to write")
    options = parser.parse_args(arguments)
    outcomes = []
    with tempfile.TemporaryDirectory() as work:
        os.environ["OLIVINE_CACHE"] = str(Path(work) / "cache")
        for recipe in ready_studies():
            if not options.names or recipe.name in options.names:
                outcomes.append(run_recipe(recipe, Path(work)))
                print(f"{recipe.name}: {outcomes[-1].failure or 'runs'}", flush=True)
    if options.to:
        write_atomic(options.to, page(outcomes))
    return 1 if any(outcome.failure for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
