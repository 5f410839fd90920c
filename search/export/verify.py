"""Verify: an exported folder is what its manifest says, loads in a fresh process, and predicts as it did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from olivine.passes.errors import OlivineError, UsageError
from olivine.search.export.folder import FORMAT, MANIFEST, card_table, file_table
from olivine.search.export.graph_folder import KIND, TOLERANCE, VerifiedGraph, distance_now
from olivine.search.export.likelihood import negative_log_likelihood

#: Kernels differ between processors; int8 arithmetic moves the likelihood by less than this.
TOLERANCE_NATS = 0.02


class VerifyFailed(OlivineError):
    """The folder is not what was exported; the message names the files."""


@dataclass(frozen=True)
class Verified:
    """Result of the checks.

    Attributes:
        files: number of files whose SHA-256 agrees.
        nll: mean negative log-likelihood now, in nats per token.
        expected_nll: the same at export.
        adapters: name of each adapter -> the first number with it active.
    """

    files: int
    nll: float
    expected_nll: float
    adapters: Mapping[str, float] = field(default_factory=dict)


def verify_folder(folder: Path) -> Verified | VerifiedGraph:
    """Check hashes, then run the model, or the plain graph.

    Raises:
        UsageError: when the folder has no manifest.
        VerifyFailed: when a file changed, is missing or was added, or the model predicts differently.
        ModelProcessFailed: when the model does not run.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UsageError(f"{folder} has no {MANIFEST}: it was not exported by olivine, or only in part")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("format") != FORMAT:
        raise UsageError(f"{path} has format {manifest.get('format')}; this version reads format {FORMAT}")
    expected = manifest["files"] | manifest.get("card", {})  # folders of the first versions have no card
    files = file_table(folder) | card_table(folder)
    problems = [f"{name} is missing" for name in expected if name not in files]
    problems += [f"{name} was added" for name in files if name not in expected]
    problems += [
        f"{name} was changed (SHA-256 {files[name]['sha256'][:12]}..., exported as {about['sha256'][:12]}...)"
        for name, about in expected.items()
        if name in files and files[name]["sha256"] != about["sha256"]
    ]
    if problems:
        raise VerifyFailed(f"{folder} is not what was exported:\n" + "\n".join(f"  {p}" for p in problems))
    if manifest.get("kind") == KIND:
        distance = distance_now(folder)
        if not distance <= TOLERANCE:
            raise VerifyFailed(
                f"{folder} gives an output whose cosine distance from the one at export is {distance:.4g}. The files "
                "are intact, so this machine or its ONNX Runtime computes differently"
            )
        return VerifiedGraph(len(expected), distance)
    check, adapters = manifest["check"], manifest.get("adapters", {})
    found = {name: _predicts(folder, check["tokens"], about["nll"], name) for name, about in adapters.items()}
    nll = _predicts(folder, check["tokens"], check["nll"])
    return Verified(len(expected), nll, check["nll"], found)


def _predicts(folder: Path, tokens: list[int], expected: float, adapter: str | None = None) -> float:
    """Nats a token at which the model predicts the check text, maybe with an adapter.

    Raises:
        VerifyFailed: when it is not what it was.
    """
    nll = negative_log_likelihood(folder, tokens, adapter=adapter)
    if not abs(nll - expected) <= TOLERANCE_NATS:
        active = f" with adapter '{adapter}'" if adapter else ""
        raise VerifyFailed(
            f"{folder} predicts the check text{active} at {nll:.4f} nats a token; at export it was {expected:.4f}. "
            "The files are intact, so this machine or its ONNX Runtime computes differently"
        )
    return nll
