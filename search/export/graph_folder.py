"""Export and verification of a plain graph: a folder with model.onnx, its session options, a check and a manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.evaluators.process.client import ModelProcess
from olivine.passes.store.atomic_files import replace_folder, staging_folder
from olivine.search.export.folder import FORMAT, MANIFEST, file_table

#: Feeds and outputs of the exported graph, by which it is known again.
FEEDS, OUTPUTS = "check-inputs.npz", "check-outputs.npz"
#: Kernels differ between processors; a graph that is the same is nearer to itself than this.
TOLERANCE = 0.002
KIND = "plain"


def export_graph(folder: Path, to: Path, manifest: Mapping[str, Any], feeds: Path, process: Mapping[str, Any]) -> Path:
    """Copy a graph's folder, run it in a fresh process, write its manifest, and rename it into place.

    Args:
        folder: of the candidate.
        to: the folder to make.
        manifest: as :func:`olivine.search.export.manifest.make_manifest` makes it.
        feeds: file whose first feed is the check.
        process: options of the process that runs the graph, as :meth:`ModelProcess.start` takes them.

    Raises:
        ModelProcessFailed: when the copy does not run.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    with staging_folder(to.parent, to.name) as staging:
        shutil.copytree(folder, staging, dirs_exist_ok=True)
        shutil.copyfile(feeds, staging / FEEDS)
        with ModelProcess.open(staging, **process) as loaded:
            loaded.outputs(staging / FEEDS, 1, staging / OUTPUTS, None)
        whole = {"format": FORMAT, "kind": KIND, **manifest, "files": file_table(staging)}
        (staging / MANIFEST).write_text(json.dumps(whole, indent=1), encoding="utf-8")
        replace_folder(staging, to)
    return to


@dataclass(frozen=True)
class VerifiedGraph:
    """A check that passed.

    Attributes:
        files: number of files whose SHA-256 agrees.
        distance: cosine distance of the check's output from the one at export.
    """

    files: int
    distance: float


def distance_now(folder: Path) -> float:
    """Distance of the graph's output from the one at export, run in a fresh process.

    Raises:
        ModelProcessFailed: when it does not run.
    """
    with ModelProcess.open(folder, loop="graph") as loaded:
        return 1 - loaded.compare(folder / FEEDS, 0, folder / OUTPUTS, None, False).cosine
