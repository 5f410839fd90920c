"""Deprecated, until 0.3: tables are :mod:`olivine.search.report.tables`, and metrics are ``Measurement`` objects."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from olivine.search.records import TrialRecord, read_metrics
from olivine.search.report import tables

warnings.warn(f"{__name__} is now olivine.search.report.tables", DeprecationWarning, stacklevel=2)


def trials_table(records: Sequence[TrialRecord], objectives: Sequence[str]) -> Any:
    """The table of trials whose metrics may be mappings, as records of 0.1.0 held them."""
    return tables.trials_table([_measured(record) for record in records], objectives)


def _measured(record: TrialRecord) -> TrialRecord:
    stored = {name: about for name, about in record.metrics.items() if isinstance(about, Mapping)}
    return replace(record, metrics={**record.metrics, **read_metrics(stored)})
