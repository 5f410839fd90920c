"""StudyDir: the files of a study folder, by name and content.

``trials/0007.json`` is written once, when its trial ends, whatever its state; everything that is shown later
(table, front, report, dashboard) can be made from these files alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

from olivine.passes.errors import UsageError
from olivine.passes.store.atomic_files import write_atomic
from olivine.search.records import StudyOutcome, TrialRecord

#: Of a study folder; raised whenever an older olivine could misread what a newer one writes.
FORMAT = 1

#: Longest wait for a study folder that somebody looks at.
LOCK_WAIT_S = 0.2
#: The record of the base in a study folder.
BASE = "trials/0000.json"


@dataclass(frozen=True)
class _In:
    """A path below the root of the study that it is read from."""

    name: str

    def __get__(self, study: StudyDir, owner: type[StudyDir]) -> Path:
        return study.root / self.name


@dataclass(frozen=True)
class StudyDir:
    """A study folder."""

    root: Path

    #: The resolved config.
    config_path = _In("config.yaml")
    #: Format of the folder, and the version that wrote it: {format, olivine}.
    format_path = _In("format.json")
    #: Hardware, versions, threads.
    environment_path = _In("environment.json")
    #: Optuna's RDB storage.
    database_path = _In("study.db")
    #: The base's own times over the study.
    base_times_path = _In("base_times.json")
    #: Times of kernels, and the kernels that are therefore not proposed.
    kernels_path = _In("kernels.json")
    #: The confirmed Pareto front: a row per member.
    front_path = _In("front.csv")
    #: The :class:`StudyOutcome`.
    selection_path = _In("selection.json")
    #: The self-contained report.
    report_path = _In("report.html")
    #: The exported selection beside other engines' models, where they were asked for.
    peers_path = _In("peers.json")
    #: These models, and all that was measured of them.
    peers_work = _In("peers")
    #: The exported selection.
    best_path = _In("best")

    @property
    def database_url(self) -> str:
        """URL of the database, with the path encoded as SQLAlchemy 2.1 reads it: it may hold ``?`` and ``%20``."""
        return f"sqlite:///{quote(os.fsencode(self.database_path.resolve()))}"

    @classmethod
    def open(cls, root: Path) -> StudyDir:
        """An existing study folder.

        Raises:
            UsageError: when the folder is none, or of a version that this one can't read.
        """
        study = cls(root)
        if not study.config_path.is_file():
            raise UsageError(f"{root} is no study folder: it has no config.yaml. 'olivine run CONFIG' makes one.")
        study.check_format()
        return study

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process alone; the lock ends with it, however it ends.

        Raises:
            UsageError: when another process holds it.
        """
        with (self.root / ".lock").open("a+") as lock:
            if not _try_lock(lock, LOCK_WAIT_S):
                raise self._held()
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {platform.node()}")
            lock.flush()
            yield

    def is_locked(self) -> bool:
        """True while a process of this machine runs the study."""
        path = self.root / ".lock"
        if not path.is_file():
            return False
        with path.open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def check_free(self) -> None:
        """Refuse a folder that a process of this machine runs.

        Raises:
            UsageError: naming the process.
        """
        if self.is_locked():
            raise self._held()

    def _held(self) -> UsageError:
        holder = (self.root / ".lock").read_text(encoding="utf-8").strip() or "another process"
        return UsageError(f"{self.root} is being run by {holder}; wait for it, or give --out another folder")

    def check_format(self) -> None:
        """Refuse a folder that a newer olivine wrote; the first versions wrote format 1 without saying so.

        Raises:
            UsageError: naming the version that reads it.
        """
        if not self.format_path.is_file():
            return
        content = _parsed(self.format_path)
        if int(content["format"]) > FORMAT:
            raise UsageError(
                f"{self.root} is a study of format {content['format']}, written by olivine {content['olivine']}; this "
                f"olivine {version('olivine')} reads formats up to {FORMAT}. Open it with olivine "
                f"{content['olivine']} or newer."
            )

    def write_format(self) -> None:
        """Say which version reads this folder."""
        write_atomic(self.format_path, json.dumps({"format": FORMAT, "olivine": version("olivine")}))

    def trial_path(self, number: int) -> Path:
        """The record of one trial."""
        return self.root / "trials" / f"{number:04d}.json"

    def write_trial(self, record: TrialRecord) -> None:
        """Write the record of an ended trial."""
        write_atomic(self.trial_path(record.number), json.dumps(record.to_json(), indent=1))

    def trial(self, number: int) -> TrialRecord:
        """The record of one trial.

        Raises:
            UsageError: when the study has none of that number.
        """
        records = {record.number: record for record in self.trials()}
        if number not in records:
            known = f"{min(records)} to {max(records)}" if records else "none"
            raise UsageError(f"{self.root} has no trial {number}; it has {known}")
        return records[number]

    def trials(self) -> list[TrialRecord]:
        """All records, by number."""
        paths = sorted((self.root / "trials").glob("[0-9]*.json"))
        return [TrialRecord.from_json(_parsed(path)) for path in paths]

    def environment(self) -> dict[str, Any]:
        """The parsed environment.json; empty where there is none."""
        return _parsed(self.environment_path) if self.environment_path.is_file() else {}

    def model(self) -> dict[str, Any]:
        """The model in environment.json: {name, kind, revision, key, ...}; empty where it says nothing."""
        model: dict[str, Any] = self.environment().get("model", {})
        return model

    def outcome(self) -> StudyOutcome:
        """The end of the study; all of it empty where the study has not ended."""
        path = self.selection_path
        return StudyOutcome.from_json(_parsed(path)) if path.is_file() else StudyOutcome()

    def write_outcome(self, outcome: StudyOutcome) -> None:
        """Write selection.json."""
        write_atomic(self.selection_path, json.dumps(outcome.to_json(), indent=1))

    def masked_kernels(self) -> tuple[str, ...]:
        """A sentence for each kernel that is not proposed, or why none is masked; and for what can't fit the memory."""
        if not self.kernels_path.is_file():
            return ()
        masks = _parsed(self.kernels_path)
        reasons = tuple(str(cliff["reason"]) for cliff in masks["cliffs"])
        memory = (str(masks["memory"]["reason"]),) if masks.get("memory") else ()
        return (*(reasons or ((masks["note"],) if masks["note"] else ())), *memory)


def _try_lock(lock: TextIO, wait_s: float) -> bool:
    """Take a lock of its own on an open file; another look at the file, by :meth:`StudyDir.is_locked`, is over soon."""
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(wait_s / 10)
        else:
            return True


def _parsed(path: Path) -> dict[str, Any]:
    """The JSON object in a file of the study.

    Raises:
        UsageError: when it is damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text at all
        cure = "Move it out of the study folder; what it held is measured again."
        if path.match(BASE):
            cure = (
                "It is the record of the base, which all others were compared with: put back a copy, or begin the "
                "study anew in another folder."
            )
        raise UsageError(f"{path} is damaged ({error}). {cure}") from error
    return content
