"""Verify: an exported folder is what its manifest says, loads in a fresh process, and predicts as it did."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from olivine.passes.errors import OlivineError, UsageError
from olivine.search.export.folder import FORMAT, MANIFEST, card_table, file_table, negative_log_likelihood
from olivine.search.export.graph_folder import KIND, TOLERANCE, VerifiedGraph, distance_now

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
    """

    files: int
    nll: float
    expected_nll: float


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
    check = manifest["check"]
    nll = negative_log_likelihood(folder, check["tokens"])
    if not abs(nll - check["nll"]) <= TOLERANCE_NATS:
        raise VerifyFailed(
            f"{folder} predicts the check text at {nll:.4f} nats a token; at export it was {check['nll']:.4f}. "
            "The files are intact, so this machine or its ONNX Runtime computes differently"
        )
    return Verified(len(expected), nll, check["nll"])
