"""``make bench-estimators``: from the runs of ``make bench-aa``, the error of each estimator and the luck of processes.

python tests/benchmarks/estimators.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

import campaign
import numpy as np
import repeatability

from olivine.evaluators.latency.speedup import lower_half_mean, paired_speedup
from olivine.evaluators.stats import Floats, Interval, hodges_lehmann

SECTION = "estimators"
#: Log ratios further from a run's median than this are interference, and say nothing of a process.
CLIP = 0.05


def _fastest_pairs(base: Floats, own: Floats) -> Interval:
    quiet = np.argsort(base * own)[: max(6, round(len(base) * 2 / 3))]
    return hodges_lehmann(np.log(base[quiet] / own[quiet]))


ESTIMATORS: dict[str, Callable[[Floats, Floats], Interval]] = {
    "lower-half means": paired_speedup,
    "Hodges-Lehmann": lambda base, own: hodges_lehmann(np.log(base / own)),
    "Hodges-Lehmann of the two thirds of pairs that are fastest": _fastest_pairs,
}


def readings(row: campaign.Row, metric: str) -> tuple[Floats, Floats, list[int]]:
    """Times of base and copy, and the process of each, of one run."""
    samples, cold = row["samples"], row["cold_steps"]
    process = list(samples["process"])
    if metric == "prefill":
        return np.array(samples["base_ttft_ms"]), np.array(samples["ttft_ms"]), process
    base, own = (
        np.array([float(lower_half_mean(np.array(steps[cold:]))) for steps in samples[f"{side}step_ms"]])
        for side in ("base_", "")
    )
    return base, own, [number for number in process for _ in range(len(base) // len(process))]


def luck(groups: Iterable[Floats]) -> float:
    """Standard deviation between groups beyond the noise within them; 0 where there is none to be seen.

    Source: the one-way analysis of variance of unequal groups (Searle, Casella and McCulloch 1992, section 3.6).
    """
    found = [group for group in groups if len(group)]
    sizes = np.array([len(group) for group in found])
    total, count = int(sizes.sum()), len(found)
    centre = np.concatenate(found).mean()
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in found) / (total - count)
    between = sum(len(group) * float(group.mean() - centre) ** 2 for group in found) / (count - 1)
    usual = (total - float((sizes**2).sum()) / total) / (count - 1)
    return float(np.sqrt(max(0.0, (between - within) / usual)))


def table(rows: Sequence[campaign.Row]) -> str:
    """What the rows say."""
    lines = [
        f"`make bench-estimators`, on the {len(rows)} runs of a model against its copy above: root mean square error "
        "of the speedup, and the median half-width of its interval without the luck of processes.",
        "",
        f"| threads | s a pair | metric | runs | {' | '.join(ESTIMATORS)} |",
        f"|---|---|---|---|{'---|' * len(ESTIMATORS)}",
    ]
    for threads, seconds in sorted({(row["threads"], row["seconds"]) for row in rows}):
        chosen = [row for row in rows if (row["threads"], row["seconds"]) == (threads, seconds)]
        for metric in ("decode", "prefill"):
            times = [readings(row, metric)[:2] for row in chosen]
            cells = [_cell([estimate(base, own) for base, own in times]) for estimate in ESTIMATORS.values()]
            lines.append(f"| {threads} | {seconds:g} | {metric} | {len(chosen)} | {' | '.join(cells)} |")
    lines.append("")
    for metric in ("decode", "prefill"):
        groups = [group for row in rows for group in _by_process(*readings(row, metric))]
        lines.append(f"* Luck of processes in {metric}: {luck(groups):.2%} ({len(groups)} pairs of processes).")
    return "\n".join(lines)


def _cell(found: Sequence[Interval]) -> str:
    error = float(np.sqrt(np.mean([interval.value**2 for interval in found])))
    return f"{error:.2%}, {median(interval.half_width for interval in found):.2%}"


def _by_process(base: Floats, own: Floats, process: Sequence[int]) -> list[Any]:
    ratios = np.log(base / own)
    ratios = np.clip(ratios - np.median(ratios), -CLIP, CLIP)
    return [ratios[np.array(process) == number] for number in sorted(set(process))]


def main() -> None:
    """Write the section."""
    rows = campaign.rows(repeatability.NAME)
    if not rows:
        raise SystemExit("No runs are recorded. 'make bench-aa' records some.")
    campaign.write(SECTION, table(rows))


if __name__ == "__main__":
    main()
