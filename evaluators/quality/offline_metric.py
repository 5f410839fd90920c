"""What the ``evaluate.Metric`` subclasses of olivine share: no download, no files."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate


class OfflineMetric(evaluate.Metric):  # type: ignore[misc] # evaluate has no types
    """A metric that is computed from what it is given alone."""

    word: str
    doc: str
    inputs: str
    features: datasets.Features

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"keep_in_memory": True} | options))

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.doc,
            citation="olivine: search-driven optimizer for ONNX language models",
            inputs_description=self.inputs,
            features=self.features,
        )
