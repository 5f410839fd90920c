from __future__ import annotations

import pytest

from olivine.passes.base import Scalar
from olivine.passes.precisions import is_uniform


@pytest.mark.parametrize(
    ("choice", "alike"),
    [
        ({"precision": "int4"}, True),
        ({"precision": "int8", "lm_head": "same", "activations": "float"}, True),
        ({"precision": "int8", "lm_head": "int8"}, True),
        ({"precision": "int4", "lm_head": "int8"}, False),
        ({"precision": "int8", "activations": "int8"}, False),
        ({"precision": "mixed"}, False),
        ({"precision": "fp32"}, False),
    ],
)
def test_uniform_is_one_width_and_float_activations(choice: dict[str, Scalar], alike: bool) -> None:
    assert is_uniform(choice) == alike
