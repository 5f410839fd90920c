from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olivine.passes.base import Axis, Pass, Scalar
from olivine.passes.catalog import LANGUAGE, Catalog
from olivine.passes.errors import did_you_mean
from olivine.search.config.space import Domain, Space, parse_space
from olivine.search.config.space_mistakes import choice_mistakes, space_mistakes


class Shares(Pass):
    """A pass with a float axis that always exists."""

    axes = (Axis("int8_share", "float", 0.5, "share of layers", bounds=(0.0, 1.0)),)


SHARES = Catalog((Shares,))


class Drawer:
    """Draws at random, and notes what it was asked."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.asked: list[str] = []

    def suggest_categorical(self, name: str, choices: tuple[Scalar, ...]) -> Any:
        self.asked.append(name)
        return self._random.choice(choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        self.asked.append(name)
        return self._random.randrange(low, high + 1, step)

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None) -> float:
        self.asked.append(name)
        if step is None:
            return self._random.uniform(low, high)
        return low + step * self._random.randint(0, int((high - low) / step + 1e-9))


@st.composite
def raw_spaces(draw: st.DrawFn, most: int = len(LANGUAGE.axes)) -> dict[str, list[Scalar]]:
    """Spaces over at most so many axes with few values, whether or not every axis is reached."""
    raw: dict[str, list[Scalar]] = {}
    named = draw(st.sets(st.sampled_from([name for name in LANGUAGE.axes if name != "provider"]), max_size=most))
    for name, axis in LANGUAGE.axes.items():
        values = list(axis.values) or ([True, False] if axis.kind == "bool" else [1, 2, 4])
        if name in named:
            raw[name] = draw(st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True))
    return raw


def product(raw: Mapping[str, list[Scalar]]) -> list[dict[str, Scalar]]:
    """Distinct canonical choices by brute force, in the order of the full product."""
    found: list[dict[str, Scalar]] = []
    names = [name for name in LANGUAGE.axes if name in raw]
    for values in itertools.product(*(raw[name] for name in names)):
        choice = LANGUAGE.canonical(dict(zip(names, values, strict=True)))
        if choice not in found:
            found.append(choice)
    return found


@settings(deadline=None, max_examples=40)
@given(raw=raw_spaces(most=7))
def test_enumeration_is_the_product_without_duplicates(raw: dict[str, list[Scalar]]) -> None:
    choices = parse_space(raw, LANGUAGE).enumerate()
    assert choices is not None
    assert list(choices) == product(raw)


@settings(deadline=None, max_examples=60)
@given(raw=raw_spaces(), seed=st.integers(0, 2**32 - 1))
def test_a_suggestion_is_canonical_and_within_the_space(raw: dict[str, list[Scalar]], seed: int) -> None:
    space, drawer = parse_space(raw, LANGUAGE), Drawer(seed)
    choice = space.suggest(drawer)
    assert LANGUAGE.canonical(choice) == choice
    assert space.contains(choice)
    exist = [name for name, axis in LANGUAGE.axes.items() if name in choice or (axis.later and axis.applies(choice))]
    assert drawer.asked == [name for name in exist if name in space.searched]


@settings(deadline=None, max_examples=40)
@given(raw=raw_spaces(most=7))
def test_an_axis_is_reached_where_some_choice_has_it(raw: dict[str, list[Scalar]]) -> None:
    choices = product(raw)
    unnamed = {
        name for name, axis in LANGUAGE.axes.items() if name in raw and axis.later and any(map(axis.applies, choices))
    }
    assert parse_space(raw, LANGUAGE).reached() == {name for choice in choices for name in choice} | unnamed


@pytest.mark.parametrize("name", LANGUAGE.axes)
def test_every_axis_is_reached_by_some_choice(name: str) -> None:
    everything = {n: list(a.values) or [a.default] for n, a in LANGUAGE.axes.items()}
    assert name in parse_space(everything, LANGUAGE).reached()


@pytest.mark.timeout(60)  # the full product would take hours
def test_a_huge_space_is_checked_without_walking_through_it() -> None:
    """All values of all axes: tens of millions of choices."""
    raw: dict[str, Any] = {n: list(a.values) or [True, False] for n, a in LANGUAGE.axes.items() if a.bounds is None}
    raw |= {
        n: {"low": a.bounds[0], "high": a.bounds[1]} for n, a in LANGUAGE.axes.items() if a.kind == "float" and a.bounds
    }
    raw |= {"threads": {"low": 1, "high": 64}, "provider": ["cpu", "cuda"], "precision": ["int4", "mixed"]}
    raw |= {n: a.default for n, a in LANGUAGE.axes.items() if a.base_inherits}
    assert space_mistakes(raw, LANGUAGE) == []


def test_what_decides_about_an_axis_is_found() -> None:
    space = parse_space(
        {"precision": ["fp32", "int4"], "algorithm": ["k_quant", "rtn"], "symmetric": [True, False]}, LANGUAGE
    )
    assert space.deciding("symmetric") == ("precision", "algorithm")
    assert space.deciding("precision") == ()


def test_axes_that_do_not_apply_are_not_asked_for() -> None:
    space = parse_space({"precision": ["fp32", "int4"], "block_size": [16, 32], "lm_head": ["same", "int8"]}, LANGUAGE)
    for seed in range(20):
        drawer = Drawer(seed)
        choice = space.suggest(drawer)
        assert ("block_size" in drawer.asked) == (choice["precision"] == "int4")


def test_searched_axes_are_those_with_a_choice() -> None:
    space = parse_space({"precision": "int4", "block_size": [32], "algorithm": ["rtn", "k_quant"]}, LANGUAGE)
    assert space.searched == ("algorithm",)
    assert parse_space({"threads": {"low": 2, "high": 2}}, LANGUAGE).searched == ()


def test_an_integer_range_has_its_values() -> None:
    (domain,) = parse_space({"threads": {"low": 1, "high": 8, "step": 3}}, LANGUAGE).domains
    assert domain.values == (1, 4, 7)
    assert domain.high == 7
    (domain,) = parse_space({"threads": {"low": 1, "high": 3}}, LANGUAGE).domains
    assert domain.values == (1, 2, 3)


def test_numbers_take_the_axis_own_spelling() -> None:
    domains = {d.axis.name: d for d in parse_space({"block_size": [32.0], "threads": 2.0}, LANGUAGE).domains}
    assert [repr(v) for d in domains.values() for v in d.values] == ["32", "2"]


def test_a_float_range_with_steps_is_enumerated_without_rounding_dust() -> None:
    space = parse_space({"int8_share": {"low": 0.1, "high": 0.5, "step": 0.1}}, SHARES)
    (domain,) = space.domains
    assert domain.values == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert {space.suggest(Drawer(seed))["int8_share"] for seed in range(60)} == set(domain.values)


def test_a_continuous_range_has_no_enumeration_but_bounds() -> None:
    space = parse_space({"int8_share": {"low": 0.1, "high": 0.5}}, SHARES)
    assert space.enumerate() is None
    assert space.searched == ("int8_share",)
    assert all(0.1 <= float(space.suggest(Drawer(seed))["int8_share"]) <= 0.5 for seed in range(20))
    assert "int8_share" in space.reached()
    assert str(space.domains[0]) == "0.1 .. 0.5"
    assert space.contains(SHARES.canonical({"int8_share": 0.3}))
    assert not space.contains(SHARES.canonical({"int8_share": 0.6}))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "0.5", True, None, [0.5], 1.5])
def test_a_float_axis_refuses_what_is_no_number_within_its_bounds(wrong: object) -> None:
    ((place, message),) = space_mistakes({"int8_share": [0.5, wrong]}, SHARES)
    assert place == "space.int8_share"
    assert message


def test_contains_knows_axes_that_the_yaml_does_not_name() -> None:
    space = parse_space({"precision": ["int8", "int4"]}, LANGUAGE)
    assert space.contains(LANGUAGE.canonical({"precision": "int8"}))
    assert not space.contains(LANGUAGE.canonical({"precision": "fp32"}))
    assert not space.contains(LANGUAGE.canonical({"precision": "int8", "block_size": 64}))


def test_the_usual_value_is_the_default_or_the_first() -> None:
    space = parse_space(
        {"precision": ["int8", "int4"], "block_size": [16, 32], "threads": {"low": 2, "high": 4}}, LANGUAGE
    )
    assert space.usual() == {"precision": "int8", "block_size": 32, "threads": 2}


def test_an_enqueued_choice_is_checked_with_the_values_of_the_space() -> None:
    assert (
        choice_mistakes({"precision": "bf16"}, "enqueue.0", {"provider": "cuda", "precision": "int4"}, LANGUAGE) == []
    )
    assert choice_mistakes({"precision": "bf16"}, "enqueue.0", {}, LANGUAGE) != []
    assert choice_mistakes({}, "--set", {}, LANGUAGE) == []


def test_a_domain_prints_as_the_plan_shows_it() -> None:
    assert str(Domain(LANGUAGE.axes["precision"], ("int8", "int4"))) == "int8, int4"
    assert str(Space((), LANGUAGE).searched) == "()"


@pytest.mark.parametrize(
    ("word", "choices", "near"),
    [
        ("int3", ("fp32", "int8", "int4"), "'int4'"),
        ("int7", ("fp32", "int8", "int4"), "'int8'"),
        ("INT8", ("int4", "int8"), "'int8'"),
        (4, ("fp32", "int8", "int4"), "'int4'"),
        (48, (16, 32, 64), "32"),
        (1000, (16, 32, 64), "64"),
        ("k-quant", ("rtn", "k_quant"), "'k_quant'"),
    ],
)
def test_the_nearest_word_is_named(word: object, choices: tuple[object, ...], near: str) -> None:
    assert did_you_mean(word, choices).startswith(f"Did you mean {near}? Available: {choices[0]}, ")


@pytest.mark.parametrize("word", [True, None, "", "zzz"])
def test_no_word_is_named_where_none_is_near(word: object) -> None:
    assert did_you_mean(word, ("tpe", "int4")) == "Available: tpe, int4."


def test_an_axis_that_came_later_is_named_in_no_choice_that_has_its_default() -> None:
    """Choices of version 0.1.0 stay what they were, whatever the space names."""
    raw = {"precision": "int8", "activations": "int8", "activation_range": ["tensor", "token"]}
    space = parse_space(raw, LANGUAGE)
    choices = list(space.enumerate() or ())
    assert [choice.get("activation_range") for choice in choices] == [None, "token"]
    drawn = [space.suggest(Drawer(seed)) for seed in range(8)]
    assert {choice.get("activation_range") for choice in drawn} == {None, "token"}
    assert all(choice in choices and space.contains(choice) for choice in drawn)
    only_token = parse_space({**raw, "activation_range": "token"}, LANGUAGE)
    assert [only_token.contains(choice) for choice in choices] == [False, True]
    assert not space_mistakes({**raw, "activation_range": "tensor", "smooth": True}, LANGUAGE)


@pytest.mark.parametrize(
    ("space", "mistaken"),
    [
        ({"precision": "int8", "embedding": "shared", "lm_head": "fp32"}, True),
        ({"precision": ["int8", "mixed"], "embedding": ["int8", "shared"], "lm_head": ["fp32"]}, True),
        ({"precision": "int8", "embedding": ["int8", "shared"], "lm_head": ["same", "fp32"]}, False),
        ({"precision": "int8", "embedding": ["int8", "int4"], "lm_head": "fp32"}, False),
        ({"precision": "int8", "embedding": "shared"}, False),
    ],
)
def test_a_shared_embedding_needs_a_head_in_codes(space: dict[str, Any], mistaken: bool) -> None:
    found = space_mistakes(space, LANGUAGE)
    assert [place for place, _ in found] == ["space.embedding"] * mistaken
    assert all("`lm_head: fp32` has none; same, int8 and int4 do" in message for _, message in found)


def test_a_choice_is_told_at_the_axis_that_it_names() -> None:
    shared = {"precision": "int8", "embedding": "shared"}
    assert [p for p, _ in choice_mistakes({**shared, "lm_head": "fp32"}, "--set", {}, LANGUAGE)] == ["--set.embedding"]
    space = {**shared, "lm_head": ["same", "fp32"]}
    assert [p for p, _ in choice_mistakes({"lm_head": "fp32"}, "enqueue.0", space, LANGUAGE)] == ["enqueue.0.lm_head"]
