"""configs/README.md names every axis, every section and every file that there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from olivine.passes.catalog import GRAPH, LANGUAGE, Catalog
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.sections import StudyConfig

CONFIGS = Path(__file__).parents[3] / "configs"
WORDS = set(re.findall(r"[A-Za-z0-9_]+", " ".join(re.findall(r"`([^`]+)`", (CONFIGS / "README.md").read_text()))))


@pytest.mark.parametrize("catalog", [LANGUAGE, GRAPH], ids=["language", "graph"])
def test_every_axis_is_there(catalog: Catalog) -> None:
    assert set(catalog.axes) <= WORDS


@pytest.mark.parametrize("config", [LanguageStudyConfig, GraphStudyConfig])
def test_every_section_is_there(config: type[StudyConfig]) -> None:
    assert set(config.model_fields) - {"space"} <= WORDS


def test_every_study_is_listed() -> None:
    page = (CONFIGS / "README.md").read_text()
    assert [path.name for path in CONFIGS.glob("*.yaml") if f"`{path.name}`" not in page] == []
