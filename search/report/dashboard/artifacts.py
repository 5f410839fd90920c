"""The files that the dashboard shows beside a trial: its record, its build request and answer, its log."""

from __future__ import annotations

import hashlib
import json
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivine.search.study_dir import StudyDir

if TYPE_CHECKING:
    import optuna
    from optuna.artifacts import FileSystemArtifactStore


def artifact_store(study_dir: StudyDir) -> FileSystemArtifactStore:
    """The store below the study folder."""
    from optuna.artifacts import FileSystemArtifactStore

    folder = study_dir.root / "artifacts"
    folder.mkdir(exist_ok=True)
    return FileSystemArtifactStore(folder)


def trial_files(study_dir: StudyDir, number: int) -> list[Path]:
    """Whatever the folder has about one trial."""
    requests = study_dir.root / "requests"
    candidates = [
        study_dir.root / "trials" / f"{number:04d}.json",
        requests / f"{number:04d}.request.json",
        requests / f"{number:04d}.response.json",
        requests / f"{number:04d}.log",
    ]
    return [path for path in candidates if path.is_file()]


def attach(
    study: optuna.Study, present: Mapping[str, Any], trial_id: int, files: Sequence[Path], study_dir: StudyDir
) -> None:
    """Store a trial's files and list them with the trial; a file that is there already is replaced.

    ``optuna.artifacts.upload_artifact`` refuses trials that have ended, so the entry goes into the study's
    attributes, where the dashboard looks as well.

    Args:
        study: the study.
        present: its system attributes as they are.
        trial_id: Optuna's id of the trial, which is not its number.
        files: what :func:`trial_files` found.
        study_dir: the study's folder.
    """
    store = artifact_store(study_dir)
    for path in files:
        # The same name gives the same id, so that publishing again replaces; ids are hex digits and dashes.
        artifact_id = hashlib.sha256(f"{trial_id}/{path.name}".encode()).hexdigest()[:32]
        with path.open("rb") as stream:
            store.write(artifact_id, stream)
        entry: dict[str, Any] = {
            "artifact_id": artifact_id,
            "filename": path.name,
            "mimetype": mimetypes.guess_type(path.name)[0] or "text/plain",
            "encoding": None,
        }
        key = f"dashboard:artifacts:{trial_id}:{artifact_id}"
        if present.get(key) != json.dumps(entry):
            study._storage.set_study_system_attr(study._study_id, key, json.dumps(entry))
