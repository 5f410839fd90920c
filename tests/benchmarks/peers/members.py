"""olivine's members: the recipes of ``members.yaml``, built and exported as ``olivine build`` does it."""

from __future__ import annotations

from pathlib import Path

import yaml

from olivine.evaluators.peers.rivals import genai
from olivine.evaluators.peers.rows import OLIVINE, Row
from olivine.search.builds.calibration_text import CalibrationText
from olivine.search.planning.build_one import BuildRequest, build_one

LIST = Path(__file__).parent / "members.yaml"


def recipes(path: Path = LIST) -> dict[str, dict[str, str]]:
    """Name -> axis -> value as a command line gives it."""
    listed = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)
    return {name: {**listed["shared"], **axes} for name, axes in listed["members"].items()}


def rows(model: str, work: Path, threads: int, build: bool) -> list[Row]:
    """Every member as a row.

    Args:
        model: as ``model:`` of a study takes it.
        work: where the folders are kept.
        threads: of the engine.
        build: export all of them anew; what the cache of builds holds is taken from there.
    """
    found = []
    for name, axes in recipes().items():
        folder = work / "olivine-{}".format("".join(c if c.isalnum() else "-" for c in name))
        if build:
            print(f"building {name}", flush=True)
            request = BuildRequest(model, {**axes, "threads": str(threads)}, calibration=CalibrationText())
            build_one(request, folder, force=True)
        found.append(Row(OLIVINE, name, folder, genai(folder, threads)))
    return found
