"""Export and verification of a plain graph: a folder with model.onnx, its session options, a check and a manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.evaluators.process.client import ModelProcess
from olivine.passes.errors import UsageError
from olivine.passes.graphs.source import GRAPH_FILE
from olivine.passes.store.atomic_files import replace_folder, staging_folder
from olivine.search.export.folder import FORMAT, MANIFEST, file_table

#: Feeds and outputs of the exported graph, by which it is known again.
FEEDS, OUTPUTS = "check-inputs.npz", "check-outputs.npz"
#: Kernels differ between processors; a graph that is the same is nearer to itself than this.
TOLERANCE = 0.002
KIND = "plain"


def export_plain(
    folder: Path, to: Path, about: Mapping[str, Any], feeds: Path, force: bool, process: Mapping[str, Any]
) -> Path:
    """Copy a graph's folder, run it in a fresh process, write its manifest, and rename it into place.

    Args:
        folder: of the candidate.
        to: the folder to make.
        about: what the manifest says beside the files.
        feeds: file whose first feed is the check.
        force: whether an existing folder is replaced.
        process: how the graph is run, as :meth:`ModelProcess.start` takes it.

    Raises:
        UsageError: when ``to`` exists and ``force`` is not given, or is no folder of a model.
        ModelProcessFailed: when the copy does not run.
    """
    if to.exists() and not force:
        raise UsageError(f"{to} exists already; give another folder, or --force to replace it")
    if to.exists() and (not to.is_dir() or (any(to.iterdir()) and not (to / GRAPH_FILE).is_file())):
        raise UsageError(f"{to} is no folder of a graph, so --force does not replace it")
    to.parent.mkdir(parents=True, exist_ok=True)
    with staging_folder(to.parent, to.name) as aside:
        shutil.copytree(folder, aside, dirs_exist_ok=True)
        shutil.copyfile(feeds, aside / FEEDS)
        with ModelProcess.open(aside, **process) as loaded:
            loaded.outputs(aside / FEEDS, 1, aside / OUTPUTS, None)
        manifest = {"format": FORMAT, **about, "files": file_table(aside)}
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        replace_folder(aside, to)
    return to


@dataclass(frozen=True)
class VerifiedGraph:
    """Result of the checks.

    Attributes:
        files: number of files whose SHA-256 agrees.
        distance: cosine distance of the check's output from the one at export.
    """

    files: int
    distance: float


def distance_now(folder: Path) -> float:
    """Distance of the graph's output to the one at export, run in a fresh process.

    Raises:
        ModelProcessFailed: when it does not run.
    """
    with ModelProcess.open(folder, loop="graph") as loaded:
        return 1 - loaded.compare(folder / FEEDS, 0, folder / OUTPUTS, None, False).cosine
