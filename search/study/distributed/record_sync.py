"""Carry the records of workers to the study folder: it is shared, or they meet below a URL that fsspec knows.

Below a URL (``s3://bucket/studies/mine``, ``file:///mnt/...``) lie the same names as in the folder:
``trials/0007.json`` of ended trials, ``handover/0007.json`` of those that wait for another role.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olivine.passes.errors import UsageError
from olivine.passes.store.atomic_files import write_atomic
from olivine.search.records import TrialRecord
from olivine.search.study_dir import StudyDir

_TRIALS, _HANDOVER = "trials", "handover"


@dataclass
class RecordSync:
    """The records of one study, as its workers share them.

    Attributes:
        folder: this worker's study folder.
        url: where records meet if the folder is not shared; empty where it is.
    """

    folder: StudyDir
    url: str = ""
    _known: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Open the file system behind the URL."""
        self._fs: Any = None
        self._base = ""
        if self.url:
            self._fs, self._base = _filesystem(self.url)

    def adopt(self, records: Iterable[TrialRecord]) -> None:
        """Records that are known already; the others get to see them."""
        for record in records:
            self._known.add(record.number)
            if self.url and not self._fs.exists(self._place(_TRIALS, record.number)):
                self._send(_TRIALS, record)

    def write(self, record: TrialRecord) -> None:
        """Keep the record of an ended trial, for everybody."""
        self._known.add(record.number)
        self.folder.write_trial(record)
        if self.url:
            self._send(_TRIALS, record)

    def take_back(self, number: int) -> None:
        """Remove the record of a trial that was given to another worker meanwhile."""
        self._known.discard(number)
        (self.folder.root / _TRIALS / _name(number)).unlink(missing_ok=True)
        if self.url and self._fs.exists(place := self._place(_TRIALS, number)):
            self._fs.rm_file(place)

    def record(self, number: int) -> TrialRecord | None:
        """The record of one trial, if it was written."""
        if self.url:
            self._fetch()
        path = self.folder.root / _TRIALS / _name(number)
        return TrialRecord.from_json(json.loads(path.read_text())) if path.is_file() else None

    def new_records(self) -> list[TrialRecord]:
        """Records that have come since the last call, by number; those below the URL are copied into the folder."""
        if self.url:
            self._fetch()
        records = []
        for path in sorted((self.folder.root / _TRIALS).glob("[0-9]*.json")):
            if int(path.stem) not in self._known:
                records.append(TrialRecord.from_json(json.loads(path.read_text())))
                self._known.add(int(path.stem))
        return records

    def hand_over(self, record: TrialRecord) -> None:
        """Keep what is known of a trial that another role goes on with."""
        write_atomic(self.folder.root / _HANDOVER / _name(record.number), json.dumps(record.to_json()))
        if self.url:
            self._send(_HANDOVER, record)

    def handed_over(self, number: int) -> TrialRecord:
        """Read what another role has recorded of a trial."""
        if self.url:
            return TrialRecord.from_json(json.loads(self._fs.cat_file(self._place(_HANDOVER, number))))
        return TrialRecord.from_json(json.loads((self.folder.root / _HANDOVER / _name(number)).read_text()))

    def _send(self, kind: str, record: TrialRecord) -> None:
        place = self._place(kind, record.number)
        self._fs.makedirs(place.rpartition("/")[0], exist_ok=True)
        if "file" in _protocols(self._fs):
            write_atomic(Path(place), json.dumps(record.to_json()))  # object stores write whole objects anyway
        else:
            self._fs.pipe_file(place, json.dumps(record.to_json()).encode())

    def _fetch(self) -> None:
        here = self.folder.root / _TRIALS
        here.mkdir(exist_ok=True, parents=True)
        folder = self._place(_TRIALS, None)
        if not self._fs.exists(folder):
            return
        self._fs.invalidate_cache(folder)
        for place in self._fs.ls(folder, detail=False):
            name = place.rpartition("/")[2]
            if name.endswith(".json") and not (here / name).exists():
                write_atomic(here / name, self._fs.cat_file(place).decode())

    def _place(self, kind: str, number: int | None) -> str:
        return f"{self._base}/{kind}" + ("" if number is None else f"/{_name(number)}")


def _name(number: int) -> str:
    return f"{number:04d}.json"


def _filesystem(url: str) -> tuple[Any, str]:
    """The file system behind a URL, and the path in it.

    Raises:
        UsageError: when fsspec knows no such URL, or the package for it is missing.
    """
    import fsspec

    try:
        fs, base = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(f"--artifacts {url}: {error}. Give a folder, or a URL such as s3://bucket/path.") from error
    return fs, str(base).rstrip("/")


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
