"""Child process of :mod:`olivine.evaluators.quality.other_runtime`: the logits of a graph, into a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from olivine.passes.parity.graph_run import GraphRun


def main() -> None:
    """Answer the request on standard input with the versions of what ran."""
    import onnxruntime

    request = json.load(sys.stdin)
    run = GraphRun(Path(request["folder"]), Path(request["graph"]) if request["graph"] else None)
    np.save(request["to"], np.concatenate(list(run.logits(request["ids"], request["pieces"]))))
    json.dump({"onnxruntime": onnxruntime.__version__}, sys.stdout)


if __name__ == "__main__":
    main()
