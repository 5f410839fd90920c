"""Ready recipes: each is a valid study with a header, says that it never met the real weights, and ships."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from olivine.passes.errors import UsageError
from olivine.search.cli.main import main
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import load_config
from olivine.search.config.schema import json_schema
from olivine.search.planning.ready_studies import ReadyStudy, ready_studies

ROOT = Path(__file__).parents[3]
RECIPES = ready_studies()
FAMILIES = ("deepseek", "gemma", "llama", "mistral", "phi", "qwen")


def test_every_family_has_a_recipe_for_a_cpu_and_for_a_gpu() -> None:
    assert [recipe.name for recipe in RECIPES] == [
        f"{family}/{device}" for family in FAMILIES for device in ("cpu", "cuda")
    ]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_is_a_valid_study_with_an_honest_header(recipe: ReadyStudy) -> None:
    config = load_config(recipe.path)
    assert config.name == recipe.name.replace("/", "-")
    assert config.asked_providers() == (recipe.name.partition("/")[2],)
    assert config.enqueue
    text = recipe.path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=../../schema.json\n")
    header = [line[1:] for line in text.splitlines() if line.startswith("#")]
    words = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in header if ":" in line}
    assert all(words.get(word) for word in ("Purpose", "Assumptions", "Time", "Command"))
    assert "never run on the real weights" in words["Time"]
    assert f"configs/recipes/{recipe.name}.yaml" in words["Command"]
    assert (
        list(jsonschema.Draft202012Validator(json_schema(LanguageStudyConfig)).iter_errors(yaml.safe_load(text))) == []
    )


def test_they_are_listed_shown_and_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "list"]) == 0
    said = capsys.readouterr().out
    assert all(recipe.name in said for recipe in RECIPES)
    assert main(["recipes", "show", "qwen/cpu"]) == 0
    assert "model: Qwen/" in capsys.readouterr().out
    to = tmp_path / "mine.yaml"
    assert main(["recipes", "copy", "qwen/cpu", "--to", str(to)]) == 0
    assert load_config(to).name == "qwen-cpu"
    assert main(["recipes", "copy", "qwen/cpu", "--to", str(to)]) == 2
    assert main(["recipes", "show", "qwen/cpuu"]) == 2
    assert "Did you mean 'qwen/cpu'?" in capsys.readouterr().err


def test_a_wheel_brings_them_beside_its_packages(tmp_path: Path) -> None:
    setuptools: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "olivine.recipes" in setuptools["packages"]
    assert setuptools["package-dir"]["olivine.recipes"] == "configs/recipes"
    assert setuptools["package-data"]["olivine.recipes"] == ["*/*.yaml"]
    (tmp_path / "phi").mkdir()
    (tmp_path / "phi" / "cpu.yaml").write_text("# Purpose: p\n")
    assert [recipe.purpose for recipe in ready_studies((tmp_path / "none", tmp_path))] == ["p"]
    with pytest.raises(UsageError, match="no recipes"):
        ready_studies((tmp_path / "none",))
