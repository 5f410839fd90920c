from __future__ import annotations

import numpy as np
import pytest

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError
from olivine.passes.quantize.blocks.block_format import BlockFormat
from olivine.passes.quantize.blocks.gptq import Job, feedback, gptq_all

GPTQ: dict[str, Scalar] = {"precision": "int4", "algorithm": "gptq", "threads": 1}


def test_errors_are_passed_on_less_the_more_a_hessian_is_damped() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 32)).astype(np.float32)
    hessian = x.T @ x / len(x)
    moved = [np.abs(np.tril(feedback(hessian, damping)[1], -1)).sum() for damping in (0.001, 0.01, 0.1, 1.0)]
    assert moved == sorted(moved, reverse=True)


def test_damped_codes_fit_the_text_less() -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(40, 32)).astype(np.float32), rng.normal(size=(32, 64)).astype(np.float32)
    hessian = x.T @ x / len(x)
    (little,), (much,) = (gptq_all([Job(weight, hessian, 4, 16, False, damping)]) for damping in (0.01, 1.0))
    errors = [np.square(x @ (weight - codes.dequantize())).sum() for codes in (little, much)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("precision", ["int4", "mixed"])
def test_a_damping_is_part_of_a_recipe_and_of_its_codes_where_it_is_not_the_usual_one(precision: str) -> None:
    usual, damped = (LANGUAGE.compose({**GPTQ, "precision": precision, "damping": value}) for value in (0.01, 0.1))
    assert usual == LANGUAGE.compose({**GPTQ, "precision": precision})
    assert damped.key != usual.key
    assert LANGUAGE.recipe(damped.to_json()).passes() == damped.passes()
    assert not any("damping" in step.params for step in usual.steps)
    assert "damping" not in BlockFormat(4, "gptq", 32, False).params()
    assert BlockFormat(4, "gptq", 32, False, 0.1).params()["damping"] == 0.1


@pytest.mark.parametrize("damping", [0.0, 1.5])
def test_a_damping_that_is_no_share_is_refused(damping: float) -> None:
    with pytest.raises(UsageError, match="it is a share"):
        BlockFormat(4, "gptq", 32, False, damping)
