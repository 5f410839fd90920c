"""The check that every new graph passes before it is kept: it runs, and its outputs are finite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from olivine.passes.errors import BuildFailed
from olivine.passes.export.check import ort_errors
from olivine.passes.graphs.graph_inputs import graph_inputs, open_dims, synthetic

#: Size of every open axis.
_SIZE = 2


def check_graph(path: Path, sizes: Mapping[str, int] | None = None) -> None:
    """Run made-up inputs through a new graph.

    Raises:
        BuildFailed: when it does not load or run, or gives outputs that are not finite.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    inputs = graph_inputs(path)
    feed = synthetic(inputs, sizes or dict.fromkeys(open_dims(inputs), _SIZE), np.random.default_rng(0))
    try:
        outputs = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, feed)
    except ort_errors() as error:
        raise BuildFailed(f"the graph does not run in ONNX Runtime: {error}") from error
    if not all(np.isfinite(output).all() for output in outputs if output.dtype.kind == "f"):
        raise BuildFailed("the graph gives outputs that are not finite")
