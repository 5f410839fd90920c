from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olivine.passes.base import Axis, Scalar
from olivine.passes.catalog import LANGUAGE, read_recipe
from olivine.passes.errors import UsageError


def values(axis: Axis) -> st.SearchStrategy[Scalar]:
    if axis.kind == "choice":
        return st.sampled_from(axis.values)
    if axis.kind == "bool":
        return st.booleans()
    low, high = axis.bounds or (0, 1)
    return st.integers(int(low), int(high)) if axis.kind == "int" else st.floats(low, high)


#: Any values for any of the axes, whether they apply or not.
CHOICES = st.fixed_dictionaries({}, optional={name: values(axis) for name, axis in LANGUAGE.axes.items()})


@given(CHOICES)
def test_canonical_form_is_its_own_canonical_form(choice: dict[str, Scalar]) -> None:
    assert LANGUAGE.canonical(LANGUAGE.canonical(choice)) == LANGUAGE.canonical(choice)


@given(CHOICES)
def test_canonical_choice_gives_the_same_recipe(choice: dict[str, Scalar]) -> None:
    assert LANGUAGE.compose(LANGUAGE.canonical(choice)).key == LANGUAGE.compose(choice).key


@given(CHOICES)
def test_order_of_axes_does_not_matter(choice: dict[str, Scalar]) -> None:
    assert LANGUAGE.compose(dict(reversed(choice.items()))) == LANGUAGE.compose(choice)


@given(CHOICES)
def test_axes_that_do_not_apply_change_nothing(choice: dict[str, Scalar]) -> None:
    kept = LANGUAGE.canonical(choice)
    dropped = {name: value for name, value in choice.items() if name not in kept}
    assert LANGUAGE.compose(kept | dropped).key == LANGUAGE.compose(kept).key


@settings(max_examples=50)
@given(CHOICES)
def test_recipe_survives_a_round_trip_through_json(choice: dict[str, Scalar]) -> None:
    recipe = LANGUAGE.compose(choice)
    again = read_recipe(json.loads(json.dumps(recipe.to_json())))
    assert again == recipe
    assert again.key == recipe.key
    assert again.passes() == recipe.passes()


@given(CHOICES)
def test_steps_are_in_pipeline_order(choice: dict[str, Scalar]) -> None:
    order = [p.name for p in LANGUAGE.passes]
    places = [order.index(step.name) for step in LANGUAGE.compose(choice).steps]
    assert places == sorted(places)


def test_default_recipe_is_the_float_base() -> None:
    base = LANGUAGE.compose({})
    assert [step.name for step in base.steps] == ["export", "session_options"]
    assert base.steps[0].params["precision"] == "fp32"


def test_different_parameters_are_different_recipes() -> None:
    keys = {LANGUAGE.compose({"precision": p, "block_size": b}).key for p in ("int4", "int8") for b in (16, 32)}
    assert len(keys) == 4


def test_parameters_of_quantization_do_not_split_float_recipes() -> None:
    assert LANGUAGE.compose({"precision": "fp32", "block_size": 16}) == LANGUAGE.compose(
        {"precision": "fp32", "block_size": 32}
    )


def test_unknown_axis_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"Unknown axis 'blocksize'\. Did you mean 'block_size'"):
        LANGUAGE.canonical({"blocksize": 32})


def test_unknown_pass_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"Unknown pass 'exports'\. Did you mean 'export'"):
        LANGUAGE.recipe([{"name": "exports", "params": {}}]).passes()


@pytest.mark.parametrize("name", LANGUAGE.axes)
def test_default_of_an_axis_is_a_valid_value(name: str) -> None:
    axis: Any = LANGUAGE.axes[name]
    if axis.kind == "choice":
        assert axis.default in axis.values
    elif axis.kind == "bool":
        assert isinstance(axis.default, bool)
    else:
        assert axis.bounds is None or axis.bounds[0] <= axis.default <= axis.bounds[1]
    assert axis.doc
