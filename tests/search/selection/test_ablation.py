from __future__ import annotations

from olivine.passes.catalog import LANGUAGE
from olivine.search.selection.ablation import without_each

BASE = LANGUAGE.canonical({"precision": "fp32"})


def left_out(**choice: object) -> dict[str, object]:
    full = LANGUAGE.canonical(choice)  # type: ignore[arg-type]
    return {axis: changed[axis] for axis, changed in without_each(LANGUAGE, full, BASE)}


def test_every_ingredient_is_left_out_once() -> None:
    found = left_out(
        precision="mixed", algorithm="gptq", int8_share=0.2, activations="int8", embedding="int8", fusion_level="full"
    )
    assert found == {
        "fusion_level": "qkv",
        "activations": "float",
        "algorithm": "rtn",
        "int8_share": 0.0,
        "embedding": "float",
    }


def test_what_builds_the_same_recipe_is_no_ingredient() -> None:
    assert left_out(precision="int8") == {}
    assert left_out(precision="int8", threads=0) == {}


def test_what_the_base_has_too_is_no_ingredient() -> None:
    assert left_out(precision="int8", prune_head=True) == {}


def test_the_rest_of_the_choice_stays() -> None:
    choice = LANGUAGE.canonical({"precision": "int4", "block_size": 128, "lm_head": "int8"})
    changed = dict(without_each(LANGUAGE, choice, BASE))
    assert set(changed) == {"block_size", "lm_head"}
    assert changed["block_size"] == {**choice, "block_size": 32}
