"""``make bench-twice``: does a study's report hold? What studies reported, against ``bench`` and ``eval`` afterwards.

Every front member of each study is exported, timed beside the float base and scored on the same held-back text again.
Counted are the reported intervals that overlap the later ones, and the claims 'A is faster than B' of the report
(intervals that do not overlap) that the later values repeat. Members are kept as they are measured, by study folder and
trial: delete build/campaigns/twice.jsonl before other studies take the same folders.

    olivine run configs/demo.yaml --seed 1 --out results/first
    olivine run configs/demo.yaml --seed 2 --out results/second
    python tests/benchmarks/twice.py results/first results/second
    python tests/benchmarks/twice.py results/first results/second --runs 4     # measures 4 members now
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import campaign

from olivine.evaluators.bench import bench_folders
from olivine.evaluators.evaluate_folders import ScoredText, evaluate_folders
from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.passes.store.cache import scratch_folder
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import load_config
from olivine.search.planning.build_one import BuildRequest, build_one
from olivine.search.records import metrics_json
from olivine.search.study.export_trial import export_trial
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.language import base_choice

NAME = SECTION = "twice"
SPEEDUPS = ("tpot_speedup", "ttft_speedup")
METRICS = (*SPEEDUPS, "perplexity_ratio")
#: Narrower than any measurement gets: the time ends it.
NEVER = 1e-6
Entry = Mapping[str, float]
Members = Mapping[str, Mapping[str, Entry]]


@dataclass
class Tally:
    """How much held, and what did not."""

    intervals: int = 0
    overlap: int = 0
    claims: int = 0
    repeated: int = 0
    misses: list[str] = field(default_factory=list)


def compare(reported: Members, later: Members, metrics: Sequence[str] = METRICS) -> Tally:
    """Overlapping intervals and repeated claims in some metrics of one study's members, by name."""
    tally = Tally()
    for name, metric in itertools.product(reported, metrics):
        ours, theirs = reported[name][metric], later[name][metric]
        tally.intervals += 1
        if ours["low"] <= theirs["high"] and theirs["low"] <= ours["high"]:
            tally.overlap += 1
        else:
            tally.misses.append(f"{name} {metric}: {_span(ours)}, later {_span(theirs)}")
    for metric, (a, b) in itertools.product(metrics, itertools.permutations(reported, 2)):
        if reported[a][metric]["low"] > reported[b][metric]["high"]:
            tally.claims += 1
            if later[a][metric]["value"] > later[b][metric]["value"]:
                tally.repeated += 1
            else:
                tally.misses.append(f"{metric}: {a} above {b} was not so later")
    return tally


def _span(entry: Entry) -> str:
    return f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"


def reported(study: StudyDir) -> dict[str, dict[str, Any]]:
    """Name -> confirmed metrics, of the front that a study reports."""
    outcome = study.outcome()
    return {f"{study.root.name} {number}": metrics_json(outcome.confirmed[number]) for number in outcome.front}


def measure_again(study: StudyDir, missing: Sequence[str], seconds: float, scratch: Path) -> Iterator[campaign.Row]:
    """Export members and measure them beside the base."""
    config = load_config(study.config_path)
    base = scratch / f"{study.root.name}-base"
    settings = {name: str(value) for name, value in base_choice(config).items()}
    build_one(BuildRequest(config.model, settings, config.revision, config.trust_remote_code), base, False)
    latency = config.evaluation.latency
    for name in missing:
        folder = scratch / name.replace(" ", "-")
        export_trial(study, int(name.split()[-1]), folder, False)
        timed = bench_folders(
            [folder], base, PairedDecoderLatency(latency.prompt_tokens, latency.new_tokens, NEVER, seconds)
        )
        found = {m.metric: m for m in [*timed[str(folder)], *_scored(config, folder, base)]}
        values = {metric: {end: getattr(found[metric], end) for end in ("value", "low", "high")} for metric in METRICS}
        yield {"member": name, "metrics": values}


def _scored(config: LanguageStudyConfig, folder: Path, base: Path) -> list[Any]:
    """Quality on the windows of held-back text that the study confirmed with."""
    text = config.evaluation.text
    spec = text if isinstance(text, str) else text.model_dump()
    count = config.confirm.windows or config.evaluation.windows
    window = config.evaluation.window_tokens
    return evaluate_folders([folder], base, ScoredText(spec, count, window, split="confirm", seed=config.seed))[
        str(folder)
    ]


def table(studies: Sequence[StudyDir], later: Members) -> str:
    """What held, by study."""
    lines = [
        f"`make bench-twice` on {campaign.machine()}: the fronts of studies that differ in their seed, against what "
        "`bench` and `eval` found afterwards for the exported members. Perplexity was scored on the same windows "
        "again: what it shows is that the export is the model that was confirmed.",
        "",
        "| study | members | intervals of speedups that overlap the later ones | of perplexity ratios "
        "| claims 'A is faster than B' that hold again | 'A loses less than B' |",
        "|---|---|---|---|---|---|",
    ]
    misses: list[str] = []
    for study in studies:
        members = {name: metrics for name, metrics in reported(study).items() if name in later}
        tallies = [compare(members, later, metrics) for metrics in (SPEEDUPS, ("perplexity_ratio",))]
        cells = [f"{tally.overlap} of {tally.intervals}" for tally in tallies]
        cells += [f"{tally.repeated} of {tally.claims}" for tally in tallies]
        lines.append(f"| {study.root.name} | {len(members)} | {' | '.join(cells)} |")
        misses += [miss for tally in tallies for miss in tally.misses]
    return "\n".join([*lines, "", *(f"* {miss}" for miss in misses)])


def main() -> None:
    """Measure members again, and say what held."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("studies", type=Path, nargs="+")
    arguments.add_argument("--pair-seconds", type=float, default=20.0, help="of timing per member")
    arguments.add_argument("--runs", type=int, help="members to measure now; all by default")
    options = arguments.parse_args()
    studies = [StudyDir.open(root) for root in options.studies]
    known = {row["member"] for row in campaign.rows(NAME)}
    left = options.runs
    for study in studies:
        missing = [name for name in reported(study) if name not in known][:left]
        with scratch_folder("twice") as scratch:
            for row in measure_again(study, missing, options.pair_seconds, scratch) if missing else ():
                campaign.append(NAME, row)
        left = None if left is None else left - len(missing)
    campaign.write(SECTION, table(studies, {row["member"]: row["metrics"] for row in campaign.rows(NAME)}))


if __name__ == "__main__":
    main()
