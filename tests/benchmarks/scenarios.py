"""``make bench-scenarios``: what recipes bring in each ready scenario, as they are deployed.

For every scenario and every recipe: the peak of a fresh process of plain ONNX Runtime GenAI that runs the exported
folder, beside the float base with its context and beside the float base as it is exported without a scenario; times to
the first token and per token beside the float base, in turns; CPU time per token; and the divergence from the float
base on windows that are as long as the context.

What is measured is kept in the work folder at once, so that the same command goes on where it was ended.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from olivine.evaluators.bench import bench_folders
from olivine.evaluators.evaluate_folders import ScoredText, evaluate_folders
from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.scenario.deployed import Deployed
from olivine.evaluators.scenario.scenario import READY, Scenario
from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.cpu import available_cores
from olivine.passes.pipeline import build
from olivine.passes.sources.source import resolve
from olivine.passes.store.atomic_files import write_atomic
from olivine.passes.store.cache import Cache, cache_root
from olivine.search.builds.calibration_text import CalibrationText
from olivine.search.config.scenario.section import parse_scenario
from olivine.search.environment import describe_environment

Choice = dict[str, Scalar]
#: What every recipe has in common with the float base.
BASE: Choice = {"prune_head": True}
SHARED: Choice = {**BASE, "block_size": 64, "embedding": "shared", "fusion_level": "full", "chunk_size": 256}
INT8: Choice = {**SHARED, "precision": "int8", "algorithm": "k_quant"}
BY_TOKEN: Choice = {**INT8, "activations": "int8", "activation_range": "token", "dynamic_layers": "all"}
MIXED: Choice = {**BY_TOKEN, "precision": "mixed", "algorithm": "gptq", "damping": 0.1, "int8_share": 0.0}
MIXED |= {"dynamic_share": 0.8, "lm_head": "int8"}
RECIPES: dict[str, Choice] = {
    "int8": INT8,
    "int8, activations by token": BY_TOKEN,
    "the same, cache int8": {**BY_TOKEN, "kv_cache": "int8"},
    "80 % by token, the rest int4, cache int8": {**MIXED, "kv_cache": "int8"},
    "the same, cache grows": {**MIXED, "kv_cache": "int8", "share_buffer": False},
}
#: Scored tokens, and the fewest windows that they are cut into.
SCORED_TOKENS, LEAST_WINDOWS = 12_000, 2
BASE_ROW, DIVERGENCE = "float base", "kl_divergence"
KEPT = ("deployed_rss_bytes", "context_bytes", "cpu_ms_per_token", "ttft_ms", "tpot_ms", "ttft_speedup", "tpot_speedup")
Numbers = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Subject:
    """A model in its scenarios.

    Attributes:
        model: as ``model:`` takes it.
        text: that quality is scored on.
        seconds: of timing a pair.
        work: what was measured.
    """

    model: str
    text: str
    seconds: float
    work: Path

    @cached_property
    def cache(self) -> Cache:
        """Where builds are kept."""
        return Cache(cache_root())

    @cached_property
    def learned(self) -> str:
        """Key of the calibration text."""
        return CalibrationText(windows=8, own=0.5).store(self.built({}), self.cache).key

    def built(self, choice: Choice) -> ModelArtifact:
        """A build with all cores; recipes that learn get calibration text."""
        recipe = LANGUAGE.compose({"threads": available_cores(), **choice})
        return build(
            resolve(self.model), recipe, self.cache, self.learned if recipe.needs_calibration else None
        ).artifact

    def as_today(self, scenario: Scenario) -> float:
        """Peak of the float base that makes room for all that the model takes."""

        def measure() -> Mapping[str, Numbers]:
            with ModelProcess.open(self.built(BASE).path) as process:
                found = {m.metric: m.value for m in Deployed(scenario).evaluate(process, process)}
            return {BASE_ROW: {"deployed_rss_bytes": [found["deployed_rss_bytes"]]}}

        return self.kept(f"{scenario.name}: without a scenario", measure)[BASE_ROW]["deployed_rss_bytes"][0]

    def measured(self, scenario: Scenario) -> dict[str, Numbers]:
        """Recipe -> value, low and high of its metrics; the float base with the same context as ``BASE_ROW``."""
        room: Choice = {"context": scenario.context}
        names = {name: self.built({**choice, **room}).path for name, choice in RECIPES.items()}
        base, folders = self.built({**BASE, **room}).path, list(names.values())

        def times() -> Mapping[str, Numbers]:
            latency = PairedDecoderLatency(half_width=0.01, max_seconds=self.seconds)
            found = bench_folders(folders, base, latency, scenario)
            return {
                name: {m.metric: [m.value, m.low, m.high] for m in found[str(folder)] if m.metric in KEPT}
                for name, folder in {BASE_ROW: base, **names}.items()
            }

        def losses() -> Mapping[str, Numbers]:
            windows = max(LEAST_WINDOWS, SCORED_TOKENS // scenario.context)
            found = evaluate_folders(
                folders, base, ScoredText(self.text, windows=windows, window_tokens=scenario.context)
            )
            return {
                name: {m.metric: [m.value, m.low, m.high] for m in found[str(folder)] if m.metric == DIVERGENCE}
                for name, folder in names.items()
            }

        timed, lost = self.kept(f"{scenario.name}: times", times), self.kept(f"{scenario.name}: losses", losses)
        return {name: {DIVERGENCE: [0.0] * 3, **numbers, **lost.get(name, {})} for name, numbers in timed.items()}

    def kept(self, what: str, measure: Callable[[], Mapping[str, Numbers]]) -> Mapping[str, Numbers]:
        """A measurement that is taken once and written down."""
        path = self.work / "scenarios.json"
        known: dict[str, Mapping[str, Numbers]] = json.loads(path.read_text()) if path.exists() else {}
        if what not in known:
            known[what] = measure()
            write_atomic(path, json.dumps(known, indent=1))
            print(f"{what}: {known[what]}", flush=True)
        return known[what]


def section(subject: Subject, scenario: Scenario) -> list[str]:
    """Markdown: the recipes in one scenario."""
    today = subject.as_today(scenario)
    lines = [
        f"## {scenario.name}",
        "",
        f"{scenario.words()[:1].upper()}{scenario.words()[1:]}, in a context of {scenario.context}.",
        f"The float base that is exported without a scenario takes {today / 1e6:.0f} MB.",
        "",
        "| | memory MB | of today's base | cache MB | first token | per token | CPU ms a token | KL |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return [*lines, *(row(name, numbers, today) for name, numbers in subject.measured(scenario).items()), ""]


def row(name: str, numbers: Numbers, today: float) -> str:
    """A recipe as a row of the table; ``today`` is the memory of the float base without a scenario."""
    memory = numbers["deployed_rss_bytes"][0]
    cells = [
        name,
        f"{memory / 1e6:.0f}",
        f"{memory / today:.0%}",
        f"{numbers['context_bytes'][0] / 1e6:.0f}",
        f"{numbers['ttft_ms'][0]:.0f} ms, {times(numbers['ttft_speedup'])}",
        f"{numbers['tpot_ms'][0]:.1f} ms, {times(numbers['tpot_speedup'])}",
        f"{numbers['cpu_ms_per_token'][0]:.1f}",
        f"{numbers['kl_divergence'][0]:.3g}",
    ]
    return f"| {' | '.join(cells)} |"


def times(speedup: Sequence[float]) -> str:
    """A speedup with its interval; alone where it is exact."""
    value, low, high = speedup
    return f"{value:.2f}x" if low == high else f"{value:.2f}x [{low:.2f}, {high:.2f}]"


def scenarios(words: Sequence[str]) -> list[Scenario]:
    """The scenarios that are named; by default the ready ones, ``rag`` with a context of 8,192."""
    if words:
        return [parse_scenario("--scenario ", text) for text in words]
    return [replace(each, context=8192) if each.name == "rag" else each for each in READY.values()]


def page(subject: Subject, used: Sequence[Scenario]) -> str:
    """The result as Markdown."""
    about: Mapping[str, Any] = describe_environment()
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in ("onnxruntime", "onnxruntime-genai"))
    lines = [
        "# Recipes as they are deployed",
        "",
        f"`make bench-scenarios`: {subject.model} on {about['cpu']}, {about['cores']} cores; {versions}.",
        "Memory is the resident peak of a fresh process of plain ONNX Runtime GenAI that runs the folder as it is",
        "through the whole scenario; the base has the same context. Times are beside the float base in turns, with all",
        f"cores and the head on the last position, {subject.seconds:g} s a pair; brackets are 95 % intervals. KL is",
        f"the divergence from the float base in nats a token on {subject.text}, in windows as long as the",
        "context. Prompts are read in pieces of 256. CPU time is of one run.",
        "",
    ]
    for scenario in used:
        lines += section(subject, scenario)
    return "\n".join(lines)


def main() -> None:
    """Build, measure, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--model", default="demo:smollm2-135m-instruct")
    parser.add_argument("--text", default="demo:encyclopedia", help="that quality is scored on")
    parser.add_argument("--scenario", action="append", default=[], help="a ready name or a mapping; all by default")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing a pair")
    parser.add_argument(
        "--work", type=Path, default=Path("results/scenarios-run"), help="what is measured is kept here"
    )
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    subject = Subject(options.model, options.text, options.seconds, options.work)
    options.to.write_text(page(subject, scenarios(options.scenario)))


if __name__ == "__main__":
    main()
