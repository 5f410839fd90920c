"""``make bench-unseen-text``: does a reported loss hold on a kind of text that nothing has learned from or scored?

Confirmed members of studies are exported and scored beside the float base on a third kind of text: Python source code
of a pinned package, or texts that ``--text NAME=TEXT`` names. A reported interval of the perplexity ratio or of the KL
divergence holds where it contains what that text gives, after it is made 1.25 times wider in loss: its low end divided
by 1.25 and its high end multiplied by it. The loss of a ratio is what it is above 1. A study reports an interval for
each kind of text that it confirmed on; each is judged by itself, and ``any kind`` from the least to the largest.

    olivine run configs/demo.yaml --out results/first
    python tests/benchmarks/unseen_text.py results/first OTHER_MODELS_STUDY --to results/unseen-text.md

What was scored is kept in build/campaigns/unseen-text.jsonl by study folder, trial and text: delete it before other
studies take the same folders.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import campaign

from olivine.evaluators.evaluate_folders import ScoredText, evaluate_folders
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import BY_TEXT, on_text
from olivine.passes.sources.demo import Asset, fetch
from olivine.passes.store.atomic_files import write_atomic
from olivine.passes.store.cache import scratch_folder
from olivine.search.config.load import load_config
from olivine.search.planning.build_one import BuildRequest, build_one
from olivine.search.records import Metrics
from olivine.search.report.sections import texts_of
from olivine.search.study.export_trial import export_trial
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.language import base_choice

NAME = "unseen-text"
#: A web framework in one file, MIT, 4,700 lines of code and of comments.
CODE = Asset("bottle==0.13.4", "bottle.py", "e7e27201eda83d31324484235b1f17b77b26c1d1c015023101fdd84f5fd70176")
#: A reported loss holds where another kind of text gives no more than this many times as much, or as little.
FACTOR = 1.25
ANY = "any kind"
Span = tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """One reported interval beside what the unseen text gives.

    Attributes:
        metric: of ``BY_TEXT``.
        kind: of text that the interval was reported of, or ``ANY``.
        reported: the interval.
        found: value on the unseen text.
    """

    metric: str
    kind: str
    reported: Span
    found: float

    @property
    def word(self) -> str:
        """``holds``, or where the found loss lies: ``less`` or ``more`` than the widened interval."""
        low, high = widened(self.metric, self.reported)
        return "less" if self.found < low else "more" if self.found > high else "holds"


def widened(metric: str, span: Span, factor: float = FACTOR) -> Span:
    """An interval whose ends are so many times as far in loss; an end below no loss moves away from it as well."""
    none = 1.0 if metric == "perplexity_ratio" else 0.0
    low, high = (end - none for end in span)
    return none + (low / factor if low > 0 else low * factor), none + (high * factor if high > 0 else high / factor)


def verdicts(reported: Metrics, found: Mapping[str, float]) -> Iterator[Verdict]:
    """Every reported interval of one member beside a text.

    Args:
        reported: the member's confirmed measurements.
        found: metric -> value on the text.
    """
    kinds = texts_of([reported]) or {"its own text": ""}
    for metric in BY_TEXT:
        spans = []
        for kind, suffix in kinds.items():
            known = reported.get(on_text(metric, suffix) if suffix else metric)
            if known is not None:
                spans.append((known.low, known.high))
                yield Verdict(metric, kind, spans[-1], found[metric])
        if len(spans) > 1:
            lows, highs = zip(*spans, strict=True)
            yield Verdict(metric, ANY, (min(lows), max(highs)), found[metric])


def members(study: StudyDir, count: int) -> list[int]:
    """The selection and others of the confirmed front, spread evenly over its losses; at most so many."""
    outcome = study.outcome()
    known = {number: outcome.confirmed[number]["kl_divergence"].value for number in outcome.front}
    others = sorted((n for n in known if n != outcome.trial), key=known.__getitem__)
    if outcome.trial is None:
        return _spread(others, count)
    return [outcome.trial, *_spread(others, count - 1)]


def _spread(listed: Sequence[int], count: int) -> list[int]:
    if len(listed) <= count or count < 2:
        return list(listed[: max(0, count)])
    return [listed[round(place * (len(listed) - 1) / (count - 1))] for place in range(count)]


def score(study: StudyDir, numbers: Sequence[int], texts: Mapping[str, str], windows: int) -> Iterator[campaign.Row]:
    """Export members and the float base, and score all of them on each text."""
    config = load_config(study.config_path)
    with scratch_folder(NAME) as scratch:
        base, folders = scratch / "base", {number: scratch / str(number) for number in numbers}
        settings = {name: str(value) for name, value in base_choice(config).items()}
        build_one(BuildRequest(config.model, settings, config.revision, config.trust_remote_code), base, False)
        for number, folder in folders.items():
            export_trial(study, number, folder, False)
        for kind, spec in texts.items():
            text = ScoredText(spec, windows, config.evaluation.window_tokens, seed=config.seed)
            scored = evaluate_folders(list(folders.values()), base, text)
            for number, folder in folders.items():
                found = {m.metric: m for m in scored[str(folder)] if m.metric in BY_TEXT}
                yield {**_key(study, number, kind), "windows": windows, "found": _values(found)}


def _key(study: StudyDir, number: int, kind: str) -> dict[str, Any]:
    return {"study": str(study.root.resolve()), "trial": number, "kind": kind}


def _values(found: Mapping[str, Measurement]) -> dict[str, dict[str, float]]:
    return {metric: {"value": m.value, "low": m.low, "high": m.high} for metric, m in found.items()}


def page(studies: Sequence[StudyDir], rows: Sequence[campaign.Row]) -> str:
    """The table of all members, and how many intervals hold."""
    lines = [
        "# Loss on a kind of text that nothing has seen",
        "",
        f"`make bench-unseen-text` on {campaign.machine()}: members of confirmed fronts, on texts that neither the "
        "recipe learned from nor the study scored. An interval holds where it contains what the text gives, widened by "
        f"{FACTOR:g}x in loss on either side (`tests/benchmarks/unseen_text.py`); `less` is a loss below it, `more` "
        "one above.",
        "",
        "| study | trial | text | metric | found | reported | | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    counted: dict[tuple[str, str], list[str]] = {}
    for study in studies:
        confirmed = study.outcome().confirmed
        for row in (row for row in rows if row["study"] == str(study.root.resolve())):
            values = {metric: found["value"] for metric, found in row["found"].items()}
            for verdict in verdicts(confirmed[row["trial"]], values):
                low, high = verdict.reported
                ends = row["found"][verdict.metric]
                found = f"{verdict.found:.4f} [{ends['low']:.4f}, {ends['high']:.4f}]"
                cells = (study.root.name, row["trial"], row["kind"], verdict.metric, found)
                cells += (f"[{low:.4f}, {high:.4f}]", verdict.kind, verdict.word)
                lines.append(f"| {' | '.join(map(str, cells))} |")
                counted.setdefault((row["kind"], verdict.kind), []).append(verdict.word)
    lines.append("")
    for (text, kind), words in counted.items():
        lines.append(
            f"* {text}, beside what was reported of {kind}: {words.count('holds')} of {len(words)} intervals hold, "
            f"{words.count('more')} lost more, {words.count('less')} less."
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Score what is missing, and say which intervals hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("--members", type=int, default=5, help="of each study, its selection among them")
    parser.add_argument("--windows", type=int, default=16, help="of each text, as long as the study's")
    parser.add_argument("--text", action="append", metavar="NAME=TEXT", help="by default Python source code")
    parser.add_argument("--to", type=Path, help="the page; it is printed in any case")
    options = parser.parse_args()
    texts = dict(given.split("=", 1) for given in options.text or [f"code={fetch(CODE)}"])
    studies = [StudyDir.open(root) for root in options.studies]
    known = [{key: row[key] for key in ("study", "trial", "kind")} for row in campaign.rows(NAME)]
    for study in studies:
        for kind, spec in texts.items():
            missing = [n for n in members(study, options.members) if _key(study, n, kind) not in known]
            for row in score(study, missing, {kind: spec}, options.windows) if missing else ():
                campaign.append(NAME, row)
                print(row, flush=True)
    written = page(studies, campaign.rows(NAME))
    if options.to:
        write_atomic(options.to, written)
    print(written)


if __name__ == "__main__":
    main()
