"""``make bench-search``: samplers compared by replay on a space that was measured as a whole (``search_table.py``).

Then by how far the selection of a study with a limit is behind (``search_goal.py``).

A replayed study proposes as a real one does; what it would measure is looked up. The default search knows the
recorded predictions; TPE, NSGA-II and chance know nothing beforehand. All have the same seeds, and none measures a
candidate twice. Hypervolumes are shares of that of the whole table; the reference point lies a tenth of the front's
range beyond its worst values, so that only candidates near the front count at all (Ishibuchi, Imada, Setoguchi and
Nojima 2018, How to specify a reference point in hypervolume calculation, Evol. Comput. 26(3)).
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.search_goal import goal_results, goal_section
from benchmarks.search_replay import median_interval, replay
from benchmarks.search_table import TABLE, Table, read_table

from olivine.passes.store.atomic_files import write_atomic
from olivine.search.pareto import Floats, hypervolume, minimised, nondominated
from olivine.search.records import TrialRecord

SAMPLERS = {"forecast": "default", "tpe": "TPE", "nsga2": "NSGA-II", "random": "random"}
TRIALS, SEEDS = 100, 20
#: Budgets shown, in trials.
BUDGETS = (5, 10, 20, 32, 50, 75, 100)
ENOUGH = 0.95


@dataclass(frozen=True)
class Judge:
    """Tells how much of a table's hypervolume some of its records hold.

    Attributes:
        objectives: metric names.
        reference: [objectives] the point beyond which nothing counts.
        whole: hypervolume of all records.
    """

    objectives: tuple[str, ...]
    reference: Floats
    whole: float

    @classmethod
    def of(cls, table: Table) -> Judge:
        """The judge of a table."""
        objectives = table.config.objectives
        points = minimised(table.records, objectives)
        best = points[nondominated(points)]
        reference = best.max(axis=0) + 0.1 * (best.max(axis=0) - best.min(axis=0))
        return cls(objectives, reference, hypervolume(points, reference))

    def shares(self, records: Sequence[TrialRecord]) -> list[float]:
        """Share of the hypervolume after each record."""
        points = minimised(records, self.objectives)
        return [hypervolume(points[: i + 1], self.reference) / self.whole for i in range(len(records))]


def shares_of(table: Table, sampler: str, seed: int, trials: int) -> list[float]:
    """Share of the hypervolume after each of ``trials`` trials."""
    shares = Judge.of(table).shares(replay(table, sampler, seed, trials))
    return shares + shares[-1:] * (trials - len(shares))


def trials_to(shares: Sequence[float], enough: float = ENOUGH) -> float:
    """Trials until a share of the hypervolume is held; infinite where it never is."""
    return next((float(i + 1) for i, share in enumerate(shares) if share >= enough), float("inf"))


def page(table: Table, found: Mapping[str, npt.NDArray[np.float64]]) -> list[str]:
    """The page: shares at each budget, differences to the default, trials needed."""
    seeds = len(next(iter(found.values())))
    lines = [
        "# Samplers on a space that is known as a whole",
        "",
        f"`make bench-search` replays studies on results/search/table.csv: {len(table.records)} recipes of the demo",
        f"model, all measured; objectives: {', '.join(table.config.objectives)}. Share of the exhaustive hypervolume,",
        f"median of {seeds} seeds, in brackets its 95 % bootstrap interval.",
        "",
        f"| trials | {' | '.join(SAMPLERS[name] for name in found)} |",
        f"|---|{'---|' * len(found)}",
    ]
    for budget in BUDGETS:
        cells = [_text(*median_interval(shares[:, budget - 1])) for shares in found.values()]
        lines.append(f"| {budget} | {' | '.join(cells)} |")
    needed = [_text(*_needed(shares), digits=0) for shares in found.values()]
    lines += [f"| to {ENOUGH:.0%} | {' | '.join(needed)} |", ""]
    lines += ["By how much the default search is ahead, as medians over the same seeds:", ""]
    rivals = [name for name in found if name != "forecast"]
    lines += [f"| trials | {' | '.join(SAMPLERS[name] for name in rivals)} |", f"|---|{'---|' * len(rivals)}"]
    for budget in BUDGETS:
        ahead = [median_interval((found["forecast"] - found[name])[:, budget - 1]) for name in rivals]
        lines.append(f"| {budget} | {' | '.join(_text(*a, sign='+') for a in ahead)} |")
    behind = [
        f"{SAMPLERS[name]} at {', '.join(map(str, worse))}"
        for name in rivals
        if (worse := [b for b in range(10, TRIALS + 1) if np.median((found["forecast"] - found[name])[:, b - 1]) < 0])
    ]
    lines += ["", f"Budgets from 10 to {TRIALS} trials at which the default is behind: {'; '.join(behind) or 'none'}."]
    return [*lines, ""]


def _needed(shares: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    # Those that never get there count as one more than the trials they had, so that medians stay numbers.
    return median_interval([min(trials_to(row), TRIALS + 1.0) for row in shares])


def _text(value: float, low: float, high: float, digits: int = 3, sign: str = "") -> str:
    def number(x: float) -> str:
        return f"over {TRIALS}" if digits == 0 and x > TRIALS else f"{x:{sign}.{digits}f}"

    return f"{number(value)} [{number(low)}, {number(high)}]"


def main() -> None:
    """Replay and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    if not options.table.is_file():
        raise SystemExit(f"{options.table} is not there: 'make search-table' measures it, in half an hour to an hour")
    table = read_table(options.table)
    found = {}
    with multiprocessing.get_context("spawn").Pool() as pool:
        for sampler in SAMPLERS:
            rows = pool.map(partial(shares_of, table, sampler, trials=TRIALS), range(SEEDS), chunksize=1)
            found[sampler] = np.array(rows)
            print(f"{SAMPLERS[sampler]}: {np.median(found[sampler][:, 31]):.3f} at 32 trials", flush=True)
        goals = goal_results(table, pool.map)
    text = "\n".join([*page(table, found), *goal_section(goals)])
    print(text)
    if options.to:
        write_atomic(options.to, text)


if __name__ == "__main__":
    main()
