"""The recorded space that samplers are judged on: every recipe of ``search-table.yaml``, measured and predicted.

    python tests/benchmarks/search_table.py results/search-run --to results/search/table.csv

measures what is missing in the study folder, then writes one row per candidate: its searched values, its metrics with
their intervals, and the cost model's predictions, made before anything was built (``expected_...``).
"""

from __future__ import annotations

import argparse
import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from olivine.evaluators.measurement import Measurement
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.recipe import Recipe
from olivine.passes.store.atomic_files import write_atomic
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import language_config, load_config
from olivine.search.config.space import Space
from olivine.search.records import TrialRecord
from olivine.search.report.progress import LineOutput
from olivine.search.samplers.masks import Masks
from olivine.search.samplers.surrogate import MetricPredictor
from olivine.search.study.open import open_study
from olivine.search.study.runner import run_search
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.language import LanguageWorkload

CONFIG = Path(__file__).parent / "search-table.yaml"
TABLE = Path("results/search/table.csv")
METRICS = ("tpot_ms", "ttft_ms", "kl_divergence", "perplexity_ratio", "top1_agreement", "model_bytes")
#: The predicted metrics.
EXPECTED = ("tpot_ms", "ttft_ms", "kl_divergence", "perplexity_ratio", "model_bytes")


@dataclass(frozen=True)
class Table:
    """A space of which everything is known.

    Attributes:
        config: the study that was run over all of it.
        records: of every candidate, in the order of the space.
        predictions: recipe key -> metric -> predicted value.
    """

    config: LanguageStudyConfig
    records: tuple[TrialRecord, ...]
    predictions: Mapping[str, Mapping[str, float]] = field(repr=False)

    @property
    def space(self) -> Space:
        """The space."""
        return self.config.search_space()

    def predictor(self) -> MetricPredictor:
        """What the study of this space would be guided by."""
        return _Recorded(self.predictions)


@dataclass(frozen=True)
class _Recorded:
    predictions: Mapping[str, Mapping[str, float]]

    def predict(self, recipe: Recipe) -> dict[str, float]:
        """The predictions of a recipe, as they were recorded."""
        return dict(self.predictions[recipe.key])


def read_table(path: Path, config: Path = CONFIG) -> Table:
    """A table as :func:`write_table` left it.

    Raises:
        ValueError: when a row is no candidate of the config's space, or a candidate has no row.
    """
    study = load_config(config)
    space = study.search_space()
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    found = {_key_of(row): row for row in ({n: _value(v) for n, v in row.items() if v} for row in rows)}
    records, predictions = [], {}
    for choice in space.enumerate() or ():
        key = tuple(sorted((name, str(_rounded(choice[name]))) for name in space.searched if name in choice))
        recipe = LANGUAGE.compose(choice)
        if recipe.key in predictions:  # another name of a recipe that has its row
            continue
        if key not in found:
            raise ValueError(f"{path} has no row for {dict(key)}, a candidate of {config}")
        row = found[key]
        predictions[recipe.key] = {name: float(row[f"expected_{name}"]) for name in EXPECTED}
        metrics = {name: Measurement.exact(name, "", float(row[name])) for name in METRICS}
        number = len(records) + 1
        records.append(TrialRecord(number, "complete", "", dict(choice), recipe, recipe.key, metrics=metrics))
    return Table(study, tuple(records), predictions)


def _key_of(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    told = {*METRICS, *(f"expected_{name}" for name in EXPECTED)}
    told |= {f"{name}_{end}" for name in METRICS for end in ("low", "high")}
    return tuple(sorted((name, str(value)) for name, value in row.items() if name not in told))


def _value(text: str) -> Scalar:
    try:
        number = float(text)
    except ValueError:
        return text
    return _rounded(int(number) if number == int(number) and "." not in text else number)


def _rounded(value: Scalar) -> Scalar:
    return round(value, 9) if isinstance(value, float) else value


def record(folder: Path) -> str:
    """Measure what is missing of the space, and give the whole as CSV.

    Raises:
        SystemExit: when a candidate did not build or run.
    """
    study = StudyDir(folder)
    workload = LanguageWorkload(language_config(load_config(CONFIG)), study)
    config = workload.config
    with open_study(workload, study, LineOutput(Console())) as opened:
        objective = run_search(opened)
        base, *candidates = opened.records
        cost_model = workload.cost_model(base, objective.expected_losses, Masks.read(study.kernels_path))
    missing = [r for r in candidates if r.state != "complete"]
    if missing:
        raise SystemExit(f"{len(missing)} candidates are not measured, among them trial {missing[0].number}: "
                         f"{missing[0].reason}")  # fmt: skip
    searched = config.search_space().searched
    header = [
        *searched,
        *(f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")),
        *(f"expected_{name}" for name in EXPECTED),
    ]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    for entry in candidates:
        choice = LANGUAGE.canonical({**config.search_space().usual(), **entry.params})
        expected = cost_model.predict(LANGUAGE.compose(choice))
        cells: list[Any] = [_rounded(choice[name]) if name in choice else "" for name in searched]
        metrics = {**entry.metrics, **_on_one_clock(base, entry)}
        for name in METRICS:
            cells += [_short(getattr(metrics[name], end)) for end in ("value", "low", "high")]
        table.writerow([*cells, *(_short(expected[name]) for name in EXPECTED)])
    return text.getvalue()


def _on_one_clock(base: TrialRecord, entry: TrialRecord) -> dict[str, Measurement]:
    """Times as speedups say that they would have been when trial 0 was measured, however long ago that was."""
    found = {}
    for name in ("tpot", "ttft"):
        of_base, speedup = base.value(f"{name}_ms"), entry.metrics[f"{name}_speedup"]
        ends = (of_base / end for end in (speedup.value, speedup.high, speedup.low))
        found[f"{name}_ms"] = Measurement(f"{name}_ms", "ms", *ends)
    return found


def _short(value: float) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the study folder; what it holds is not measured again")
    parser.add_argument("--to", type=Path, default=TABLE)
    options = parser.parse_args()
    options.to.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(options.to, record(options.folder))


if __name__ == "__main__":
    main()
