from __future__ import annotations

import copy
from typing import Any

import pytest

from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import PassRefused
from olivine.passes.transforms.context_length import ContextLength

CONFIG: dict[str, Any] = {"model": {"context_length": 256, "decoder": {}}, "search": {"max_length": 256, "top_k": 50}}


def test_generators_end_at_the_context_and_nothing_else_changes() -> None:
    before = copy.deepcopy(CONFIG)
    edited = ContextLength(64).edited(CONFIG)
    assert before == CONFIG
    assert edited == {**CONFIG, "search": {"max_length": 64, "top_k": 50}}


def test_a_context_longer_than_the_models_is_refused() -> None:
    with pytest.raises(PassRefused, match="300 tokens; the model takes 256"):
        ContextLength(300).edited(CONFIG)


def test_a_choice_without_a_context_makes_the_recipe_that_it_always_made() -> None:
    choice = {"precision": "int8", "threads": 2}
    assert LANGUAGE.compose({**choice, "context": 0}) == LANGUAGE.compose(choice)
    assert "context" not in LANGUAGE.canonical(choice)
    (step,) = [step for step in LANGUAGE.compose({**choice, "context": 64}).steps if step.name == "context_length"]
    assert step.params == {"tokens": 64}
