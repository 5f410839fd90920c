"""Recipes, run to their front on tiny checkpoints: here two that differ most, all of them by ``make recipes``."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_recipes import FAMILIES, run_recipe, tiny_study

from olivine.search.config.load import load_config
from olivine.search.planning.ready_studies import ReadyStudy, ready_studies

RECIPES = {recipe.name: recipe for recipe in ready_studies()}


def test_every_family_has_a_tiny_checkpoint() -> None:
    assert {name.partition("/")[0] for name in RECIPES} == set(FAMILIES)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=str)
def test_the_tiny_study_is_the_recipe_but_for_its_size(recipe: ReadyStudy, tmp_path: Path) -> None:
    tiny, real = tiny_study(recipe, tmp_path, tmp_path / "text.txt"), load_config(recipe.path)
    assert set(tiny.space) == set(real.space)
    kept = {axis for axis in real.space if axis not in ("provider", "precision")}
    assert all(tiny.space[axis] == real.space[axis] for axis in kept)
    assert (tiny.objectives, tiny.sampler, tiny.seed) == (real.objectives, real.sampler, real.seed)
    assert tiny.enqueue[-1] == real.enqueue[-1]


@pytest.mark.recipes
@pytest.mark.parametrize("name", ["gemma/cpu", "phi/cuda"])
def test_a_recipe_runs_from_checkpoint_to_verified_export(name: str, tmp_path: Path, olivine_cache: Path) -> None:
    outcome = run_recipe(RECIPES[name], tmp_path)
    assert outcome.failure == ""
    assert [record.state for record in outcome.records] == ["complete"] * 2
    assert outcome.front >= 1
