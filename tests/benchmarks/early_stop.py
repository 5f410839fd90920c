"""What early stopping saves on recorded windows, and how often it stops a candidate that the full text keeps.

Real candidates are scored once on all windows of the demo text, a row a candidate (``--record``). The windows are then
replayed in random orders against a constraint, by the rule that a study uses; nothing is timed. The rows of
2026-11-24 are of the demo model (``mixed_30``: gptq, block 32, ``int8_share=0.3``; ``int8_act``: int8 activations),
built with ``--calibrate-windows 8`` by the code of that day.

    olivine build demo:smollm2-135m-instruct --to build/early-stop/base
    olivine build demo:smollm2-135m-instruct --to build/early-stop/int8_rtn_64 --set precision=int8 --set block_size=64
    python tests/benchmarks/early_stop.py --record build/early-stop/base build/early-stop/int8_rtn_64 ...
    python tests/benchmarks/early_stop.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import campaign
import numpy as np

from olivine.evaluators.data.text_source import TextSource, splits
from olivine.evaluators.data.tokenizing import tokenize
from olivine.evaluators.data.windows import TextProtocol, draw
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.quality.text_quality import MIN_WINDOWS, TextQuality, WindowSums
from olivine.search.config.constraints import parse_constraint
from olivine.search.study.trials.pruning import PruningRules

#: Recorded sums of tokens' losses: tests replay them too, so they are tracked.
RECORDED = Path(__file__).parent / "recorded_windows.jsonl"
WINDOWS, WINDOW_TOKENS = 60, 256
OBJECTIVES = ("tpot_ms", "perplexity_ratio")
COLUMNS = ("nll", "base_nll", "kl", "agree", "tokens", "text_bytes")
#: A clear loser breaks the limit by this much of it.
CLEAR = 1.1
NEVER_AUDITED = "f" * 12


@dataclass(frozen=True)
class Replay:
    """What stopping did to one candidate over all orders.

    Attributes:
        ratio: its perplexity ratio on the full text.
        kept: whether the full text keeps the constraint.
        scored: mean share of the text that was scored.
        dropped: share of orders in which it was dropped.
    """

    ratio: float
    kept: bool
    scored: float
    dropped: float


def recorded() -> dict[str, WindowSums]:
    """Candidate -> its windows, in the order of the recording."""
    rows = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    return {row["candidate"]: sums(row) for row in rows}


def sums(columns: Mapping[str, Sequence[float]]) -> WindowSums:
    """Columns of the recording as a study's evaluation sees them."""
    found = {name: np.array(columns[name], dtype=np.float64) for name in COLUMNS}
    base_perplexity = float(np.exp(found["base_nll"].sum() / found["tokens"].sum()))
    return WindowSums(**found, base_perplexity=base_perplexity)


def full_ratio(windows: WindowSums) -> float:
    """Perplexity ratio on the full text."""
    return windows.intervals()["perplexity_ratio"].value


def replay(windows: WindowSums, limit: float, orders: int, seed: int = 0) -> Replay:
    """Look after every window, as a study does, in many random orders."""
    ladder = PruningRules((parse_constraint(f"perplexity_ratio <= {limit}"),), OBJECTIVES)
    ratio = full_ratio(windows)
    rng = np.random.default_rng(seed)
    count = len(windows.nll)
    scored = []
    for _ in range(orders):
        order = rng.permutation(count)
        pruner = ladder.pruner(NEVER_AUDITED)
        ends = (n for n in range(MIN_WINDOWS, count) if pruner(_first(windows, order[:n])) is not None)
        scored.append(next(ends, count))
    return Replay(ratio, ratio <= limit, float(np.mean(scored)) / count, float(np.mean(np.array(scored) < count)))


def _first(windows: WindowSums, index: np.ndarray) -> WindowSums:
    return WindowSums(
        **{name: getattr(windows, name)[index] for name in COLUMNS}, base_perplexity=windows.base_perplexity
    )


def page(limit: float, orders: int) -> str:
    """A table of candidates, and what it comes to."""
    found = {name: replay(windows, limit, orders) for name, windows in recorded().items()}
    windows = next(iter(recorded().values()))
    lines = [
        f"`perplexity_ratio <= {limit:g}`, {len(windows.nll)} windows with {windows.tokens.sum():.0f} tokens of "
        f"news, {orders} random orders:",
        "",
        "| candidate | ratio on the full text | keeps it | dropped | share of the text scored |",
        "|---|---|---|---|---|",
    ]
    for name, one in sorted(found.items(), key=lambda item: item[1].ratio):
        kept = "yes" if one.kept else "no"
        lines.append(f"| {name} | {one.ratio:.3f} | {kept} | {one.dropped:.1%} | {one.scored:.0%} |")
    losers = [one.scored for one in found.values() if not one.kept]
    clear = [one.scored for one in found.values() if one.ratio > CLEAR * limit]
    wrong = [one.dropped for one in found.values() if one.kept]
    lines.append("")
    whole = [one.scored for one in found.values()]
    lines.append(
        f"Fewer tokens than the full text: {_times(clear)} for clear losers (a tenth beyond the limit), "
        f"{_times(losers)} for all that break it, {_times(whole)} for all candidates."
    )
    if wrong:
        lines.append(f"Of those that keep it, {float(np.mean(wrong)):.1%} were dropped (the worst {max(wrong):.1%}).")
    return "\n".join(lines)


def _times(scored: Sequence[float]) -> str:
    return f"{1 / float(np.mean(scored)):.1f} times" if scored else "none"


def record(base: Path, candidates: Sequence[Path]) -> None:
    """Score the demo text's windows with each candidate that is not recorded yet."""
    text = "\n\n".join(splits(TextSource.parse("demo:news").documents(), 0)["select"])
    windows = draw(tokenize(text, base), TextProtocol(WINDOW_TOKENS, WINDOW_TOKENS), WINDOWS, 0, "demo:news")
    quality = TextQuality(windows, campaign.FOLDER / "reference", "base")
    if not quality.reference_path().exists():
        with ModelProcess.open(base) as process:
            quality.run(process, process)
    nll = quality.base_nll()
    for folder in candidates:
        if RECORDED.exists() and folder.name in recorded():
            continue
        with ModelProcess.open(folder) as process:
            scores = [process.score(quality.reference_path(), number) for number in range(len(windows))]
        row = {
            "candidate": folder.name,
            "nll": [round(s.nll, 3) for s in scores],
            "base_nll": [round(float(x), 3) for x in nll],
            "kl": [round(s.kl, 4) for s in scores],
            "agree": [s.agree for s in scores],
            "tokens": [s.tokens for s in scores],
            "text_bytes": [window.text_bytes for window in windows],
        }
        with RECORDED.open("a") as file:
            file.write(json.dumps(row) + "\n")


def main() -> None:
    """Record, or replay what is recorded."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--limits", type=float, nargs="+", default=[1.05, 1.15, 1.3])
    arguments.add_argument("--orders", type=int, default=200)
    arguments.add_argument("--record", type=Path, nargs="+", metavar="DIR", help="the base, then the candidates")
    options = arguments.parse_args()
    if options.record:
        record(options.record[0], options.record[1:])
        return
    campaign.write(
        "early stopping",
        "\n\n".join(page(limit, options.orders) for limit in options.limits),
    )


if __name__ == "__main__":
    main()
