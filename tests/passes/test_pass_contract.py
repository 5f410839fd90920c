"""The contract that every pass of both catalogs keeps."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from olivine.passes.base import (
    Axis,
    CheckpointPass,
    ConfigPass,
    ExportPass,
    GraphFilePass,
    GraphPass,
    Pass,
    Scalar,
    WiringPass,
)
from olivine.passes.catalog import GRAPH, LANGUAGE, Catalog
from olivine.passes.errors import UsageError
from olivine.passes.recipe import Recipe, Step

FORMS = (CheckpointPass, ExportPass, GraphPass, ConfigPass, WiringPass, GraphFilePass)
UNIFORM: dict[str, Scalar] = {
    "rotate": True,
    "precision": "int4",
    "activations": "int8",
    "dynamic_layers": "mlp_in",
    "embedding": "int8",
    "lm_head": "int8",
    "threads": 1,
    "prune_head": True,
}
MORE: tuple[dict[str, Scalar], ...] = (
    {"precision": "mixed"},
    {"precision": "as_it_came", "rotate": False},
    {"provider": "cuda"},
    {"embedding": "shared"},
    {"prune_head": False},
)
FUSED: dict[str, Scalar] = {"fusion_level": "full", "precision": "int8"}
#: Choices to start from: a pass that none of them takes is taken by another value of one of its own axes.
CHOICES: dict[Catalog, list[dict[str, Scalar]]] = {
    LANGUAGE: [UNIFORM, *({**UNIFORM, **more} for more in MORE)],
    GRAPH: [FUSED, {**FUSED, "activations": "dynamic"}],
}
#: Properties of a source.
PROPERTIES = {LANGUAGE: frozenset({"checkpoint", "codes"}), GRAPH: frozenset({"onnx"})}


@dataclass(frozen=True)
class Case:
    """A pass, and a choice that asks for it."""

    catalog: Catalog
    cls: type[Pass]
    choice: dict[str, Scalar]

    def make(self) -> Pass:
        made = self.cls.from_choice(self.catalog.canonical(self.choice))
        assert made is not None
        return made


def other_values(axis: Axis) -> list[Scalar]:
    """Values of an axis that are not its default."""
    values = axis.values or ((False, True) if axis.kind == "bool" else axis.bounds or ())
    return [value for value in values if value != axis.default]


def choice_of(catalog: Catalog, cls: type[Pass]) -> dict[str, Scalar]:
    """A choice that asks for the pass."""
    changes = [{}, *({axis.name: value} for axis in cls.axes for value in other_values(axis))]
    for change in changes:
        for start in CHOICES[catalog]:
            if cls.from_choice(catalog.canonical({**start, **change})) is not None:
                return {**start, **change}
    raise AssertionError(f"no choice asks for {cls.name}: add one to CHOICES")


CASES = [Case(catalog, cls, choice_of(catalog, cls)) for catalog in (LANGUAGE, GRAPH) for cls in catalog.passes]
every_pass = pytest.mark.parametrize("case", CASES, ids=lambda case: case.cls.__name__)
both_catalogs = pytest.mark.parametrize("catalog", [LANGUAGE, GRAPH], ids=["language", "graph"])


@every_pass
def test_parameters_survive_json(case: Case) -> None:
    recipe = case.catalog.compose(case.choice)
    (step,) = [step for step in recipe.steps if step.name == case.cls.name]
    alone = Recipe((step,), case.catalog.passes)
    through = case.catalog.recipe(json.loads(json.dumps(alone.to_json())))
    assert through.passes() == [case.make()]
    assert through.key == alone.key


@every_pass
def test_a_pass_has_one_of_the_six_forms_and_is_frozen(case: Case) -> None:
    one = case.make()
    assert sum(isinstance(one, form) for form in FORMS) == 1
    assert isinstance(one, GraphFilePass) == (case.catalog is GRAPH)
    assert hash(one) == hash(case.make())
    assert case.cls.__doc__


@every_pass
def test_a_pass_is_refused_where_its_requirements_do_not_hold(case: Case) -> None:
    one = case.make()
    assert one.refuse(one.requires) is None
    for missing in one.requires:
        reason = one.refuse(one.requires - {missing} | {"something"})
        assert reason is not None
        assert missing in reason
        assert one.name in reason


@every_pass
def test_requirements_are_added_by_earlier_passes(case: Case) -> None:
    properties = PROPERTIES[case.catalog]
    for step in case.catalog.compose(case.choice).passes():
        assert step.refuse(properties) is None
        properties = (properties - step.removes) | step.adds
        if isinstance(step, case.cls):
            assert step.adds <= properties
            return
    pytest.fail(f"{case.cls.name} is not in the recipe")


@every_pass
def test_axes_have_sound_defaults_and_words(case: Case) -> None:
    for axis in case.cls.axes:
        assert case.catalog.axes[axis.name] is axis
        assert axis.doc
        if axis.kind == "choice":
            assert axis.default in axis.values
            assert len(set(axis.values)) == len(axis.values)
        if axis.bounds is not None:
            assert axis.bounds[0] <= float(axis.default) <= axis.bounds[1]


#: What an axis needs beside it to have an effect on a 4-bit model.
BESIDE: dict[str, dict[str, str]] = {"dynamic_weights": {"activations": "int8", "activation_range": "token"}}


@pytest.mark.parametrize("case", [case for case in CASES if case.catalog is LANGUAGE], ids=lambda c: c.cls.__name__)
def test_values_that_learn_from_text_are_declared(case: Case) -> None:
    """A study keeps calibration text when its space has such a value, so a pass has to declare them all."""
    for axis in case.cls.axes:
        for value in axis.values:
            choice = LANGUAGE.canonical({"precision": "int4", **BESIDE.get(axis.name, {}), axis.name: value})
            assert (value in axis.calibrated) == LANGUAGE.compose(choice).needs_calibration


def test_defaults_ask_for_a_float_model_and_its_session_options() -> None:
    assert [step.name for step in LANGUAGE.compose({}).steps] == ["export", "session_options"]
    assert [step.name for step in GRAPH.compose({}).steps] == ["session_options"]


@every_pass
def test_a_choice_in_canonical_form_is_its_own_canonical_form(case: Case) -> None:
    full = case.catalog.canonical(case.choice)
    assert case.catalog.canonical(full) == full
    assert case.catalog.compose(full) == case.catalog.compose(case.choice)


@both_catalogs
def test_an_unknown_pass_of_a_recipe_is_named(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match=r"Unknown pass 'weight_onlyy'\. Did you mean 'weight_only'\?"):
        Recipe((Step("weight_onlyy", "{}"),), catalog.passes).passes()


@both_catalogs
def test_a_catalog_names_each_pass_and_each_axis_once(catalog: Catalog) -> None:
    names = [cls.name for cls in catalog.passes]
    axes = [axis.name for cls in catalog.passes for axis in cls.axes]
    assert len(set(names)) == len(names)
    assert len(set(axes)) == len(axes)
