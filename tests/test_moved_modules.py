"""Modules of 0.1.0 that scripts import are found at their old place, with a warning that names the new one."""

from __future__ import annotations

import importlib
import sys

import pytest
from rich.console import Console

from olivine.evaluators.measurement import Measurement
from olivine.passes.catalog import LANGUAGE
from olivine.search.records import TrialRecord

MOVED = {
    "olivine.evaluators.rows": ("olivine.evaluators.data.rows", "file_rows"),
    "olivine.evaluators.text": ("olivine.evaluators.data.text_source", "TextSource"),
    "olivine.passes.plain.encoder": ("olivine.passes.graphs.encoder", "export_encoder"),
}


@pytest.mark.parametrize("old", MOVED)
def test_an_old_module_gives_the_new_ones_name_and_says_where_it_is(old: str) -> None:
    new, name = MOVED[old]
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
        moved = importlib.import_module(old)
    assert getattr(moved, name) is getattr(importlib.import_module(new), name)


def test_old_tables_show_metrics_as_mappings_and_as_measurements() -> None:
    sys.modules.pop("olivine.search.tables", None)
    with pytest.warns(DeprecationWarning, match=r"is now olivine\.search\.report\.tables"):
        old = importlib.import_module("olivine.search.tables")
    stored = {"unit": "ratio", "value": 2.5, "low": 2.0, "high": 3.0}
    of_now = Measurement("perplexity_ratio", "ratio", 1.25, 1.2, 1.3)
    metrics = {"tpot_speedup": stored, "perplexity_ratio": of_now}
    record = TrialRecord(1, "complete", "", {"precision": "int4"}, LANGUAGE.recipe([]), "key", metrics=metrics)
    console = Console(width=120)
    with console.capture() as shown:
        console.print(old.trials_table([record], ["tpot_ms"]))
    assert "2.5" in shown.get()
    assert "1.25" in shown.get()
