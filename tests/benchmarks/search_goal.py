"""Replays of studies whose ``select:`` has a limit: how far the selection is behind the best recipe that keeps it.

Objectives, constraint and selection are those of ``olivine optimize``: the metric and the perplexity ratio, at most the
limit and a margin. The table is one model on one machine, so that a sampler may fit it by luck. Variations say how it
does elsewhere: another metric, measured values with noise, a random part of the recipes, and both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from benchmarks.search_replay import median_interval, replay
from benchmarks.search_table import Table

from olivine.evaluators.measurement import Measurement
from olivine.search.config.sections import SelectConfig
from olivine.search.planning.auto_config import MARGIN
from olivine.search.records import TrialRecord

SAMPLERS = {"goal": "goal", "forecast": "front", "tpe": "TPE", "nsga2": "NSGA-II", "random": "random"}
#: Allowed growth of perplexity, and trials after which the selection is looked at.
LOSSES, BUDGETS, SEEDS = (0.02, 0.05, 0.10), (6, 12, 25), 20
#: Seeds of a variation, which is looked at after this many trials.
VARIED_SEEDS, VARIED_TRIALS = 8, 12
#: Standard deviation of the noise that a variation adds, as a share: of times, and of divergences and what they cost.
NOISE = {"tpot_ms": 0.03, "ttft_ms": 0.03, "loss": 0.05}
#: Share of the recipes that a variation keeps.
PART = 0.6
METRICS = ("tpot_ms", "ttft_ms", "model_bytes")
#: Name, noise, part.
VARIATIONS = (("none", False, False), ("noise", True, False), ("part", False, True), ("both", True, True))


@dataclass(frozen=True)
class Task:
    """One replay.

    Attributes:
        sampler: that proposes.
        metric: that the selection makes best.
        loss: allowed growth of perplexity.
        seed: of the proposals, the noise and the part.
        noisy: measured values have noise.
        part: only a part of the recipes is there.
    """

    sampler: str
    metric: str
    loss: float
    seed: int
    noisy: bool = False
    part: bool = False

    @property
    def trials(self) -> int:
        """Candidates of the replay."""
        return max(BUDGETS) if self.metric == METRICS[0] and not (self.noisy or self.part) else VARIED_TRIALS

    @property
    def limit(self) -> float:
        """Largest perplexity ratio."""
        return 1 + self.loss


@dataclass(frozen=True)
class Result:
    """One replay's outcome.

    Attributes:
        behind: [budgets] selection over best recipe within the limit, less 1; infinite where nothing keeps it.
        keeping: share of the first 12 candidates that keep the limit.
    """

    behind: tuple[float, ...]
    keeping: float


def run_task(table: Table, task: Task) -> Result:
    """Replay one study."""
    rng = np.random.default_rng(task.seed)
    records = tuple(_noisy(record, rng) for record in table.records) if task.noisy else table.records
    absent = frozenset(r.recipe_key for r in records if task.part and rng.random() > PART)
    config = table.config.model_copy(
        update={
            "objectives": (task.metric, "perplexity_ratio"),
            "constraints": (f"perplexity_ratio <= {task.limit + MARGIN:g}",),
            "select": SelectConfig(metric=task.metric, where=(f"perplexity_ratio <= {task.limit:g}",)),
        }
    )
    varied = replace(table, config=config, records=records)
    done = replay(varied, task.sampler, task.seed, task.trials, absent)
    best = min(_kept([r for r in records if r.recipe_key not in absent], task))
    behind = [min(_kept(done[:budget], task), default=float("inf")) / best - 1 for budget in BUDGETS]
    return Result(tuple(behind), len(_kept(done[:12], task)) / 12)


def _kept(records: Iterable[TrialRecord], task: Task) -> list[float]:
    return [r.value(task.metric) for r in records if r.value("perplexity_ratio") <= task.limit]


def _noisy(record: TrialRecord, rng: np.random.Generator) -> TrialRecord:
    loss = float(np.exp(NOISE["loss"] * rng.standard_normal()))
    values = {name: measured.value for name, measured in record.metrics.items()}
    changed = {
        name: values[name] * float(np.exp(NOISE[name] * rng.standard_normal())) for name in ("tpot_ms", "ttft_ms")
    }
    changed |= {"kl_divergence": values["kl_divergence"] * loss}
    changed |= {"perplexity_ratio": 1 + (values["perplexity_ratio"] - 1) * loss}
    return replace(record, metrics={**record.metrics, **{n: Measurement.exact(n, "", v) for n, v in changed.items()}})


def tasks() -> list[Task]:
    """All replays: each sampler on the table, then the goal's and the front's on its variations."""
    whole = [Task(name, "tpot_ms", loss, seed) for name in SAMPLERS for loss in LOSSES for seed in range(SEEDS)]
    varied = [
        Task(name, metric, loss, seed, noisy, part)
        for name in ("goal", "forecast")
        for metric in METRICS
        for _, noisy, part in VARIATIONS
        for loss in LOSSES
        for seed in range(VARIED_SEEDS)
    ]
    return list(dict.fromkeys([*whole, *varied]))


def goal_results(table: Table, mapped: Callable[..., Sequence[Any]]) -> dict[Task, Result]:
    """Every replay and its outcome; ``mapped`` is a pool's ``map``."""
    todo = tasks()
    return dict(zip(todo, mapped(_Run(table), todo, chunksize=4), strict=True))


