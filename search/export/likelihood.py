"""Likelihood of a check text under the model of a folder, in a fresh process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.providers.interpreters import folder_options
from olivine.evaluators.quality.unpruned import open_scored
from olivine.passes.adapters.adapter_file import named_adapter
from olivine.passes.store.cache import scratch_folder
from olivine.passes.transforms.prune_head import is_pruned


def negative_log_likelihood(
    folder: Path, tokens: list[int], process: Mapping[str, Any] | None = None, adapter: str | None = None
) -> float:
    """Mean negative log-likelihood in nats per token, by the folder's model in a fresh process.

    A model with a pruned head runs the prompt itself, and is scored by its unpruned twin.

    Args:
        folder: of the model.
        tokens: of a text.
        process: options of the process; by default those of the model's provider.
        adapter: name of the folder's adapter that is active; None for none.
    """
    options = dict(folder_options(folder) if process is None else process)
    if adapter is not None:
        options["adapter"] = named_adapter(folder, adapter)
    if is_pruned(folder):
        with ModelProcess.open(folder, **options) as own:
            own.prefill(tokens, 1)
    with scratch_folder("check") as store, open_scored(folder, **options) as scored:
        stored = store / "check.npz"
        scored.reference([(tokens, len(tokens) - 1)], stored, 1)
        with np.load(stored) as windows:
            return float(windows["nll_0"].mean(dtype=np.float64))
