"""Logits of one folder in two environments and at two accuracy levels: whether an upgrade changes what a model says."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from olivine.evaluators.process.bootstrap import child_command, run_child
from olivine.passes.artifact import link_or_copy
from olivine.passes.errors import OlivineError, UsageError
from olivine.passes.parity.agreement import Agreement, compare
from olivine.passes.parity.graph_run import GraphRun

TIMEOUT_S = 1800.0
#: Quantized products, whose arithmetic an accuracy level chooses, and the level of float32.
_PRODUCTS, _LEVEL, _EXACT = "MatMulNBits", "accuracy_level", 1


@dataclass(frozen=True)
class OtherRuntime:
    """Agreement of the logits of a folder with those of another way to run it.

    Attributes:
        name: the other way.
        agreement: of the two; its reference is the folder as this environment runs it.
    """

    name: str
    agreement: Agreement

    def sentence(self) -> str:
        """For people."""
        agreement = self.agreement
        return (
            f"{self.name}: KL divergence {agreement.kl_divergence:.2g} nats, "
            f"top-1 agreement {agreement.top1_agreement:.2%}, "
            f"largest difference of a logit {agreement.largest_difference:.2g}"
        )


def compare_runtimes(folder: Path, ids: Sequence[int], python: str | None) -> list[OtherRuntime]:
    """Compare what a folder says here with what it says elsewhere, and at the accuracy level of float32.

    Args:
        folder: with a graph that gives logits of every position.
        ids: the text.
        python: interpreter of the other environment, or its folder; None for this one alone.

    Raises:
        UsageError: when there is no such interpreter.
        OlivineError: when the model does not run there.
    """
    pieces = (len(ids) // 2, 1, len(ids) - 1 - len(ids) // 2)
    with tempfile.TemporaryDirectory(prefix=".runtimes-", dir=folder.parent) as home:
        scratch = Path(home)
        here, versions = _logits(sys.executable, folder, None, ids, pieces, scratch)
        others = []
        if python is not None:
            other_logits, other = _logits(_interpreter(python), folder, None, ids, pieces, scratch)
            name = f"ONNX Runtime {other['onnxruntime']} instead of {versions['onnxruntime']}"
            others.append(OtherRuntime(name, compare([(other_logits, here)], 0.0)[0]))
        if (exact := _exact_copy(folder, scratch)) is not None:
            logits, _ = _logits(sys.executable, folder, exact, ids, pieces, scratch)
            others.append(OtherRuntime("accuracy level 1 instead of 4", compare([(logits, here)], 0.0)[0]))
    return others


def _interpreter(python: str) -> str:
    path = Path(python).expanduser()
    path = path / "bin" / "python" if path.is_dir() else path
    if not path.exists():
        raise UsageError(f"There is no interpreter {path}: give an environment's folder, or its python.")
    return str(path)


def _logits(
    python: str, folder: Path, graph: Path | None, ids: Sequence[int], pieces: Sequence[int], scratch: Path
) -> tuple[np.ndarray, dict[str, str]]:
    to = scratch / "logits.npy"
    request = {
        "folder": str(folder),
        "graph": str(graph or ""),
        "ids": list(ids),
        "pieces": list(pieces),
        "to": str(to),
    }
    child = run_child(child_command(python, "quality.logits_child"), json.dumps(request), TIMEOUT_S)
    if child.returncode != 0:
        last = child.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise OlivineError(f"{folder} does not run under {python}: {last[0]}")
    versions: dict[str, str] = json.loads(child.stdout)
    return np.load(to), versions


def _exact_copy(folder: Path, scratch: Path) -> Path | None:
    """The graph with products in float32; None where it has no others."""
    name = str(GraphRun.decoder_of(folder)["filename"])
    model = onnx.load(folder / name, load_external_data=False)
    levels = [
        attribute
        for node in model.graph.node
        if node.op_type == _PRODUCTS
        for attribute in node.attribute
        if attribute.name == _LEVEL and attribute.i != _EXACT
    ]
    if not levels:
        return None
    for attribute in levels:
        attribute.i = _EXACT
    for file in folder.glob(f"{name}.*"):
        link_or_copy(file, scratch / file.name)
    (scratch / name).write_bytes(model.SerializeToString())
    return scratch / name