@dataclass(frozen=True)
class _Run:
    """:func:`run_task` on one table, as another process can take it."""

    table: Table

    def __call__(self, task: Task) -> Result:
        return run_task(self.table, task)


def goal_section(results: Mapping[Task, Result]) -> list[str]:
    """The section of the page."""
    lines = [
        "## Studies with a limit",
        "",
        "Studies as `olivine optimize` makes them: the least tpot_ms at a perplexity ratio of at most 1.02, 1.05 and",
        "1.10. By how much the selection is behind the best recipe that keeps the limit, median of "
        f"{SEEDS} seeds with its",
        "95 % bootstrap interval; and the share of the first 12 candidates that keep it. goal is the default where",
        "`select:` has a limit (`sampler: {aim: goal}`), front is the other aim.",
        "",
        f"| limit | trials | {' | '.join(SAMPLERS.values())} |",
        f"|---|---|{'---|' * len(SAMPLERS)}",
    ]
    for loss in LOSSES:
        found = {name: _of(results, name, "tpot_ms", loss) for name in SAMPLERS}
        for index, budget in enumerate(BUDGETS):
            cells = [_percent(*median_interval([r.behind[index] for r in found[name]])) for name in SAMPLERS]
            lines.append(f"| {1 + loss:.2f} | {budget} | {' | '.join(cells)} |")
        shares = [f"{100 * np.mean([r.keeping for r in found[name]]):.0f} %" for name in SAMPLERS]
        lines.append(f"| {1 + loss:.2f} | share within | {' | '.join(shares)} |")
    lines += [
        "",
        f"The same on variations, goal / front after {VARIED_TRIALS} trials, median of at least {VARIED_SEEDS} seeds:",
        f"other metrics; 3 % of noise on times and 5 % on losses; a random {100 * PART:.0f} % of the recipes.",
        "",
        f"| metric | variation | {' | '.join(f'{1 + loss:.2f}' for loss in LOSSES)} | share within |",
        f"|---|---|{'---|' * (len(LOSSES) + 1)}",
    ]
    for metric in METRICS:
        lines += [_variation_row(results, metric, *variation) for variation in VARIATIONS]
    return [*lines, ""]


def _variation_row(results: Mapping[Task, Result], metric: str, word: str, noisy: bool, part: bool) -> str:
    sides = [[_of(results, name, metric, loss, noisy, part) for loss in LOSSES] for name in ("goal", "forecast")]
    medians = [[f"{100 * np.median([r.behind[1] for r in found]):.1f} %" for found in side] for side in sides]
    shares = [f"{100 * np.mean([r.keeping for found in side for r in found]):.0f} %" for side in sides]
    cells = [" / ".join(pair) for pair in zip(*medians, strict=True)]
    return f"| {metric} | {word} | {' | '.join(cells)} | {' / '.join(shares)} |"


def _of(
    results: Mapping[Task, Result], sampler: str, metric: str, loss: float, noisy: bool = False, part: bool = False
) -> list[Result]:
    found = (results.get(Task(sampler, metric, loss, seed, noisy, part)) for seed in range(SEEDS))
    return [result for result in found if result is not None]


def _percent(value: float, low: float, high: float) -> str:
    def number(x: float) -> str:
        return f"{100 * x:.1f}" if np.isfinite(x) else "none"

    return f"{number(value)} % [{number(low)}, {number(high)}]"
