"""Builds that machines without a common folder leave for each other, below a URL that fsspec knows.

One object per build, ``KEY.tar``, whole or absent. Only graphs are shared: checkpoints and calibration are large, and
the graphs that were made of them serve everybody. They save time and no more: where the store fails, a machine builds
for itself and says so in a warning.
"""

from __future__ import annotations

import json
import logging
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.passes.errors import UsageError
from olivine.passes.store.atomic_files import staging_folder
from olivine.passes.store.secrets import masked

LOG = logging.getLogger(__name__)

_FACTS = "holds.json"
_SHARED = "onnx"


@dataclass(frozen=True)
class SharedBuilds:
    """The builds below ``url``, such as ``s3://bucket/builds`` or ``file:///mnt/builds``."""

    url: str

    def fetch(self, key: str, to: Path) -> frozenset[str] | None:
        """Copy a build into the empty folder ``to``; the properties of it, or None where there is none to be had.

        Raises:
            UsageError: when the URL is none that fsspec knows.
        """
        try:
            return self._fetch(key, to)
        except UsageError:
            raise
        except Exception as error:  # each store raises its own, and the archive is a stranger's
            self._warn(f"build {key} can't be fetched, so it is built here", error)
            shutil.rmtree(to)
            to.mkdir()
            return None

    def leave(self, key: str, model: Path, properties: frozenset[str]) -> None:
        """Leave a build for the others, unless it is there already or no graph; or go on without, as it is finished."""
        try:
            self._leave(key, model, properties)
        except Exception as error:  # each store raises its own
            self._warn(f"build {key} can't be left for other machines", error)

    def _fetch(self, key: str, to: Path) -> frozenset[str] | None:
        fs, place = self._place(key)
        fs.invalidate_cache()
        if not fs.exists(place):
            return None
        with tempfile.TemporaryDirectory(dir=to.parent) as staging:
            packed = Path(staging) / "build.tar"
            fs.get_file(place, str(packed))
            with tarfile.open(packed) as archive:
                archive.extractall(to, filter="data")
        facts = to / _FACTS
        properties = frozenset(json.loads(facts.read_text()))
        facts.unlink()
        return properties

    def _leave(self, key: str, model: Path, properties: frozenset[str]) -> None:
        fs, place = self._place(key)
        if _SHARED not in properties or fs.exists(place):
            return
        fs.makedirs(place.rpartition("/")[0], exist_ok=True)
        with staging_folder(model.parents[2] / "scratch", "share") as staging:
            packed, facts = staging / "build.tar", staging / _FACTS
            facts.write_text(json.dumps(sorted(properties)))
            with tarfile.open(packed, "w") as archive:
                archive.add(facts, _FACTS)
                for file in sorted(path for path in model.rglob("*") if path.is_file()):
                    archive.add(file, file.relative_to(model).as_posix())
            half = f"{place}.{staging.name}"  # an object store's put is whole or absent; a folder's copy is not
            fs.put_file(str(packed), half)
            fs.mv(half, place)

    def _warn(self, what: str, error: Exception) -> None:
        LOG.warning("cache.shared: %s", masked(f"{self.url}: {what}: {type(error).__name__}: {error}"))

    def _place(self, key: str) -> tuple[Any, str]:
        import fsspec

        try:
            fs, base = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise UsageError(f"cache.shared: {self.url}: {error}. Give a URL such as s3://bucket/builds.") from error
        return fs, f"{str(base).rstrip('/')}/{key}.tar"
